"""Which requests are understood, and which are refused: each case whole, byte by byte, and cut anywhere.

The bad ones are the request-smuggling cases known from public collections (CL.TE, TE.CL, TE.TE, CL.0, TE.0, chunk
extensions, bare LF, ...), each with a second request smuggled behind, which must never be seen.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heichat_appliance.http.framing import ChunkedBody, CountedBody, Head, Refused
from heichat_appliance.http.server import Limits
from tests.http.server_kit import MAX_BODY, Seen, deliver, expected_body, request, split_answers

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: here\r\n\r\n"


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def with_te(*headers: str, body: bytes) -> bytes:
    return request("POST /a", "Transfer-Encoding: chunked", *headers, body=body)


# bytes -> what the site sees; the last request of each may close the connection
GOOD: dict[str, tuple[bytes, list[Seen]]] = {
    "plain": (request("GET /a"), [Seen("GET", "/a", "", b"")]),
    "query": (request("GET /a?b=%2F&c?d"), [Seen("GET", "/a", "b=%2F&c?d", b"")]),
    "raw path": (request("PUT /a%2Fb/!c:d//e"), [Seen("PUT", "/a%2Fb/!c:d//e", "", b"")]),
    "other methods": (
        b"".join(request(f"{method} /") for method in ("DELETE", "OPTIONS", "PATCH")),
        [Seen(method, "/", "", b"") for method in ("DELETE", "OPTIONS", "PATCH")],
    ),
    "length": (request("PUT /a", "Content-Length: 3", body=b"abc"), [Seen("PUT", "/a", "", b"abc")]),
    "length 0": (request("POST /a", "Content-Length: 0"), [Seen("POST", "/a", "", b"")]),
    "odd case of names": (request("PUT /a", "cOnTeNt-LeNgTh: 3", body=b"abc"), [Seen("PUT", "/a", "", b"abc")]),
    "white space round a value": (
        request("PUT /a", "Content-Length:\t 3 \t", body=b"abc"),
        [Seen("PUT", "/a", "", b"abc")],
    ),
    "GET with body (CL.0)": (
        request("GET /a", f"Content-Length: {len(SMUGGLED)}", body=SMUGGLED) + request("GET /b"),
        [Seen("GET", "/a", "", SMUGGLED), Seen("GET", "/b", "", b"")],
    ),
    "chunks": (with_te(body=chunked(b"ab", b"cde" * 10)), [Seen("POST", "/a", "", b"ab" + b"cde" * 10)]),
    "no chunks": (with_te(body=chunked()), [Seen("POST", "/a", "", b"")]),
    "GET with chunks (TE.0)": (
        request("GET /a", "Transfer-Encoding: chunked", body=chunked(SMUGGLED)) + request("GET /b"),
        [Seen("GET", "/a", "", SMUGGLED), Seen("GET", "/b", "", b"")],
    ),
    "odd case of chunked": (
        request("POST /a", "transfer-encoding: ChUnKeD", body=chunked(b"abc")),
        [Seen("POST", "/a", "", b"abc")],
    ),
    "sizes in upper case and with zeros": (
        with_te(body=b"0000000A\r\n0123456789\r\n000\r\n\r\n"),
        [Seen("POST", "/a", "", b"0123456789")],
    ),
    "extensions and trailers are dropped": (
        with_te(body=b'3;a=b;c="d e"\r\nabc\r\n0;x\r\nContent-Length: 5\r\nHost: other\r\n\r\n') + request("GET /b"),
        [Seen("POST", "/a", "", b"abc"), Seen("GET", "/b", "", b"")],
    ),
    "pipelined": (
        request("GET /1")
        + request("PUT /2", "Content-Length: 3", body=b"abc")
        + with_te(body=chunked(b"d"))
        + request("HEAD /4")
        + request("GET /5"),
        [
            *(Seen("GET", "/1", "", b""), Seen("PUT", "/2", "", b"abc"), Seen("POST", "/a", "", b"d")),
            *(Seen("HEAD", "/4", "", b""), Seen("GET", "/5", "", b"")),
        ],
    ),
    "an empty line first": (b"\r\n" + request("GET /a"), [Seen("GET", "/a", "", b"")]),
    "absolute form of this host": (request("GET http://HERE/a?b"), [Seen("GET", "/a", "b", b"")]),
    "absolute form without path": (request("GET https://here?b"), [Seen("GET", "/", "b", b"")]),
    "an upgrade is not done": (
        request("GET /a", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13") + request("GET /b"),
        [Seen("GET", "/a", "", b""), Seen("GET", "/b", "", b"")],
    ),
    "an upgrade with a body": (
        request("POST /a", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "Content-Length: 3", body=b"abc")
        + request("GET /b"),
        [Seen("POST", "/a", "", b"abc"), Seen("GET", "/b", "", b"")],
    ),
    "close": (
        request("GET /a", "Connection: foo, CLOSE") + SMUGGLED,
        [Seen("GET", "/a", "", b"")],
    ),
    "HTTP/1.0": (b"GET /a HTTP/1.0\r\n\r\n", [Seen("GET", "/a", "", b"")]),
    "HTTP/1.0 is closed": (
        b"POST /a HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc" + SMUGGLED,
        [Seen("POST", "/a", "", b"abc")],
    ),
    "an address as host": (b"GET / HTTP/1.1\r\nHost: [2001:db8::1]:8448\r\n\r\n", [Seen("GET", "/", "", b"")]),
}


def raw(*lines: bytes) -> bytes:
    return b"\r\n".join((*lines, b"", b""))


TE, HOST = b"Transfer-Encoding: chunked", b"Host: here"
POST = b"POST /a HTTP/1.1"

BAD: dict[str, tuple[int, bytes]] = {
    # both lengths, two lengths
    "CL.TE": (400, raw(POST, HOST, b"Content-Length: 6", TE) + b"0\r\n\r\n"),
    "TE.CL": (400, raw(POST, HOST, TE, b"Content-Length: 4") + b"5c\r\n"),
    "two different lengths": (400, raw(POST, HOST, b"Content-Length: 0", b"Content-Length: 40")),
    "two equal lengths": (400, raw(POST, HOST, b"Content-Length: 5", b"content-length: 5") + b"abcde"),
    "a list of lengths": (400, raw(POST, HOST, b"Content-Length: 5, 5") + b"abcde"),
    "length with plus": (400, raw(POST, HOST, b"Content-Length: +5") + b"abcde"),
    "length with minus": (400, raw(POST, HOST, b"Content-Length: -5")),
    "length in hexadecimal": (400, raw(POST, HOST, b"Content-Length: 0x5") + b"abcde"),
    "length with a leading zero": (400, raw(POST, HOST, b"Content-Length: 05") + b"abcde"),
    "length with underscore": (400, raw(POST, HOST, b"Content-Length: 1_0") + b"abcde"),
    "length with a space inside": (400, raw(POST, HOST, b"Content-Length: 1 0") + b"abcde"),
    "length empty": (400, raw(POST, HOST, b"Content-Length:")),
    "length too large for 64 bits": (400, raw(POST, HOST, b"Content-Length: 18446744073709551621") + b"abcde"),
    "length with other digits": (400, raw(POST, HOST, b"Content-Length: \xb2")),
    # other transfer codings
    "TE.TE": (400, raw(POST, HOST, TE, b"Transfer-Encoding: x")),
    "TE twice": (400, raw(POST, HOST, TE, TE) + b"0\r\n\r\n"),
    "TE identity": (400, raw(POST, HOST, b"Transfer-Encoding: identity")),
    "TE gzip": (400, raw(POST, HOST, b"Transfer-Encoding: gzip")),
    "TE chunked, identity": (400, raw(POST, HOST, b"Transfer-Encoding: chunked, identity") + b"0\r\n\r\n"),
    "TE gzip, chunked": (501, raw(POST, HOST, b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n"),
    "TE chunked, chunked": (400, raw(POST, HOST, b"Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n"),
    "TE with parameter": (400, raw(POST, HOST, b"Transfer-Encoding: chunked;a=b") + b"0\r\n\r\n"),
    "TE quoted": (400, raw(POST, HOST, b'Transfer-Encoding: "chunked"') + b"0\r\n\r\n"),
    "TE xchunked": (400, raw(POST, HOST, b"Transfer-Encoding: xchunked") + b"0\r\n\r\n"),
    "TE empty": (400, raw(POST, HOST, b"Transfer-Encoding:")),
    "TE with a vertical tab": (400, raw(POST, HOST, b"Transfer-Encoding: \x0bchunked") + b"0\r\n\r\n"),
    "TE ending in a comma": (400, raw(POST, HOST, b"Transfer-Encoding: chunked,") + b"0\r\n\r\n"),
    "TE in HTTP/1.0": (400, raw(b"POST /a HTTP/1.0", HOST, TE) + b"0\r\n\r\n"),
    "TE on a folded line": (400, raw(POST, HOST, b"Transfer-Encoding:", b" chunked") + b"0\r\n\r\n"),
    # lines
    "space before the colon": (400, raw(POST, HOST, b"Transfer-Encoding : chunked", b"Content-Length: 5")),
    "tab before the colon": (400, raw(POST, HOST, b"Content-Length\t: 5") + b"abcde"),
    "obs-fold": (400, raw(POST, HOST, b"X: y", b" Content-Length: 5")),
    "obs-fold with a tab": (400, raw(POST, HOST, b"X: y", b"\tContent-Length: 5")),
    "first header begins with a space": (400, raw(POST, b" Host: here", HOST)),
    "bare LF after the request line": (400, b"POST /a HTTP/1.1\nHost: here\r\n\r\n"),
    "bare LF after a header": (400, b"POST /a HTTP/1.1\r\nHost: here\nContent-Length: 5\r\n\r\nabcde"),
    "bare LF only": (400, b"GET /a HTTP/1.1\nHost: here\n\n"),
    "bare LF at the end": (400, b"GET /a HTTP/1.1\r\nHost: here\r\n\n"),
    "bare CR": (400, raw(POST, HOST, b"X: y\rContent-Length: 5")),
    "bare CR at the end of a line": (400, raw(POST, HOST, b"X: y\r")),
    "CR CR LF": (400, b"GET /a HTTP/1.1\r\nHost: here\r\r\n\r\n"),
    "NUL in a value": (400, raw(POST, HOST, b"X: a\0b")),
    "NUL in a name": (400, raw(POST, HOST, b"X\0: a")),
    "control character in a value": (400, raw(POST, HOST, b"X: a\x07b")),
    "DEL in a value": (400, raw(POST, HOST, b"X: a\x7fb")),
    "header without colon": (400, raw(POST, HOST, b"Content-Length")),
    "header without name": (400, raw(POST, HOST, b": 5")),
    "header name that is no token": (400, raw(POST, HOST, b"Content(Length: 5")),
    "header name beyond ASCII": (400, raw(POST, HOST, b"Cont\xe9nt: 5")),
    "two empty lines first": (400, b"\r\n\r\n" + SMUGGLED),
    # request line
    "no version (HTTP/0.9)": (400, b"GET /a\r\n\r\n"),
    "HTTP/2.0": (505, raw(b"GET /a HTTP/2.0", HOST)),
    "HTTP/1.2": (505, raw(b"GET /a HTTP/1.2", HOST)),
    "HTTP/1.10": (400, raw(b"GET /a HTTP/1.10", HOST)),
    "http/1.1": (400, raw(b"GET /a http/1.1", HOST)),
    "HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "two spaces": (400, raw(b"GET  /a HTTP/1.1", HOST)),
    "two spaces before the version": (400, raw(b"GET /a  HTTP/1.1", HOST)),
    "space in the target": (400, raw(b"GET /a b HTTP/1.1", HOST)),
    "tabs": (400, raw(b"GET\t/a\tHTTP/1.1", HOST)),
    "space at the end": (400, raw(b"GET /a HTTP/1.1 ", HOST)),
    "space at the beginning": (400, raw(b" GET /a HTTP/1.1", HOST)),
    "unknown method": (501, raw(b"FOO /a HTTP/1.1", HOST)),
    "method in lower case": (501, raw(b"get /a HTTP/1.1", HOST)),
    "TRACE": (501, raw(b"TRACE /a HTTP/1.1", HOST)),
    "CONNECT": (501, raw(b"CONNECT here:443 HTTP/1.1", HOST)),
    "bad method": (400, raw(b"G@T /a HTTP/1.1", HOST)),
    "asterisk form": (400, raw(b"OPTIONS * HTTP/1.1", HOST)),
    "authority form": (400, raw(b"GET here:80 HTTP/1.1", HOST)),
    "absolute form of another host": (400, raw(b"GET http://there/a HTTP/1.1", HOST)),
    "absolute form with user": (400, raw(b"GET http://here@there/a HTTP/1.1", HOST)),
    "absolute form of another scheme": (400, raw(b"GET ftp://here/a HTTP/1.1", HOST)),
    "target without slash": (400, raw(b"GET a HTTP/1.1", HOST)),
    "fragment": (400, raw(b"GET /a#b HTTP/1.1", HOST)),
    "target beyond ASCII": (400, raw(b"GET /\xc3\xa4 HTTP/1.1", HOST)),
    "NUL in the target": (400, raw(b"GET /a\0 HTTP/1.1", HOST)),
    # Host and other single fields
    "no Host": (400, raw(b"GET /a HTTP/1.1")),
    "two Hosts": (400, raw(b"GET /a HTTP/1.1", HOST, b"Host: there")),
    "Host twice the same": (400, raw(b"GET /a HTTP/1.1", HOST, HOST)),
    "Host empty": (400, raw(b"GET /a HTTP/1.1", b"Host:")),
    "Host with path": (400, raw(b"GET /a HTTP/1.1", b"Host: here/there")),
    "Host with user": (400, raw(b"GET /a HTTP/1.1", b"Host: a@here")),
    "Host with a list": (400, raw(b"GET /a HTTP/1.1", b"Host: here, there")),
    "Host with a bad port": (400, raw(b"GET /a HTTP/1.1", b"Host: here:8o")),
    "Authorization twice": (400, raw(b"GET /a HTTP/1.1", HOST, b"Authorization: Bearer a", b"Authorization: Bearer b")),
    "unknown expectation": (417, raw(POST, HOST, b"Expect: 200-ok", b"Content-Length: 1") + b"a"),
    # chunks
    "chunk size is not a number": (400, raw(POST, HOST, TE) + b"xyz\r\n"),
    "chunk size with 0x": (400, raw(POST, HOST, TE) + b"0x3\r\nabc\r\n0\r\n\r\n"),
    "chunk size with a sign": (400, raw(POST, HOST, TE) + b"+3\r\nabc\r\n0\r\n\r\n"),
    "chunk size negative": (400, raw(POST, HOST, TE) + b"-3\r\nabc\r\n0\r\n\r\n"),
    "chunk size with underscore": (400, raw(POST, HOST, TE) + b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n"),
    "chunk size too large": (400, raw(POST, HOST, TE) + b"fffffffffffffff0\r\nabc"),
    "chunk size that overflows to 5": (400, raw(POST, HOST, TE) + b"10000000000000005\r\nabcde\r\n0\r\n\r\n"),
    "chunk size empty": (400, raw(POST, HOST, TE) + b"\r\nabc\r\n0\r\n\r\n"),
    "space before the chunk size": (400, raw(POST, HOST, TE) + b" 3\r\nabc\r\n0\r\n\r\n"),
    "space after the chunk size": (400, raw(POST, HOST, TE) + b"3 \r\nabc\r\n0\r\n\r\n"),
    "bare LF after the chunk size": (400, raw(POST, HOST, TE) + b"3\nabc\r\n0\r\n\r\n"),
    "bare LF after a chunk": (400, raw(POST, HOST, TE) + b"3\r\nabc\n0\r\n\r\n"),
    "bare CR after the chunk size": (400, raw(POST, HOST, TE) + b"3\rabc\r\n0\r\n\r\n"),
    "bare LF in an extension (TERM.EXT)": (400, raw(POST, HOST, TE) + b"2;\nxx\r\nab\r\n0\r\n\r\n"),
    "bare LF ends the last chunk": (400, raw(POST, HOST, TE) + b"0\n\r\n\r\n"),
    "NUL in an extension": (400, raw(POST, HOST, TE) + b"3;a=\0\r\nabc\r\n0\r\n\r\n"),
    "extension too long": (400, raw(POST, HOST, TE) + b"3;" + b"a" * 300 + b"\r\nabc\r\n0\r\n\r\n"),
    "chunk longer than its size": (400, raw(POST, HOST, TE) + b"3\r\nabcd\r\n0\r\n\r\n"),
    "no line end after a chunk": (400, raw(POST, HOST, TE) + b"3\r\nabc0\r\n\r\n"),
    "trailer without colon": (400, raw(POST, HOST, TE) + b"0\r\nabc\r\n\r\n"),
    "trailer folded": (400, raw(POST, HOST, TE) + b"0\r\nA: b\r\n c\r\n\r\n"),
    "trailer with bare LF": (400, raw(POST, HOST, TE) + b"0\r\nA: b\nC: d\r\n\r\n"),
    "trailers without end": (431, raw(POST, HOST, TE) + b"0\r\n" + b"A: b\r\n" * 1000),
    # limits
    "body too long": (413, raw(POST, HOST, b"Content-Length: %d" % (MAX_BODY + 1))),
    "chunks too long": (413, raw(POST, HOST, TE) + chunked(*[b"a" * 1000] * (MAX_BODY // 1000 + 1))),
    "head too long": (431, raw(POST, HOST, b"X: " + b"a" * 16384)),
    "head without end": (431, b"GET /" + b"a" * 20000),
    "too many headers": (431, raw(POST, HOST, *(b"X%d: a" % i for i in range(100)))),
    "too many headers of one name": (431, raw(POST, HOST, *(b"X: a" for i in range(100)))),
}


def one_by_one(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("cut", [lambda data: [data], one_by_one], ids=["whole", "bytes"])
def test_good_requests_are_seen_as_sent_and_answered_in_order(name, cut):
    data, seen = GOOD[name]
    outcome = deliver(cut(data))
    assert outcome.seen == seen
    assert outcome.refused == []
    answers, rest = split_answers(outcome.sent, tuple(request.method for request in seen))
    assert rest == b""
    assert [(answer.status, answer.body) for answer in answers] == [
        (200, b"" if one.method == "HEAD" else expected_body(one)) for one in seen
    ]
    assert outcome.ended is ("close" in name or name == "HTTP/1.0")


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("cut", [lambda data: [data], one_by_one], ids=["whole", "bytes"])
@pytest.mark.parametrize("before", [b"", request("GET /before")], ids=["first", "second"])
def test_bad_requests_are_refused_and_nothing_behind_them_is_seen(name, cut, before):
    status, data = BAD[name]
    outcome = deliver(cut(before + data + SMUGGLED))
    assert outcome.seen == ([Seen("GET", "/before", "", b"")] if before else [])
    answers, rest = split_answers(outcome.sent)
    assert rest == b""
    assert [answer.status for answer in answers] == ([200] if before else []) + [status]
    assert answers[-1].headers["connection"] == "close"
    assert outcome.refused == [status]
    assert outcome.ended


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([*GOOD.values(), *BAD.values()]), st.data())
def test_where_the_bytes_are_cut_makes_no_difference(case, data):
    sent = case[0] if isinstance(case[0], bytes) else case[1]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=12)))
    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True) if a < b]
    cut, whole = deliver(pieces), deliver([sent])
    assert (cut.seen, cut.refused, cut.ended) == (whole.seen, whole.refused, whole.ended)
    assert STATUS.findall(cut.sent) == STATUS.findall(whole.sent)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(st.binary(max_size=300), st.sampled_from(["none", "length", "chunks"]), st.integers(1, 100)),
        max_size=6,
    ),
    st.data(),
)
def test_any_sequence_of_requests_is_read_back(requests, data):
    sent, seen = b"", []
    for number, (body, framing, size) in enumerate(requests):
        if framing == "none":
            sent += request(f"GET /{number}")
            body = b""
        elif framing == "length":
            sent += request(f"PUT /{number}", f"Content-Length: {len(body)}", body=body)
        else:
            parts = [body[i : i + size] for i in range(0, len(body), size)]
            sent += request(f"PUT /{number}", "Transfer-Encoding: chunked", body=chunked(*parts))
        seen.append(Seen("GET" if framing == "none" else "PUT", f"/{number}", "", body))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=20)))
    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True) if a < b]
    outcome = deliver(pieces)
    assert outcome.seen == seen
    answers, rest = split_answers(outcome.sent)
    assert rest == b""
    assert [answer.body for answer in answers] == [expected_body(one) for one in seen]


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=400), st.integers(0, 400), st.sampled_from(list(GOOD.values())))
def test_noise_never_breaks_the_server(noise, at, case):
    sent = case[0][:at] + noise + case[0][at:]
    outcome = deliver([sent])
    assert set(outcome.refused) <= {400, 408, 413, 417, 431, 501, 505}
    assert len(outcome.refused) <= 1


def test_headers_are_joined_or_lower_case_and_stripped():
    head = Head()
    head.parse(request("GET /", "X-One: a", "x-one:\tb ", "Cookie: a=1", "Cookie: b=2", "X-Umlaut: \xe4"), 100)
    assert head.headers == {"host": "here", "x-one": "a, b", "cookie": "a=1; b=2", "x-umlaut": "\xe4"}


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=50), max_size=10), st.lists(st.integers(1, 40), min_size=1))
def test_chunks_come_out_as_they_went_in(chunks, sizes):
    data, reader, body, left, turn = chunked(*chunks) + b"next", ChunkedBody(), b"", b"", 0
    while data:
        size = sizes[turn % len(sizes)]
        turn += 1
        piece, data = data[:size], data[size:]
        out, left = reader.feed(left + piece)
        body += out
    assert reader.done
    assert body == b"".join(chunks)
    assert left == b"next"


def test_many_tiny_chunks_with_extensions_are_refused():
    reader = ChunkedBody()
    with pytest.raises(Refused):
        for _ in range(100):
            assert reader.feed(b"1;" + b"x" * 200 + b"\r\na\r\n")[1] == b""


def test_many_tiny_chunks_are_fine():
    reader, body = ChunkedBody(), b""
    for _ in range(20_000):
        body += reader.feed(b"1\r\na\r\n")[0]
    assert body == b"a" * 20_000


def test_a_counted_body_ends_where_it_says():
    reader = CountedBody(5)
    assert reader.feed(b"abc") == (b"abc", b"")
    assert not reader.done
    assert reader.feed(b"defg") == (b"de", b"fg")
    assert reader.done


def test_every_character_of_a_target_is_judged_alike_at_first_and_later():
    for number in range(256):
        sent = b"GET /a%bb HTTP/1.1\r\nHost: here\r\n\r\n" % bytes([number])
        first, later = deliver([sent]), deliver([request("GET /"), sent])
        assert (later.seen[1:], later.refused) == (first.seen, first.refused), number


def test_limits_of_the_head_are_exact():
    def head(size: int) -> bytes:
        start = request("GET /a", "X: ")
        return start[:-4] + b"a" * (size - len(start)) + b"\r\n\r\n"

    assert len(head(16384)) == 16384
    assert deliver([head(16384)]).refused == []
    assert deliver([head(16385)]).refused == [431]
    many = [f"X{i}: a" for i in range(9)]
    assert deliver([request("GET /", *many)], Limits(headers=10)).refused == []
    assert deliver([request("GET /", *many, "Y: a")], Limits(headers=10)).refused == [431]


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(list(GOOD.values())), st.sampled_from([*GOOD.values(), *BAD.values()]), st.data())
def test_what_was_before_on_the_connection_makes_no_difference(first, second, data):
    """Heads like the one before are read quickly: that must not show."""
    before = first[0]
    sent = second[0] if isinstance(second[0], bytes) else second[1]
    if data.draw(st.booleans()):  # the same head with another line
        line, _, rest = before.lstrip().partition(b"\r\n")
        lines = [
            b"GET /x",
            b"POST /y?z",
            b"TRACE /",
            b"GET x",
            b"get /",
            b"GET /#",
            b"G T /",
            b"PUT / HTTP/1.0\r\nA: b",
        ]
        lengths = [
            b"0",
            b"2",
            b"03",
            b"+3",
            b"3, 3",
            b"3 ",
            b" 3",
            b"3\r\nContent-Length: 3",
            b"99999999",
            b"",
            b"\xb2",
        ]
        rest = re.sub(rb"(?<=ength: )\d+", lambda _: data.draw(st.sampled_from(lengths)), rest)
        sent = data.draw(st.sampled_from(lines))
        sent += line[line.index(b" HTTP") :] + b"\r\n" + rest
    alone, warm, cold = deliver([sent]), deliver([before, sent]), deliver([before])
    if not cold.ended:
        assert warm.seen == cold.seen + alone.seen
        assert warm.refused == alone.refused
