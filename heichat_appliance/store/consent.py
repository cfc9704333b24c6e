"""Who agreed to which terms, and the rooms "Server Notices"."""

from __future__ import annotations

from heichat_appliance.db.engine import Transaction
from heichat_appliance.store.events import Execute


def has_agreed(execute: Execute, user_id: str, version: str) -> bool:
    """Whether the person agreed to this version of the terms."""
    row = execute("SELECT 1 FROM consents WHERE user_id = ? AND version = ?", (user_id, version)).fetchone()
    return row is not None


def agree(tx: Transaction, user_id: str, version: str, ts: int) -> None:
    """Note that the person agrees; the first time counts."""
    tx.execute("INSERT OR IGNORE INTO consents (user_id, version, ts) VALUES (?, ?, ?)", (user_id, version, ts))


def notice_room(execute: Execute, user_id: str) -> tuple[str, str | None] | None:
    """The person's room "Server Notices" and the version of the terms that was asked for in it last."""
    row: tuple[str, str | None] | None = execute(
        "SELECT room_id, asked_version FROM notice_rooms WHERE user_id = ?", (user_id,)
    ).fetchone()
    return row


def put_notice_room(tx: Transaction, user_id: str, room_id: str, asked_version: str | None) -> None:
    """Note the person's room, and what was asked for in it."""
    tx.execute(
        "INSERT INTO notice_rooms (user_id, room_id, asked_version) VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET room_id = excluded.room_id, asked_version = excluded.asked_version",
        (user_id, room_id, asked_version),
    )
