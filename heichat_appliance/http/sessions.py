"""Login, refresh, logout, whoami (spec, "Login" and "Current account information")."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from twisted.internet.defer import Deferred

from heichat_appliance.errors import MatrixError, invalid_param, missing_param
from heichat_appliance.http.routing import Auth, Gate, Request, Route, spec_anchor
from heichat_appliance.ids import check_length
from heichat_appliance.services.login import Login
from heichat_appliance.services.passwords import user_of
from heichat_appliance.services.sessions import Sessions, Tokens

PASSWORD = "m.login.password"


class LoginBody(Struct):
    """POST /login."""

    type: str
    identifier: dict[str, Any] | None = None
    user: str | None = None
    password: str | None = None
    device_id: str | None = None
    initial_device_display_name: str | None = None
    refresh_token: bool | None = None


class RefreshBody(Struct):
    """POST /refresh."""

    refresh_token: str


def routes(login: Login, sessions: Sessions, server_name: str) -> list[Route]:
    """The operations of this chapter."""

    def flows(request: Request) -> Any:
        return {"flows": [{"type": PASSWORD}]}

    async def log_in(request: Request) -> Any:
        body: LoginBody = request.body
        if body.type != PASSWORD:
            raise MatrixError(400, "M_UNKNOWN", f"type: the only way to log in here is {PASSWORD}")
        user = user_of(body.identifier, body.user)
        if body.password is None:
            raise missing_param("password is missing")
        tokens = await login.log_in(
            user,
            body.password,
            request.exchange.peer,
            device_id=checked("device_id", body.device_id),
            device_name=checked("initial_device_display_name", body.initial_device_display_name or None),
            with_refresh_token=bool(body.refresh_token),
        )
        return {
            "user_id": tokens.user_id,
            "device_id": tokens.device_id,
            "home_server": server_name,
            **_token_fields(tokens),
        }

    def refresh(request: Request) -> Any:
        return sessions.refresh(request.body.refresh_token).addCallback(_token_fields)

    def log_out(request: Request) -> Deferred[None]:
        return sessions.delete(request.user_id, [request.device_id])

    def log_out_everywhere(request: Request) -> Deferred[None]:
        return sessions.delete_all(request.user_id)

    def who_am_i(request: Request) -> Any:
        return {"user_id": request.user_id, "device_id": request.device_id, "is_guest": False}

    def row(method: str, path: str, handler: Any, auth: Auth, limit: str, gates: Gate, body: Any = None) -> Route:
        return Route(
            method=method,
            path=f"/_matrix/client/v3{path}",
            handler=handler,
            auth=auth,
            limit=limit,
            gates=gates,
            body=body,
            anchor=spec_anchor(method, f"/_matrix/client/v3{path}"),
        )

    return [
        row("GET", "/login", flows, Auth.NONE, "none", Gate.NOTHING),
        # Only failed logins are limited: see services/passwords.py.
        row("POST", "/login", log_in, Auth.NONE, "none", Gate.NOTHING, LoginBody),
        row("POST", "/refresh", refresh, Auth.NONE, "anonymous", Gate.NOTHING, RefreshBody),
        row("POST", "/logout", log_out, Auth.USER, "write", Gate.NOTHING),
        row("POST", "/logout/all", log_out_everywhere, Auth.USER, "write", Gate.NOTHING),
        row("GET", "/account/whoami", who_am_i, Auth.USER, "read", Gate.READS),
    ]


def checked(field: str, value: str | None) -> str | None:
    """`value`, or 400 M_INVALID_PARAM for an empty one or one of more than 255 bytes."""
    if value is not None:
        try:
            check_length(value, field)
        except ValueError as error:
            raise invalid_param(str(error))
    return value


def _token_fields(tokens: Tokens) -> dict[str, Any]:
    fields = {
        "access_token": tokens.access_token,
        "refresh_token": tokens.refresh_token,
        "expires_in_ms": tokens.expires_in_ms,
    }
    return {name: value for name, value in fields.items() if value is not None}
