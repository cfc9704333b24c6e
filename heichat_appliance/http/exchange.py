"""What the server and a site share: one request and its answer (`Exchange`), the `Site`, and where bodies go.

Sources: RFC 9110 (semantics), RFC 9112 (HTTP/1.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from .framing import Head

if TYPE_CHECKING:
    from .connection import Connection

Headers = Sequence[tuple[bytes, bytes]]

_BODILESS = frozenset({204, 304})


class Site(Protocol):
    """What the server serves."""

    def begin(self, exchange: Exchange) -> int:
        """The head is complete. Returns the most bytes of body it takes (more is answered 413). May answer at once."""

    def handle(self, exchange: Exchange) -> None:
        """The body is complete. Must answer, now or later."""

    def refuse(self, status: int, reason: str) -> tuple[Headers, bytes]:
        """Headers and body of an answer that the server gives itself."""


class Sink(Protocol):
    """Takes a body as it comes (Exchange.receive_into). Exactly one of finished and aborted is called, or neither
    if the request is answered before its body ended."""

    def write(self, data: bytes) -> None: ...

    def finished(self) -> None: ...

    def aborted(self, reason: str) -> None: ...


class Exchange(Head):
    """One request and its answer; besides these the attributes of Head (method, path, query, headers).

    peer, peer_port  address of the other end of the connection; "" and 0 on a Unix socket
    secure           it came over TLS
    body             the whole body once Site.handle is called; b"" if it went to a sink
    context          for the site's use; dropped when the exchange is over
    on_disconnect    called once if the client goes away or fails to send its body, or the server breaks off, before
                     the answer is complete
    answered         respond or respond_stream was called
    """

    __slots__ = ("_connection", "answered", "body", "context", "on_disconnect", "peer", "peer_port", "secure")

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self.answered = False
        self.body = b""
        self.context: Any = None
        self.on_disconnect: Callable[[], None] | None = None
        self.peer = connection.peer
        self.peer_port = connection.peer_port
        self.secure = connection.secure

    def respond(self, status: int, headers: Headers, body: bytes | Sequence[bytes] = b"") -> None:
        """Answers at once; the server adds Server, Date, Content-Length and Connection. Does nothing if the client is
        gone. Raises ValueError on a header that would break the answer apart, RuntimeError on a second answer."""
        parts = (body,) if isinstance(body, bytes) else body
        length = sum(map(len, parts))
        bodiless = status in _BODILESS
        connection = self._start(status, headers, b"" if bodiless else b"Content-Length: %d\r\n" % length)
        if connection is not None:
            connection.send_answer(() if bodiless or self.method == "HEAD" else parts, length)

    def respond_stream(self, status: int, headers: Headers, length: int | None) -> BodyWriter:
        """Answers with a body that is written bit by bit: of `length` bytes, or in chunks when that is None."""
        chunked = length is None and not self.http10
        if status in _BODILESS:
            framing = b""
        elif length is not None:
            framing = b"Content-Length: %d\r\n" % length
        else:
            framing = b"Transfer-Encoding: chunked\r\n" if chunked else b""
        if length is None and self.http10 and self._connection is not None:
            self._connection.keep = False  # the end of the connection is the end of the body
        connection = self._start(status, headers, framing)
        silent = self.method == "HEAD" or status in _BODILESS
        writer = BodyWriter(connection, None if silent else length, chunked, silent)
        if connection is not None:
            connection.send_stream(writer)
        return writer

    def _start(self, status: int, headers: Headers, framing: bytes) -> Connection | None:
        if self.answered:
            raise RuntimeError("The request was answered already.")
        if self._connection is not None:
            self._connection.prepare_head(self, status, headers, framing)
        self.answered = True
        return self._connection

    def receive_into(self, sink: Sink) -> None:
        """Sends the body to `sink` as it comes; only inside Site.begin. Site.handle is still called at the end."""
        if self._connection is None or not self._connection.take_sink(sink):
            raise RuntimeError("receive_into belongs into Site.begin.")

    def pause(self) -> None:
        """No more body for the sink until resume(): the client has to wait."""
        if self._connection is not None:
            self._connection.pause_body(True)

    def resume(self) -> None:
        if self._connection is not None:
            self._connection.pause_body(False)

    def end(self, disconnected: bool) -> None:
        """For the connection: the exchange is over."""
        self._connection = None
        self.context = None  # it mostly refers to the exchange: no work for the garbage collector
        callback, self.on_disconnect = self.on_disconnect, None
        if disconnected and callback is not None:
            callback()


@implementer(IConsumer)
class BodyWriter:
    """Body of a streamed answer: write and finish, or a Twisted producer (push or pull) and finish.

    Everything is ignored once the client is gone; a producer is then told to stop.
    """

    __slots__ = ("_chunked", "_connection", "_left", "_producer", "_pulling", "_push", "_silent", "_wrote")

    def __init__(self, connection: Connection | None, left: int | None, chunked: bool, silent: bool) -> None:
        self._connection = connection
        self._left = left
        self._chunked = chunked
        self._silent = silent
        self._producer: Any = None
        self._push = self._pulling = self._wrote = False

    def write(self, data: bytes) -> None:
        """Raises ValueError, and breaks the connection off, if this is more than the length that was promised."""
        connection = self._connection
        if connection is None or not data:
            return
        self._wrote = True
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                self.abort()
                raise ValueError("More body than the length that was promised.")
        if not self._silent:
            connection.write_parts((b"%x\r\n" % len(data), data, b"\r\n") if self._chunked else (data,))
        if self._producer is not None and not self._push:
            self._pull()

    def finish(self) -> None:
        """The body is complete. If it is shorter than promised the connection is broken off."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is None:
            return
        if self._left:
            connection.abort()
            raise ValueError("Less body than the length that was promised.")
        if self._chunked and not self._silent:
            connection.write_parts((b"0\r\n\r\n",))
        connection.answer_done()

    def abort(self) -> None:
        """Breaks the connection off, so that the client knows that the body is not complete."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            connection.abort()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("A producer is registered already.")
        if self._connection is None:
            producer.stopProducing()
            return
        self._producer, self._push = producer, streaming
        if not streaming:
            self._wrote = True
            self._pull()
        elif self._connection.choked:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        self._producer = None

    def _pull(self) -> None:
        # A pull producer gives one piece each time it is asked, at once or later; asking from within its own write
        # would nest without end.
        if self._pulling:
            return
        self._pulling = True
        try:
            while self._wrote and self._producer is not None and self._connection is not None:
                if self._connection.choked:
                    return
                self._wrote = False
                self._producer.resumeProducing()
        finally:
            self._pulling = False

    def room(self, there_is: bool) -> None:
        """For the connection: the transport takes more, or takes no more."""
        if self._producer is None:
            return
        if not self._push:
            self._pull()
        elif there_is:
            self._producer.resumeProducing()
        else:
            self._producer.pauseProducing()

    def lost(self) -> None:
        """For the connection: the client is gone."""
        self._connection = None
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
