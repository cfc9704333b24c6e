"""What strangers can do: make the server send (amplification), make it remember, and send it anything (a million datagrams)."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from heichat_appliance.calls import stun
from heichat_appliance.calls.allocations import Client
from heichat_appliance.calls.budgets import Ledger
from heichat_appliance.calls.server import Core
from heichat_appliance.calls.stun import Address, Builder
from heichat_appliance.calls.transports import BATCH, Listener, Ports, RelaySocket
from tests.calls.kit import PEER, UDP_TRANSPORT, World, lifetime, signed

VICTIM: Address = ("129.0.0.66", 53)


def core(world: World) -> Core:
    return Core(
        world.requests,
        world.allocations,
        world.forwarder,
        now=lambda: world.now,
        wall=lambda: world.wall,
        later=lambda call: None,
    )


def binding() -> bytes:
    return Builder(stun.BINDING, stun.REQUEST, os.urandom(12)).build()


def allocate() -> bytes:
    return Builder(stun.ALLOCATE, stun.REQUEST, os.urandom(12)).add(*UDP_TRANSPORT).build()


def unknown_attributes() -> bytes:
    builder = Builder(stun.BINDING, stun.REQUEST, os.urandom(12))
    for attribute in range(0x7000, 0x7000 + stun.MAX_ATTRIBUTES):
        builder.add(attribute, b"")
    return builder.build()


def wrong_password() -> bytes:
    return signed(stun.REFRESH, username="1900000000:x", realm="heichat", nonce=b"n", key=b"k")


def half_a_credential() -> bytes:
    return Builder(stun.REFRESH, stun.REQUEST, os.urandom(12)).integrity(b"k").build()


# -- amplification -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [binding, allocate, unknown_attributes, wrong_password, half_a_credential])
def test_a_forged_address_is_sent_no_more_than_came_from_it(make: Any) -> None:
    world = World()
    entry, received, sent = core(world), 0, 0
    for _ in range(3000):
        data = make()
        world.now += 0.01
        received += len(data)
        sent += len(entry.datagram(data, Client(VICTIM, VICTIM, print)) or b"")
        assert sent <= received + Ledger.LOAN, "what is lent for the first answers"
    assert 0 < sent <= received, "the loan was paid back"


def test_many_forged_addresses_are_sent_no_more_than_came() -> None:
    world = World()
    entry, received, sent, chance = core(world), 0, 0, random.Random(5)
    for _ in range(30_000):
        address: Address = (f"129.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(256)}", 53)
        data = chance.choice((binding, allocate))()
        received += len(data)
        sent += len(entry.datagram(data, Client(address, address, print)) or b"")
    assert 0 < sent <= received + Ledger.TOTAL_LOAN


def test_a_slow_forger_gains_nothing_either() -> None:
    world = World()
    entry, received, sent = core(world), 0, 0
    for _ in range(2000):
        world.now += Ledger.MEMORY / 2
        data = allocate()
        received += len(data)
        sent += len(entry.datagram(data, Client(VICTIM, VICTIM, print)) or b"")
    assert 0 < sent <= received


def test_clients_are_answered_at_once_and_after_an_attack_when_they_ask_again() -> None:
    world = World()
    entry = core(world)
    client = Client(VICTIM, VICTIM, print)
    assert entry.datagram(allocate(), client) and entry.datagram(binding(), client)
    for _ in range(1000):
        entry.datagram(allocate(), client)
    tries = [entry.datagram(allocate(), client) is not None for _ in range(7)]  # as often as RFC 8489 6.2.1 says
    assert any(tries[:3]) and any(tries[3:])


def test_who_has_a_password_is_always_answered() -> None:
    world = World()
    entry, alice = core(world), world.person(address=VICTIM)
    alice.allocate()
    for _ in range(1000):
        entry.datagram(binding(), alice.client)
    for _ in range(100):
        assert entry.datagram(alice.signed(stun.REFRESH), alice.client)
    assert entry.datagram(binding(), alice.client), "what they send pays for others behind the same address"


def test_the_ledger_does_not_grow() -> None:
    ledger = Ledger()
    for number in range(3 * Ledger.MAX_ADDRESSES):
        ledger.received(str(number), 20, now=1.0)
    assert len(ledger._accounts) + len(ledger._older) <= 2 * Ledger.MAX_ADDRESSES
    ledger.received("x", 20, now=1000.0)
    ledger.received("x", 20, now=2000.0)
    assert len(ledger._accounts) + len(ledger._older) <= 2


# -- a million datagrams -----------------------------------------------------------------------------------------------


class FakeSocket:
    """Has datagrams to read, and counts what is sent."""

    def __init__(self, address: Address) -> None:
        self.address, self.incoming = address, iter(())
        self.sent, self.found_empty = 0, 0

    def getsockname(self) -> Address:
        return self.address

    def getsockopt(self, level: int, option: int) -> int:
        return 4096

    def recvfrom_into(self, buffer: Any) -> tuple[int, Address]:
        for data, address in self.incoming:
            buffer[: len(data)] = data
            return len(data), address
        self.found_empty += 1
        raise BlockingIOError

    def sendto(self, data: Any, address: Address) -> None:
        self.sent += 1


class FakeReactor:
    """Readers are read by the test."""

    def addReader(self, reader: Any) -> None:
        pass


class Fuzzed:
    """A listener and a relay of a person with an allocation, reading from fake sockets."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = World()
        self.socket, self.relay_socket = FakeSocket(("0.0.0.0", 3478)), FakeSocket(("0.0.0.0", 50000))
        self.listener = Listener(FakeReactor(), self.socket, core(self.world))  # type: ignore[arg-type]
        self.alice = self.world.person()
        self.alice.client = Client((self.listener, self.alice.client.address), self.alice.client.address, self._send)
        allocation = self.alice.allocate(lifetime(3600))
        self.alice.bind(0x4000, PEER)
        ports = Ports(FakeReactor(), 50000, 50010, {}, self.world.forwarder)
        self.relay = RelaySocket(FakeReactor(), self.relay_socket, ("141.0.0.1", 50000), ports, self.world.forwarder)  # type: ignore[arg-type]
        self.relay.attach(allocation)
        self.addresses = [self.alice.client.address, PEER, *((f"129.0.1.{number}", 1) for number in range(20))]
        self.corpus = self._corpus()

    def _send(self, data: bytes | memoryview) -> None:
        self.socket.sent += 1

    def _corpus(self) -> list[bytes]:
        alice = self.alice
        peer = (stun.XOR_PEER_ADDRESS, stun.xor_address(PEER, b"t" * 12))
        send = Builder(stun.SEND, stun.INDICATION, b"t" * 12).add(*peer).add(stun.DATA, b"data").build()
        requests = [
            alice.signed(stun.ALLOCATE, UDP_TRANSPORT, (stun.EVEN_PORT, b"\x80"), (stun.DONT_FRAGMENT, b"")),
            alice.signed(stun.REFRESH, lifetime(600), (stun.REQUESTED_ADDRESS_FAMILY, b"\1\0\0\0")),
            alice.signed(stun.CREATE_PERMISSION, peer, peer, transaction=b"t" * 12),
            alice.signed(stun.CHANNEL_BIND, (stun.CHANNEL_NUMBER, b"\x40\1\0\0"), peer, transaction=b"t" * 12),
        ]
        return [
            *requests,
            send,
            binding(),
            allocate(),
            b"\x40\0\0\4data",
            b"\x7f\xff\xff\xff",
            b"\0\1\0\0\x21\x12\xa4\x42",
        ]

    def anything(self) -> bytes:
        return self.chance.randbytes(self.chance.choice((0, 1, 3, 4, 7, 19, 20, 24, 60, 200)))

    def header_and_anything(self) -> bytes:
        body = self.chance.randbytes(4 * self.chance.randrange(12))
        first = self.chance.choice((0x0001, 0x0003, 0x0004, 0x0008, 0x0009, 0x0016, self.chance.getrandbits(14)))
        return first.to_bytes(2, "big") + len(body).to_bytes(2, "big") + b"\x21\x12\xa4\x42" + bytes(12) + body

    def mutated(self) -> bytes:
        data = bytearray(self.chance.choice(self.corpus))
        for _ in range(self.chance.randrange(1, 4)):
            data[self.chance.randrange(len(data))] = self.chance.getrandbits(8)
        return bytes(data[: self.chance.randrange(len(data) + 1)] if self.chance.random() < 0.1 else data)

    def signed_nonsense(self) -> bytes:
        """What only somebody with a password can send: attributes with wrong values."""
        alice, chance = self.alice, self.chance
        known = (0x000C, 0x000D, 0x0012, 0x0017, 0x0018, 0x0019, 0x001A, 0x0022, 0x8000, 0x8022)
        attributes = [(chance.choice(known), chance.randbytes(chance.choice((0, 1, 4, 8, 20)))) for _ in range(3)]
        return alice.signed(chance.choice((3, 4, 8, 9)), UDP_TRANSPORT, *attributes, transaction=chance.randbytes(12))

    def datagrams(self, make: Any, count: int) -> Iterator[tuple[bytes, Address]]:
        for _ in range(count):
            yield make(), self.chance.choice(self.addresses)

    def read(self, reader: Any, socket: FakeSocket, make: Any, count: int) -> None:
        socket.incoming, before = self.datagrams(make, count), socket.found_empty
        while socket.found_empty == before:
            reader.read_batch()


