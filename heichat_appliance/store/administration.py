"""What the operator sees and does: lists of people, rooms and files, frozen rooms. Times are ms since 1970."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from heichat_appliance.db.engine import Transaction
from heichat_appliance.store.events import Execute

_NOW = "to_pos = 9223372036854775807"
_STATE = (
    "(SELECT json_extract(pdu, '$.content.{key}') FROM room_state JOIN events ON pos = from_pos "
    "WHERE room_state.room_id = rooms.room_id AND room_state.type = '{type}' AND room_state.state_key = '' "
    "AND to_pos = 9223372036854775807)"
)


# -- people ------------------------------------------------------------------------------------------------------


class PersonRow(NamedTuple):
    """An account with what a list shows of it. `media`: bytes of the quota that their files take."""

    user_id: str
    uni_id: str
    display_name: str | None
    mail: str | None
    created_ts: int
    locked: bool
    suspended: bool
    devices: int
    last_seen_ts: int | None
    consent: str | None
    rooms: int
    media: int


_PERSON = (
    "SELECT user_id, uni_id, (SELECT display_name FROM people WHERE people.user_id = accounts.user_id), mail, created_ts, "
    "locked, suspended, (SELECT count(*) FROM devices WHERE devices.user_id = accounts.user_id), "
    "(SELECT max(last_seen_ts) FROM devices WHERE devices.user_id = accounts.user_id) AS seen, "
    "(SELECT version FROM consents WHERE consents.user_id = accounts.user_id ORDER BY ts DESC LIMIT 1), "
    f"(SELECT count(*) FROM memberships AS m WHERE m.user_id = accounts.user_id AND membership = 'join' AND {_NOW}), "
    "coalesce((SELECT bytes FROM media_usage WHERE media_usage.user_id = accounts.user_id), 0) FROM accounts "
)


def _person(row: tuple[object, ...]) -> PersonRow:
    return PersonRow(*row[:5], bool(row[5]), bool(row[6]), *row[7:])  # type: ignore[arg-type]


def people(execute: Execute, *, locked: bool = False, suspended: bool = False) -> Iterator[PersonRow]:
    """All accounts in order of their Uni-IDs; `locked` and `suspended` ask for those alone."""
    where = "WHERE (NOT ?1 OR locked) AND (NOT ?2 OR suspended) ORDER BY uni_id"
    yield from (_person(row) for row in execute(_PERSON + where, (locked, suspended)))


def person(execute: Execute, name: str) -> PersonRow | None:
    """The account with this user ID or Uni-ID."""
    row = execute(_PERSON + "WHERE user_id = ? OR uni_id = ?", (name, name.strip().lower())).fetchone()
    return _person(row) if row else None


def consents(execute: Execute, user_id: str) -> list[tuple[str, int]]:
    """(version, time) of what the person agreed to, the newest first."""
    return execute("SELECT version, ts FROM consents WHERE user_id = ? ORDER BY ts DESC", (user_id,)).fetchall()


def everybody(execute: Execute) -> list[str]:
    """The user IDs of all accounts that are not locked."""
    return [row[0] for row in execute("SELECT user_id FROM accounts WHERE NOT locked ORDER BY user_id")]


# -- rooms -------------------------------------------------------------------------------------------------------


class RoomRow(NamedTuple):
    """A room with what a list shows of it. `events`: their number, with state; `bytes`: what they take, None where nobody
    asked for it."""

    room_id: str
    version: str
    creator: str
    created_ts: int
    name: str | None
    alias: str | None
    type: str | None
    encryption: str | None
    join_rule: str | None
    joined: int
    invited: int
    last_ts: int | None
    events: int
    bytes: int | None
    frozen: bool


_ROOM = (
    "SELECT room_id, version, creator, created_ts, "
    + ", ".join(
        _STATE.format(type=type, key=key)
        for type, key in (
            ("m.room.name", "name"),
            ("m.room.canonical_alias", "alias"),
            ("m.room.create", "type"),
            ("m.room.encryption", "algorithm"),
            ("m.room.join_rules", "join_rule"),
        )
    )
    + f", (SELECT count(*) FROM memberships AS m WHERE m.room_id = rooms.room_id AND membership = 'join' AND {_NOW}), "
    f"(SELECT count(*) FROM memberships AS m WHERE m.room_id = rooms.room_id AND membership = 'invite' AND {_NOW}), "
    "(SELECT ts FROM events WHERE events.room_id = rooms.room_id ORDER BY pos DESC LIMIT 1) AS last_ts, "
    "(SELECT depth FROM events WHERE events.room_id = rooms.room_id ORDER BY pos DESC LIMIT 1), "
    "CASE WHEN :sizes THEN (SELECT sum(length(pdu)) FROM events WHERE events.room_id = rooms.room_id) END, "
    "EXISTS (SELECT 1 FROM frozen_rooms AS f WHERE f.room_id = rooms.room_id) FROM rooms "
)


def _room(row: tuple[object, ...]) -> RoomRow:
    return RoomRow(*row[:14], bool(row[14]))  # type: ignore[arg-type]


def rooms(execute: Execute, *, notices: bool = False, sizes: bool = False) -> Iterator[RoomRow]:
    """All rooms, in no order; with `notices` the rooms "Server Notices" too. With `sizes` it reads all events."""
    where = "" if notices else "WHERE room_id NOT IN (SELECT room_id FROM notice_rooms)"
    yield from (_room(row) for row in execute(_ROOM + where, {"sizes": sizes}))


def room(execute: Execute, room_id: str, *, sizes: bool = False) -> RoomRow | None:
    """One room."""
    row = execute(_ROOM + "WHERE room_id = :room_id", {"room_id": room_id, "sizes": sizes}).fetchone()
    return _room(row) if row else None


class MemberRow(NamedTuple):
    """Who is in a room, invited, knocking, banned, or has left; since the event of `ts`."""

    user_id: str
    membership: str
    ts: int


def members(execute: Execute, room_id: str) -> list[MemberRow]:
    """Everybody who has or had a part in a room, those that are in it first."""
    rows = execute(
        "SELECT m.user_id, membership, ts FROM memberships AS m JOIN events ON pos = from_pos "
        f"WHERE m.room_id = ? AND {_NOW} ORDER BY membership != 'join', membership, from_pos",
        (room_id,),
    )
    return [MemberRow._make(row) for row in rows]


def present(execute: Execute, room_id: str, limit: int) -> list[str]:
    """At most `limit` people who are in the room, invited or knocking."""
    rows = execute(
        f"SELECT user_id FROM memberships WHERE room_id = ? AND membership IN ('join', 'invite', 'knock') AND {_NOW} "
        "LIMIT ?",
        (room_id, limit),
    )
    return [row[0] for row in rows]


def messages_after(execute: Execute, room_id: str, pos: int, limit: int) -> list[tuple[int, str]]:
    """(position, ID) of the next events of a room that are no state, no redactions, and not redacted."""
    return execute(
        "SELECT pos, event_id FROM events WHERE room_id = ? AND pos > ? AND state_key IS NULL "
        "AND type != 'm.room.redaction' AND redacted_by IS NULL ORDER BY pos LIMIT ?",
        (room_id, pos, limit),
    ).fetchall()


# -- frozen rooms ------------------------------------------------------------------------------------------------


def frozen_rooms(execute: Execute) -> frozenset[str]:
    """The rooms that are frozen."""
    return frozenset(row[0] for row in execute("SELECT room_id FROM frozen_rooms"))


def set_frozen(tx: Transaction, room_id: str, frozen: bool, ts: int) -> None:
    """Freeze a room, or give it free."""
    if frozen:
        tx.execute("INSERT OR IGNORE INTO frozen_rooms (room_id, ts) VALUES (?, ?)", (room_id, ts))
    else:
        tx.execute("DELETE FROM frozen_rooms WHERE room_id = ?", (room_id,))


def is_notice_room(execute: Execute, room_id: str) -> bool:
    """Whether it is somebody's room "Server Notices"."""
    row = execute(
        "SELECT EXISTS (SELECT 1 FROM memberships AS m JOIN notice_rooms AS n ON n.user_id = m.user_id "
        "AND n.room_id = m.room_id WHERE m.room_id = ?)",
        (room_id,),
    ).fetchone()
    return bool(row[0])


# -- the server itself -------------------------------------------------------------------------------------------


def touch(tx: Transaction) -> None:
    """Change nothing, but so that the commit writes to the disk: for measuring it."""
    tx.execute("UPDATE meta SET value = value WHERE key = 'position_ceiling'")


def newest_event_ts(execute: Execute) -> int | None:
    """When the newest event was made."""
    row = execute("SELECT ts FROM events ORDER BY pos DESC LIMIT 1").fetchone()
    return row[0] if row else None
