"""`heichat-admin`: the operator's command."""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from heichat_appliance import __version__
from heichat_appliance.config import Config, ConfigErrors, example, read
from heichat_appliance.db import database, invariants
from heichat_appliance.db.engine import connect
from heichat_appliance.plugins import all_sections, extensions
from heichat_appliance.services.signing import load_signer
from heichat_appliance.store import reports


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0 if all is well, 1 if something is wrong, 2 for a wrong call."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except ConfigErrors as error:
        print("The configuration has errors:", *(f"  - {one}" for one in error.errors), sep="\n", file=sys.stderr)
        return 1
    except database.DatabaseRefused as error:
        print(str(error), file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="heichat-admin", description="Looks after a heiCHAT server.")
    parser.add_argument(
        "--config", default=os.environ.get("HEICHAT_CONFIG"), help="the configuration file (or HEICHAT_CONFIG)"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("version", _version, "print the version"),
        ("example-config", _example_config, "print config.example.ini: every key with its explanation"),
        ("check-config", _check_config, "read the configuration and report every error at once"),
        ("verify", _verify, "check every room's history, signatures and all invariants of the database"),
        ("reports", _reports, "list what people reported: events, rooms and people"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        if run is _reports:
            command.add_argument("--limit", type=int, default=50, help="how many, the newest first (default 50)")
    return parser


def _version(_: argparse.Namespace) -> int:
    print(f"heiCHAT {__version__}")
    return 0


def _example_config(_: argparse.Namespace) -> int:
    print(example(all_sections()), end="")
    return 0


def _config(options: argparse.Namespace) -> Config:
    if not options.config:
        raise ConfigErrors(["no configuration is named (hint: --config FILE)"])
    return read(Path(options.config), all_sections())


def _check_config(options: argparse.Namespace) -> int:
    config = _config(options)
    known = extensions()
    unknown = [name for name in config["plugins"].enabled if name not in known]
    if unknown:
        raise ConfigErrors([f"[plugins] enabled names {name}, which is not installed" for name in unknown])
    print(f"{config.source} is in order.")
    return 0


def _verify(options: argparse.Namespace) -> int:
    """Reads only, so it may run beside the daemon."""
    server = _config(options)["server"]
    connection = _open(server.data_dir)
    keys = load_signer(server.data_dir, server.name).verify_keys
    problems = invariants.check(connection.execute, server.name, keys)
    connection.close()
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problems found." if problems else "Everything is whole.")
    return 1 if problems else 0


def _reports(options: argparse.Namespace) -> int:
    """Reads only, so it may run beside the daemon."""
    connection = _open(_config(options)["server"].data_dir)
    found = reports.newest(connection.execute, max(0, options.limit))
    connection.close()
    for report in found:
        when = datetime.fromtimestamp(report.ts / 1000).astimezone().isoformat(" ", "seconds")
        what = " ".join(part for part in (report.user_id, report.room_id, report.event_id) if part)
        # What people write is shown as one line: control characters could deceive whoever reads it.
        print(f"{when}  {report.reporter}  {what}  {json.dumps(report.reason, ensure_ascii=False)}")
    print(f"{len(found)} reports.")
    return 0


def _open(data_dir: Path) -> sqlite3.Connection:
    path = data_dir / database.DATABASE
    if not path.exists():
        raise ConfigErrors([f"[server] data_dir: there is no database in {data_dir} (hint: start the server)"])
    return connect(path, read_only=True)


if __name__ == "__main__":
    sys.exit(main())
