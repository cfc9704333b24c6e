"""Backups as folders: making one, checking one. The commands are in backup.py.

    heichat-<server name>-<time in UTC>/
        manifest.json        what it is: format, server name, time, the hashes of the files beside it
        heichat.db           the database at one moment
        signing.key, ...     the server's keys and secrets: every other file at the top of the data folder
        config.ini           the configuration, to look things up in; a restore leaves yours alone
        media/files/ab/...   uploaded files, named after their SHA-256

The media are copied after the database. A file never changes, and is there as long as the database knows it, so together
they are consistent.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from heichat_appliance import __version__
from heichat_appliance.admin.language import t
from heichat_appliance.db import copies, invariants
from heichat_appliance.db.database import DATABASE, sync
from heichat_appliance.db.engine import connect
from heichat_appliance.services.signing import load_signer
from heichat_appliance.store import media

FORMAT = 1
MANIFEST = "manifest.json"
CONFIG = "config.ini"
#: Where doctor finds when the last backup was made.
LAST = "last-backup.json"
_PIECE = 1 << 20


@dataclass(slots=True)
class Made:
    """What a backup took: bytes of the database; files of media, and how many of them were copied anew."""

    database: int = 0
    media: int = 0
    media_bytes: int = 0
    copied: int = 0


def secrets(data_dir: Path) -> list[Path]:
    """Keys and secrets: the regular files at the top of the data folder that are not the database's or ours."""
    return sorted(
        path
        for path in data_dir.iterdir()
        if path.is_file()
        and not path.is_symlink()
        and not path.name.startswith((DATABASE, "heichat.lock", LAST, "."))
        and path.suffix != ".new"
    )


def make(
    data_dir: Path, config: Path | None, server_name: str, target: Path, created: str, before: Path | None
) -> Made:
    """Fill the folder `target`, which exists and is empty. `before`: an earlier backup on the same file system, whose
    media are linked instead of being copied again. Raises OSError and sqlite3.Error."""
    made = Made()
    copies.copy(data_dir / DATABASE, target / DATABASE)
    made.database = (target / DATABASE).stat().st_size
    for path in secrets(data_dir):
        shutil.copyfile(path, target / path.name)
    if config is not None:
        shutil.copyfile(config, target / CONFIG)
    _copy_media(data_dir, target, before, made)
    names = sorted(path for path in target.iterdir() if path.is_file())
    for path in names:
        os.chmod(path, 0o600)
        sync(path)
    facts = copies.facts(target / DATABASE)
    manifest = {
        "format": FORMAT,
        "heichat": __version__,
        "server_name": server_name,
        "created": created,
        "epoch": int(facts["epoch"]),
        "files": {path.name: digest(path) for path in names},
        "media": {"count": made.media, "bytes": made.media_bytes},
    }
    with open(target / MANIFEST, "x", opener=private) as file:
        file.write(json.dumps(manifest, indent=1) + "\n")
    sync(target / MANIFEST)
    sync(target)
    return made


def _copy_media(data_dir: Path, target: Path, before: Path | None, made: Made) -> None:
    files = target / "media" / "files"
    (target / "media").mkdir(mode=0o700)
    files.mkdir(mode=0o700)
    connection = sqlite3.connect(target / DATABASE, isolation_level=None)
    try:
        for name, size in list(media.contents(connection.execute)):
            folder = files / name[:2]
            folder.mkdir(mode=0o700, exist_ok=True)
            if _link(before, name, folder / name, size):
                pass
            elif not _copy_one(data_dir / "media" / "files" / name[:2] / name, folder / name, name):
                # The operator has removed it since the database was copied: so it shall not come back.
                for medium in media.of_content(connection.execute, name):
                    media.remove(connection.execute, medium)
                continue
            else:
                made.copied += 1
            made.media += 1
            made.media_bytes += size
    finally:
        connection.close()
    for folder in (*files.iterdir(), files):
        sync(folder)


def _link(before: Path | None, name: str, target: Path, size: int) -> bool:
    if before is None:
        return False
    known = before / "media" / "files" / name[:2] / name
    try:
        if known.stat().st_size != size:
            return False
        os.link(known, target)
    except OSError:
        return False  # not there, or a file system without links
    return True


