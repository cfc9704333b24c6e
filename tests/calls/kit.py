"""What the tests of calls share: a server without sockets whose time stands still, and messages with and without a password."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from heichat_appliance.calls import stun
from heichat_appliance.calls.allocations import Allocation, Allocations, Client, Limits
from heichat_appliance.calls.authentication import Authenticator
from heichat_appliance.calls.budgets import Bucket
from heichat_appliance.calls.credentials import Nonces, credentials, long_term_key
from heichat_appliance.calls.forwarding import Forwarder
from heichat_appliance.calls.policy import PeerPolicy
from heichat_appliance.calls.requests import Answer, Requests
from heichat_appliance.calls.stun import IPV4, IPV6, Address, Builder, Message

SECRET, REALM = "correct horse battery staple", "heichat"
#: Monotonic and wall time at the start.
NOW, WALL = 1000.0, 1_800_000_000.0
#: The addresses at which peers see the server, and a peer.
RELAY4, RELAY6 = "141.0.0.1", "2a00:1398::1"
PEER: Address = ("129.0.0.7", 5000)
PEER6: Address = ("2a02::7", 5000, 0, 0)
DEFAULTS = Limits()
UDP_TRANSPORT = (stun.REQUESTED_TRANSPORT, b"\x11\0\0\0")


class FakeRelay:
    """Remembers what it sends."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.allocation: Allocation | None = None
        self.sent: list[tuple[bytes, Address, bool]] = []
        self.closed = False

    def attach(self, allocation: Allocation) -> None:
        self.allocation = allocation

    def send(self, data: bytes | memoryview, peer: Address, *, dont_fragment: bool = False) -> None:
        self.sent.append((bytes(data), peer, dont_fragment))

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeOpener:
    """Opens fake relays with ports from 50000 on."""

    dont_fragment: bool = True
    families: tuple[int, ...] = (IPV4, IPV6)
    exhausted: bool = False
    opened: list[FakeRelay] = field(default_factory=list)
    port: int = 49999

    def supports(self, family: int, client: Client) -> bool:
        return family in self.families

    def open(self, family: int, client: Client, *, even: bool) -> FakeRelay | None:
        if self.exhausted:
            return None
        self.port += 1
        if even and self.port % 2:
            self.port += 1
        address: Address = (RELAY4, self.port) if family == IPV4 else (RELAY6, self.port, 0, 0)
        self.opened.append(FakeRelay(address))
        return self.opened[-1]

    def open_pair(self, family: int, client: Client) -> tuple[FakeRelay, FakeRelay] | None:
        first = self.open(family, client, even=True)
        second = self.open(family, client, even=False)
        return (first, second) if first and second else None


class World:
    """Requests, allocations and forwarding as the server has them, around fakes."""

    def __init__(
        self, limits: Limits = DEFAULTS, *, allow_private: bool = False, allowed: tuple[str, ...] = ()
    ) -> None:
        self.now, self.wall = NOW, WALL
        self.opener = FakeOpener()
        self.allocations = Allocations(limits)
        self.forwarder = Forwarder(self.allocations.by_relay, lambda: Bucket(lambda: self.now, limits.total_bandwidth))
        self.requests = Requests(
            authenticator=Authenticator(SECRET, REALM, Nonces(b"n" * 32)),
            policy=PeerPolicy(lambda host: host in (RELAY4, RELAY6), allow_private=allow_private, allowed=allowed),
            allocations=self.allocations,
            forwarder=self.forwarder,
            opener=self.opener,
            bucket=lambda: Bucket(lambda: self.now, limits.bandwidth),
        )

    def handle(self, data: bytes, client: Client) -> Answer | None:
        return self.requests.handle(data, client, self.now, self.wall)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds
        self.allocations.expire(self.now)

    def person(self, name: str = "@alice:test", address: Address = ("129.0.0.1", 4000), ttl: int = 86400) -> Person:
        return Person(self, name, address, ttl)


