"""Runs a script with a real browser against a running daemon: Playwright drives the Chromium that the system has.

`run_script("landing.mjs", daemon)` is `node SCRIPT URL`, with the protocol of tests.clients.driver. Screenshots that the
script takes go to the folder that is named to it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.clients.driver import NODE, run_journey
from tests.daemon import Daemon, free_port

HERE = Path(__file__).parent
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
_MISSING = (
    "Node.js is not installed (Debian: apt-get install nodejs npm)"
    if not NODE
    else "the packages of tests/browser are not installed (npm ci --prefix tests/browser)"
    if not (HERE / "node_modules" / "playwright-core").is_dir()
    else "Chromium is not installed (Debian: apt-get install chromium; or name it in the variable CHROMIUM)"
    if not CHROMIUM
    else ""
)
requires_browser = [pytest.mark.browser, pytest.mark.skipif(bool(_MISSING), reason=_MISSING)]  # for `pytestmark`


def demo(folder: Path) -> Daemon:
    """The daemon as `--demo` has it, on a port of its own; `/try/` is there and the rules of the service page hold."""
    port = free_port()
    daemon = Daemon(folder, args=["--demo", "--demo-port", str(port)])
    daemon.port, daemon.url, daemon.data_dir = port, f"http://127.0.0.1:{port}", folder / "heichat-demo"
    return daemon


def run_script(name: str, daemon: Daemon, screenshots: Path, *args: str, seconds: float = 120) -> None:
    """Run a script of tests/browser; it gets `daemon.url`, and further `args`, and saves its screenshots in a folder."""
    screenshots.mkdir(parents=True, exist_ok=True)
    environment = {"CHROMIUM": CHROMIUM or "", "SCREENSHOTS": str(screenshots)}
    run_journey([NODE or "node", str(HERE / name)], daemon, seconds, args=args, environment=environment)
