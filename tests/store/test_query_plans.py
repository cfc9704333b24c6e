"""No statement of `store/` reads a whole table, unless it is told here why it may: costs must not grow with the database.

Statements that stand as constants are found in the source; functions that put theirs together are called.
"""

from __future__ import annotations

import ast
import importlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from heichat_appliance.db import database
from heichat_appliance.db.engine import connect
from heichat_appliance.store import (
    accounts,
    administration,
    events,
    key_backup,
    relations,
    search,
    sliding,
    state,
)

STORE = Path(accounts.__file__).parent

#: What may be read whole: small tables, what only the operator's commands or the start of the server ask for.
MAY_BE_READ_WHOLE = {
    ("accounts", "flagged"): "at the start",
    ("accounts", "create"): "SQLite's plan for deferred foreign keys, which there are none of",
    ("administration", "frozen_rooms"): "at the start; few",
    ("administration", "people"): "the operator's list",
    ("administration", "everybody"): "the operator writes to everybody",
    ("administration", "rooms"): "the operator's list",
    ("administration", "newest_event_ts"): "the last row only",
    ("aliases", "published"): "the published rooms",
    ("key_backup", "left_overs"): "at the start; one row a person",
    ("profiles", "outdated_users"): "what is still to be done",
    ("pushers", "all"): "at the start",
    ("reports", "newest"): "the last rows only",
}

Execute = Callable[..., sqlite3.Cursor]
NOBODY, ROOM, EVENT = "@nobody:chat.test", "!room:chat.test", "$event"


def _calls(execute: Execute) -> dict[tuple[str, str], Callable[[], object]]:
    """Functions that put their statements together, called in each way that makes another one."""
    tx: Any = SimpleNamespace(execute=execute, users=set(), rooms=set(), next_position=lambda: 1)
    row = sliding.Row(*[None] * len(sliding.Row._fields))
    span = (1, 2)
    return {
        ("accounts", "set_flag"): lambda: [
            accounts.set_flag(execute, NOBODY, f, True) for f in ("locked", "suspended")
        ],
        ("administration", "people"): lambda: list(administration.people(execute, locked=True)),
        ("administration", "rooms"): lambda: [list(administration.rooms(execute, notices=n)) for n in (True, False)],
        ("events", "in_room"): lambda: [events.in_room(execute, ROOM, 1, 2, 3, backwards=b) for b in (True, False)],
        ("events", "marks_in_room"): lambda: [
            events.marks_in_room(execute, ROOM, 1, 2, 3, backwards=b) for b in (True, False)
        ],
        ("key_backup", "sessions"): lambda: [key_backup.sessions(execute, NOBODY, 1, room) for room in (None, ROOM)],
        ("key_backup", "delete_some"): lambda: [
            key_backup.delete_some(tx, NOBODY, 1, *what, 10) for what in ((None, None), (ROOM, None), (ROOM, "x"))
        ],
        ("relations", "has_child"): lambda: [
            relations.has_child(execute, EVENT, kinds, people)
            for kinds in (None, ["m.thread"])
            for people in (None, [NOBODY])
        ],
        ("relations", "thread"): lambda: [relations.thread(execute, EVENT, span, NOBODY, i) for i in ((), (NOBODY,))],
        ("relations", "references"): lambda: [
            relations.references(execute, EVENT, span, i, 5) for i in ((), (NOBODY,))
        ],
        ("relations", "children"): lambda: [
            relations.children(execute, EVENT, span, 5, backwards=b, depth=d, rel_type=r, type=r)
            for b in (True, False)
            for d in (1, 3)
            for r in (None, "m.thread")
        ],
        ("search", "matches"): lambda: [
            search.matches(execute, "word", ["body"], [ROOM], 5, ranked=ranked) for ranked in (True, False)
        ],
        ("sliding", "put"): lambda: sliding.put(tx, sliding.create(tx, NOBODY, "D", "", 5, 5, 0), 1, 3, [row], [], 5),
        ("sliding", "last_bump"): lambda: sliding.last_bump(execute, ROOM, 5),
        ("state", "all_but_members_at"): lambda: state.all_but_members_at(execute, ROOM, 5),
        ("state", "members_at"): lambda: state.members_at(execute, ROOM, [NOBODY], 5),
        ("state", "first_members_at"): lambda: state.first_members_at(execute, ROOM, ("join", "invite"), 5, 6),
        ("state", "some_at"): lambda: state.some_at(execute, ROOM, ["m.room.name"], [("m.room.name", "")], 5),
    }


