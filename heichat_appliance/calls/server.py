"""The built-in STUN and TURN server: listeners around one set of allocations."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from heichat_appliance.calls.allocations import Allocations, Client, Limits
from heichat_appliance.calls.budgets import Bucket, Ledger
from heichat_appliance.calls.credentials import Nonces
from heichat_appliance.calls.forwarding import Forwarder
from heichat_appliance.calls.policy import PeerPolicy
from heichat_appliance.calls.requests import Requests
from heichat_appliance.calls.stun import IPV4, IPV6
from heichat_appliance.calls.transports import SOCKET_BUFFER, Listener, Ports, is_local, open_udp
from heichat_appliance.ratelimit import address_key

log = Logger()


class Core:
    """What all transports share."""

    def __init__(self, requests: Requests, allocations: Allocations, forwarder: Forwarder) -> None:
        self.requests, self.allocations, self.forwarder = requests, allocations, forwarder
        self.ledger = Ledger()

    def datagram(self, data: bytes, client: Client) -> None:
        """A STUN message over UDP; what is sent to somebody unproven is paid for by what came. Never raises."""
        try:
            now = time.monotonic()
            answer = self.requests.handle(data, client, now, time.time())
            host = address_key(client.address[0])
            self.ledger.received(host, len(data), now)
            if answer is not None and (answer.proven or self.ledger.may_send(host, len(answer.data))):
                client.send(answer.data)
        except Exception:
            log.failure("a STUN message could not be answered")

    def message(self, data: bytes, client: Client) -> None:
        """A STUN message over a connection. Never raises."""
        try:
            answer = self.requests.handle(data, client, time.monotonic(), time.time())
            if answer is not None:
                client.send(answer.data)
        except Exception:
            log.failure("a STUN message could not be answered")


class CallServer:
    """Listens while it runs. `ports` are the listeners, each with its address."""

    def __init__(
        self,
        reactor: Any,
        *,
        listen: Sequence[str],
        secret: str,
        realm: str,
        relay_ports: tuple[int, int] = (49152, 65535),
        external_addresses: Iterable[str] = (),
        allow_private: bool = False,
        allowed_peers: Iterable[str] = (),
        limits: Limits = Limits(),  # noqa: B008  (frozen)
    ) -> None:
        """Nothing is opened yet.

        `listen` has `udp:3478`, `tcp:3478`, `tls:5349:privateKey=…:certKey=…`, each with `:interface=…` if wanted; `secret` is
        shared with `credentials`; `external_addresses` are at most one IPv4 and one IPv6 address that NAT shows;
        `allowed_peers` are networks (`192.0.2.0/24`) that may be peers whatever the policy says.
        """
        external = {IPV6 if ip_address(each).version == 6 else IPV4: each for each in external_addresses}
        self._reactor, self._listen = reactor, listen
        allocations = Allocations(limits)
        forwarder = Forwarder(allocations.by_relay, Bucket(time.monotonic, limits.total_bandwidth))
        policy = PeerPolicy(is_local, external=external.values(), allow_private=allow_private, allowed=allowed_peers)
        requests = Requests(
            secret=secret,
            realm=realm,
            nonces=Nonces(os.urandom(32)),
            policy=policy,
            allocations=allocations,
            forwarder=forwarder,
            opener=Ports(reactor, *relay_ports, external, forwarder),
            bucket=lambda: Bucket(time.monotonic, limits.bandwidth),
        )
        self.core = Core(requests, allocations, forwarder)
        self.ports: list[Listener] = []
        self._sweep = LoopingCall(lambda: allocations.expire(time.monotonic()))
        self._sweep.clock = reactor

    async def start(self) -> None:
        """Listen. Raises OSError."""
        for text in self._listen:
            _kind, port, *arguments = text.split(":", 2)
            host = "".join(arguments).removeprefix("interface=").replace("\\:", ":")
            for family, address in ((IPV4, "0.0.0.0"), (IPV6, "::")):
                if host and (":" in host) != (family == IPV6):
                    continue
                opened = open_udp(family, host or address, int(port), SOCKET_BUFFER)
                listener = Listener(self._reactor, opened, self.core)
                self._reactor.addReader(listener)
                self.ports.append(listener)
        self._sweep.start(1, now=False)

    def describe(self) -> Iterator[str]:
        """What the start prints."""
        for port in self.ports:
            yield f"calls: listening on {port.address}"

    async def stop(self) -> None:
        """End all allocations and close every socket."""
        if self._sweep.running:
            self._sweep.stop()
        self.core.allocations.clear()
        for port in self.ports:
            port.close()
        self.ports.clear()
