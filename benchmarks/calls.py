"""Simultaneous audio calls through a relay: how much later than the fastest a packet comes, and whether all come."""

from __future__ import annotations

import select
import socket
import struct
import time
from dataclasses import dataclass, field

from .turn import TIMESTAMPS, Client, Relay, frame, udp

CALLS, PER_SECOND = 20, 50
#: RTP of 20 ms G.711 or rich Opus: a header of 12 bytes and 160 of sound.
PACKET = 172
_STAMP = struct.Struct("=qq")


@dataclass
class Direction:
    """Packets from one person to another."""

    source: Client | socket.socket
    target: Client | socket.socket
    sent: int = 0
    delays: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.framed = isinstance(self.source, Client)
        self.out, self.end = (one.socket if isinstance(one, Client) else one for one in (self.source, self.target))

    def send(self) -> None:
        """One packet, with its number and the time."""
        data = _STAMP.pack(self.sent, time.time_ns()).ljust(PACKET, b"\0")
        self.sent += 1
        self.out.send(frame(data) if self.framed else data)

    def take(self, data: bytes, came: int) -> None:
        """A packet that came at `came`, nanoseconds since 1970."""
        _, began = _STAMP.unpack_from(data, len(data) - PACKET)
        self.delays.append(came - began)


@dataclass(frozen=True)
class Jitter:
    """Milliseconds; `lost` of `sent` packets."""

    p50: float
    p99: float
    most: float
    sent: int
    lost: int


def jitter(relay: Relay | None, seconds: int) -> Jitter:
    """Let all calls go on for so long. None: without a server, which shows what the load does by itself."""
    directions = [one for number in range(CALLS) for one in call(relay, number)]
    by_socket = {one.end.fileno(): one for one in directions}
    ready = select.epoll()
    for number in by_socket:
        ready.register(number, select.EPOLLIN)
    packets = seconds * PER_SECOND * len(directions)
    began, gap = time.perf_counter() + 0.1, 1 / PER_SECOND / len(directions)
    for number in range(packets):
        while (rest := began + number * gap - time.perf_counter()) > 0:
            receive(ready, by_socket, rest)
        directions[number % len(directions)].send()
    end = time.perf_counter() + 2
    while time.perf_counter() < end and sum(len(one.delays) for one in directions) < packets:
        receive(ready, by_socket, 0.1)
    for one in directions:
        one.source.close()
    late = sorted((delay - min(one.delays)) / 1e6 for one in directions for delay in one.delays)
    return Jitter(late[len(late) // 2], late[len(late) * 99 // 100], late[-1], packets, packets - len(late))


def call(relay: Relay | None, number: int) -> tuple[Direction, Direction]:
    """Both directions of one call: with an even number between two relays, else between a relay and a peer without."""
    if relay is None:
        one, other = udp(), udp()
        one.connect(other.getsockname())
        other.connect(one.getsockname())
        return Direction(one, other), Direction(other, one)
    first = Client(relay, f"@caller{number}:bench", time.time())
    if number % 2:
        peer = udp()
        first.bind(peer.getsockname())
        peer.connect(first.relayed)
        return Direction(first, peer), Direction(peer, first)
    second = Client(relay, f"@callee{number}:bench", time.time())
    first.bind(second.relayed)
    second.bind(first.relayed)
    return Direction(first, second), Direction(second, first)


def receive(ready: select.epoll, by_socket: dict[int, Direction], seconds: float) -> None:
    """Take what has come, or comes within so long."""
    for number, _ in ready.poll(seconds):
        direction = by_socket[number]
        data, ancillary, _, _ = direction.end.recvmsg(2048, 64)
        for _, kind, stamp in ancillary:
            if kind == TIMESTAMPS:
                whole, nanoseconds = _STAMP.unpack(stamp)
                direction.take(data, whole * 10**9 + nanoseconds)


def table(rows: list[tuple[str, Jitter]]) -> str:
    """All figures."""
    lines = [
        f"| {CALLS} calls, {PER_SECOND} packets/s each way | jitter p50 ms | p99 ms | max ms | packets | lost |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, one in rows:
        lines.append(f"| {name} | {one.p50:.3f} | {one.p99:.2f} | {one.most:.1f} | {one.sent:,} | {one.lost} |")
    return "\n".join(lines)
