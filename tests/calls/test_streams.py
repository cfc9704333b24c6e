"""STUN and ChannelData on a connection: framing however the bytes come, and what a connection may cost."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.testing import StringTransport

from heichat_appliance.calls import stun
from heichat_appliance.calls.server import Core
from heichat_appliance.calls.streams import (
    BATCH,
    IDLE_SECONDS,
    MAX_BUFFER,
    MAX_UNREAD,
    STRANGER_BYTES,
    STUCK_SECONDS,
    StreamClient,
    StreamFactory,
    frame_size,
)
from heichat_appliance.calls.stun import Builder
from tests.calls.kit import PEER, UDP_TRANSPORT, FakeRelay, World, frame, lifetime


class Transport(StringTransport):
    """Remembers that it was aborted."""

    aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def abortConnection(self) -> None:
        self.aborted = True


class Connection:
    """A person's connection, with what the server wrote cut into frames."""

    def __init__(self, world: World, factory: StreamFactory, port: int = 4000) -> None:
        self.world = world
        protocol = factory.buildProtocol(IPv4Address("TCP", "129.0.0.1", port))
        assert protocol is not None
        self.protocol: StreamClient = protocol
        self.transport = Transport()
        self.protocol.makeConnection(self.transport)
        self.person = world.person(address=("129.0.0.1", port))

    def frames(self) -> list[bytes]:
        data, found, at = self.transport.value(), [], 0
        self.transport.clear()
        while at < len(data):
            size, padded = frame_size(data, at)
            assert padded and at + padded <= len(data), "whole frames alone are written"
            found.append(data[at : at + size])
            at += padded
        return found

    def ask(self, data: bytes) -> stun.Message:
        self.protocol.dataReceived(data)
        (answer,) = self.frames()
        return stun.parse(answer)

    def allocate(self) -> FakeRelay:
        challenge = self.ask(Builder(stun.ALLOCATE, stun.REQUEST, os.urandom(12)).add(*UDP_TRANSPORT).build())
        self.person.nonce = challenge.get(stun.NONCE) or b""
        assert self.ask(self.person.signed(stun.ALLOCATE, UDP_TRANSPORT, lifetime(3600))).kind == stun.SUCCESS
        relay = self.world.opener.opened[-1]
        assert self.ask(self.bind()).kind == stun.SUCCESS
        return relay

    def bind(self) -> bytes:
        transaction = os.urandom(12)
        peer = (stun.XOR_PEER_ADDRESS, stun.xor_address(PEER, transaction))
        return self.person.signed(
            stun.CHANNEL_BIND, (stun.CHANNEL_NUMBER, b"\x40\0\0\0"), peer, transaction=transaction
        )


class Server:
    """A factory without sockets; `later` holds what waits for its turn."""

    def __init__(self, connections: int = 10, per_address: int = 5) -> None:
        self.world = World()
        self.later: list[Callable[[], None]] = []
        core = Core(
            self.world.requests, self.world.allocations, self.world.forwarder,
            now=lambda: self.world.now, wall=lambda: self.world.wall, later=self.later.append,
        )  # fmt: skip
        self.factory = StreamFactory(core, connections, per_address)

    def connect(self, port: int = 4000) -> Connection:
        return Connection(self.world, self.factory, port)

    def run_later(self) -> None:
        while self.later:
            self.later.pop(0)()


@pytest.fixture
def server() -> Server:
    return Server()


def binding(padding: int = 0) -> bytes:
    builder = Builder(stun.BINDING, stun.REQUEST, os.urandom(12))
    return (builder.add(stun.SOFTWARE, bytes(padding)) if padding else builder).build()


CHANNEL_DATA = b"\x40\0\0\5hello\0\0\0"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 19, 20, 21, 1000])
def test_frames_in_pieces_of_any_size(server: Server, size: int) -> None:
    connection = server.connect()
    relay = connection.allocate()
    stream = binding() + CHANNEL_DATA + CHANNEL_DATA + connection.bind() + b"\x40\0\0\0" + binding(13) + CHANNEL_DATA
    for at in range(0, len(stream), size):
        connection.protocol.dataReceived(stream[at : at + size])
    assert [stun.parse(each).method for each in connection.frames()] == [1, 9, 1]
    assert [data for data, _, _ in relay.sent] == [b"hello", b"hello", b"", b"hello"]
    assert not connection.transport.aborted


def test_binding_says_which_software_answers(server: Server) -> None:
    assert server.connect().ask(binding()).get(stun.SOFTWARE) == b"heiCHAT"


def test_relayed_data_is_padded(server: Server) -> None:
    connection = server.connect()
    connection.allocate()
    allocation = server.world.allocations.by_client[connection.protocol]
    for data in (b"hello", b"", b"four"):
        server.world.forwarder.from_peer(allocation, PEER, frame(data))
    assert connection.transport.value() == b"\x40\0\0\5hello\0\0\0" + b"\x40\0\0\0" + b"\x40\0\0\4four"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"\x80\0\0\0",
        b"\xff" * 4,
        b"\0\1\0\3\x21\x12\xa4\x42",
        b"\0\1\0\0\x21\x12\xa4",
        b"\0\1\0\0\x22",
        b"\0\1\x08\0\x21\x12\xa4\x42",
    ],
)
def test_what_is_no_frame_ends_the_connection(server: Server, data: bytes) -> None:
    connection = server.connect()
    connection.protocol.dataReceived(data)
    assert connection.transport.aborted == (data != b"\0\1\0\0\x21\x12\xa4")


