"""Rooms, their state as intervals, and memberships."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import orjson

from heichat_appliance.db.engine import FOREVER, Transaction
from heichat_appliance.store.events import EVENT_COLUMNS, Execute, StoredEvent, content_json


class Membership(NamedTuple):
    """An interval of a person's membership of a room: from_pos <= P < to_pos."""

    user_id: str
    room_id: str
    from_pos: int
    to_pos: int
    membership: str
    sender: str


_MEMBERSHIP = "user_id, room_id, from_pos, to_pos, membership, sender"
_NOW = "to_pos = 9223372036854775807"


# -- rooms -------------------------------------------------------------------------------------------------------


def insert_room(tx: Transaction, room_id: str, version: str, creator: str, created_ts: int) -> None:
    """Note a new room."""
    tx.execute("INSERT INTO rooms VALUES (?, ?, ?, ?)", (room_id, version, creator, created_ts))


def room_version(execute: Execute, room_id: str) -> str | None:
    """The room's version, None for an unknown room."""
    row = execute("SELECT version FROM rooms WHERE room_id = ?", (room_id,)).fetchone()
    return row[0] if row else None


# -- state -------------------------------------------------------------------------------------------------------


def set_state(tx: Transaction, room_id: str, type: str, state_key: str, pos: int) -> None:
    """The event at `pos` takes the place of what held for this type and state key."""
    tx.execute(
        f"UPDATE room_state SET to_pos = ? WHERE room_id = ? AND type = ? AND state_key = ? AND {_NOW}",
        (pos, room_id, type, state_key),
    )
    tx.execute(
        "INSERT INTO room_state (room_id, type, state_key, from_pos) VALUES (?, ?, ?, ?)",
        (room_id, type, state_key, pos),
    )


def current(execute: Execute, room_id: str, type: str, state_key: str) -> StoredEvent | None:
    """The state event that holds now (on the connection of `execute`)."""
    row = execute(
        f"SELECT {EVENT_COLUMNS} FROM room_state JOIN events ON events.pos = from_pos "
        f"WHERE room_state.room_id = ? AND room_state.type = ? AND room_state.state_key = ? AND {_NOW}",
        (room_id, type, state_key),
    ).fetchone()
    return StoredEvent._make(row) if row else None


def at(execute: Execute, room_id: str, type: str, state_key: str, pos: int) -> StoredEvent | None:
    """The state event that holds at position `pos` (inclusive)."""
    row = execute(
        f"SELECT {EVENT_COLUMNS} FROM room_state JOIN events ON events.pos = from_pos WHERE room_state.room_id = ? "
        "AND room_state.type = ? AND room_state.state_key = ? AND from_pos <= ? AND to_pos > ?",
        (room_id, type, state_key, pos, pos),
    ).fetchone()
    return StoredEvent._make(row) if row else None


def members_as_of(execute: Execute, room_id: str, wanted: Mapping[str, int]) -> list[StoredEvent]:
    """The member events of several people, each as it holds at a position of its own; one statement for all of them."""
    rows = execute(
        f"SELECT {EVENT_COLUMNS} FROM json_each(?) AS wanted CROSS JOIN room_state CROSS JOIN events "
        "WHERE room_state.room_id = ? AND room_state.type = 'm.room.member' AND room_state.state_key = wanted.key "
        "AND from_pos <= wanted.value AND to_pos > wanted.value AND events.pos = from_pos",
        (orjson.dumps(wanted).decode(), room_id),
    )
    return [StoredEvent._make(row) for row in rows]


def all_at(execute: Execute, room_id: str, pos: int) -> list[StoredEvent]:
    """The whole state of a room at `pos` (inclusive)."""
    rows = execute(
        f"SELECT {EVENT_COLUMNS} FROM room_state JOIN events ON events.pos = from_pos "
        "WHERE room_state.room_id = ? AND from_pos <= ? AND to_pos > ?",
        (room_id, pos, pos),
    )
    return [StoredEvent._make(row) for row in rows]


