"""The HTTP server over real sockets: answers, streams, back-pressure, time-outs, limits, endings."""

from __future__ import annotations

import os
import resource
from email.utils import parsedate_to_datetime

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.address import IPv6Address
from twisted.internet.task import Clock
from twisted.protocols.basic import FileSender

from heichat_appliance.http.server import HTTPFactory, Limits
from tests.http.server_kit import (
    MAX_BODY,
    PLAIN,
    MemoryTransport,
    RecordingSite,
    Seen,
    request,
    serving,
    split_answers,
    turn,
    until,
)

async_test = pytest_twisted.ensureDeferred


class Recorder:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.ended: list[str] = []

    def write(self, data: bytes) -> None:
        self.body += data

    def finished(self) -> None:
        self.ended.append("finished")

    def aborted(self, reason: str) -> None:
        self.ended.append("aborted")


class Hose:
    """A push producer without end that knows whether it is paused."""

    def __init__(self, writer) -> None:
        self.writer = writer
        self.paused = self.stopped = False
        self.written = 0

    def start(self) -> None:
        self.writer.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self.paused = False
        self._flow()

    def _flow(self) -> None:
        if not self.paused and not self.stopped:
            self.writer.write(b"x" * 10_000)
            self.written += 10_000
            reactor.callLater(0, self._flow)

    def pauseProducing(self) -> None:
        self.paused = True

    def stopProducing(self) -> None:
        self.stopped = True


# Answers


@async_test
async def test_an_answer_has_what_it_needs_and_the_connection_stays():
    async with serving() as server:
        client = await server.connect()
        for number in range(3):
            client.send(request(f"GET /{number}"))
            answer = await client.answer()
            assert answer.status == 200
            assert answer.body == f"GET /{number}? ".encode()
            assert set(answer.headers) == {"server", "date", "content-type", "content-length"}
            assert answer.headers["server"] == "heiCHAT"
            assert parsedate_to_datetime(answer.headers["date"]).timestamp() == server.clock.seconds()
            server.advance(2)
        assert server.factory.connections == 1


@async_test
async def test_the_exchange_knows_the_request():
    async with serving() as server:
        client = await server.connect()
        client.send(request("PUT /a%20b?c=d", "X-A: 1", "x-a: 2", "Content-Length: 2", body=b"hi"))
        await client.answer()
        (exchange,) = server.site.exchanges
        assert (exchange.method, exchange.path, exchange.query, exchange.body) == ("PUT", "/a%20b", "c=d", b"hi")
        assert exchange.headers == {"host": "here", "x-a": "1, 2", "content-length": "2"}
        address = client.transport.getHost()
        assert (exchange.peer, exchange.peer_port, exchange.secure) == (address.host, address.port, False)
        assert exchange.answered


@async_test
async def test_answers_come_in_the_order_of_the_requests_whenever_they_are_given():
    async with serving() as server:
        held = []
        server.site.handles["/slow"] = held.append
        client = await server.connect()
        client.send(request("GET /slow") + request("GET /b") + request("GET /c"))
        await until(lambda: held)
        assert client.data == b""
        held[0].respond(200, PLAIN, b"slow")
        assert [answer.body for answer in await client.answers(3)] == [b"slow", b"GET /b? ", b"GET /c? "]


@async_test
async def test_what_a_client_sends_ahead_is_bounded():
    limits = Limits(ahead_bytes=16384)
    async with serving(limits) as server:
        held = []
        server.site.handles["/slow"] = held.append
        client = await server.connect()
        count = 400_000 // len(request("GET /n"))
        client.send(request("GET /slow") + request("GET /n") * count)
        await until(lambda: held)
        (connection,) = server.factory._connections
        await until(lambda: connection._stopped)
        assert len(connection._buffer) <= limits.ahead_bytes + 65536
        held[0].respond(200, PLAIN, b"slow")
        assert len(server.site.seen) < 100  # others get their turn in between
        while client.data.count(b"HTTP/1.1 200 OK") < count + 1:
            server.clock.advance(0)
            await turn()
        assert client.data.endswith(b"GET /n? ")


