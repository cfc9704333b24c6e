"""doctor: what lies in the data folder, and backups of it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from heichat_appliance.admin import backups
from heichat_appliance.admin.client import NotRunning, Refused
from heichat_appliance.admin.findings import FAIL, OK, WARN, Finding, Patient
from heichat_appliance.admin.language import t
from heichat_appliance.admin.releases import Releases
from heichat_appliance.admin.show import size
from heichat_appliance.config import Settings
from heichat_appliance.db import invariants
from heichat_appliance.db.database import DATABASE, RESTORING
from heichat_appliance.http.element_web import folder_of
from heichat_appliance.services.signing import load_signer

#: Milliseconds of a commit: beyond these people notice.
SLOW_COMMIT, SLOWEST_COMMIT = 20.0, 500.0
#: Commits that are measured.
COMMITS = 20
#: Bytes of the write-ahead log: it should be cut off long before.
LARGE_WAL = 256 * 2**20
#: Hours after which a backup is old.
OLD_BACKUP = 48
#: Days after which there surely is a newer release of Element, which mends what strangers may use.
OLD_ELEMENT = 90


def permissions(patient: Patient) -> Iterator[Finding]:
    """Secrets must be readable by the daemon's user alone."""
    data_dir = patient.call.data_dir
    found = [path for path in (data_dir, *_secret_files(patient)) if path.exists() and path.stat().st_mode & 0o007]
    for path in found:
        yield Finding(
            FAIL,
            "permissions",
            t(f"everybody on this machine may read {path}", f"{path} dürfen alle auf diesem Rechner lesen"),
            f"chmod o= {path}",
        )
    if not found:
        yield Finding(OK, "permissions", t("secrets are closed to others", "Geheimnisse sind für andere verschlossen"))


def _secret_files(patient: Patient) -> Iterator[Path]:
    data_dir = patient.call.data_dir
    yield from (data_dir / name for name in (DATABASE, "signing.key", "consent.key", "calls.secret"))
    for section in patient.config.sections.values():
        yield from _named_secrets(section)
    ldap = patient.config.sections.get("ldap_identity")
    if ldap is not None and ldap.bind_password:
        yield Path(patient.config.source)


def _named_secrets(section: Settings) -> Iterator[Path]:
    for key, value in section.items():
        if isinstance(value, Path) and key.endswith(("_secret_file", "_password_file", "private_key")):
            yield value


def database(patient: Patient) -> Iterator[Finding]:
    """Integrity and invariants, for as long as there is time; the size of the log."""
    data_dir = patient.call.data_dir
    if (data_dir / RESTORING).exists():
        yield Finding(
            FAIL,
            "database",
            t("a restore was cut off", "eine Wiederherstellung wurde abgebrochen"),
            t("heichat-admin restore again", "noch einmal heichat-admin restore"),
        )
        return
    if not (data_dir / DATABASE).exists() or not (data_dir / "signing.key").exists():
        yield Finding(
            FAIL,
            "database",
            t(
                f"there is no database, or no signing key, in {data_dir}",
                f"in {data_dir} ist keine Datenbank oder kein Signaturschlüssel",
            ),
            t(
                "start the daemon once, or restore a backup",
                "den Dienst einmal starten oder eine Sicherung zurückspielen",
            ),
        )
        return
    count = size((data_dir / DATABASE).stat().st_size)
    problems, whole = _problems(patient)
    for problem in problems:
        yield Finding(
            FAIL,
            "database",
            problem,
            t(
                "stop the daemon, keep a copy of the data folder, restore a backup",
                "den Dienst stoppen, den Datenordner kopieren, eine Sicherung zurückspielen",
            ),
        )
    if not problems and whole:
        yield Finding(OK, "database", t(f"whole ({count})", f"heil ({count})"))
    elif not problems:
        yield Finding(
            OK,
            "database",
            t(
                f"nothing wrong found in {patient.seconds:.0f} s ({count}); `verify` looks at all of it",
                f"in {patient.seconds:.0f} s nichts gefunden ({count}); ganz prüft `verify`",
            ),
        )
    log = data_dir / f"{DATABASE}-wal"
    if log.exists() and log.stat().st_size > LARGE_WAL:
        yield Finding(
            WARN,
            "database",
            t(f"its log has {size(log.stat().st_size)}", f"ihr Log hat {size(log.stat().st_size)}"),
            t("does a program hold the database open? (lsof)", "hält ein Programm die Datenbank offen? (lsof)"),
        )


