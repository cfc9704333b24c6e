"""To-device messages: kept for a device in order until a later `since` of the device acknowledges them."""

from __future__ import annotations

from typing import Any

import orjson

from heichat_appliance.db.engine import Transaction
from heichat_appliance.store.events import Execute


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