@async_test
async def test_head_and_bodiless_answers():
    async with serving() as server:
        server.site.handles["/204"] = lambda exchange: exchange.respond(204, PLAIN, b"not sent")
        server.site.handles["/304"] = lambda exchange: exchange.respond(304, PLAIN, b"not sent")
        client = await server.connect()
        client.send(request("HEAD /a") + request("GET /204") + request("GET /304") + request("GET /b"))
        head, no_content, not_modified, last = await client.answers(4, ("HEAD",))
        assert (head.status, head.headers["content-length"], head.body) == (200, "9", b"")
        assert (no_content.status, "content-length" in no_content.headers) == (204, False)
        assert (not_modified.status, "content-length" in not_modified.headers) == (304, False)
        assert last.body == b"GET /b? "


@async_test
async def test_a_body_in_parts_and_a_large_one():
    large = os.urandom(3_000_000)
    async with serving() as server:
        server.site.handles["/parts"] = lambda exchange: exchange.respond(200, PLAIN, [b"ab", b"", b"c"])
        server.site.handles["/large"] = lambda exchange: exchange.respond(200, PLAIN, [b"<", large, b"", b">"])
        client = await server.connect()
        client.send(request("GET /parts") + request("GET /large") + request("HEAD /large") + request("GET /a"))
        parts, whole, head, last = await client.answers(4, ("GET", "GET", "HEAD"))
        assert parts.body == b"abc"
        assert whole.body == b"<" + large + b">"
        assert head.headers["content-length"] == str(len(large) + 2)
        assert last.body == b"GET /a? "


@async_test
async def test_http_10_is_answered_and_closed():
    async with serving() as server:
        client = await server.connect()
        client.send(b"GET /a HTTP/1.0\r\n\r\n")
        (answer,), rest = split_answers(await client.at_end())
        assert (answer.body, answer.headers["connection"], rest) == (b"GET /a? ", "close", b"")


@async_test
async def test_connection_close_is_honoured():
    async with serving() as server:
        client = await server.connect()
        client.send(request("GET /a", "Connection: close") + request("GET /b"))
        (answer,), _ = split_answers(await client.at_end())
        assert (answer.body, answer.headers["connection"]) == (b"GET /a? ", "close")
        assert [seen.path for seen in server.site.seen] == ["/a"]


@pytest.mark.parametrize(
    "header", [(b"X", b"a\r\nY: b"), (b"X\n", b"a"), (b"X", b"a\rb"), (b"X", b"a\0"), (b"X", b"a\n")]
)
@async_test
async def test_a_header_that_would_split_the_answer_is_an_error(header):
    async with serving() as server:

        def handle(exchange) -> None:
            with pytest.raises(ValueError):
                exchange.respond(200, [header])
            exchange.respond(500, PLAIN, b"sorry")

        server.site.handles["/a"] = handle
        client = await server.connect()
        client.send(request("GET /a"))
        assert (await client.answer()).status == 500


@async_test
async def test_a_second_answer_is_an_error():
    async with serving() as server:

        def handle(exchange) -> None:
            exchange.respond(200, PLAIN, b"one")
            with pytest.raises(RuntimeError):
                exchange.respond(200, PLAIN, b"two")

        server.site.handles["/a"] = handle
        client = await server.connect()
        client.send(request("GET /a") + request("GET /b"))
        assert [answer.body for answer in await client.answers(2)] == [b"one", b"GET /b? "]


@pytest.mark.parametrize("where", ["begins", "handles"])
@async_test
async def test_a_site_that_fails_is_answered_for(where, logged_errors):
    async with serving() as server:

        def fail(exchange):
            raise ZeroDivisionError

        getattr(server.site, where)["/a"] = fail
        client = await server.connect()
        client.send(request("GET /a"))
        (answer,), _ = split_answers(await client.at_end())
        assert answer.status == 500
        assert [error["log_failure"].type for error in logged_errors] == [ZeroDivisionError]
        logged_errors.clear()


# Bodies


@async_test
async def test_expect_100_continue():
    async with serving() as server:
        client = await server.connect()
        client.send(request("PUT /a", "Expect: 100-continue", "Content-Length: 5"))
        await client.until(lambda: client.data)
        assert client.data == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
        assert (await client.answer()).body == b"PUT /a? hello"


