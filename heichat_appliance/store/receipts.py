"""Receipts: the last of each person, type and thread."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import orjson

from heichat_appliance.db.engine import Transaction
from heichat_appliance.protocol.relations import MAX_THREAD_HOPS, THREAD
from heichat_appliance.store.events import Execute

READ = "m.read"
PRIVATE = "m.read.private"
#: `thread_id` of the main timeline; '' is a receipt for all threads.
MAIN = "main"


class Receipt(NamedTuple):
    """A row: `event_pos` is the position of the event, `ts` in milliseconds since 1970, `pos` of the receipt itself."""

    room_id: str
    user_id: str
    type: str
    thread_id: str
    event_id: str
    event_pos: int
    ts: int
    pos: int


_COLUMNS = "room_id, user_id, type, thread_id, event_id, event_pos, ts, pos"


def advance(
    tx: Transaction, room_id: str, user_id: str, type: str, thread_id: str, event_id: str, event_pos: int, ts: int
) -> bool:
    """Move a receipt forwards, at a new position; False if it is there or further already."""
    row = tx.execute(
        "SELECT event_pos FROM receipts WHERE room_id = ? AND user_id = ? AND type = ? AND thread_id = ?",
        (room_id, user_id, type, thread_id),
    ).fetchone()
    if row is not None and row[0] >= event_pos:
        return False
    tx.execute(
        f"INSERT OR REPLACE INTO receipts ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (room_id, user_id, type, thread_id, event_id, event_pos, ts, tx.next_position()),
    )
    return True


def in_room(execute: Execute, room_id: str, upto: int) -> list[Receipt]:
    """All receipts of a room whose position is at most `upto`, private ones too: those are for their person alone."""
    rows = execute(f"SELECT {_COLUMNS} FROM receipts WHERE room_id = ? AND pos <= ?", (room_id, upto))
    return [Receipt._make(row) for row in rows]


def changed(execute: Execute, room_id: str, after: int, upto: int) -> list[Receipt]:
    """The receipts of a room at after < pos <= upto in order, private ones too."""
    rows = execute(
        f"SELECT {_COLUMNS} FROM receipts WHERE room_id = ? AND pos > ? AND pos <= ? ORDER BY pos",
        (room_id, after, upto),
    )
    return [Receipt._make(row) for row in rows]


def by_position(execute: Execute, after: int, upto: int) -> list[Receipt]:
    """The receipts of all rooms at after < pos <= upto in order, private ones too."""
    rows = execute(f"SELECT {_COLUMNS} FROM receipts WHERE pos > ? AND pos <= ? ORDER BY pos", (after, upto))
    return [Receipt._make(row) for row in rows]


def last_positions(execute: Execute, room_ids: Iterable[str], upto: int) -> dict[str, int]:
    """The position of the last receipt of each room at pos <= upto, 0 if there is none."""
    rows = execute(
        "SELECT value, (SELECT max(pos) FROM receipts WHERE room_id = value AND pos <= ?) FROM json_each(?)",
        (upto, orjson.dumps(list(room_ids)).decode()),
    )
    return {row[0]: row[1] or 0 for row in rows}


def of_user(execute: Execute, room_id: str, user_id: str) -> list[Receipt]:
    """One person's receipts in a room: what unread counts begin after."""
    rows = execute(f"SELECT {_COLUMNS} FROM receipts WHERE room_id = ? AND user_id = ?", (room_id, user_id))
    return [Receipt._make(row) for row in rows]


def of_events(execute: Execute, room_id: str, user_id: str, event_ids: Collection[str], upto: int) -> list[Receipt]:
    """The receipts of a room for some events, and all of one person's; those whose position is at most `upto`."""
    rows = execute(
        f"SELECT {_COLUMNS} FROM receipts WHERE room_id = ? AND pos <= ? AND (user_id = ? OR event_id IN "
        "(SELECT value FROM json_each(?)))",
        (room_id, upto, user_id, orjson.dumps(list(event_ids)).decode()),
    )
    return [Receipt._make(row) for row in rows]


def thread_of(execute: Execute, pos: int) -> tuple[str, str | None]:
    """The thread of the event at `pos`: (root's event ID or 'main', the event in the main timeline that it relates to).

    Relations are followed as far as the spec recommends (client-server API "Threaded read receipts"). The second part
    is the event at which the following ended, None if the event relates to nothing.
    """
    target = None
    for _ in range(MAX_THREAD_HOPS):
        row = execute("SELECT rel_type, parent_id FROM relations WHERE pos = ?", (pos,)).fetchone()
        if row is None:
            break
        rel_type, target = row
        if rel_type == THREAD:
            return target, target
        parent = execute("SELECT pos FROM events WHERE event_id = ?", (target,)).fetchone()
        if parent is None:
            break
        pos = parent[0]
    return MAIN, target
