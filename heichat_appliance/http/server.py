"""A small HTTP/1.1 server for Twisted endpoints (TCP, TLS, Unix), and nothing besides that.

`HTTPFactory` is given to endpoints, a `Site` is what it serves, an `Exchange` is one request and its answer. Four
modules: `framing` (where requests begin and end, and which are refused), `exchange`, `connection`, and this one.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from ipaddress import IPv6Address
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocolNegotiationFactory, IReactorTime
from twisted.internet.protocol import Factory
from zope.interface import implementer

from .connection import Connection, Limits
from .exchange import BodyWriter, Exchange, Headers, Sink, Site

__all__ = ["BodyWriter", "Exchange", "HTTPFactory", "Headers", "Limits", "Sink", "Site"]

_SWEEP_SECONDS = 1.0
_BLOCKS_KEPT = 64  # nearly all answers have one of a handful
_SPARE_CONNECTIONS = 256  # beyond the limit: as many are told so (503), all others are dropped without a word


@implementer(IProtocolNegotiationFactory)
class HTTPFactory(Factory):
    """Serves `site` on whatever endpoints it is given to. `clock` gives time-outs and the header Date.

    For connections: limits, now, open (not stopping), body_bytes (held of bodies that are not complete), soon,
    welcome, farewell, head.
    """

    noisy = False

    def __init__(
        self, site: Site, clock: IReactorTime, *, limits: Limits | None = None, server_header: bytes = b"heiCHAT"
    ) -> None:
        self.site = site
        self.limits = limits or Limits()
        self.now: Callable[[], float] = clock.seconds
        self.open = True
        self.body_bytes = 0
        self._clock = clock
        self._server_header = server_header
        self._connections: set[Connection] = set()
        self._per_address: dict[str, int] = {}
        self._starts: dict[int, bytes] = {}  # status -> first lines of an answer, for as long as Date is right
        self._blocks: dict[Headers, bytes] = {}  # headers that were asked for -> their lines
        self._sweeping: Any = None
        self._gone: Deferred[None] | None = None

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._connections)

    def buildProtocol(self, addr: Any) -> Connection:
        return Connection(self)

    def acceptableProtocols(self) -> list[bytes]:
        """For ALPN (RFC 7301): browsers and curl offer it, and Twisted refuses a handshake that finds no match."""
        return [b"http/1.1"]

    def shut_down(self) -> Deferred[None]:
        """Lets requests in work be answered, closes all connections, and fires when they are gone. Cancelling the
        Deferred (e.g. by its addTimeout) breaks off those that are left. The ports must be closed by their owner."""
        self.open = False
        if not self._connections:
            return succeed(None)
        if self._gone is None:
            self._gone = Deferred(self._break_off)
            for connection in list(self._connections):
                connection.shut_down()
        return self._gone

    def _break_off(self, gone: Deferred[None]) -> None:
        self._gone = None
        for connection in list(self._connections):
            connection.abort()
        gone.callback(None)

    # For connections

    def welcome(self, connection: Connection) -> None:
        """Counts a new connection, and turns it away if there are too many."""
        limits, address = self.limits, _address_key(connection.peer)
        self._connections.add(connection)
        connection.address = address
        count = self._per_address[address] = self._per_address.get(address, 0) + 1
        if self._sweeping is None:
            self._sweep()
        crowded = address not in ("", *limits.unlimited_addresses) and count > limits.connections_per_address
        total = len(self._connections)
        if not (crowded or total > limits.connections or not self.open):
            return
        # A TLS handshake, or an answer to each of very many, would cost us more than the other side.
        if connection.secure or not self.open or total > limits.connections + _SPARE_CONNECTIONS:
            connection.abort()
        else:
            connection.refuse(503, "Too many connections.")

    def farewell(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        left = self._per_address[connection.address] - 1
        if left:
            self._per_address[connection.address] = left
        else:
            del self._per_address[connection.address]
        if not self._connections:
            if self._sweeping is not None:
                self._sweeping.cancel()
                self._sweeping = None
            gone, self._gone = self._gone, None
            if gone is not None:
                gone.callback(None)

    def soon(self, call: Callable[[], None]) -> None:
        """Calls in the next turn of the reactor."""
        self._clock.callLater(0, call)

    def _sweep(self) -> None:
        """Once a second: the clock hand of Date, and all time-outs."""
        self._sweeping = self._clock.callLater(_SWEEP_SECONDS, self._sweep)
        self._starts.clear()
        now = self.now()
        for connection in [c for c in self._connections if c.deadline <= now]:
            connection.timed_out()

    def head(self, status: int, headers: Headers, framing: bytes, keep: bool) -> bytes:
        """The head of an answer. ValueError if a header's name or value would end its line (response splitting)."""
        headers = tuple(headers)
        block = self._blocks.get(headers)
        if block is None:
            if len(self._blocks) >= _BLOCKS_KEPT:
                self._blocks.clear()
            block = self._blocks[headers] = _lines(headers)
        start = self._starts.get(status)
        if start is None:
            start = self._starts[status] = self._start(status)
        return b"".join((start, block, framing, b"\r\n" if keep else b"Connection: close\r\n\r\n"))

    def _start(self, status: int) -> bytes:
        reason = HTTPStatus(status).phrase
        date = formatdate(self.now(), usegmt=True)
        return b"HTTP/1.1 %d %b\r\nServer: %b\r\nDate: %b\r\n" % (
            *(status, reason.encode("ascii"), self._server_header),
            date.encode("ascii"),
        )


def _lines(headers: Headers) -> bytes:
    block = b"".join([b"%b: %b\r\n" % header for header in headers])
    lines = len(headers)
    if block.count(b"\n") != lines or block.count(b"\r") != lines or b"\0" in block:
        raise ValueError("A header of the answer holds a line break.")
    return block


def _address_key(peer: str) -> str:
    """What is counted as one address: of IPv6 the /64, for that is what one subscriber gets."""
    if ":" not in peer:
        return peer
    if peer == "::1":
        return peer
    return str(IPv6Address((int(IPv6Address(peer.partition("%")[0])) >> 64) << 64))
