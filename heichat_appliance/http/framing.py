"""Where an HTTP/1.1 request's head and body begin and end, and whether they are beyond doubt: pure functions of bytes.

Two parsers must agree on a head: the grammar below, which is stricter than RFC 9112 asks, and llhttp. Whatever two
servers could read differently (request smuggling) is refused, and the connection closed. Sources: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import re

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
CHUNKED = -1  # Head.length of a body in chunks

_CHUNK_LINE_BYTES = 256
_TRAILER_BYTES = 4096
_CHUNK_SPARE_BYTES = 4096

# One empty line before the request line is let through (RFC 9112 section 2.2), nothing else is. As no line may begin
# with white space and no CR, LF or NUL stands in a value, obs-fold, bare LF and bare CR never match.
_HEAD = re.compile(
    rb"(?:\r\n)?([A-Za-z]++) ([!-~]++) HTTP/([0-9]\.[0-9])\r\n"
    rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t -~\x80-\xff]*+\r\n)*+\r\n"
)
_LINE = re.compile(rb"([A-Z]++) (/[!\"$-~]*+)")  # method and origin-form target, without its version
_HOST = re.compile(r"(?:[A-Za-z0-9._~\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,15}")
_LENGTH_LINE = re.compile(rb"\r\ncontent-length: ([0-9]+)\r\n", re.IGNORECASE)
_ABSOLUTE = re.compile(r"https?://([^/?]+)(.*)", re.IGNORECASE)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[\t -~\x80-\xff]*+)?")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t -~\x80-\xff]*+")

# Fields that mean one thing only; sent twice, somebody is trying to make two readers differ.
_SINGLE = frozenset(
    {"host", "content-length", "transfer-encoding", "content-type", "content-encoding", "authorization", "expect"}
    | {"origin", "range", "upgrade"}
)


class Refused(Exception):
    """A request that is answered with `status` and a sentence, and its connection closed."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


# Of a head: all from " HTTP/1.1" on, with the number of Content-Length cut out if it has one, as what comes before and
# after that; and what it means: headers, length, keep_alive, http10.
Known = tuple[bytes, bytes, dict[str, str], int, bool, bool]


class _Names(dict[str, str]):
    """Header names as sent -> lower case; bounded, as strangers choose the names."""

    def __missing__(self, name: str) -> str:
        if len(self) > 500:
            self.clear()
        lower = self[name] = name.lower()
        return lower


_names = _Names()


def _check_with_llhttp(head: bytes) -> None:
    # A parser for each head: none of its state outlives a request, so neither "upgrade" nor "close" nor an unfinished
    # body can colour what comes next. Making one costs a tenth of a microsecond.
    try:
        HttpRequestParser(None).feed_data(head)
    except HttpParserUpgrade:
        pass  # upgrades are not offered: the request is answered as if it had not asked (RFC 9110 section 7.8)
    except HttpParserError:
        raise Refused(400, "The head of the request is not valid HTTP/1.1.") from None


