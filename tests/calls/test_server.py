"""The whole server on real sockets of this machine."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.ssl import DefaultOpenSSLContextFactory

from heichat_appliance.calls import stun
from heichat_appliance.calls.allocations import Limits
from heichat_appliance.calls.server import CallServer
from heichat_appliance.calls.stun import IPV4, Address, Builder
from heichat_appliance.calls.transports import is_local, local_address
from tests import certificates
from tests.calls.client import TurnClient, in_thread
from tests.calls.kit import REALM, SECRET, WALL, addresses, error_code, lifetime

LOOPBACK = ("127.0.0.0/8", "::1/128")
CHANNEL = 0x4000
HAS_IPV6 = is_local("::1")
needs_ipv6 = pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")


@asynccontextmanager
async def running(*listen: tuple[str, str, int], **options: Any) -> AsyncIterator[CallServer]:
    """A server, which has no sockets left open afterwards."""
    server = CallServer(
        reactor,
        listen=listen or [("udp", "127.0.0.1", 0)],
        secret=SECRET,
        realm=REALM,
        wall=lambda: WALL,
        **{"allowed_peers": LOOPBACK, **options},
    )
    before = set(reactor.getReaders())  # type: ignore[attr-defined]
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        left = {each for each in set(reactor.getReaders()) - before if "calls" in type(each).__module__}  # type: ignore[attr-defined]
        assert not left and not server.core.allocations.by_client


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> DefaultOpenSSLContextFactory:
    key, certificate = certificates.make(tmp_path_factory.mktemp("tls"))
    return DefaultOpenSSLContextFactory(str(key), str(certificate))


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with udp_peer("127.0.0.1") as opened:
        yield opened


def udp_peer(host: str) -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind((host, 0))
    opened.settimeout(10)
    return opened


def relay_both_ways(client: TurnClient, peer: socket.socket) -> None:
    """A call's worth: by channel and by indication, to a peer and back."""
    (relayed,) = client.allocate()
    assert client.bind(CHANNEL, peer.getsockname()).kind == stun.SUCCESS
    for data in (b"x" * 1200, b"odd", b""):
        client.send_channel(CHANNEL, data)
        assert peer.recvfrom(2000) == (data, relayed)
        peer.sendto(data, relayed)
        assert client.receive() == b"\x40\0" + len(data).to_bytes(2, "big") + data
    client.send_indication(peer.getsockname(), b"hello", (stun.DONT_FRAGMENT, b""))
    assert peer.recvfrom(2000) == (b"hello", relayed)
    with udp_peer(peer.getsockname()[0]) as other:
        other.sendto(b"without a channel", relayed)
        message = stun.parse(client.receive())
        assert message.get(stun.DATA) == b"without a channel"
        assert addresses(message, stun.XOR_PEER_ADDRESS) == [other.getsockname()]
    assert client.ask(stun.REFRESH, lifetime(0)).kind == stun.SUCCESS
    client.close()


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
@pytest_twisted.ensureDeferred
async def test_relaying(transport: str, host: str, context: Any) -> None:
    async with running((transport, host, 0), tls_context=context) as server:
        ((_, _, port),) = server.addresses()
        client = await in_thread(TurnClient, transport, host, port)
        assert await in_thread(client.binding) == client.socket.getsockname()
        if ":" in host:
            family = (stun.REQUESTED_ADDRESS_FAMILY, b"\2\0\0\0")
            client.allocate = lambda: TurnClient.allocate(client, family)  # type: ignore[method-assign, misc]
        with udp_peer(host) as peer:
            await in_thread(relay_both_ways, client, peer)
        assert not server.core.allocations.by_client


@needs_ipv6
@pytest_twisted.ensureDeferred
async def test_all_addresses_of_both_families() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with running(("udp", "", port), ("tcp", "", port)) as server:
        assert len(server.addresses()) == len(list(server.describe())) == 4
        for transport in ("udp", "tcp"):
            for host in ("127.0.0.1", "::1"):
                client = await in_thread(TurnClient, transport, host, port)
                assert await in_thread(client.binding) == client.socket.getsockname()
                client.close()


@pytest_twisted.ensureDeferred
async def test_a_server_that_cannot_listen_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError):
            async with running(("udp", "127.0.0.1", 0), ("tcp", "127.0.0.1", port)):
                pass


