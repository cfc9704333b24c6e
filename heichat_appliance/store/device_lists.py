"""What device lists are made of: changes of devices, moves of members, rooms that became encrypted, by position.

A room counts as encrypted from its first m.room.encryption on, whatever comes after: so do clients. People who are invited
count as those who have joined: clients give them keys too, and a device that they log in before they join needs them.
"""

from __future__ import annotations

from collections.abc import Collection

import orjson

from heichat_appliance.store.events import Execute

#: Up to so many pairs of person and room are looked up one by one; beyond, the members of the rooms are read.
MAX_PAIRS = 500


def device_changes(execute: Execute, reader: str, after: int, upto: int) -> tuple[set[str], set[str]]:
    """Who changed devices or keys at after < pos <= upto: (for everybody to know, because `reader` signed them)."""
    rows = execute(
        "SELECT user_id, seen_by FROM device_list_changes WHERE pos > ? AND pos <= ? "
        "AND (seen_by IS NULL OR seen_by = ?)",
        (after, upto, reader),
    ).fetchall()
    return {user_id for user_id, seen_by in rows if seen_by is None}, {row[0] for row in rows if row[1] is not None}


def is_any_changed(execute: Execute, after: int, upto: int) -> bool:
    """Whether anybody changed devices or keys at after < pos <= upto."""
    row = execute("SELECT 1 FROM device_list_changes WHERE pos > ? AND pos <= ? LIMIT 1", (after, upto)).fetchone()
    return row is not None


def moves(execute: Execute, after: int, upto: int) -> list[tuple[str, str]]:
    """(user ID, room ID) of all memberships, in all rooms, that began at after < pos <= upto."""
    return execute(
        "SELECT user_id, room_id FROM memberships WHERE from_pos > ? AND from_pos <= ?", (after, upto)
    ).fetchall()


def was_any_room_encrypted(execute: Execute, after: int, upto: int) -> bool:
    """Whether any room got an m.room.encryption at after < pos <= upto."""
    row = execute(
        "SELECT 1 FROM room_state WHERE type = 'm.room.encryption' AND from_pos > ? AND from_pos <= ? LIMIT 1",
        (after, upto),
    ).fetchone()
    return row is not None


def encrypted_rooms(execute: Execute, user_id: str, pos: int) -> set[str]:
    """The rooms that a person has joined and that are encrypted, both at `pos`."""
    rows = execute(
        "SELECT room_id FROM memberships WHERE user_id = ?1 AND membership = 'join' AND from_pos <= ?2 AND to_pos > ?2 "
        "AND EXISTS (SELECT 1 FROM room_state WHERE room_state.room_id = memberships.room_id "
        "AND type = 'm.room.encryption' AND state_key = '' AND room_state.from_pos <= ?2)",
        (user_id, pos),
    )
    return {row[0] for row in rows}


def members(execute: Execute, room_ids: Collection[str], pos: int) -> set[str]:
    """Everybody who has joined, or is invited to, one of the rooms at `pos`."""
    rows = execute(
        "SELECT user_id FROM json_each(?) AS room CROSS JOIN memberships ON room_id = room.value "
        "WHERE membership IN ('join', 'invite') AND from_pos <= ? AND to_pos > ?",
        (orjson.dumps(list(room_ids)).decode(), pos, pos),
    )
    return {row[0] for row in rows}


def members_of(execute: Execute, user_ids: Collection[str], room_ids: Collection[str], pos: int) -> set[str]:
    """Those of `user_ids` who have joined, or are invited to, one of the rooms at `pos`."""
    if len(user_ids) * len(room_ids) > MAX_PAIRS:
        return members(execute, room_ids, pos) & set(user_ids)
    rows = execute(
        "SELECT person.value FROM json_each(?1) AS person CROSS JOIN json_each(?2) AS room "
        "CROSS JOIN memberships ON user_id = person.value AND room_id = room.value "
        "WHERE membership IN ('join', 'invite') AND from_pos <= ?3 AND to_pos > ?3",
        (orjson.dumps(list(user_ids)).decode(), orjson.dumps(list(room_ids)).decode(), pos),
    )
    return {row[0] for row in rows}
