"""Power levels of a room (client-server API "m.room.power_levels"; on creators rooms/v12 "Authorisation rules")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from heichat_appliance.protocol.pdu import Pdu
    from heichat_appliance.protocol.roomversions import RoomVersion

#: The level of a version 12 room's creators: above any integer that canonical JSON can hold.
INFINITE = 2**53

_NO_LEVELS: Mapping[str, Any] = {}


class PowerLevels:
    """Who may do what. Depends on the create event and the power_levels event alone: keep one per power_levels event.

    A level that is not an integer counts as absent (the auth rules keep such content out of rooms).
    """

    __slots__ = ("_content", "_events", "_users", "creators", "is_default", "privileged")

    def __init__(self, version: RoomVersion, create: Pdu, power_levels: Pdu | None) -> None:
        content = power_levels.content if power_levels is not None else _NO_LEVELS
        self.creators = creators_of(version, create)
        #: Whether the creators' levels are infinite.
        self.privileged = version.privileged_creators
        #: Whether the room has no m.room.power_levels event.
        self.is_default = power_levels is None
        self._content = content
        self._users = _mapping(content, "users")
        self._events = _mapping(content, "events")

    def user(self, user_id: str) -> int:
        """The power level of a user. Without a power_levels event the creator of a room before version 12 has 100."""
        if user_id in self.creators:
            if self.privileged:
                return INFINITE
            if self.is_default:
                return 100
        level = self._users.get(user_id)
        return level if _is_int(level) else self._level("users_default", 0)

    def event(self, type: str, is_state: bool) -> int:
        """The level required to send an event of a type."""
        level = self._events.get(type)
        if _is_int(level):
            return level
        return self._level("state_default", 50) if is_state else self._level("events_default", 0)

    @property
    def invite(self) -> int:
        return self._level("invite", 0)

    @property
    def kick(self) -> int:
        return self._level("kick", 50)

    @property
    def ban(self) -> int:
        return self._level("ban", 50)

    @property
    def redact(self) -> int:
        """The level required to redact events of others."""
        return self._level("redact", 50)

    def notification(self, key: str) -> int:
        """The level required to trigger a notification, e.g. "room" for @room."""
        level = _mapping(self._content, "notifications").get(key)
        return level if _is_int(level) else 50

    def _level(self, key: str, default: int) -> int:
        level = self._content.get(key)
        return level if _is_int(level) else default


def creators_of(version: RoomVersion, create: Pdu) -> frozenset[str]:
    """The creators of a room: the create event's sender (version 10: its `creator`), and additional creators."""
    if version.creator_in_content:
        creator = create.content.get("creator")
        return frozenset((creator,)) if isinstance(creator, str) else frozenset()
    more = create.content.get("additional_creators") if version.additional_creators else None
    if not isinstance(more, list):
        return frozenset((create.sender,))
    return frozenset((create.sender, *(user for user in more if isinstance(user, str))))


def _is_int(value: object) -> TypeGuard[int]:
    """Whether `value` is an integer; True and False are none."""
    return type(value) is int


def _mapping(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key)
    return value if isinstance(value, dict) else _NO_LEVELS
