"""URL previews of pages that a real web server has."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet import defer, reactor
from twisted.web.resource import Resource
from twisted.web.server import Site

from heichat_appliance.outgoing import Answer
from heichat_appliance.services.url_previews import BEGINNING, MAX_REDIRECTS, describe
from tests.appliance import Appliance

PREVIEW = "/_matrix/client/v1/media/preview_url"
PAGE = b"""<!DOCTYPE html><html><head><meta charset="utf-8">
<title>Old &amp; plain</title>
<meta property="og:title" content="A &quot;good&quot; page">
<meta content='About things' name='description'>
<meta property="og:image" content="https://tracker.example/x.png"><meta property="og:type" content=article>
</head><body><meta property="og:site_name" content="not in the head"></body></html>"""


class Web(Resource):
    """Answers by path: (status, headers, body)."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.pages: dict[bytes, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[bytes] = []
        self._port = reactor.listenTCP(0, Site(self), interface="127.0.0.1")
        self.url = f"http://127.0.0.1:{self._port.getHost().port}"

    def put(self, path: str, body: bytes = PAGE, status: int = 200, **headers: str) -> str:
        """Have a page; its URL."""
        headers = {"content-type": "text/html", **{key.replace("_", "-"): value for key, value in headers.items()}}
        self.pages[path.encode()] = (status, headers, body)
        return self.url + path

    def render_GET(self, request):
        """What the appliance asks for."""
        self.asked.append(request.uri)
        status, headers, body = self.pages.get(request.uri, (404, {}, b""))
        request.setResponseCode(status)
        for name, value in headers.items():
            request.setHeader(name, value)
        return body


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    config = {"media": {"url_previews": "yes", "url_previews_private": "yes"}}
    running = await Appliance.start(tmp_path, config=config)
    yield running
    await running.stop()


@pytest_twisted.async_yield_fixture
async def web():
    running = Web()
    yield running
    await running._port.stopListening()


async def preview(actor, url: str) -> dict:
    return actor.ok(await actor.get(PREVIEW, url=url))


@pytest_twisted.ensureDeferred
async def test_a_page_tells_of_itself(server, web):
    alice = await server.login("alice")
    url = web.put("/page")
    wanted = {
        "og:title": 'A "good" page',
        "og:description": "About things",
        "og:type": "article",
        "og:url": url,
    }
    assert await preview(alice, url + "#part") == wanted
    assert alice.ok(await alice.get("/_matrix/media/v3/preview_url", url=url, ts=1)) == wanted
    assert web.asked == [b"/page"]  # the second time it is known


@pytest_twisted.ensureDeferred
async def test_those_who_ask_at_once_share_an_answer(server, web):
    alice = await server.login("alice")
    url = web.put("/page")
    found = await defer.gatherResults([defer.ensureDeferred(preview(alice, url)) for _ in range(5)])
    assert {one["og:title"] for one in found} == {'A "good" page'}
    assert web.asked == [b"/page"]


@pytest_twisted.ensureDeferred
async def test_redirects_are_followed_a_few_times(server, web):
    alice = await server.login("alice")
    url = web.put("/page")
    for number in range(MAX_REDIRECTS + 1):
        web.put(f"/{number + 1}", b"", 302, location=f"/{number}" if number else "/page")
    assert (await preview(alice, f"{web.url}/{MAX_REDIRECTS - 1}"))["og:url"] == url
    assert await preview(alice, f"{web.url}/{MAX_REDIRECTS}") == {}
    assert await preview(alice, web.put("/away", b"", 302, location="file:///etc/passwd")) == {}


@pytest_twisted.ensureDeferred
async def test_what_has_no_preview_is_empty(server, web):
    alice = await server.login("alice")
    for url in (
        web.url + "/missing",
        web.put("/error", PAGE, 500),
        web.put("/text", PAGE, content_type="text/plain"),
        web.put("/bare", b"<p>hello"),
        web.put("/zipped", b"\x1f\x8b\x08\0\0", content_encoding="gzip"),
        "http://127.0.0.1:9/",
        "http://does-not-exist.invalid/",
    ):
        assert await preview(alice, url) == {}, url


@pytest_twisted.ensureDeferred
async def test_only_the_beginning_of_a_page_is_read(server, web):
    alice = await server.login("alice")
    assert (await preview(alice, web.put("/long", PAGE + b"x" * (4 * BEGINNING))))["og:type"] == "article"
    assert await preview(alice, web.put("/late", b" " * BEGINNING + PAGE)) == {}


@pytest.mark.parametrize(
    "url",
    ["", "page", "ftp://example.org/", "file:///etc/passwd", "http:///x", "https://me:secret@example.org/",
     "https://example.org:99999/", "https://exa mple.org/", "https://example.org/\n", "https://[::1/"],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_what_is_no_web_page(server, url):
    alice = await server.login("alice")
    answer = await alice.get(PREVIEW, url=url)
    assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM")


@pytest_twisted.ensureDeferred
async def test_the_url_is_needed(server):
    alice = await server.login("alice")
    answer = await alice.get(PREVIEW)
    assert (answer.status, answer.errcode) == (400, "M_MISSING_PARAM")


@pytest_twisted.ensureDeferred
async def test_by_default_nothing_private_is_fetched(tmp_path, web, monkeypatch):
    server = await Appliance.start(tmp_path, config={"media": {"url_previews": "yes"}})
    alice = await server.login("alice")
    url = web.put("/page")
    assert (await alice.get(PREVIEW, url=url)).status == 400  # not a port of the web
    monkeypatch.setattr(type(server.daemon.url_previews), "_may_fetch", lambda self, url: True)
    for name in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"):
        assert await preview(alice, url.replace("127.0.0.1", name)) == {}, name
    assert web.asked == []
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_by_default_there_are_none(tmp_path, web):
    server = await Appliance.start(tmp_path)
    alice = await server.login("alice")
    answer = await alice.get(PREVIEW, url=web.put("/page"))
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    assert web.asked == []
    await server.stop()


@pytest.mark.parametrize(
    ("content_type", "body", "title"),
    [
        ("text/html; charset=iso-8859-1", "<title>Übung</title>".encode("latin-1"), "Übung"),
        ("text/html", b'<meta charset="iso-8859-1">' + "<title>Übung</title>".encode("latin-1"), "Übung"),
        ("text/html", "<title>Übung</title>".encode(), "Übung"),
        ("text/html; charset=nonsense", b"<title>plain</title>", "plain"),
        ("text/html", b"<title>a\n  b</title><title>second</title>", "a b"),
        ("text/html", b"<TITLE lang=de>big</TITLE>", "big"),
        ("text/html", b"<title>" + b"x" * 5000, "x" * 1000),
    ],
)
def test_titles(content_type, body, title):
    assert describe(Answer(200, body, content_type), "u") == {"og:title": title, "og:url": "u"}


@pytest.mark.parametrize("piece", [b"<meta ", b"<", b"<meta a='", b"<title>", b"<!--", b'<meta a="b" ', b"&amp"])
def test_no_page_keeps_the_parser_busy(piece):
    body = piece * (BEGINNING // len(piece))
    assert set(describe(Answer(200, body, "text/html"), "u")) <= {"og:title", "og:url"}
