"""Account data and tags (spec, "Client Config", "Room Tagging")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heichat_appliance.http.routing import Auth, Gate, Request, Response, Route, spec_anchor
from heichat_appliance.services.account_data import AccountData


def routes(account_data: AccountData) -> list[Route]:
    """The operations of these chapters."""

    def get(request: Request) -> Any:
        user_id = request.own_user()
        return Response(body=account_data.get(user_id, request.params.get("roomId"), request.params["type"]))

    def put(request: Request) -> Any:
        user_id = request.own_user()
        return account_data.put(user_id, request.params.get("roomId"), request.params["type"], request.body)

    def get_tags(request: Request) -> Any:
        return {"tags": account_data.tags(request.own_user(), request.params["roomId"])}

    def put_tag(request: Request) -> Any:
        user_id = request.own_user()
        return account_data.put_tag(user_id, request.params["roomId"], request.params["tag"], request.body)

    def delete_tag(request: Request) -> Any:
        return account_data.delete_tag(request.own_user(), request.params["roomId"], request.params["tag"])

    return [
        _row("GET", "account_data/{type}", get),
        _row("PUT", "account_data/{type}", put, dict),
        _row("GET", "rooms/{roomId}/account_data/{type}", get),
        _row("PUT", "rooms/{roomId}/account_data/{type}", put, dict),
        _row("GET", "rooms/{roomId}/tags", get_tags),
        _row("PUT", "rooms/{roomId}/tags/{tag}", put_tag, dict),
        _row("DELETE", "rooms/{roomId}/tags/{tag}", delete_tag),
    ]


def _row(method: str, path: str, handler: Callable[[Request], Any], body: Any = None) -> Route:
    path = f"/_matrix/client/v3/user/{{userId}}/{path}"
    return Route(
        method=method,
        path=path,
        handler=handler,
        auth=Auth.USER,
        limit="read" if method == "GET" else "write",
        gates=Gate.READS,
        body=body,
        anchor=spec_anchor(method, path),
    )
