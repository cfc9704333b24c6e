"""Account data (tags and read markers among it), changes to push rules, and stored filters."""

from __future__ import annotations

from typing import NamedTuple

from heichat_appliance.db.engine import Transaction
from heichat_appliance.store.events import Execute


class AccountData(NamedTuple):
    """One value; `room_id` is '' for global account data, `content` is JSON, `pos` the position of its last change."""

    room_id: str
    type: str
    content: str
    pos: int


_COLUMNS = "room_id, type, content, pos"


def put(tx: Transaction, user_id: str, room_id: str, type: str, content: str) -> None:
    """Set a value at a new position; the person's syncs hear of it."""
    tx.execute(
        "INSERT INTO account_data (user_id, room_id, type, content, pos) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET content = excluded.content, pos = excluded.pos",
        (user_id, room_id, type, content, tx.next_position()),
    )
    tx.users.add(user_id)


def get(execute: Execute, user_id: str, room_id: str, type: str) -> str | None:
    """The content of one value as JSON."""
    row = execute(
        "SELECT content FROM account_data WHERE user_id = ? AND room_id = ? AND type = ?", (user_id, room_id, type)
    ).fetchone()
    return row[0] if row else None


def all(execute: Execute, user_id: str) -> list[AccountData]:
    """Everything that a person has stored."""
    rows = execute(f"SELECT {_COLUMNS} FROM account_data WHERE user_id = ?", (user_id,))
    return [AccountData._make(row) for row in rows]


def in_room(execute: Execute, user_id: str, room_id: str) -> list[AccountData]:
    """What a person has stored for one room."""
    rows = execute(f"SELECT {_COLUMNS} FROM account_data WHERE user_id = ? AND room_id = ?", (user_id, room_id))
    return [AccountData._make(row) for row in rows]


def changed(execute: Execute, user_id: str, after: int, upto: int) -> list[AccountData]:
    """The values whose last change was at after < pos <= upto, in order."""
    rows = execute(
        f"SELECT {_COLUMNS} FROM account_data WHERE user_id = ? AND pos > ? AND pos <= ? ORDER BY pos",
        (user_id, after, upto),
    )
    return [AccountData._make(row) for row in rows]


def usage(execute: Execute, user_id: str) -> tuple[int, int]:
    """How many values a person has stored, and their length altogether."""
    row = execute(
        "SELECT count(*), coalesce(sum(length(content)), 0) FROM account_data WHERE user_id = ?", (user_id,)
    ).fetchone()
    return int(row[0]), int(row[1])


# -- push rules --------------------------------------------------------------------------------------------------


def push_rule_changes(execute: Execute, user_id: str) -> tuple[str, int] | None:
    """A person's changes to the default push rules as JSON, and the position of the last one; None without any."""
    row: tuple[str, int] | None = execute(
        "SELECT changes, pos FROM push_rules WHERE user_id = ?", (user_id,)
    ).fetchone()
    return row


def put_push_rule_changes(tx: Transaction, user_id: str, changes: str) -> None:
    """Replace a person's changes, at a new position; the person's syncs hear of it."""
    tx.execute(
        "INSERT INTO push_rules (user_id, changes, pos) VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET changes = excluded.changes, pos = excluded.pos",
        (user_id, changes, tx.next_position()),
    )
    tx.users.add(user_id)


# -- filters -----------------------------------------------------------------------------------------------------


def get_filter(execute: Execute, user_id: str, filter_id: int) -> str | None:
    """A stored filter as JSON."""
    row = execute("SELECT filter FROM filters WHERE user_id = ? AND filter_id = ?", (user_id, filter_id)).fetchone()
    return row[0] if row else None


def find_filter(execute: Execute, user_id: str, filter: str) -> int | None:
    """The ID under which this very JSON is stored already."""
    row = execute("SELECT filter_id FROM filters WHERE user_id = ? AND filter = ?", (user_id, filter)).fetchone()
    return row[0] if row else None


def last_filter_id(execute: Execute, user_id: str) -> int:
    """The highest ID of a person's filters (they count from 1), 0 if there is none."""
    row = execute("SELECT max(filter_id) FROM filters WHERE user_id = ?", (user_id,)).fetchone()
    return row[0] or 0


def insert_filter(tx: Transaction, user_id: str, filter_id: int, filter: str) -> None:
    """Store a filter."""
    tx.execute("INSERT INTO filters (user_id, filter_id, filter) VALUES (?, ?, ?)", (user_id, filter_id, filter))
