"""What a request costs the bare HTTP layer: CPU (user + system) of the server per request.

    python -m benchmarks.bare_http [--seconds 2] [--rounds 3]

Compares twisted.web, a plain Twisted protocol with httptools that checks nothing, and heichat_appliance.http.server,
each with a site that does nothing. The server is pinned to one core, the load comes from another. Columns: a request
(32 keep-alive connections, browser-like headers), the same with one durable SQLite insert (WAL, synchronous=FULL, jobs
run inline, COMMIT in a thread), and 200 parked long-polls that are released together.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .servers import LOAD_CORE, SERVER_CORE

KINDS = {"web": "twisted.web", "plain": "plain protocol, httptools", "ours": "heichat_appliance.http.server"}
WORKS = {"none": "request", "insert": "durable insert", "park": "long-poll released"}
SENDERS, WAITERS = 32, 200
ANSWER = b'{"event_id":"$1234567890abcdefghijklmnopqrstuvwxyzABCDEFG"}'
REQUEST = b"""%b HTTP/1.1\r
Host: matrix-im.example.org\r
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r
Accept: application/json\r
Accept-Language: de,en-US;q=0.7,en;q=0.3\r
Accept-Encoding: gzip, deflate, br, zstd\r
Authorization: Bearer syt_YWxpY2U_abcdefghijklmnopqrst_0abcde\r
Content-Type: application/json\r
Origin: https://chat.example.org\r
Connection: keep-alive\r
Referer: https://chat.example.org/\r
Sec-Fetch-Dest: empty\r
Sec-Fetch-Mode: cors\r
Sec-Fetch-Site: same-site\r
Content-Length: %d\r
\r
%b"""
BODIES = [b'{"msgtype":"m.text","body":"%b"}' % (b"hello " * number) for number in range(2, 25)]


def request(line: bytes, body: bytes = b"") -> bytes:
    return REQUEST % (line, len(body), body)


SENDS = [request(b"PUT /_matrix/client/v3/rooms/!abc%3Aexample.org/send/m.room.message/m17", body) for body in BODIES]
WAIT = request(b"GET /_matrix/client/v3/sync?since=s1234.1&timeout=30000")
RELEASE = request(b"POST /release", BODIES[0])


# The server process


class Inserts:
    """Jobs run at once on the reactor's thread, COMMIT in another; what comes meanwhile is the next group."""

    def __init__(self, path: str, reactor: Any) -> None:
        self.reactor = reactor
        self.database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.database.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t(id INTEGER PRIMARY KEY, b)"
        )
        self.waiting: list[tuple[bytes, Callable[[], None]]] = []
        self.busy = False

    def add(self, body: bytes, then: Callable[[], None]) -> None:
        self.waiting.append((body, then))
        if not self.busy:
            self.busy = True
            self.reactor.callLater(0, self.run)  # all requests of this turn are one group

    def run(self) -> None:
        group, self.waiting = self.waiting, []
        self.database.execute("BEGIN")
        for body, _ in group:
            self.database.execute("INSERT INTO t(b) VALUES (?)", (body,))
        self.reactor.callInThread(self.commit, group)

    def commit(self, group: list) -> None:
        self.database.execute("COMMIT")
        self.reactor.callFromThread(self.committed, group)

    def committed(self, group: list) -> None:
        for _, then in group:
            then()
        if self.waiting:
            self.run()
        else:
            self.busy = False


class Work:
    """What a request does before `answer` is called."""

    def __init__(self, work: str, path: str, reactor: Any) -> None:
        self.work = work
        self.inserts = Inserts(path, reactor) if work == "insert" else None
        self.parked: list[Callable[[], None]] = []

    def do(self, path: bytes | str, body: bytes, answer: Callable[[], None]) -> None:
        if self.inserts is not None:
            self.inserts.add(body, answer)
            return
        if self.work == "park":
            self.parked.append(answer)
            if len(self.parked) == WAITERS + 1:  # all wait, and the releasing request is there
                released, self.parked = self.parked, []
                for each in released:
                    each()
            return
        answer()


def web_factory(work: Work) -> Any:
    from twisted.web.resource import Resource
    from twisted.web.server import NOT_DONE_YET, Site

    class Everything(Resource):
        isLeaf = True

        def render(self, request: Any) -> Any:
            def answer() -> None:
                request.setHeader(b"Content-Type", b"application/json")
                request.setHeader(b"Content-Length", b"%d" % len(ANSWER))
                request.write(ANSWER)
                request.finish()

            work.do(request.path, request.content.read(), answer)
            return NOT_DONE_YET

    return Site(Everything())


