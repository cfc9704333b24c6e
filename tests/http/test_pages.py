"""The landing page and the documents for everybody: what they say, in which language, under which headers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path

import pytest
import pytest_twisted
import segno

from heichat_appliance.config import ConfigErrors
from tests.appliance import Answer, Appliance

SERVICE = ("demo_directory", "terms_consent", "closed_rooms")
FULL = {
    "server": {"support_email": "it-service@example.org"},
    "web": {
        "conference_url": "https://heiconf.example.org",
        "imprint_url": "https://www.example.org/imprint",
        "help_url": "https://www.example.org/help",
    },
    "calls": {"enabled": "yes", "listen": "udp:127.0.0.1:0"},
    "demo_directory": {"demo": "yes"},
}


@asynccontextmanager
async def service(
    folder: Path,
    config: dict[str, dict[str, str]] | None = None,
    plugins: tuple[str, ...] = SERVICE,
    *,
    demo: bool = False,
) -> AsyncIterator[Appliance]:
    """The server, not as a demo unless said so."""
    values = {"demo_directory": {"demo": "yes"}, **(config or {})}
    server = await Appliance.start(folder, plugins=plugins, config=values, demo=demo)
    try:
        yield server
    finally:
        await server.stop()


async def read(server: Appliance, path: str = "/", lang: str = "de") -> str:
    answer = await server.http.request("GET", path, headers={"Accept-Language": lang})
    assert answer.status == 200, answer
    return answer.body.decode()


class Outline(HTMLParser):
    """Tags that are open at the end or closed wrongly, IDs, references to IDs, and what the page loads or links."""

    VOID = frozenset({"meta", "link", "img", "input", "br", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: list[str] = []
        self.references: set[str] = set()
        self.loads: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag not in self.VOID:
            self.open.append(tag)
        if "id" in found:
            self.ids.append(found["id"])
        for name in ("aria-labelledby", "aria-describedby", "data-copy", "data-told"):
            self.references.update(found.get(name, "").split())
        target = found.get("href", found.get("src", ""))
        (self.links if tag == "a" else self.loads).add(target)
        if tag == "a" and target.startswith("#"):
            self.references.add(target[1:])
        if {"style", "onclick", "onload"} & found.keys():
            self.wrong.append(f"inline: {tag}")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}>")


PATHS = ("/", "/terms", "/privacy", "/_heichat/consent", "/_heichat/consent?u=x&h=y", "/element/")


@pytest.mark.parametrize("demo", [False, True])
@pytest_twisted.ensureDeferred
async def test_every_page_is_well_made_and_loads_from_here_alone(tmp_path: Path, demo: bool) -> None:
    async with service(tmp_path, FULL, demo=demo) as server:
        for path in PATHS:
            for lang in ("de", "en"):
                answer = await server.http.request("GET", path, headers={"Accept-Language": lang})
                text = answer.body.decode()
                outline = Outline(text)
                assert outline.wrong == [] and outline.open == [], path
                assert len(outline.ids) == len(set(outline.ids)) and outline.references <= {*outline.ids, ""}, path
                assert f'<html lang="{lang}">' in text and "<title>" in text and "<h1" in text
                assert all(one.startswith("/_heichat/") for one in outline.loads if one), path
                for loaded in outline.loads - {""}:
                    assert (await server.http.get(loaded)).status == 200, loaded
                for link in (one for one in outline.links if one.startswith("/") and not one.startswith("/try")):
                    same = link.partition("?")[0] == path.partition("?")[0]  # in the other language
                    assert (await server.http.get(link)).status == (answer.status if same else 200), link
                policy = answer.headers["content-security-policy"]
                assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy and "http" not in policy
                assert ("script-src" in policy) == ("<script" in text) == (path == "/")
                assert answer.headers["x-frame-options"] == "DENY"
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert answer.headers["referrer-policy"] == "no-referrer"


@pytest_twisted.ensureDeferred
async def test_the_language_is_asked_for_or_chosen(tmp_path: Path) -> None:
    async with service(tmp_path) as server:
        for header, lang in (
            ("de", "de"), ("de-CH,de;q=0.9,en;q=0.8", "de"), ("en-US,en;q=0.9", "en"), ("en;q=0.1,de;q=0.2", "de"),
            ("fr,en;q=0.3", "en"), ("fr", "de"), ("", "de"), ("*", "de"), ("en;q=x", "de"), (", ,;q=", "de"),
        ):  # fmt: skip
            assert f'<html lang="{lang}">' in await read(server, "/", header), header
        assert '<html lang="en">' in await read(server, "/?lang=en", "de")
        assert '<html lang="de">' in await read(server, "/?lang=de", "en")
        assert '<html lang="de">' in await read(server, "/?lang=xx", "de")
        text = await read(server, "/", "en")
        assert '<a href="/?lang=de" lang="de" hreflang="de">Deutsch</a>' in text
        assert 'hreflang="en" aria-current="true">English</a>' in text
        assert (await server.http.request("GET", "/")).headers["vary"] == "Accept-Language, Accept-Encoding"


# -- every sentence is true --------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_with_everything(tmp_path: Path) -> None:
    async with service(tmp_path, FULL) as server:
        text, english = await read(server), await read(server, lang="en")
    for sentence in (
        "Instant-Messaging-Dienst für Studierende und Beschäftigte der Universität",
        "eine Registrierung ist nicht erforderlich",
        "Die Kommunikation ist transportverschlüsselt.",
        "Optional kann eine Ende-zu-Ende-Verschlüsselung in Räumen und direkten Chats angeschaltet werden.",
        "Audio- und Videoanrufe sind zwischen Einzelpersonen möglich.",
        "<a href='https://heiconf.example.org'>heiconf.example.org</a>",
        "Alle Räume sind geschlossen",
        "<code>@administrator:chat.test</code>",
        "„Server Notices“",
        "vom Universitätsrechenzentrum betriebenen Server",
        '<code id="address">https://chat.test</code>',
        "mailto:it-service@example.org",
        "https://www.example.org/imprint",
        "https://www.example.org/help",
        'href="/terms?lang=de"',
        'href="/privacy?lang=de"',
    ):
        assert sentence in text, sentence
    assert "between two people" in english and "-demo" not in text and "/try/" not in text and "/element/" not in text


@pytest_twisted.ensureDeferred
async def test_with_little(tmp_path: Path) -> None:
    async with service(tmp_path, plugins=("demo_directory",)) as server:
        text = await read(server)
        assert (await server.http.get("/terms")).status == (await server.http.get("/privacy")).status == 404
    for word in (
        "Anrufe",
        "anrufe",
        "Audio",
        "Konferenz",
        "geschlossen",
        "Server Notices",
        "/terms",
        "mailto",
        "<footer",
    ):
        assert word not in text, word


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"rooms": {"encryption_default": "direct"}}, "Neue direkte Chats beginnen Ende-zu-Ende-verschlüsselt"),
        ({"rooms": {"encryption_default": "on"}}, "Neue direkte Chats beginnen Ende-zu-Ende-verschlüsselt"),
        ({"web": {"brand": "Uni & <Chat>"}}, "<title>Uni &amp; &lt;Chat&gt; – Chat für die Universität</title>"),
        (
            {"web": {"privacy_url": "https://example.org/privacy"}},
            '<a href="https://example.org/privacy">Datenschutz</a>',
        ),
        ({"terms_consent": {"administrator": "hausmeister"}}, "<code>@hausmeister:chat.test</code>"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_the_configuration_says(tmp_path: Path, config: dict[str, dict[str, str]], sentence: str) -> None:
    async with service(tmp_path, config) as server:
        assert sentence in await read(server)


@pytest_twisted.ensureDeferred
async def test_without_tls_nothing_is_said_of_it(tmp_path: Path) -> None:
    async with service(tmp_path, {"server": {"public_url": "http://chat.test"}}) as server:
        assert "transportverschlüsselt" not in await read(server)


@pytest_twisted.ensureDeferred
async def test_the_web_client_is_linked_as_soon_as_it_is_there(tmp_path: Path) -> None:
    async with service(tmp_path) as server:
        assert "/element/" not in await read(server)
        folder = tmp_path / "data" / "element" / "current"
        folder.mkdir(parents=True)
        (folder / "index.html").write_text("Element")
        assert '<a class="button" href="/element/">Im Browser öffnen</a>' in await read(server)


@pytest_twisted.ensureDeferred
async def test_the_demo_says_who_can_log_in(tmp_path: Path) -> None:
    async with service(tmp_path, demo=True) as server:
        text = await read(server)
    assert "Dies ist eine Demo." in text and 'href="/try/"' in text
    for name in ("alice", "bob", "charlotte"):
        assert f"<code>{name}</code>" in text and f"<code>{name}-demo</code>" in text
    assert "<svg" not in text  # no phone reaches it
    assert "Universitätsrechenzentrum" not in text  # which does not run it


@pytest_twisted.ensureDeferred
async def test_the_qr_code_leads_here(tmp_path: Path) -> None:
    async with service(tmp_path) as server:
        text = await read(server)
    (path,) = re.findall(r'<svg viewBox="0 0 (\d+) \1"><path stroke="#000" d="([^"]+)"', text)
    assert modules(path[1]) == [list(row) for row in segno.make("https://chat.test", error="m", micro=False).matrix]


def modules(path: str) -> list[list[int]]:
    """The dark and light modules that a path of rows (M, then h and m by turns) draws, without the border."""
    size = 0
    dark: set[tuple[int, int]] = set()
    x, y = 0.0, 0.0
    for command, first, second in re.findall(r"([Mmh])(-?[\d.]+)(?: (-?[\d.]+))?", path):
        if command == "h":
            dark |= {(int(x) + step, int(y)) for step in range(int(first))}
            x += int(first)
        else:
            x, y = (0.0, 0.0) if command == "M" else (x, y)
            x, y = x + float(first), y + float(second)
    left, size = min(x for x, _ in dark), max(x for x, _ in dark) - min(x for x, _ in dark) + 1
    return [[int((x + left, y + left) in dark) for x in range(size)] for y in range(size)]


# -- documents ---------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_documents_can_be_read_by_everybody_and_are_agreed_to_together(tmp_path: Path) -> None:
    async with service(tmp_path) as server:
        assert "<h1>Nutzungsbedingungen</h1>" in await read(server, "/terms")
        assert "<h1>Privacy notice</h1>" in await read(server, "/privacy", "en")
        together = await read(server, "/_heichat/consent")
        assert "<h1>Nutzungsbedingungen</h1>" in together and "<h1>Datenschutzhinweise</h1>" in together
        assert "<form" not in await read(server, "/terms")


@pytest_twisted.ensureDeferred
async def test_one_document_for_both(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for lang in ("de", "en"):
        (folder / f"{lang}.md").write_text("# Bedingungen und Datenschutz", "utf-8")
    async with service(tmp_path, {"terms_consent": {"documents": str(folder)}}) as server:
        assert "Bedingungen und Datenschutz" in await read(server, "/terms")
        assert (await server.http.get("/privacy")).status == 404
        assert "/privacy" not in await read(server)


@pytest_twisted.ensureDeferred
async def test_half_a_privacy_notice_is_refused_at_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in ("de.md", "en.md", "privacy.de.md"):
        (folder / name).write_text("x")
    with pytest.raises(ConfigErrors, match=r"privacy\.en\.md"):
        await Appliance.start(tmp_path, plugins=SERVICE, config={"terms_consent": {"documents": str(folder)}})


# -- fast --------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_who_has_it_is_told_so(tmp_path: Path) -> None:
    async with service(tmp_path) as server:
        for path in ("/", "/terms", "/_heichat/style.css", "/_heichat/icon.svg", "/favicon.ico"):
            first = await server.http.request("GET", path)
            assert first.headers["cache-control"] == "no-cache"
            again = await server.http.request("GET", path, headers={"If-None-Match": first.headers["etag"]})
            assert (again.status, again.body) == (304, b"")
        german, english = [await _page(server, lang) for lang in ("de", "en")]
        assert german.headers["etag"] != english.headers["etag"]


async def _page(server: Appliance, lang: str) -> Answer:
    return await server.http.request("GET", "/", headers={"Accept-Language": lang})


@pytest_twisted.ensureDeferred
async def test_what_the_page_loads_is_kept(tmp_path: Path) -> None:
    async with service(tmp_path) as server:
        for link in Outline(await read(server)).loads - {""}:
            answer = await server.http.get(link)
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable", link
        other = await server.http.get("/_heichat/style.css?v=old")
        assert other.headers["cache-control"] == "no-cache"
