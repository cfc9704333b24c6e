"""TCP and TLS: STUN messages and ChannelData one after the other on a connection (RFC 8656 sections 3.1 and 12.5).

All that a client can make grow is bounded. Relayed data for a client that reads too slowly is lost, as it would be over UDP;
a client that does not even read its answers is disconnected.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer  # type: ignore[import-untyped]

from heichat_appliance.calls.allocations import Client
from heichat_appliance.calls.stun import COOKIE, Address
from heichat_appliance.ratelimit import address_key

if TYPE_CHECKING:
    from heichat_appliance.calls.server import Core

#: Frames of one connection that are handled before others have their turn.
BATCH = 32
#: No client has to send a larger STUN message before it has an allocation.
STRANGER_BYTES = 2048
#: What may wait to be handled.
MAX_BUFFER = 256 * 1024
#: Answers that are written while the client does not read.
MAX_UNREAD = 64
#: Seconds without an allocation and without a message, and seconds without reading, after which a connection is closed.
IDLE_SECONDS, STUCK_SECONDS = 30, 30

_COOKIE_BYTES = COOKIE.to_bytes(4, "big")


class BadStream(ValueError):
    """What comes is neither STUN nor ChannelData: the frames cannot be told apart any more."""


def frame_size(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """(bytes of the frame at `at`, bytes with its padding); (0, 0) when that cannot be said yet. Raises BadStream."""
    available = len(data) - at
    if available < 4:
        return 0, 0
    length = data[at + 2] << 8 | data[at + 3]
    if data[at] < 0x40:
        if length & 3 or not _COOKIE_BYTES.startswith(data[at + 4 : at + 8]):
            raise BadStream
        return 20 + length, 20 + length
    if data[at] < 0x80:
        return 4 + length, 4 + (length + 3 & ~3)
    raise BadStream


@implementer(IPushProducer)
class StreamClient(Protocol):
    """One connection. `sweep` closes it when it is of no use."""

    factory: Any  # the StreamFactory
    transport: Any

    def __init__(self, core: Core, address: Address, host: str) -> None:
        """`host` is what counts as one address."""
        self._core, self.host = core, host
        self._client = Client(self, address, self._relayed, connection=True)
        self._buffer = bytearray()
        self._busy = False
        self._slow_since = 0.0
        self._unread = 0
        self._heard = 0.0

    # -- the connection ------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Small frames are sent at once."""
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self._heard = self._core.now()
        self.factory.clients.add(self)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The allocation ends with its connection (RFC 8656 section 3.1)."""
        self.factory.gone(self)
        self._buffer.clear()
        allocation = self._core.allocations.by_client.get(self)
        if allocation is not None:
            self._core.allocations.remove(allocation)

    def pauseProducing(self) -> None:
        """The client reads more slowly than we write."""
        self._slow_since = self._core.now()

    def resumeProducing(self) -> None:
        """The client has caught up."""
        self._slow_since, self._unread = 0.0, 0

    def stopProducing(self) -> None:
        """The connection is lost."""

    def sweep(self, now: float) -> None:
        """Close what idles without an allocation, or does not read."""
        idle = self not in self._core.allocations.by_client and now - self._heard > IDLE_SECONDS
        if idle or (self._slow_since and now - self._slow_since > STUCK_SECONDS):
            self.transport.abortConnection()

    # -- frames --------------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Any piece of the stream."""
        self._buffer += data
        if len(self._buffer) > MAX_BUFFER:
            self.transport.abortConnection()
        elif not self._busy:
            self._handle_frames()

    def _handle_frames(self) -> None:
        """A batch of frames; if there are more, the others have their turn before."""
        if self._busy:
            self._busy = False
            self.transport.resumeProducing()
        at = 0
        try:
            for _ in range(BATCH):
                size, padded = frame_size(self._buffer, at)
                if not padded or len(self._buffer) - at < padded:
                    self._check_size(padded)
                    del self._buffer[:at]
                    return
                self._handle(bytes(self._buffer[at : at + size]))
                at += padded
        except BadStream:
            self._buffer.clear()
            self.transport.abortConnection()
            return
        del self._buffer[:at]
        if self._buffer:
            self._busy = True
            self.transport.pauseProducing()
            self._core.later(self._handle_frames)

    def _check_size(self, padded: int) -> None:
        if padded > STRANGER_BYTES and self not in self._core.allocations.by_client:
            raise BadStream

    def _handle(self, frame: bytes) -> None:
        if frame[0] < 0x40:
            self._heard = self._core.now()
            answer = self._core.message(frame, self._client)
            if answer is not None:
                self._answer(answer)
            return
        allocation = self._core.allocations.by_client.get(self)
        if allocation is not None:
            peer = allocation.channels.get(frame[0] << 8 | frame[1])
            if peer is not None:
                self._core.forwarder.to_peer(allocation, peer, memoryview(bytearray(frame)))

    def _answer(self, data: bytes) -> None:
        if self._slow_since:
            self._unread += 1
            if self._unread > MAX_UNREAD:
                self.transport.abortConnection()
                return
        self.transport.write(data)

    def _relayed(self, frame: bytes | memoryview) -> None:
        """A frame with data from a peer."""
        if not self._slow_since:
            self.transport.write(bytes(frame) + b"\0" * (-len(frame) & 3))


class StreamFactory(Factory):
    """Accepts connections, so many in all and from one address (IPv6: /64)."""

    noisy = False

    def __init__(self, core: Core, connections: int, connections_per_address: int) -> None:
        self._core, self._limit, self._limit_per_address = core, connections, connections_per_address
        self._of_address: Counter[str] = Counter()
        self.clients: set[StreamClient] = set()

    def buildProtocol(self, addr: Any) -> StreamClient | None:
        """None, which closes the connection at once, when there are too many."""
        host = address_key(addr.host)
        if len(self.clients) >= self._limit or self._of_address[host] >= self._limit_per_address:
            return None
        self._of_address[host] += 1
        address: Address = (addr.host, addr.port, 0, 0) if ":" in addr.host else (addr.host, addr.port)
        client = StreamClient(self._core, address, host)
        client.factory = self
        return client

    def gone(self, client: StreamClient) -> None:
        """A connection has ended."""
        self.clients.discard(client)
        self._of_address[client.host] -= 1
        if self._of_address[client.host] <= 0:
            del self._of_address[client.host]

    def sweep(self, now: float) -> None:
        """Close connections that are of no use."""
        for client in list(self.clients):
            client.sweep(now)

    def close(self) -> None:
        """Close all connections."""
        for client in list(self.clients):
            client.transport.abortConnection()
