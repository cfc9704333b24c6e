"""Runs a journey: a program with a real client in it, which talks to a daemon and checks what it sees.

The program gets the daemon's address as its argument and prints what it does. Three lines have a meaning: `@restart` asks for
the daemon to be stopped in order and started again, `@kill` for the same with `kill -9` (the program gets a line on its
standard input when it runs again), and `@done` says that everything has been gone through. It ends with a status other than
0 when something is not as it should be.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.daemon import Daemon

JS = Path(__file__).parent / "js"
NODE = shutil.which("node")
_MISSING = (
    "Node.js is not installed (Debian: apt-get install nodejs npm)"
    if not NODE
    else "the packages of tests/clients/js are not installed (npm ci --prefix tests/clients/js)"
    if not (JS / "node_modules" / "matrix-js-sdk").is_dir()
    else ""
)
requires_node = [pytest.mark.node, pytest.mark.skipif(bool(_MISSING), reason=_MISSING)]  # for `pytestmark`

SERVICE = "demo_directory, terms_consent, closed_rooms"


def service(folder: Path) -> Daemon:
    """A daemon with the rules of the service page: terms of use, closed rooms."""
    return Daemon(folder, {"plugins": {"enabled": SERVICE}})


def run_script(name: str, daemon: Daemon, seconds: float = 120) -> None:
    """Run a journey with matrix-js-sdk; `name` is a script in tests/clients/js."""
    run_journey([NODE or "node", str(JS / name)], daemon, seconds)


def run_journey(
    command: Sequence[str],
    daemon: Daemon,
    seconds: float = 120,
    *,
    args: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a journey against a running daemon; it fails with what the program printed.

    `args` follow the address; `environment`: variables besides those of this process.
    """
    process = subprocess.Popen(
        [*command, daemon.url, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    watchdog = threading.Timer(seconds, process.kill)
    watchdog.start()
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line.rstrip())
            if lines[-1] in ("@restart", "@kill"):
                _restart(daemon, lines[-1])
                process.stdin.write("restarted\n")
                process.stdin.flush()
        status = process.wait()
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
    told = "\n".join(lines[-100:])
    assert status == 0, f"the journey ended with {status}:\n{told}\n\nthe daemon:\n{daemon.output()[-5000:]}"
    assert "@done" in lines, f"the journey did not come to its end:\n{told}"


def _restart(daemon: Daemon, how: str) -> None:
    if how == "@kill":
        daemon.kill()
        daemon.start()
    else:
        daemon.restart()
