"""Memberships of rooms (spec, "Room membership")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from twisted.internet.defer import Deferred

from heichat_appliance.errors import forbidden, missing_param
from heichat_appliance.http.routing import Auth, Gate, Request, Route, spec_anchor
from heichat_appliance.services.aliases import checked_room_id
from heichat_appliance.services.membership import Membership


class ReasonBody(Struct):
    """What a person says who joins, leaves or knocks. `third_party_signed` is not asked for: there are no 3PIDs here."""

    reason: str | None = None


class TargetBody(Struct):
    """Who shall be kicked, banned or unbanned."""

    user_id: str
    reason: str | None = None


class InviteBody(Struct):
    """POST /rooms/{roomId}/invite; the fields of its second form, by third-party identifier, only to refuse that."""

    user_id: str | None = None
    reason: str | None = None
    medium: Any = None
    address: Any = None


def routes(membership: Membership) -> list[Route]:
    """The operations of this chapter."""

    def joined_rooms(request: Request) -> Any:
        return {"joined_rooms": membership.joined_rooms(request.user_id)}

    def join(request: Request) -> Any:
        room = request.params["roomIdOrAlias"]
        return membership.join(request.user_id, room, request.body.reason).addCallback(_room_id)

    def join_by_id(request: Request) -> Any:
        return membership.join(request.user_id, _room(request), request.body.reason).addCallback(_room_id)

    def knock(request: Request) -> Any:
        room = request.params["roomIdOrAlias"]
        return membership.knock(request.user_id, room, request.body.reason).addCallback(_room_id)

    def leave(request: Request) -> Any:
        return membership.leave(request.user_id, _room(request), request.body.reason)

    def forget(request: Request) -> Any:
        return membership.forget(request.user_id, _room(request))

    async def invite(request: Request) -> None:
        body = request.body
        if body.user_id is None:
            if body.medium is not None or body.address is not None:
                raise forbidden(
                    "this server knows no e-mail addresses or telephone numbers, invite by user ID / "
                    "Dieser Server kennt keine E-Mail-Adressen oder Telefonnummern, bitte mit der Nutzerkennung einladen"
                )
            raise missing_param("user_id is missing")
        await membership.invite(request.user_id, _room(request), body.user_id, body.reason)

    def with_target(action: Callable[[str, str, str, str | None], Deferred[None]]) -> Callable[[Request], Any]:
        def handler(request: Request) -> Any:
            return action(request.user_id, _room(request), request.body.user_id, request.body.reason)

        return handler

    def row(path: str, handler: Any, limit: str, body: Any, gates: Gate = Gate.ALL, method: str = "POST") -> Route:
        return Route(
            method=method,
            path=f"/_matrix/client/v3{path}",
            handler=handler,
            auth=Auth.USER,
            limit=limit,
            gates=gates,
            body=body,
            anchor=spec_anchor(method, f"/_matrix/client/v3{path}"),
        )

    return [
        row("/joined_rooms", joined_rooms, "read", None, Gate.READS, "GET"),
        row("/join/{roomIdOrAlias}", join, "join", ReasonBody),
        row("/rooms/{roomId}/join", join_by_id, "join", ReasonBody),
        row("/knock/{roomIdOrAlias}", knock, "join", ReasonBody),
        row("/rooms/{roomId}/invite", invite, "join", InviteBody),
        # Before agreeing to the terms, and while suspended, a person may still go.
        row("/rooms/{roomId}/leave", leave, "write", ReasonBody, Gate.READS),
        row("/rooms/{roomId}/forget", forget, "write", None, Gate.READS),
        row("/rooms/{roomId}/kick", with_target(membership.kick), "send", TargetBody),
        row("/rooms/{roomId}/ban", with_target(membership.ban), "send", TargetBody),
        row("/rooms/{roomId}/unban", with_target(membership.unban), "send", TargetBody),
    ]


def _room(request: Request) -> str:
    return checked_room_id(request.params["roomId"])


def _room_id(room_id: str) -> dict[str, str]:
    return {"room_id": room_id}
