"""What the relay holds: allocations with their permissions and channels, and who has how many. No sockets, no clock.

Times are seconds of a monotonic clock, given by the caller. Dictionaries are public because each relayed packet looks
something up in them; they change only here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Protocol

from heichat_appliance.calls.budgets import Bucket
from heichat_appliance.calls.stun import IPV4, IPV6, Address

#: RFC 8656 sections 9 and 12: seconds that a permission and a channel live without being refreshed; section 7.2: a reservation.
PERMISSION_SECONDS, CHANNEL_SECONDS, RESERVATION_SECONDS = 300, 600, 30


@dataclass(frozen=True)
class Limits:
    """What one person, one allocation and all together may use; bandwidths in bytes per second and direction, 0 for no limit."""

    allocations: int = 2000
    allocations_per_person: int = 24
    permissions: int = 64
    channels: int = 64
    bandwidth: int = 1_000_000
    total_bandwidth: int = 30_000_000
    lifetime: int = 600
    max_lifetime: int = 3600


@dataclass(frozen=True, slots=True)
class Client:
    """The client's side of a 5-tuple. `key` is the 5-tuple, `send` takes a whole STUN message or ChannelData frame.

    With a `connection`, the address is not forged.
    """

    key: Hashable
    address: Address
    send: Callable[[bytes | memoryview], None]
    connection: bool = False


class Relay(Protocol):
    """A relayed transport address. `address` is how peers see it."""

    address: Address

    def attach(self, allocation: Allocation) -> None:
        """Begin to hand what arrives to this allocation."""

    def send(self, data: bytes | memoryview, peer: Address, *, dont_fragment: bool = False) -> None:
        """Send one datagram; what cannot be sent is lost, as datagrams are."""

    def close(self) -> None:
        """Give the port back."""


class Allocation:
    """One client's relay. `bind`, `permit` and `expire` change it."""

    __slots__ = (
        "answer", "channels", "client", "due", "expires", "from_peers", "numbers", "permissions", "person", "relay4", "relay6",
        "to_peers", "transaction", "until", "username",
    )  # fmt: skip

    def __init__(self, client: Client, username: bytes, person: str, bucket: Callable[[], Bucket]) -> None:
        """`bucket` makes the bandwidth of one direction."""
        self.client, self.username, self.person = client, username, person
        self.to_peers, self.from_peers = bucket(), bucket()
        self.relay4: Relay | None = None
        self.relay6: Relay | None = None
        self.expires = 0.0
        #: The request that made it, and its answer, for when it comes again.
        self.transaction, self.answer = b"", b""
        #: host -> (expires, whether it is an address of this server)
        self.permissions: dict[str, tuple[float, bool]] = {}
        #: channel number -> peer, and back; `until` has their ends.
        self.channels: dict[int, Address] = {}
        self.numbers: dict[Address, int] = {}
        self.until: dict[int, float] = {}
        #: Nothing of the above ends before.
        self.due = float("inf")

    def relays(self) -> Iterator[Relay]:
        """Its one or two relays."""
        for relay in (self.relay4, self.relay6):
            if relay is not None:
                yield relay

    def permit(self, host: str, own: bool, now: float) -> None:
        """Install or refresh a permission."""
        self.permissions[host] = now + PERMISSION_SECONDS, own
        self.due = min(self.due, now + PERMISSION_SECONDS)

    def bind(self, number: int, peer: Address, now: float) -> None:
        """Bind or refresh a channel. The caller has checked that neither is bound to another."""
        self.channels[number] = peer
        self.numbers[peer] = number
        self.until[number] = now + CHANNEL_SECONDS
        self.due = min(self.due, now + CHANNEL_SECONDS)

    def expire(self, now: float) -> None:
        """Forget permissions and channels whose time is over."""
        for host in [host for host, (expires, _) in self.permissions.items() if expires <= now]:
            del self.permissions[host]
        for number in [number for number, expires in self.until.items() if expires <= now]:
            self._unbind(number)
        ends = [*(expires for expires, _ in self.permissions.values()), *self.until.values()]
        self.due = min(ends, default=float("inf"))

    def drop_family(self, family: int) -> None:
        """Give up the relay of one family and what belongs to it."""
        size = 2 if family == IPV4 else 4
        for host in [host for host in self.permissions if (":" in host) == (family == IPV6)]:
            del self.permissions[host]
        for number in [number for number, peer in self.channels.items() if len(peer) == size]:
            self._unbind(number)
        if family == IPV4:
            self.relay4 = None
        else:
            self.relay6 = None

    def _unbind(self, number: int) -> None:
        del self.until[number], self.numbers[self.channels.pop(number)]


class Allocations:
    """All allocations, by 5-tuple and by relayed address, and reserved ports."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.by_client: dict[Hashable, Allocation] = {}
        self.by_relay: dict[Address, Allocation] = {}
        self._reserved: dict[bytes, tuple[float, str, Relay]] = {}
        self._of_person: Counter[str] = Counter()

    def room_for(self, person: str, more: int = 1) -> bool:
        """Whether a person may have `more` allocations or reservations."""
        return (
            len(self.by_client) + len(self._reserved) + more <= self.limits.allocations
            and self._of_person[person] + more <= self.limits.allocations_per_person
        )

    def add(self, allocation: Allocation) -> None:
        """Take in a new allocation with its relays, which begin to work."""
        self.by_client[allocation.client.key] = allocation
        self._count(allocation.person, 1)
        for relay in allocation.relays():
            self.by_relay[relay.address] = allocation
            relay.attach(allocation)

    def remove(self, allocation: Allocation) -> None:
        """End an allocation and close its relays."""
        del self.by_client[allocation.client.key]
        self._count(allocation.person, -1)
        for relay in allocation.relays():
            self._close(relay)

    def remove_family(self, allocation: Allocation, family: int) -> None:
        """End one of the two relays of an allocation; the allocation too when it was the only one."""
        relay = allocation.relay4 if family == IPV4 else allocation.relay6
        if relay is None or len(list(allocation.relays())) == 1:
            return self.remove(allocation)
        allocation.drop_family(family)
        return self._close(relay)

    def reserve(self, token: bytes, person: str, relay: Relay, now: float) -> None:
        """Keep a relay for the allocation that will show `token`."""
        self._reserved[token] = now + RESERVATION_SECONDS, person, relay
        self._count(person, 1)

    def reserved(self, token: bytes, person: str, now: float) -> Relay | None:
        """Take the relay that this person reserved; None if there is none (any more)."""
        expires, owner, relay = self._reserved.get(token, (0.0, "", None))
        if relay is None or owner != person or expires <= now:
            return None
        del self._reserved[token]
        self._count(person, -1)
        return relay

    def expire(self, now: float) -> None:
        """End everything whose time is over."""
        ended = [allocation for allocation in self.by_client.values() if allocation.expires <= now]
        for allocation in ended:
            self.remove(allocation)
        for allocation in self.by_client.values():
            if allocation.due <= now:
                allocation.expire(now)
        for token, (_, person, relay) in [each for each in self._reserved.items() if each[1][0] <= now]:
            del self._reserved[token]
            self._count(person, -1)
            relay.close()

    def clear(self) -> None:
        """End everything."""
        self.expire(float("inf"))

    def _close(self, relay: Relay) -> None:
        self.by_relay.pop(relay.address, None)
        relay.close()

    def _count(self, person: str, change: int) -> None:
        self._of_person[person] += change
        if self._of_person[person] <= 0:
            del self._of_person[person]