@async_test
async def test_expect_100_continue_after_one_without_body():
    async with serving() as server:
        client = await server.connect()
        client.send(request("PUT /a", "Expect: 100-continue", "Content-Length: 0"))
        assert (await client.answer()).body == b"PUT /a? "
        client.send(request("PUT /a", "Expect: 100-continue", "Content-Length: 5"))
        await client.until(lambda: client.data)
        assert client.data == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
        assert (await client.answer()).body == b"PUT /a? hello"


@async_test
async def test_a_client_that_expects_100_is_refused_before_its_body():
    async with serving() as server:
        client = await server.connect()
        client.send(request("PUT /a", "Expect: 100-continue", f"Content-Length: {MAX_BODY + 1}"))
        (answer,), _ = split_answers(await client.at_end())
        assert answer.status == 413


@async_test
async def test_an_early_answer_to_a_client_that_expects_100_closes():
    async with serving() as server:
        server.site.begins["/a"] = lambda exchange: exchange.respond(403, PLAIN, b"no")
        client = await server.connect()
        client.send(request("PUT /a", "Expect: 100-continue", "Content-Length: 5"))
        (answer,), _ = split_answers(await client.at_end())
        assert (answer.status, answer.headers["connection"]) == (403, "close")


@async_test
async def test_after_an_early_answer_a_short_body_is_dropped_and_the_connection_goes_on():
    async with serving() as server:
        server.site.begins["/a"] = lambda exchange: exchange.respond(403, PLAIN, b"no")
        client = await server.connect()
        client.send(request("PUT /a", "Content-Length: 30000"))
        assert (await client.answer()).status == 403
        client.send(b"x" * 30000 + request("GET /b"))
        assert (await client.answer()).body == b"GET /b? "
        assert [seen.path for seen in server.site.seen] == ["/b"]


@pytest.mark.parametrize("framing", ["Content-Length: 5000000", "Transfer-Encoding: chunked"])
@async_test
async def test_after_an_early_answer_to_a_long_body_the_client_still_gets_it(framing):
    async with serving() as server:
        server.site.begins["/a"] = lambda exchange: exchange.respond(403, PLAIN, b"no")
        client = await server.connect()
        client.send(request("PUT /a", framing) + b"4c4b40\r\n" + b"x" * 4_000_000)
        (answer,), _ = split_answers(await client.at_end())
        assert (answer.status, answer.headers["connection"], client.reset) == (403, "close", False)


@pytest.mark.parametrize(
    "sent",
    [
        request("PUT /a", "Content-Length: 5000000"),
        request("GET /b", "Connection: close") + b"more",
        b"nonsense\r\n\r\n",
    ],
    ids=["early answer", "more after close", "refused"],
)
def test_who_is_still_sending_is_read_for_a_while_so_that_the_answer_is_not_lost(sent):
    site, clock, transport = RecordingSite(), Clock(), MemoryTransport()
    site.begins["/a"] = lambda exchange: exchange.respond(403, PLAIN, b"no")
    connection = HTTPFactory(site, clock, limits=Limits(linger_seconds=2)).buildProtocol(None)
    connection.makeConnection(transport)
    connection.dataReceived(sent)
    answer = transport.value()
    assert len(split_answers(answer)[0]) == 1
    assert not transport.closed
    connection.dataReceived(b"x" * 100_000 + request("GET /never"))
    clock.advance(1)
    assert not transport.closed
    clock.advance(1)
    assert transport.closed
    assert transport.value() == answer
    connection.connectionLost()


@async_test
async def test_a_body_that_is_too_long_is_refused_though_the_client_goes_on_sending():
    async with serving() as server:
        client = await server.connect()
        client.send(request("PUT /a", "Content-Length: 9000000", body=b"x" * 4_000_000))
        (answer,), _ = split_answers(await client.at_end())
        assert (answer.status, client.reset) == (413, False)
        assert server.site.seen == []


@async_test
async def test_unfinished_bodies_of_all_connections_are_bounded():
    async with serving(Limits(body_memory=150_000)) as server:
        first, second = await server.connect(), await server.connect()
        first.send(request("PUT /a", "Content-Length: 99999", body=b"x" * 90_000))
        await until(lambda: server.factory.body_bytes == 90_000)
        second.send(request("PUT /b", "Content-Length: 99999", body=b"x" * 90_000))
        (answer,), _ = split_answers(await second.at_end())
        assert answer.status == 503
        first.send(b"y" * 9_999)
        assert (await first.answer()).body == b"PUT /a? " + b"x" * 90_000 + b"y" * 9_999


