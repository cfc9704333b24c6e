"""What is left of an event after its redaction (spec rooms/v9 "Redactions" for version 10, rooms/v11 for 11 and 12)."""

from __future__ import annotations

from typing import Any

from heichat_appliance.protocol.roomversions import RoomVersion

_KEYS_V11 = (
    "event_id",
    "type",
    "room_id",
    "sender",
    "state_key",
    "content",
    "hashes",
    "signatures",
    "depth",
    "prev_events",
    "auth_events",
    "origin_server_ts",
)
_KEYS_V9 = (*_KEYS_V11, "prev_state", "origin", "membership")

_POWER_LEVELS_V9 = ("ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default")
_CONTENT_V9: dict[str, tuple[str, ...]] = {
    "m.room.member": ("membership", "join_authorised_via_users_server"),
    "m.room.create": ("creator",),
    "m.room.join_rules": ("join_rule", "allow"),
    "m.room.power_levels": _POWER_LEVELS_V9,
    "m.room.history_visibility": ("history_visibility",),
}
_CONTENT_V11: dict[str, tuple[str, ...]] = {
    **_CONTENT_V9,
    "m.room.power_levels": (*_POWER_LEVELS_V9, "invite"),
    "m.room.redaction": ("redacts",),
}


def redact(version: RoomVersion, raw: dict[str, Any]) -> dict[str, Any]:
    """A new dict with only the keys of the PDU `raw` that survive redaction. `raw` is left alone; values are shared."""
    keys = _KEYS_V11 if version.redaction_rules_v11 else _KEYS_V9
    kept = {key: raw[key] for key in keys if key in raw}
    kept["content"] = redact_content(version, raw.get("type"), raw.get("content"))
    return kept


def redact_content(version: RoomVersion, type: object, content: object) -> dict[str, Any]:
    """The part of an event's `content` that survives redaction: a new dict, for most types empty."""
    if not isinstance(content, dict) or not isinstance(type, str):
        return {}
    if not version.redaction_rules_v11:
        return {key: content[key] for key in _CONTENT_V9.get(type, ()) if key in content}
    if type == "m.room.create":
        return dict(content)
    kept = {key: content[key] for key in _CONTENT_V11.get(type, ()) if key in content}
    if type == "m.room.member":
        invite = content.get("third_party_invite")
        if isinstance(invite, dict) and "signed" in invite:
            kept["third_party_invite"] = {"signed": invite["signed"]}
    return kept
