"""Element Web at `/element/`: the files of an unpacked release, and a config.json of our own.

What can be asked for is what was found in the folder: plain files, whose names are compared and never opened. So no path
leads out, and symbolic links lead nowhere. The folder itself may be a symbolic link (`heichat-admin element install` makes
it one); when it leads elsewhere, that is seen at the next request, and the files of the release before it are still given to
those whose page is older. Headers as Element recommends: element-web, README.md and docs/install.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from twisted.logger import Logger

from heichat_appliance.errors import not_found
from heichat_appliance.http.element_config import element_config
from heichat_appliance.http.files import send_file
from heichat_appliance.http.fixed import ASK_AGAIN, FOREVER, Fixed, accepts_gzip
from heichat_appliance.http.pages import LANGUAGES, Pages, language, own_links
from heichat_appliance.http.routing import Auth, Request, Response, Route
from heichat_appliance.http.versions import element_encryption

log = Logger()

PATH = "/element/"
#: In the data folder, where the releases are if nothing else is configured.
HOME = "element"
#: Files of one release that are looked at.
MAX_FILES = 20_000
_HEADERS = (
    (b"Content-Security-Policy", b"frame-ancestors 'self'"),
    (b"X-Frame-Options", b"SAMEORIGIN"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"X-XSS-Protection", b"1; mode=block"),
    (b"Referrer-Policy", b"no-referrer"),
)
_TYPES = {
    "": b"text/plain; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "gif": b"image/gif",
    "html": b"text/html; charset=utf-8",
    "ico": b"image/vnd.microsoft.icon",
    "jpg": b"image/jpeg",
    "js": b"text/javascript; charset=utf-8",
    "json": b"application/json",
    "map": b"application/json",
    "mjs": b"text/javascript; charset=utf-8",
    "mp3": b"audio/mpeg",
    "ogg": b"audio/ogg",
    "png": b"image/png",
    "svg": b"image/svg+xml",
    "ttf": b"font/ttf",
    "txt": b"text/plain; charset=utf-8",
    "wasm": b"application/wasm",
    "webmanifest": b"application/manifest+json",
    "webp": b"image/webp",
    "woff": b"font/woff",
    "woff2": b"font/woff2",
}
#: The build puts a hash of the content into these names, so the content of a name never changes.
_HASHED = re.compile(r"bundles/[0-9a-f]{8,}/.+|.+[.-][0-9a-f]{7,32}\.[a-z0-9]{2,5}(\.map)?")
_CONFIG = re.compile(r"config(\.[A-Za-z0-9.:-]+)?\.json")


class Release(NamedTuple):
    """What a folder held when it was looked at: relative paths with size and time of change (ns)."""

    folder: Path
    files: dict[str, tuple[int, int]]


def read_release(folder: Path) -> Release:
    """Look at everything in a folder. Waits for the disk. Only plain files count, hidden ones do not."""
    found: dict[str, tuple[int, int]] = {}
    for path, entry in _walk(str(folder), ""):
        if len(found) >= MAX_FILES:
            log.error(
                "{folder} holds more than {most} files; the rest is not served", folder=str(folder), most=MAX_FILES
            )
            break
        status = entry.stat(follow_symlinks=False)
        found[path] = (status.st_size, status.st_mtime_ns)
    return Release(folder, found)


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                yield prefix + entry.name, entry


class ElementWeb:
    """Serves a folder, if it is there."""

    def __init__(self, folder: Path, configs: dict[str, Fixed], pages: Pages, in_thread: Any) -> None:
        """`configs`: config.json by language; `in_thread(function, *args)` runs what waits for the disk."""
        self._folder = folder
        self._former = former_link(folder)
        self._configs = configs
        self._pages = pages
        self._in_thread = in_thread
        self._places: tuple[Any, ...] | None = None
        self._releases: list[Release] = []

    @property
    def installed(self) -> bool:
        """Whether there is an Element now."""
        return (self._folder / "index.html").is_file()

    def config(self, request: Request) -> Response:
        """config.json, and config.<host>.json, which Element asks for first."""
        return self._configs[language(request)].answer(request)

    async def file(self, request: Request) -> Any:
        """A file of the release; the page itself for the empty path."""
        path = request.params["path"] or "index.html"
        releases = await self._current()
        if releases and _CONFIG.fullmatch(path):
            return self.config(request)
        for release in releases:
            if path in release.files and (release is releases[0] or _HASHED.fullmatch(path)):
                return self._send(request, release, path)
        if path == "index.html":
            return self._missing(request)
        raise not_found("there is no such file / Diese Datei gibt es nicht")

    @staticmethod
    def to_page(_: Request) -> Response:
        """Who forgot the slash at the end."""
        return Response(308, PATH.encode(), b"text/plain", ((b"Location", PATH.encode()),))

    async def _current(self) -> list[Release]:
        """The release that is served, and the one before it. Looked at anew when the folders lead elsewhere."""
        places = tuple(_place(folder) for folder in (self._folder, self._former))
        if places != self._places:
            found = [await self._in_thread(read_release, place[0]) for place in places if place]
            self._releases = [release for release in found if "index.html" in release.files] if places[0] else []
            self._places = places
        return self._releases

    def _send(self, request: Request, release: Release, path: str) -> Any:
        size, changed = release.files[path]
        packed = release.files.get(path + ".gz", (0, -1))[1] >= changed
        headers = [*_HEADERS, (b"Cache-Control", FOREVER if _HASHED.fullmatch(path) else ASK_AGAIN)]
        name, tag = path, f"{size:x}-{changed:x}"
        if packed:
            headers.append((b"Vary", b"Accept-Encoding"))
            if accepts_gzip(request.exchange.headers.get("accept-encoding")):
                headers.append((b"Content-Encoding", b"gzip"))
                name, tag = path + ".gz", tag + "-gzip"
        return send_file(
            request.exchange, release.folder / name, content_type=content_type(path), etag=tag, headers=tuple(headers),
            in_thread=self._in_thread,
        )  # fmt: skip

    def _missing(self, request: Request) -> Response:
        german = language(request) == "de"
        return self._pages.page(
            request, "message.html", status=404, links=own_links(PATH),
            heading="Hier gibt es keine Weboberfläche" if german else "There is no web client here",
            sentence=(
                "Sie können sich mit einer App verbinden; wie, steht auf der Startseite."
                if german
                else "You can connect with an app; the front page says how."
            ),
            next=("Zur Startseite", "/?lang=de") if german else ("To the front page", "/?lang=en"),
        )  # fmt: skip


def _place(folder: Path) -> tuple[Path, int] | None:
    """Where a folder really is, and when it changed; None if there is none."""
    try:
        real = folder.resolve(strict=True)
        return (real, real.stat().st_mtime_ns) if real.is_dir() else None
    except (OSError, RuntimeError):
        return None


def content_type(path: str) -> bytes:
    """By the ending of a file's name."""
    name = path.rpartition("/")[2]
    return _TYPES.get(name.rpartition(".")[2].lower() if "." in name else "", b"application/octet-stream")


