"""Accounts: who has one, the directory's identifier behind it, and the flags that an administrator sets."""

from __future__ import annotations

from collections.abc import Iterator
from sqlite3 import Cursor
from typing import Literal, NamedTuple

from heichat_appliance.store.events import Execute

Flag = Literal["locked", "suspended"]


class Account(NamedTuple):
    """A row of `accounts`; times in milliseconds since 1970."""

    user_id: str
    uni_id: str
    mail: str | None
    created_ts: int
    locked: bool
    suspended: bool


_COLUMNS = "user_id, uni_id, mail, created_ts, locked, suspended"


def by_user_id(execute: Execute, user_id: str) -> Account | None:
    """The account with this user ID."""
    return _account(execute(f"SELECT {_COLUMNS} FROM accounts WHERE user_id = ?", (user_id,)))


def by_uni_id(execute: Execute, uni_id: str) -> Account | None:
    """The account of this Uni-ID (in lower case)."""
    return _account(execute(f"SELECT {_COLUMNS} FROM accounts WHERE uni_id = ?", (uni_id,)))


def _account(cursor: Cursor) -> Account | None:
    row = cursor.fetchone()
    return Account(*row[:4], bool(row[4]), bool(row[5])) if row else None


def create(execute: Execute, user_id: str, uni_id: str, mail: str | None, now: int) -> None:
    """Add an account; `uni_id` in lower case."""
    execute(
        "INSERT INTO accounts (user_id, uni_id, mail, created_ts) VALUES (?, ?, ?, ?)", (user_id, uni_id, mail, now)
    )


def flagged(execute: Execute) -> Iterator[tuple[str, bool, bool]]:
    """(user ID, locked, suspended) of all accounts that are one or both."""
    for row in execute("SELECT user_id, locked, suspended FROM accounts WHERE locked = 1 OR suspended = 1"):
        yield row[0], bool(row[1]), bool(row[2])


def set_flag(execute: Execute, user_id: str, flag: Flag, value: bool) -> bool:
    """Lock or suspend, or undo it; False if there is no such account."""
    statement = {
        "locked": "UPDATE accounts SET locked = ? WHERE user_id = ?",
        "suspended": "UPDATE accounts SET suspended = ? WHERE user_id = ?",
    }[flag]
    return execute(statement, (int(value), user_id)).rowcount == 1
