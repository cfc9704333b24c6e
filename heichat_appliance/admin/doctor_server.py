"""doctor: the configuration, the daemon and the machine."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from heichat_appliance import __version__
from heichat_appliance.admin import checkconfig
from heichat_appliance.admin.findings import FAIL, OK, WARN, Finding, Patient
from heichat_appliance.admin.language import t
from heichat_appliance.admin.show import size
from heichat_appliance.db.database import DATABASE
from heichat_appliance.store import administration

#: Below so many free bytes writing will soon fail; below this part it is worth a word.
LEAST_FREE, LITTLE_FREE = 2**29, 0.1
#: Seconds by which a clock may jump.
JUMP = 5.0


def configuration(patient: Patient) -> Iterator[Finding]:
    """It could be read, or we would not be here; what it says may still be unwise."""
    config = patient.config
    wrong = [*checkconfig.plugins(config), *checkconfig.relay(config)]
    for one in wrong:
        step = t("mend it: the daemon would not start", "berichtigen: der Dienst würde nicht starten")
        yield Finding(FAIL, "configuration", one, step)
    if not wrong:
        yield Finding(OK, "configuration", t(f"{config.source} is in order", f"{config.source} ist in Ordnung"))
    enabled = config["plugins"].enabled
    if "demo_directory" in enabled:
        yield Finding(
            WARN,
            "configuration",
            t(
                "demo people can log in, with passwords that everybody knows",
                "Demo-Personen können sich anmelden, mit Passwörtern, die alle kennen",
            ),
            t(
                "[plugins] enabled: ldap_identity instead of demo_directory",
                "[plugins] enabled: ldap_identity statt demo_directory",
            ),
        )
    if "terms_consent" not in enabled or config["terms_consent"].documents is None:
        yield Finding(
            WARN,
            "configuration",
            t(
                "nobody is asked to agree to terms of your own",
                "niemand wird um Zustimmung zu eigenen Nutzungsbedingungen gebeten",
            ),
            t(
                "enable the plugin terms_consent and set [terms_consent] documents",
                "das Plugin terms_consent einschalten und [terms_consent] documents setzen",
            ),
        )


def daemon(patient: Patient) -> Iterator[Finding]:
    """It runs, answers, and is of this version."""
    status = patient.status
    if status is None:
        yield Finding(FAIL, "daemon", patient.silence, "systemctl start heichat; journalctl -u heichat -n 50")
        return
    running = timedelta(seconds=int(status["running_seconds"]))
    yield Finding(
        OK,
        "daemon",
        t(
            f"has run for {running} (process {status['pid']}), {status['connections']} connections",
            f"läuft seit {running} (Prozess {status['pid']}), {status['connections']} Verbindungen",
        ),
    )
    if status["version"] != __version__:
        yield Finding(
            WARN,
            "daemon",
            t(
                f"it has the version {status['version']}, this command {__version__}",
                f"er hat die Version {status['version']}, dieser Befehl {__version__}",
            ),
            "systemctl restart heichat",
        )
    if status["commit_failures"]:
        count = status["commit_failures"]
        yield Finding(
            FAIL,
            "daemon",
            t(
                f"{count} times the database could not be written since the start",
                f"seit dem Start konnte {count}-mal nicht in die Datenbank geschrieben werden",
            ),
            t(
                "look for the reason: journalctl -u heichat (a full disk?)",
                "den Grund suchen: journalctl -u heichat (Platte voll?)",
            ),
        )


def limits(patient: Patient) -> Iterator[Finding]:
    """File descriptors (each client in a long poll holds one) and memory."""
    status = patient.status
    if status is not None:
        used, limit = status["files_open"], status["files_limit"]
        text = t(f"{used} of {limit} file descriptors in use", f"{used} von {limit} Dateideskriptoren belegt")
        if used > limit * 0.7 or limit < 4096:
            yield Finding(
                FAIL if used > limit * 0.9 else WARN, "limits", text, "LimitNOFILE=65536 (systemctl edit heichat)"
            )
        else:
            yield Finding(OK, "limits", text)
    memory = {
        name: int(rest.split()[0]) * 1024
        for name, _, rest in (line.partition(":") for line in Path("/proc/meminfo").read_text().splitlines())
    }
    free, total = memory["MemAvailable"], memory["MemTotal"]
    used_here = (
        t(f", the daemon has {size(status['memory'])}", f", der Dienst hat {size(status['memory'])}") if status else ""
    )
    text = t(f"{size(free)} of {size(total)} memory free", f"{size(free)} von {size(total)} Speicher frei") + used_here
    if free < total * 0.1:
        yield Finding(
            WARN,
            "limits",
            text,
            t(
                "give the machine more memory, or see what else takes it",
                "mehr Speicher geben oder sehen, was ihn sonst belegt",
            ),
        )
    else:
        yield Finding(OK, "limits", text)


def disk(patient: Patient) -> Iterator[Finding]:
    """Room for the database and the media."""
    data_dir = patient.call.data_dir
    folders = {path.stat().st_dev: path for path in (data_dir / "media", data_dir) if path.exists()}
    if not folders:
        yield Finding(
            FAIL,
            "disk",
            t(f"the data folder {data_dir} does not exist", f"den Datenordner {data_dir} gibt es nicht"),
            t("[server] data_dir; start the daemon once", "[server] data_dir; den Dienst einmal starten"),
        )
    for path in folders.values():
        usage, nodes = shutil.disk_usage(path), os.statvfs(path)
        text = t(
            f"{size(usage.free)} of {size(usage.total)} free at {path}",
            f"{size(usage.free)} von {size(usage.total)} frei bei {path}",
        )
        few_nodes = nodes.f_files > 0 and nodes.f_favail < nodes.f_files * 0.05
        if usage.free < LEAST_FREE or (few_nodes and nodes.f_favail < 1000):
            level = FAIL
        else:
            level = WARN if usage.free < usage.total * LITTLE_FREE or few_nodes else OK
        step = t(
            "make the disk larger, or remove files (heichat-admin media list) and what a restore kept "
            "(before-restore-… in the data folder)",
            "die Platte vergrößern oder Dateien entfernen (heichat-admin media list) und was ein restore aufhob "
            "(before-restore-… im Datenordner)",
        )
        yield Finding(
            level,
            "disk",
            text + (t(", few inodes", ", wenige Inodes") if few_nodes else ""),
            "" if level == OK else step,
        )


def clock(patient: Patient) -> Iterator[Finding]:
    """Whether the system says that its clock is synchronised, and whether it jumped. That it is right nobody here knows."""
    synchronised = _synchronised()
    if synchronised is None:
        yield Finding(
            OK,
            "clock",
            t(
                "the system does not tell whether its clock is synchronised",
                "das System sagt nicht, ob seine Uhr abgeglichen wird",
            ),
        )
    elif synchronised:
        yield Finding(OK, "clock", t("synchronised, says the system", "abgeglichen, sagt das System"))
    else:
        yield Finding(
            WARN,
            "clock",
            t("not synchronised with a time server", "mit keinem Zeitserver abgeglichen"),
            "apt install systemd-timesyncd; timedatectl set-ntp true",
        )
    status = patient.status
    if status is not None and abs(status["clock_jump"]) > JUMP:
        jump = status["clock_jump"]
        yield Finding(
            WARN,
            "clock",
            t(
                f"it was set by {jump:+.0f} s since the daemon started",
                f"sie wurde seit dem Start des Dienstes um {jump:+.0f} s verstellt",
            ),
            t("see what sets it", "sehen, was sie verstellt"),
        )
    newest = _newest_event(patient)
    if newest is not None and newest > time.time() * 1000 + JUMP * 1000:
        ahead = newest / 1000 - time.time()
        yield Finding(
            FAIL,
            "clock",
            t(
                f"the newest message is {ahead:.0f} s ahead of it: it went back",
                f"die neueste Nachricht ist ihr {ahead:.0f} s voraus: sie ging zurück",
            ),
            t("set it right", "sie richtig stellen"),
        )


def _synchronised() -> bool | None:
    """The kernel's word (adjtimex(2) in a mode that only reads); in a sandbox that of timedatectl."""

    class Timex(ctypes.Structure):
        _fields_ = [("modes", ctypes.c_uint), ("rest", ctypes.c_byte * 1020)]

    libc = ctypes.CDLL(None, use_errno=True)
    state = libc.adjtimex(ctypes.byref(Timex()))
    if state >= 0:
        return bool(state != 5)  # TIME_ERROR: the clock is not synchronised
    if ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
        return None
    try:
        command = ["timedatectl", "show", "--property=NTPSynchronized", "--value"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(said)


def _newest_event(patient: Patient) -> int | None:
    if not (patient.call.data_dir / DATABASE).exists():
        return None
    with patient.call.database() as connection:
        return administration.newest_event_ts(connection.execute)
