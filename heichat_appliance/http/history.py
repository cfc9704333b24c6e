"""Reading rooms: history, state, members, notifications (spec, "Getting events for a room", "Listing Notifications")."""

from __future__ import annotations

from typing import Any

import orjson

from heichat_appliance.errors import invalid_param, missing_param
from heichat_appliance.http.routing import Auth, Gate, Request, Response, Route, spec_anchor
from heichat_appliance.protocol.filters import RoomEventFilter, parse_room_event_filter
from heichat_appliance.services import tokens
from heichat_appliance.services.history import History, Page
from heichat_appliance.services.notifications import Notifications
from heichat_appliance.services.render import Viewer
from heichat_appliance.services.room_reads import RoomReads

#: Events in one answer.
MAX_PAGE = 500
MAX_CONTEXT = 100
MAX_NOTIFICATIONS = 50
DEFAULT_PAGE = 10
#: Times in ms since 1970 are at most this (the largest integer of canonical JSON).
MAX_TIME = 2**53 - 1
_MEMBERSHIPS = ("join", "invite", "knock", "leave", "ban")


def routes(history: History, reads: RoomReads, notifications: Notifications) -> list[Route]:
    """The operations of these chapters."""

    def messages(request: Request) -> Response:
        wanted = room_filter(request)
        page = Page(
            start=position(request, "from"),
            to=position(request, "to"),
            backwards=is_backwards(request),
            limit=limit(request, wanted.limit or DEFAULT_PAGE, MAX_PAGE) or 1,
            filter=wanted,
        )
        return Response.of_parts(history.messages(viewer(request), request.params["roomId"], page))

    def event(request: Request) -> Response:
        return Response.of_parts(history.event(viewer(request), request.params["roomId"], request.params["eventId"]))

    def context(request: Request) -> Response:
        wanted = room_filter(request)
        size = limit(request, DEFAULT_PAGE, MAX_CONTEXT)
        params = request.params
        return Response.of_parts(history.context(viewer(request), params["roomId"], params["eventId"], size, wanted))

    def nearest(request: Request) -> Any:
        request.query_required("ts")
        ts = request.query_int("ts", 0, -1, MAX_TIME) or 0
        if ts < 0:
            raise invalid_param("query parameter ts must not be negative")
        return history.nearest(request.user_id, request.params["roomId"], ts, is_backwards(request))

    def state(request: Request) -> Response:
        return Response.of_parts(reads.state(viewer(request), request.params["roomId"]))

    def one_state(request: Request) -> Response:
        params = request.params
        whole = request.query_choice("format", "content", "event") == "event"
        key = params.get("stateKey", "")
        return Response.of_parts(
            reads.one_state(viewer(request), params["roomId"], params["eventType"], key, whole_event=whole)
        )

    def members(request: Request) -> Response:
        wanted = request.query_choice("membership", None, *_MEMBERSHIPS)
        unwanted = request.query_choice("not_membership", None, *_MEMBERSHIPS)
        at = position(request, "at")
        return Response.of_parts(reads.members(viewer(request), request.params["roomId"], at, wanted, unwanted))

    def joined_members(request: Request) -> Any:
        return reads.joined_members(request.user_id, request.params["roomId"])

    def initial_sync(request: Request) -> Response:
        size = limit(request, DEFAULT_PAGE, MAX_CONTEXT) or 1
        return Response.of_parts(reads.initial_sync(viewer(request), request.params["roomId"], size))

    def notified(request: Request) -> Any:
        size = limit(request, DEFAULT_PAGE, MAX_NOTIFICATIONS) or 1
        highlights = request.query_choice("only", None, "highlight") is not None
        return notifications.page(viewer(request), position(request, "from"), size, highlights)

    v3 = "/_matrix/client/v3/rooms/{roomId}"
    without_key = f"{v3}/state/{{eventType}}"
    return [
        read_route(f"{v3}/messages", messages),
        read_route(f"{v3}/event/{{eventId}}", event),
        read_route(f"{v3}/context/{{eventId}}", context),
        read_route("/_matrix/client/v1/rooms/{roomId}/timestamp_to_event", nearest),
        read_route(f"{v3}/state", state),
        read_route(f"{v3}/state/{{eventType}}/{{stateKey}}", one_state, also=(without_key,)),
        read_route(f"{v3}/members", members),
        read_route(f"{v3}/joined_members", joined_members),
        read_route(f"{v3}/initialSync", initial_sync),
        read_route("/_matrix/client/v3/notifications", notified, limit="search"),
    ]


# -- what the routes that read rooms share ---------------------------------------------------------------------------


def read_route(path: str, handler: Any, also: tuple[str, ...] = (), limit: str = "read") -> Route:
    """A GET for people who are logged in, even before they agreed to the terms."""
    return Route(
        method="GET", path=path, handler=handler, auth=Auth.USER, limit=limit, gates=Gate.READS,
        anchor=spec_anchor("GET", path), also=also,
    )  # fmt: skip


def viewer(request: Request) -> Viewer:
    """Whose answer it is."""
    return Viewer(request.user_id, request.device_id)


def position(request: Request, name: str) -> int | None:
    """The position of the token in a query parameter; 400 M_INVALID_PARAM if it is none."""
    text = request.query(name)
    return None if text is None else tokens.parse(text, name).position


def is_backwards(request: Request, default: str | None = None) -> bool:
    """The query parameter `dir`; 400 M_MISSING_PARAM if it has to be there and is not."""
    direction = request.query_choice("dir", default, "b", "f")
    if direction is None:
        raise missing_param("query parameter dir is missing: b for backwards or f for forwards")
    return direction == "b"


def limit(request: Request, default: int, most: int) -> int:
    """The query parameter `limit`, at most `most`; 400 M_INVALID_PARAM if it is negative."""
    value = request.query_int("limit", default, -1, most)
    if value is None or value < 0:
        raise invalid_param("query parameter limit must not be negative")
    return value


def room_filter(request: Request) -> RoomEventFilter:
    """The RoomEventFilter in the query parameter `filter`; 400 M_INVALID_PARAM if it is none."""
    text = request.query("filter")
    if not text:
        return _NO_FILTER
    try:
        value = orjson.loads(text)
    except ValueError:
        raise invalid_param("query parameter filter is not valid JSON")
    if not isinstance(value, dict):
        raise invalid_param("query parameter filter must be a JSON object")
    try:
        return parse_room_event_filter(value)
    except ValueError as error:
        raise invalid_param(str(error))


_NO_FILTER = RoomEventFilter()