@pytest_twisted.ensureDeferred
async def test_loopback_and_this_machine_are_forbidden_by_default() -> None:
    async with running(allowed_peers=()) as server:
        client = await in_thread(TurnClient, *server.addresses()[0])
        await in_thread(client.allocate)
        for host in ("127.0.0.1", "127.0.0.2", "0.0.0.0", "169.254.169.254", "224.0.0.1", "10.0.0.1"):
            assert error_code(await in_thread(client.permit, (host, 80))) == 403
            assert error_code(await in_thread(client.bind, CHANNEL, (host, 80))) == 403
        client.close()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest_twisted.ensureDeferred
async def test_two_people_who_only_use_the_relay(transport: str) -> None:
    """Behind NAT: both relays have the external address, at which this server could not even reach itself."""
    async with running(
        (transport, "127.0.0.1", 0), allowed_peers=(), external_addresses=["129.206.0.9"], relay_ports=(30000, 30099)
    ) as server:
        alice, bob = [
            await in_thread(TurnClient, *server.addresses()[0], name) for name in ("@alice:test", "@bob:test")
        ]
        ((a,), (b,)) = [await in_thread(each.allocate) for each in (alice, bob)]
        assert a[0] == b[0] == "129.206.0.9" and a != b and 30000 <= a[1] <= 30099
        assert (await in_thread(alice.bind, 0x4001, b)).kind == stun.SUCCESS
        assert (await in_thread(bob.permit, a)).kind == stun.SUCCESS
        await in_thread(alice.send_channel, 0x4001, b"hello")
        message = stun.parse(await in_thread(bob.receive))
        assert (message.get(stun.DATA), addresses(message, stun.XOR_PEER_ADDRESS)) == (b"hello", [a])
        await in_thread(bob.send_indication, a, b"world")
        assert await in_thread(alice.receive) == b"\x40\x01\0\5world"
        alice.close()
        bob.close()


@pytest_twisted.ensureDeferred
async def test_ports_of_the_relay() -> None:
    async with running(relay_ports=(30100, 30103)) as server:
        address = server.addresses()[0]
        clients = [await in_thread(TurnClient, *address) for _ in range(5)]
        ((first,),) = [await in_thread(clients[0].allocate, (stun.EVEN_PORT, b"\x80"))]
        assert first[1] in (30100, 30102), "an even one, and the next is reserved"
        found: set[Address] = {first}
        for client in clients[1:3]:
            found.update(await in_thread(client.allocate))
        assert len(found) == 3 and all(30100 <= port <= 30103 for _, port in found)
        answer = await in_thread(clients[3].ask, stun.ALLOCATE, (stun.REQUESTED_TRANSPORT, b"\x11\0\0\0"))
        assert error_code(answer) == 508
        await in_thread(clients[1].ask, stun.REFRESH, lifetime(0))
        assert len(await in_thread(clients[4].allocate)) == 1, "a port that was given back is used again"
        for client in clients:
            client.close()


@pytest_twisted.ensureDeferred
async def test_peers_without_a_permission_are_not_heard(peer: socket.socket) -> None:
    async with running() as server:
        client = await in_thread(TurnClient, *server.addresses()[0])
        (relayed,) = await in_thread(client.allocate)
        peer.sendto(b"unasked", relayed)
        while not server.core.forwarder.dropped:
            await in_thread(client.binding)
        assert (await in_thread(client.permit, peer.getsockname())).kind == stun.SUCCESS
        peer.sendto(b"asked", relayed)
        assert stun.parse(await in_thread(client.receive)).get(stun.DATA) == b"asked"
        client.close()


@pytest_twisted.ensureDeferred
async def test_time_passes(peer: socket.socket) -> None:
    time = [100.0]
    async with running(now=lambda: time[0]) as server:
        client = await in_thread(TurnClient, *server.addresses()[0])
        (relayed,) = await in_thread(client.allocate)
        time[0] += 599
        server.sweep()
        assert is_taken(relayed)
        time[0] += 1
        server.sweep()
        assert not is_taken(relayed)
        client.close()