@pytest.mark.slow
def test_a_million_datagrams() -> None:
    fuzzed = Fuzzed(seed=20)
    listener, world = fuzzed.listener, fuzzed.world

    def round_of(count: int) -> None:
        fuzzed.read(listener, fuzzed.socket, fuzzed.anything, 3 * count)
        fuzzed.read(listener, fuzzed.socket, fuzzed.header_and_anything, 3 * count)
        fuzzed.read(listener, fuzzed.socket, fuzzed.mutated, 3 * count)
        fuzzed.read(fuzzed.relay, fuzzed.relay_socket, fuzzed.anything, count)
        fuzzed.read(listener, fuzzed.socket, fuzzed.signed_nonsense, count // 20)

    round_of(20_000)
    gc.collect()
    objects = len(gc.get_objects())
    round_of(80_000)
    gc.collect()
    assert len(gc.get_objects()) < objects + 2000
    assert len(world.allocations.by_client) <= len(fuzzed.addresses)
    assert fuzzed.socket.sent > 1000
    world.pass_time(3600)
    assert not world.allocations.by_client and not world.allocations._reserved and not world.allocations._of_person


def test_one_read_is_a_bounded_batch() -> None:
    fuzzed = Fuzzed(seed=1)
    for reader, socket in ((fuzzed.listener, fuzzed.socket), (fuzzed.relay, fuzzed.relay_socket)):
        socket.incoming = fuzzed.datagrams(fuzzed.anything, 1000)
        sizes, before = [], 1000
        while before:
            reader.doRead()
            socket.incoming = iter(left := list(socket.incoming))
            sizes.append(before - len(left))
            before = len(left)
        assert max(sizes) == BATCH, "a flood is read in batches, and they are bounded"


def test_single_datagrams_are_read_without_asking_each_time_for_more() -> None:
    fuzzed = Fuzzed(seed=1)
    fuzzed.read(fuzzed.listener, fuzzed.socket, fuzzed.anything, 1000)
    fuzzed.socket.found_empty = 0
    for _ in range(100):
        fuzzed.socket.incoming = fuzzed.datagrams(binding, 1)
        fuzzed.listener.doRead()
        assert next(fuzzed.socket.incoming, None) is None
    assert fuzzed.socket.found_empty < 30


def test_an_error_of_our_own_is_logged_once_and_listening_goes_on(
    monkeypatch: pytest.MonkeyPatch, logged_errors: list[dict[str, Any]]
) -> None:
    fuzzed = Fuzzed(seed=1)
    monkeypatch.setattr(fuzzed.world.requests, "handle", lambda *_: 1 / 0)
    fuzzed.socket.incoming = fuzzed.datagrams(binding, 100)
    for _ in range(100):
        fuzzed.listener.doRead()
    assert not list(fuzzed.socket.incoming)
    assert len(logged_errors) == 1
    logged_errors.clear()