class Head:
    """The head of one request.

    method       one of METHODS
    path, query  the target as sent, undecoded: from the slash up to "?", and what follows
    headers      lower-case name -> latin-1 value; repeated ones joined with ", "; not to be changed, as the heads of
                 one connection may share it
    length       bytes of the body, 0 when there is none, CHUNKED
    keep_alive   whether the client lets the connection live after the answer
    http10       HTTP/1.0: no chunks in the answer
    expects      the client waits for "100 Continue"
    """

    __slots__ = ("expects", "headers", "http10", "keep_alive", "length", "method", "path", "query")
    method: str
    path: str
    query: str
    headers: dict[str, str]

    def parse(self, data: bytes, max_headers: int) -> None:
        """Reads a whole head, up to and with its empty line; raises Refused."""
        match = _HEAD.fullmatch(data)
        if match is None:
            raise Refused(400, "The head of the request is not valid HTTP/1.1.")
        method, target, version = match.groups()
        if version not in (b"1.1", b"1.0"):
            raise Refused(505, "This server speaks HTTP/1.1 and HTTP/1.0.")
        self.http10 = version == b"1.0"
        self.method = method.decode("ascii")
        if self.method not in METHODS:
            raise Refused(501, "The method of the request is unknown.")
        if data.count(b"\n") > max_headers + 2 + data.startswith(b"\r"):
            raise Refused(431, f"More than {max_headers} header fields.")
        _check_with_llhttp(data)
        self.headers = {}
        self._read_fields(data)
        self._set_target(target.decode("ascii"))
        self._set_framing()

    def known(self, data: bytes) -> Known | None:
        """What `parse_known` needs to read the next head quickly; None if that one must be read anew."""
        if "expect" in self.headers:
            return None
        rest = data[data.index(b" HTTP/") :]
        match = _LENGTH_LINE.search(rest) if "content-length" in self.headers else None
        before, after = (rest[: match.start(1)], rest[match.end(1) :]) if match else (rest, b"")
        return before, after, self.headers, self.length, self.keep_alive, self.http10

    def parse_known(self, data: bytes, known: Known) -> bool:
        """Reads a head that differs from an earlier one in method, target and number of Content-Length alone, as a
        client's heads mostly do: all else was judged already. False if this is not such a head."""
        before, after, self.headers, self.length, self.keep_alive, self.http10 = known
        self.expects = False
        start = len(data)
        if after:
            end = start - len(after)
            start = data.rfind(b" ", 0, end) + 1
            if not (data.endswith(after) and _LENGTH.fullmatch(data, start, end)):
                return False
            length = data[start:end].decode("ascii")
            self.length = int(length)
            self.headers = {**self.headers, "content-length": length}
        if not data.endswith(before, 0, start):
            return False
        match = _LINE.fullmatch(data, 0, start - len(before))
        if match is None:
            return False
        self.method = match[1].decode("ascii")
        self.path, _, self.query = match[2].decode("ascii").partition("?")
        return self.method in METHODS

    def _read_fields(self, data: bytes) -> None:
        """Of a head that is valid, so that its lines can be told apart by CR LF and its names by the first colon."""
        headers = self.headers
        lines = data.decode("latin-1").split("\r\n")
        for line in lines[2 if lines[0] == "" else 1 : -2]:
            name, _, value = line.partition(":")
            key, text = _names[name], value.strip(" \t")
            if key not in headers:
                headers[key] = text
            elif key in _SINGLE:
                raise Refused(400, f"The header field {key} may be sent only once.")
            else:
                headers[key] += (", " if key != "cookie" else "; ") + text

    def _set_target(self, target: str) -> None:
        host = self.headers.get("host")
        if host is None:
            if not self.http10:
                raise Refused(400, "The header field Host is missing.")
        elif not _HOST.fullmatch(host):
            raise Refused(400, "The header field Host is not valid.")
        if target[0] != "/":
            target = self._origin_form(target, host)
        if "#" in target:
            raise Refused(400, "The target of the request holds a fragment.")
        self.path, _, self.query = target.partition("?")

    @staticmethod
    def _origin_form(target: str, host: str | None) -> str:
        """Absolute form (RFC 9112 section 3.2.2) only for the host that Host names; no other form."""
        match = _ABSOLUTE.fullmatch(target)
        if match is None or host is None or match[1].lower() != host.lower():
            raise Refused(400, "The target of the request must be a path of this server.")
        return match[2] if match[2].startswith("/") else "/" + match[2]

    def _set_framing(self) -> None:
        headers = self.headers
        length = headers.get("content-length")
        coding = headers.get("transfer-encoding")
        if coding is not None:
            if length is not None or self.http10:
                raise Refused(400, "Transfer-Encoding is not allowed here.")
            if coding.lower() != "chunked":
                raise Refused(501, "The only transfer coding is chunked.")
            self.length = CHUNKED
        elif length is None:
            self.length = 0
        elif _LENGTH.fullmatch(length.encode("latin-1")):
            self.length = int(length)
        else:
            raise Refused(400, "The header field Content-Length is not a number.")
        self.keep_alive = not self.http10
        if "connection" in headers and "close" in [t.strip() for t in headers["connection"].lower().split(",")]:
            self.keep_alive = False
        expect = headers.get("expect")
        self.expects = expect is not None and self.length != 0 and not self.http10
        if expect is not None and expect.lower() != "100-continue":
            raise Refused(417, "The only expectation is 100-continue.")


class CountedBody:
    """A body of known length; see ChunkedBody."""

    __slots__ = ("done", "left")

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        body = data if len(data) <= self.left else data[: self.left]
        self.left -= len(body)
        self.done = self.left == 0
        return body, data[len(body) :]


class ChunkedBody:
    """Takes a chunked body apart (RFC 9112 section 7.1): strict, extensions and trailers dropped and bounded.

    `feed(data)` takes what came (with what the last call left over in front) and returns the body's bytes in it and
    what is left over: an unfinished line, or once `done` is true what follows the body. Raises Refused.
    """

    __slots__ = ("_chunk", "_line", "_spare", "_trailers", "done")

    def __init__(self) -> None:
        self.done = False
        self._chunk = 0  # bytes of the running chunk still to come
        self._line = ChunkedBody._size  # what the next line is
        self._spare = _CHUNK_SPARE_BYTES  # bytes of framing we put up with; each byte of body earns eight
        self._trailers = _TRAILER_BYTES

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        at, pieces = 0, []
        while not self.done and at < len(data):
            if self._chunk:
                piece = data[at : at + self._chunk]
                pieces.append(piece)
                self._chunk -= len(piece)
                self._spare += 8 * len(piece)
                at += len(piece)
                continue
            end = data.find(b"\r\n", at, at + _CHUNK_LINE_BYTES)
            if end < 0:
                self._check_unfinished(data[at:])
                break
            self._line(self, data[at:end])
            at = end + 2
        return b"".join(pieces), data[at:]

    @staticmethod
    def _check_unfinished(line: bytes) -> None:
        if len(line) >= _CHUNK_LINE_BYTES or b"\n" in line or b"\r" in line[:-1]:
            raise Refused(400, "The body is not valid chunked coding.")

    def _size(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise Refused(400, "The body is not valid chunked coding.")
        self._spare -= len(line) + 4
        if self._spare < 0:
            raise Refused(400, "The chunks of the body are too small.")
        self._chunk = int(match[1], 16)
        self._line = ChunkedBody._after_chunk if self._chunk else ChunkedBody._trailer

    def _after_chunk(self, line: bytes) -> None:
        if line:
            raise Refused(400, "The body is not valid chunked coding.")
        self._line = ChunkedBody._size

    def _trailer(self, line: bytes) -> None:
        if not line:
            self.done = True
        elif not _TRAILER_LINE.fullmatch(line):
            raise Refused(400, "The trailer of the body is not valid.")
        self._trailers -= len(line) + 2
        if self._trailers < 0:
            raise Refused(431, "The trailer of the body is too long.")
