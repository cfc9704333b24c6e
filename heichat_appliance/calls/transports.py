"""UDP: the sockets that clients send to, and those that peers see. Each is read in batches, into one buffer.

Twisted's DatagramProtocol makes objects for each datagram; these readers are registered with the reactor themselves, and a
ChannelData frame passes from `recvfrom_into` to `sendto` through a few dictionary lookups. A batch is bounded, so that
neither chat nor other sockets wait for a busy one.
"""

from __future__ import annotations

import errno
import random
import socket
import time
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer  # type: ignore[import-untyped]

from heichat_appliance.calls.allocations import Allocation, Client, Relay
from heichat_appliance.calls.stun import IPV4, IPV6, Address

if TYPE_CHECKING:
    from heichat_appliance.calls.forwarding import Forwarder
    from heichat_appliance.calls.server import Core

log = Logger()

#: Datagrams that one socket may take from the kernel before others have their turn: about a millisecond.
BATCH = 32
#: The largest datagram. Four bytes in front of it are the room for a ChannelData header.
MAX_DATAGRAM = 65535
#: What the kernel holds while the process does something else, in bytes: some 0.3 s of a hundred video calls.
SOCKET_BUFFER = 4 * 1024 * 1024
RELAY_BUFFER = 512 * 1024

FAMILIES = {IPV4: socket.AF_INET, IPV6: socket.AF_INET6}
#: Linux' <linux/in.h>: the options, and whether to fragment. Python has no names for them.
_MTU_DISCOVER = {IPV4: (socket.IPPROTO_IP, 10), IPV6: (socket.IPPROTO_IPV6, 23)}
_FRAGMENT, _DONT_FRAGMENT = 0, 2


