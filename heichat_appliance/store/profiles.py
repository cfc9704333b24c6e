"""Profiles: fields of a person as JSON; who must still be told in rooms; searching for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from heichat_appliance.db.engine import Transaction
from heichat_appliance.store.events import Execute

#: People that a search sorts.
MAX_CANDIDATES = 1_000


class Display(NamedTuple):
    """What member events and searches show of a person."""

    display_name: str | None
    avatar_url: str | None


class Found(NamedTuple):
    """A person found by a search; `shared`: whether they share a room with the one who searches."""

    user_id: str
    display_name: str | None
    avatar_url: str | None
    shared: bool


def fields(execute: Execute, user_id: str) -> dict[str, str]:
    """All fields, each as JSON."""
    return dict(execute("SELECT field, value FROM profiles WHERE user_id = ?", (user_id,)).fetchall())


def field(execute: Execute, user_id: str, name: str) -> str | None:
    """One field as JSON."""
    row = execute("SELECT value FROM profiles WHERE user_id = ? AND field = ?", (user_id, name)).fetchone()
    return row[0] if row else None


def display(execute: Execute, user_id: str) -> Display:
    """Display name and avatar, each None if it is not set."""
    rows = dict(
        execute(
            "SELECT field, value FROM profiles WHERE user_id = ? AND field IN ('displayname', 'avatar_url')", (user_id,)
        ).fetchall()
    )
    return Display(*(orjson.loads(rows[name]) if name in rows else None for name in ("displayname", "avatar_url")))


def put(tx: Transaction, user_id: str, name: str, value: str) -> None:
    """Set a field to a value in JSON."""
    tx.execute(
        "INSERT INTO profiles (user_id, field, value) VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET value = excluded.value",
        (user_id, name, value),
    )


def delete(tx: Transaction, user_id: str, name: str) -> None:
    """Take a field away."""
    tx.execute("DELETE FROM profiles WHERE user_id = ? AND field = ?", (user_id, name))


# -- rooms that still show an old name or avatar -----------------------------------------------------------------


def add_outdated(tx: Transaction, user_id: str) -> None:
    """Note the person's joined rooms as showing an outdated profile."""
    tx.execute(
        "INSERT OR IGNORE INTO outdated_profiles SELECT user_id, room_id FROM memberships "
        "WHERE user_id = ? AND membership = 'join' AND to_pos = 9223372036854775807",
        (user_id,),
    )


def outdated_rooms(execute: Execute, user_id: str, limit: int) -> list[str]:
    """Some of the rooms that show an outdated profile of the person."""
    rows = execute("SELECT room_id FROM outdated_profiles WHERE user_id = ? LIMIT ?", (user_id, limit))
    return [row[0] for row in rows]


def remove_outdated(tx: Transaction, user_id: str, room_id: str) -> None:
    """The room shows the person's present profile."""
    tx.execute("DELETE FROM outdated_profiles WHERE user_id = ? AND room_id = ?", (user_id, room_id))


def outdated_users(execute: Execute) -> list[str]:
    """Everybody of whom some room shows an outdated profile."""
    return [row[0] for row in execute("SELECT DISTINCT user_id FROM outdated_profiles")]


# -- people ------------------------------------------------------------------------------------------------------


def search(execute: Execute, searcher: str, words: Sequence[Sequence[str]], limit: int) -> list[Found]:
    """At most `limit` other people with an account, for whom each of `words` (in one of its spellings) begins a word of
    the display name or of the localpart. Those who share a room with the searcher come first, then by display name.

    Case and diacritics do not count. Locked accounts are left out. Of a term that fits very many, MAX_CANDIDATES are
    looked at.
    """
    query = " AND ".join("(" + " OR ".join(f'"{_quoted(one)}"*' for one in spellings) + ")" for spellings in words)
    rows = execute(
        "SELECT people.user_id, people.display_name, "
        "(SELECT value FROM profiles WHERE user_id = people.user_id AND field = 'avatar_url'), "
        "EXISTS (SELECT 1 FROM memberships AS mine JOIN memberships AS theirs ON theirs.room_id = mine.room_id "
        "  AND theirs.user_id = people.user_id AND theirs.membership = 'join' AND theirs.to_pos = 9223372036854775807 "
        "  WHERE mine.user_id = ?1 AND mine.membership = 'join' AND mine.to_pos = 9223372036854775807) AS shared "
        "FROM (SELECT rowid FROM people_words WHERE people_words MATCH ?2 LIMIT ?4) AS fitting "
        "JOIN people ON people.id = fitting.rowid "
        "JOIN accounts ON accounts.user_id = people.user_id AND accounts.locked = 0 WHERE people.user_id <> ?1 "
        "ORDER BY shared DESC, people.display_name COLLATE NOCASE, people.user_id LIMIT ?3",
        (searcher, query, limit, MAX_CANDIDATES),
    )
    return [Found(row[0], row[1], orjson.loads(row[2]) if row[2] else None, bool(row[3])) for row in rows]


def _quoted(word: str) -> str:
    return word.replace('"', '""')
