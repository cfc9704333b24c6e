"""Devices, and the tokens of their sessions. Tokens come and go as SHA-256 hashes only; times are ms since 1970."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from heichat_appliance.store.events import Execute


class Device(NamedTuple):
    """A row of `devices` without its owner."""

    device_id: str
    display_name: str | None
    created_ts: int
    last_seen_ts: int | None
    last_seen_ip: str | None


class AccessToken(NamedTuple):
    """Whose an access token is, and until when (None: until logout)."""

    user_id: str
    device_id: str
    expires_ts: int | None


class RefreshToken(NamedTuple):
    """Whose a refresh token is, and the hash of the access token that it was traded for."""

    user_id: str
    device_id: str
    successor: bytes | None


_COLUMNS = "device_id, display_name, created_ts, last_seen_ts, last_seen_ip"


def of_user(execute: Execute, user_id: str) -> list[Device]:
    """All devices of a person."""
    rows = execute(f"SELECT {_COLUMNS} FROM devices WHERE user_id = ? ORDER BY device_id", (user_id,))
    return [Device(*row) for row in rows]


def get(execute: Execute, user_id: str, device_id: str) -> Device | None:
    """One device of a person."""
    row = execute(
        f"SELECT {_COLUMNS} FROM devices WHERE user_id = ? AND device_id = ?", (user_id, device_id)
    ).fetchone()
    return Device(*row) if row else None


def add(execute: Execute, user_id: str, device_id: str, display_name: str | None, now: int) -> None:
    """Add a device that does not exist yet."""
    execute(
        "INSERT INTO devices (user_id, device_id, display_name, created_ts) VALUES (?, ?, ?, ?)",
        (user_id, device_id, display_name, now),
    )


def rename(execute: Execute, user_id: str, device_id: str, display_name: str) -> bool:
    """Set the display name; False if there is no such device."""
    cursor = execute(
        "UPDATE devices SET display_name = ? WHERE user_id = ? AND device_id = ?", (display_name, user_id, device_id)
    )
    return cursor.rowcount == 1


def seen(execute: Execute, user_id: str, device_id: str, ts: int, ip: str) -> None:
    """Note when and from where a device was last seen."""
    execute(
        "UPDATE devices SET last_seen_ts = ?, last_seen_ip = ? WHERE user_id = ? AND device_id = ?",
        (ts, ip, user_id, device_id),
    )


def longest_unseen(execute: Execute, user_id: str, keep: int) -> list[str]:
    """The devices of a person beyond the `keep` that were seen, or made, last. A dehydrated one is never seen: it stays."""
    rows = execute(
        "SELECT device_id FROM devices WHERE user_id = ? AND (user_id, device_id) NOT IN ("
        "SELECT user_id, device_id FROM dehydrated_devices) ORDER BY COALESCE(last_seen_ts, created_ts) DESC"
        " LIMIT -1 OFFSET ?",
        (user_id, keep),
    )
    return [row[0] for row in rows]


def delete(execute: Execute, user_id: str, device_id: str) -> bool:
    """Delete a device with its tokens, keys and to-device messages; True if it had device keys.

    Tokens and keys go with the device's row (foreign keys).
    """
    owner = (user_id, device_id)
    had_keys = execute("SELECT 1 FROM device_keys WHERE user_id = ? AND device_id = ?", owner).fetchone() is not None
    execute("DELETE FROM devices WHERE user_id = ? AND device_id = ?", owner)
    execute("DELETE FROM to_device WHERE user_id = ? AND device_id = ?", owner)
    execute("DELETE FROM to_device_txns WHERE user_id = ? AND device_id = ?", owner)
    execute("DELETE FROM key_signatures WHERE target_user = ? AND target_key = ?", owner)
    return had_keys


def has_keys(execute: Execute, user_id: str, device_id: str) -> bool:
    """Whether the device has uploaded its identity keys."""
    row = execute("SELECT 1 FROM device_keys WHERE user_id = ? AND device_id = ?", (user_id, device_id)).fetchone()
    return row is not None


def is_cross_signing_key(execute: Execute, user_id: str, device_id: str) -> bool:
    """Whether a device ID is the ID of one of the person's cross-signing keys, which are looked up in the same way."""
    row = execute("SELECT 1 FROM cross_signing_keys WHERE user_id = ? AND key_id = ?", (user_id, device_id)).fetchone()
    return row is not None


# -- tokens ------------------------------------------------------------------------------------------------------


def access_token(execute: Execute, digest: bytes) -> AccessToken | None:
    """The access token with this hash."""
    row = execute("SELECT user_id, device_id, expires_ts FROM access_tokens WHERE hash = ?", (digest,)).fetchone()
    return AccessToken(*row) if row else None


def refresh_token(execute: Execute, digest: bytes) -> RefreshToken | None:
    """The refresh token with this hash."""
    row = execute("SELECT user_id, device_id, successor FROM refresh_tokens WHERE hash = ?", (digest,)).fetchone()
    return RefreshToken(*row) if row else None


def access_hashes(execute: Execute, user_id: str, device_id: str) -> list[bytes]:
    """The hashes of a device's access tokens."""
    rows = execute("SELECT hash FROM access_tokens WHERE user_id = ? AND device_id = ?", (user_id, device_id))
    return [row[0] for row in rows]


def add_access_token(
    execute: Execute, digest: bytes, user_id: str, device_id: str, now: int, expires: int | None
) -> None:
    """Add an access token."""
    execute(
        "INSERT INTO access_tokens (hash, user_id, device_id, created_ts, expires_ts) VALUES (?, ?, ?, ?, ?)",
        (digest, user_id, device_id, now, expires),
    )


def add_refresh_token(execute: Execute, digest: bytes, user_id: str, device_id: str, now: int) -> None:
    """Add a refresh token."""
    execute(
        "INSERT INTO refresh_tokens (hash, user_id, device_id, created_ts) VALUES (?, ?, ?, ?)",
        (digest, user_id, device_id, now),
    )


def delete_access_tokens(execute: Execute, hashes: Iterable[bytes]) -> None:
    """Delete access tokens by their hashes."""
    for digest in hashes:
        execute("DELETE FROM access_tokens WHERE hash = ?", (digest,))


def delete_refresh_tokens(execute: Execute, user_id: str, device_id: str, *, keep: bytes = b"") -> None:
    """Delete a device's refresh tokens, all but the one with hash `keep`."""
    execute("DELETE FROM refresh_tokens WHERE user_id = ? AND device_id = ? AND hash != ?", (user_id, device_id, keep))


def newest_access_hash(execute: Execute, user_id: str, device_id: str) -> bytes | None:
    """The hash of the device's newest access token."""
    row = execute(
        "SELECT hash FROM access_tokens WHERE user_id = ? AND device_id = ? ORDER BY created_ts DESC LIMIT 1",
        (user_id, device_id),
    ).fetchone()
    return row[0] if row else None


def set_successor(execute: Execute, digest: bytes, successor: bytes) -> None:
    """Note the access token that a refresh token was traded for."""
    execute("UPDATE refresh_tokens SET successor = ? WHERE hash = ?", (successor, digest))


def awaits_first_use(execute: Execute, digest: bytes) -> bool:
    """Whether a refresh token still waits for this access token to be used."""
    return execute("SELECT 1 FROM refresh_tokens WHERE successor = ?", (digest,)).fetchone() is not None


def retire_predecessor(execute: Execute, digest: bytes) -> None:
    """Delete the refresh token that was traded for this access token, now that it is used."""
    execute("DELETE FROM refresh_tokens WHERE successor = ?", (digest,))
