"""Summaries of rooms, trees of spaces, mutual rooms (spec, "Room Summaries", "Spaces", "Mutual Rooms")."""

from __future__ import annotations

import re
from typing import Any

from heichat_appliance.errors import invalid_param
from heichat_appliance.http.history import read_route
from heichat_appliance.http.relations import positive
from heichat_appliance.http.routing import Auth, Gate, Request, Route, spec_anchor
from heichat_appliance.services.spaces import Spaces, Walk

MAX_ROOMS = 100
DEFAULT_ROOMS = 50
MAX_DEPTH = 50
DEFAULT_DEPTH = 10
_WALK = re.compile(r"h([0-9]{1,9})\.([0-9]{1,9})\.([01])")
_MUTUAL = re.compile(r"m([0-9]{1,9})")
_SUMMARY = "/_matrix/client/v1/room_summary/{roomIdOrAlias}"
#: The names of the operation before v1.15, which Element still asks.
_SUMMARY_BEFORE = (
    "/_matrix/client/unstable/im.nheko.summary/summary/{roomIdOrAlias}",
    "/_matrix/client/unstable/im.nheko.summary/rooms/{roomIdOrAlias}/summary",
)


def routes(spaces: Spaces) -> list[Route]:
    """The operations of these chapters."""

    def summary(request: Request) -> Any:
        session = request.session
        return spaces.summary(None if session is None else session.user_id, request.params["roomIdOrAlias"])

    def hierarchy(request: Request) -> Any:
        return spaces.hierarchy(request.user_id, request.params["roomId"], _walk(request))

    def mutual_rooms(request: Request) -> Any:
        other = request.query_required("user_id")
        match = _MUTUAL.fullmatch(request.query("from") or "m0")
        if match is None:
            raise invalid_param("query parameter from is no token of this server")
        return spaces.mutual_rooms(request.user_id, other, int(match[1]))

    return [
        Route(
            method="GET", path=_SUMMARY, handler=summary, auth=Auth.OPTIONAL, limit="read", gates=Gate.READS,
            anchor=spec_anchor("GET", _SUMMARY), also=_SUMMARY_BEFORE,
        ),
        read_route("/_matrix/client/v1/rooms/{roomId}/hierarchy", hierarchy),
        read_route("/_matrix/client/v1/mutual_rooms", mutual_rooms),
    ]  # fmt: skip


def _walk(request: Request) -> Walk:
    depth = request.query_int("max_depth", DEFAULT_DEPTH, -1, MAX_DEPTH)
    if depth is None or depth < 0:
        raise invalid_param("query parameter max_depth must not be negative")
    suggested_only = request.query_bool("suggested_only")
    match = _WALK.fullmatch(request.query("from") or f"h0.{depth}.{suggested_only:d}")
    if match is None:
        raise invalid_param("query parameter from is no token of this server")
    if (int(match[2]), match[3] == "1") != (depth, suggested_only):
        raise invalid_param("query parameters max_depth and suggested_only can't change from page to page")
    return Walk(suggested_only, depth, positive(request, DEFAULT_ROOMS, MAX_ROOMS), int(match[1]))
