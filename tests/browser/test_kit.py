"""The kit of the browser tests notices what they rely on."""

from __future__ import annotations

from pathlib import Path

from tests.browser.driver import demo, requires_browser, run_script

pytestmark = requires_browser


def test_the_kit(tmp_path: Path) -> None:
    with demo(tmp_path) as daemon:
        run_script("self.mjs", daemon, tmp_path / "screenshots")
