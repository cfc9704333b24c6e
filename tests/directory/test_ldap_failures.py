"""A directory that is down, silent, or talks nonsense: logins fail in time and hurt nobody else."""

from __future__ import annotations

import socket
import threading

import pytest
import pytest_twisted
from twisted.internet import defer, task
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import capturedLogs

from heichat_appliance.directory.threads import QUEUE_PER_THREAD, BlockingCalls
from heichat_appliance.extension import DirectoryUnavailable
from tests.slapd import Slapd, Swallower, requires_slapd

ALICE = {"uid": "alice", "displayName": "Alice", "userPassword": "wonder-land"}


def slapd_test(function):
    """Mark one test."""
    for mark in requires_slapd:
        function = mark(function)
    return function


async def login(directory):
    """Log Alice in."""
    return await directory.authenticate("alice", "wonder-land")


async def until(condition):
    """Let the reactor run until `condition()` is true; the test fails after ten seconds."""
    from twisted.internet import reactor

    deadline = reactor.seconds() + 10
    while not condition():
        assert reactor.seconds() < deadline, "waited in vain"
        await task.deferLater(reactor, 0.005)


class Talker(Protocol):
    """Sends `pieces`, one every 50 ms; asks for nothing."""

    pieces: list[bytes] = []

    def connectionMade(self):
        from twisted.internet import reactor

        self._left = list(self.pieces)
        self._timer = task.LoopingCall(self._say)
        self._timer.clock = reactor
        self._timer.start(0.05)

    def _say(self):
        if self._left:
            self.transport.write(self._left.pop(0))

    def connectionLost(self, reason):
        self._timer.stop()


@pytest.fixture
def talk():
    """`talk(pieces)`: the URI of a server that sends these to whoever connects."""
    from twisted.internet import reactor

    listeners = []

    def start(pieces):
        protocol = type("OneTalker", (Talker,), {"pieces": pieces})
        listeners.append(reactor.listenTCP(0, Factory.forProtocol(protocol), interface="127.0.0.1"))
        return f"ldap://127.0.0.1:{listeners[-1].getHost().port}"

    yield start
    for listener in listeners:
        listener.stopListening()


@slapd_test
@pytest_twisted.ensureDeferred
async def test_stopped_and_started_again(make_directory, tmp_path):
    with Slapd(tmp_path, [ALICE]) as server:
        directory = make_directory(server)
        assert await login(directory)
        server.stop()
        for call in (login(directory), directory.look_up("alice"), directory.search("alice", 5)):
            with pytest.raises(DirectoryUnavailable, match="refused"):
                await call
        server.start()
        assert await login(directory)


@slapd_test
@pytest_twisted.ensureDeferred
async def test_a_silent_server_fails_in_time_and_holds_nobody_up(make_directory, slapd):
    with Swallower() as silent:
        stuck = defer.ensureDeferred(login(make_directory(silent, timeout=0.5)))
        good = make_directory(slapd)
        for _ in range(5):
            assert await login(good)
        assert not stuck.called
        with pytest.raises(DirectoryUnavailable, match=r"no answer|timed out"):
            await stuck


@slapd_test
@pytest_twisted.ensureDeferred
async def test_a_server_that_falls_silent_and_recovers(make_directory, slapd):
    with Swallower(slapd.port, swallow=False) as proxy:
        directory = make_directory(proxy, timeout=0.3)
        assert await login(directory)
        proxy.swallow = True
        with pytest.raises(DirectoryUnavailable):
            await login(directory)
        proxy.swallow = False
        assert await login(directory)


@slapd_test
@pytest_twisted.ensureDeferred
async def test_fail_over_in_order(make_directory, slapd, tmp_path):
    with Slapd(tmp_path, [{**ALICE, "displayName": "Alice of the first"}]) as first:
        directory = make_directory(uris=[first.uri, slapd.uri])
        assert (await login(directory)).display_name == "Alice of the first"
        first.stop()
        assert (await login(directory)).display_name == "Alice Müller"
        lines = await directory.check()
        assert any(line.startswith(first.uri) and "FAILED" in line for line in lines)
        assert any(line.startswith(slapd.uri) and "at least one" in line for line in lines)


@slapd_test
@pytest_twisted.ensureDeferred
async def test_a_dead_first_server_costs_its_time_once(make_directory, slapd):
    with Swallower() as silent, capturedLogs() as events:
        directory = make_directory(uris=[silent.uri, slapd.uri], timeout=0.6)
        for _ in range(5):
            assert await login(directory)
        assert silent.connections == 1
        assert sum("failed" in event["log_format"] for event in events) == 1


@slapd_test
@pytest_twisted.ensureDeferred
async def test_a_failed_server_is_tried_again_by_one_caller(make_directory, slapd, monkeypatch):
    with Swallower(slapd.port) as proxy:
        directory = make_directory(uris=[proxy.uri, slapd.uri], timeout=0.6)
        assert await login(directory)
        servers, (first, second) = directory._servers, directory._servers.all
        servers._retry_at[first] = 0.0  # long ago
        assert servers.in_order() == [first, second]
        assert servers.in_order() == [second, first]
        servers._retry_at[first] = 0.0
        proxy.swallow = False
        assert await login(directory)
        assert servers.in_order() == [first, second]
        assert proxy.connections == 2


