"""Answering with a file: ranges, validators, and streaming at the pace of whoever reads (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from heichat_appliance.errors import MatrixError, not_found
from heichat_appliance.http.exchange import BodyWriter, Exchange
from heichat_appliance.http.routing import ANSWERED, Response
from heichat_appliance.http.site import with_defaults

log = Logger()

#: Bytes read at once; a file of this size or less is read at once and not in a thread.
PIECE = 128 * 1024

_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))", re.IGNORECASE)
_HEADERS = tuple[tuple[bytes, bytes], ...]


def send_file(
    exchange: Exchange,
    path: Path,
    *,
    content_type: bytes,
    etag: str,
    headers: _HEADERS,
    in_thread: Callable[..., Deferred[Any]],
) -> Any:
    """Answer a GET or HEAD with the file at `path`; what a handler returns.

    `etag`: a name of the content, without quotes, which never changes for the same bytes; `in_thread(function, *args)`
    runs what may wait for the disk. One range is served (206), several are answered with the whole; raises 416 for one
    outside of the file, 404 M_NOT_FOUND if there is no file.
    """
    tag = f'"{etag}"'
    headers = (*headers, (b"ETag", tag.encode()), (b"Accept-Ranges", b"bytes"))
    if matches(exchange.headers.get("if-none-match"), tag):
        return Response(304, b"", content_type, headers)
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        log.error("the file {path} is missing", path=str(path))
        raise not_found("this file is lost / Diese Datei ist verloren") from None
    try:
        size = os.fstat(file).st_size
        start, end = _range(exchange, tag, size)
        if (start, end) != (0, size):
            headers = (*headers, (b"Content-Range", b"bytes %d-%d/%d" % (start, end - 1, size)))
        status = 200 if (start, end) == (0, size) else 206
        if end - start <= PIECE:
            return Response(status, os.pread(file, end - start, start), content_type, headers)
        writer = exchange.respond_stream(
            status, with_defaults(((b"Content-Type", content_type), *headers)), end - start
        )
        if exchange.method == "HEAD":
            writer.finish()
            return ANSWERED
        writer.registerProducer(_Reader(os.dup(file), start, end, writer, in_thread), False)
        return ANSWERED
    finally:
        os.close(file)


def matches(header: str | None, tag: str) -> bool:
    """Whether If-None-Match (RFC 9110, section 13.1.2) names `tag`, an entity tag with its quotes."""
    if header is None:
        return False
    return header.strip() == "*" or tag in (value.strip().removeprefix("W/") for value in header.split(","))


def _range(exchange: Exchange, tag: str, size: int) -> tuple[int, int]:
    """First byte and end of what is asked for."""
    header = exchange.headers.get("range")
    if header is None or exchange.headers.get("if-range", tag) != tag:
        return 0, size
    match = _RANGE.fullmatch(header.strip())
    if match is None:  # several ranges, or another unit: may be ignored
        return 0, size
    first, last, suffix = match.groups()
    if suffix is not None:
        start, end = max(0, size - int(suffix)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < start:
            return 0, size  # not a valid range: ignored
    if start >= end:
        unsatisfied = {"Content-Range": f"bytes */{size}"}
        raise MatrixError(416, "M_UNKNOWN", "the Range is outside of the file", headers=unsatisfied)
    return start, end


class _Reader:
    """A pull producer: each time the connection has room it reads a piece in a thread."""

    def __init__(
        self, file: int, start: int, end: int, writer: BodyWriter, in_thread: Callable[..., Deferred[Any]]
    ) -> None:
        self._file = file
        self._at = start
        self._end = end
        self._writer = writer
        self._in_thread = in_thread
        self._reading = self._stopped = False

    def resumeProducing(self) -> None:
        """Read the next piece."""
        if not self._reading and not self._stopped:
            self._reading = True
            wanted = min(PIECE, self._end - self._at)
            self._in_thread(os.pread, self._file, wanted, self._at).addBoth(self._read, wanted)

    def stopProducing(self) -> None:
        """The reader went away."""
        self._stopped = True
        if not self._reading:
            os.close(self._file)

    def _read(self, data: bytes | Failure, wanted: int) -> None:
        self._reading = False
        if self._stopped:
            os.close(self._file)
        elif isinstance(data, Failure) or len(data) != wanted:
            log.error(
                "a file could not be read: {problem}", problem=str(data) if isinstance(data, Failure) else "short"
            )
            self._stopped = True
            os.close(self._file)
            self._writer.abort()
        else:
            self._at += len(data)
            if self._at == self._end:
                self._stopped = True
                os.close(self._file)
                self._writer.unregisterProducer()
            self._writer.write(data)
            if self._stopped:
                self._writer.finish()
