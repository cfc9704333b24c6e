"""Device keys, one-time keys and fallback keys (tables of db/schema/40_keys.sql), and the log of device changes."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from heichat_appliance.db.engine import FOREVER, Transaction
from heichat_appliance.store.events import Execute

#: How many claimed one-time keys of a device and algorithm are remembered, against uploads that are repeated.
REMEMBERED_CLAIMS = 500


def note_device_change(tx: Transaction, user_id: str) -> None:
    """A device or key of this person came, went or changed: everybody who shares an encrypted room with them must
    fetch their keys again. Wakes them and the person."""
    tx.execute("INSERT INTO device_list_changes (pos, user_id) VALUES (?, ?)", (tx.next_position(), user_id))
    tx.users.add(user_id)
    rows = tx.execute(
        "SELECT room_id FROM memberships WHERE user_id = ? AND membership IN ('join', 'invite') AND to_pos = ? AND EXISTS ("
        "SELECT 1 FROM room_state WHERE room_state.room_id = memberships.room_id AND type = 'm.room.encryption' "
        "AND state_key = '')",
        (user_id, FOREVER),
    )
    tx.rooms.update(row[0] for row in rows)


def note_signed_person(tx: Transaction, user_id: str, signer: str) -> None:
    """`signer` signed the master key of `user_id`, which only the signer's own devices may learn. Wakes them."""
    tx.execute(
        "INSERT INTO device_list_changes (pos, user_id, seen_by) VALUES (?, ?, ?)",
        (tx.next_position(), user_id, signer),
    )
    tx.users.add(signer)


# -- device keys -------------------------------------------------------------------------------------------------


def device_keys(execute: Execute, user_id: str, device_id: str) -> str | None:
    """The identity keys of a device (canonical JSON without signatures), None if it has none."""
    row = execute("SELECT keys FROM device_keys WHERE user_id = ? AND device_id = ?", (user_id, device_id)).fetchone()
    return row[0] if row else None


def put_device_keys(tx: Transaction, user_id: str, device_id: str, keys: str) -> None:
    """Store the identity keys of a device."""
    tx.execute(
        "INSERT INTO device_keys (user_id, device_id, keys) VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET keys = excluded.keys",
        (user_id, device_id, keys),
    )


def device_keys_of_people(execute: Execute, user_ids: Iterable[str]) -> list[tuple[str, str, str | None, str]]:
    """(user ID, device ID, display name, keys) of all devices of these people that have keys."""
    return execute(
        "SELECT k.user_id, k.device_id, d.display_name, k.keys FROM json_each(?) AS asked "
        "CROSS JOIN device_keys AS k ON k.user_id = asked.value "
        "CROSS JOIN devices AS d ON d.user_id = k.user_id AND d.device_id = k.device_id",
        (_list(user_ids),),
    ).fetchall()


def people_with_devices(execute: Execute, user_ids: Iterable[str]) -> set[str]:
    """Those of these people that have a device with keys."""
    rows = execute(
        "SELECT asked.value FROM json_each(?) AS asked WHERE EXISTS ("
        "SELECT 1 FROM device_keys WHERE user_id = asked.value)",
        (_list(user_ids),),
    )
    return {row[0] for row in rows}


def known_people(execute: Execute, user_ids: Iterable[str]) -> set[str]:
    """Those of these user IDs that have an account."""
    rows = execute(
        "SELECT user_id FROM json_each(?) AS asked CROSS JOIN accounts ON user_id = asked.value", (_list(user_ids),)
    )
    return {row[0] for row in rows}


def device_exists(execute: Execute, user_id: str, device_id: str) -> bool:
    """Whether the person has this device."""
    row = execute("SELECT 1 FROM devices WHERE user_id = ? AND device_id = ?", (user_id, device_id)).fetchone()
    return row is not None


# -- one-time and fallback keys ----------------------------------------------------------------------------------


