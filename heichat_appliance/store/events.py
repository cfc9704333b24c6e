"""Events: the table `events`, and relations between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from sqlite3 import Cursor
from typing import NamedTuple

import orjson

from heichat_appliance.db.engine import Transaction

Execute = Callable[..., Cursor]


class StoredEvent(NamedTuple):
    """A row of `events`; `pdu` is canonical JSON."""

    pos: int
    event_id: str
    room_id: str
    depth: int
    type: str
    state_key: str | None
    sender: str
    ts: int
    pdu: str
    replaces: str | None
    device_id: str | None
    txn_id: str | None
    redacted_by: str | None


_COLUMNS = "pos, event_id, room_id, depth, type, state_key, sender, ts, pdu, replaces, device_id, txn_id, redacted_by"
EVENT_COLUMNS = ", ".join(f"events.{column}" for column in _COLUMNS.split(", "))


#: A StoredEvent of a row that has its columns: as `_make`, without a call in Python.
_of_row: Callable[[tuple[object, ...]], StoredEvent] = partial(tuple.__new__, StoredEvent)


def content_json(pdu: str) -> bytes:
    """The content of an event in `StoredEvent.pdu`, as it stands there.

    The keys of a PDU are in canonical order (`protocol.pdu` lists them): `content` follows the list of auth events, which
    are IDs without quotes in them, and `depth` follows it; no value behind that holds a key `depth` that is not the first.
    """
    return pdu[pdu.index('],"content":') + 12 : pdu.rindex(',"depth":')].encode()


def insert(tx: Transaction, event: StoredEvent) -> None:
    """Store an event."""
    tx.execute(f"INSERT INTO events ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", event)


def by_id(execute: Execute, event_id: str) -> StoredEvent | None:
    """The event with this ID."""
    row = execute(f"SELECT {_COLUMNS} FROM events WHERE event_id = ?", (event_id,)).fetchone()
    return StoredEvent._make(row) if row else None


def by_position(execute: Execute, pos: int) -> StoredEvent | None:
    """The event at this position."""
    row = execute(f"SELECT {_COLUMNS} FROM events WHERE pos = ?", (pos,)).fetchone()
    return StoredEvent._make(row) if row else None


def by_ids(execute: Execute, event_ids: Iterable[str]) -> dict[str, StoredEvent]:
    """The events with these IDs, by ID; unknown ones are left out."""
    found = (by_id(execute, event_id) for event_id in event_ids)
    return {event.event_id: event for event in found if event is not None}


def by_transaction(execute: Execute, sender: str, device_id: str, txn_id: str, room_id: str, type: str) -> str | None:
    """The ID of the event that this request (spec "Transaction identifiers") made before."""
    row = execute(
        "SELECT event_id FROM events WHERE txn_id = ? AND sender = ? AND device_id = ? AND room_id = ? AND type = ?",
        (txn_id, sender, device_id, room_id, type),
    ).fetchone()
    return row[0] if row else None


def is_in_room(execute: Execute, event_id: str, room_id: str) -> bool:
    """Whether there is such an event in this room."""
    row = execute("SELECT 1 FROM events WHERE event_id = ? AND room_id = ?", (event_id, room_id)).fetchone()
    return row is not None


def between(execute: Execute, after: int, upto: int) -> list[StoredEvent]:
    """The events of all rooms at positions after < pos <= upto, in order."""
    rows = execute(f"SELECT {_COLUMNS} FROM events WHERE pos > ? AND pos <= ? ORDER BY pos", (after, upto))
    return [StoredEvent._make(row) for row in rows]


def after(execute: Execute, pos: int, limit: int) -> list[StoredEvent]:
    """The next `limit` events of all rooms after a position, in order."""
    rows = execute(f"SELECT {_COLUMNS} FROM events WHERE pos > ? ORDER BY pos LIMIT ?", (pos, limit))
    return [StoredEvent._make(row) for row in rows]


def in_room(
    execute: Execute, room_id: str, after: int, upto: int, limit: int, *, backwards: bool = False
) -> list[StoredEvent]:
    """At most `limit` events of a room at after < pos <= upto, in order, or backwards from `upto`."""
    order = "DESC" if backwards else "ASC"
    rows = execute(
        f"SELECT {_COLUMNS} FROM events WHERE room_id = ? AND pos > ? AND pos <= ? ORDER BY pos {order} LIMIT ?",
        (room_id, after, upto, limit),
    )
    return list(map(_of_row, rows.fetchall()))


def last_positions(execute: Execute, room_ids: Iterable[str], upto: int) -> dict[str, int]:
    """The position of the last event of each room at pos <= upto."""
    rows = execute(
        "SELECT value, (SELECT max(pos) FROM events WHERE room_id = value AND pos <= ?) FROM json_each(?)",
        (upto, orjson.dumps(list(room_ids)).decode()),
    )
    return {row[0]: row[1] or 0 for row in rows}


def marks_in_room(
    execute: Execute, room_id: str, after: int, upto: int, limit: int, *, backwards: bool = False
) -> list[tuple[int, str | None]]:
    """`pos` and `redacted_by` of the events that `in_room` gives."""
    order = "DESC" if backwards else "ASC"
    return execute(
        f"SELECT pos, redacted_by FROM events WHERE room_id = ? AND pos > ? AND pos <= ? ORDER BY pos {order} LIMIT ?",
        (room_id, after, upto, limit),
    ).fetchall()


def last_before_time(execute: Execute, room_id: str, ts: int, upto: int) -> int:
    """A position at or before `upto` up to which a room's events are older than `ts` (ms since 1970), and after which
    they are not: found by bisection, for events in the order of their times."""
    low, high = 0, upto
    while low < high:
        middle = (low + high + 1) // 2
        row = execute(
            "SELECT pos, ts FROM events WHERE room_id = ? AND pos > ? AND pos <= ? ORDER BY pos DESC LIMIT 1",
            (room_id, low, middle),
        ).fetchone()
        if row is None or row[1] < ts:
            low = middle
        else:
            high = row[0] - 1
    return low


def last_of_room(execute: Execute, room_id: str) -> tuple[str, int] | None:
    """Event ID and depth of the room's last event."""
    row: tuple[str, int] | None = execute(
        "SELECT event_id, depth FROM events WHERE room_id = ? ORDER BY pos DESC LIMIT 1", (room_id,)
    ).fetchone()
    return row


