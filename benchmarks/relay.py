"""What a relayed packet costs, beside coturn, and whether chat makes calls stutter.

    python -m benchmarks.relay [--quick] [--write]

CPU: user and system time of the server's process for each packet of 1,200 bytes that it takes in and passes on, in bursts of
32 (as video comes) and one at a time, 4,000 packets a second. Every packet is waited for at its end, by a process that does
not sleep: in a virtual machine, waking a process on the other core costs as much as the whole relaying, and no relay can
help it. Kinds: from a client to a peer, from a peer to a client, and from one client's relay to another's.

Calls: 20 at once, each with 50 packets of 172 bytes a second and direction, half of them between two relays, half between a
relay and somebody without one. Meanwhile people send 100 messages a second to a room of ten, who all wait for them. A
packet's delay is the kernel's time of its arrival less the clock before it was sent; jitter is a delay less the smallest
of its direction.

The server is pinned to core 0, all load to core 1. coturn is Debian's, with relay-threads=1. "Bare loop" is a Python program of
`recvfrom_into` and `sendto` and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import configparser
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from tests.clients.coturn import Coturn

from . import calls, report
from .client import Person
from .servers import SERVER_CORE, Heichat, alone
from .turn import Client, Relay, frame, udp

#: Where to send, where it comes out, and what to send.
Way = tuple[socket.socket, socket.socket, bytes]
#: Microseconds of CPU a packet, by kind and packets at a time.
Costs = dict[tuple[str, int], float]

SIZE, BURST = 1200, 32
#: Packets a second that are offered: as many as 20 calls send, so that the server sleeps between two of them.
PACE = 4000
PEOPLE = [f"m{number:04}" for number in range(10)]
BEGIN, END = "<!-- relay -->", "<!-- /relay -->"
KINDS = ["client to peer", "peer to client", "client to client, two relays"]


class RelayingHeichat(Heichat):
    """The appliance, which here may relay to loopback, with a bandwidth that is no limit but is counted."""

    def configure(self, fast_setup: bool) -> None:
        super().configure(fast_setup)
        config = configparser.ConfigParser(interpolation=None)
        config.read(self.folder / "heichat.ini")
        more = {"allow_networks": "127.0.0.0/8", "bandwidth": "2G", "bandwidth_per_allocation": "1G"}
        config["calls"].update(more, allocations_per_person="100")
        with (self.folder / "heichat.ini").open("w") as file:
            config.write(file)

    def relay(self) -> Relay:
        return Relay(self.name, self.calls_port, (self.folder / "data/calls.secret").read_text().strip(), self.pid())

    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.relay", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything, for a glance")
    parser.add_argument("--write", action="store_true", help="put the tables into benchmarks/README.md")
    parser.add_argument("--chat", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.chat:
        asyncio.run(chat(*options.chat))
        return
    with alone(), tempfile.TemporaryDirectory(prefix="heichat-bench-") as folder:
        text = asyncio.run(measure(Path(folder), options.quick))
    print(text)
    if options.write:
        report.write(text, BEGIN, END)


async def measure(folder: Path, quick: bool) -> str:
    packets, rounds, seconds = (3_000, 1, 5) if quick else (30_000, 5, 30)
    bare = echo(packets, rounds)
    with coturn(folder / "coturn") as relay:
        theirs = cpu(relay, packets, rounds)
        their_jitter = calls.jitter(relay, seconds)
    (folder / "heichat").mkdir()
    server = RelayingHeichat(folder / "heichat", PEOPLE)
    await server.start()
    try:
        ours = cpu(server.relay(), packets, rounds)
        quiet = calls.jitter(server.relay(), seconds)
        with chatting(server, await gather(server)):
            busy = calls.jitter(server.relay(), seconds)
    finally:
        server.stop()
    rows = [("no server", calls.jitter(None, seconds)), ("coturn", their_jitter), ("heiCHAT", quiet)]
    return f"{cpu_table(ours, theirs, bare)}\n\n{calls.table([*rows, ('heiCHAT, 100 messages/s', busy)])}\n\n{report.machine()}."


@contextmanager
def coturn(folder: Path) -> Iterator[Relay]:
    with Coturn(folder, cores={SERVER_CORE % (os.cpu_count() or 1)}) as server:
        assert server.process is not None
        yield Relay("coturn", server.port, server.secret, server.process.pid)


# CPU


def cpu(relay: Relay, packets: int, rounds: int) -> Costs:
    """Microseconds of CPU a packet, for each kind and size of burst."""
    found = {}
    for kind in KINDS:
        with path(relay, kind) as (source, target, data):
            for burst in (BURST, 1):
                found[kind, burst] = cost(relay.pid, (source, target, data), burst, packets, rounds)
                print(f"{relay.name}: {kind}, {burst}: {found[kind, burst]:.1f} µs", file=sys.stderr, flush=True)
    return found


def echo(packets: int, rounds: int) -> dict[int, float]:
    """The same for a bare loop of `recvfrom_into` and `sendto`: no relay in Python can cost less."""
    loop = "while True: size, sender = s.recvfrom_into(b); s.sendto(v[:size], sender)"
    program = f"""
