"""Backups of room keys: their versions and the sessions in them."""

from __future__ import annotations

from typing import NamedTuple

from heichat_appliance.db.engine import Transaction
from heichat_appliance.store.events import Execute


class Backup(NamedTuple):
    """A version of a person's backup; `auth_data` is JSON, `count` the number of sessions in it."""

    version: int
    algorithm: str
    auth_data: str
    etag: int
    count: int
    deleted: int


class StoredSession(NamedTuple):
    """A backed-up session; `session_data` is JSON."""

    room_id: str
    session_id: str
    first_message_index: int
    forwarded_count: int
    is_verified: bool
    session_data: str


_BACKUP = "version, algorithm, auth_data, etag, count, deleted"
_SESSION = "room_id, session_id, first_message_index, forwarded_count, is_verified, session_data"


# -- versions ----------------------------------------------------------------------------------------------------


def get(execute: Execute, user_id: str, version: int) -> Backup | None:
    """A version of a person's backup, deleted or not."""
    row = execute(f"SELECT {_BACKUP} FROM key_backups WHERE user_id = ? AND version = ?", (user_id, version)).fetchone()
    return Backup._make(row) if row else None


def current(execute: Execute, user_id: str) -> Backup | None:
    """The newest version that is not deleted."""
    row = execute(
        f"SELECT {_BACKUP} FROM key_backups WHERE user_id = ? AND deleted = 0 ORDER BY version DESC LIMIT 1", (user_id,)
    ).fetchone()
    return Backup._make(row) if row else None


def number_of_versions(execute: Execute, user_id: str) -> int:
    """How many versions of a person's backup are not deleted."""
    row = execute("SELECT count(*) FROM key_backups WHERE user_id = ? AND deleted = 0", (user_id,)).fetchone()
    return int(row[0])


def create(tx: Transaction, user_id: str, algorithm: str, auth_data: str) -> int:
    """Begin a new version; returns its number, which no deleted one had."""
    row = tx.execute(
        "INSERT INTO key_backups (user_id, version, algorithm, auth_data) "
        "SELECT ?1, COALESCE(max(version), 0) + 1, ?2, ?3 FROM key_backups WHERE user_id = ?1 RETURNING version",
        (user_id, algorithm, auth_data),
    ).fetchone()
    return int(row[0])


def put_auth_data(tx: Transaction, user_id: str, version: int, auth_data: str) -> None:
    """Replace the auth_data of a version."""
    tx.execute("UPDATE key_backups SET auth_data = ? WHERE user_id = ? AND version = ?", (auth_data, user_id, version))


def mark_deleted(tx: Transaction, user_id: str, version: int) -> None:
    """From now on the version is deleted; `delete_some` takes its sessions away."""
    tx.execute(
        "UPDATE key_backups SET deleted = 1, auth_data = '{}' WHERE user_id = ? AND version = ?", (user_id, version)
    )


def note_change(tx: Transaction, user_id: str, version: int, added: int) -> None:
    """Sessions of a version changed, and there are `added` more of them (or fewer)."""
    tx.execute(
        "UPDATE key_backups SET etag = etag + 1, count = count + ? WHERE user_id = ? AND version = ?",
        (added, user_id, version),
    )


# -- sessions ----------------------------------------------------------------------------------------------------


def session(execute: Execute, user_id: str, version: int, room_id: str, session_id: str) -> StoredSession | None:
    """One session of a version."""
    row = execute(
        f"SELECT {_SESSION} FROM key_backup_sessions WHERE user_id = ? AND version = ? AND room_id = ? "
        "AND session_id = ?",
        (user_id, version, room_id, session_id),
    ).fetchone()
    return StoredSession._make(row) if row else None


def sessions(execute: Execute, user_id: str, version: int, room_id: str | None) -> list[StoredSession]:
    """All sessions of a version, or those of one room."""
    rows = execute(
        f"SELECT {_SESSION} FROM key_backup_sessions WHERE user_id = ?1 AND version = ?2 "
        + ("" if room_id is None else "AND room_id = ?3"),
        (user_id, version) if room_id is None else (user_id, version, room_id),
    )
    return [StoredSession._make(row) for row in rows]


def rank(
    execute: Execute, user_id: str, version: int, room_id: str, session_id: str
) -> tuple[int, tuple[bool, int, int]] | None:
    """(row, (is_verified, first_message_index, forwarded_count)) of a session, which decide whether it is replaced."""
    row = execute(
        "SELECT rowid, is_verified, first_message_index, forwarded_count FROM key_backup_sessions "
        "WHERE user_id = ? AND version = ? AND room_id = ? AND session_id = ?",
        (user_id, version, room_id, session_id),
    ).fetchone()
    return (row[0], (bool(row[1]), row[2], row[3])) if row else None


def add_session(tx: Transaction, user_id: str, version: int, new: StoredSession) -> None:
    """Add a session."""
    tx.execute(
        f"INSERT INTO key_backup_sessions (user_id, version, {_SESSION}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (user_id, version, *new),
    )


def replace_session(tx: Transaction, row: int, new: StoredSession) -> None:
    """Put a session in the place of the one in `row`."""
    tx.execute(
        "UPDATE key_backup_sessions SET first_message_index = ?, forwarded_count = ?, is_verified = ?, "
        "session_data = ? WHERE rowid = ?",
        (*new[2:], row),
    )


def delete_some(
    tx: Transaction, user_id: str, version: int, room_id: str | None, session_id: str | None, limit: int
) -> int:
    """Delete at most `limit` sessions of a version (of a room; one session); returns how many."""
    return tx.execute(
        "DELETE FROM key_backup_sessions WHERE rowid IN (SELECT rowid FROM key_backup_sessions WHERE user_id = ?1 "
        "AND version = ?2"
        + (" AND room_id = ?3" if room_id is not None else "")
        + (" AND session_id = ?4" if session_id is not None else "")
        + " LIMIT ?5)",
        (user_id, version, room_id, session_id, limit),
    ).rowcount


def left_overs(execute: Execute) -> list[tuple[str, int]]:
    """(user ID, version) of deleted backups that still have sessions, because the server stopped while deleting."""
    return execute(
        "SELECT user_id, version FROM key_backups AS b WHERE deleted = 1 AND EXISTS ("
        "SELECT 1 FROM key_backup_sessions AS s WHERE s.user_id = b.user_id AND s.version = b.version)"
    ).fetchall()
