"""Uploaded files: what is known of them, and how much of their quota people have used. Times are ms since 1970."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from heichat_appliance.db.engine import Transaction
from heichat_appliance.store.events import Execute

#: What the smallest file takes of the quota, as on a disk: so the quota bounds the number of files too.
SMALLEST = 4096


class Medium(NamedTuple):
    """A row of `media`: announced (`expires_ts` is set, the last four are None) or uploaded."""

    media_id: str
    user_id: str
    created_ts: int
    expires_ts: int | None
    sha256: str | None
    size: int | None
    content_type: str | None
    file_name: str | None


class Content(NamedTuple):
    """What was uploaded: `sha256` in hex, `size` in bytes."""

    sha256: str
    size: int
    content_type: str
    file_name: str | None


_COLUMNS = "media_id, user_id, created_ts, expires_ts, sha256, size, content_type, file_name"


def get(execute: Execute, media_id: str) -> Medium | None:
    """The medium with this ID."""
    row = execute(f"SELECT {_COLUMNS} FROM media WHERE media_id = ?", (media_id,)).fetchone()
    return Medium._make(row) if row else None


def announce(tx: Transaction, media_id: str, user_id: str, now: int, expires: int) -> None:
    """Note an upload that shall come until `expires`."""
    tx.execute(
        "INSERT INTO media (media_id, user_id, created_ts, expires_ts) VALUES (?, ?, ?, ?)",
        (media_id, user_id, now, expires),
    )


def announced(execute: Execute, user_id: str) -> list[int]:
    """When a person's announced uploads expire, the first to expire first."""
    rows = execute("SELECT expires_ts FROM media WHERE sha256 IS NULL AND user_id = ? ORDER BY expires_ts", (user_id,))
    return [row[0] for row in rows]


def delete_expired(tx: Transaction, user_id: str, now: int) -> None:
    """Forget a person's announced uploads that did not come in time."""
    tx.execute("DELETE FROM media WHERE sha256 IS NULL AND user_id = ? AND expires_ts <= ?", (user_id, now))


def put(tx: Transaction, media_id: str, user_id: str, now: int, content: Content) -> None:
    """Store a medium, which may have been announced, and count it."""
    tx.execute(
        f"INSERT INTO media ({_COLUMNS}) VALUES (?, ?, ?, NULL, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "expires_ts = NULL, sha256 = excluded.sha256, size = excluded.size, content_type = excluded.content_type, "
        "file_name = excluded.file_name",
        (media_id, user_id, now, *content),
    )
    tx.execute(
        "INSERT INTO media_usage (user_id, bytes) VALUES (?, ?) ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes",
        (user_id, counted(content.size)),
    )


def counted(size: int) -> int:
    """What a file of `size` bytes takes of the quota."""
    return max(size, SMALLEST)


def used(execute: Execute, user_id: str) -> int:
    """What a person's uploads take of their quota, in bytes."""
    row = execute("SELECT bytes FROM media_usage WHERE user_id = ?", (user_id,)).fetchone()
    return row[0] if row else 0


def is_referenced(execute: Execute, sha256: str) -> bool:
    """Whether a medium has this content."""
    return execute("SELECT 1 FROM media WHERE sha256 = ?", (sha256,)).fetchone() is not None


# -- for the operator --------------------------------------------------------------------------------------------


def of_content(execute: Execute, sha256: str) -> list[Medium]:
    """All media with this content."""
    return [Medium._make(row) for row in execute(f"SELECT {_COLUMNS} FROM media WHERE sha256 = ?", (sha256,))]


def newest(execute: Execute, user_id: str | None, limit: int) -> list[Medium]:
    """The last `limit` uploads, of one person or of all, the newest first."""
    rows = execute(
        f"SELECT {_COLUMNS} FROM media WHERE sha256 IS NOT NULL AND (?1 IS NULL OR user_id = ?1) "
        "ORDER BY created_ts DESC, media_id LIMIT ?2",
        (user_id, limit),
    )
    return [Medium._make(row) for row in rows]


def contents(execute: Execute) -> Iterator[tuple[str, int]]:
    """(sha256, size) of everything that lies in the folder of media."""
    yield from execute("SELECT sha256, max(size) FROM media WHERE sha256 IS NOT NULL GROUP BY sha256 ORDER BY sha256")


def remove(execute: Execute, medium: Medium) -> None:
    """Forget a medium and give its owner the quota back."""
    execute("DELETE FROM media WHERE media_id = ?", (medium.media_id,))
    if medium.size is not None:
        execute("UPDATE media_usage SET bytes = bytes - ? WHERE user_id = ?", (counted(medium.size), medium.user_id))
