"""The room versions this server makes and what differs between them (spec rooms/v10, rooms/v11, rooms/v12)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RoomVersion:
    """One room version; the flags name every difference between versions 10, 11 and 12."""

    identifier: str
    #: m.room.create has `content.creator`, and must have it (until v10; rooms/v11 "Remove the creator property").
    creator_in_content: bool
    #: m.room.redaction names its target in `content.redacts` (from v11), else in the top-level `redacts`.
    redacts_in_content: bool
    #: What a redaction keeps follows rooms/v11 "Redactions", else rooms/v9.
    redaction_rules_v11: bool
    #: The room ID is the create event's ID with sigil "!" (rooms/v12 "Event format"), and that event has no `room_id`.
    room_id_is_create_hash: bool
    #: m.room.create is among the auth_events of every other event (until v11; rooms/v12 3.2).
    create_in_auth_events: bool
    #: The creators' power level is infinite and they may not be in m.room.power_levels (rooms/v12 10.4).
    privileged_creators: bool
    #: m.room.create may name more creators in `content.additional_creators` (rooms/v12 1.4).
    additional_creators: bool


V10 = RoomVersion(
    identifier="10",
    creator_in_content=True,
    redacts_in_content=False,
    redaction_rules_v11=False,
    room_id_is_create_hash=False,
    create_in_auth_events=True,
    privileged_creators=False,
    additional_creators=False,
)
V11 = RoomVersion(
    identifier="11",
    creator_in_content=False,
    redacts_in_content=True,
    redaction_rules_v11=True,
    room_id_is_create_hash=False,
    create_in_auth_events=True,
    privileged_creators=False,
    additional_creators=False,
)
V12 = RoomVersion(
    identifier="12",
    creator_in_content=False,
    redacts_in_content=True,
    redaction_rules_v11=True,
    room_id_is_create_hash=True,
    create_in_auth_events=False,
    privileged_creators=True,
    additional_creators=True,
)

ROOM_VERSIONS: dict[str, RoomVersion] = {version.identifier: version for version in (V10, V11, V12)}
DEFAULT = "11"
