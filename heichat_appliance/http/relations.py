"""Relations between events, and threads (spec, "Relationships API", "Querying threads in a room")."""

from __future__ import annotations

from typing import Any

from heichat_appliance.errors import invalid_param
from heichat_appliance.http.history import is_backwards, limit, position, read_route, viewer
from heichat_appliance.http.routing import Request, Response, Route
from heichat_appliance.services.relations import Relations, Wanted

MAX_PAGE = 100
DEFAULT_RELATIONS = 20
DEFAULT_THREADS = 20


def routes(relations: Relations) -> list[Route]:
    """The operations of these chapters."""

    async def children(request: Request) -> Response:
        params = request.params
        wanted = Wanted(
            start=position(request, "from"),
            to=position(request, "to"),
            backwards=is_backwards(request, "b"),
            limit=positive(request, DEFAULT_RELATIONS),
            recurse=None if request.query("recurse") is None else request.query_bool("recurse"),
            rel_type=params.get("relType"),
            type=params.get("eventType"),
        )
        return Response.of_parts(await relations.children(viewer(request), params["roomId"], params["eventId"], wanted))

    def threads(request: Request) -> Any:
        participated = request.query_choice("include", "all", "participated") == "participated"
        start, size = position(request, "from"), positive(request, DEFAULT_THREADS)
        return Response.of_parts(
            relations.threads(viewer(request), request.params["roomId"], start, size, participated)
        )

    room = "/_matrix/client/v1/rooms/{roomId}"
    of_event = f"{room}/relations/{{eventId}}"
    return [
        read_route(of_event, children),
        read_route(f"{of_event}/{{relType}}", children),
        read_route(f"{of_event}/{{relType}}/{{eventType}}", children),
        read_route(f"{room}/threads", threads),
    ]


def positive(request: Request, default: int, most: int = MAX_PAGE) -> int:
    """The query parameter `limit`, at most `most`; 400 M_INVALID_PARAM if it is not greater than 0."""
    size = limit(request, default, most)
    if size == 0:
        raise invalid_param("query parameter limit must be greater than 0")
    return size
