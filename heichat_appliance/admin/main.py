"""`heichat-admin`: the operator's command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from heichat_appliance import __version__
from heichat_appliance.config import Config, ConfigErrors, example, read
from heichat_appliance.db import database, invariants
from heichat_appliance.db.engine import connect
from heichat_appliance.plugins import all_sections, extensions
from heichat_appliance.services.signing import load_signer


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
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
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
    config = _config(options)
    server = config["server"]
    if not (server.data_dir / database.DATABASE).exists():
        raise ConfigErrors([f"[server] data_dir: there is no database in {server.data_dir} (hint: start the server)"])
    keys = load_signer(server.data_dir, server.name).verify_keys
    connection = connect(server.data_dir / database.DATABASE, read_only=True)
    problems = invariants.check(connection.execute, server.name, keys)
    connection.close()
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problems found." if problems else "Everything is whole.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
