"""What the authorisation rules share: the error, the numbering of rules, small looks into the state."""

from __future__ import annotations

from typing import NoReturn, Protocol

from heichat_appliance.protocol.pdu import Pdu, StateKey
from heichat_appliance.protocol.roomversions import RoomVersion


class State(Protocol):
    """The state of a room: a dict, or anything else that can be asked for an event by its type and state key."""

    def get(self, key: StateKey, /) -> Pdu | None:
        """The state event, None if there is none."""
        ...


class AuthError(Exception):
    """The event is refused. `str()` is a sentence in English and German, `rule` the source, e.g. "rooms/v11 4.3.2"."""

    def __init__(self, message: str, rule: str) -> None:
        super().__init__(message)
        self.rule = rule


def refuse(version: RoomVersion, rule: str, english: str, german: str) -> NoReturn:
    """Raise AuthError. `rule` is the number in rooms/v11 (for rules about m.room.create the version's own).

    Version 12 put a new rule 2 before the old one, and a new rule 10.4.
    """
    numbers = rule.split(".")
    if version.room_id_is_create_hash and numbers[0] != "1":
        numbers[0] = str(int(numbers[0]) + 1)
        if numbers[0] == "10" and int(numbers[1]) >= 4:
            numbers[1] = str(int(numbers[1]) + 1)
    raise AuthError(f"{english} / {german}", f"rooms/v{version.identifier} {'.'.join(numbers)}")


def membership_of(state: State, user_id: str) -> str:
    """A user's membership; "leave" for one who never was in the room."""
    event = state.get(("m.room.member", user_id))
    return "leave" if event is None else str(event.content.get("membership"))


def domain_of(identifier: str) -> str:
    """What follows the first colon of an identifier; empty if there is none."""
    return identifier.partition(":")[2]
