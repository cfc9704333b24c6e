"""Power levels: defaults, lookups, creators."""

from __future__ import annotations

from typing import Any

import pytest

from heichat_appliance.protocol.powerlevels import INFINITE, PowerLevels
from heichat_appliance.protocol.roomversions import ROOM_VERSIONS, V10, V11, V12, RoomVersion
from tests.protocol.rooms import ALICE, BOB, CAROL, Room

versions = pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=ROOM_VERSIONS)


def levels(version: RoomVersion, content: dict[str, Any] | None, **create: Any) -> PowerLevels:
    room = Room(version, create)
    if content is not None:
        room.set("m.room.power_levels", content)
    return PowerLevels(version, room.create, room.state.get(("m.room.power_levels", "")))


@versions
@pytest.mark.parametrize("content", [None, {}])
def test_defaults(version: RoomVersion, content: dict[str, Any] | None) -> None:
    found = levels(version, content)
    assert (found.invite, found.kick, found.ban, found.redact) == (0, 50, 50, 50)
    assert (found.event("m.room.message", False), found.event("m.room.topic", True)) == (0, 50)
    assert found.notification("room") == 50
    assert found.user(BOB) == 0
    creator = INFINITE if version is V12 else 100 if content is None else 0
    assert found.user(ALICE) == creator


@versions
def test_values_of_the_event(version: RoomVersion) -> None:
    found = levels(
        version,
        {
            "users": {BOB: 50},
            "users_default": 5,
            "events": {"m.room.topic": 7, "m.room.message": 3},
            "events_default": 2,
            "state_default": 30,
            "invite": 11,
            "kick": 12,
            "ban": 13,
            "redact": 14,
            "notifications": {"room": 20},
        },
    )
    assert (found.user(BOB), found.user(CAROL)) == (50, 5)
    assert (found.event("m.room.topic", True), found.event("m.room.name", True)) == (7, 30)
    assert (found.event("m.room.message", False), found.event("m.sticker", False)) == (3, 2)
    assert (found.invite, found.kick, found.ban, found.redact) == (11, 12, 13, 14)
    assert (found.notification("room"), found.notification("other")) == (20, 50)


def test_what_is_no_integer_counts_as_absent() -> None:
    found = levels(V11, {"users": {BOB: "100"}, "users_default": True, "events": [], "ban": "0", "notifications": 1})
    assert (found.user(BOB), found.event("m.room.topic", True), found.ban, found.notification("room")) == (
        0,
        50,
        50,
        50,
    )


@versions
def test_additional_creators(version: RoomVersion) -> None:
    found = levels(version, {"users": {CAROL: 2**53 - 1}}, additional_creators=[BOB, 7])
    assert found.user(BOB) == (INFINITE if version is V12 else 0)
    assert found.creators == ({ALICE, BOB} if version is V12 else {ALICE})
    assert (found.user(ALICE) > found.user(CAROL)) == (version is V12)


def test_creator_of_version_10_is_the_one_in_the_content() -> None:
    assert levels(V10, None, creator=BOB).user(BOB) == 100
    assert levels(V10, None, creator=BOB).user(ALICE) == 0
    assert levels(V11, None, creator=BOB).user(BOB) == 0
    assert levels(V10, None, creator=7).creators == frozenset()
