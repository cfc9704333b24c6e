"""Where the time of a request goes: samples the running daemon with py-spy and adds the samples up by part.

`python -m benchmarks.profile send_10 delivery`. py-spy looks at all threads from outside, C code included, and slows
the daemon down but not its shares. It is installed from PyPI on first use, and needs the right to trace processes.
"""

import argparse
import asyncio
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from .measuring import FULL, Figure, quick
from .operations import OPERATIONS
from .servers import CACHE, Heichat, alone
from .world import EVERYBODY, LOGINS, Site, prepared

BY_NAME = {operation.__name__: operation for operation in OPERATIONS}
# Which part a frame belongs to; of a stack the innermost frame that belongs anywhere decides.
PARTS = [
    ("sqlite", re.compile(r"sqlite3|^(cursor|connection|statement)\.c")),
    ("signing", re.compile(r"sodium|\bnacl/|crypto_sign")),
    ("JSON", re.compile(r"orjson|msgspec")),
    ("HTTP parser", re.compile(r"httptools|llhttp")),
    ("{}", re.compile(r"heichat_appliance/(\w+)")),
    ("twisted", re.compile(r"\btwisted/")),
]
# A thread that waits for work or for the interpreter's lock costs nothing, though py-spy may see it awake.
WAITING = re.compile(r"acquire_lock|cond_(timed)?wait|take_gil|epoll_wait")
OWN_FRAME = re.compile(r"(.+) \(.*?heichat_appliance/(.+?\.py):\d+\)")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("operations", nargs="*", choices=sorted(BY_NAME), default=["send_10", "delivery"])
    parser.add_argument("--top", type=int, default=25, help="how many functions to print")
    parser.add_argument("--events", type=int, default=30, help="events stored in each of the fifty rooms of 100")
    options = parser.parse_args()
    with alone():
        asyncio.run(_profile(options.operations, options.top, options.events))


async def _profile(names: list[str], top: int, events: int) -> None:
    kept, world = await prepared(Heichat, events)
    with tempfile.TemporaryDirectory(prefix="heichat-bench-") as temporary:
        folder = Path(temporary) / "data"
        shutil.copytree(kept, folder)
        server = Heichat(folder, EVERYBODY)
        await server.start()
        try:
            for name in LOGINS:
                await server.admit(name)
            for name in names:
                sampler = Sampler(server, Path(temporary) / f"{name}.stacks")
                figures = await BY_NAME[name](Site(server, world, sampler), quick(FULL))
                _print(name, figures, sampler.stacks.read_text(), top)
        finally:
            server.stop()


class Sampler:
    """Lets py-spy write the folded stacks of a server to a file; of several measurements the last one stays there."""

    def __init__(self, server: Heichat, stacks: Path):
        self.server = server
        self.stacks = stacks

    async def start(self) -> None:
        """Returns when samples are being taken."""
        command = [_py_spy(), "record", "--native", "--format", "raw", "--rate", "400", "--duration", "100000"]
        command += ["--pid", str(self.server.process.pid), "--output", str(self.stacks)]
        self.process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        while b"Sampling" not in await self.process.stdout.readline():
            if self.process.stdout.at_eof():
                raise SystemExit("py-spy can't trace the daemon")

    async def stop(self) -> None:
        """Returns when the file is written."""
        self.process.send_signal(signal.SIGINT)
        await self.process.communicate()


def _py_spy() -> str:
    venv = CACHE / "py-spy-venv"
    if not (venv / "bin" / "py-spy").exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin" / "python", "-m", "pip", "install", "--quiet", "py-spy"], check=True)
    return str(venv / "bin" / "py-spy")


def _print(name: str, figures: list[Figure], stacks: str, top: int) -> None:
    parts, functions = Counter(), defaultdict(Counter)
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if WAITING.search(" ".join(frames[-3:])):
            continue
        part = next((found for frame in reversed(frames) if (found := _part(frame))), "interpreter")
        own = next((m for frame in reversed(frames) if (m := OWN_FRAME.match(frame))), None)
        parts[part] += int(count)
        functions[f"{own[2]} {own[1]}" if own else "(elsewhere)"][part] += int(count)
    samples = sum(parts.values()) or 1
    print(f"\n{name}: {', '.join(f'{figure.key} {figure.value:.3g}' for figure in figures)} (slowed by the profiler)\n")
    print("| part | share |\n|---|--:|")
    for part, count in parts.most_common():
        print(f"| {part} | {count / samples:.1%} |")
    print("\n| function, with what it calls outside of our code | share | of which |\n|---|--:|---|")
    for function, within in sorted(functions.items(), key=lambda item: -item[1].total())[:top]:
        shares = ", ".join(f"{part} {count / samples:.1%}" for part, count in within.most_common(3))
        print(f"| {function} | {within.total() / samples:.1%} | {shares} |")


def _part(frame: str) -> str | None:
    for title, pattern in PARTS:
        if found := pattern.search(frame):
            return title.format(*found.groups())
    return None


if __name__ == "__main__":
    main()