def test_addresses_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_local("127.0.0.1") and not is_local("8.8.8.8")
    assert local_address(IPV4, "127.0.0.1") == "127.0.0.1"

    def exhausted(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", exhausted)
    assert is_local("8.8.8.8"), "in doubt it is, so that nothing is sent there"
    assert local_address(IPV4, "127.0.0.1") is None


def is_taken(address: Address) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(address[:2])
        except OSError:
            return True
        return False


@pytest.mark.parametrize("transport", ["tcp", "tls"])
@pytest_twisted.ensureDeferred
async def test_closing_the_connection_ends_the_allocation(transport: str, context: Any) -> None:
    async with running((transport, "127.0.0.1", 0), tls_context=context) as server:
        client = await in_thread(TurnClient, transport, *server.addresses()[0][1:])
        (relayed,) = await in_thread(client.allocate)
        other = await in_thread(TurnClient, transport, *server.addresses()[0][1:])
        client.close()
        while server.core.allocations.by_client:
            await in_thread(other.binding)
        assert not is_taken(relayed)
        other.close()


@pytest.mark.parametrize("transport", ["tcp", "tls"])
@pytest_twisted.ensureDeferred
async def test_clients_that_leave_in_the_middle(transport: str, context: Any) -> None:
    """More frames than are handled at once, and then nothing, a reset, or half a frame."""
    binding = Builder(stun.BINDING, stun.REQUEST, b"t" * 12).build()
    async with running((transport, "127.0.0.1", 0), tls_context=context) as server:
        for rest in (b"", binding[:7]):
            for linger in (False, True):
                client = await in_thread(TurnClient, transport, *server.addresses()[0][1:])
                await in_thread(client.send, binding * 500 + rest)
                if linger:
                    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
        last = await in_thread(TurnClient, transport, *server.addresses()[0][1:])
        while len(server._streams.clients) > 1:
            await in_thread(last.binding)
        last.close()


def fill(client: TurnClient, peer: socket.socket, relayed: Address) -> None:
    """Far more data than the buffers of a connection hold."""
    for _ in range(40):
        for _ in range(100):
            peer.sendto(bytes(1200), relayed)
        client.binding()  # over another 5-tuple: the server has read what came before


@pytest_twisted.ensureDeferred
async def test_a_client_that_does_not_read(peer: socket.socket) -> None:
    """Its data is lost, memory does not grow, and it is disconnected."""
    time = [100.0]
    limits = Limits(bandwidth=0, total_bandwidth=0)
    async with running(("tcp", "127.0.0.1", 0), ("udp", "127.0.0.1", 0), now=lambda: time[0], limits=limits) as server:
        udp, tcp = server.addresses()
        other, slow = await in_thread(TurnClient, *udp), await in_thread(TurnClient, *tcp)
        (relayed,) = await in_thread(slow.allocate)
        assert (await in_thread(slow.bind, CHANNEL, peer.getsockname())).kind == stun.SUCCESS
        for _ in range(30):
            await in_thread(fill, other, peer, relayed)
            (client,) = server._streams.clients
            if client._slow_since:
                break
        assert client._slow_since, "the buffers were filled"
        buffered = len(client.transport.dataBuffer) + client.transport._tempDataLen
        await in_thread(fill, other, peer, relayed)
        assert len(client.transport.dataBuffer) + client.transport._tempDataLen <= buffered
        time[0] += 31
        server.sweep()
        while server.core.allocations.by_client or server._streams.clients:
            await in_thread(other.binding)
        other.close()
        slow.close()


@pytest_twisted.ensureDeferred
async def test_connections_that_are_too_many_or_speak_something_else(context: Any) -> None:
    async with running(("tcp", "127.0.0.1", 0), ("tls", "127.0.0.1", 0), tls_context=context, connections=2) as server:
        tcp, tls = server.addresses()
        clients = [await in_thread(TurnClient, *tcp), await in_thread(TurnClient, *tls)]
        for client in clients:
            assert await in_thread(client.binding)
        third = await in_thread(TurnClient, *tcp)
        with pytest.raises((EOFError, ConnectionError)):
            await in_thread(third.binding)
        for client in clients:
            await in_thread(client.send, b"GET / HTTP/1.1\r\n\r\n")
            with pytest.raises((EOFError, OSError)):
                await in_thread(client.receive)
        assert not server._streams.clients
        for client in (*clients, third):
            client.close()