def test_strangers_may_not_send_large_frames_and_others_may(server: Server) -> None:
    connection = server.connect()
    relay = connection.allocate()
    connection.protocol.dataReceived(b"\x40\0\xff\xfc" + bytes(0xFFFC))
    assert len(relay.sent) == 1 and not connection.transport.aborted
    stranger = server.connect()
    stranger.protocol.dataReceived(b"\x40\0" + STRANGER_BYTES.to_bytes(2, "big"))
    assert stranger.transport.aborted


def test_malformed_messages_in_whole_frames_are_not_answered(server: Server) -> None:
    connection = server.connect()
    connection.protocol.dataReceived(b"\0\1\0\4\x21\x12\xa4\x42" + bytes(12) + b"\0\6\0\5" + binding())
    assert len(connection.frames()) == 1


def test_many_frames_at_once_give_others_their_turn(server: Server) -> None:
    connection = server.connect()
    connection.protocol.dataReceived(b"".join(binding() for _ in range(3 * BATCH + 1)))
    assert len(connection.frames()) == BATCH
    assert connection.transport.producerState == "paused", "nothing more is read"
    connection.protocol.dataReceived(binding())
    assert not connection.frames() and len(server.later) == 1
    server.run_later()
    assert len(connection.frames()) == 2 * BATCH + 2
    assert connection.transport.producerState == "producing"


def test_what_waits_is_bounded(server: Server) -> None:
    connection = server.connect()
    connection.protocol.dataReceived(b"".join(binding() for _ in range(BATCH + 1)))
    for _ in range(MAX_BUFFER // 20 + 1):
        connection.protocol.dataReceived(binding())
    assert connection.transport.aborted


def test_an_allocation_ends_with_its_connection(server: Server) -> None:
    connection = server.connect()
    relay = connection.allocate()
    connection.protocol.connectionLost()
    assert relay.closed and not server.world.allocations.by_client and not server.factory.clients


def test_idle_connections_are_closed(server: Server) -> None:
    idle, asking, calling = (server.connect(port) for port in (1, 2, 3))
    calling.allocate()
    server.world.pass_time(IDLE_SECONDS - 1)
    asking.protocol.dataReceived(binding())
    server.world.pass_time(2)
    server.factory.sweep(server.world.now)
    assert [each.transport.aborted for each in (idle, asking, calling)] == [True, False, False]
    server.world.pass_time(3600)
    server.factory.sweep(server.world.now)
    assert calling.transport.aborted, "its allocation has ended"


def test_data_for_a_slow_reader_is_lost_and_it_is_disconnected_in_the_end(server: Server) -> None:
    connection = server.connect()
    connection.allocate()
    allocation = server.world.allocations.by_client[connection.protocol]
    connection.protocol.pauseProducing()
    server.world.forwarder.from_peer(allocation, PEER, frame(b"late"))
    assert not connection.transport.value()
    connection.protocol.dataReceived(binding())
    assert len(connection.frames()) == 1, "answers are still written"
    connection.protocol.resumeProducing()
    server.world.forwarder.from_peer(allocation, PEER, frame(b"fresh"))
    assert connection.frames() == [b"\x40\0\0\5fresh"]
    connection.protocol.pauseProducing()
    server.factory.sweep(server.world.now + STUCK_SECONDS)
    assert not connection.transport.aborted
    server.factory.sweep(server.world.now + STUCK_SECONDS + 1)
    assert connection.transport.aborted


def test_who_reads_no_answers_is_disconnected(server: Server) -> None:
    connection = server.connect()
    connection.protocol.pauseProducing()
    for _ in range(MAX_UNREAD):
        connection.protocol.dataReceived(binding())
    assert not connection.transport.aborted
    connection.protocol.dataReceived(binding())
    assert connection.transport.aborted


def test_connections_are_counted() -> None:
    server = Server(connections=7, per_address=5)
    first = [server.connect(port) for port in range(5)]
    build: Any = server.factory.buildProtocol
    assert build(IPv4Address("TCP", "129.0.0.1", 9)) is None
    sixth = build(IPv6Address("TCP", "2a00::1", 9))
    sixth.makeConnection(Transport())
    build(IPv4Address("TCP", "129.0.0.2", 9)).makeConnection(Transport())
    assert build(IPv4Address("TCP", "129.0.0.3", 9)) is None
    first[0].protocol.connectionLost()
    assert build(IPv4Address("TCP", "129.0.0.1", 9)) is not None
    for connection in first[1:]:
        connection.protocol.connectionLost()
    sixth.connectionLost()
    assert sum(server.factory._of_address.values()) == 2
