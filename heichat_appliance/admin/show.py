"""How heichat-admin shows things: tables, times, sizes, and what people wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from heichat_appliance.admin.language import t


def when(ts: int | None) -> str:
    """A time (ms since 1970) in the zone of this machine."""
    return "–" if ts is None else datetime.fromtimestamp(ts / 1000).astimezone().isoformat(" ", "seconds")


def size(count: int) -> str:
    """Bytes, in the unit that fits."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def yes(value: bool) -> str:
    """Yes or no."""
    return t("yes", "ja") if value else t("no", "nein")


def plain(text: str | None, longest: int = 60) -> str:
    """What people wrote, on one line: control characters and those that turn the direction of writing could deceive
    whoever reads a terminal."""
    if text is None:
        return "–"
    safe = "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)
    return safe if len(safe) <= longest else safe[: longest - 1] + "…"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print columns as wide as they need to be."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print names and values below each other."""
    shown = [(f"{name}:", str(value)) for name, value in pairs]
    width = max(len(name) for name, _ in shown)
    for name, value in shown:
        print(f"{name.ljust(width)}  {value}")


def rows_as_json(rows: Iterable[Any]) -> None:
    """Print named tuples as a JSON list, for programs."""
    print(json.dumps([_as_dict(row) for row in rows], ensure_ascii=False, indent=1))


def _as_dict(row: Any) -> Any:
    return row._asdict() if isinstance(row, tuple) and hasattr(row, "_asdict") else row