def _copy_one(source: Path, target: Path, expected: str) -> bool:
    """Copy a file of media and make it durable; False if it is not there. Raises OSError if its hash is wrong."""
    try:
        incoming = source.open("rb")
    except FileNotFoundError:
        return False
    found = sha256()
    with incoming, open(target, "xb", opener=private) as outgoing:
        while piece := incoming.read(_PIECE):
            found.update(piece)
            outgoing.write(piece)
        outgoing.flush()
        os.fsync(outgoing.fileno())
    if found.hexdigest() != expected:
        raise OSError(
            t(
                f"{source}: its content is not what it was (SHA-256 {found.hexdigest()})",
                f"{source}: der Inhalt ist nicht mehr der alte (SHA-256 {found.hexdigest()})",
            )
        )
    return True


def private(path: str, flags: int) -> int:
    """An opener of files that nobody else may read."""
    return os.open(path, flags, 0o600)


# -- checking ----------------------------------------------------------------------------------------------------


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest; raises ValueError with a sentence."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        wrong = manifest["format"] != FORMAT or not isinstance(manifest["files"], dict)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            t(f"{folder} is no backup: {MANIFEST}: {error}", f"{folder} ist keine Sicherung: {MANIFEST}: {error}")
        ) from None
    if wrong:
        raise ValueError(
            t(
                f"{folder} is a backup of a format that this version does not know",
                f"{folder} ist eine Sicherung in einem Format, das diese Version nicht kennt",
            )
        )
    if not {DATABASE, "signing.key"} <= set(manifest["files"]) or any("/" in name for name in manifest["files"]):
        raise ValueError(
            t(
                f"{folder} is no whole backup: {MANIFEST} lacks the database or the signing key",
                f"{folder} ist keine ganze Sicherung: in {MANIFEST} fehlt die Datenbank oder der Signaturschlüssel",
            )
        )
    return dict(manifest)


def check(folder: Path, *, histories: bool = True, hashes: bool = False) -> Iterator[str]:
    """What is wrong with a backup, as sentences. `histories`: every room's history and all invariants, too; `hashes`: the
    content of all media, too (their sizes are always looked at). Raises ValueError if it is none."""
    manifest = manifest_of(folder)
    for name, expected in manifest["files"].items():
        try:
            if digest(folder / name) != expected:
                yield t(f"{name} is not as it was when the backup was made", f"{name} ist nicht wie bei der Sicherung")
        except OSError as error:
            yield f"{name}: {error}"
    try:
        connection = connect(folder / DATABASE, read_only=True)
        try:
            if histories:
                keys = load_signer(folder, manifest["server_name"]).verify_keys
                yield from invariants.check(connection.execute, manifest["server_name"], keys)
            yield from _check_media(folder / "media" / "files", connection, hashes)
        finally:
            connection.close()
    except (sqlite3.DatabaseError, OSError, ValueError) as error:
        yield f"{DATABASE}: {error}"


def _check_media(files: Path, connection: sqlite3.Connection, hashes: bool) -> Iterator[str]:
    for name, size in media.contents(connection.execute):
        path = files / name[:2] / name
        if not path.is_file():
            yield t(f"the file {name} is missing", f"die Datei {name} fehlt")
        elif path.stat().st_size != size:
            found = path.stat().st_size
            yield t(
                f"the file {name} has {found} bytes instead of {size}",
                f"die Datei {name} hat {found} Bytes statt {size}",
            )
        elif hashes and digest(path) != name:
            yield t(f"the file {name} has another content", f"die Datei {name} hat einen anderen Inhalt")


def check_media(data_dir: Path, connection: sqlite3.Connection, hashes: bool) -> Iterator[str]:
    """What is wrong with the media of a data folder."""
    yield from _check_media(data_dir / "media" / "files", connection, hashes)


def digest(path: Path) -> str:
    """The SHA-256 of a file in hex."""
    found = sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
    return found.hexdigest()
