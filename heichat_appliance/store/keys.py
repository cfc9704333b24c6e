"""Device keys, one-time keys, fallback keys, cross-signing keys and signatures (tables of db/schema/40_keys.sql)."""

from __future__ import annotations

from heichat_appliance.db.engine import FOREVER, Transaction
from heichat_appliance.store.events import Execute


def note_device_change(tx: Transaction, user_id: str) -> None:
    """A device or key of this person came, went or changed: everybody who shares an encrypted room with them must
    fetch their keys again. Wakes them and the person."""
    tx.execute("INSERT INTO device_list_changes (pos, user_id) VALUES (?, ?)", (tx.next_position(), user_id))
    tx.users.add(user_id)
    rows = tx.execute(
        "SELECT room_id FROM memberships WHERE user_id = ? AND membership = 'join' AND to_pos = ? AND EXISTS ("
        "SELECT 1 FROM room_state WHERE room_state.room_id = memberships.room_id AND type = 'm.room.encryption' "
        "AND state_key = '')",
        (user_id, FOREVER),
    )
    tx.rooms.update(row[0] for row in rows)


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