def counts(execute: Execute, user_id: str, device_id: str) -> tuple[dict[str, int], list[str]]:
    """For sync: (unclaimed one-time keys by algorithm, algorithms whose fallback key is there and unused).

    `signed_curve25519` is always among the first, with 0 if there are none: some clients upload only when they see it.
    """
    found = {"signed_curve25519": 0}
    rows = execute(
        "SELECT algorithm, count(*) FROM one_time_keys WHERE user_id = ? AND device_id = ? AND claimed = 0 "
        "GROUP BY algorithm",
        (user_id, device_id),
    )
    found.update(rows.fetchall())
    unused = execute(
        "SELECT algorithm FROM fallback_keys WHERE user_id = ? AND device_id = ? AND used = 0", (user_id, device_id)
    )
    return found, [row[0] for row in unused]


def number_of_algorithms(execute: Execute, user_id: str, device_id: str) -> int:
    """Of how many algorithms the device has one-time keys, claimed lately or not, or a fallback key."""
    row = execute(
        "SELECT count(*) FROM (SELECT algorithm FROM one_time_keys WHERE user_id = ?1 AND device_id = ?2 "
        "UNION SELECT algorithm FROM fallback_keys WHERE user_id = ?1 AND device_id = ?2)",
        (user_id, device_id),
    ).fetchone()
    return int(row[0])


def one_time_key(execute: Execute, user_id: str, device_id: str, algorithm: str, key_id: str) -> str | None:
    """The one-time key of this name, claimed lately or not."""
    row = execute(
        "SELECT key FROM one_time_keys WHERE user_id = ? AND device_id = ? AND algorithm = ? AND key_id = ?",
        (user_id, device_id, algorithm, key_id),
    ).fetchone()
    return row[0] if row else None


def add_one_time_key(tx: Transaction, user_id: str, device_id: str, algorithm: str, key_id: str, key: str) -> None:
    """Add a one-time key, to be handed out after all that are there."""
    tx.execute(
        "INSERT INTO one_time_keys (user_id, device_id, algorithm, key_id, key) VALUES (?, ?, ?, ?, ?)",
        (user_id, device_id, algorithm, key_id, key),
    )


def forget_old_claims(tx: Transaction, user_id: str, device_id: str, algorithm: str) -> None:
    """Forget claimed one-time keys beyond REMEMBERED_CLAIMS, oldest first."""
    tx.execute(
        "DELETE FROM one_time_keys WHERE user_id = ?1 AND device_id = ?2 AND claimed = 1 AND algorithm = ?3 AND id <= ("
        "SELECT id FROM one_time_keys WHERE user_id = ?1 AND device_id = ?2 AND claimed = 1 AND algorithm = ?3 "
        "ORDER BY id DESC LIMIT 1 OFFSET ?4)",
        (user_id, device_id, algorithm, REMEMBERED_CLAIMS),
    )


def claim(tx: Transaction, user_id: str, device_id: str, algorithm: str) -> tuple[str, str] | None:
    """Hand out a device's oldest one-time key, else its fallback key, as (key ID, key); None if there is neither."""
    row = tx.execute(
        "SELECT id, key_id, key FROM one_time_keys WHERE user_id = ? AND device_id = ? AND claimed = 0 "
        "AND algorithm = ? ORDER BY id LIMIT 1",
        (user_id, device_id, algorithm),
    ).fetchone()
    if row is not None:
        tx.execute("UPDATE one_time_keys SET claimed = 1 WHERE id = ?", (row[0],))
        return row[1], row[2]
    found: tuple[str, str] | None = tx.execute(
        "UPDATE fallback_keys SET used = 1 WHERE user_id = ? AND device_id = ? AND algorithm = ? RETURNING key_id, key",
        (user_id, device_id, algorithm),
    ).fetchone()
    return found


def put_fallback_key(tx: Transaction, user_id: str, device_id: str, algorithm: str, key_id: str, key: str) -> None:
    """Store a fallback key in place of the one before. The same key again stays used if it was."""
    tx.execute(
        "INSERT INTO fallback_keys (user_id, device_id, algorithm, key_id, key) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET key_id = excluded.key_id, key = excluded.key, used = 0 "
        "WHERE key_id != excluded.key_id OR key != excluded.key",
        (user_id, device_id, algorithm, key_id, key),
    )


def _list(values: Iterable[str]) -> str:
    return orjson.dumps(list(values)).decode()
