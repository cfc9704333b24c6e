"""The landing page and the terms of use in a real browser."""

from __future__ import annotations

from pathlib import Path

from tests.browser.driver import demo, requires_browser, run_script
from tests.daemon import Daemon

pytestmark = requires_browser

ADDRESS = "https://matrix-im.example.org"


def university(folder: Path) -> Daemon:
    """A server as a university has it, with everything that the landing page can speak of."""
    daemon = Daemon(
        folder,
        {
            "server": {
                "public_url": ADDRESS,
                "name": "matrix-im.example.org",
                "support_email": "it-service@example.org",
            },
            "plugins": {"enabled": "demo_directory, terms_consent, closed_rooms"},
            "calls": {"enabled": "yes", "listen": "udp:127.0.0.1:0"},
            "web": {"conference_url": "https://heiconf.example.org", "imprint_url": "https://www.example.org/imprint"},
        },
    )
    element = daemon.data_dir / "element" / "current"
    element.mkdir(parents=True)
    (element / "index.html").write_text("Element")
    return daemon


def test_the_landing_page(tmp_path: Path) -> None:
    with university(tmp_path) as daemon:
        run_script("landing.mjs", daemon, tmp_path / "screenshots", ADDRESS)


def test_the_terms(tmp_path: Path) -> None:
    with demo(tmp_path) as daemon:
        run_script("terms.mjs", daemon, tmp_path / "screenshots")
