"""The table of figures: which rows it has, what they aim at, and how it is printed and kept in the README."""

import platform
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from .measuring import Figure

README = Path(__file__).with_name("README.md")
LATENCY = "p50 / p95 ms"
HEAD = ["operation", "unit", "heiCHAT", LATENCY, "Synapse", LATENCY, "ratio", "to reach", "bare", "x bare", "at most"]
BEGIN, END = "<!-- table -->", "<!-- /table -->"


@dataclass(frozen=True)
class Row:
    """A line of the table. `ratio` and `later`: how many times cheaper than Synapse it shall be, now and in the end;
    `limit`: what it may be at most, in words; `bare`: the figure of `bare_http` that bounds it from below."""

    key: str
    title: str
    unit: str = "ms CPU"
    ratio: float | None = None
    later: float | None = None
    limit: str = ""
    bare: str | None = None


ROWS = [
    Row("send_10", "send, room of 10, 8 senders", ratio=25, later=60, limit="4 x bare", bare="insert"),
    Row("send_200", "send, room of 200", ratio=25),
    Row("send_1000", "send, room of 1,000", ratio=25, later=400, limit="1.3 x room of 10 (now 2 x)"),
    Row("delivery", "delivery, 10 rooms of 10 waiting", ratio=20, later=100, limit="3 x bare", bare="long_poll"),
    Row("lecture", "delivery, 1,000 waiting in one room", ratio=20, later=100),
    Row("lecture_last", "the last of 1,000 has the message", unit="ms", limit="300 ms (now 1 s)"),
    Row("initial_sync", "initial sync, 50 rooms of 100, lazy members", later=50),
    Row("sliding_sync", "sliding sync, first 20 of 50 rooms", limit="15 ms"),
    Row("sliding_many", "sliding sync, first 20 of 1,000 rooms", limit="15 ms"),
    Row("sliding_cold", "the same, first request after a start", limit="15 ms"),
    Row("messages", "/messages, a page of 100", later=50, limit="5 ms"),
    Row("messages_cold", "a page of 100 that nobody read lately", limit="5 ms"),
    Row("search", "/search in a room of 10,000 messages"),
    Row("search_all", "/search in 50 rooms, 200,000 messages", limit="50 ms"),
    Row("search_common", "the same, a word of two thirds of them", limit="50 ms"),
    Row("upload_big", "upload of 10 MiB"),
    Row("upload_memory", "memory that it takes", unit="MiB", limit="20 MiB"),
    Row("download_big", "download of 10 MiB"),
    Row("download_memory", "memory that it takes", unit="MiB", limit="20 MiB"),
    Row("upload_small", "upload of 20 KiB"),
    Row("download_small", "download of 20 KiB"),
    Row("photo", "photo of 12 megapixels and its thumbnail"),
    Row("key_query", "/keys/query for 200 people"),
    Row("key_claim", "/keys/claim of a one-time key"),
    Row("login", "login by password", later=50, limit="3 ms"),
    Row("idle", "connected client, per minute"),
    Row("memory", "resident, 1,000 connected clients", unit="MiB", limit="150 MiB"),
    Row("start", "start to the first answer", unit="s", limit="2 s with 100,000 events"),
]


@dataclass(frozen=True)
class Column:
    """All figures of one server: the median of its rounds for each key."""

    title: str
    figures: dict[str, Figure]


def medians(rounds: list[Figure]) -> Figure:
    """One figure out of the same figure of several rounds."""

    def middle(values):
        known = [value for value in values if value is not None]
        return median(known) if known else None

    return Figure(
        rounds[0].key,
        middle([one.value for one in rounds]),
        middle([one.p50 for one in rounds]),
        middle([one.p95 for one in rounds]),
    )


def table(ours: Column | None, synapse: Column | None, bare: dict[str, float]) -> str:
    """A Markdown table of every row that somebody has a figure for."""
    lines = ["| " + " | ".join(HEAD) + " |", "|---|---|" + "--:|" * 8 + "---|"]
    for row in ROWS:
        mine = ours and ours.figures.get(row.key)
        theirs = synapse and synapse.figures.get(row.key)
        if mine or theirs:
            lines.append("| " + " | ".join(_cells(row, mine, theirs, bare.get(row.bare))) + " |")
    return "\n".join(lines)


def _cells(row: Row, mine: Figure | None, theirs: Figure | None, bare: float | None) -> list[str]:
    aims = [f"{aim:g} x" for aim in (row.ratio, row.later) if aim]
    over = f"{mine.value / bare:.1f}" if mine and bare else ""
    return [
        row.title,
        row.unit,
        *_value(mine),
        *_value(theirs),
        _ratio(row, mine, theirs),
        ", later ".join(aims),
        _number(bare),
        over,
        row.limit,
    ]


def _ratio(row: Row, mine: Figure | None, theirs: Figure | None) -> str:
    """How many times cheaper ours is. Of next to no memory that says nothing."""
    if mine is None or theirs is None or mine.value <= 0 or (row.unit == "MiB" and mine.value < 1):
        return ""
    ratio = theirs.value / mine.value
    return f"{ratio:.0f} x" if ratio >= 10 else f"{ratio:.1f} x"


def _value(figure: Figure | None) -> tuple[str, str]:
    if figure is None:
        return "", ""
    latency = f"{_number(figure.p50)} / {_number(figure.p95)}" if figure.p50 is not None else ""
    return _number(figure.value), latency


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def machine() -> str:
    """What the figures were taken on: processor, Python, SQLite."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")]
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    python = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    return f"{models[0]}, {len(models)} cores, {system}, {python}"


def write(text: str, begin: str = BEGIN, end: str = END) -> None:
    """Puts the text between two markers of the README."""
    before, _, rest = README.read_text().partition(begin)
    after = rest.partition(end)[2]
    README.write_text(f"{before}{begin}\n{text}\n{end}{after}")
