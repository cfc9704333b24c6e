"""A video call between two browsers through the relay of the daemon, and through coturn."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.driver import CHROMIUM, HERE, NODE, requires_browser, run_script
from tests.clients.coturn import Coturn, requires_coturn
from tests.clients.driver import run_journey
from tests.clients.nat import TwoHomes, reachable, requires_networks
from tests.daemon import Daemon

pytestmark = requires_browser

#: The relayed addresses are on loopback as well, to which nothing is relayed by default.
RELAY = {"enabled": "yes", "allow_networks": "127.0.0.0/8"}


@pytest.mark.parametrize(("transport", "room"), [("udp", "plain"), ("tcp", "encrypted")])
def test_a_video_call_through_the_relay_only(tmp_path: Path, transport: str, room: str) -> None:
    with Daemon(tmp_path, {"calls": {**RELAY, "listen": f"{transport}:127.0.0.1:0"}}) as daemon:
        run_script("call.mjs", daemon, tmp_path / "screenshots", transport, room)
        assert "whole" in daemon.verify()


@requires_coturn
def test_a_video_call_through_coturn(tmp_path: Path) -> None:
    with Coturn(tmp_path / "coturn") as coturn:
        settings = coturn.settings()
        settings["uris"] = settings["uris"].split("\n")[0]
        with Daemon(tmp_path / "daemon", {"calls": settings}) as daemon:
            run_script("call.mjs", daemon, tmp_path / "screenshots", "udp")


def browser_at(homes: TwoHomes, home: str, folder: Path) -> str:
    """A program that starts Chromium in one home."""
    program = folder / f"chromium-{home}"
    program.write_text(f'#!/bin/sh\nexec {" ".join(homes.inside(home))} {CHROMIUM} "$@"\n')
    program.chmod(0o755)
    return str(program)


@requires_networks
def test_a_video_call_between_two_homes_behind_nat(tmp_path: Path) -> None:
    with TwoHomes() as homes, reachable(tmp_path, homes) as daemon:
        alice, bob = (browser_at(homes, home, tmp_path) for home in "ab")
        environment = {"CHROMIUM": alice, "SCREENSHOTS": str(tmp_path)}
        run_journey(
            [NODE or "node", str(HERE / "call.mjs")], daemon, args=["udp", "encrypted", bob], environment=environment
        )
