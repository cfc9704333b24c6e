"""To-device messages: kept for a device in order until a later `since` of the device acknowledges them."""

from __future__ import annotations

from typing import Any

import orjson

from heichat_appliance.db.engine import Transaction
from heichat_appliance.store.events import Execute

# -- receiving ---------------------------------------------------------------------------------------------------


def pending(
    execute: Execute, user_id: str, device_id: str, after: int, upto: int, limit: int = 100
) -> tuple[list[dict[str, Any]], int]:
    """The oldest messages for a device with after < pos <= upto, at most `limit`, and the position up to which they go.

    That position is `upto` when nothing was left over, else the position of the last message given. A sync token must
    carry it: only what lies at or before it may be acknowledged, or the rest would be lost.
    """
    rows = execute(
        "SELECT pos, sender, type, content FROM to_device WHERE user_id = ? AND device_id = ? AND pos > ? AND pos <= ? "
        "ORDER BY pos LIMIT ?",
        (user_id, device_id, after, upto, limit + 1),
    ).fetchall()
    found = [
        {"sender": sender, "type": type, "content": orjson.Fragment(content)}
        for _, sender, type, content in rows[:limit]
    ]
    return found, rows[limit - 1][0] if len(rows) > limit else upto


def has_acknowledged(execute: Execute, user_id: str, device_id: str, upto: int) -> bool:
    """Whether an acknowledgement up to `upto` would delete anything: only then a write job is worth it."""
    row = execute(
        "SELECT 1 FROM to_device WHERE user_id = ? AND device_id = ? AND pos <= ? LIMIT 1", (user_id, device_id, upto)
    ).fetchone()
    return row is not None


def acknowledge(tx: Transaction, user_id: str, device_id: str, upto: int) -> None:
    """The device has received everything up to and including `upto`: delete it."""
    tx.execute("DELETE FROM to_device WHERE user_id = ? AND device_id = ? AND pos <= ?", (user_id, device_id, upto))


# -- sending -----------------------------------------------------------------------------------------------------


def device_ids(execute: Execute, user_id: str) -> set[str]:
    """The devices of a person; none for an unknown one."""
    return {row[0] for row in execute("SELECT device_id FROM devices WHERE user_id = ?", (user_id,))}


def has_waiting(execute: Execute, user_id: str, device_id: str, sender: str, number: int) -> bool:
    """Whether at least `number` messages of one sender wait for a device."""
    row = execute(
        "SELECT 1 FROM to_device WHERE user_id = ? AND device_id = ? AND sender = ? LIMIT 1 OFFSET ?",
        (user_id, device_id, sender, number - 1),
    ).fetchone()
    return row is not None


def add(tx: Transaction, user_id: str, device_id: str, sender: str, type: str, content: str) -> None:
    """Queue a message (JSON) for a device; it takes the next position."""
    tx.execute(
        "INSERT INTO to_device (pos, user_id, device_id, sender, type, content) VALUES (?, ?, ?, ?, ?, ?)",
        (tx.next_position(), user_id, device_id, sender, type, content),
    )


def note_transaction(tx: Transaction, user_id: str, device_id: str, type: str, txn_id: str, now: int) -> bool:
    """Remember a transaction ID of a sending device; False if it is known already."""
    cursor = tx.execute(
        "INSERT INTO to_device_txns (user_id, device_id, type, txn_id, ts) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        (user_id, device_id, type, txn_id, now),
    )
    return cursor.rowcount == 1


def forget_transactions(tx: Transaction, before: int) -> None:
    """Forget transaction IDs from before a time, the oldest thousand at once."""
    tx.execute(
        "DELETE FROM to_device_txns WHERE (user_id, device_id, type, txn_id) IN ("
        "SELECT user_id, device_id, type, txn_id FROM to_device_txns WHERE ts < ? ORDER BY ts LIMIT 1000)",
        (before,),
    )
