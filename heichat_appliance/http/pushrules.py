"""Push rules (spec, "Push Rules: API")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from heichat_appliance.http.routing import Auth, Gate, Request, Route, spec_anchor
from heichat_appliance.services.pushrules import PushRules

_ALL = "/_matrix/client/v3/pushrules/"
_RULE = _ALL + "global/{kind}/{ruleId}"


class EnabledBody(Struct):
    """PUT .../enabled."""

    enabled: bool


class ActionsBody(Struct):
    """PUT .../actions."""

    actions: list[Any]


def routes(push_rules: PushRules) -> list[Route]:
    """The operations of this chapter."""

    def get_all(request: Request) -> Any:
        return push_rules.content(request.user_id)

    def get_global(request: Request) -> Any:
        return push_rules.content(request.user_id)["global"]

    def rule(request: Request) -> dict[str, Any]:
        return push_rules.rule(request.user_id, *_names(request))

    def put(request: Request) -> Any:
        before, after = request.query("before"), request.query("after")
        return push_rules.put(request.user_id, *_names(request), request.body, before, after)

    def delete(request: Request) -> Any:
        return push_rules.delete(request.user_id, *_names(request))

    def put_enabled(request: Request) -> Any:
        return push_rules.set_enabled(request.user_id, *_names(request), request.body.enabled)

    def put_actions(request: Request) -> Any:
        return push_rules.set_actions(request.user_id, *_names(request), request.body.actions)

    return [
        _row("GET", _ALL, get_all, also=(_ALL.rstrip("/"),)),
        _row("GET", _ALL + "global/", get_global, also=(_ALL + "global",)),
        _row("GET", _RULE, rule),
        _row("PUT", _RULE, put, dict),
        _row("DELETE", _RULE, delete),
        _row("GET", _RULE + "/enabled", lambda request: {"enabled": rule(request)["enabled"]}),
        _row("PUT", _RULE + "/enabled", put_enabled, EnabledBody),
        _row("GET", _RULE + "/actions", lambda request: {"actions": rule(request)["actions"]}),
        _row("PUT", _RULE + "/actions", put_actions, ActionsBody),
    ]


def _names(request: Request) -> tuple[str, str]:
    return request.params["kind"], request.params["ruleId"]


def _row(
    method: str, path: str, handler: Callable[[Request], Any], body: Any = None, also: tuple[str, ...] = ()
) -> Route:
    return Route(
        method=method,
        path=path,
        handler=handler,
        auth=Auth.USER,
        limit="read" if method == "GET" else "write",
        gates=Gate.READS,
        body=body,
        anchor=spec_anchor(method, path),
        also=also,
    )
