"""Pushers (spec, "Push Notifications")."""

from __future__ import annotations

from typing import Any

import orjson
from msgspec import Struct

from heichat_appliance.errors import invalid_param, missing_param
from heichat_appliance.http.routing import Auth, Gate, Request, Route, spec_anchor
from heichat_appliance.services.pushers import Pushers
from heichat_appliance.store.pushers import Description, Pusher

_REQUIRED = ("app_display_name", "device_display_name", "lang", "data")
#: The most characters; of the pushkey, bytes.
_LIMITS = {"app_id": 64, "app_display_name": 255, "device_display_name": 255, "lang": 64, "profile_tag": 255}
_MAX_PUSHKEY = 512


class PusherBody(Struct):
    """POST /pushers/set; `kind` null deletes."""

    kind: str | None
    app_id: str
    pushkey: str
    app_display_name: str | None = None
    device_display_name: str | None = None
    profile_tag: str | None = None
    lang: str | None = None
    data: dict[str, Any] | None = None
    append: bool = False


def routes(pushers: Pushers) -> list[Route]:
    """The operations of this chapter."""

    def get(request: Request) -> Any:
        return {"pushers": [_as_json(pusher) for pusher in pushers.of_user(request.user_id)]}

    def set(request: Request) -> Any:
        body: PusherBody = request.body
        _check_lengths(body)
        if body.kind is None:
            return pushers.delete(request.user_id, body.app_id, body.pushkey)
        missing = [name for name in _REQUIRED if getattr(body, name) is None]
        if missing:
            raise missing_param(f"missing parameters: {', '.join(missing)}")
        if body.kind != "http":
            raise invalid_param("kind: this server has pushers of the kind http only")
        description = Description(
            body.app_id, body.pushkey, body.app_display_name or "", body.device_display_name or "", body.profile_tag,
            body.lang or "", pushers.check_data(body.data or {}),
        )  # fmt: skip
        return pushers.set(request.user_id, request.device_id, description, append=body.append)

    def row(method: str, path: str, handler: Any, limit: str, body: Any = None) -> Route:
        return Route(
            method=method, path=f"/_matrix/client/v3{path}", handler=handler, auth=Auth.USER, limit=limit,
            gates=Gate.READS, body=body, anchor=spec_anchor(method, f"/_matrix/client/v3{path}"),
        )  # fmt: skip

    return [row("GET", "/pushers", get, "read"), row("POST", "/pushers/set", set, "write", PusherBody)]


def _check_lengths(body: PusherBody) -> None:
    for name, limit in _LIMITS.items():
        if len(getattr(body, name) or "") > limit:
            raise invalid_param(f"{name} must not be longer than {limit} characters")
    if len(body.pushkey.encode()) > _MAX_PUSHKEY:
        raise invalid_param(f"pushkey must not be longer than {_MAX_PUSHKEY} bytes")
    for name in ("app_id", "pushkey"):
        if not getattr(body, name):
            raise invalid_param(f"{name} must not be empty")


def _as_json(pusher: Pusher) -> dict[str, Any]:
    fields = {
        "pushkey": pusher.pushkey,
        "kind": "http",
        "app_id": pusher.app_id,
        "app_display_name": pusher.app_display_name,
        "device_display_name": pusher.device_display_name,
        "lang": pusher.lang,
        "data": orjson.Fragment(pusher.data),
    }
    return fields | ({"profile_tag": pusher.profile_tag} if pusher.profile_tag is not None else {})