def open_udp(family: int, host: str, port: int, buffer: int) -> socket.socket:
    """A bound, non-blocking UDP socket of one family alone. Raises OSError."""
    opened = socket.socket(FAMILIES[family], socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        if family == IPV6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        opened.bind((host, port))
    except BaseException:
        opened.close()
        raise
    return opened


@implementer(IReadDescriptor)
class Reader:
    """A UDP socket that the reactor reads."""

    def __init__(self, reactor: Any, opened: socket.socket) -> None:
        self._reactor, self._socket = reactor, opened
        self._open = True
        self._quiet_until = 0.0
        self._batch, self._full = 1, 0

    def fileno(self) -> int:
        """For the reactor."""
        return self._socket.fileno() if self._open else -1

    def logPrefix(self) -> str:
        """For the reactor."""
        return "calls"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops."""
        self.close()

    def doRead(self) -> None:
        """For the reactor: a batch of datagrams. An error in our own code must not end the listening."""
        try:
            self.read_batch()
        except Exception:
            if time.monotonic() > self._quiet_until:  # never a line for each datagram
                self._quiet_until = time.monotonic() + 60
                log.failure("a datagram could not be handled")

    def read_batch(self) -> None:
        """Take at most `_batch` datagrams, pass them on and tell `_took`."""
        raise NotImplementedError

    def _took(self, number: int) -> None:
        """Fit the batch to what comes. To find a socket empty costs a tenth of a packet, so it is not asked after each."""
        if number < self._batch:
            self._batch, self._full = number or 1, 0
        elif self._batch < BATCH:
            self._full += 1
            if self._full >= 4:
                self._batch, self._full = min(BATCH, 2 * self._batch), 0

    def close(self) -> None:
        """Stop reading and give the port back."""
        if self._open:
            self._reactor.removeReader(self)
            self._open = False
            self._socket.close()


class Listener(Reader):
    """A socket that clients send to over UDP."""

    def __init__(self, reactor: Any, opened: socket.socket, core: Core) -> None:
        super().__init__(reactor, opened)
        self._core = core
        self._buffer = bytearray(MAX_DATAGRAM)
        self._view = memoryview(self._buffer)
        self.address: Address = opened.getsockname()
        #: What the system granted of `SOCKET_BUFFER`.
        self.buffer_bytes = opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    def read_batch(self) -> None:
        """From clients."""
        buffer, view, core = self._buffer, self._view, self._core
        receive, by_client, to_peer = self._socket.recvfrom_into, core.allocations.by_client, core.forwarder.to_peer
        for number in range(self._batch):
            try:
                size, address = receive(buffer)
            except OSError:  # nothing left, or an ICMP error about something sent before
                self._took(number)
                return
            if 0x40 <= buffer[0] <= 0x7F and size >= 4:
                allocation = by_client.get((self, address))
                if allocation is not None:
                    peer = allocation.channels.get(buffer[0] << 8 | buffer[1])
                    end = 4 + (buffer[2] << 8 | buffer[3])
                    if peer is not None and end <= size:
                        to_peer(allocation, peer, view[:end])
            elif size >= 20 and buffer[0] < 4:
                self._message(bytes(view[:size]), address)
        self._took(self._batch)

    def _message(self, data: bytes, address: Address) -> None:
        def send(frame: bytes | memoryview) -> None:
            try:
                self._socket.sendto(frame, address)
            except OSError:
                pass  # a full buffer or an unreachable client: lost, as datagrams are

        answer = self._core.datagram(data, Client((self, address), address, send))
        if answer is not None:
            send(answer)


class RelaySocket(Reader):
    """A relayed transport address."""

    #: What all relays read into: a frame is passed on before the next is read.
    _buffer = bytearray(4 + MAX_DATAGRAM)

    def __init__(
        self, reactor: Any, opened: socket.socket, address: Address, ports: Ports, forwarder: Forwarder
    ) -> None:
        super().__init__(reactor, opened)
        self.address = address
        self._ports, self._forwarder = ports, forwarder
        self._allocation: Allocation | None = None
        self._mtu_discover = _MTU_DISCOVER[IPV4 if len(address) == 2 else IPV6]

    def attach(self, allocation: Allocation) -> None:
        """Hand what arrives to this allocation from now on."""
        self._allocation = allocation
        self._reactor.addReader(self)

    def read_batch(self) -> None:
        """From peers."""
        view, allocation, from_peer = memoryview(self._buffer), self._allocation, self._forwarder.from_peer
        receive, room = self._socket.recvfrom_into, view[4:]
        assert allocation is not None
        for number in range(self._batch):
            try:
                size, peer = receive(room)
            except OSError:
                self._took(number)
                return
            from_peer(allocation, peer, view[: 4 + size])
        self._took(self._batch)

    def send(self, data: bytes | memoryview, peer: Address, *, dont_fragment: bool = False) -> None:
        """Send one datagram to a peer; what cannot be sent is lost."""
        try:
            if not dont_fragment:
                self._socket.sendto(data, peer)
                return
            self._socket.setsockopt(*self._mtu_discover, _DONT_FRAGMENT)
            try:
                self._socket.sendto(data, peer)
            finally:
                self._socket.setsockopt(*self._mtu_discover, _FRAGMENT)
        except OSError:
            pass

    def close(self) -> None:
        """Stop relaying and give the port back."""
        super().close()
        self._ports.closed(self.address)


class Ports:
    """Opens relays in a range of ports."""

    #: Whether single datagrams can be sent with the bit "don't fragment" (Linux).
    dont_fragment = hasattr(socket, "SO_BINDTODEVICE")

    def __init__(self, reactor: Any, first: int, last: int, external: dict[int, str], forwarder: Forwarder) -> None:
        """`external` has for each family (IPV4, IPV6) the address under which NAT shows this server, where it does."""
        self._reactor, self._forwarder = reactor, forwarder
        self._range, self._external = range(first, last + 1), external
        self._used: dict[int, set[int]] = {IPV4: set(), IPV6: set()}

    def supports(self, family: int, client: Client) -> bool:
        """Whether this machine has an address of the family that peers could reach."""
        return self._host(family, client) is not None

    def open(self, family: int, client: Client, *, even: bool) -> Relay | None:
        """A relay on a random free port (RFC 8656 section 7.2: one that cannot be guessed)."""
        for port in self._candidates(family):
            if not even or port % 2 == 0:
                relay = self._open(family, client, port)
                if relay is not None:
                    return relay
        return None

    def open_pair(self, family: int, client: Client) -> tuple[Relay, Relay] | None:
        """Relays on an even port and the next one."""
        for port in self._candidates(family):
            if port % 2 == 0 and port + 1 in self._range and port + 1 not in self._used[family]:
                first = self._open(family, client, port)
                second = first and self._open(family, client, port + 1)
                if first and second:
                    return first, second
                if first:
                    first.close()
        return None

    def closed(self, address: Address) -> None:
        """A relay gave its port back."""
        self._used[IPV4 if len(address) == 2 else IPV6].discard(address[1])

    def _candidates(self, family: int) -> list[int]:
        """Free ports in random order; few of them, as most will do."""
        used = self._used[family]
        if len(used) * 2 < len(self._range):
            return [port for port in random.SystemRandom().choices(self._range, k=64) if port not in used]
        free = [port for port in self._range if port not in used]
        random.SystemRandom().shuffle(free)
        return free[:64]

    def _open(self, family: int, client: Client, port: int) -> RelaySocket | None:
        host = self._host(family, client)
        if host is None:
            return None
        bound = ("0.0.0.0" if family == IPV4 else "::") if family in self._external else host
        try:
            opened = open_udp(family, bound, port, RELAY_BUFFER)
            opened.setsockopt(*_MTU_DISCOVER[family], _FRAGMENT)
        except OSError:
            return None
        self._used[family].add(port)
        address: Address = (host, port) if family == IPV4 else (host, port, 0, 0)
        return RelaySocket(self._reactor, opened, address, self, self._forwarder)

    def _host(self, family: int, client: Client) -> str | None:
        """The address of a relay: the external one, or this machine's on the way to the client, or its usual one."""
        if family in self._external:
            return self._external[family]
        towards = client.address[0].partition("%")[0]
        if (":" in towards) != (family == IPV6):
            towards = "192.0.2.1" if family == IPV4 else "2001:db8::1"  # any address beyond the router
        return local_address(family, towards)


def local_address(family: int, towards: str) -> str | None:
    """This machine's address on the way to a host; None when there is no way. Sends nothing."""
    try:
        with socket.socket(FAMILIES[family], socket.SOCK_DGRAM) as probe:
            probe.connect((towards, 9))
            host: str = probe.getsockname()[0]
            return host
    except OSError:
        return None


def is_local(host: str) -> bool:
    """Whether an address is one of this machine's, at this moment: only then can it be bound. True when in doubt."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True


def has_ipv6() -> bool:
    """Whether this machine speaks IPv6 at all."""
    try:
        open_udp(IPV6, "::", 0, RELAY_BUFFER).close()
    except OSError:
        return False
    return True
