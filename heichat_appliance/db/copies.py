"""Copies of the database, for backups: made beside the running daemon, looked into, made ready to go on from."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from heichat_appliance.db.engine import connect


def copy(source: Path, target: Path) -> None:
    """Copy a database as it is at one moment, whoever writes to it meanwhile (SQLite's backup API, all pages in one
    step: a reader's snapshot, which holds up nobody). The copy is one file without a log beside it."""
    reader = connect(source, read_only=True)
    writer = sqlite3.connect(target, isolation_level=None)
    try:
        reader.backup(writer)
        writer.execute("PRAGMA journal_mode = DELETE")
    finally:
        writer.close()
        reader.close()


def facts(path: Path) -> dict[str, str]:
    """What a database knows of itself: server_name, epoch, position_ceiling. Raises sqlite3.DatabaseError."""
    connection = connect(path, read_only=True)
    try:
        return dict(connection.execute("SELECT key, value FROM meta").fetchall())
    finally:
        connection.close()


def begin_epoch(path: Path, epoch: int) -> None:
    """Make a copy ready to go on from as the database of the daemon.

    What clients learnt since the backup never happened, so their sync tokens, which name the epoch, must not be
    believed. One-time keys are dropped: some may have been handed out since, and a key must not be used twice; clients
    are told that there are none and upload new ones.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (str(epoch),))
        connection.execute("DELETE FROM one_time_keys")
        connection.execute("COMMIT")
    finally:
        connection.close()
