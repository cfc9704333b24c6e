"""Which peers the relay may send to: people's computers on the internet, and not what only this machine can reach.

Pure but for the question whether an address is one of this machine's, which comes in as a function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


class Verdict(Enum):
    """What may be done with a peer's host."""

    FORBIDDEN = 0
    #: An address of this server: only what another allocation relays may be reached there, and that never over a socket.
    OWN = 1
    OUTSIDE = 2


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


#: Private addresses: hosts of the campus, which `allow_private` opens. RFC 1918, RFC 6598, RFC 4193.
PRIVATE = _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
#: Never a peer: this host, link-local, multicast, broadcast, protocol assignments, documentation, benchmarks (RFC 6890).
NEVER = _networks(
    "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
    "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)  # fmt: skip
#: The IPv6 that hosts have. Outside are loopback, IPv4 mapped or translated into IPv6, link-local, multicast.
OPEN_IPV6 = _networks("2000::/3", "fc00::/7")


class PeerPolicy:
    """Judges hosts. `external` are the addresses under which NAT shows this server; `allowed` opens further networks."""

    def __init__(
        self,
        is_local: Callable[[str], bool],
        *,
        external: Iterable[str] = (),
        allow_private: bool = False,
        allowed: Iterable[str] = (),
    ) -> None:
        self._is_local = is_local
        self._external = frozenset(external)
        self._closed = () if allow_private else PRIVATE
        self._allowed = tuple(ip_network(each) for each in allowed)

    def judge(self, host: str) -> Verdict:
        """Whether `host`, in the form in which sockets give it, may be a peer."""
        address = ip_address(host)
        if any(address in network for network in self._allowed):
            return Verdict.OUTSIDE
        if host in self._external:
            return Verdict.OWN
        if any(address in network for network in NEVER):
            return Verdict.FORBIDDEN
        if address.version == 6 and not any(address in network for network in OPEN_IPV6):
            return Verdict.FORBIDDEN
        if self._is_local(host):
            return Verdict.OWN
        if any(address in network for network in self._closed):
            return Verdict.FORBIDDEN
        return Verdict.OUTSIDE


def is_service(port: int) -> bool:
    """Whether services listen there, and not people: below 1024, browsers accept only 80 and 443 for a peer as well."""
    return port < 1024 and port not in (80, 443)
