"""Opening the data folder: lock, create, back up and migrate, refuse what does not fit."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import IO

from sqlite_utils import Database

from heichat_appliance.db.migrations import migrations

DATABASE = "heichat.db"
#: A file that is in the data folder while a restore exchanges what is in it.
RESTORING = "restore-in-progress"


class DatabaseRefused(Exception):
    """The database can't be used; the text says why and what to do."""


class FolderLock:
    """Only one daemon (or offline command) at a time uses a data folder; the lock goes with the process."""

    def __init__(self, data_dir: Path) -> None:
        """Take the lock, or raise DatabaseRefused."""
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Root may run this in a folder of the daemon's user: it follows no link out of there.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            handle = os.open(data_dir / "heichat.lock", flags, 0o600)
        except OSError as error:
            raise DatabaseRefused(f"{data_dir / 'heichat.lock'} can't be opened: {error.strerror}")
        self._file: IO[str] = os.fdopen(handle, "r+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            owner = self._file.read().strip() or "unknown"
            self._file.close()
            raise DatabaseRefused(f"the data folder {data_dir} is in use by another heiCHAT daemon (process {owner})")
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        """Give the folder free."""
        self._file.close()


def prepare(data_dir: Path, server_name: str) -> tuple[Path, int]:
    """Make `data_dir`'s database ready and return its path and its version (number of migrations).

    A new one is built under a temporary name and renamed. Before a migration a copy is made with SQLite's backup API.
    Raises DatabaseRefused for a database of a newer version or of another server name, and where a restore was cut off.
    """
    path = data_dir / DATABASE
    if (data_dir / RESTORING).exists():
        raise DatabaseRefused(
            f"a restore into {data_dir} was cut off, so what lies there is not whole (hint: heichat-admin restore again)"
        )
    if not path.exists():
        _create(path, server_name)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        refuse_misfits(connection, path, server_name)
        connection.execute("PRAGMA journal_mode = WAL")
        db = Database(connection)
        pending = [migration.name for migration in migrations.pending(db)]
        if pending:
            _back_up(connection, path.with_name(f"{path.name}.before-{pending[0]}"))
            migrations.apply(db)
            _check_foreign_keys(connection, path)
        return path, len(migrations.applied(db))
    finally:
        connection.close()


def _create(path: Path, server_name: str) -> None:
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    connection = sqlite3.connect(new, isolation_level=None)
    try:
        db = Database(connection)
        migrations.apply(db)
        with db.atomic():
            connection.executemany(
                "INSERT INTO meta (key, value) VALUES (?, ?)",
                [("server_name", server_name), ("epoch", "1"), ("position_ceiling", "0")],
            )
    finally:
        connection.close()
    os.chmod(new, 0o600)
    sync(new)
    new.rename(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refuse_misfits(connection: sqlite3.Connection, path: Path, server_name: str) -> None:
    """Raises DatabaseRefused for what is no database of this program, of a newer version, or of another server name."""
    try:
        row = connection.execute("SELECT value FROM meta WHERE key = 'server_name'").fetchone()
    except sqlite3.DatabaseError as error:
        raise DatabaseRefused(f"{path} is not a heiCHAT database: {error}")
    known = {migration.name for migration in migrations.pending(_NOTHING_APPLIED)}
    applied = [migration.name for migration in migrations.applied(Database(connection))]
    unknown = [name for name in applied if name not in known]
    if unknown:
        raise DatabaseRefused(
            f"{path} was made by a newer heiCHAT (it has the migration {unknown[-1]}, which this version does not know); "
            "install that version again, or restore the backup from before the upgrade"
        )
    if row is None or row[0] != server_name:
        raise DatabaseRefused(
            f"{path} belongs to the server name {row[0] if row else '(none)'}, but [server] name is {server_name}; "
            "a server name can't be changed, since it is part of every user ID (hint: set the old name or use another data_dir)"
        )


def _back_up(connection: sqlite3.Connection, target: Path) -> None:
    copy = sqlite3.connect(target)
    try:
        connection.backup(copy)
    finally:
        copy.close()
    os.chmod(target, 0o600)


def _check_foreign_keys(connection: sqlite3.Connection, path: Path) -> None:
    broken = connection.execute("PRAGMA foreign_key_check").fetchone()
    if broken:
        raise DatabaseRefused(f"{path} is damaged: a row of table {broken[0]} refers to one that does not exist")


_NOTHING_APPLIED = Database(memory=True)
