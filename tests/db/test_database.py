"""Opening a data folder: creation, migration with a copy before, refusals, one daemon only."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlite_utils import Database

from heichat_appliance.db import database
from heichat_appliance.db.migrations import migrations


def test_a_new_database_has_every_table_strict(tmp_path: Path) -> None:
    path, version = database.prepare(tmp_path, "chat.test")
    assert version == len(migrations.applied(Database(path)))
    with sqlite3.connect(path) as db:
        loose = [
            row[1]
            for row in db.execute("PRAGMA table_list")
            if row[2] == "table" and not row[5] and not row[1].startswith(("sqlite_", "_sqlite_migrations"))
        ]
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert loose == []
    assert path.stat().st_mode & 0o077 == 0


def test_an_interrupted_creation_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "heichat.db.new").write_bytes(b"half a database")
    path, _ = database.prepare(tmp_path, "chat.test")
    assert path.exists() and not (tmp_path / "heichat.db.new").exists()


def test_another_server_name_is_refused(tmp_path: Path) -> None:
    database.prepare(tmp_path, "chat.test")
    with pytest.raises(database.DatabaseRefused, match=r"belongs to the server name chat\.test"):
        database.prepare(tmp_path, "other.test")


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    path, _ = database.prepare(tmp_path, "chat.test")
    db = Database(path)
    db["_sqlite_migrations"].insert({"migration_set": "heichat", "name": "m9999_future", "applied_at": "2030"})
    db.close()
    with pytest.raises(database.DatabaseRefused, match="newer heiCHAT"):
        database.prepare(tmp_path, "chat.test")


def test_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / database.DATABASE).write_bytes(b"not a database at all" * 100)
    with pytest.raises(database.DatabaseRefused, match="not a heiCHAT database"):
        database.prepare(tmp_path, "chat.test")


def test_a_copy_precedes_a_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = database.prepare(tmp_path, "chat.test")
    monkeypatch.setattr(migrations, "_migrations", [*migrations._migrations])

    @migrations(name="m9000_test")
    def change(db: Database) -> None:
        db.execute("CREATE TABLE added (x TEXT) STRICT")

    _, version = database.prepare(tmp_path, "chat.test")
    assert version == len(migrations._migrations)
    copy = tmp_path / "heichat.db.before-m9000_test"
    with sqlite3.connect(copy) as old, sqlite3.connect(path) as new:
        assert old.execute("SELECT count(*) FROM sqlite_master WHERE name = 'added'").fetchone() == (0,)
        assert new.execute("SELECT count(*) FROM sqlite_master WHERE name = 'added'").fetchone() == (1,)


def test_a_failing_migration_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = database.prepare(tmp_path, "chat.test")
    monkeypatch.setattr(migrations, "_migrations", [*migrations._migrations])

    @migrations(name="m9001_broken")
    def broken(db: Database) -> None:
        db.execute("CREATE TABLE added (x TEXT) STRICT")
        db.execute("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(sqlite3.OperationalError):
        database.prepare(tmp_path, "chat.test")
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'added'").fetchone() == (0,)


def test_only_one_daemon_uses_a_folder(tmp_path: Path) -> None:
    lock = database.FolderLock(tmp_path)
    with pytest.raises(database.DatabaseRefused, match="in use by another heiCHAT daemon"):
        database.FolderLock(tmp_path)
    lock.release()
    database.FolderLock(tmp_path).release()
