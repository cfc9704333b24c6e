"""URL previews (spec, "Content repository"), where they are switched on."""

from __future__ import annotations

from typing import Any

from heichat_appliance.http.routing import Auth, Request, Route, spec_anchor
from heichat_appliance.services.url_previews import UrlPreviews

_PATHS = ("/_matrix/client/v1/media/preview_url", "/_matrix/media/v3/preview_url")


def routes(previews: UrlPreviews) -> list[Route]:
    """The operation, under its two names."""

    def preview(request: Request) -> Any:
        request.query_int("ts", None, 0, 2**53)
        return previews.get(request.query_required("url"))

    return [
        Route(
            method="GET", path=path, handler=preview, auth=Auth.USER, limit="search", anchor=spec_anchor("GET", path),
        )
        for path in _PATHS
    ]  # fmt: skip
