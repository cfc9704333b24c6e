"""Cross-signing keys, and the signatures on device keys and cross-signing keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import orjson

from heichat_appliance.db.engine import Transaction
from heichat_appliance.store.events import Execute


class CrossSigningKey(NamedTuple):
    """`usage`: master, self_signing or user_signing; `key_id`: public key in unpadded base64; `key`: canonical JSON
    without signatures."""

    usage: str
    key_id: str
    key: str


def keys_of(execute: Execute, user_id: str) -> dict[str, CrossSigningKey]:
    """A person's cross-signing keys by usage."""
    rows = execute("SELECT usage, key_id, key FROM cross_signing_keys WHERE user_id = ?", (user_id,))
    return {row[0]: CrossSigningKey._make(row) for row in rows}


def keys_of_people(execute: Execute, user_ids: Iterable[str]) -> list[tuple[str, CrossSigningKey]]:
    """(user ID, key) of all cross-signing keys of these people."""
    rows = execute(
        "SELECT k.user_id, k.usage, k.key_id, k.key FROM json_each(?) AS asked "
        "CROSS JOIN cross_signing_keys AS k ON k.user_id = asked.value",
        (orjson.dumps(list(user_ids)).decode(),),
    )
    return [(row[0], CrossSigningKey._make(row[1:])) for row in rows]


def put_key(tx: Transaction, user_id: str, new: CrossSigningKey) -> None:
    """Store a cross-signing key in place of the one of the same usage."""
    delete_key(tx, user_id, new.usage)
    tx.execute(
        "INSERT INTO cross_signing_keys (user_id, usage, key_id, key) VALUES (?, ?, ?, ?)",
        (user_id, *new),
    )


def delete_key(tx: Transaction, user_id: str, usage: str) -> None:
    """Delete a cross-signing key with the signatures on it and by it, if there is one."""
    row = tx.execute(
        "DELETE FROM cross_signing_keys WHERE user_id = ? AND usage = ? RETURNING key_id", (user_id, usage)
    ).fetchone()
    if row is not None:
        tx.execute("DELETE FROM key_signatures WHERE target_user = ? AND target_key = ?", (user_id, row[0]))
        tx.execute("DELETE FROM key_signatures WHERE signer = ? AND signer_key = ?", (user_id, f"ed25519:{row[0]}"))


# -- signatures --------------------------------------------------------------------------------------------------


def add_signature(
    tx: Transaction, target_user: str, target_key: str, signer: str, signer_key: str, signature: str
) -> bool:
    """Store a verified signature; False if it was there already."""
    cursor = tx.execute(
        "INSERT INTO key_signatures (target_user, target_key, signer, signer_key, signature) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET signature = excluded.signature WHERE signature != excluded.signature",
        (target_user, target_key, signer, signer_key, signature),
    )
    return cursor.rowcount > 0


def delete_signatures_on(tx: Transaction, target_user: str, target_key: str) -> None:
    """Delete all signatures on a key object, since it changes."""
    tx.execute("DELETE FROM key_signatures WHERE target_user = ? AND target_key = ?", (target_user, target_key))


def signatures_visible_to(
    execute: Execute, reader: str, user_ids: Iterable[str]
) -> dict[tuple[str, str], dict[str, dict[str, str]]]:
    """The signatures on keys of these people that `reader` may see: those by the owner and by the reader.

    By (owner, device ID or public key), in the form of a key object's `signatures`. Source: spec, "Key and signature
    security".
    """
    rows = execute(
        "SELECT target_user, target_key, signer, signer_key, signature FROM json_each(?) AS asked "
        "CROSS JOIN key_signatures ON target_user = asked.value WHERE signer IN (target_user, ?)",
        (orjson.dumps(list(user_ids)).decode(), reader),
    )
    found: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for target_user, target_key, signer, signer_key, signature in rows:
        found.setdefault((target_user, target_key), {}).setdefault(signer, {})[signer_key] = signature
    return found
