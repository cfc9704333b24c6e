"""What must always hold in the database: for tests, and for the operator's verify.

The history of every room is verified as any other server could: hashes, signatures, the chain of events. Then the derived
tables are compared with the events. Reads only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
from nacl.signing import VerifyKey

from heichat_appliance.protocol import pdu
from heichat_appliance.protocol.roomversions import ROOM_VERSIONS, RoomVersion

Execute = Callable[..., sqlite3.Cursor]
FOREVER = 2**63 - 1
#: How many problems of one kind are told.
MAX_TOLD = 20


def check(execute: Execute, server_name: str, verify_keys: Mapping[str, str], position: int | None = None) -> list[str]:
    """Everything that is wrong, as sentences; an empty list if nothing is.

    `execute` is that of a read connection; `verify_keys` are the server's public keys (key ID to Base64, see
    protocol.pdu.Signer); `position`: the counter of a running daemon, None to compare with the stored ceiling.
    """
    found: list[str] = []
    for group in groups(execute, server_name, verify_keys, position):
        found += group
    return found


def groups(
    execute: Execute, server_name: str, verify_keys: Mapping[str, str], position: int | None = None
) -> Iterator[list[str]]:
    """What `check` finds, one kind of problems after another: for callers whose time is short."""
    keys = {key_id: VerifyKey(pdu.decode_base64(text)) for key_id, text in verify_keys.items()}
    for found in (
        _damage(execute),
        _positions(execute, position),
        _references(execute),
        _memberships(execute),
        _state(execute),
        _histories(execute, server_name, keys),
    ):
        yield [problem for problem, _ in zip(found, range(MAX_TOLD), strict=False)]


def _damage(execute: Execute) -> Iterator[str]:
    for row in execute("PRAGMA quick_check(5)").fetchall():
        if row[0] != "ok":
            yield f"SQLite finds damage: {row[0]}"
    for row in execute("PRAGMA foreign_key_check").fetchmany(5):
        yield f"a row of {row[0]} refers to one of {row[2]} that does not exist"


# -- events ------------------------------------------------------------------------------------------------------


def _histories(execute: Execute, server_name: str, keys: Mapping[str, VerifyKey]) -> Iterator[str]:
    for room_id, version_id, creator in execute("SELECT room_id, version, creator FROM rooms").fetchall():
        version = ROOM_VERSIONS.get(version_id)
        if version is None:
            yield f"room {room_id} has the unknown version {version_id}"
        else:
            yield from _history(execute, room_id, version, creator, server_name, keys)


def _history(
    execute: Execute, room_id: str, version: RoomVersion, creator: str, server_name: str, keys: Mapping[str, VerifyKey]
) -> Iterator[str]:
    """The chain of a room: each event is the only successor of the one before, and is what it claims to be."""
    before: str | None = None
    current: dict[tuple[str, str], str] = {}
    rows = execute(
        "SELECT event_id, depth, type, state_key, sender, ts, pdu, replaces, redacted_by FROM events "
        "WHERE room_id = ? ORDER BY pos",
        (room_id,),
    )
    for count, row in enumerate(rows, 1):
        event_id, depth, type, state_key, sender, ts, text, replaces, redacted_by = row
        name = f"event {event_id} of {room_id}"
        raw = orjson.loads(text)
        if depth != count or raw.get("prev_events") != ([before] if before else []):
            yield f"{name}: it does not follow upon the event before it"
        if count == 1 and (type != "m.room.create" or sender != creator):
            yield f"{name}: the first event is not the creator's m.room.create"
        if count == 1 and version.room_id_is_create_hash and room_id != f"!{event_id[1:]}":
            yield f"{name}: the room ID is not the hash of the create event"
        columns = {"depth": depth, "type": type, "state_key": state_key, "sender": sender, "origin_server_ts": ts}
        if any(raw.get(key) != value for key, value in columns.items()) or raw.get("room_id", room_id) != room_id:
            yield f"{name}: a column differs from the event"
        if state_key is not None:
            if replaces != current.get((type, state_key)):
                yield f"{name}: replaces names another event than the state before"
            current[type, state_key] = event_id
        for problem in _verified(version, raw, keys, server_name, event_id, redacted_by is not None):
            yield f"{name}: {problem}"
        before = event_id


def _verified(
    version: RoomVersion,
    raw: dict[str, Any],
    keys: Mapping[str, VerifyKey],
    server_name: str,
    event_id: str,
    redacted: bool,
) -> list[str]:
    signatures = raw.get("signatures", {}).get(server_name, {})
    known = [key_id for key_id in signatures if key_id in keys]
    if not known:
        return [f"it has no signature by a known key of {server_name}"]
    return pdu.verify(
        version, raw, keys[known[0]], server_name=server_name, key_id=known[0], event_id=event_id, redacted=redacted
    )


# -- what is derived from events ---------------------------------------------------------------------------------


def _intervals(execute: Execute, table: str, key: str) -> Iterator[str]:
    """The intervals of a key follow upon each other without gap or overlap, and the last one has not ended."""
    rows = execute(
        f"SELECT {key}, from_pos, to_pos, lead(from_pos) OVER (PARTITION BY {key} ORDER BY from_pos) FROM {table}"
    )
    for *name, start, end, following in rows:
        if end != (FOREVER if following is None else following):
            yield f"{table} {name}: the interval from {start} to {end} does not end where the next one begins"


def _state(execute: Execute) -> Iterator[str]:
    yield from _intervals(execute, "room_state", "room_id, type, state_key")
    yield from (
        f"state event at {row[0]} has no interval in room_state, or one of another room, type or state key"
        for row in execute(
            "SELECT pos FROM events WHERE state_key IS NOT NULL AND NOT EXISTS (SELECT 1 FROM room_state AS s "
            "WHERE s.room_id = events.room_id AND s.type = events.type AND s.state_key = events.state_key "
            "AND s.from_pos = events.pos)"
        )
    )
    states, intervals = execute(
        "SELECT (SELECT count(*) FROM events WHERE state_key IS NOT NULL), (SELECT count(*) FROM room_state)"
    ).fetchone()
    if states != intervals:
        yield f"there are {states} state events and {intervals} intervals of state"


def _memberships(execute: Execute) -> Iterator[str]:
    yield from _intervals(execute, "memberships", "user_id, room_id")
    yield from (
        f"the membership of {row[0]} in {row[1]} from {row[2]} differs from the state of the room"
        for row in execute(
            "SELECT user_id, room_id, from_pos FROM memberships AS m WHERE NOT EXISTS (SELECT 1 FROM room_state AS s "
            "JOIN events ON events.pos = s.from_pos WHERE s.room_id = m.room_id AND s.type = 'm.room.member' "
            "AND s.state_key = m.user_id AND s.from_pos = m.from_pos AND s.to_pos = m.to_pos "
            "AND json_extract(events.pdu, '$.content.membership') = m.membership AND events.sender = m.sender)"
        )
    )
    members, memberships = execute(
        "SELECT (SELECT count(*) FROM room_state WHERE type = 'm.room.member'), (SELECT count(*) FROM memberships)"
    ).fetchone()
    if members != memberships:
        yield f"there are {members} intervals of m.room.member and {memberships} of memberships"
    yield from (
        f"{row[0]} has forgotten {row[1]}, but is not out of it"
        for row in execute(
            "SELECT f.user_id, f.room_id FROM forgotten_rooms AS f LEFT JOIN memberships AS m ON m.user_id = f.user_id "
            "AND m.room_id = f.room_id AND m.to_pos = 9223372036854775807 "
            "WHERE coalesce(m.membership, '') NOT IN ('leave', 'ban')"
        )
    )


#: (sentence with the first column of the rows, query for the rows that are wrong)
_REFERENCES = (
    (
        "the relation of the event at {} does not fit its events",
        "SELECT r.pos FROM relations AS r LEFT JOIN events AS child ON child.pos = r.pos "
        "LEFT JOIN events AS parent ON parent.event_id = r.parent_id WHERE child.room_id IS NOT r.room_id "
        "OR child.sender IS NOT r.sender OR child.type IS NOT r.type OR child.redacted_by IS NOT NULL "
        "OR parent.room_id IS NOT r.room_id OR parent.pos >= r.pos",
    ),
    (
        "the redaction {} is not in the room, or not after the event, that it redacted",
        "SELECT e.redacted_by FROM events AS e LEFT JOIN events AS r ON r.event_id = e.redacted_by "
        "WHERE e.redacted_by IS NOT NULL AND (r.room_id IS NOT e.room_id OR r.type IS NOT 'm.room.redaction' "
        "OR r.pos <= e.pos)",
    ),
    (
        "a receipt for {} points to no event of its room",
        "SELECT r.event_id FROM receipts AS r LEFT JOIN events AS e ON e.event_id = r.event_id "
        "WHERE e.room_id IS NOT r.room_id OR e.pos IS NOT r.event_pos",
    ),
    (
        "room {} has no m.room.create",
        "SELECT room_id FROM rooms WHERE NOT EXISTS (SELECT 1 FROM room_state WHERE room_state.room_id = rooms.room_id "
        "AND type = 'm.room.create' AND state_key = '' AND to_pos = 9223372036854775807)",
    ),
    (
        "what the files of {} take of the quota is not the sum of them",
        "SELECT user_id FROM (SELECT user_id, max(size, 4096) AS taken FROM media WHERE size IS NOT NULL "
        "UNION ALL SELECT user_id, -bytes FROM media_usage) GROUP BY user_id HAVING sum(taken) != 0",
    ),
    (
        "the alias {} belongs to no room",
        "SELECT alias FROM room_aliases WHERE room_id NOT IN (SELECT room_id FROM rooms)",
    ),
)


def _references(execute: Execute) -> Iterator[str]:
    for sentence, query in _REFERENCES:
        yield from (sentence.format(row[0]) for row in execute(query))


# -- positions ---------------------------------------------------------------------------------------------------


def _positions(execute: Execute, position: int | None) -> Iterator[str]:
    """Nothing has a position that the counter has not handed out."""
    if position is None:
        position = int(execute("SELECT value FROM meta WHERE key = 'position_ceiling'").fetchone()[0])
    for (table,) in execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).fetchall():
        columns = {row[1] for row in execute(f"SELECT * FROM pragma_table_info('{table}')")}
        if "pos" in columns:
            highest = execute(f"SELECT max(pos) FROM {table}").fetchone()[0]
            if highest is not None and highest > position:
                yield f"table {table} has position {highest}, beyond {position}"
