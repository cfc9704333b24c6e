"""`heichat-admin backup`, beside the running daemon, and keeping the last few."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import sqlite3
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path

from heichat_appliance.admin import backups
from heichat_appliance.admin.command import Call, Commands, Trouble
from heichat_appliance.admin.language import count, t
from heichat_appliance.admin.owner import as_owner_of, give_to_owner_of
from heichat_appliance.admin.show import size
from heichat_appliance.db.database import DATABASE, sync
from heichat_appliance.db.engine import connect
from heichat_appliance.store import media

_PARTIAL = ".partial-"


def register(commands: Commands) -> None:
    """The commands of this module."""
    backup = commands.add(
        "backup",
        _backup,
        en="make a backup of the running server: database, media, keys",
        de="eine Sicherung des laufenden Servers machen: Datenbank, Dateien, Schlüssel",
        more_en="It becomes a folder of its own in DIRECTORY, or nothing at all. It is consistent, and is checked at once: "
        "hashes, the history of every room, signatures. Media that an earlier backup in DIRECTORY has are linked, not copied. "
        "Everything in it is as secret as the server itself: the signing key, hashed access tokens, messages. "
        "Copy it to another machine. The first line of the output is its path.",
        more_de="Sie wird ein eigener Ordner in ORDNER, oder gar nichts. Sie ist in sich stimmig und wird sogleich geprüft: "
        "Prüfsummen, die Geschichte jedes Raums, Signaturen. Dateien, die eine frühere Sicherung in ORDNER hat, werden verlinkt "
        "statt kopiert. Alles darin ist so geheim wie der Server selbst: Signaturschlüssel, Zugangstoken (als Hash), "
        "Nachrichten. Bitte auf einen anderen Rechner kopieren. Die erste Zeile der Ausgabe ist ihr Pfad.",
        examples="backup /var/backups/heichat --keep 14\nbackup /mnt/backup --tar --quick",
    )
    backup.add_argument("directory", metavar=t("DIRECTORY", "ORDNER"), type=Path, help=t("where to put it", "wohin"))
    backup.add_argument(
        "--keep",
        type=int,
        metavar="N",
        help=t("then remove all but the newest N", "danach alle bis auf die neuesten N entfernen"),
    )
    backup.add_argument(
        "--tar", action="store_true", help=t("one file instead of a folder", "eine Datei statt eines Ordners")
    )
    backup.add_argument(
        "--quick",
        action="store_true",
        help=t("do not check every room's history", "nicht die Geschichte jedes Raums prüfen"),
    )


def _backup(call: Call) -> int:
    began = time.monotonic()
    target: Path = call.options.directory.absolute()
    if call.options.keep is not None and call.options.keep < 1:
        raise Trouble(t("--keep must be at least 1", "--keep muss mindestens 1 sein"))
    if target.resolve().is_relative_to(call.data_dir.resolve()):
        raise Trouble(t("the backup must not lie in the data folder", "die Sicherung darf nicht im Datenordner liegen"))
    with call.database():
        pass  # there is one
    try:
        with _as_right_user(call.data_dir, target), _only_one(target):
            path, made = _make(call, target)
            _note(call, path)
            removed, stuck = _remove_old(target, _prefix(call), call.options.keep)
    except (OSError, sqlite3.Error) as error:
        raise Trouble(t(f"the backup failed: {error}", f"die Sicherung schlug fehl: {error}")) from None
    print(path)
    seconds = time.monotonic() - began
    facts = (size(made.database), count(made.media, "file|files", "Datei|Dateien"), size(made.media_bytes), made.copied)
    print(
        t("Database {}, {} of media ({}, {} copied anew)", "Datenbank {}, {} ({}, davon {} neu kopiert)").format(
            *facts
        ),
        t(f"checked, in {seconds:.1f} s.", f"geprüft, in {seconds:.1f} s."),
        sep="; ",
    )
    for old in removed:
        print(t(f"Removed: {old}", f"Entfernt: {old}"))
    for reason in stuck:
        print(t(f"Can't be removed: {reason}", f"Lässt sich nicht entfernen: {reason}"), file=sys.stderr)
    return 1 if stuck else 0


def _as_right_user(data_dir: Path, target: Path) -> AbstractContextManager[None]:
    """A directory of the daemon's user, which makes backups there every night, gets nothing that belongs to root."""
    if target.is_dir() and target.stat().st_uid == data_dir.stat().st_uid:
        return as_owner_of(target)
    return nullcontext()