def _problems(patient: Patient) -> tuple[list[str], bool]:
    """What is wrong, and whether everything was looked at in the time that there is."""
    name, data_dir = patient.config["server"].name, patient.call.data_dir
    until = time.monotonic() + patient.seconds
    found: list[str] = []
    with patient.call.database() as connection:
        connection.set_progress_handler(lambda: int(time.monotonic() > until), 10_000)
        try:
            connection.execute("BEGIN")
            for problems in invariants.groups(connection.execute, name, load_signer(data_dir, name).verify_keys):
                found += problems
                if time.monotonic() > until:
                    return found, False
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                return found, False
            found.append(str(error))
        except (sqlite3.DatabaseError, ValueError) as error:
            found.append(str(error))
    return found, True


def commits(patient: Patient) -> Iterator[Finding]:
    """How long the daemon waits for the disk."""
    if patient.status is None:
        return
    try:
        answer = patient.call.daemon.post("/commits", {"count": COMMITS}, seconds=30)
    except (NotRunning, Refused) as error:
        yield Finding(
            FAIL,
            "commits",
            t(f"writing failed: {error}", f"das Schreiben schlug fehl: {error}"),
            "df -h; journalctl -u heichat -n 50",
        )
        return
    taken = sorted(answer["ms"])
    middle, worst = taken[len(taken) // 2], taken[-1]
    text = t(
        f"a commit takes {middle:.2f} ms, at worst {worst:.2f} (of {len(taken)}, durability {answer['durability']})",
        f"ein Commit dauert {middle:.2f} ms, höchstens {worst:.2f} (von {len(taken)}, durability {answer['durability']})",
    )
    if middle > SLOW_COMMIT or worst > SLOWEST_COMMIT:
        yield Finding(
            WARN,
            "commits",
            text,
            t(
                "a faster disk (SSD), or less that writes to it beside",
                "eine schnellere Platte (SSD) oder weniger, das nebenher schreibt",
            ),
        )
    else:
        yield Finding(OK, "commits", text)


def backup(patient: Patient) -> Iterator[Finding]:
    """When the last one was made, and whether it is still there."""
    step = "heichat-admin backup /var/backups/heichat --keep 14"
    try:
        note = json.loads((patient.call.data_dir / backups.LAST).read_text())
        path, hours = Path(note["path"]), (time.time() - float(note["created"])) / 3600
    except (OSError, ValueError, KeyError, TypeError):
        yield Finding(WARN, "backup", t("there never was one", "es gab noch keine"), step)
        return
    text = t(f"the last one is {hours:.0f} hours old: {path}", f"die letzte ist {hours:.0f} Stunden alt: {path}")
    if hours > OLD_BACKUP:
        yield Finding(WARN, "backup", text, step)
    elif not _exists(path):
        yield Finding(
            WARN,
            "backup",
            text + t(" (not there any more)", " (nicht mehr dort)"),
            t("see that it was copied elsewhere", "sehen, ob sie anderswo liegt"),
        )
    else:
        yield Finding(OK, "backup", text)


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except PermissionError:
        return True  # somewhere where we can't look
    except OSError:
        return False
    return True


def element(patient: Patient) -> Iterator[Finding]:
    """The web client, as it was installed. Whether there is a newer release nobody can tell without asking elsewhere."""
    releases = Releases(folder_of(patient.config))
    install = "heichat-admin element install"
    current = releases.current()
    if current is None:
        yield Finding(
            WARN,
            "element",
            t("there is no web client: people need an app", "es gibt keine Weboberfläche: man braucht eine App"),
            install,
        )
        return
    record = releases.record(current)
    if record is None:
        yield Finding(
            OK,
            "element",
            t(f"Element Web in {current}, of unknown version", f"Element Web in {current}, Version unbekannt"),
        )
        return
    days = (datetime.now(UTC) - datetime.fromisoformat(record.installed).astimezone(UTC)).days
    text = t(
        f"Element Web {record.version}, installed {days} days ago",
        f"Element Web {record.version}, vor {days} Tagen installiert",
    )
    if not releases.is_whole(current, record):
        damaged = t(", but files are missing or have changed", ", aber Dateien fehlen oder haben sich geändert")
        yield Finding(FAIL, "element", text + damaged, install)
    elif days > OLD_ELEMENT:
        step = t(f"look for a newer one: {install}", f"nach einer neueren sehen: {install}")
        yield Finding(WARN, "element", text, step)
    else:
        yield Finding(OK, "element", text)
