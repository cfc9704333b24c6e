"""The content repository (spec chapter of that name).

Downloads need a login. The deprecated operations without one are frozen (spec, v1.11): they find nothing, unless
`[media] unauthenticated_downloads` has them answer as the others do.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred

from heichat_appliance.errors import invalid_param, not_found
from heichat_appliance.http.files import send_file
from heichat_appliance.http.framing import CHUNKED
from heichat_appliance.http.routing import Auth, Gate, Request, Route, spec_anchor
from heichat_appliance.services.media import Media, Upload, clean_name
from heichat_appliance.services.thumbnails import METHODS, Thumbnails
from heichat_appliance.store.media import Content

#: How long somebody waits for an announced upload unless they say otherwise, in ms.
WAIT_MS = 20_000
#: Types that a browser may show in place (spec, "Serving inline content").
INLINE = frozenset(
    (
        *("text/css", "text/plain", "text/csv", "application/json", "application/ld+json"),
        *("image/jpeg", "image/gif", "image/png", "image/apng", "image/webp", "image/avif"),
        *("video/mp4", "video/webm", "video/ogg", "video/quicktime"),
        *("audio/mp4", "audio/webm", "audio/aac", "audio/mpeg", "audio/ogg", "audio/wave", "audio/wav"),
        *("audio/x-wav", "audio/x-pn-wav", "audio/flac", "audio/x-flac"),
    )
)
_HEADERS = (
    (
        b"Content-Security-Policy",
        b"sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; style-src 'unsafe-inline'; "
        b"object-src 'self';",
    ),
    (b"Cross-Origin-Resource-Policy", b"cross-origin"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
    # What an ID stands for never changes; the browser asks again once a day (an administrator may remove a file).
    (b"Cache-Control", b"private, max-age=86400"),
)
_V1, _V3, _NEW = "/_matrix/client/v1/media", "/_matrix/media/v3", "/_matrix/media/v1/create"
_ID = "{serverName}/{mediaId}"
_FROZEN = "404 M_NOT_FOUND: files are for people with an account, unless `[media] unauthenticated_downloads = yes`"


def routes(media: Media, thumbnails: Thumbnails, *, unauthenticated: bool) -> list[Route]:
    """The operations of this chapter; `unauthenticated`: the deprecated downloads without a login find files."""

    def config(request: Request) -> Any:
        return {"m.upload.size": media.max_size}

    def begin_upload(request: Request) -> None:
        clean_name(request.query("filename"))
        _receive(request, media.begin(request.user_id, _length(request)))

    def begin_announced(request: Request) -> None:
        clean_name(request.query("filename"))
        server_name, media_id = request.params["serverName"], request.params["mediaId"]
        _receive(request, media.begin_announced(request.user_id, server_name, media_id, _length(request)))

    async def store(request: Request) -> Any:
        name = clean_name(request.query("filename"))
        return {"content_uri": await media.finish(request.upload, request.exchange.headers.get("content-type"), name)}

    async def store_announced(request: Request) -> None:
        await store(request)

    async def create(request: Request) -> Any:
        uri, expires = await media.create(request.user_id)
        return {"content_uri": uri, "unused_expires_at": expires}

    async def find(request: Request) -> Content:
        wait_ms = request.query_int("timeout_ms", WAIT_MS, 0, 10**9)
        finding = Deferred.fromCoroutine(
            media.find(request.params["serverName"], request.params["mediaId"], wait_ms or 0)
        )
        request.exchange.on_disconnect = finding.cancel
        try:
            return await finding
        finally:
            request.exchange.on_disconnect = None

    async def download(request: Request) -> Any:
        content = await find(request)
        name = clean_name(request.params.get("fileName")) or content.file_name
        return _send(request, media, content, name)

    async def thumbnail(request: Request) -> Any:
        for name in ("width", "height"):
            request.query_required(name)
        width, height = request.query_int("width", 0, -1, 10_000), request.query_int("height", 0, -1, 10_000)
        if not width or not height or width < 0 or height < 0:
            raise invalid_param("query parameters width and height must be positive numbers")
        method = request.query_choice("method", "scale", *METHODS)
        animated = request.query_bool("animated")
        content = await find(request)
        made = await thumbnails.get(content.sha256, width, height, method, animated)
        extension = made.content_type.removeprefix("image/")
        return send_file(
            request.exchange, made.path, content_type=made.content_type.encode(), etag=made.path.name,
            headers=(*_HEADERS, (b"Content-Disposition", f'inline; filename="thumbnail.{extension}"'.encode())),
            in_thread=media.files.in_thread,
        )  # fmt: skip

    def frozen(request: Request) -> Any:
        raise not_found("files are for people with an account: use /_matrix/client/v1/media with an access token")

    def row(method: str, path: str, handler: Any, gates: Gate = Gate.READS, **more: Any) -> Route:
        anchor = spec_anchor(method, path)
        return Route(method=method, path=path, handler=handler, anchor=anchor, gates=gates,
                     **{"auth": Auth.USER, "limit": "media", **more})  # fmt: skip

    def without_login(path: str, handler: Any) -> Route:
        if unauthenticated:
            return row("GET", _V3 + path, handler, auth=Auth.NONE)
        return row("GET", _V3 + path, frozen, auth=Auth.NONE, limit="anonymous", absent=_FROZEN)

    incoming = {"max_body": media.max_size, "limit": "write"}
    return [
        row("POST", f"{_V3}/upload", store, Gate.ALL, begin=begin_upload, **incoming),
        row("PUT", f"{_V3}/upload/{_ID}", store_announced, Gate.ALL, begin=begin_announced, **incoming),
        row("POST", _NEW, create, Gate.ALL, limit="write"),
        row("GET", f"{_V1}/config", config),
        row("GET", f"{_V3}/config", config),
        row("GET", f"{_V1}/download/{_ID}", download),
        row("GET", f"{_V1}/download/{_ID}/{{fileName}}", download),
        row("GET", f"{_V1}/thumbnail/{_ID}", thumbnail),
        without_login(f"/download/{_ID}", download),
        without_login(f"/download/{_ID}/{{fileName}}", download),
        without_login(f"/thumbnail/{_ID}", thumbnail),
    ]


def _length(request: Request) -> int | None:
    length = request.exchange.length
    return None if length == CHUNKED else length


def _receive(request: Request, upload: Upload) -> None:
    """From here on the upload hears of every end that the request may take."""
    exchange = request.exchange
    upload.flow(exchange.pause, exchange.resume)
    request.upload = upload
    exchange.receive_into(upload)


def _send(request: Request, media: Media, content: Content, name: str | None) -> Any:
    return send_file(
        request.exchange,
        media.files.path(content.sha256),
        content_type=content.content_type.encode(),
        etag=content.sha256,
        headers=(*_HEADERS, (b"Content-Disposition", disposition(content.content_type, name).encode())),
        in_thread=media.files.in_thread,
    )


def disposition(content_type: str, name: str | None) -> str:
    """The value of Content-Disposition (RFC 6266); a name that is not plain comes in both forms (RFC 8187)."""
    kind = "inline" if content_type.partition(";")[0].strip().lower() in INLINE else "attachment"
    if name is None:
        return kind
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in name)
    if plain == name:
        return f'{kind}; filename="{name}"'
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