def _written(function: ast.FunctionDef, module: object) -> Iterator[str | None]:
    """The statements that a function executes; None for each one that it puts together."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in ("execute", "executemany"):
            try:
                yield eval(compile(ast.Expression(node.args[0]), "store", "eval"), dict(vars(module)))
            except NameError:
                yield None


def _functions() -> Iterator[tuple[str, ast.FunctionDef, object]]:
    for path in sorted(STORE.glob("*.py")):
        module = importlib.import_module(f"heichat_appliance.store.{path.stem}")
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                yield path.stem, node, module


def _scans(connection: sqlite3.Connection, statement: str) -> list[str]:
    """The tables that the statement's plan reads whole."""
    numbers = [int(number) for number in re.findall(r"\?(\d+)", statement)]
    names = re.findall(r"\s:(\w+)", statement)
    values: Any = dict.fromkeys(names) or [None] * (max(numbers) if numbers else statement.count("?"))
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    scanned = [line.split()[1] for line in plan if line.startswith("SCAN ") and "VIRTUAL TABLE" not in line]
    # What is no table are rows that another step of the plan has found.
    source = {alias: name for name, alias in re.findall(r"\b(\w+) AS (\w+)\b", statement)}
    return [name for name in scanned if source.get(name, name) in tables]


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    path, _ = database.prepare(tmp_path, "chat.test")
    connection = connect(path)
    yield connection
    connection.close()


def test_no_statement_reads_a_whole_table(connection: sqlite3.Connection) -> None:
    seen, problems = 0, []
    for module_name, function, module in _functions():
        for statement in _written(function, module):
            if statement is None:
                continue
            seen += 1
            scans = _scans(connection, statement)
            if scans and (module_name, function.name) not in MAY_BE_READ_WHOLE:
                problems.append(f"{module_name}.{function.name} reads all of {', '.join(scans)}: {statement}")
    assert not problems, "\n".join(problems)
    assert seen > 200


def test_no_statement_that_is_put_together_reads_a_whole_table(connection: sqlite3.Connection) -> None:
    statements: list[str] = []

    def execute(statement: str, *values: object) -> sqlite3.Cursor:
        statements.append(statement)
        return connection.execute(statement, *values)

    connection.execute("PRAGMA foreign_keys = OFF")
    for (module_name, function_name), call in _calls(execute).items():
        statements.clear()
        try:
            call()
        except sqlite3.IntegrityError:
            pass  # made-up rows; the statement was prepared all the same
        assert statements, f"{module_name}.{function_name} executed nothing"
        if (module_name, function_name) not in MAY_BE_READ_WHOLE:
            for statement in set(statements):
                assert not _scans(connection, statement), f"{module_name}.{function_name}: {statement}"


def test_every_statement_is_looked_at_and_no_exception_is_out_of_date() -> None:
    functions = {(module_name, function.name) for module_name, function, _ in _functions()}
    assert not MAY_BE_READ_WHOLE.keys() - functions
    put_together = {
        (module_name, function.name)
        for module_name, function, module in _functions()
        if None in _written(function, module)
    }
    assert not put_together - _calls(connect_nothing).keys()


def connect_nothing(*_: object) -> sqlite3.Cursor:
    raise AssertionError("only the names are asked for")