@async_test
async def test_a_body_into_a_sink():
    async with serving() as server:
        sink = Recorder()
        server.site.begins["/a"] = lambda exchange: exchange.receive_into(sink)
        client = await server.connect()
        body = os.urandom(90_000)
        client.send(request("PUT /a", f"Content-Length: {len(body)}", body=body) + request("GET /b"))
        answer, _ = await client.answers(2)
        assert answer.body == b"PUT /a? "
        assert (sink.body, sink.ended) == (body, ["finished"])
        assert server.site.seen[0] == Seen("PUT", "/a", "", b"")


@async_test
async def test_a_sink_for_a_request_without_body_is_finished_before_handle():
    async with serving() as server:
        sink = Recorder()
        server.site.begins["/a"] = lambda exchange: exchange.receive_into(sink)
        server.site.handles["/a"] = lambda exchange: exchange.respond(200, PLAIN, sink.ended[0].encode())
        client = await server.connect()
        client.send(request("PUT /a"))
        assert (await client.answer()).body == b"finished"


@async_test
async def test_a_sink_only_at_the_beginning():
    async with serving() as server:

        def handle(exchange) -> None:
            with pytest.raises(RuntimeError):
                exchange.receive_into(Recorder())
            exchange.respond(200, PLAIN)

        server.site.handles["/a"] = handle
        client = await server.connect()
        client.send(request("PUT /a"))
        assert (await client.answer()).status == 200