@slapd_test
@pytest_twisted.ensureDeferred
async def test_wrong_service_password_or_base(make_directory, slapd):
    with pytest.raises(DirectoryUnavailable, match="bind_dn and bind_password were refused"):
        await login(make_directory(slapd, bind_password="wrong"))
    with pytest.raises(DirectoryUnavailable, match="noSuchObject"):
        await make_directory(slapd, anonymous=True).look_up("alice")
    with pytest.raises(DirectoryUnavailable, match=r"FAILED after .* were refused"):
        await make_directory(slapd, bind_password="wrong").check()


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
        [b"220 smtp.example ESMTP\r\n" * 20],
        [b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00"],  # cut short
        [b"\x30\x0c\x02\x01\x63\x61\x07\x0a\x01\x00\x04\x00\x04\x00"],  # a success for another message
        [b"\x30\x84\xff\xff\xff\xff"] + [b"x" * 1000] * 50,
        [b"\x30"] * 100,
        [b"\x30\x00" * 10],
    ],
)
@pytest_twisted.ensureDeferred
async def test_nonsense(make_directory, talk, pieces):
    directory = make_directory(uris=[talk(pieces)], timeout=0.4, pool=2)
    for mode in (login(directory), directory.search("alice", 5)):
        with pytest.raises(DirectoryUnavailable):
            await mode
    await until(lambda: not directory._calls._jobs)  # the threads came back


@pytest_twisted.ensureDeferred
async def test_unknown_host(make_directory):
    with pytest.raises(DirectoryUnavailable, match="host name"):
        await login(make_directory(uris=["ldap://no-such-host.invalid"]))


@slapd_test
@pytest_twisted.ensureDeferred
async def test_a_host_with_several_addresses(make_directory, tmp_path, monkeypatch):
    real = socket.getaddrinfo

    def two_addresses(host, port, *rest):
        if host != "ldap.example.org":
            return real(host, port, *rest)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", port)) for n in (2, 1)]

    monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
    with Slapd(tmp_path, [ALICE]) as server:
        directory = make_directory(uris=[server.uri.replace("127.0.0.1", "ldap.example.org")])
        assert await login(directory)
        server.stop()
        with pytest.raises(DirectoryUnavailable, match="refused"):
            await login(directory)


@slapd_test
@pytest_twisted.ensureDeferred
async def test_when_all_threads_hang_the_next_fails_at_once(make_directory, slapd):
    with Swallower(slapd.port) as proxy:
        directory = make_directory(proxy, timeout=1.0, pool=2)
        stuck = [directory.look_up("alice") for _ in range(2)]
        await until(directory._calls._refusal)
        refused = directory.look_up("alice")
        assert refused.called
        assert not any(call.called for call in stuck)
        with pytest.raises(DirectoryUnavailable, match="all 2 connections wait"):
            await refused
        for call in stuck:
            with pytest.raises(DirectoryUnavailable):
                await call
        proxy.swallow = False
        await until(lambda: not directory._calls._jobs)
        assert await login(directory)


@slapd_test
@pytest_twisted.ensureDeferred
async def test_a_burst_waits_its_turn(make_directory, slapd):
    directory = make_directory(slapd, pool=2)
    people = await defer.gatherResults([directory.authenticate("alice", "wonder-land") for _ in range(30)])
    assert {person.uni_id for person in people} == {"alice"}


@pytest.fixture
def calls():
    """Two threads with half a second for each call, and an event that lets hanging ones go on."""
    gate = threading.Event()
    blocking = BlockingCalls(2, 0.5)
    blocking.start()
    yield blocking, gate
    gate.set()
    blocking.stop()


@pytest_twisted.ensureDeferred
async def test_a_thread_that_hangs_for_good_is_left_behind(calls):
    blocking, gate = calls
    stuck = [blocking.call(lambda job: gate.wait(60)) for _ in range(2)]
    for call in stuck:
        with pytest.raises(DirectoryUnavailable, match=r"no answer within 0\.5 seconds"):
            await call
    late = blocking.call(lambda job: "never")
    assert late.called
    with pytest.raises(DirectoryUnavailable):
        await late
    gate.set()  # the late results of the two are dropped
    await until(lambda: not blocking._jobs)
    assert await blocking.call(lambda job: "works") == "works"


@pytest_twisted.ensureDeferred
async def test_the_queue_is_bounded(calls):
    blocking, gate = calls
    waiting = [blocking.call(lambda job: gate.wait(60)) for _ in range(2 * QUEUE_PER_THREAD)]
    assert not any(call.called for call in waiting)
    one_more = blocking.call(lambda job: "never")
    with pytest.raises(DirectoryUnavailable, match="calls wait for the directory already"):
        await one_more
    gate.set()
    assert all(await defer.gatherResults(waiting))


@pytest_twisted.ensureDeferred
async def test_a_cancelled_call_is_dropped(calls):
    blocking, gate = calls
    call = blocking.call(lambda job: gate.wait(60))
    call.cancel()
    with pytest.raises(defer.CancelledError):
        await call
    gate.set()
    await until(lambda: not blocking._jobs)


@slapd_test
@pytest_twisted.ensureDeferred
async def test_stop_fails_what_is_under_way(make_directory, slapd):
    with Swallower() as silent:
        directory = make_directory(silent, timeout=30)
        call = directory.look_up("alice")
        await until(lambda: silent.connections == 1)
        directory.stop()
        assert call.called
        with pytest.raises(DirectoryUnavailable, match="being closed"):
            await call
        await until(lambda: not directory._calls._jobs)
        with pytest.raises(DirectoryUnavailable, match="closed"):
            await directory.look_up("alice")
