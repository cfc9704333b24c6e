"""The schema's history, as `sqlite_utils.Migrations`. Each step and its record are one transaction.

A change of the schema after a release is a new function below; the files in `schema/` are the first step and stay as
released.
"""

from __future__ import annotations

import sqlite3
from importlib.resources import files

from sqlite_utils import Database, Migrations

migrations = Migrations("heichat")


def schema_statements() -> list[str]:
    """The statements of `schema/*.sql` in the order of the files' names."""
    folder = files("heichat_appliance.db") / "schema"
    texts = [entry.read_text("utf-8") for entry in sorted(folder.iterdir(), key=lambda e: e.name)]
    return [statement for text in texts for statement in _split(text)]


def _split(text: str) -> list[str]:
    statements, current = [], ""
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("--"):
            current += line + "\n"
            if sqlite3.complete_statement(current):
                statements.append(current.strip())
                current = ""
    return statements


@migrations()
def m0001_first_schema(db: Database) -> None:
    """Everything in `schema/`. One statement at a time: `executescript` would commit in between."""
    for statement in schema_statements():
        db.execute(statement)
