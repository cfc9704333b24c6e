"""Which events notify and highlight by the default push rules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from heichat_appliance.db.engine import Transaction
from heichat_appliance.store.events import Execute
from heichat_appliance.store.receipts import MAIN

#: In `mentions`: everybody in the room.
EVERYBODY = ""


class Notifying(NamedTuple):
    """A row of `notifying_events`, without the room; `everybody` is 0 or 1."""

    pos: int
    thread_id: str
    sender: str
    everybody: int


def insert(
    tx: Transaction, room_id: str, pos: int, thread_id: str, sender: str, everybody: bool, mentioned: Iterable[str]
) -> None:
    """Note an event that notifies everybody, or those who are mentioned; `mentioned` are user IDs or EVERYBODY."""
    tx.execute("INSERT INTO notifying_events VALUES (?, ?, ?, ?, ?)", (room_id, pos, thread_id, sender, int(everybody)))
    for user_id in mentioned:
        tx.execute("INSERT OR IGNORE INTO mentions VALUES (?, ?, ?)", (user_id, room_id, pos))


def redact(tx: Transaction, room_id: str, pos: int) -> None:
    """The event was redacted and notifies nobody any more; that its sender had read the room up to it stays true."""
    tx.execute("UPDATE notifying_events SET everybody = 0 WHERE room_id = ? AND pos = ?", (room_id, pos))
    tx.execute("DELETE FROM mentions WHERE room_id = ? AND pos = ?", (room_id, pos))


def counts(execute: Execute, user_id: str, room_id: str, after: int, upto: int) -> list[tuple[str, int, int]]:
    """(thread ID, events that notify, those that highlight) at after < pos <= upto, without the person's own."""
    rows = execute(
        "SELECT n.thread_id, count(*), count(m.pos) FROM notifying_events AS n LEFT JOIN "
        "(SELECT DISTINCT pos FROM mentions WHERE user_id IN (?1, '') AND room_id = ?2 AND pos > ?3 AND pos <= ?4) AS m "
        "ON m.pos = n.pos WHERE n.room_id = ?2 AND n.pos > ?3 AND n.pos <= ?4 AND n.sender != ?1 "
        "AND (n.everybody OR m.pos IS NOT NULL) GROUP BY n.thread_id",
        (user_id, room_id, after, upto),
    )
    return [(row[0], row[1], row[2]) for row in rows]


def tally(execute: Execute, user_id: str, room_id: str, after: int, upto: int) -> tuple[int, int, int]:
    """Of the notifying events at after < pos <= upto: how many of others notify everybody, how many are in a thread, and
    the position of the person's own last one (0: none)."""
    row = execute(
        "SELECT count(*) FILTER (WHERE sender != ?4 AND everybody), count(*) FILTER (WHERE thread_id != ?5), "
        "max(pos) FILTER (WHERE sender = ?4) FROM notifying_events WHERE room_id = ?1 AND pos > ?2 AND pos <= ?3",
        (room_id, after, upto, user_id, MAIN),
    ).fetchone()
    return row[0], row[1], row[2] or 0


def mentioned(execute: Execute, user_id: str, room_id: str, after: int, upto: int) -> list[bool]:
    """For each event of others at after < pos <= upto that highlights for the person: does it notify everybody?"""
    rows = execute(
        "SELECT n.everybody FROM (SELECT DISTINCT pos FROM mentions WHERE user_id IN (?1, '') AND room_id = ?2 AND pos > ?3 "
        "AND pos <= ?4) AS m CROSS JOIN notifying_events AS n WHERE n.room_id = ?2 AND n.pos = m.pos AND n.sender != ?1",
        (user_id, room_id, after, upto),
    )
    return [bool(row[0]) for row in rows]


def horizon(execute: Execute, room_id: str, upto: int, number: int) -> int:
    """The position before the room's last `number` notifying events at pos <= upto, 0 if there are not so many."""
    row = execute(
        "SELECT pos FROM notifying_events WHERE room_id = ? AND pos <= ? ORDER BY pos DESC LIMIT 1 OFFSET ?",
        (room_id, upto, number),
    ).fetchone()
    return row[0] if row else 0


def newest(execute: Execute, room_id: str, upto: int, number: int) -> list[Notifying]:
    """The room's last `number` notifying events at pos <= upto, newest first."""
    rows = execute(
        "SELECT pos, thread_id, sender, everybody FROM notifying_events WHERE room_id = ? AND pos <= ? "
        "ORDER BY pos DESC LIMIT ?",
        (room_id, upto, number),
    )
    return [Notifying._make(row) for row in rows]


def who_is_mentioned(execute: Execute, room_id: str, after: int, upto: int) -> frozenset[str]:
    """For whom (EVERYBODY: for all) any event of the room at after < pos <= upto highlights."""
    rows = execute(
        "SELECT DISTINCT user_id FROM mentions WHERE room_id = ? AND pos > ? AND pos <= ?", (room_id, after, upto)
    )
    return frozenset(row[0] for row in rows)


def last_sent(execute: Execute, user_id: str, room_id: str, after: int, upto: int) -> list[tuple[str, int]]:
    """(thread ID, position) of the last event that the person sent in each thread, of those at after < pos <= upto that
    notify others."""
    rows = execute(
        "SELECT thread_id, max(pos) FROM notifying_events WHERE room_id = ?1 AND pos > ?2 AND pos <= ?3 AND sender = ?4 "
        "GROUP BY thread_id",
        (room_id, after, upto, user_id),
    )
    return [(row[0], row[1]) for row in rows]


def count_in_thread(
    execute: Execute, user_id: str, room_id: str, thread_id: str, after: int, upto: int
) -> tuple[int, int]:
    """The same for one thread: (events that notify, those that highlight)."""
    row = execute(
        "SELECT count(*), count(m.pos) FROM notifying_events AS n LEFT JOIN "
        "(SELECT DISTINCT pos FROM mentions WHERE user_id IN (?1, '') AND room_id = ?2 AND pos > ?3 AND pos <= ?4) AS m "
        "ON m.pos = n.pos WHERE n.room_id = ?2 AND n.pos > ?3 AND n.pos <= ?4 AND n.sender != ?1 AND n.thread_id = ?5 "
        "AND (n.everybody OR m.pos IS NOT NULL)",
        (user_id, room_id, after, upto, thread_id),
    ).fetchone()
    return row[0], row[1]
