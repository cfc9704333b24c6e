"""Room aliases, and rooms that are published to the room directory."""

from __future__ import annotations

from typing import NamedTuple

from heichat_appliance.db.engine import Transaction
from heichat_appliance.store.events import Execute


class Alias(NamedTuple):
    """A row of `room_aliases`."""

    alias: str
    room_id: str
    creator: str


def get(execute: Execute, alias: str) -> Alias | None:
    """Where an alias leads."""
    row = execute("SELECT alias, room_id, creator FROM room_aliases WHERE alias = ?", (alias,)).fetchone()
    return Alias._make(row) if row else None


def of_room(execute: Execute, room_id: str) -> list[str]:
    """The aliases of a room in order."""
    rows = execute("SELECT alias FROM room_aliases WHERE room_id = ? ORDER BY alias", (room_id,))
    return [row[0] for row in rows]


def count_of(execute: Execute, creator: str) -> int:
    """How many aliases a person has made."""
    row = execute("SELECT count(*) FROM room_aliases WHERE creator = ?", (creator,)).fetchone()
    return int(row[0])


def insert(tx: Transaction, alias: str, room_id: str, creator: str) -> None:
    """Make an alias that does not exist yet."""
    tx.execute("INSERT INTO room_aliases (alias, room_id, creator) VALUES (?, ?, ?)", (alias, room_id, creator))


def delete(tx: Transaction, alias: str) -> None:
    """Take an alias away."""
    tx.execute("DELETE FROM room_aliases WHERE alias = ?", (alias,))


def move_all(tx: Transaction, old_room: str, new_room: str) -> None:
    """All aliases of one room lead to another."""
    tx.execute("UPDATE room_aliases SET room_id = ? WHERE room_id = ?", (new_room, old_room))


# -- the room directory ------------------------------------------------------------------------------------------


def is_published(execute: Execute, room_id: str) -> bool:
    """Whether a room is in the directory."""
    return execute("SELECT 1 FROM published_rooms WHERE room_id = ?", (room_id,)).fetchone() is not None


def set_published(tx: Transaction, room_id: str, published: bool) -> None:
    """Put a room into the directory, or take it out."""
    if published:
        tx.execute("INSERT OR IGNORE INTO published_rooms (room_id) VALUES (?)", (room_id,))
    else:
        tx.execute("DELETE FROM published_rooms WHERE room_id = ?", (room_id,))


def published(execute: Execute) -> list[tuple[str, int]]:
    """(room ID, number of joined people) of all published rooms, the largest first."""
    rows = execute(
        "SELECT room_id, (SELECT count(*) FROM memberships WHERE memberships.room_id = published_rooms.room_id "
        "AND membership = 'join' AND to_pos = 9223372036854775807) AS joined "
        "FROM published_rooms ORDER BY joined DESC, room_id"
    )
    return [(row[0], row[1]) for row in rows]