class Person:
    """A client with credentials, at one 5-tuple."""

    def __init__(self, world: World, name: str, address: Address, ttl: int) -> None:
        self.world = world
        self.received: list[bytes] = []
        self.client = Client(address, address, lambda frame: self.received.append(bytes(frame)))
        self.username, self.password = credentials(SECRET, name, world.wall, ttl)
        self.nonce = b""
        self.realm = REALM
        self.sha256 = False

    @property
    def key(self) -> bytes:
        return long_term_key(self.username, self.realm, self.password)

    def signed(self, method: int, *attributes: tuple[int, bytes], transaction: bytes | None = None) -> bytes:
        """A request with the password."""
        return signed(
            method, *attributes, transaction=transaction, username=self.username, realm=self.realm, nonce=self.nonce,
            key=self.key, sha256=self.sha256,
        )  # fmt: skip

    def ask(self, method: int, *attributes: tuple[int, bytes], transaction: bytes | None = None) -> Message:
        """Send a request, with a fresh nonce if there is none yet; the answer, whose integrity must hold."""
        if not self.nonce:
            challenge = self.raw(stun.Builder(method, stun.REQUEST, os.urandom(12)).build())
            self.nonce = challenge.get(stun.NONCE) or b""
        data = self.world.handle(self.signed(method, *attributes, transaction=transaction), self.client)
        assert data is not None
        message = stun.parse(data.data)
        assert data.proven == stun.integrity_holds(data.data, message, self.key)
        return message

    def raw(self, data: bytes) -> Message:
        """Send these bytes; the answer."""
        answer = self.world.handle(data, self.client)
        assert answer is not None
        return stun.parse(answer.data)

    def allocate(self, *attributes: tuple[int, bytes]) -> Allocation:
        """An allocation that must succeed."""
        answer = self.ask(stun.ALLOCATE, UDP_TRANSPORT, *attributes)
        assert answer.kind == stun.SUCCESS, error_code(answer)
        return self.world.allocations.by_client[self.client.key]

    def permit(self, *peers: Address) -> Message:
        return self.ask_with_peers(stun.CREATE_PERMISSION, *peers)

    def bind(self, number: int, peer: Address) -> Message:
        return self.ask_with_peers(stun.CHANNEL_BIND, peer, attributes=[channel_number(number)])

    def ask_with_peers(
        self, method: int, *peers: Address, attributes: list[tuple[int, bytes]] | None = None
    ) -> Message:
        transaction = os.urandom(12)
        addresses = [(stun.XOR_PEER_ADDRESS, stun.xor_address(peer, transaction)) for peer in peers]
        return self.ask(method, *(attributes or []), *addresses, transaction=transaction)

    def send(self, peer: Address, data: bytes, *attributes: tuple[int, bytes]) -> None:
        """A Send indication."""
        builder = Builder(stun.SEND, stun.INDICATION, os.urandom(12)).address(stun.XOR_PEER_ADDRESS, peer)
        builder.add(stun.DATA, data)
        for each in attributes:
            builder.add(*each)
        assert self.world.handle(builder.build(), self.client) is None


def signed(
    method: int,
    *attributes: tuple[int, bytes],
    username: str,
    realm: str,
    nonce: bytes,
    key: bytes,
    transaction: bytes | None = None,
    sha256: bool = False,
) -> bytes:
    """A request with a long-term credential."""
    builder = Builder(method, stun.REQUEST, transaction or os.urandom(12))
    for attribute, value in attributes:
        builder.add(attribute, value)
    builder.add(stun.USERNAME, username.encode()).add(stun.REALM, realm.encode()).add(stun.NONCE, nonce)
    if sha256:
        builder.integrity256(key)
    else:
        builder.integrity(key)
    return builder.fingerprint().build()


def channel_number(number: int) -> tuple[int, bytes]:
    return stun.CHANNEL_NUMBER, number.to_bytes(2, "big") + b"\0\0"


def lifetime(seconds: int) -> tuple[int, bytes]:
    return stun.LIFETIME, seconds.to_bytes(4, "big")


def error_code(message: Message) -> int | None:
    """The code of an error answer; None for another."""
    value = message.get(stun.ERROR_CODE)
    return stun.parse_error(value)[0] if value is not None else None


def addresses(message: Message, attribute: int) -> list[Address]:
    return [stun.parse_xor_address(value, message.transaction) for value in message.all(attribute)]


def frame(data: bytes) -> memoryview:
    """Data with room for a ChannelData header, as sockets read it."""
    return memoryview(bytearray(b"\0\0\0\0" + data))
