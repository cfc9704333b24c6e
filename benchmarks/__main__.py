"""Measures the appliance and matrix-synapse in one run and prints a table.

The servers run one after the other, each on core 0; the load runs in this process on core 1.
Synapse is installed from PyPI on first use, under ~/.cache/heichat-bench (or HEICHAT_BENCH_CACHE).
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

from . import bare_http, report
from .measuring import FULL, SLOW, Sizes, quick
from .operations import OPERATIONS, idle
from .servers import Heichat, Server, Synapse, alone
from .world import EVERYBODY, LOGINS, Site, prepared

NAMES = [operation.__name__ for operation in OPERATIONS]


def main() -> None:
    options = _options()
    with alone():
        text = _run(options)
    print(text)
    if options.write:
        report.write(text)


def _run(options: argparse.Namespace) -> str:
    """The table and the machine's description."""
    ours = theirs = None
    if not options.skip_synapse:
        sizes = quick(SLOW) if options.quick else SLOW
        theirs = asyncio.run(_measure(Synapse, 30, sizes, options.only, 1 if options.quick else 3))
    if not options.skip_heichat:
        sizes = quick(FULL) if options.quick else FULL
        events = 30 if options.quick else 4000
        ours = asyncio.run(_measure(Heichat, events, sizes, options.only, 1 if options.quick else 5))
    return f"{report.table(ours, theirs, _bare(1 if options.quick else 5))}\n\n{report.machine()}."


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of less, for a glance")
    parser.add_argument("--only", action="append", choices=NAMES, help="only this operation (may be repeated)")
    parser.add_argument("--skip-synapse", action="store_true")
    parser.add_argument("--skip-heichat", action="store_true")
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    return parser.parse_args()


def _bare(rounds: int) -> dict[str, float]:
    """The limit of the stack: a plain protocol on httptools with a durable insert, and one that releases long-polls."""
    works = {"insert": "insert", "long_poll": "park"}
    return {key: median(bare_http.measure("plain", work, 2) for _ in range(rounds)) for key, work in works.items()}


async def _measure(kind: type[Server], events: int, sizes: Sizes, only: list[str] | None, rounds: int) -> report.Column:
    """Runs the operations `rounds` times on a copy of the prepared data; the medians."""
    kept, world = await prepared(kind, events)
    with tempfile.TemporaryDirectory(prefix="heichat-bench-") as temporary:
        folder = Path(temporary) / "data"
        shutil.copytree(kept, folder)
        server = kind(folder, EVERYBODY)
        await server.start()
        try:
            for name in LOGINS:
                await server.admit(name)
            taken = await _rounds(Site(server, world), sizes, only, rounds)
        finally:
            server.stop()
    return report.Column(kind.name, {key: report.medians(figures) for key, figures in taken.items()})


async def _rounds(site: Site, sizes: Sizes, only: list[str] | None, rounds: int) -> dict[str, list]:
    taken = {}
    for operation in OPERATIONS:
        if only and operation.__name__ not in only:
            continue
        turns = 1 if operation is idle else rounds
        for turn in range(turns):
            for figure in await operation(site, sizes):
                taken.setdefault(figure.key, []).append(figure)
                print(f"{site.server.name} {turn + 1}/{turns} {figure}", file=sys.stderr, flush=True)
    return taken


if __name__ == "__main__":
    main()