def folder_of(config: Any) -> Path:
    """The folder that is served: `[web] element_dir`, or one in the data folder."""
    path: Path = config["web"].element_dir or config["server"].data_dir / HOME / "current"
    return path


def former_link(folder: Path) -> Path:
    """Beside the folder: a symbolic link to the release that was served before."""
    return folder.with_name(folder.name + ".former")


def build(host: Any) -> ElementWeb:
    """`host`: the app.Appliance."""
    folder = folder_of(host.config)
    configs = {
        lang: Fixed(orjson.dumps(_config(host, lang)), b"application/json", _HEADERS,
                    vary=b"Accept-Language, Accept-Encoding")
        for lang in LANGUAGES
    }  # fmt: skip
    return ElementWeb(folder, configs, host.pages, host.media.files.in_thread)


def _config(host: Any, lang: str) -> dict[str, Any]:
    config, links = host.config, host.pages.links
    web, public_url = config["web"], config["server"].public_url

    def address(url: str) -> str:
        return f"{public_url}{url}?lang={lang}" if url.startswith("/") else url

    return element_config(
        server_name=host.server_name,
        public_url=public_url,
        brand=web.brand,
        lang=lang,
        encryption=element_encryption(config["rooms"].encryption_default),
        conference_url=web.conference_url,
        help_url=web.help_url,
        privacy_url=address(links["privacy"].url) if "privacy" in links else None,
        terms_links=[
            (links[kind].de if lang == "de" else links[kind].en, address(links[kind].url))
            for kind in ("terms", "privacy", "imprint")
            if kind in links
        ],
        support_email=config["server"].support_email,
    )


def routes(element: ElementWeb) -> list[Route]:
    """The folder and everything in it."""
    common: dict[str, Any] = {"method": "GET", "auth": Auth.NONE, "limit": "none", "anchor": ""}
    return [
        Route(path="/element", handler=element.to_page, **common),
        Route(path=PATH + "{path*}", handler=element.file, **common),
    ]
