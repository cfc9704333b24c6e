"""Writes docs/configuration.md and docs/heichat-admin.md anew: `python -m tests.reference_docs`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heichat_appliance.admin.main import parser
from heichat_appliance.config import REQUIRED, Option, Section
from heichat_appliance.plugins import all_sections

DOCS = Path(__file__).parent.parent / "docs"


def configuration() -> str:
    """The reference of the configuration, from its declaration."""
    parts = [
        "# Configuration reference",
        "Generated from the declaration; a test keeps it current (`python -m tests.reference_docs` writes it). "
        "The same texts are in [config.example.ini](../config.example.ini). "
        "[Configure](operators/configure.md) says which keys matter first.",
        "The file is an INI file, `/etc/heichat/heichat.ini` on an installed server. After a change: "
        "`heichat-admin check-config`, then `systemctl restart heichat`. Unknown or wrong keys are all reported at once, "
        "each with a hint, and the server does not start. Relative paths count from the folder of the file. "
        "Sizes are numbers of bytes, or such as `512K`, `50M`, `2G`.",
    ]
    for section in all_sections():
        parts += [f"## [{section.name}]", section.doc, *_table(section)]
    return "\n\n".join(parts) + "\n"


def _table(section: Section) -> Iterator[str]:
    if not section.options:
        yield "No keys: it works by being named in `[plugins] enabled`."
        return
    rows = [f"| `{option.key}` | {_default(option)} | {_cell(_text(option))} |" for option in section.options]
    yield "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])


def _text(option: Option) -> str:
    hint = f" Hint: {option.hint}." if option.hint else ""
    example = (
        "" if option.default not in (None, REQUIRED) or not option.example else f" Example: {_code(option.example)}."
    )
    return option.doc + hint + example


def _default(option: Option) -> str:
    if option.default is REQUIRED:
        return "**required**"
    if option.default in (None, ()):
        return "none"
    return _cell(_code(option.example or _shown(option.default)))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _code(text: str) -> str:
    return ", ".join(f"`{line}`" for line in text.split("\n"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def admin() -> str:
    """The reference of heichat-admin, from its help in English."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LC_ALL", "C.UTF-8")
        whole = parser()
    parts = [
        "# heichat-admin",
        "Generated from its help; a test keeps it current (`python -m tests.reference_docs` writes it).",
        "Call it as root on the server. It speaks German where the locale is German (`LC_ALL=de_DE.UTF-8 heichat-admin --help`).",
        f"```text\n{whole.format_help().rstrip()}\n```",
    ]
    for names, inner in commands(whole):
        parts += [f"## {' '.join(names)}", f"```text\n{inner.format_help().rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def commands(parser: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of an argparse parser, with those that commands have themselves: its words and its parser."""
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for name, inner in action.choices.items():
                yield (*before, name), inner
                yield from commands(inner, (*before, name))


def main() -> None:
    """Write the files."""
    (DOCS / "configuration.md").write_text(configuration(), "utf-8")
    (DOCS / "heichat-admin.md").write_text(admin(), "utf-8")


if __name__ == "__main__":
    main()
