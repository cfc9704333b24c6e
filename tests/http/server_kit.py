"""For the tests of the HTTP server: a site that records, a client of raw bytes, a transport in memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from heichat_appliance.http.server import HTTPFactory, Limits

PLAIN = ((b"Content-Type", b"text/plain"),)
MAX_BODY = 100_000


class Seen(NamedTuple):
    method: str
    path: str
    query: str
    body: bytes


class RecordingSite:
    """Answers "METHOD path?query body" unless a test puts another function into `begins` or `handles` by path."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.exchanges = []
        self.refused: list[int] = []
        self.begins: dict[str, Callable] = {}
        self.handles: dict[str, Callable] = {}
        self.max_body = MAX_BODY

    def begin(self, exchange) -> int:
        self.exchanges.append(exchange)
        if exchange.path in self.begins:
            limit = self.begins[exchange.path](exchange)
            return self.max_body if limit is None else limit
        return self.max_body

    def handle(self, exchange) -> None:
        self.seen.append(Seen(exchange.method, exchange.path, exchange.query, exchange.body))
        if exchange.path in self.handles:
            self.handles[exchange.path](exchange)
        else:
            exchange.respond(200, PLAIN, expected_body(self.seen[-1]))

    def refuse(self, status: int, reason: str):
        self.refused.append(status)
        return PLAIN, reason.encode()


def expected_body(seen: Seen) -> bytes:
    return f"{seen.method} {seen.path}?{seen.query} ".encode() + seen.body


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def split_answers(data: bytes, methods: tuple[str, ...] = ()) -> tuple[list[Answer], bytes]:
    """The complete answers in `data`, and what is left. `methods` of the requests, for HEAD; others count as GET."""
    answers: list[Answer] = []
    while True:
        head, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            return answers, data
        lines = head.decode("latin-1").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        assert len(headers) == len(lines) - 1, "a header field twice"
        code = int(status)
        method = methods[len(answers)] if len(answers) < len(methods) else "GET"
        if method == "HEAD" or code in (100, 204, 304):
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            taken = _take_chunks(rest)
            if taken is None:
                return answers, data
            body, rest = taken
        elif "content-length" in headers:
            length = int(headers["content-length"])
            if len(rest) < length:
                return answers, data
            body, rest = rest[:length], rest[length:]
        else:
            return answers, data  # until the connection closes
        if code != 100:
            answers.append(Answer(code, headers, body))
        data = rest


def _take_chunks(data: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while True:
        line, found, data = data.partition(b"\r\n")
        if not found or len(data) < int(line, 16) + 2:
            return None
        size = int(line, 16)
        assert data[size : size + 2] == b"\r\n"
        body, data = body + data[:size], data[size + 2 :]
        if size == 0:
            return body, data


class RawClient(Protocol):
    """Sends and collects bytes."""

    def __init__(self) -> None:
        self.data = b""
        self.closed = self.reset = False
        self._waiting: list[tuple[Callable[[], bool], Deferred]] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self._check()

    def connectionLost(self, reason) -> None:
        self.closed, self.reset = True, not reason.check(ConnectionDone)
        self._check()

    def _check(self) -> None:
        for waiting in [w for w in self._waiting if w[0]()]:
            self._waiting.remove(waiting)
            waiting[1].callback(None)

    def until(self, condition: Callable[[], bool], seconds: float = 10) -> Deferred:
        """Fires once `condition` holds, which is looked at after each event of this connection."""
        deferred: Deferred = Deferred()
        self._waiting.append((condition, deferred))
        self._check()
        return deferred.addTimeout(seconds, reactor)

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    async def answers(self, count: int, methods: tuple[str, ...] = ()) -> list[Answer]:
        """The next `count` answers."""
        await self.until(lambda: self.closed or len(split_answers(self.data, methods)[0]) >= count)
        answers, self.data = split_answers(self.data, methods)
        assert len(answers) == count, (answers, self.data)
        return answers

    async def answer(self, method: str = "GET") -> Answer:
        return (await self.answers(1, (method,)))[0]

    async def at_end(self) -> bytes:
        """Everything that came, once the server closed."""
        await self.until(lambda: self.closed)
        return self.data


def turn(seconds: float = 0) -> Deferred:
    """One turn of the reactor."""
    deferred: Deferred = Deferred()
    reactor.callLater(seconds, deferred.callback, None)
    return deferred


async def until(condition: Callable[[], bool], clock: Clock | None = None) -> None:
    """Turns the reactor, and does what `clock` has to do at once, until `condition` holds."""
    end = reactor.seconds() + 10
    while not condition():
        assert reactor.seconds() < end, "waited in vain"
        await turn(0.001)
        if clock is not None:
            clock.advance(0)


class Serving:
    def __init__(self, factory: HTTPFactory, site: RecordingSite, clock: Clock, port) -> None:
        self.factory, self.site, self.clock, self.port = factory, site, clock, port
        self.clients: list[RawClient] = []

    async def connect(self) -> RawClient:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port)
        client = await connectProtocol(endpoint, RawClient())
        self.clients.append(client)
        return client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port.getHost().port}"

    def advance(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.clock.advance(1)


@asynccontextmanager
async def serving(limits: Limits | None = None):
    """A server on a loopback port whose time-outs go by `Serving.clock`."""
    site, clock = RecordingSite(), Clock()
    clock.advance(1_700_000_000)
    factory = HTTPFactory(site, clock, limits=limits)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    server = Serving(factory, site, clock, port)
    try:
        yield server
    finally:
        await port.stopListening()
        for client in server.clients:
            client.transport.abortConnection()
        await factory.shut_down().addTimeout(5, reactor)
        assert factory.connections == 0
        assert factory.body_bytes == 0
        clock.advance(0)
        assert clock.getDelayedCalls() == []


class MemoryTransport(StringTransport):
    """A transport whose writes are at once with the client."""

    def __init__(self, peer=None) -> None:
        super().__init__(peerAddress=peer)
        self.closed = False

    def registerProducer(self, producer, streaming) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def loseConnection(self) -> None:
        self.closed = True

    abortConnection = loseConnection


class Outcome(NamedTuple):
    """What a connection's bytes led to."""

    seen: list[Seen]
    refused: list[int]
    sent: bytes
    ended: bool


def deliver(pieces: list[bytes], limits: Limits | None = None) -> Outcome:
    """Delivers `pieces` one after another to a connection in memory."""
    site, clock = RecordingSite(), Clock()
    factory = HTTPFactory(site, clock, limits=limits)
    transport = MemoryTransport()
    connection = factory.buildProtocol(transport.getPeer())
    connection.makeConnection(transport)
    for piece in pieces:
        connection.dataReceived(piece)
    for _ in range(5):
        clock.advance(1)  # past linger_seconds
    sent = transport.value()
    connection.connectionLost()
    assert (factory.connections, factory.body_bytes, clock.getDelayedCalls()) == (0, 0, [])
    return Outcome(site.seen, site.refused, sent, transport.closed)


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    """A request with Host; `line` is e.g. "GET /a"."""
    return "\r\n".join((f"{line} HTTP/1.1", "Host: here", *headers, "", "")).encode("latin-1") + body
