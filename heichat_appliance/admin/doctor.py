"""`heichat-admin doctor`: whether all is well, line by line, each with the next step."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Iterator
from dataclasses import asdict

from heichat_appliance.admin import doctor_calls, doctor_data, doctor_network, doctor_server
from heichat_appliance.admin.command import Call, Commands, Trouble
from heichat_appliance.admin.findings import FAIL, OK, WARN, Check, Finding, Patient
from heichat_appliance.admin.language import t
from heichat_appliance.config import ConfigErrors

#: What is looked at, in this order.
CHECKS: dict[str, Check] = {
    "configuration": doctor_server.configuration,
    "permissions": doctor_data.permissions,
    "daemon": doctor_server.daemon,
    "limits": doctor_server.limits,
    "disk": doctor_server.disk,
    "clock": doctor_server.clock,
    "database": doctor_data.database,
    "commits": doctor_data.commits,
    "directory": doctor_network.directory,
    "tls": doctor_network.tls,
    "public": doctor_network.public,
    "calls": doctor_calls.calls,
    "element": doctor_data.element,
    "backup": doctor_data.backup,
}
_COLOURS = {OK: "\33[32m", WARN: "\33[33m", FAIL: "\33[31m"}


def register(commands: Commands) -> None:
    """The command of this module."""
    names = ", ".join(CHECKS)
    doctor = commands.add(
        "doctor",
        _doctor,
        en="examine everything, and say for each thing OK, WARN or FAIL, with the next step",
        de="alles untersuchen und zu jeder Sache OK, WARN oder FAIL sagen, mit dem nächsten Schritt",
        more_en="It really tries things: binds to the directory and searches, connects to the public address, asks the relay for "
        "what it must give and for what it must refuse, has the daemon write to the disk. It changes nothing.\n\n"
        "Exit status, for cron: 0 if nothing is FAIL, 1 otherwise; with --strict WARN counts, too.\n\n"
        f"The checks: {names}.",
        more_de="Es probiert die Dinge wirklich aus: meldet sich am Verzeichnis an und sucht, verbindet sich mit der "
        "öffentlichen Adresse, bittet das Relay um das, was es geben, und das, was es verweigern muss, und lässt den "
        "Dienst auf die Platte schreiben. Es ändert nichts.\n\n"
        "Rückgabewert, für cron: 0, wenn nichts FAIL ist, sonst 1; mit --strict zählt auch WARN.\n\n"
        f"Die Untersuchungen: {names}.",
        examples="doctor\ndoctor --json\ndoctor --only directory calls\ndoctor --quiet --strict",
    )
    doctor.add_argument("--json", action="store_true", help=t("for programs", "für Programme"))
    doctor.add_argument("--quiet", action="store_true", help=t("say nothing of what is OK", "nichts sagen, was OK ist"))
    doctor.add_argument(
        "--strict", action="store_true", help=t("exit status 1 for WARN, too", "Rückgabewert 1 auch bei WARN")
    )
    doctor.add_argument(
        "--only",
        nargs="+",
        choices=tuple(CHECKS),
        metavar="CHECK",
        help=t("only these checks", "nur diese Untersuchungen"),
    )
    doctor.add_argument(
        "--ca-file",
        metavar=t("FILE", "DATEI"),
        help=t(
            "authorities to trust for the public address (PEM)",
            "Zertifizierungsstellen für die öffentliche Adresse (PEM)",
        ),
    )
    doctor.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        help=t("how long the database is checked (default 20)", "wie lange die Datenbank geprüft wird (sonst 20)"),
    )


def _doctor(call: Call) -> int:
    options = call.options
    _check_authorities(options.ca_file)
    found = []
    for finding in _findings(call):
        found.append(finding)
        if not options.json and not (options.quiet and finding.level == OK):
            _print(finding)
    worst = {one.level for one in found}
    if options.json:
        print(
            json.dumps(
                {"level": _worst(worst), "findings": [asdict(one) for one in found]}, ensure_ascii=False, indent=1
            )
        )
    return int(FAIL in worst or (options.strict and WARN in worst))


def _check_authorities(ca_file: str | None) -> None:
    try:
        ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise Trouble(f"--ca-file {ca_file}: {error.strerror or error}") from None


def _worst(levels: set[str]) -> str:
    return next((level for level in (FAIL, WARN) if level in levels), OK)


def _findings(call: Call) -> Iterator[Finding]:
    try:
        patient = Patient(call, call.options.ca_file, call.options.seconds)
    except ConfigErrors as error:
        for one in error.errors:
            yield Finding(FAIL, "configuration", one, "heichat-admin check-config")
        return
    for name in call.options.only or CHECKS:
        try:
            yield from CHECKS[name](patient)
        except Exception as error:
            yield Finding(
                FAIL,
                name,
                t(
                    f"the examination itself failed: {type(error).__name__}: {error}",
                    f"die Untersuchung selbst schlug fehl: {type(error).__name__}: {error}",
                ),
                t("tell the makers of heiCHAT", "bitte den Entwicklern von heiCHAT melden"),
            )


def _print(finding: Finding) -> None:
    level = finding.level.ljust(4)
    if sys.stdout.isatty():
        level = f"{_COLOURS[finding.level]}{level}\33[0m"
    print(f"{level}  {finding.check.ljust(13)}  {finding.text}")
    if finding.step:
        print(f"{' ' * 21}-> {finding.step}")
