"""The invariant checker finds what it is for: each kind of damage, made by hand."""

from __future__ import annotations

import pytest_twisted

from heichat_appliance.db import invariants
from heichat_appliance.db.engine import connect
from tests.appliance import SERVER_NAME, Appliance, q

NOW = "to_pos = 9223372036854775807"
MESSAGE = "type = 'm.room.message' AND redacted_by IS NULL"

DAMAGE = [
    ("UPDATE events SET pdu = replace(pdu, 'one', 'two') WHERE pdu LIKE '%one%'", "content hash"),
    (
        "UPDATE events SET pdu = replace(pdu, '\"sender\":\"@alice', '\"sender\":\"@bob') WHERE pdu LIKE '%one%'",
        "signature",
    ),
    ("UPDATE events SET pdu = json_remove(pdu, '$.signatures') WHERE depth = 3", "no signature"),
    ("UPDATE events SET event_id = '$' || substr(event_id, 2, 42) || 'x' WHERE depth = 4", "event ID should be"),
    ("UPDATE events SET depth = depth + 1 WHERE depth = 5", "does not follow"),
    (f"UPDATE events SET sender = '@bob:chat.test' WHERE {MESSAGE} AND depth > 3", "column differs"),
    (f"UPDATE events SET ts = ts + 1 WHERE {MESSAGE}", "column differs"),
    (f"DELETE FROM relations; DELETE FROM events WHERE {MESSAGE}", "does not follow"),
    ("UPDATE events SET replaces = NULL WHERE replaces IS NOT NULL", "replaces"),
    ("UPDATE rooms SET creator = '@bob:chat.test'", "creator's m.room.create"),
    ("UPDATE rooms SET version = '99'", "unknown version"),
    (f"UPDATE room_state SET to_pos = to_pos - 1 WHERE NOT {NOW}", "does not end where"),
    (f"UPDATE room_state SET to_pos = 10 WHERE {NOW}", "does not end where"),
    ("DELETE FROM room_state WHERE type = 'm.room.name'", "has no interval"),
    ("UPDATE room_state SET state_key = 'x' WHERE type = 'm.room.topic'", "has no interval"),
    ("UPDATE memberships SET membership = 'ban' WHERE membership = 'invite'", "differs from the state"),
    ("DELETE FROM memberships WHERE user_id = '@bob:chat.test'", "of memberships"),
    (f"UPDATE memberships SET to_pos = to_pos - 1 WHERE NOT {NOW}", "does not end where"),
    ("INSERT INTO forgotten_rooms SELECT user_id, room_id FROM memberships WHERE membership = 'join'", "has forgotten"),
    ("UPDATE relations SET parent_id = '$unknown'", "does not fit"),
    ("UPDATE relations SET sender = '@bob:chat.test'", "does not fit"),
    ("UPDATE events SET redacted_by = '$unknown' WHERE redacted_by IS NOT NULL", "the redaction $unknown"),
    ("UPDATE receipts SET event_id = '$unknown'", "a receipt for $unknown"),
    ("UPDATE receipts SET event_pos = event_pos + 1", "a receipt for"),
    ("UPDATE room_aliases SET room_id = '!unknown:x'", "room_aliases"),
    ("UPDATE meta SET value = '1' WHERE key = 'position_ceiling'", "beyond 1"),
]


async def fill(server: Appliance) -> None:
    """A room with some of everything."""
    alice, bob = await server.login("alice"), await server.login("bob")
    for version in ("10", "11", "12"):
        room_id = await alice.create_room(
            room_version=version, name="x", topic="t", room_alias_name=f"a{version}", invite=[bob.user_id]
        )
        await bob.join(room_id)
        await alice.set_state(room_id, "m.room.name", {"name": "y"})
        first = await alice.send(room_id, "one")
        await alice.send(room_id, {"body": "re", "m.relates_to": {"rel_type": "m.thread", "event_id": first}})
        gone = await bob.send(room_id, "gone")
        alice.ok(await alice.put(f"/rooms/{q(room_id)}/redact/{q(gone)}/r{version}", {}))
        bob.ok(await bob.post(f"/rooms/{q(room_id)}/receipt/m.read/{q(first)}", {}))


@pytest_twisted.ensureDeferred
async def test_a_whole_database_is_found_whole_and_damage_is_found(tmp_path):
    server = await Appliance.start(tmp_path, plugins=("demo_directory", "closed_rooms"))
    await fill(server)
    await server.stop()
    keys = server.daemon.signer.verify_keys
    for statements, sentence in DAMAGE:
        copy = connect(server.daemon.database_path)
        copy.execute("PRAGMA foreign_keys = OFF")
        copy.execute("BEGIN")
        try:
            for statement in statements.split("; "):
                assert copy.execute(statement).rowcount > 0, statement
            problems = invariants.check(copy.execute, SERVER_NAME, keys)
            assert any(sentence in problem for problem in problems), (statements, problems)
        finally:
            copy.execute("ROLLBACK")
            copy.close()
    assert server.problems() == []


@pytest_twisted.ensureDeferred
async def test_a_foreign_key_is_no_witness(tmp_path):
    server = await Appliance.start(tmp_path)
    await fill(server)
    other = await Appliance.start(tmp_path / "other")
    connection = connect(server.daemon.database_path, read_only=True)
    wrong = next(iter(other.daemon.signer.verify_keys.values()))
    key_id = next(iter(server.daemon.signer.verify_keys))
    problems = invariants.check(connection.execute, SERVER_NAME, {key_id: wrong})
    assert problems and all("is wrong" in problem for problem in problems)
    connection.close()
    await server.stop()
    await other.stop()
