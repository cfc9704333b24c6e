"""Sending events to rooms (spec, "Sending events to a room", "Redactions")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heichat_appliance.errors import bad_json, invalid_param
from heichat_appliance.http.routing import Auth, Gate, Request, Route, spec_anchor
from heichat_appliance.ids import check_length
from heichat_appliance.services.send import Sender


def routes(sender: Sender, acted: Callable[[str], None]) -> list[Route]:
    """The operations of this chapter. `acted(user_id)` hears of people who send something."""

    def message(request: Request) -> Any:
        params = request.params
        txn_id = _checked("txnId", params["txnId"])
        event_type = _checked("eventType", params["eventType"])
        acted(request.user_id)
        return sender.message(
            request.user_id, request.device_id, params["roomId"], event_type, txn_id, request.body
        ).addCallback(_event_id)

    def redact(request: Request) -> Any:
        params, content = request.params, request.body
        if not isinstance(content.get("reason", ""), str):
            raise bad_json("reason must be a string")
        txn_id = _checked("txnId", params["txnId"])
        return sender.redact(
            request.user_id, request.device_id, params["roomId"], params["eventId"], txn_id, content
        ).addCallback(_event_id)

    def state(request: Request) -> Any:
        params = request.params
        return sender.state(
            request.user_id,
            params["roomId"],
            _checked("eventType", params["eventType"]),
            params.get("stateKey", ""),
            request.body,
        ).addCallback(_event_id)

    def row(path: str, handler: Any, gates: Gate = Gate.ALL, also: tuple[str, ...] = ()) -> Route:
        return Route(
            method="PUT",
            path=f"/_matrix/client/v3{path}",
            handler=handler,
            auth=Auth.USER,
            limit="send",
            gates=gates,
            body=dict,
            anchor=spec_anchor("PUT", f"/_matrix/client/v3{path}"),
            also=tuple(f"/_matrix/client/v3{one}" for one in also),
        )

    return [
        row("/rooms/{roomId}/send/{eventType}/{txnId}", message),
        # A suspended person may redact their own events, which the service looks at.
        row("/rooms/{roomId}/redact/{eventId}/{txnId}", redact, Gate.LOCKED | Gate.CONSENT),
        row("/rooms/{roomId}/state/{eventType}/{stateKey}", state, also=("/rooms/{roomId}/state/{eventType}",)),
    ]


def _checked(name: str, value: str) -> str:
    try:
        return check_length(value, name)
    except ValueError as error:
        raise invalid_param(str(error))


def _event_id(event_id: str) -> dict[str, str]:
    return {"event_id": event_id}