def all_but_members_at(execute: Execute, room_id: str, pos: int) -> list[StoredEvent]:
    """The state of a room at `pos` without m.room.member, for lazy loading: does not touch the members' rows.

    The plus keeps SQLite from the index by position, on which it would meet all members.
    """
    part = (
        f"SELECT {EVENT_COLUMNS} FROM room_state JOIN events ON events.pos = from_pos "
        "WHERE room_state.room_id = ?1 AND room_state.type {} 'm.room.member' AND +from_pos <= ?2 AND to_pos > ?2"
    )
    rows = execute(f"{part.format('<')} UNION ALL {part.format('>')}", (room_id, pos))
    return [StoredEvent._make(row) for row in rows]


def current_of_type(execute: Execute, room_id: str, type: str) -> list[StoredEvent]:
    """The state events of one type that hold now, whatever their state key."""
    rows = execute(
        f"SELECT {EVENT_COLUMNS} FROM room_state JOIN events ON events.pos = from_pos "
        f"WHERE room_state.room_id = ? AND room_state.type = ? AND {_NOW}",
        (room_id, type),
    )
    return [StoredEvent._make(row) for row in rows]


def members_at(execute: Execute, room_id: str, members: Sequence[str], pos: int) -> list[StoredEvent]:
    """The m.room.member events of some people (at most some hundred) at `pos`."""
    marks = ", ".join("?" * len(members))
    rows = execute(
        f"SELECT {EVENT_COLUMNS} FROM room_state JOIN events ON events.pos = from_pos "
        f"WHERE room_state.room_id = ? AND room_state.type = 'm.room.member' AND room_state.state_key IN ({marks}) "
        "AND from_pos <= ? AND to_pos > ?",
        (room_id, *members, pos, pos),
    )
    return [StoredEvent._make(row) for row in rows]


def changes(execute: Execute, room_id: str, after: int, upto: int) -> list[StoredEvent]:
    """The state events that hold at `upto` and did not yet at `after`."""
    rows = execute(
        f"SELECT {EVENT_COLUMNS} FROM room_state JOIN events ON events.pos = from_pos "
        "WHERE room_state.room_id = ? AND from_pos > ? AND from_pos <= ? AND to_pos > ?",
        (room_id, after, upto, upto),
    )
    return [StoredEvent._make(row) for row in rows]


def intervals(execute: Execute, room_id: str, type: str, state_key: str) -> list[tuple[int, int, bytes]]:
    """All intervals of one piece of state as (from_pos, to_pos, JSON of the content), in order."""
    rows = execute(
        "SELECT from_pos, to_pos, pdu FROM room_state JOIN events ON events.pos = from_pos "
        "WHERE room_state.room_id = ? AND room_state.type = ? AND room_state.state_key = ? ORDER BY from_pos",
        (room_id, type, state_key),
    )
    return [(from_pos, to_pos, content_json(pdu)) for from_pos, to_pos, pdu in rows]


# -- memberships -------------------------------------------------------------------------------------------------


def set_membership(tx: Transaction, user_id: str, room_id: str, pos: int, membership: str, sender: str) -> None:
    """From `pos` on the person has this membership."""
    tx.execute(
        f"UPDATE memberships SET to_pos = ? WHERE user_id = ? AND room_id = ? AND {_NOW}", (pos, user_id, room_id)
    )
    tx.execute(
        f"INSERT INTO memberships ({_MEMBERSHIP}) VALUES (?, ?, ?, ?, ?, ?)",
        (user_id, room_id, pos, FOREVER, membership, sender),
    )
    if membership != "leave":
        tx.execute("DELETE FROM forgotten_rooms WHERE user_id = ? AND room_id = ?", (user_id, room_id))


def membership_at(execute: Execute, user_id: str, room_id: str, pos: int) -> str | None:
    """The person's membership at `pos` (inclusive), None if there never was one."""
    row = execute(
        "SELECT membership FROM memberships WHERE user_id = ? AND room_id = ? AND from_pos <= ? AND to_pos > ?",
        (user_id, room_id, pos, pos),
    ).fetchone()
    return row[0] if row else None


def membership_now(execute: Execute, user_id: str, room_id: str) -> Membership | None:
    """The person's membership that holds now."""
    row = execute(
        f"SELECT {_MEMBERSHIP} FROM memberships WHERE user_id = ? AND room_id = ? AND {_NOW}", (user_id, room_id)
    ).fetchone()
    return Membership._make(row) if row else None