def plain_factory(work: Work) -> Any:
    from httptools import HttpRequestParser
    from twisted.internet.protocol import Factory, Protocol

    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)

    class Plain(Protocol):
        def connectionMade(self) -> None:
            self.parser = HttpRequestParser(self)
            self.transport.setTcpNoDelay(True)

        def dataReceived(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_message_begin(self) -> None:
            self.url, self.body, self.headers = b"", b"", {}

        def on_url(self, url: bytes) -> None:
            self.url += url

        def on_header(self, name: bytes, value: bytes) -> None:
            self.headers[name.lower()] = value

        def on_body(self, body: bytes) -> None:
            self.body += body

        def on_message_complete(self) -> None:
            work.do(self.url, self.body, self.answer)

        def answer(self) -> None:
            self.transport.write(head + ANSWER)

    return Factory.forProtocol(Plain)


def our_factory(work: Work) -> Any:
    from twisted.internet import reactor

    from heichat_appliance.http.server import Exchange, HTTPFactory

    headers = ((b"Content-Type", b"application/json"),)

    class NoOp:
        def begin(self, exchange: Exchange) -> int:
            return 65536

        def handle(self, exchange: Exchange) -> None:
            work.do(exchange.path, exchange.body, lambda: exchange.respond(200, headers, ANSWER))

        def refuse(self, status: int, reason: str) -> Any:
            return headers, b"{}"

    return HTTPFactory(NoOp(), reactor)


def serve(kind: str, work: str, path: str) -> None:
    """Serves on a free port, which it prints, until it is killed."""
    os.sched_setaffinity(0, {SERVER_CORE % os.cpu_count()})  # not the core inherited from the load
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import reactor

    factory = {"web": web_factory, "plain": plain_factory, "ours": our_factory}[kind](Work(work, path, reactor))
    port = reactor.listenTCP(0, factory, backlog=1024, interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    reactor.run()


# The load


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server(kind: str, work: str) -> Iterator[tuple[int, int]]:
    """A server in a process of its own: its port and process id."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [sys.executable, "-m", "benchmarks.bare_http", "--serve", kind, work, f"{folder}/db"]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline()), process.pid
        finally:
            process.kill()
            process.wait()


class Client:
    """A keep-alive connection that has at most one request under way; answers have Content-Length."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.length = 0  # of a whole answer; all are alike

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> None:
        data = self.socket.recv(65536)
        if not self.length:
            assert data.startswith(b"HTTP/1.1 200"), data
            head, _, _ = data.partition(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            self.length = len(head) + 4 + int(length.partition(b":")[2])
        while len(data) < self.length:
            data += self.socket.recv(65536)
        assert len(data) == self.length


def drive_requests(port: int, seconds: float) -> int:
    """SENDERS connections, each sending again when it is answered. How many were answered."""
    selector, count, end = selectors.EpollSelector(), 0, time.monotonic() + seconds
    for _ in range(SENDERS):
        client = Client(port)
        selector.register(client.socket, selectors.EVENT_READ, client)
        client.send(SENDS[0])
    while time.monotonic() < end:
        for key, _ in selector.select():
            key.data.receive()
            count += 1
            key.data.send(SENDS[count % len(SENDS)])  # of different lengths, as messages are
    return count


def drive_polls(port: int, seconds: float) -> int:
    """Parks WAITERS requests, releases them, and again. How many were answered."""
    waiters, releaser, count, end = [Client(port) for _ in range(WAITERS)], Client(port), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for client in waiters:
            client.send(WAIT)
        releaser.send(RELEASE)
        for client in [*waiters, releaser]:
            client.receive()
        count += WAITERS
    return count


def measure(kind: str, work: str, seconds: float) -> float:
    """Milliseconds of CPU per request."""
    with server(kind, work) as (port, pid):

        def drive(time_: float) -> int:
            return drive_polls(port, time_) if work == "park" else drive_requests(port, time_)

        drive(seconds / 4)  # warm up
        before = cpu_seconds(pid)
        count = drive(seconds)
        return (cpu_seconds(pid) - before) / count * 1000


def run(seconds: float = 2.0, rounds: int = 3) -> dict[str, dict[str, float]]:
    """kind -> work -> milliseconds of CPU per request, medians of `rounds`, the kinds taking turns."""
    os.sched_setaffinity(0, {LOAD_CORE % os.cpu_count()})
    figures: dict[str, dict[str, list[float]]] = {kind: {work: [] for work in WORKS} for kind in KINDS}
    for _ in range(rounds):
        for work in WORKS:
            for kind in KINDS:
                figures[kind][work].append(measure(kind, work, seconds))
    return {kind: {work: statistics.median(of) for work, of in works.items()} for kind, works in figures.items()}


def table(figures: dict[str, dict[str, float]]) -> str:
    lines = [
        "| CPU per request, ms | " + " | ".join(WORKS.values()) + " |",
        "|---|" + "---|" * len(WORKS),
    ]
    for kind, name in KINDS.items():
        cells = []
        for work in WORKS:
            value, web = figures[kind][work], figures["web"][work]
            cells.append(f"{value:.4f} ({web / value:.1f} x)" if kind != "web" else f"{value:.4f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    ratios = [f"{figures['ours'][work] / figures['plain'][work]:.2f}" for work in WORKS]
    lines.append("| ours / plain | " + " | ".join(ratios) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare_http", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="load of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of which the median is taken")
    parser.add_argument("--serve", nargs=3, metavar=("KIND", "WORK", "DATABASE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve)
    else:
        print(table(run(arguments.seconds, arguments.rounds)))


if __name__ == "__main__":
    main()
