"""Server-side key backups (spec section of that name)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from heichat_appliance.errors import bad_json
from heichat_appliance.http.routing import Auth, Gate, Request, Response, Route, spec_anchor
from heichat_appliance.services.key_backup import KeyBackup

#: The most bytes of one request: more than ten thousand keys of 1 KB.
MAX_BODY = 32 * 1024 * 1024


def routes(backup: KeyBackup) -> list[Route]:
    """The operations of this chapter."""

    def create(request: Request) -> Any:
        return backup.create(request.user_id, request.body)

    def describe(request: Request) -> Any:
        return backup.describe(request.user_id, request.params.get("version"))

    def update(request: Request) -> Any:
        return backup.update(request.user_id, request.params["version"], request.body)

    def delete(request: Request) -> Any:
        return backup.delete(request.user_id, request.params["version"])

    def put_all(request: Request) -> Any:
        rooms = request.body.get("rooms")
        if not isinstance(rooms, dict):
            raise bad_json("rooms must be an object")
        return backup.put(request.user_id, request.query_required("version"), rooms)

    def put_room(request: Request) -> Any:
        rooms = {request.params["roomId"]: request.body}
        return backup.put(request.user_id, request.query_required("version"), rooms)

    def put_session(request: Request) -> Any:
        rooms = {request.params["roomId"]: {"sessions": {request.params["sessionId"]: request.body}}}
        return backup.put(request.user_id, request.query_required("version"), rooms)

    def get_all(request: Request) -> Deferred[Response]:
        return backup.get(request.user_id, request.query_required("version")).addCallback(_response)

    def get_room(request: Request) -> Deferred[Response]:
        version = request.query_required("version")
        return backup.get_room(request.user_id, version, request.params["roomId"]).addCallback(_response)

    def get_session(request: Request) -> Any:
        version = request.query_required("version")
        return backup.get_session(request.user_id, version, request.params["roomId"], request.params["sessionId"])

    def remove(request: Request) -> Any:
        room_id, session_id = request.params.get("roomId"), request.params.get("sessionId")
        return backup.remove(request.user_id, request.query_required("version"), room_id, session_id)

    one_room, one_session = "keys/{roomId}", "keys/{roomId}/{sessionId}"
    return [
        _row("POST", "version", create, dict),
        _row("GET", "version", describe),
        _row("GET", "version/{version}", describe),
        _row("PUT", "version/{version}", update, dict),
        _row("DELETE", "version/{version}", delete),
        _row("PUT", "keys", put_all, dict),
        _row("GET", "keys", get_all),
        _row("DELETE", "keys", remove),
        _row("PUT", one_room, put_room, dict),
        _row("GET", one_room, get_room),
        _row("DELETE", one_room, remove),
        _row("PUT", one_session, put_session, dict),
        _row("GET", one_session, get_session),
        _row("DELETE", one_session, remove),
    ]


def _response(body: bytes) -> Response:
    return Response(body=body)


def _row(method: str, path: str, handler: Callable[[Request], Any], body: Any = None) -> Route:
    path = f"/_matrix/client/v3/room_keys/{path}"
    return Route(
        method=method,
        path=path,
        handler=handler,
        auth=Auth.USER,
        limit="read" if method == "GET" else "write",
        gates=Gate.READS,
        body=body,
        max_body=MAX_BODY,
        anchor=spec_anchor(method, path),
        also=(path.replace("/v3/", "/unstable/"),),
    )
