"""version, example-config, check-config, verify and reports."""

from __future__ import annotations

import json
from datetime import datetime

from heichat_appliance import __version__
from heichat_appliance.admin.command import Call, Commands
from heichat_appliance.admin.language import t
from heichat_appliance.config import ConfigErrors, example
from heichat_appliance.db import invariants
from heichat_appliance.plugins import all_sections, extensions
from heichat_appliance.services.signing import load_signer
from heichat_appliance.store import reports


def register(commands: Commands) -> None:
    """The commands of this module."""
    commands.add("version", _version, en="print the version", de="die Version nennen")
    commands.add(
        "example-config",
        _example_config,
        en="print config.example.ini: every key with its explanation",
        de="config.example.ini ausgeben: jeder Schlüssel mit seiner Erklärung",
    )
    commands.add(
        "check-config",
        _check_config,
        en="read the configuration and report every error at once",
        de="die Konfiguration lesen und alle Fehler auf einmal nennen",
    )
    commands.add(
        "verify",
        _verify,
        en="check every room's history, signatures and all invariants of the database",
        de="die Geschichte jedes Raums, Signaturen und alle Invarianten der Datenbank prüfen",
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


def _version(_: Call) -> int:
    print(f"heiCHAT {__version__}")
    return 0


def _example_config(_: Call) -> int:
    print(example(all_sections()), end="")
    return 0


def _check_config(call: Call) -> int:
    known = extensions()
    unknown = [name for name in call.config["plugins"].enabled if name not in known]
    if unknown:
        raise ConfigErrors([f"[plugins] enabled names {name}, which is not installed" for name in unknown])
    print(t(f"{call.config.source} is in order.", f"{call.config.source} ist in Ordnung."))
    return 0


def _verify(call: Call) -> int:
    """Reads only, so it may run beside the daemon."""
    server = call.config["server"]
    with call.database() as connection:
        keys = load_signer(server.data_dir, server.name).verify_keys
        problems = invariants.check(connection.execute, server.name, keys)
    for problem in problems:
        print(problem)
    count = len(problems)
    print(t(f"{count} problems found.", f"{count} Fehler gefunden.") if problems
          else t("Everything is whole.", "Alles ist heil."))  # fmt: skip
    return 1 if problems else 0


def _reports(call: Call) -> int:
    """Reads only, so it may run beside the daemon."""
    with call.database() as connection:
        found = reports.newest(connection.execute, max(0, call.options.limit))
    for report in found:
        when = datetime.fromtimestamp(report.ts / 1000).astimezone().isoformat(" ", "seconds")
        what = " ".join(part for part in (report.user_id, report.room_id, report.event_id) if part)
        # What people write is shown as one line: control characters could deceive whoever reads it.
        print(f"{when}  {report.reporter}  {what}  {json.dumps(report.reason, ensure_ascii=False)}")
    print(t(f"{len(found)} reports.", f"{len(found)} Meldungen."))
    return 0
