"""Rooms: creating, upgrading, reporting (spec, "Creation", "Room Upgrades", "Reporting Content")."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from heichat_appliance.http.routing import Auth, Request, Route, spec_anchor
from heichat_appliance.services.aliases import checked_room_id
from heichat_appliance.services.reports import Reports
from heichat_appliance.services.rooms import NewRoom, Rooms
from heichat_appliance.services.upgrade import Upgrade


class UpgradeBody(Struct):
    """POST /rooms/{roomId}/upgrade."""

    new_version: str
    additional_creators: list[str] = field(default_factory=list)


class ReportBody(Struct):
    """POST .../report of rooms and people: the reason may be blank, but it must be there."""

    reason: str


class EventReportBody(Struct):
    """POST /rooms/{roomId}/report/{eventId}."""

    reason: str | None = None


def routes(rooms: Rooms, upgrade: Upgrade, reports: Reports) -> list[Route]:
    """The operations of these chapters."""

    async def create(request: Request) -> Any:
        return {"room_id": await rooms.create(request.user_id, request.body)}

    def upgrade_room(request: Request) -> Any:
        body, room_id = request.body, checked_room_id(request.params["roomId"])
        done = upgrade.upgrade(request.user_id, room_id, body.new_version, body.additional_creators)
        return done.addCallback(lambda new_room: {"replacement_room": new_room})

    def report_room(request: Request) -> Any:
        return reports.room(request.user_id, request.params["roomId"], request.body.reason)

    def report_event(request: Request) -> Any:
        params = request.params
        return reports.event(request.user_id, params["roomId"], params["eventId"], request.body.reason or "")

    def report_user(request: Request) -> Any:
        return reports.user(request.user_id, request.params["userId"], request.body.reason)

    def row(path: str, handler: Any, limit: str, body: Any) -> Route:
        return Route(
            method="POST",
            path=f"/_matrix/client/v3{path}",
            handler=handler,
            auth=Auth.USER,
            limit=limit,
            body=body,
            anchor=spec_anchor("POST", f"/_matrix/client/v3{path}"),
        )

    return [
        row("/createRoom", create, "create", NewRoom),
        row("/rooms/{roomId}/upgrade", upgrade_room, "create", UpgradeBody),
        row("/rooms/{roomId}/report", report_room, "write", ReportBody),
        row("/rooms/{roomId}/report/{eventId}", report_event, "write", EventReportBody),
        row("/users/{userId}/report", report_user, "write", ReportBody),
    ]
