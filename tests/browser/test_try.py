"""The page to try the demo out with, in a real browser."""

from __future__ import annotations

from pathlib import Path

from tests.browser.driver import demo, requires_browser, run_script

pytestmark = requires_browser


def test_the_first_minute(tmp_path: Path) -> None:
    with demo(tmp_path) as daemon:
        run_script("try.mjs", daemon, tmp_path / "screenshots")


def test_all_that_a_room_can_hold(tmp_path: Path) -> None:
    with demo(tmp_path) as daemon:
        run_script("try_reading.mjs", daemon, tmp_path / "screenshots")


def test_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "screenshots"
    with demo(tmp_path) as daemon:
        run_script("try_pictures.mjs", daemon, folder)
    assert len(list(folder.glob("try-chat-*.png"))) == 4
