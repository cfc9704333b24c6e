"""One client's connection: reads requests, writes answers, and knows what the client has to do next and until when.

The requests of a connection are taken one after another: what a client sends ahead waits as bytes, so answers are in
order by construction. Sources: RFC 9110 (semantics), RFC 9112 (HTTP/1.1).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IProtocol, IPushProducer, ISSLTransport
from twisted.internet.tcp import Connection as SocketTransport
from twisted.logger import Logger
from zope.interface import implementer

from .exchange import BodyWriter, Exchange, Headers, Sink
from .framing import CHUNKED, ChunkedBody, CountedBody, Known, Refused

if TYPE_CHECKING:
    from .server import HTTPFactory

log = Logger()

_PIECE = 128 * 1024  # bytes handed to the transport at once
_STEPS = 32  # heads and bodies read in one turn of the reactor
_KNOWN_BYTES = 2048  # a longer head is not kept for comparison
_HEAD, _BODY, _ANSWER, _LINGER, _CLOSING = range(5)  # what a connection waits for


@dataclass(frozen=True, slots=True)
class Limits:
    """What a stranger may use up: bytes, seconds, counts. The largest body is the site's word (Site.begin)."""

    head_bytes: int = 16 * 1024
    headers: int = 100
    ahead_bytes: int = 16 * 1024  # read while a request of the same connection is in work; then reading stops
    drain_bytes: int = 64 * 1024  # rest of a body read to keep a connection whose request was answered before its end
    body_memory: int = 256 * 1024 * 1024  # unfinished bodies of all connections together
    connections: int = 20_000
    connections_per_address: int = 1_000  # an IPv4 address or an IPv6 /64
    unlimited_addresses: frozenset[str] = frozenset({"127.0.0.1", "::1"})  # a reverse proxy; Unix sockets always
    head_seconds: float = 15.0
    body_seconds: float = 30.0  # without progress, which is at least:
    body_rate: int = 1024  # bytes a second
    idle_seconds: float = 75.0
    write_seconds: float = 60.0  # for the client to take 128 KiB of its answer
    linger_seconds: float = 2.0  # for the client to read why it was refused