def put_redacted(tx: Transaction, event_id: str, pdu: str, redacted_by: str) -> None:
    """Replace an event's PDU by its redacted form."""
    tx.execute("UPDATE events SET pdu = ?, redacted_by = ? WHERE event_id = ?", (pdu, redacted_by, event_id))


def insert_relation(tx: Transaction, event: StoredEvent, parent_id: str, rel_type: str, agg_key: str | None) -> None:
    """Note that `event` relates to `parent_id`."""
    tx.execute(
        "INSERT INTO relations (parent_id, pos, room_id, rel_type, type, sender, agg_key) VALUES (?,?,?,?,?,?,?)",
        (parent_id, event.pos, event.room_id, rel_type, event.type, event.sender, agg_key),
    )


def has_annotation(execute: Execute, parent_id: str, sender: str, type: str, key: str) -> bool:
    """Whether this person annotated an event in the same way before."""
    row = execute(
        "SELECT 1 FROM relations WHERE rel_type = 'm.annotation' AND parent_id = ? AND sender = ? AND type = ? "
        "AND agg_key = ?",
        (parent_id, sender, type, key),
    ).fetchone()
    return row is not None


def delete_relation(tx: Transaction, pos: int) -> None:
    """Forget the relation of a redacted event."""
    tx.execute("DELETE FROM relations WHERE pos = ?", (pos,))
