"""`heichat-admin restore`: put a backup in the place of the data, while the daemon is stopped.

Everything happens inside the data folder, under its lock: the backup is copied into `.restore-…/`, then what is there moves into
`before-restore-…/`, then the copy moves up. While things move a marker lies in the folder, and no daemon starts over it;
whoever was cut off starts the restore again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from heichat_appliance.admin import backups
from heichat_appliance.admin.command import Call, Commands, Trouble
from heichat_appliance.admin.language import t
from heichat_appliance.admin.owner import give_to_owner_of
from heichat_appliance.admin.show import size
from heichat_appliance.db import copies, database
from heichat_appliance.db.engine import connect
from heichat_appliance.http.element_web import HOME as ELEMENT

_STAGED, _ASIDE = ".restore-", "before-restore-"


def register(commands: Commands) -> None:
    """The commands of this module."""
    restore = commands.add(
        "restore",
        _restore,
        en="put a backup in the place of the data (the daemon must be stopped)",
        de="eine Sicherung an die Stelle der Daten setzen (der Dienst muss gestoppt sein)",
        more_en="The backup is checked first. What is in the data folder stays in it, as before-restore-…, until you delete "
        "it. "
        "Clients go on by themselves: they fetch everything anew once. What happened after the backup is lost, "
        "including logouts: sessions that were ended since are alive again, and people who logged in since log in again.",
        more_de="Zuerst wird die Sicherung geprüft. Was im Datenordner liegt, bleibt darin als before-restore-…, bis Sie es "
        "löschen. "
        "Die Programme der Nutzenden machen von selbst weiter: sie holen einmal alles neu. Was nach der Sicherung geschah, ist "
        "verloren, auch Abmeldungen: seither beendete Sitzungen leben wieder; wer sich seither angemeldet hat, tut es erneut.",
        examples="restore /var/backups/heichat/heichat-chat.example.org-20261124T031500Z",
    )
    restore.add_argument(
        "backup",
        type=Path,
        metavar=t("BACKUP", "SICHERUNG"),
        help=t("a folder or .tar that backup made", "ein Ordner oder .tar von backup"),
    )
    restore.add_argument(
        "--quick",
        action="store_true",
        help=t("do not check every room's history first", "nicht zuerst die Geschichte jedes Raums prüfen"),
    )


def _restore(call: Call) -> int:
    data_dir = call.data_dir
    is_new = not data_dir.exists()
    try:
        lock = database.FolderLock(data_dir)
    except database.DatabaseRefused:
        raise Trouble(
            t(
                "the daemon runs; stop it first (hint: systemctl stop heichat)",
                "der Dienst läuft; bitte zuerst stoppen (Hinweis: systemctl stop heichat)",
            )
        ) from None
    try:
        with _unpacked(call.options.backup, data_dir) as folder:
            manifest = _check(folder, call)
            _check_space(folder, data_dir)
            staged, epoch = _stage(folder, manifest, call)
        aside = _exchange(data_dir, staged)
    except (OSError, sqlite3.Error) as error:
        raise Trouble(t(f"the restore failed: {error}", f"die Wiederherstellung schlug fehl: {error}")) from None
    finally:
        lock.release()
        give_to_owner_of(data_dir, data_dir / "heichat.lock")
    print(t(f"{data_dir} is as it was on {manifest['created']} (epoch {epoch}).",
            f"{data_dir} ist wieder auf dem Stand vom {manifest['created']} (Epoche {epoch})."))  # fmt: skip
    if aside is not None:
        print(t(f"What was there before lies in {aside}.", f"Was vorher dort war, liegt in {aside}."))
    if is_new:
        print(t(f"{data_dir} is new: see that it belongs to the daemon's user.",
                f"{data_dir} ist neu: bitte dem Benutzer des Dienstes geben."))  # fmt: skip
    print(t("Now start the daemon: systemctl start heichat", "Nun den Dienst starten: systemctl start heichat"))
    return 0


@contextmanager
def _unpacked(backup: Path, data_dir: Path) -> Iterator[Path]:
    """The backup as a folder; a .tar is unpacked in the data folder."""
    if backup.is_dir():
        yield backup
        return
    with TemporaryDirectory(dir=data_dir, prefix=".unpacked-") as folder:
        try:
            with tarfile.open(backup) as archive:
                _extract(archive, folder)
        except (OSError, tarfile.TarError) as error:
            raise Trouble(t(f"{backup} is no backup: {error}", f"{backup} ist keine Sicherung: {error}")) from None
        found = [path for path in Path(folder).iterdir() if (path / backups.MANIFEST).is_file()]
        if len(found) != 1:
            raise Trouble(t(f"{backup} is no backup", f"{backup} ist keine Sicherung"))
        yield found[0]


def _extract(archive: tarfile.TarFile, folder: str) -> None:
    """Unpack plain files and folders; TarError for anything else, and for what would land elsewhere.

    Checked here, since Debian 12's Python has no `filter` of PEP 706; where there is one it is used as well.
    """
    archive.extraction_filter = getattr(tarfile, "data_filter", None)
    for member in archive:
        name = PurePosixPath(member.name)
        if not (member.isfile() or member.isdir()) or name.is_absolute() or ".." in name.parts:
            raise tarfile.TarError(f"{member.name!r} is not a file inside of it")
        archive.extract(member, folder, set_attrs=False)


def _check(folder: Path, call: Call) -> dict[str, object]:
    server_name = call.config["server"].name
    try:
        manifest = backups.manifest_of(folder)
        problems = list(backups.check(folder, histories=not call.options.quick, hashes=True))
    except ValueError as error:
        raise Trouble(str(error)) from None
    if problems:
        raise Trouble("\n".join((t("The backup is not sound:", "Die Sicherung ist nicht in Ordnung:"), *problems)))
    connection = connect(folder / database.DATABASE, read_only=True)
    try:
        database.refuse_misfits(connection, folder / database.DATABASE, server_name)
    finally:
        connection.close()
    return manifest


def _check_space(folder: Path, data_dir: Path) -> None:
    """What is there stays, so there must be room for the backup beside it."""
    needed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(data_dir).free
    if free < needed * 1.05:
        raise Trouble(
            t(
                f"{data_dir} has {size(free)} free, but the backup needs {size(needed)} beside what is there",
                f"in {data_dir} sind {size(free)} frei, die Sicherung braucht neben dem Vorhandenen {size(needed)}",
            )
        )


def _stage(folder: Path, manifest: dict[str, object], call: Call) -> tuple[Path, int]:
    """Copy the backup into the data folder, and begin a new epoch; the folder and the epoch."""
    data_dir = call.data_dir
    for left in data_dir.glob(f"{_STAGED}*"):
        shutil.rmtree(left)
    staged = data_dir / f"{_STAGED}{_stamp()}"
    staged.mkdir(mode=0o700)
    try:
        return staged, _fill(folder, manifest, staged, data_dir)
    except BaseException:
        shutil.rmtree(staged)
        raise


def _fill(folder: Path, manifest: dict[str, object], staged: Path, data_dir: Path) -> int:
    files: dict[str, str] = manifest["files"]  # type: ignore[assignment]
    for name in files:
        if name != backups.CONFIG:
            shutil.copyfile(folder / name, staged / name)
            (staged / name).chmod(0o600)
    shutil.copytree(folder / "media", staged / "media")
    epoch = _new_epoch(staged / database.DATABASE, data_dir / database.DATABASE)
    copies.begin_epoch(staged / database.DATABASE, epoch)
    for path in (*staged.rglob("*"), staged):
        database.sync(path)
    give_to_owner_of(data_dir, staged)
    return epoch


def _new_epoch(restored: Path, present: Path) -> int:
    """Higher than every epoch that clients may have tokens of, also when the same backup is restored twice, or onto
    another machine: hence at least the minutes since 1970."""
    known = [int(copies.facts(restored)["epoch"])]
    try:
        if present.exists():
            known.append(int(copies.facts(present)["epoch"]))
    except (sqlite3.Error, KeyError, ValueError):
        pass  # what is there is damaged: that is why there is a restore
    return max(max(known) + 1, int(time.time() / 60))


def _exchange(data_dir: Path, staged: Path) -> Path | None:
    """Move what is there aside and the staged files up; where the former data are now, if there were any."""
    marker = data_dir / database.RESTORING
    marker.unlink(missing_ok=True)  # an earlier restore's
    os.close(os.open(marker, os.O_CREAT | os.O_EXCL, 0o600))
    database.sync(data_dir)
    aside = data_dir / f"{_ASIDE}{_stamp()}"
    old = [path for path in data_dir.iterdir() if not _stays(path, staged, marker)]
    if old:
        aside.mkdir(mode=0o700)
        give_to_owner_of(data_dir, aside)
        for path in old:
            path.rename(aside / path.name)
    for path in staged.iterdir():
        path.rename(data_dir / path.name)
    staged.rmdir()
    database.sync(data_dir)
    marker.unlink()
    database.sync(data_dir)
    return aside if old else None


def _stays(path: Path, staged: Path, marker: Path) -> bool:
    return (
        path in (staged, marker) or path.name in ("heichat.lock", backups.LAST, ELEMENT) or path.name.startswith(_ASIDE)
    )


def _stamp() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
