"""version, example-config, check-config, verify and reports."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from heichat_appliance import __version__
from heichat_appliance.admin import backups, checkconfig
from heichat_appliance.admin.client import NotRunning
from heichat_appliance.admin.command import Call, Commands
from heichat_appliance.admin.language import count, t
from heichat_appliance.admin.show import plain, rows_as_json, when
from heichat_appliance.config import ConfigErrors, example
from heichat_appliance.db import invariants
from heichat_appliance.plugins import all_sections
from heichat_appliance.services.signing import load_signer
from heichat_appliance.store import events, reports


def register(commands: Commands) -> None:
    """The commands of this module."""
    commands.add(
        "version",
        _version,
        en="print the version of this command and of the daemon",
        de="die Version dieses Befehls und des Dienstes nennen",
    )
    commands.add(
        "example-config",
        _example_config,
        en="print config.example.ini: every key with its explanation",
        de="config.example.ini ausgeben: jeder Schlüssel mit seiner Erklärung",
    )
    commands.add(
        "check-config",
        _check_config,
        en="read the configuration and the files that it names, and report every error at once",
        de="die Konfiguration und die Dateien, die sie nennt, lesen und alle Fehler auf einmal nennen",
    )
    verify = commands.add(
        "verify",
        _verify,
        en="check every room's history, signatures, files and all invariants of the database",
        de="die Geschichte jedes Raums, Signaturen, Dateien und alle Invarianten der Datenbank prüfen",
        more_en="Only reads, so it may run beside the daemon or without it. It takes about a minute for a million events.",
        more_de="Liest nur, darf also neben dem Dienst laufen oder ohne ihn. Für eine Million Ereignisse dauert es etwa eine "
        "Minute.",
        examples="verify\nverify --media\nverify --backup /var/backups/heichat/heichat-chat.example.org-20261124T031500Z",
    )
    verify.add_argument(
        "--media",
        action="store_true",
        help=t("read all files, not only their sizes", "alle Dateien lesen, nicht nur ihre Größen"),
    )
    verify.add_argument(
        "--backup",
        type=Path,
        metavar=t("FOLDER", "ORDNER"),
        help=t("check this backup instead of the data", "diese Sicherung prüfen statt der Daten"),
    )
    listing = commands.add(
        "reports",
        _reports,
        en="list what people reported: events, rooms and people",
        de="auflisten, was gemeldet wurde: Ereignisse, Räume und Personen",
    )
    listing.add_argument(
        "--limit",
        type=int,
        default=50,
        help=t("how many, the newest first (default 50)", "wie viele, die neuesten zuerst (sonst 50)"),
    )
    listing.add_argument("--json", action="store_true", help=t("for programs", "für Programme"))
    listing.add_argument(
        "--text",
        action="store_true",
        help=t(
            "also what reported messages say, where they are not encrypted",
            "auch, was gemeldete Nachrichten sagen, wo sie nicht verschlüsselt sind",
        ),
    )


def _version(call: Call) -> int:
    print(f"heiCHAT {__version__}")
    try:
        running = call.daemon.get("/status", seconds=5)["version"]
    except (ConfigErrors, NotRunning) as error:
        print(t("daemon: ", "Dienst: ") + str(error))
        return 0
    print(t("daemon: ", "Dienst: ") + running)
    if running != __version__:
        print(t("The daemon runs another version than this command (hint: systemctl restart heichat).",
                "Der Dienst hat eine andere Version als dieser Befehl (Hinweis: systemctl restart heichat)."))  # fmt: skip
        return 1
    return 0


def _example_config(_: Call) -> int:
    print(example(all_sections()), end="")
    return 0


def _check_config(call: Call) -> int:
    found = checkconfig.problems(call.config)
    if found:
        raise ConfigErrors(found)
    print(t(f"{call.config.source} is in order.", f"{call.config.source} ist in Ordnung."))
    return 0


def _verify(call: Call) -> int:
    """Reads only, so it may run beside the daemon."""
    if call.options.backup is not None:
        return _tell(list(_verify_backup(call)))
    server = call.config["server"]
    with call.database() as connection:
        try:
            pid = call.daemon.get("/status", seconds=5)["pid"]
            print(t(f"The daemon runs (process {pid}); this looks at its data as they are now.",
                    f"Der Dienst läuft (Prozess {pid}); geprüft wird der Stand seiner Daten von jetzt."))  # fmt: skip
        except NotRunning as reason:
            print(t(f"Without the daemon: {reason}.", f"Ohne den Dienst: {reason}."))
        connection.execute("BEGIN")  # one snapshot for everything
        problems = _signing_key(server.data_dir) or invariants.check(
            connection.execute, server.name, load_signer(server.data_dir, server.name).verify_keys
        )
        problems += backups.check_media(server.data_dir, connection, call.options.media)
    return _tell(problems)


def _signing_key(data_dir: Path) -> list[str]:
    if (data_dir / "signing.key").exists():
        return []
    return [t("signing.key is missing (hint: it is in the backups)",
              "signing.key fehlt (Hinweis: er liegt in den Sicherungen)")]  # fmt: skip


def _verify_backup(call: Call) -> Iterator[str]:
    try:
        yield from backups.check(call.options.backup, hashes=call.options.media)
    except ValueError as error:
        yield str(error)


def _tell(problems: list[str]) -> int:
    for problem in problems:
        print(problem)
    print(
        count(len(problems), "problem|problems", "Fehler|Fehler") + t(" found.", " gefunden.")
        if problems
        else t("Everything is whole.", "Alles ist heil.")
    )
    return 1 if problems else 0


def _reports(call: Call) -> int:
    """Reads only, so it may run beside the daemon."""
    with call.database() as connection:
        found = reports.newest(connection.execute, max(0, call.options.limit))
        texts = [_text(connection, one.event_id) if call.options.text else None for one in found]
    if call.options.json:
        rows_as_json({**report._asdict(), "text": text} for report, text in zip(found, texts, strict=True))
        return 0
    for report, text in zip(found, texts, strict=True):
        what = " ".join(part for part in (report.user_id, report.room_id, report.event_id) if part)
        print(f"{when(report.ts)}  {report.reporter}  {what}  {_quoted(report.reason)}")
        if text is not None:
            print(f"    {_quoted(text)}")
    print(count(len(found), "report|reports", "Meldung|Meldungen") + ".")
    return 0


def _quoted(text: str) -> str:
    """What people write is shown as one line: control characters could deceive whoever reads it."""
    return plain(json.dumps(text, ensure_ascii=False), 10_000)


def _text(connection: sqlite3.Connection, event_id: str | None) -> str | None:
    """What a message says, if it is one and neither encrypted nor redacted."""
    event = events.by_id(connection.execute, event_id) if event_id is not None else None
    body = json.loads(event.pdu)["content"].get("body") if event is not None else None
    return body if isinstance(body, str) else None
