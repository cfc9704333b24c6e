"""A video call between two browsers through the relay of the daemon, and through coturn."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.driver import requires_browser, run_script
from tests.clients.coturn import Coturn, requires_coturn
from tests.daemon import Daemon

pytestmark = requires_browser

#: The relayed addresses are on loopback as well, to which nothing is relayed by default.
RELAY = {"enabled": "yes", "allow_networks": "127.0.0.0/8"}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_video_call_through_the_relay_only(tmp_path: Path, transport: str) -> None:
    with Daemon(tmp_path, {"calls": {**RELAY, "listen": f"{transport}:127.0.0.1:0"}}) as daemon:
        run_script("call.mjs", daemon, tmp_path / "screenshots", transport)
        assert "whole" in daemon.verify()


@requires_coturn
def test_a_video_call_through_coturn(tmp_path: Path) -> None:
    with Coturn(tmp_path / "coturn") as coturn:
        settings = coturn.settings()
        settings["uris"] = settings["uris"].split("\n")[0]
        with Daemon(tmp_path / "daemon", {"calls": settings}) as daemon:
            run_script("call.mjs", daemon, tmp_path / "screenshots", "udp")
