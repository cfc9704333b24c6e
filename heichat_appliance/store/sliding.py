"""Connections of sliding sync and what they have been told (db/schema/80_sliding.sql), and what lists sort and filter by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import orjson

from heichat_appliance.db.engine import Transaction
from heichat_appliance.store.events import Execute

#: Events that move a room up in a client's list (MSC4186, `bump_stamp`).
BUMPING = (
    "m.room.create", "m.room.message", "m.room.encrypted", "m.sticker", "m.call.invite", "m.poll.start",
    "org.matrix.msc3381.poll.start", "m.beacon_info", "org.matrix.msc3672.beacon_info",
)  # fmt: skip


class Connection(NamedTuple):
    """A row of `sliding_connections`."""

    id: int
    user_id: str
    device_id: str
    conn_id: str
    used: int
    latest: int
    used_ts: int


class Row(NamedTuple):
    """A row of `sliding_rooms` without connection and version; `members` as JSON."""

    room_id: str
    sent: int
    timeline_limit: int
    required: int
    members: str
    receipts: int
    account_data: int


_CONNECTION = "id, user_id, device_id, conn_id, used, latest, used_ts"
_ROW = "room_id, sent, timeline_limit, required, members, receipts, account_data"

# -- connections -------------------------------------------------------------------------------------------------


def connection(execute: Execute, connection_id: int) -> Connection | None:
    """The connection with this ID."""
    row = execute(f"SELECT {_CONNECTION} FROM sliding_connections WHERE id = ?", (connection_id,)).fetchone()
    return Connection._make(row) if row else None


def rooms(execute: Execute, connection_id: int, version: int) -> list[Row]:
    """What the connection knows at a version; of a room that comes more than once the last one counts."""
    rows = execute(
        f"SELECT {_ROW} FROM sliding_rooms WHERE connection = ? AND version <= ? ORDER BY version",
        (connection_id, version),
    )
    return [Row._make(row) for row in rows]


def required(execute: Execute, connection_id: int) -> list[tuple[int, str]]:
    """The connection's lists of required state as (ID, JSON)."""
    return execute("SELECT id, entries FROM sliding_required WHERE connection = ?", (connection_id,)).fetchall()


def create(tx: Transaction, user_id: str, device_id: str, conn_id: str, now: int, keep: int, expired: int) -> int:
    """A new connection in place of the one of this name; its ID, which was never another's.

    Of the device's other ones the `keep` that were used last stay, and of all some that were not used since `expired` go.
    """
    tx.execute(
        "DELETE FROM sliding_connections WHERE user_id = ?1 AND device_id = ?2 AND (conn_id = ?3 OR id NOT IN ("
        "SELECT id FROM sliding_connections WHERE user_id = ?1 AND device_id = ?2 ORDER BY used_ts DESC, id DESC "
        "LIMIT ?4))",
        (user_id, device_id, conn_id, keep),
    )
    tx.execute(
        "DELETE FROM sliding_connections WHERE id IN "
        "(SELECT id FROM sliding_connections WHERE used_ts < ? ORDER BY used_ts LIMIT 20)",
        (expired,),
    )
    cursor = tx.execute(
        "INSERT INTO sliding_connections (user_id, device_id, conn_id, used, latest, used_ts) VALUES (?, ?, ?, 0, 0, ?)",
        (user_id, device_id, conn_id, now),
    )
    return int(cursor.lastrowid or 0)


def used(tx: Transaction, connection_id: int, now: int) -> None:
    """Note that the connection is in use."""
    tx.execute("UPDATE sliding_connections SET used_ts = ? WHERE id = ?", (now, connection_id))


def put(
    tx: Transaction, connection_id: int, base: int, version: int, rows: Sequence[Row], entries: Iterable[tuple[int, str]],
    now: int,
) -> bool:  # fmt: skip
    """Store a new version that differs from version `base`, the one used last, in `rows`; what lies between is dropped.

    `entries`: new lists of required state as (ID, JSON). False if there is no such connection any more.
    """
    found = tx.execute(
        "UPDATE sliding_connections SET used = ?, latest = ?, used_ts = ? WHERE id = ?",
        (base, version, now, connection_id),
    )
    if not found.rowcount:
        return False
    if base < version - 1:
        tx.execute("DELETE FROM sliding_rooms WHERE connection = ? AND version > ?", (connection_id, base))
    for entry in entries:
        tx.execute("INSERT INTO sliding_required (connection, id, entries) VALUES (?, ?, ?)", (connection_id, *entry))
    if base:  # else there is nothing older
        tx.execute(
            "DELETE FROM sliding_rooms AS old WHERE connection = ?1 AND room_id IN (SELECT value FROM json_each(?2)) "
            "AND version < (SELECT max(version) FROM sliding_rooms AS newer "
            "WHERE newer.connection = ?1 AND newer.room_id = old.room_id)",
            (connection_id, _list(row.room_id for row in rows)),
        )
    values = ", ".join(f"value ->> {index}" for index in range(len(Row._fields)))
    tx.execute(
        f"INSERT INTO sliding_rooms (connection, version, {_ROW}) SELECT ?, ?, {values} FROM json_each(?)",
        (connection_id, version, _list(map(tuple, rows))),
    )
    return True


def forget_required(tx: Transaction, connection_id: int) -> None:
    """Delete the connection's lists of required state that no room refers to."""
    tx.execute(
        "DELETE FROM sliding_required WHERE connection = ?1 AND id NOT IN "
        "(SELECT required FROM sliding_rooms WHERE connection = ?1)",
        (connection_id,),
    )


# -- what lists sort and filter by -------------------------------------------------------------------------------


def last_positions(execute: Execute, room_ids: Iterable[str]) -> dict[str, int]:
    """The position of the last event of each room."""
    return dict(
        execute(
            "SELECT value, (SELECT max(pos) FROM events WHERE room_id = value) FROM json_each(?)", (_list(room_ids),)
        ).fetchall()
    )


def last_bump(execute: Execute, room_id: str, upto: int) -> int:
    """The position of the last event of the kinds in BUMPING up to `upto`; a room begins with one."""
    marks = ", ".join("?" * len(BUMPING))
    row = execute(
        f"SELECT pos FROM events WHERE room_id = ? AND pos <= ? AND +type IN ({marks}) ORDER BY pos DESC LIMIT 1",
        (room_id, upto, *BUMPING),
    ).fetchone()
    return row[0] if row else 0


def encrypted(execute: Execute, room_ids: Iterable[str]) -> set[str]:
    """Those rooms that are encrypted."""
    rows = execute(
        "SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM room_state "
        "WHERE room_id = value AND type = 'm.room.encryption' AND state_key = '')",
        (_list(room_ids),),
    )
    return {row[0] for row in rows}


def room_types(execute: Execute, room_ids: Iterable[str]) -> dict[str, str | None]:
    """The type of each room, None for an ordinary one."""
    return dict(
        execute(
            "SELECT value, json_extract(pdu, '$.content.type') FROM json_each(?) CROSS JOIN room_state "
            "ON room_state.room_id = value AND room_state.type = 'm.room.create' AND room_state.state_key = '' "
            "JOIN events ON events.pos = from_pos",
            (_list(room_ids),),
        ).fetchall()
    )


def tags(execute: Execute, user_id: str) -> dict[str, str]:
    """A person's m.tag of each room that has one, as JSON."""
    return dict(
        execute(
            "SELECT room_id, content FROM account_data WHERE user_id = ? AND type = 'm.tag' AND room_id != ''",
            (user_id,),
        ).fetchall()
    )


def _list(values: Iterable[object]) -> str:
    return orjson.dumps(list(values)).decode()
