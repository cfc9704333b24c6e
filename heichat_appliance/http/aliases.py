"""Room aliases and the room directory (spec, "Room aliases", "Published room directory")."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from heichat_appliance.errors import forbidden, not_found
from heichat_appliance.http.routing import Auth, Gate, Request, Route, spec_anchor
from heichat_appliance.services.aliases import Aliases, checked_room_id


class AliasBody(Struct):
    """PUT /directory/room/{roomAlias}."""

    room_id: str


class VisibilityBody(Struct):
    """PUT /directory/list/room/{roomId}."""

    visibility: Literal["public", "private"] = "public"


class SearchFilter(Struct):
    """`filter` of POST /publicRooms."""

    generic_search_term: str | None = None
    room_types: list[str | None] | None = None


class SearchBody(Struct):
    """POST /publicRooms. There are no other networks, so what asks for them changes nothing."""

    limit: int | None = None
    since: str | None = None
    filter: SearchFilter | None = None


def routes(aliases: Aliases, server_name: str) -> list[Route]:
    """The operations of these chapters."""

    def get_alias(request: Request) -> Any:
        return aliases.get(request.params["roomAlias"])

    def put_alias(request: Request) -> Any:
        room_id = checked_room_id(request.body.room_id, "room_id")
        return aliases.put(request.user_id, request.params["roomAlias"], room_id)

    def delete_alias(request: Request) -> Any:
        return aliases.delete(request.user_id, request.params["roomAlias"])

    def of_room(request: Request) -> Any:
        return {"aliases": aliases.of_room(request.user_id, checked_room_id(request.params["roomId"]))}

    def get_visibility(request: Request) -> Any:
        return {"visibility": "public" if aliases.is_published(request.params["roomId"]) else "private"}

    def put_visibility(request: Request) -> Any:
        return aliases.publish(request.user_id, request.params["roomId"], request.body.visibility == "public")

    def list_public(request: Request) -> Any:
        only_here(request)
        return aliases.search(limit=request.query_int("limit", None, 1, 1000), since=request.query("since"))

    def search_public(request: Request) -> Any:
        only_here(request)
        body, wanted = request.body, request.body.filter or SearchFilter()
        return aliases.search(
            limit=body.limit, since=body.since, term=wanted.generic_search_term, types=wanted.room_types
        )

    def appservice_visibility(request: Request) -> Any:
        raise forbidden("this server has no application services / Dieser Server hat keine Anwendungsdienste")

    def only_here(request: Request) -> None:
        if request.query("server", server_name) != server_name:
            raise not_found(
                "server: this server is connected to no other / Dieser Server ist mit keinem anderen verbunden"
            )

    def row(
        method: str, path: str, handler: Any, body: Any = None, auth: Auth = Auth.USER, gates: Gate = Gate.ALL
    ) -> Route:
        return Route(
            method=method,
            path=f"/_matrix/client/v3{path}",
            handler=handler,
            auth=auth,
            limit="write" if gates is Gate.ALL else "read",
            gates=gates,
            body=body,
            anchor=spec_anchor(method, f"/_matrix/client/v3{path}"),
        )

    return [
        row("GET", "/directory/room/{roomAlias}", get_alias, auth=Auth.OPTIONAL, gates=Gate.READS),
        row("PUT", "/directory/room/{roomAlias}", put_alias, AliasBody),
        row("DELETE", "/directory/room/{roomAlias}", delete_alias),
        row("GET", "/rooms/{roomId}/aliases", of_room, gates=Gate.READS),
        row("GET", "/directory/list/room/{roomId}", get_visibility, auth=Auth.OPTIONAL, gates=Gate.READS),
        row("PUT", "/directory/list/room/{roomId}", put_visibility, VisibilityBody),
        row("PUT", "/directory/list/appservice/{networkId}/{roomId}", appservice_visibility),
        row("GET", "/publicRooms", list_public, auth=Auth.OPTIONAL, gates=Gate.READS),
        row("POST", "/publicRooms", search_public, SearchBody, gates=Gate.READS),
    ]
