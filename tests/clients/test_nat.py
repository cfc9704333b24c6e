"""Calls between two homes behind symmetric address translation: only the relay brings them together."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.clients.driver import run_journey
from tests.clients.nat import TwoHomes, reachable, requires_networks
from tests.daemon import Daemon

PARTY = [sys.executable, str(Path(__file__).parent / "rtc" / "party.py")]


@pytest.fixture
def homes() -> Iterator[TwoHomes]:
    with TwoHomes() as networks:
        yield networks


def call(daemon: Daemon, homes: TwoHomes, *policies: str) -> None:
    """Alice in one home calls bob in the other."""
    alice, bob = daemon.login("alice"), daemon.login("bob")
    room = alice.create_room(invite=[bob.user_id])
    bob.ok("POST", f"/join/{quote(room)}", {})
    with ThreadPoolExecutor(2) as both:
        parties = [
            both.submit(run_journey, [*homes.inside(home), *PARTY, role, policy, room], daemon)
            for home, role, policy in zip("ab", ("call", "answer"), policies, strict=True)
        ]
    for party in parties:
        party.result()


@requires_networks
@pytest.mark.parametrize("policy", ["relay", "all"])
def test_two_homes_behind_nat(tmp_path: Path, homes: TwoHomes, policy: str) -> None:
    with reachable(tmp_path, homes) as daemon:
        call(daemon, homes, policy, policy)


@requires_networks
def test_a_relay_and_somebody_behind_nat_without_one(tmp_path: Path, homes: TwoHomes) -> None:
    """The relay sends to the router of the other home, whose address is a private one here."""
    with reachable(tmp_path, homes, allow_private="yes") as daemon:
        call(daemon, homes, "relay", "stun")
