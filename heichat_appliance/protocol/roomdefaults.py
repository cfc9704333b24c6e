"""What a new room's state is, unless the client says otherwise (client-server API "POST createRoom", "Room Upgrades")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from heichat_appliance.protocol.authlevels import LEVELS
from heichat_appliance.protocol.roomversions import RoomVersion

Preset = Literal["private_chat", "trusted_private_chat", "public_chat"]
Content = dict[str, Any]

ADMIN = 100
MODERATOR = 50
#: Of m.room.tombstone where creators stand above all: the specification wants it above `state_default`.
TOMBSTONE_V12 = 150

#: State that a room upgrade carries over as it is (client-server API "Room Upgrades", server behaviour 3). The power
#: levels come last: before them the creator may set everything.
TRANSFERRED = (
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.guest_access",
    "m.room.history_visibility",
    "m.room.join_rules",
)

#: What a room that begins with encryption has.
ENCRYPTION: tuple[str, Content] = ("m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})

_EVENT_LEVELS = {
    "m.room.name": MODERATOR,
    "m.room.avatar": MODERATOR,
    "m.room.canonical_alias": MODERATOR,
    "m.room.power_levels": ADMIN,
    "m.room.history_visibility": ADMIN,
    "m.room.encryption": ADMIN,
    "m.room.server_acl": ADMIN,
    "m.room.tombstone": ADMIN,
}


def preset_state(preset: Preset) -> list[tuple[str, Content]]:
    """(type, content) of the state events that a preset stands for, in the order of the table in the specification."""
    public = preset == "public_chat"
    return [
        ("m.room.join_rules", {"join_rule": "public" if public else "invite"}),
        ("m.room.history_visibility", {"history_visibility": "shared"}),
        ("m.room.guest_access", {"guest_access": "forbidden" if public else "can_join"}),
    ]


def power_levels(
    version: RoomVersion, creator: str, preset: Preset, invited: Iterable[str], override: Mapping[str, Any]
) -> Content:
    """The content of a new room's m.room.power_levels. `override` replaces whole keys of what the preset gives."""
    admins = [creator, *invited] if preset == "trusted_private_chat" else [creator]
    content: Content = {
        "ban": MODERATOR,
        "events": dict(_EVENT_LEVELS),
        "events_default": 0,
        "invite": MODERATOR if preset == "public_chat" else 0,
        "kick": MODERATOR,
        "redact": MODERATOR,
        "state_default": MODERATOR,
        "users": {} if version.privileged_creators else dict.fromkeys(admins, ADMIN),
        "users_default": 0,
    }
    if version.privileged_creators:
        content["events"]["m.room.tombstone"] = TOMBSTONE_V12
    content.update(override)
    return _with_tombstone_level(version, content)


def upgraded_power_levels(
    version: RoomVersion, old: Mapping[str, Any], creators: Iterable[str], former: Iterable[str]
) -> Content:
    """The content of m.room.power_levels in the room that replaces another.

    `creators` are the new room's; `former` those of the old one if they stood above its power levels, else nobody: where
    creators are people as others, they stay on top.
    """
    content = {**old, "users": dict(old.get("users", {}))}
    if version.privileged_creators:
        for creator in creators:
            content["users"].pop(creator, None)
        return _with_tombstone_level(version, content)
    required = (content[key] for key in LEVELS if key in content)
    top = max((ADMIN, *content["users"].values(), *content.get("events", {}).values(), *required))
    content["users"].update(dict.fromkeys(former, top))
    return content


def closed_power_levels(old: Mapping[str, Any]) -> Content:
    """The power levels of a room that was replaced: ordinary members neither send nor invite ("Room Upgrades" 6)."""
    level = max(MODERATOR, old.get("users_default", 0) + 1)
    return {**old, "events_default": level, "invite": level}


def topic(text: str) -> Content:
    """The content of m.room.topic with its rich form (client-server API "m.room.topic")."""
    return {"topic": text, "m.topic": {"m.text": [{"body": text, "mimetype": "text/plain"}]}}


def _with_tombstone_level(version: RoomVersion, content: Content) -> Content:
    events = content.get("events")
    if version.privileged_creators and isinstance(events, dict) and "m.room.tombstone" not in events:
        state_default = content.get("state_default", MODERATOR)
        above = state_default + 1 if type(state_default) is int else 0
        content["events"] = {**events, "m.room.tombstone": max(TOMBSTONE_V12, above)}
    return content
