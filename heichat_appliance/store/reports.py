"""Reports of events, rooms and people."""

from __future__ import annotations

from typing import NamedTuple

from heichat_appliance.db.engine import Transaction
from heichat_appliance.store.events import Execute


class Report(NamedTuple):
    """A row: who reported what, why and when (`ts` in milliseconds since 1970)."""

    ts: int
    reporter: str
    room_id: str | None
    event_id: str | None
    user_id: str | None
    reason: str


def newest(execute: Execute, limit: int) -> list[Report]:
    """The last `limit` reports, the newest first."""
    rows = execute(
        "SELECT ts, reporter, room_id, event_id, user_id, reason FROM reports ORDER BY id DESC LIMIT ?", (limit,)
    )
    return [Report._make(row) for row in rows]


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
