"""What a web page says of itself: its OpenGraph data, or its title and description (client-server API "URL previews").

The person who asks chooses what the server fetches. So it fetches public addresses only (outgoing.py), at the ports of
the web, follows few redirects and checks each, reads the beginning only, and tells nothing of what went wrong: whatever
could not be fetched has an empty preview. Pictures are not fetched. Nothing is stored; previews are kept in memory.
"""

from __future__ import annotations

import html
import re
from collections import OrderedDict
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from heichat_appliance.clock import Clock
from heichat_appliance.errors import invalid_param, limit_exceeded
from heichat_appliance.outgoing import Answer, Outgoing

log = Logger()

Preview = dict[str, str]

#: Bytes of a page that are read; what is told of it stands at its beginning.
BEGINNING = 512 * 1024
MAX_REDIRECTS = 5
MAX_URL = 2048
#: The most characters of a value, and the most values of a page.
MAX_VALUE = 1000
MAX_VALUES = 30
#: Previews that are kept, and how long in ms; pages fetched at a time.
MAX_KEPT = 1000
KEPT_MS = 3600 * 1000
AT_ONCE = 20

_TYPES = ("text/html", "application/xhtml+xml")
_CHARSET = re.compile(rb"<meta[^>]{1,200}charset=[\"']?([A-Za-z0-9_\-]{1,40})", re.IGNORECASE)
#: Of the files that a page names (og:image ...) nothing is told: the client must not be made to fetch them.
_PROPERTY = re.compile(r"og:(?!image|video|audio)[a-z:_]{1,60}")
# Each match or failure ends at the next angle bracket, so the time is linear in the length, whatever a page has.
_TAGS = re.compile(
    r"<meta\s(?P<meta>[^<>]*)>|<title(?:\s[^<>]*)?>(?P<title>[^<]*)|(?P<end></head|<body)", re.IGNORECASE
)
_ATTRIBUTES = re.compile(r"""([a-z:_\-]{1,40})\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'<>`]+))""", re.IGNORECASE)


class UrlPreviews:
    """Fetches previews."""

    def __init__(self, outgoing: Outgoing, clock: Clock, reactor: Any) -> None:
        self._outgoing = outgoing
        self._clock = clock
        self._reactor = reactor
        self._kept: OrderedDict[str, tuple[int, Preview]] = OrderedDict()
        self._fetching: dict[str, list[Deferred[Preview]]] = {}

    def get(self, url: str) -> Deferred[Preview]:
        """The preview of a page, empty if it has or gives none.

        400 M_INVALID_PARAM if this is not the URL of a web page, 429 if too many are being fetched.
        """
        url = urldefrag(url)[0]
        if not self._may_fetch(url):
            raise invalid_param("query parameter url must be the address of a public web page (http or https)")
        result: Deferred[Preview] = Deferred()
        kept = self._kept.get(url)
        if kept is not None and kept[0] > self._clock.now_ms():
            result.callback(kept[1])
            return result
        if url in self._fetching:
            self._fetching[url].append(result)
            return result
        if len(self._fetching) >= AT_ONCE:
            raise limit_exceeded(2000)
        self._fetching[url] = [result]
        Deferred.fromCoroutine(self._fetch(url)).addErrback(self._failed).addCallback(self._fetched, url)
        return result

    async def stop(self) -> None:
        """Close the connections that are kept."""
        await self._outgoing.stop()

    def _failed(self, failure: Any) -> Preview:
        log.debug("a preview could not be fetched: {problem}", problem=failure.type.__name__)
        return {}

    def _fetched(self, preview: Preview, url: str) -> None:
        self._kept[url] = (self._clock.now_ms() + KEPT_MS, preview)
        self._kept.move_to_end(url)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        for waiter in self._fetching.pop(url):
            waiter.callback(preview)

    async def _fetch(self, url: str) -> Preview:
        for _ in range(MAX_REDIRECTS):
            answer = await self._outgoing.get(url, ", ".join(_TYPES), BEGINNING)
            if answer.status not in (301, 302, 303, 307, 308) or answer.location is None:
                break
            url = urldefrag(urljoin(url, answer.location))[0]
            if not self._may_fetch(url):
                return {}
        if answer.status != 200 or answer.content_type.partition(";")[0].strip().lower() not in _TYPES:
            return {}
        return await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), describe, answer, url)

    def _may_fetch(self, url: str) -> bool:
        if len(url) > MAX_URL or not url.isprintable() or " " in url:
            return False
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            return False
        ports = (None, 80, 443)
        plain = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        return plain and (port in ports or self._outgoing.allow_private)


def describe(answer: Answer, url: str) -> Preview:
    """The OpenGraph properties of an HTML page from `url`; title and description also from where others have them."""
    found: Preview = {}
    title = description = ""
    for tag in _TAGS.finditer(_text(answer)):
        if tag["end"]:
            break
        if tag["meta"] is None:
            title = title or tag["title"]
            continue
        attributes = {name.lower(): "".join(values) for name, *values in _ATTRIBUTES.findall(tag["meta"])}
        name = attributes.get("property") or attributes.get("name") or ""
        if _PROPERTY.fullmatch(name):
            found.setdefault(name, attributes.get("content", ""))
        elif name.lower() == "description":
            description = description or attributes.get("content", "")
    preview = {
        key: _clean(value) for key, value in ({"og:title": title, "og:description": description} | found).items()
    }
    preview = dict([(key, value) for key, value in preview.items() if value][:MAX_VALUES])
    return preview | {"og:url": url} if preview else {}


def _clean(value: str) -> str:
    return " ".join(html.unescape(value[: 2 * MAX_VALUE]).split())[:MAX_VALUE]


def _text(answer: Answer) -> str:
    header = re.search(r"charset=[\"']?([A-Za-z0-9_\-]{1,40})", answer.content_type, re.IGNORECASE)
    meta = _CHARSET.search(answer.body[:4096])
    charset = header[1] if header else meta[1].decode() if meta else "utf-8"
    try:
        return answer.body.decode(charset, "replace")
    except LookupError:
        return answer.body.decode("utf-8", "replace")
