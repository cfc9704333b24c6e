"""Short descriptions of rooms, as the room directory shows them (client-server API, "PublishedRoomsChunk")."""

from __future__ import annotations

from typing import Any

import orjson

from heichat_appliance.store import state
from heichat_appliance.store.events import Execute


def of_room(execute: Execute, room_id: str, joined: int) -> dict[str, Any]:
    """The chunk of a room with `joined` people in it."""

    def text(type: str, key: str) -> str | None:
        value = content(execute, room_id, type).get(key)
        return value if isinstance(value, str) and value else None

    fields = {
        "room_id": room_id,
        "num_joined_members": joined,
        "world_readable": is_world_readable(execute, room_id),
        "guest_can_join": text("m.room.guest_access", "guest_access") == "can_join",
        "join_rule": text("m.room.join_rules", "join_rule") or "invite",
        "name": text("m.room.name", "name"),
        "topic": text("m.room.topic", "topic"),
        "canonical_alias": text("m.room.canonical_alias", "alias"),
        "avatar_url": text("m.room.avatar", "url"),
        "room_type": text("m.room.create", "type"),
    }
    return {key: value for key, value in fields.items() if value is not None}


def is_world_readable(execute: Execute, room_id: str) -> bool:
    """Whether everybody may read the room."""
    return content(execute, room_id, "m.room.history_visibility").get("history_visibility") == "world_readable"


def content(execute: Execute, room_id: str, type: str) -> dict[str, Any]:
    """The content of a piece of state with an empty state key, as it is now; empty if there is none."""
    event = state.current(execute, room_id, type, "")
    found: dict[str, Any] = orjson.loads(event.pdu)["content"] if event is not None else {}
    return found