@implementer(IProtocol, IPushProducer)
class Connection:
    """One client. For sites it is hidden behind Exchange and BodyWriter; `deadline` is read by the factory's sweep."""

    __slots__ = (
        *("_body", "_buffer", "_direct", "_exchange", "_factory", "_head", "_known", "_out", "_partial", "_paused"),
        *("_reader", "_room", "_running", "_sink", "_sinkable", "_state", "_stopped", "_transport", "_writer"),
        *("address", "choked", "deadline", "keep", "peer", "peer_port", "secure"),
    )

    def __init__(self, factory: HTTPFactory) -> None:
        self._factory = factory
        self._transport: Any = None
        self._state = _HEAD
        self._buffer = b""  # received and not yet understood
        self.address = ""  # what the factory counts it under
        self._head = b""  # of the answer
        self._known: Known | None = None  # the last head, for the next
        self._exchange: Exchange | None = None  # begun, and its answer not yet complete
        self._reader: Any = None  # CountedBody or ChunkedBody, of the running body
        self._body: bytearray | None = None  # what came of it, if it has no sink
        self._sink: Sink | None = None
        self._room = 0  # bytes of body still welcome
        self._writer: BodyWriter | None = None
        self._out: deque[bytes | memoryview] | None = None  # parts of a large answer
        self._partial = self._paused = self._running = self._sinkable = self._stopped = self.choked = False
        self.keep = True  # the connection outlives the running request

    # From the transport

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport
        self.secure = ISSLTransport.providedBy(transport)
        self._direct = isinstance(transport, SocketTransport)
        peer = transport.getPeer()
        self.peer: str = getattr(peer, "host", "").removeprefix("::ffff:")
        self.peer_port: int = getattr(peer, "port", 0)
        if self.peer and hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        self.deadline = self._factory.now() + self._factory.limits.head_seconds
        transport.registerProducer(self, True)
        self._factory.welcome(self)

    def connectionMade(self) -> None:
        """Part of IProtocol; makeConnection does it all."""

    @property
    def socket(self) -> Any:
        """What lies beneath, for factories that ask the system who is at the other end."""
        return self._transport.socket

    def dataReceived(self, data: bytes) -> None:
        state = self._state
        if state >= _LINGER:
            return  # refused: what still comes is dropped
        self._buffer = self._buffer + data if self._buffer else data
        if state == _BODY and not self._paused and not self.choked:
            limits = self._factory.limits
            now = self._factory.now()
            self.deadline = min(self.deadline + len(data) / limits.body_rate, now + limits.body_seconds)
        if not self._running:
            self._advance()

    def connectionLost(self, reason: Any = None) -> None:
        self._state = _CLOSING
        self._transport = None
        self._buffer = b""
        self._out = None
        self._factory.farewell(self)
        self._drop_exchange("The client went away.")

    def pauseProducing(self) -> None:
        """The transport holds more than it can send."""
        self.choked = True
        self._set_deadline()
        if self._writer is not None:
            self._writer.room(False)

    def resumeProducing(self) -> None:
        self.choked = False
        self._set_deadline()
        if self._out is not None:
            self._pump()
        elif self._writer is not None:
            self._writer.room(True)
        self._advance()

    def stopProducing(self) -> None:
        """Part of IPushProducer; connectionLost follows."""

    # Reading

    def _advance(self) -> None:
        """Works through what was received until it runs dry or an answer is awaited; bit by bit, so that a client who
        sends thousands of requests at once does not keep the others waiting."""
        if self._running:
            return
        self._running = True
        try:
            for _ in range(_STEPS):
                if not (self._buffer and self._step()):
                    break
            else:
                self._factory.soon(self._advance)
        except Refused as refused:
            self.refuse(refused.status, refused.reason)
        except Exception:
            log.failure("The site failed on a request")
            self.refuse(500, "Internal server error.")
        finally:
            self._running = False
        stop = self._paused or len(self._buffer) > self._factory.limits.ahead_bytes
        if stop is not self._stopped and self._transport is not None:
            self._stopped = stop
            (self._transport.pauseProducing if stop else self._transport.resumeProducing)()

    def _step(self) -> bool:
        if self._state == _HEAD:
            return not self.choked and self._read_head()
        return self._state == _BODY and not self._paused and self._read_body()

    def _read_head(self) -> bool:
        buffer, limits = self._buffer, self._factory.limits
        end = buffer.find(b"\r\n\r\n") + 4
        if end < 4 or end > limits.head_bytes:
            if len(buffer) > limits.head_bytes:
                raise Refused(431, f"The head of the request is longer than {limits.head_bytes} bytes.")
            if buffer.count(b"\n") != buffer.count(b"\r\n"):
                raise Refused(400, "A line of the request does not end with CR LF.")
            if not self._partial:
                self._partial = True
                self._set_deadline()
            return False
        exchange, head = Exchange(self), buffer[:end]
        if self._known is None or not exchange.parse_known(head, self._known):
            exchange.parse(head, limits.headers)
            self._known = exchange.known(head) if end <= _KNOWN_BYTES else None
        self._buffer = buffer[end:]
        self._begin(exchange)
        return True

    def _begin(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.keep = exchange.keep_alive and self._factory.open
        length = exchange.length
        self._state = _ANSWER
        if length:
            self._state = _BODY
            self._reader = ChunkedBody() if length == CHUNKED else CountedBody(length)
            self._set_deadline()
        self._sinkable = True
        self._room = self._factory.site.begin(exchange)
        self._sinkable = False
        if self._exchange is not exchange or exchange.answered:
            return
        if length > self._room:
            raise Refused(413, f"The body is longer than {self._room} bytes.")
        if exchange.expects and not self._buffer:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not length:
            self._body_done()

    def _read_body(self) -> bool:
        reader, exchange = self._reader, self._exchange
        data, self._buffer = reader.feed(self._buffer)
        if exchange is not None and not exchange.answered:
            self._room -= len(data)
            if self._room < 0:
                raise Refused(413, "The body is too long.")
            if self._sink is not None:
                if data:
                    self._sink.write(data)
            elif reader.done and self._body is None:
                exchange.body = data  # all of it in one read
            else:
                self._store(data)
        if self._state != _BODY:
            return False  # the sink answered, and the connection closes
        if reader.done:
            self._body_done()
        return reader.done  # else what is left over is half a line

    def _store(self, data: bytes) -> None:
        if self._body is None:
            self._body = bytearray()
        self._body += data
        self._factory.body_bytes += len(data)
        if self._factory.body_bytes > self._factory.limits.body_memory:
            raise Refused(503, "Too many large requests at once.")

    def _body_done(self) -> None:
        exchange, sink = self._exchange, self._sink
        self._reader = self._sink = None
        if exchange is None:
            self._next()  # it was answered before its body ended
            return
        self._state = _ANSWER
        self._set_deadline()
        if sink is not None and not exchange.answered:
            sink.finished()
        elif self._body is not None:
            exchange.body = bytes(self._body)
            self._free_body()
        if not exchange.answered and exchange is self._exchange:
            self._factory.site.handle(exchange)

    def _free_body(self) -> None:
        if self._body is not None:
            self._factory.body_bytes -= len(self._body)
            self._body = None

    def _next(self) -> None:
        if not self._factory.open:
            self.close()
            return
        self._state = _HEAD
        self._partial = bool(self._buffer)
        self._set_deadline()
        self._advance()

    def take_sink(self, sink: Sink) -> bool:
        if self._sinkable:
            self._sink = sink
        return self._sinkable

    def pause_body(self, paused: bool) -> None:
        self._paused = paused and self._state == _BODY
        self._set_deadline()
        self._advance()

    # Writing

    def prepare_head(self, exchange: Exchange, status: int, headers: Headers, framing: bytes) -> None:
        """Builds the head of an answer; it is sent by send_answer or send_stream."""
        if self._state == _BODY and not self._can_drain(exchange):
            self.keep = False
        self._head = self._factory.head(status, headers, framing, self.keep)

    def _can_drain(self, exchange: Exchange) -> bool:
        # A client that waits for "100 Continue" may send its body or not: nobody knows what comes next.
        reader = self._reader
        return (
            isinstance(reader, CountedBody) and reader.left <= self._factory.limits.drain_bytes and not exchange.expects
        )

    def send_answer(self, parts: Iterable[bytes], length: int) -> None:
        self._release_reading()
        if length > _PIECE:
            self._out = deque((self._head, *parts))
            self._pump()
        else:
            self._write(b"".join((self._head, *parts)))
            self.answer_done()

    def send_stream(self, writer: BodyWriter) -> None:
        self._release_reading()
        self._writer = writer
        self._transport.write(self._head)
        self._advance()

    def _release_reading(self) -> None:
        """Once it is answered a request's body is dropped, so no sink holds it back any more."""
        self._sink = None
        self._free_body()
        if self._paused:
            self._paused = False
            self._set_deadline()

    def _write(self, data: bytes) -> None:
        # Most answers fit into the socket's buffer. Sending at once saves two epoll_ctl and a turn of the reactor;
        # only when the transport holds nothing, so that no byte overtakes another.
        transport = self._transport
        if self._direct and not transport.dataBuffer and not transport._tempDataLen:
            sent = transport.writeSomeData(data)
            if isinstance(sent, int):
                if sent == len(data):
                    return
                data = data[sent:]
        transport.write(data)

    def write_parts(self, parts: Iterable[bytes]) -> None:
        self._transport.writeSequence(parts)

    def _pump(self) -> None:
        """Hands a large answer to the transport as fast as that gets rid of it."""
        out = self._out
        while out and not self.choked:
            piece = out.popleft()
            if len(piece) > _PIECE:
                view = memoryview(piece)
                out.appendleft(view[_PIECE:])
                piece = view[:_PIECE]
            self._transport.write(bytes(piece))
        if not out and self._out is not None:
            self._out = None
            self.answer_done()

    def answer_done(self) -> None:
        """The answer is wholly in the hands of the transport."""
        exchange, self._exchange, self._writer = self._exchange, None, None
        if exchange is not None:
            exchange.end(disconnected=False)
        if not self.keep:
            self.close(linger=self._state == _BODY or self._buffer != b"")
        elif self._state == _ANSWER:
            self._next()
        else:
            self._advance()  # drop the rest of the body

    # Endings

    def refuse(self, status: int, reason: str) -> None:
        """Answers in place of the site, and closes: where the next request begins is not certain any more."""
        if self._state >= _LINGER:
            return
        if self._exchange is not None and self._exchange.answered:
            self.abort()  # in the midst of an answer
            return
        if self._exchange is None and self._state == _BODY:
            self.close(linger=True)  # answered already, and the rest of its body did not come
            return
        self._drop_exchange(reason)
        headers, body = self._factory.site.refuse(status, reason)
        self._write(self._factory.head(status, headers, b"Content-Length: %d\r\n" % len(body), keep=False) + body)
        self.close(linger=True)

    def _drop_exchange(self, reason: str) -> None:
        """The running exchange gets no answer: tell all who wait on it."""
        exchange, sink, writer = self._exchange, self._sink, self._writer
        self._exchange = self._sink = self._writer = self._reader = None
        self._free_body()
        if sink is not None:
            sink.aborted(reason)
        if writer is not None:
            writer.lost()
        if exchange is not None:
            exchange.end(disconnected=True)

    def close(self, linger: bool = False) -> None:
        """Closes once everything is sent. With `linger` what the client still sends is read and dropped for a while:
        closing on unread bytes resets the connection, and the client would never see its answer (RFC 9112, 9.6)."""
        self._buffer = b""
        self._paused = False
        self._state = _LINGER if linger else _CLOSING
        limits = self._factory.limits
        self.deadline = self._factory.now() + (limits.linger_seconds if linger else limits.write_seconds)
        self._transport.unregisterProducer()
        if not linger:
            self._transport.loseConnection()
        elif self._direct:
            self._transport.loseWriteConnection()

    def abort(self) -> None:
        self._state = _CLOSING
        self.deadline = inf
        self._buffer = b""
        self._drop_exchange("The connection was broken off.")
        self._transport.unregisterProducer()
        self._transport.abortConnection()

    def shut_down(self) -> None:
        """The server is stopping: finish the request in work, if any, and close."""
        self.keep = False
        if self._state == _HEAD:
            self.close()

    def _set_deadline(self) -> None:
        """When the client will have waited too long with what it has to do next; never while it is our turn."""
        limits = self._factory.limits
        if self.choked:
            seconds = limits.write_seconds
        elif self._state == _HEAD:
            seconds = limits.head_seconds if self._partial else limits.idle_seconds
        elif self._state == _BODY and not self._paused:
            seconds = limits.body_seconds
        else:
            self.deadline = inf
            return
        self.deadline = self._factory.now() + seconds

    def timed_out(self) -> None:
        if self._state == _LINGER:
            self.close()
        elif self._state == _CLOSING or self.choked:
            self.abort()
        elif self._state == _BODY or self._partial:
            self.refuse(408, "The request took too long to arrive.")
        else:
            self.close()