@contextmanager
def _only_one(target: Path) -> Iterator[None]:
    """The only backup that is being made in this directory; what others left unfinished goes."""
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(target / ".lock", flags, 0o600), "a") as lock:
        give_to_owner_of(target, target / ".lock")  # root and the daemon's user may take turns
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Trouble(t(f"another backup runs in {target}", f"in {target} läuft schon eine Sicherung")) from None
        for path in target.glob(f"{_PARTIAL}*"):
            with suppress(OSError):  # another user's: it is in nobody's way
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield


def _make(call: Call, target: Path) -> tuple[Path, backups.Made]:
    now = datetime.now(UTC)
    name = f"{_prefix(call)}{now:%Y%m%dT%H%M%SZ}"
    final = target / (f"{name}.tar" if call.options.tar else name)
    if final.exists():
        raise Trouble(t(f"{final} exists already", f"{final} gibt es schon"))
    before = _earlier(target, _prefix(call))
    _check_space(call.data_dir, target, before)
    partial = target / f"{_PARTIAL}{name}"
    partial.mkdir(mode=0o700)
    try:
        config = Path(call.config.source)
        created = now.isoformat(timespec="seconds")
        made = backups.make(
            call.data_dir, config if config.is_file() else None, call.config["server"].name, partial, created,
            None if not before else before[-1],
        )  # fmt: skip
        problems = list(backups.check(partial, histories=not call.options.quick))
        if problems:
            raise Trouble("\n".join((t("The backup is not sound:", "Die Sicherung ist nicht in Ordnung:"), *problems)))
        done = _packed(partial) if call.options.tar else partial
        give_to_owner_of(target, done)
        done.rename(final)
        sync(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final, made


def _packed(folder: Path) -> Path:
    tar = folder.with_name(folder.name + ".tar")
    with open(tar, "xb", opener=backups.private) as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.add(folder, arcname=folder.name.removeprefix(_PARTIAL))
        file.flush()
        os.fsync(file.fileno())
    return tar


def _prefix(call: Call) -> str:
    return f"heichat-{call.config['server'].name.replace(':', '_')}-"


def _is_backup(path: Path, prefix: str) -> bool:
    return path.name.startswith(prefix) and bool(re.fullmatch(r"\d{8}T\d{6}Z(\.tar)?", path.name.removeprefix(prefix)))


def _all(target: Path, prefix: str) -> list[Path]:
    """The backups of this server in the directory, the oldest first."""
    found = (path for path in target.iterdir() if _is_backup(path, prefix) and not path.is_symlink())
    return sorted(
        (path for path in found if path.suffix == ".tar" or _has_manifest(path)),
        key=lambda path: path.name.removesuffix(".tar"),
    )


def _has_manifest(folder: Path) -> bool:
    try:
        return (folder / backups.MANIFEST).is_file()
    except OSError:
        return False  # another user's, for instance


def _earlier(target: Path, prefix: str) -> list[Path]:
    return [path for path in _all(target, prefix) if path.is_dir()]


def _check_space(data_dir: Path, target: Path, before: list[Path]) -> None:
    """Say so before the disk is full, not when it is."""
    needed = (data_dir / DATABASE).stat().st_size
    connection = connect(data_dir / DATABASE, read_only=True)
    try:
        for name, count in media.contents(connection.execute):
            if not before or not (before[-1] / "media" / "files" / name[:2] / name).is_file():
                needed += count
    finally:
        connection.close()
    free = shutil.disk_usage(target).free
    if free < needed * 1.05:
        raise Trouble(
            t(
                f"{target} has {size(free)} free, but the backup needs {size(needed)}",
                f"in {target} sind {size(free)} frei, die Sicherung braucht aber {size(needed)}",
            )
        )


def _note(call: Call, path: Path) -> None:
    """For doctor."""
    note = call.data_dir / backups.LAST
    new = note.with_suffix(".new")
    with as_owner_of(call.data_dir):
        new.write_text(json.dumps({"path": str(path), "created": time.time()}) + "\n")
        new.rename(note)


def _remove_old(target: Path, prefix: str, keep: int | None) -> tuple[list[Path], list[OSError]]:
    """Those that went, and why some could not."""
    removed: list[Path] = []
    stuck: list[OSError] = []
    for path in _all(target, prefix)[:-keep] if keep is not None else []:
        try:
            # First out of sight, so that what a crash leaves is not taken for a backup.
            gone = path.rename(path.with_name(f"{_PARTIAL}{path.name}"))
            shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        except OSError as error:
            stuck.append(error)
        else:
            removed.append(path)
    return removed, stuck
