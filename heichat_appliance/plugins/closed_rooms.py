"""Plugin `closed_rooms`: every room is closed. Whoever is in it was invited, was let in after knocking, or is a member of
a space or room whose members may join; nothing of it can be found or read from outside."""

from __future__ import annotations

from typing import Any

from twisted.plugin import IPlugin
from zope.interface import implementer

from heichat_appliance.config import Settings
from heichat_appliance.errors import MatrixError, forbidden
from heichat_appliance.extension import IEventPolicy, IExtension, IRoomPolicy

#: type of the state event: (key, value that would open a room)
OPENING = {
    "m.room.join_rules": ("join_rule", "public"),
    "m.room.history_visibility": ("history_visibility", "world_readable"),
    "m.room.guest_access": ("guest_access", "can_join"),
}

WHY = (
    "Only closed rooms are allowed on this server, so that conversations can be read only by those they are meant for: "
    "public rooms, rooms readable by everybody, guests and published rooms are not possible; please invite people instead. / "
    "Auf diesem Server sind nur geschlossene Räume zugelassen, damit Gespräche nur von denen gelesen werden, die sie "
    "lesen sollen: Öffentliche, für alle lesbare oder veröffentlichte Räume und Gäste sind nicht möglich; bitte laden "
    "Sie die Teilnehmenden ein."
)


def _refusal(what: str) -> MatrixError:
    return forbidden(f"{what}: {WHY}")


@implementer(IEventPolicy, IRoomPolicy)
class ClosedRooms:
    """Refuses what opens a room, whichever way it comes."""

    def check_event(self, draft: Any) -> None:
        """See IEventPolicy."""
        opening = OPENING.get(draft.type)
        if opening is not None and draft.state_key is not None and draft.content.get(opening[0]) == opening[1]:
            raise _refusal(f"{opening[0]} {opening[1]}")

    def check_publish(self, user_id: str, room_id: str | None) -> None:
        """See IRoomPolicy."""
        raise _refusal("visibility public")

    def preset_content(self, type: str, content: dict[str, Any]) -> dict[str, Any]:
        """See IRoomPolicy. The private presets open a room to guests, and so does Element beside them; there are none."""
        if type == "m.room.guest_access" and content.get("guest_access") == "can_join":
            return {**content, "guest_access": "forbidden"}
        return content


@implementer(IPlugin, IExtension)
class _ClosedRoomsExtension:
    """Only closed rooms: none can be public, readable by everybody, open to guests, or published."""

    name = "closed_rooms"
    options = ()

    def build(self, settings: Settings, host: Any) -> ClosedRooms:
        """A ClosedRooms."""
        return ClosedRooms()


closed_rooms = _ClosedRoomsExtension()
