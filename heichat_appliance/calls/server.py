"""The built-in STUN and TURN server: listeners around one set of allocations."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from heichat_appliance.calls.allocations import Allocations, Client, Limits
from heichat_appliance.calls.authentication import Authenticator
from heichat_appliance.calls.budgets import Bucket, Ledger
from heichat_appliance.calls.credentials import Nonces
from heichat_appliance.calls.forwarding import Forwarder
from heichat_appliance.calls.policy import PeerPolicy
from heichat_appliance.calls.requests import Requests
from heichat_appliance.calls.streams import StreamFactory
from heichat_appliance.calls.stun import IPV4, IPV6
from heichat_appliance.calls.transports import FAMILIES, SOCKET_BUFFER, Listener, Ports, has_ipv6, is_local, open_udp
from heichat_appliance.ratelimit import address_key

log = Logger()


class Core:
    """What all transports share."""

    def __init__(
        self,
        requests: Requests,
        allocations: Allocations,
        forwarder: Forwarder,
        *,
        now: Callable[[], float],
        wall: Callable[[], float],
        later: Callable[[Callable[[], None]], object],
    ) -> None:
        """`now` is monotonic, `wall` seconds since 1970; `later` calls a function when others have had their turn."""
        self.allocations, self.forwarder, self.now, self.later = allocations, forwarder, now, later
        self._requests, self._wall, self._ledger = requests, wall, Ledger()

    def datagram(self, data: bytes, client: Client) -> bytes | None:
        """The answer to a STUN message over UDP. What goes to somebody unproven is paid for by what came."""
        now = self.now()
        answer = self._requests.handle(data, client, now, self._wall())
        host = address_key(client.address[0])
        self._ledger.received(host, len(data), now)
        if answer is None or not (answer.proven or self._ledger.may_send(host, len(answer.data))):
            return None
        return answer.data

    def message(self, data: bytes, client: Client) -> bytes | None:
        """The answer to a STUN message over a connection, whose sender has proven to have the address."""
        answer = self._requests.handle(data, client, self.now(), self._wall())
        return answer and answer.data


class CallServer:
    """Listens while it runs."""

    def __init__(
        self,
        reactor: Any,
        *,
        listen: Sequence[tuple[str, str, int]],
        secret: str,
        realm: str,
        relay_ports: tuple[int, int] = (49152, 65535),
        external_addresses: Iterable[str] = (),
        allow_private: bool = False,
        allowed_peers: Iterable[str] = (),
        limits: Limits = Limits(),  # noqa: B008  (frozen)
        connections: int = 2000,
        connections_per_address: int = 200,
        tls_context: Any = None,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is opened yet.

        `listen` has (transport, host, port): transport udp, tcp or tls; host "" for all addresses, IPv4 and IPv6; port 0 for any
        free one. `secret` is shared with `credentials`. `realm` is better short: it goes to strangers. `external_addresses`
        are at most one IPv4 and one IPv6 address that NAT shows. `allowed_peers` are networks ("192.0.2.0/24") that may be
        peers whatever else the policy says. `tls_context` is Twisted's context factory for tls.
        """
        external = {IPV6 if ip_address(each).version == 6 else IPV4: each for each in external_addresses}
        self._reactor, self._listen, self._tls_context, self._now = reactor, listen, tls_context, now
        allocations = Allocations(limits)
        forwarder = Forwarder(allocations.by_relay, lambda: Bucket(now, limits.total_bandwidth))
        requests = Requests(
            authenticator=Authenticator(secret, realm, Nonces(os.urandom(32))),
            policy=PeerPolicy(is_local, external=external.values(), allow_private=allow_private, allowed=allowed_peers),
            allocations=allocations,
            forwarder=forwarder,
            opener=Ports(reactor, *relay_ports, external, forwarder),
            bucket=lambda: Bucket(now, limits.bandwidth),
        )
        self.core = Core(
            requests, allocations, forwarder, now=now, wall=wall, later=lambda call: reactor.callLater(0, call)
        )
        self._streams = StreamFactory(self.core, connections, connections_per_address)
        self._datagram_listeners: list[Listener] = []
        self._stream_listeners: list[tuple[str, Any]] = []
        self._sweeping = LoopingCall(self.sweep)
        self._sweeping.clock = reactor

    async def start(self) -> None:
        """Listen. Raises OSError, with nothing left open."""
        try:
            for transport, host, port in self._listen:
                if host:
                    self._open(transport, IPV6 if ":" in host else IPV4, host, port)
                else:
                    self._open(transport, IPV4, "0.0.0.0", port)
                    if has_ipv6():
                        self._open(transport, IPV6, "::", port)
        except BaseException:
            await self.stop()
            raise
        self._sweeping.start(1, now=False)

    def _open(self, transport: str, family: int, host: str, port: int) -> None:
        if transport == "udp":
            listener = Listener(self._reactor, open_udp(family, host, port, SOCKET_BUFFER), self.core)
            self._reactor.addReader(listener)
            self._datagram_listeners.append(listener)
            return
        factory: Any = self._streams
        if transport == "tls":
            factory = TLSMemoryBIOFactory(self._tls_context, isClient=False, wrappedFactory=factory)
            # A TLS record for each frame: Twisted's default collects writes, and coturn's client takes a record for a frame.
            factory.protocol = TLSMemoryBIOProtocol
            factory.noisy = False
        with socket.create_server((host, port), family=FAMILIES[family], backlog=1024) as opened:
            opened.setblocking(False)
            adopted = self._reactor.adoptStreamPort(opened.fileno(), FAMILIES[family], factory)
        self._stream_listeners.append((transport, adopted))

    def addresses(self) -> list[tuple[str, str, int]]:
        """What is listened on: (transport, host, port)."""
        streams = [(transport, port.getHost()) for transport, port in self._stream_listeners]
        return [
            *(("udp", listener.address[0], listener.address[1]) for listener in self._datagram_listeners),
            *((transport, address.host, address.port) for transport, address in streams),
        ]

    def describe(self) -> Iterator[str]:
        """What the start prints."""
        if any(listener.buffer_bytes < SOCKET_BUFFER for listener in self._datagram_listeners):
            yield f"calls: packets may get lost under load (hint: sysctl -w net.core.rmem_max={SOCKET_BUFFER})"
        for transport, host, port in self.addresses():
            yield f"calls: {transport} [{host}]:{port}" if ":" in host else f"calls: {transport} {host}:{port}"

    def sweep(self) -> None:
        """End what is over; once a second."""
        now = self._now()
        self.core.allocations.expire(now)
        self._streams.sweep(now)

    async def stop(self) -> None:
        """End all allocations and close every socket."""
        if self._sweeping.running:
            self._sweeping.stop()
        for listener in self._datagram_listeners:
            listener.close()
        for _, port in self._stream_listeners:
            await maybeDeferred(port.stopListening)
        self._datagram_listeners.clear()
        self._stream_listeners.clear()
        self._streams.close()
        self.core.allocations.clear()
