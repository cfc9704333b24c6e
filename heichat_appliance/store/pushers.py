"""Pushers, and how far notifications have come."""

from __future__ import annotations

from typing import NamedTuple

from heichat_appliance.db.engine import Transaction
from heichat_appliance.store.events import Execute


class Description(NamedTuple):
    """What a client says of a pusher; `data` is a JSON object."""

    app_id: str
    pushkey: str
    app_display_name: str
    device_display_name: str
    profile_tag: str | None
    lang: str
    data: str


class Pusher(NamedTuple):
    """A row of `pushers`."""

    id: int
    user_id: str
    device_id: str
    app_id: str
    pushkey: str
    app_display_name: str
    device_display_name: str
    profile_tag: str | None
    lang: str
    data: str
    pushkey_ts: int
    resume_after: int | None


_DESCRIPTION = "app_id, pushkey, app_display_name, device_display_name, profile_tag, lang, data"
_COLUMNS = f"id, user_id, device_id, {_DESCRIPTION}, pushkey_ts, resume_after"
_POSITION = "push_position"


def all(execute: Execute) -> list[Pusher]:
    """Every pusher."""
    return [Pusher._make(row) for row in execute(f"SELECT {_COLUMNS} FROM pushers ORDER BY id")]


def of_user(execute: Execute, user_id: str) -> list[Pusher]:
    """A person's pushers."""
    rows = execute(f"SELECT {_COLUMNS} FROM pushers WHERE user_id = ? ORDER BY id", (user_id,))
    return [Pusher._make(row) for row in rows]


def exists(execute: Execute, id: int) -> bool:
    """Whether this pusher is still there."""
    return execute("SELECT 1 FROM pushers WHERE id = ?", (id,)).fetchone() is not None


def put(tx: Transaction, user_id: str, device_id: str, description: Description, now: int) -> None:
    """Make a person's pusher for this app and pushkey, or change it."""
    tx.execute(
        f"INSERT INTO pushers (user_id, device_id, {_DESCRIPTION}, pushkey_ts) VALUES (?,?,?,?,?,?,?,?,?,?) "
        "ON CONFLICT (app_id, pushkey, user_id) DO UPDATE SET device_id = excluded.device_id, "
        "app_display_name = excluded.app_display_name, device_display_name = excluded.device_display_name, "
        "profile_tag = excluded.profile_tag, lang = excluded.lang, data = excluded.data, "
        "pushkey_ts = excluded.pushkey_ts",
        (user_id, device_id, *description, now),
    )


def delete(tx: Transaction, user_id: str, app_id: str, pushkey: str) -> None:
    """Delete a person's pusher."""
    tx.execute("DELETE FROM pushers WHERE app_id = ? AND pushkey = ? AND user_id = ?", (app_id, pushkey, user_id))


def delete_of_others(tx: Transaction, user_id: str, app_id: str, pushkey: str) -> list[str]:
    """Delete the pushers of everybody else for this app and pushkey; whose these were."""
    rows = tx.execute(
        "DELETE FROM pushers WHERE app_id = ? AND pushkey = ? AND user_id != ? RETURNING user_id",
        (app_id, pushkey, user_id),
    )
    return [row[0] for row in rows.fetchall()]


def set_resume_after(tx: Transaction, id: int, pos: int | None) -> None:
    """Note after which position a pusher's notifications wait."""
    tx.execute("UPDATE pushers SET resume_after = ? WHERE id = ?", (pos, id))


def position(execute: Execute) -> int | None:
    """Up to where all events were looked at."""
    row = execute("SELECT value FROM meta WHERE key = ?", (_POSITION,)).fetchone()
    return None if row is None else int(row[0])


def set_position(tx: Transaction, pos: int) -> None:
    """All events up to `pos` were looked at."""
    tx.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (_POSITION, str(pos)))
