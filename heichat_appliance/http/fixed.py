"""Content that is made once and served often: validators and compression are made with it (RFC 9110, sections 8 and 13)."""

from __future__ import annotations

import gzip
from hashlib import sha256

from heichat_appliance.http.files import matches
from heichat_appliance.http.routing import Request, Response

Headers = tuple[tuple[bytes, bytes], ...]

FOREVER = b"public, max-age=31536000, immutable"
ASK_AGAIN = b"no-cache"  # may be kept, and is asked for again by its ETag
#: Bytes from which compressing is worth it.
MIN_COMPRESSED = 1024


class Fixed:
    """One piece of content. `version` is short and changes with the content: with it as `?v=` the address never changes
    its meaning, and browsers need not ask again."""

    def __init__(
        self, body: bytes, content_type: bytes, headers: Headers = (), *, vary: bytes = b"Accept-Encoding"
    ) -> None:
        self.version = sha256(body).hexdigest()[:16]
        self._body = body
        self._gzip = gzip.compress(body, 9, mtime=0) if len(body) >= MIN_COMPRESSED else None
        self._content_type = content_type
        self._headers = (*headers, (b"Vary", vary))

    def answer(self, request: Request) -> Response:
        """200, or 304 to who has it."""
        headers = request.exchange.headers
        packed = self._gzip is not None and accepts_gzip(headers.get("accept-encoding"))
        tag = f'"{self.version}{"-gzip" if packed else ""}"'
        cache = FOREVER if request.query("v") == self.version else ASK_AGAIN
        found = (*self._headers, (b"ETag", tag.encode()), (b"Cache-Control", cache))
        if matches(headers.get("if-none-match"), tag):
            return Response(304, b"", self._content_type, found)
        if packed:
            return Response(200, self._gzip or b"", self._content_type, (*found, (b"Content-Encoding", b"gzip")))
        return Response(200, self._body, self._content_type, found)


def accepts_gzip(header: str | None) -> bool:
    """Whether Accept-Encoding (RFC 9110, section 12.5.3) names gzip and does not refuse it."""
    for part in (header or "").split(",")[:20]:
        name, _, weight = part.strip().lower().partition(";")
        if name.strip() == "gzip":
            return not weight.strip().startswith("q=0") or any(digit in weight for digit in "123456789")
    return False