def membership_intervals(execute: Execute, user_id: str, room_id: str) -> list[Membership]:
    """All intervals of a person's membership of a room, in order."""
    rows = execute(
        f"SELECT {_MEMBERSHIP} FROM memberships WHERE user_id = ? AND room_id = ? ORDER BY from_pos",
        (user_id, room_id),
    )
    return [Membership._make(row) for row in rows]


def memberships_of_user_at(execute: Execute, user_id: str, pos: int) -> list[Membership]:
    """The person's memberships of all rooms that hold at `pos` (inclusive)."""
    rows = execute(
        f"SELECT {_MEMBERSHIP} FROM memberships WHERE user_id = ? AND from_pos <= ? AND to_pos > ?",
        (user_id, pos, pos),
    )
    return [Membership._make(row) for row in rows]


def own_member_events(execute: Execute, user_id: str, pos: int) -> dict[str, StoredEvent]:
    """The person's member event of each room that they have joined at `pos` (inclusive), by room."""
    rows = execute(
        f"SELECT {EVENT_COLUMNS} FROM memberships JOIN events ON events.pos = from_pos "
        "WHERE memberships.user_id = ? AND from_pos <= ? AND to_pos > ? AND membership = 'join'",
        (user_id, pos, pos),
    )
    return {event.room_id: event for event in map(StoredEvent._make, rows)}


def membership_changes_of_user(execute: Execute, user_id: str, after: int, upto: int) -> list[Membership]:
    """The intervals of the person's memberships that began at after < pos <= upto, in order."""
    rows = execute(
        f"SELECT {_MEMBERSHIP} FROM memberships WHERE user_id = ? AND from_pos > ? AND from_pos <= ? ORDER BY from_pos",
        (user_id, after, upto),
    )
    return [Membership._make(row) for row in rows]


def member_events_at(execute: Execute, room_id: str, pos: int) -> list[tuple[str, StoredEvent]]:
    """The membership and the member event of everybody who has or had a part in a room, at `pos` (inclusive)."""
    rows = execute(
        f"SELECT membership, {EVENT_COLUMNS} FROM memberships JOIN events ON events.pos = from_pos "
        "WHERE memberships.room_id = ? AND from_pos <= ? AND to_pos > ?",
        (room_id, pos, pos),
    )
    return [(row[0], StoredEvent._make(row[1:])) for row in rows]


def members_now(execute: Execute, room_id: str, membership: str = "join") -> list[str]:
    """The user IDs that have this membership of the room now."""
    rows = execute(
        f"SELECT user_id FROM memberships WHERE room_id = ? AND membership = ? AND {_NOW}", (room_id, membership)
    )
    return [row[0] for row in rows]


def rooms_of_user_now(execute: Execute, user_id: str, membership: str = "join") -> list[str]:
    """The rooms of which the person has this membership now."""
    rows = execute(
        f"SELECT room_id FROM memberships WHERE user_id = ? AND membership = ? AND {_NOW}", (user_id, membership)
    )
    return [row[0] for row in rows]


def rooms_ever_joined(execute: Execute, user_id: str) -> list[str]:
    """The rooms that the person is or was joined to."""
    rows = execute("SELECT DISTINCT room_id FROM memberships WHERE user_id = ? AND membership = 'join'", (user_id,))
    return [row[0] for row in rows]


def count_now(execute: Execute, room_id: str, membership: str) -> int:
    """How many people have this membership of the room now."""
    row = execute(
        f"SELECT count(*) FROM memberships WHERE room_id = ? AND membership = ? AND {_NOW}", (room_id, membership)
    ).fetchone()
    return int(row[0])


def members_counted(execute: Execute, room_id: str) -> tuple[int, int]:
    """How many people have joined a room now, and how many are invited."""
    rows = execute(
        f"SELECT membership, count(*) FROM memberships WHERE room_id = ? AND membership IN ('invite', 'join') AND {_NOW} "
        "GROUP BY membership",
        (room_id,),
    )
    found = dict(rows.fetchall())
    return found.get("join", 0), found.get("invite", 0)