import socket
s, b = socket.socket(type=socket.SOCK_DGRAM), bytearray(65536)
v = memoryview(b)
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
{loop}"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        os.sched_setaffinity(process.pid, {SERVER_CORE % (os.cpu_count() or 1)})
        client = udp()
        client.connect(("127.0.0.1", int(process.stdout.readline())))
        way = (client, client, bytes(SIZE))
        return {burst: cost(process.pid, way, burst, packets, rounds) for burst in (BURST, 1)}
    finally:
        process.kill()
        process.wait()


@contextmanager
def path(relay: Relay, kind: str) -> Iterator[Way]:
    """A way through the relay."""
    first, peer, second = Client(relay, "@first:bench", time.time()), udp(), None
    try:
        if kind == KINDS[2]:
            second = Client(relay, "@second:bench", time.time())
            first.bind(second.relayed)
            second.bind(first.relayed)
            yield first.socket, second.socket, frame(bytes(SIZE))
            return
        first.bind(peer.getsockname())
        peer.connect(first.relayed)
        if kind == KINDS[0]:
            yield first.socket, peer, frame(bytes(SIZE))
        else:
            yield peer, first.socket, bytes(SIZE)
    finally:
        peer.close()
        for client in filter(None, (first, second)):
            client.close()


def cost(pid: int, way: Way, burst: int, packets: int, rounds: int) -> float:
    """Microseconds of the server's CPU a packet: the median of some rounds."""
    times = max(1, packets // burst // (1 if burst > 1 else 4))
    return median(timed(pid, way, times, burst) for _ in range(rounds))


def timed(pid: int, way: Way, times: int, burst: int) -> float:
    """The same, of one round."""
    source, target, data = way
    clock = ~pid << 3 | 2  # clock_getcpuclockid(3)
    target.setblocking(False)
    before = time.clock_gettime(clock)
    due = time.perf_counter()
    for _ in range(times):
        due += burst / PACE
        while time.perf_counter() < due:
            pass
        for _ in range(burst):
            source.send(data)
        for _ in range(burst):
            receive(target)
    return (time.clock_gettime(clock) - before) * 1e6 / times / burst


def receive(target: socket.socket) -> None:
    """Take a packet without sleeping: what it costs to wake this process on its core is not the relay's."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            target.recv(2048)
            return
        except BlockingIOError:
            pass
    raise TimeoutError("a packet did not come through the relay")


def cpu_table(ours: Costs, theirs: Costs, bare: dict[int, float]) -> str:
    lines = [
        "| µs CPU a packet of 1,200 bytes | at a time | heiCHAT | coturn | bare loop | at most |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for kind, burst in ours:
        own, other = ours[kind, burst], theirs[kind, burst]
        lines.append(f"| {kind} | {burst} | {own:.1f} | {other:.1f} | {bare[burst]:.1f} | 25 |")
    return "\n".join(lines)


# chat


async def gather(server: RelayingHeichat) -> tuple[str, list[tuple[str, str]]]:
    """A room with everybody in it: its ID, and everybody's user ID and token."""
    logins = [await server.log_in(name) for name in PEOPLE]
    people = [Person(server.port, *login) for login in logins]
    room = await people[0].create_room("room")
    for person in people[1:]:
        await person.join(room)
    for person in people:
        person.close()
    return room, logins


@contextmanager
def chatting(server: RelayingHeichat, room: tuple[str, list[tuple[str, str]]]) -> Iterator[None]:
    """People talk, in a process of its own, until the end."""
    people = ",".join(f"{user_id}={token}" for user_id, token in room[1])
    command = [sys.executable, "-m", "benchmarks.relay", "--chat", str(server.port), room[0], people]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdin is not None
    process.stdout.readline()
    try:
        yield
        process.stdin.close()
        print(process.stdout.readline().strip(), file=sys.stderr, flush=True)
    finally:
        process.kill()
        process.wait()


async def chat(port: str, room: str, people: str) -> None:
    """Send 100 messages a second while all wait in /sync, until the standard input ends."""
    persons = [Person(int(port), *one.split("=", 1)) for one in people.split(",")]
    got = [0]
    for person in persons:
        await person.use_element_filter()
        await person.find_position()
    waiting = [asyncio.create_task(listen(person, got)) for person in persons]
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    print("ready", flush=True)
    sent, began, sending = 0, time.perf_counter(), set()
    while not ended.done():
        person = persons[sent % len(persons)]
        if person not in {task.person for task in sending}:
            task = asyncio.create_task(person.send(room, f"message {sent}"))
            task.person = person
            sending.add(task)
            task.add_done_callback(sending.discard)
            sent += 1
        await asyncio.sleep(max(0.001, began + sent / 100 - time.perf_counter()))
    rate = sent / (time.perf_counter() - began)
    print(f"chat: {rate:.0f} messages/s, {got[0] / sent:.1f} answers to /sync a message", flush=True)
    for task in waiting:
        task.cancel()


async def listen(person: Person, got: list[int]) -> None:
    while True:
        await person.sync()
        got[0] += 1


if __name__ == "__main__":
    main()
