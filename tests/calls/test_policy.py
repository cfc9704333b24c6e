"""Which peers may be reached."""

from __future__ import annotations

import pytest

from heichat_appliance.calls.policy import PeerPolicy, Verdict

LOCAL = {"141.0.0.1", "10.0.0.5", "127.0.0.1", "::1", "2a00:1398::1"}


def judge(
    host: str, *, external: tuple[str, ...] = (), private: bool = False, allowed: tuple[str, ...] = ()
) -> Verdict:
    return PeerPolicy(LOCAL.__contains__, external=external, allow_private=private, allowed=allowed).judge(host)


FORBIDDEN = [
    "0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.0.1", "169.254.169.254", "192.0.0.1", "192.0.2.1", "192.88.99.1",
    "198.18.0.1", "198.51.100.1", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::8.8.8.8", "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1",
    "2001::1", "2001:db8::1", "2002:7f00:1::1", "3fff::1", "fe80::1", "fec0::1", "ff02::1", "ff0e::1", "4000::1",
    "5f00::1",
]  # fmt: skip
PRIVATE = [
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255",
    "fc00::1", "fd12::1",
]  # fmt: skip
OUTSIDE = [
    "8.8.8.8", "9.255.255.255", "11.0.0.1", "172.15.0.1", "172.32.0.1", "192.167.1.1", "100.63.0.1", "100.128.0.1",
    "223.1.1.1", "2a02::1", "2600::1",
]  # fmt: skip


@pytest.mark.parametrize("host", FORBIDDEN)
def test_never(host: str) -> None:
    assert judge(host) is judge(host, private=True) is Verdict.FORBIDDEN


@pytest.mark.parametrize("host", PRIVATE)
def test_private_unless_allowed(host: str) -> None:
    assert judge(host) is Verdict.FORBIDDEN
    assert judge(host, private=True) is judge(host, allowed=(host,)) is Verdict.OUTSIDE


@pytest.mark.parametrize("host", OUTSIDE)
def test_the_internet(host: str) -> None:
    assert judge(host) is Verdict.OUTSIDE


@pytest.mark.parametrize("host", ["141.0.0.1", "10.0.0.5", "2a00:1398::1"])
def test_addresses_of_the_server(host: str) -> None:
    assert judge(host) is judge(host, private=True) is Verdict.OWN


def test_the_address_that_nat_shows() -> None:
    assert judge("8.8.8.8", external=("8.8.8.8",)) is Verdict.OWN
    assert judge("192.168.7.7", external=("192.168.7.7",), private=True) is Verdict.OWN


def test_networks_that_are_allowed_come_first() -> None:
    assert judge("127.0.0.1", allowed=("127.0.0.0/8",)) is Verdict.OUTSIDE
    assert judge("10.1.2.3", allowed=("10.1.0.0/16", "fd00::/8")) is Verdict.OUTSIDE
    assert judge("10.2.2.3", allowed=("10.1.0.0/16", "fd00::/8")) is Verdict.FORBIDDEN
