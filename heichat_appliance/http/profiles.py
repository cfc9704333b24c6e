"""Profiles (spec, "Profiles")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heichat_appliance.errors import bad_json, forbidden, missing_param
from heichat_appliance.http.routing import Auth, Gate, Request, Route, spec_anchor
from heichat_appliance.services.profiles import Profiles


def routes(profiles: Profiles) -> list[Route]:
    """The operations of this chapter. Profiles are shown to people of this server only."""

    def get_all(request: Request) -> Any:
        _refuse_outsiders(request)
        return profiles.get(request.params["userId"])

    def get(request: Request) -> Any:
        _refuse_outsiders(request)
        return profiles.field(request.params["userId"], request.params["keyName"])

    def put(request: Request) -> Any:
        user_id, name = request.own_user(), request.params["keyName"]
        if name not in request.body:
            raise missing_param(f"the body has no property {name}")
        if len(request.body) > 1:
            raise bad_json(f"the body must have the property {name} alone")
        return profiles.put(user_id, name, request.body[name])

    def delete(request: Request) -> Any:
        return profiles.delete(request.own_user(), request.params["keyName"])

    one = "/_matrix/client/v3/profile/{userId}"
    return [
        _row("GET", one, get_all, Auth.OPTIONAL, Gate.READS),
        _row("GET", one + "/{keyName}", get, Auth.OPTIONAL, Gate.READS),
        _row("PUT", one + "/{keyName}", put, Auth.USER, Gate.ALL, dict),
        _row("DELETE", one + "/{keyName}", delete, Auth.USER, Gate.ALL),
    ]


def _refuse_outsiders(request: Request) -> None:
    if request.session is None:
        raise forbidden("profiles are shown to people who are logged in / Profile sehen nur angemeldete Personen")


def _row(method: str, path: str, handler: Callable[[Request], Any], auth: Auth, gates: Gate, body: Any = None) -> Route:
    return Route(
        method=method,
        path=path,
        handler=handler,
        auth=auth,
        limit="read" if method == "GET" else "write",
        gates=gates,
        body=body,
        anchor=spec_anchor(method, path),
    )
