"""Typing, presence, receipts and read markers (spec chapters of these names)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import UNSET, Struct
from msgspec import field as named

from heichat_appliance.errors import invalid_param
from heichat_appliance.http.routing import Auth, Gate, Request, Route, spec_anchor
from heichat_appliance.services.ephemeral import Typing
from heichat_appliance.services.presence import Presence
from heichat_appliance.services.receipts import FULLY_READ, Receipts
from heichat_appliance.store.receipts import PRIVATE, READ

#: What others see of a person needs no agreement to the terms, but an account that is not suspended.
_SHOWN = Gate.LOCKED | Gate.SUSPENDED


class TypingBody(Struct):
    """PUT /rooms/{roomId}/typing/{userId}; `timeout` in milliseconds."""

    typing: bool
    timeout: int | None = None


class PresenceBody(Struct):
    """PUT /presence/{userId}/status."""

    presence: str
    status_msg: str | None = None


class ReceiptBody(Struct):
    """POST /rooms/{roomId}/receipt/...; the type of thread_id is checked in the handler, for the spec's error code."""

    thread_id: Any = UNSET


class ReadMarkersBody(Struct):
    """POST /rooms/{roomId}/read_markers: event IDs."""

    fully_read: str | None = named(default=None, name=FULLY_READ)
    read: str | None = named(default=None, name=READ)
    private: str | None = named(default=None, name=PRIVATE)


def routes(typing: Typing, presence: Presence, receipts: Receipts) -> list[Route]:
    """The operations of these chapters."""

    def put_typing(request: Request) -> Any:
        body: TypingBody = request.body
        return typing.set(request.own_user(), request.params["roomId"], body.typing, body.timeout)

    def get_presence(request: Request) -> Any:
        return presence.get(request.user_id, request.params["userId"])

    def put_presence(request: Request) -> Any:
        body: PresenceBody = request.body
        return presence.set(request.own_user(), body.presence, body.status_msg)

    def post_receipt(request: Request) -> Any:
        thread_id = request.body.thread_id
        if thread_id is not UNSET and not isinstance(thread_id, str):
            raise invalid_param("thread_id must be a string")
        markers = {request.params["receiptType"]: request.params["eventId"]}
        return receipts.mark(
            request.user_id, request.params["roomId"], markers, None if thread_id is UNSET else thread_id
        )

    def post_read_markers(request: Request) -> Any:
        body: ReadMarkersBody = request.body
        given = {FULLY_READ: body.fully_read, READ: body.read, PRIVATE: body.private}
        markers = {type: event_id for type, event_id in given.items() if event_id is not None}
        return receipts.mark(request.user_id, request.params["roomId"], markers)

    room = "/_matrix/client/v3/rooms/{roomId}/"
    status = "/_matrix/client/v3/presence/{userId}/status"
    return [
        _row("PUT", room + "typing/{userId}", put_typing, _SHOWN, TypingBody),
        _row("GET", status, get_presence, Gate.READS),
        _row("PUT", status, put_presence, _SHOWN, PresenceBody),
        _row("POST", room + "receipt/{receiptType}/{eventId}", post_receipt, Gate.READS, ReceiptBody),
        _row("POST", room + "read_markers", post_read_markers, Gate.READS, ReadMarkersBody),
    ]


def _row(method: str, path: str, handler: Callable[[Request], Any], gates: Gate, body: Any = None) -> Route:
    return Route(
        method=method,
        path=path,
        handler=handler,
        auth=Auth.USER,
        limit="read" if method == "GET" else "write",
        gates=gates,
        body=body,
        anchor=spec_anchor(method, path),
    )
