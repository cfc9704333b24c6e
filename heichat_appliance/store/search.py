"""The search index: `search_texts` and the words in them (see db/schema/50_search.sql)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import orjson

from heichat_appliance.db.engine import Transaction
from heichat_appliance.store.events import Execute

#: The kinds of text, columns of the table.
KEYS = ("body", "name", "topic")
_WORDS = "room, body, name, topic"
#: Matches that are looked at, the newest ones.
MAX_MATCHES = 2_000


class Match(NamedTuple):
    """An event that matches: `score` is higher for a closer match."""

    pos: int
    score: float
    room_id: str
    type: str
    sender: str


def position(execute: Execute) -> int:
    """Up to which position events are in the index."""
    row = execute("SELECT value FROM meta WHERE key = 'search_position'").fetchone()
    return int(row[0]) if row else 0


def set_position(tx: Transaction, pos: int) -> None:
    """Events up to `pos` are in the index."""
    tx.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('search_position', ?)", (str(pos),))


def put(tx: Transaction, pos: int, source_pos: int, room_id: str, texts: dict[str, str]) -> None:
    """Index the texts (by KEYS) of the event at `pos`, in place of what was there."""
    remove(tx, pos)
    words = (room_word(room_id), *map(texts.get, KEYS))
    tx.execute(
        f"INSERT INTO search_texts (pos, source_pos, {_WORDS}) VALUES (?, ?, ?, ?, ?, ?)", (pos, source_pos, *words)
    )
    tx.execute(f"INSERT INTO search_words (rowid, {_WORDS}) VALUES (?, ?, ?, ?, ?)", (pos, *words))


def remove(tx: Transaction, pos: int) -> None:
    """Take the event at `pos` out of the index."""
    old = tx.execute(f"SELECT {_WORDS} FROM search_texts WHERE pos = ?", (pos,)).fetchone()
    if old is not None:  # FTS5 must be told the words to forget
        tx.execute(
            f"INSERT INTO search_words (search_words, rowid, {_WORDS}) VALUES ('delete', ?, ?, ?, ?, ?)", (pos, *old)
        )
        tx.execute("DELETE FROM search_texts WHERE pos = ?", (pos,))


def edited_by(execute: Execute, source_pos: int) -> int | None:
    """The position of the event whose text is from the edit at `source_pos`."""
    row = execute("SELECT pos FROM search_texts WHERE source_pos = ? AND source_pos != pos", (source_pos,)).fetchone()
    return row[0] if row else None


def matches(
    execute: Execute, terms: str, keys: Iterable[str], rooms: Iterable[str], upto: int, *, ranked: bool
) -> list[Match]:
    """The newest MAX_MATCHES events at or before `upto` that match, newest first.

    `terms`: an FTS5 expression; `keys`: some of KEYS; `rooms`: room IDs. Without `ranked` all scores are 0.
    """
    places = " OR ".join(map(room_word, rooms))
    query = f"{{{' '.join(keys)}}} : ({terms}) AND room : ({places})"
    score = "-bm25(search_words, 1.0, 1.0, 1.0, 0.0)" if ranked else "0.0"
    rows = execute(
        f"SELECT pos, score, room_id, type, sender FROM (SELECT rowid, {score} AS score FROM search_words "
        "WHERE search_words MATCH ? AND rowid <= ? ORDER BY rowid DESC LIMIT ?) AS hits "
        "JOIN events ON pos = hits.rowid ORDER BY pos DESC",
        (query, upto, MAX_MATCHES),
    )
    return [Match._make(row) for row in rows]


def encrypted_rooms(execute: Execute, rooms: Iterable[str]) -> set[str]:
    """Those of the rooms that are encrypted."""
    rows = execute(
        "SELECT room_id FROM room_state WHERE type = 'm.room.encryption' AND state_key = '' "
        "AND to_pos = 9223372036854775807 AND room_id IN (SELECT value FROM json_each(?))",
        (orjson.dumps(list(rooms)).decode(),),
    )
    return {row[0] for row in rows}


def room_word(room_id: str) -> str:
    """The word that stands for a room."""
    return "r" + hashlib.sha256(room_id.encode()).hexdigest()[:16]