def has_more_joined(execute: Execute, room_id: str, number: int) -> bool:
    """Whether more than `number` people are joined; does not count further than that."""
    row = execute(
        "SELECT count(*) FROM (SELECT 1 FROM memberships "
        f"WHERE room_id = ? AND membership = 'join' AND {_NOW} LIMIT ?)",
        (room_id, number + 1),
    ).fetchone()
    return bool(row[0] > number)


def first_members_at(execute: Execute, room_id: str, memberships: tuple[str, ...], pos: int, limit: int) -> list[str]:
    """At most `limit` user IDs that have one of `memberships` at `pos`, those of the longest standing first."""
    marks = ", ".join("?" * len(memberships))
    rows = execute(
        f"SELECT user_id FROM memberships WHERE room_id = ? AND from_pos <= ? AND to_pos > ? "
        f"AND membership IN ({marks}) ORDER BY from_pos LIMIT ?",
        (room_id, pos, pos, *memberships, limit),
    )
    return [row[0] for row in rows]


def share_room(execute: Execute, one: str, other: str) -> bool:
    """Whether two people are joined to the same room."""
    row = execute(
        "SELECT EXISTS (SELECT 1 FROM memberships AS a JOIN memberships AS b ON b.room_id = a.room_id "
        "WHERE a.user_id = ?1 AND a.membership = 'join' AND a.to_pos = 9223372036854775807 "
        "AND b.user_id = ?2 AND b.membership = 'join' AND b.to_pos = 9223372036854775807)",
        (one, other),
    ).fetchone()
    return bool(row[0])


def rooms_in_common(execute: Execute, one: str, other: str) -> list[str]:
    """The rooms that two people are joined to, in order of their IDs."""
    rows = execute(
        "SELECT a.room_id FROM memberships AS a JOIN memberships AS b ON b.room_id = a.room_id "
        "WHERE a.user_id = ?1 AND a.membership = 'join' AND a.to_pos = 9223372036854775807 "
        "AND b.user_id = ?2 AND b.membership = 'join' AND b.to_pos = 9223372036854775807 ORDER BY a.room_id",
        (one, other),
    )
    return [row[0] for row in rows]


def stays_began(execute: Execute, user_id: str, pos: int) -> dict[str, int]:
    """Where the stay began in each room that the person has joined at `pos`: changes of a profile begin no new one.
    (Of rooms that they have not joined it says something meaningless.)"""
    rows = execute(
        "SELECT room_id, coalesce(max(CASE WHEN membership != 'join' THEN to_pos END), min(from_pos)) FROM memberships "
        "WHERE user_id = ? AND from_pos <= ? GROUP BY room_id",
        (user_id, pos),
    )
    return dict(rows.fetchall())


def forgotten_rooms(execute: Execute, user_id: str) -> set[str]:
    """The rooms that the person forgot."""
    return {row[0] for row in execute("SELECT room_id FROM forgotten_rooms WHERE user_id = ?", (user_id,))}


def forget(tx: Transaction, user_id: str, room_id: str) -> None:
    """The person forgets a room that they have left."""
    tx.execute("INSERT OR IGNORE INTO forgotten_rooms (user_id, room_id) VALUES (?, ?)", (user_id, room_id))
    tx.users.add(user_id)


def some_at(
    execute: Execute, room_id: str, types: Collection[str], exact: Collection[tuple[str, str]], pos: int
) -> list[StoredEvent]:
    """The state at `pos` of some whole `types` and of some `exact` pairs of type and state key.

    The plus keeps SQLite from the index by position, on which it would meet all members.
    """
    found = []
    select = f"SELECT {EVENT_COLUMNS} FROM json_each(?1) AS wanted CROSS JOIN room_state ON room_state.room_id = ?2 "
    rest = "AND +from_pos <= ?3 AND to_pos > ?3 JOIN events ON events.pos = from_pos"
    if exact:
        pair = "AND room_state.type = wanted.value ->> 0 AND room_state.state_key = wanted.value ->> 1 "
        found += execute(select + pair + rest, (orjson.dumps(list(exact)).decode(), room_id, pos)).fetchall()
    if types:
        type = "AND room_state.type = wanted.value "
        found += execute(select + type + rest, (orjson.dumps(list(types)).decode(), room_id, pos)).fetchall()
    return [StoredEvent._make(row) for row in found]
