"""Reports of events, rooms and people."""

from __future__ import annotations

from heichat_appliance.db.engine import Transaction
from heichat_appliance.store.events import Execute


def insert(
    tx: Transaction, reporter: str, reason: str, ts: int, *,
    room_id: str | None = None, event_id: str | None = None, user_id: str | None = None,
) -> None:  # fmt: skip
    """Keep a report."""
    tx.execute(
        "INSERT INTO reports (reporter, room_id, event_id, user_id, reason, ts) VALUES (?, ?, ?, ?, ?, ?)",
        (reporter, room_id, event_id, user_id, reason, ts),
    )


def count_since(execute: Execute, reporter: str, ts: int) -> int:
    """How many reports a person made since a time."""
    row = execute("SELECT count(*) FROM reports WHERE reporter = ? AND ts >= ?", (reporter, ts)).fetchone()
    return int(row[0])
