"""aiortc (WebRTC in Python, with aioice as its TURN client) through the relay of the real daemon, and of coturn."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import certificates
from tests.browser.driver import demo
from tests.clients.coturn import Coturn, requires_coturn
from tests.clients.driver import run_journey
from tests.daemon import Daemon

SESSION = [sys.executable, str(Path(__file__).parent / "rtc" / "session.py")]
#: The relayed addresses are on loopback as well, to which nothing is relayed by default.
RELAY = {"enabled": "yes", "allow_networks": "127.0.0.0/8"}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_data_and_sound_through_the_relay_only(tmp_path: Path, transport: str) -> None:
    with Daemon(tmp_path, {"calls": {**RELAY, "listen": "udp:127.0.0.1:0, tcp:127.0.0.1:0"}}) as daemon:
        run_journey([*SESSION, transport], daemon)


def test_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = certificates.make(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    calls = {**RELAY, "listen": "tls:127.0.0.1:0", "certificate": str(certificate), "private_key": str(key)}
    with Daemon(tmp_path, {"calls": calls}) as daemon:
        run_journey([*SESSION, "tls"], daemon)


def test_in_the_demo(tmp_path: Path) -> None:
    with demo(tmp_path) as daemon:
        run_journey([*SESSION, "udp"], daemon)


@requires_coturn
def test_through_a_coturn_that_shares_the_secret(tmp_path: Path) -> None:
    with Coturn(tmp_path / "coturn") as coturn, Daemon(tmp_path / "daemon", {"calls": coturn.settings()}) as daemon:
        run_journey([*SESSION, "udp"], daemon)