@pytest.mark.parametrize(
    ("rest", "status"),
    [(b"xyz\r\n", 400), (b"%x\r\n" % (MAX_BODY + 1) + b"x" * (MAX_BODY + 1), 413)],
    ids=["bad chunk", "too long"],
)
@async_test
async def test_a_sink_hears_of_a_bad_body(rest, status):
    async with serving() as server:
        sink, gone = Recorder(), []

        def begin(exchange) -> None:
            exchange.receive_into(sink)
            exchange.on_disconnect = lambda: gone.append(1)

        server.site.begins["/a"] = begin
        client = await server.connect()
        client.send(request("PUT /a", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n"))
        await until(lambda: sink.body == b"abc")
        client.send(rest)
        (answer,), _ = split_answers(await client.at_end())
        assert (answer.status, sink.ended, gone) == (status, ["aborted"], [1])
        assert server.site.seen == []


@async_test
async def test_a_sink_can_make_the_client_wait():
    async with serving() as server:
        sink = Recorder()
        server.site.max_body = 50_000_000

        def begin(exchange) -> None:
            exchange.receive_into(sink)
            exchange.pause()

        server.site.begins["/a"] = begin
        client = await server.connect()
        size = 10_000_000
        client.send(request("PUT /a", f"Content-Length: {size}"))
        chunk = b"x" * 1_000_000
        for _ in range(size // len(chunk)):
            client.send(chunk)
        await until(lambda: server.site.exchanges)
        (connection,) = server.factory._connections
        await until(lambda: connection._stopped)
        for _ in range(50):
            await turn()
        assert sink.body == b""
        assert len(connection._buffer) <= 2 * 65536
        server.advance(200)  # as long as it is the server that pauses, no time-out
        assert not client.closed

        server.site.exchanges[0].resume()
        assert (await client.answer()).status == 200
        assert (len(sink.body), sink.ended) == (size, ["finished"])


@async_test
async def test_an_answer_from_within_a_paused_body_goes_on_with_the_next_request():
    async with serving() as server:
        sink = Recorder()

        def begin(exchange) -> None:
            exchange.receive_into(sink)
            exchange.pause()

        server.site.begins["/a"] = begin
        client = await server.connect()
        client.send(request("PUT /a", "Content-Length: 50000", body=b"x" * 50_000) + request("GET /b"))
        await until(lambda: server.site.exchanges)
        server.site.exchanges[0].respond(403, PLAIN, b"no")
        first, second = await client.answers(2)
        assert (first.status, second.body) == (403, b"GET /b? ")
        assert (sink.body, sink.ended) == (b"", [])


# Streams


@pytest.mark.parametrize("length", [6, None])
@async_test
async def test_a_streamed_answer(length):
    async with serving() as server:
        writers = []
        server.site.handles["/a"] = lambda exchange: writers.append(exchange.respond_stream(200, PLAIN, length))
        client = await server.connect()
        client.send(request("GET /a") + request("HEAD /a") + request("GET /b"))
        await until(lambda: writers)
        for data in (b"abc", b"", b"def"):
            writers[0].write(data)
        writers[0].finish()
        await until(lambda: len(writers) == 2)
        writers[1].write(b"abcdef")
        writers[1].finish()
        first, head, last = await client.answers(3, ("GET", "HEAD"))
        assert (first.body, head.body, last.body) == (b"abcdef", b"", b"GET /b? ")
        assert first.headers.get("content-length") == head.headers.get("content-length") == (length and str(length))
        assert first.headers.get("transfer-encoding") == (None if length else "chunked")


@async_test
async def test_a_stream_over_http_10_ends_with_the_connection():
    async with serving() as server:

        def handle(exchange) -> None:
            writer = exchange.respond_stream(200, PLAIN, None)
            writer.write(b"abc")
            writer.finish()

        server.site.handles["/a"] = handle
        client = await server.connect()
        client.send(b"GET /a HTTP/1.0\r\n\r\n")
        head, _, body = (await client.at_end()).partition(b"\r\n\r\n")
        assert body == b"abc"
        assert b"Connection: close" in head
        assert b"chunked" not in head
        assert b"Content-Length" not in head


@async_test
async def test_a_pull_producer_sends_a_file(tmp_path):
    content = os.urandom(5_000_000)
    (tmp_path / "file").write_bytes(content)
    async with serving() as server:
        with (tmp_path / "file").open("rb") as file:

            def handle(exchange) -> None:
                writer = exchange.respond_stream(200, PLAIN, len(content))
                FileSender().beginFileTransfer(file, writer).addCallback(lambda _: writer.finish())

            server.site.handles["/a"] = handle
            client = await server.connect()
            client.send(request("GET /a") + request("GET /b"))
            first, second = await client.answers(2)
        assert first.body == content
        assert second.body == b"GET /b? "


@async_test
async def test_a_push_producer_waits_for_a_slow_client_and_stops_when_it_leaves():
    async with serving() as server:
        hoses, gone = [], []

        def handle(exchange) -> None:
            exchange.on_disconnect = lambda: gone.append(1)
            hoses.append(Hose(exchange.respond_stream(200, PLAIN, None)))
            hoses[0].start()

        server.site.handles["/a"] = handle
        client = await server.connect()
        client.send(request("GET /a"))
        client.transport.pauseProducing()
        await until(lambda: hoses and hoses[0].paused)
        before = hoses[0].written
        client.transport.resumeProducing()
        await until(lambda: hoses[0].written > before + 1_000_000)
        client.transport.abortConnection()
        await until(lambda: hoses[0].stopped)
        assert gone == [1]


@async_test
async def test_a_push_producer_that_comes_while_the_client_is_slow_waits():
    async with serving() as server:
        writers = []
        server.site.handles["/a"] = lambda exchange: writers.append(exchange.respond_stream(200, PLAIN, None))
        client = await server.connect()
        client.send(request("GET /a"))
        client.transport.pauseProducing()
        await until(lambda: writers)
        writers[0].write(b"x" * 20_000_000)
        (connection,) = server.factory._connections
        await until(lambda: connection.choked)
        hose = Hose(writers[0])
        writers[0].registerProducer(hose, True)
        assert hose.paused
        with pytest.raises(RuntimeError):
            writers[0].registerProducer(hose, True)


@pytest.mark.parametrize("given", [b"abc", b"abcdefg"], ids=["too short", "too long"])
@async_test
async def test_a_stream_of_wrong_length_is_broken_off(given):
    async with serving() as server:

        def handle(exchange) -> None:
            writer = exchange.respond_stream(200, PLAIN, 6)
            with pytest.raises(ValueError):
                writer.write(given)
                writer.finish()

        server.site.handles["/a"] = handle
        client = await server.connect()
        client.send(request("GET /a") + request("GET /b"))
        data = await client.at_end()
        assert split_answers(data)[0] == []
        assert server.site.seen[1:] == []


@async_test
async def test_a_stream_that_is_aborted_shows():
    async with serving() as server:
        writers = []
        server.site.handles["/a"] = lambda exchange: writers.append(exchange.respond_stream(200, PLAIN, None))
        client = await server.connect()
        client.send(request("GET /a"))
        await until(lambda: writers)
        writers[0].write(b"abc")
        await client.until(lambda: b"abc" in client.data)
        writers[0].abort()
        assert not (await client.at_end()).endswith(b"0\r\n\r\n")
        writers[0].write(b"ignored")
        writers[0].finish()


# Clients that go away


@async_test
async def test_on_disconnect_is_called_once_and_the_answer_ignored():
    async with serving() as server:
        held, gone = [], []

        def handle(exchange) -> None:
            exchange.on_disconnect = lambda: gone.append(1)
            held.append(exchange)

        server.site.handles["/a"] = handle
        client = await server.connect()
        client.send(request("GET /a"))
        await until(lambda: held)
        client.transport.loseConnection()
        await until(lambda: gone)
        held[0].respond(200, PLAIN, b"late")
        assert held[0].answered
        await until(lambda: server.factory.connections == 0)
        assert gone == [1]


@async_test
async def test_a_stream_for_a_client_that_is_gone_stops_its_producer():
    async with serving() as server:
        held = []
        server.site.handles["/a"] = held.append
        client = await server.connect()
        client.send(request("GET /a"))
        await until(lambda: held)
        client.transport.loseConnection()
        await until(lambda: server.factory.connections == 0)
        hose = Hose(held[0].respond_stream(200, PLAIN, None))
        hose.writer.registerProducer(hose, True)
        assert hose.stopped


@async_test
async def test_on_disconnect_is_not_called_after_the_answer():
    async with serving() as server:
        gone = []

        def handle(exchange) -> None:
            exchange.on_disconnect = lambda: gone.append(1)
            exchange.respond(200, PLAIN)

        server.site.handles["/a"] = handle
        client = await server.connect()
        client.send(request("GET /a"))
        await client.answer()
        client.transport.loseConnection()
        await until(lambda: server.factory.connections == 0)
        assert gone == []


@async_test
async def test_a_sink_hears_when_the_client_goes_away():
    async with serving() as server:
        sink = Recorder()
        server.site.begins["/a"] = lambda exchange: exchange.receive_into(sink)
        client = await server.connect()
        client.send(request("PUT /a", "Content-Length: 5", body=b"ab"))
        await until(lambda: sink.body == b"ab")
        client.transport.loseConnection()
        await until(lambda: sink.ended)
        assert sink.ended == ["aborted"]


# Slow clients


@async_test
async def test_an_idle_connection_is_closed_without_a_word():
    async with serving(Limits(idle_seconds=75)) as server:
        client = await server.connect()
        client.send(request("GET /a"))
        await client.answer()
        server.advance(74)
        assert not client.closed
        server.advance(2)
        assert await client.at_end() == b""


@async_test
async def test_a_connection_that_sends_nothing_is_closed_without_a_word():
    async with serving(Limits(head_seconds=15)) as server:
        client = await server.connect()
        await until(lambda: server.factory.connections == 1)
        server.advance(16)
        assert await client.at_end() == b""


@pytest.mark.parametrize("before", [b"", request("GET /before")], ids=["first", "second"])
@async_test
async def test_a_slow_head_is_refused_though_bytes_keep_coming(before):
    async with serving(Limits(head_seconds=15)) as server:
        client = await server.connect()
        if before:
            client.send(before)
            await client.answer()
        head = request("GET /a")
        (connection,) = server.factory._connections
        for number in range(20):
            if connection._state != 0:
                break
            client.send(head[number : number + 1])
            await until(lambda: len(connection._buffer) == number + 1)  # noqa: B023
            server.advance(1)
        (answer,), _ = split_answers(await client.at_end())
        assert (answer.status, number) == (408, 15)


@async_test
async def test_a_slow_body_is_refused_though_bytes_keep_coming():
    async with serving(Limits(body_seconds=30, body_rate=1024)) as server:
        client, sink = await server.connect(), Recorder()
        server.site.begins["/a"] = lambda exchange: exchange.receive_into(sink)
        client.send(request("PUT /a", "Content-Length: 5000"))
        for number in range(100):
            client.send(b"x")
            await until(lambda: len(sink.body) == number + 1)  # noqa: B023
            server.advance(1)
            if sink.ended:
                break
        (answer,), _ = split_answers(await client.at_end())
        assert (answer.status, sink.ended) == (408, ["aborted"])
        assert number < 32


@async_test
async def test_a_long_body_may_take_its_time_at_a_fair_rate():
    async with serving(Limits(body_seconds=10, body_rate=100)) as server:
        client, sink = await server.connect(), Recorder()
        server.site.begins["/a"] = lambda exchange: exchange.receive_into(sink)
        client.send(request("PUT /a", "Content-Length: 12000"))
        for number in range(100):
            client.send(b"x" * 120)
            await until(lambda: len(sink.body) == 120 * (number + 1))  # noqa: B023
            server.advance(1)
        assert (await client.answer()).status == 200


@async_test
async def test_the_rest_of_an_answered_body_is_not_waited_for_without_end():
    async with serving(Limits(body_seconds=30)) as server:
        server.site.begins["/a"] = lambda exchange: exchange.respond(403, PLAIN, b"no")
        client = await server.connect()
        client.send(request("PUT /a", "Content-Length: 30000"))
        assert (await client.answer()).status == 403
        server.advance(31)
        assert await client.at_end() == b""  # not a second answer


@async_test
async def test_a_long_poll_is_not_timed_out():
    async with serving() as server:
        held = []
        server.site.handles["/a"] = held.append
        client = await server.connect()
        client.send(request("GET /a"))
        await until(lambda: held)
        server.advance(1000)
        held[0].respond(200, PLAIN, b"late")
        assert (await client.answer()).body == b"late"


@async_test
async def test_a_client_that_does_not_take_its_answer_is_cut_off():
    async with serving(Limits(write_seconds=60)) as server:
        server.site.handles["/a"] = lambda exchange: exchange.respond(200, PLAIN, b"x" * 20_000_000)
        client = await server.connect()
        client.transport.pauseProducing()
        client.send(request("GET /a"))
        (connection,) = server.factory._connections
        await until(lambda: connection.choked)
        server.advance(59)
        assert server.factory.connections == 1
        server.advance(2)
        await until(lambda: server.factory.connections == 0)


@async_test
async def test_a_client_that_asks_and_never_reads_does_not_fill_the_memory():
    async with serving(Limits(write_seconds=60)) as server:
        server.site.handles["/a"] = lambda exchange: exchange.respond(200, PLAIN, b"x" * 50_000)
        client = await server.connect()
        client.transport.pauseProducing()
        client.send(request("GET /a") * 5000)
        (connection,) = server.factory._connections
        await until(lambda: connection.choked, server.clock)
        transport = connection._transport
        for _ in range(20):
            await turn()
        assert len(transport.dataBuffer) + transport._tempDataLen < 300_000
        assert len(server.site.seen) < 2000
        server.advance(61)
        await until(lambda: server.factory.connections == 0)


@async_test
async def test_after_a_refusal_the_connection_lingers_no_longer_than_it_may():
    async with serving(Limits(linger_seconds=2)) as server:
        client = await server.connect()
        client.send(b"nonsense\r\n\r\n")
        await client.until(lambda: client.data)
        server.advance(3)
        await until(lambda: server.factory.connections == 0)


@pytest.fixture
def many_files():
    """Room for the two ends of a thousand connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted} open files, the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@async_test
async def test_slow_clients_do_not_disturb_others(many_files):
    async with serving() as server:
        slow = [await server.connect() for _ in range(1000)]
        quick = await server.connect()
        head = b"GET /slow HTTP/1.1"
        for number in range(10):
            for client in slow:
                client.send(head[number : number + 1])
            quick.send(request(f"GET /{number}"))
            assert (await quick.answer()).status == 200
            server.advance(1)
        server.advance(6)
        for client in slow:
            (answer,), _ = split_answers(await client.at_end())
            assert answer.status == 408
        quick.send(request("GET /a"))
        assert (await quick.answer()).status == 200


# How many


@async_test
async def test_connections_beyond_the_limit_are_told_so():
    async with serving(Limits(connections=2)) as server:
        first, _ = await server.connect(), await server.connect()
        await until(lambda: server.factory.connections == 2)
        third = await server.connect()
        (answer,), _ = split_answers(await third.at_end())
        assert answer.status == 503
        await until(lambda: server.factory.connections == 2)
        first.transport.loseConnection()
        await until(lambda: server.factory.connections == 1)
        fourth = await server.connect()
        fourth.send(request("GET /a"))
        assert (await fourth.answer()).status == 200


@async_test
async def test_connections_of_one_address_are_limited_unless_it_is_a_proxy():
    for exempt, status in ((frozenset(), 503), (frozenset({"127.0.0.1"}), 200)):
        async with serving(Limits(connections_per_address=1, unlimited_addresses=exempt)) as server:
            await server.connect()
            await until(lambda: server.factory.connections == 1)
            second = await server.connect()
            second.send(request("GET /a", "Connection: close"))
            (answer,), _ = split_answers(await second.at_end())
            assert answer.status == status


def test_ipv6_addresses_are_counted_by_network():
    factory = HTTPFactory(RecordingSite(), Clock(), limits=Limits(connections_per_address=2))

    def connect(host: str) -> MemoryTransport:
        transport = MemoryTransport(IPv6Address("TCP", host, 1))
        factory.buildProtocol(None).makeConnection(transport)
        return transport

    hosts = ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "2001:db8::3", "::ffff:192.0.2.1", "fe80::1%eth0")
    values = [connect(host).value() for host in hosts]
    assert [value.startswith(b"HTTP/1.1 503") for value in values] == [False, False, False, True, False, False]


# Shutting down


@async_test
async def test_shutting_down_closes_idle_connections_and_lets_requests_finish():
    async with serving() as server:
        held = []
        server.site.handles["/slow"] = held.append
        idle, busy = await server.connect(), await server.connect()
        idle.send(request("GET /a"))
        await idle.answer()
        busy.send(request("GET /slow") + request("GET /never"))
        await until(lambda: held)
        done = []
        server.factory.shut_down().addCallback(done.append)
        assert await idle.at_end() == b""
        assert done == []
        assert not busy.closed
        late = await server.connect()
        assert await late.at_end() == b""
        held[0].respond(200, PLAIN, b"last")
        (answer,), _ = split_answers(await busy.at_end())
        assert (answer.body, answer.headers["connection"]) == (b"last", "close")
        await until(lambda: done)
        assert [seen.path for seen in server.site.seen] == ["/a", "/slow"]


@async_test
async def test_shutting_down_waits_for_a_body_that_is_on_its_way():
    async with serving() as server:
        client = await server.connect()
        client.send(request("PUT /a", "Content-Length: 5", body=b"ab"))
        await until(lambda: server.site.exchanges)
        done = server.factory.shut_down()
        client.send(b"cde")
        (answer,), _ = split_answers(await client.at_end())
        assert (answer.body, answer.headers["connection"]) == (b"PUT /a? abcde", "close")
        await done


@async_test
async def test_shutting_down_while_the_rest_of_an_answered_body_comes():
    async with serving() as server:
        server.site.begins["/a"] = lambda exchange: exchange.respond(403, PLAIN, b"no")
        client = await server.connect()
        client.send(request("PUT /a", "Content-Length: 30000"))
        assert (await client.answer()).status == 403
        done = server.factory.shut_down()
        client.send(b"x" * 30000 + request("GET /never"))
        assert await client.at_end() == b""
        await done
        assert server.site.seen == []


@async_test
async def test_shutting_down_can_be_cut_short():
    async with serving() as server:
        gone = []
        server.site.handles["/slow"] = lambda exchange: setattr(exchange, "on_disconnect", lambda: gone.append(1))
        client = await server.connect()
        client.send(request("GET /slow"))
        await until(lambda: server.site.seen)
        await server.factory.shut_down().addTimeout(0.05, reactor)
        assert await client.at_end() == b""
        assert gone == [1]


@async_test
async def test_shutting_down_without_connections_is_done_at_once():
    async with serving() as server:
        assert server.factory.shut_down().called


def test_a_transport_of_another_kind_is_fine():
    factory, transport = HTTPFactory(RecordingSite(), Clock()), MemoryTransport()
    connection = factory.buildProtocol(None)
    connection.makeConnection(transport)
    connection.dataReceived(request("GET /a"))
    assert split_answers(transport.value())[0][0].body == b"GET /a? "
    connection.connectionLost()
