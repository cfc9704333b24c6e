"""What every command of heichat-admin is made of.

A group of commands is a module with `register(commands)`, which names its commands and options; a command is a function of
a `Call` that returns the exit status: 0 all is well, 1 something is wrong (2, a wrong call, is told by the parser). What can't
be done is raised as `Trouble`, a sentence in the operator's language that says what to do.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from textwrap import fill
from typing import Any, NoReturn

from heichat_appliance.admin.client import DaemonClient
from heichat_appliance.admin.language import t, wrong_call
from heichat_appliance.admin.owner import as_owner_of
from heichat_appliance.config import Config, ConfigErrors, read
from heichat_appliance.db import database
from heichat_appliance.db.engine import connect
from heichat_appliance.ids import user_id_of
from heichat_appliance.plugins import all_sections

#: Where an installed server has its configuration.
DEFAULT_CONFIG = Path("/etc/heichat/heichat.ini")

#: Characters of a line of help.
WIDTH = 100


class Trouble(Exception):
    """What the operator asked for can't be done; the text says why, and what to do, in their language."""


class Call:
    """One call of a command: its `options`, the configuration, and ways to the data."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options

    @cached_property
    def config(self) -> Config:
        """The configuration; raises ConfigErrors."""
        named = self.options.config or os.environ.get("HEICHAT_CONFIG")
        if not named and not DEFAULT_CONFIG.exists():
            raise ConfigErrors(
                [
                    t(
                        "no configuration is named (hint: --config FILE, or the variable HEICHAT_CONFIG)",
                        "keine Konfiguration genannt (Hinweis: --config DATEI oder die Variable HEICHAT_CONFIG)",
                    )
                ]
            )
        return read(Path(named or DEFAULT_CONFIG), all_sections())

    @property
    def data_dir(self) -> Path:
        """The data folder."""
        path: Path = self.config["server"].data_dir
        return path

    @property
    def daemon(self) -> DaemonClient:
        """The running daemon; its methods raise `client.NotRunning` where there is none."""
        return DaemonClient(self.data_dir)

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """A connection that only reads, which may be used beside the daemon. Raises Trouble if there is no database."""
        path = self.data_dir / database.DATABASE
        if not path.exists():
            raise Trouble(
                t(
                    f"[server] data_dir: there is no database in {self.data_dir} (hint: start the server once)",
                    f"[server] data_dir: in {self.data_dir} ist keine Datenbank (Hinweis: den Server einmal starten)",
                )
            )
        with as_owner_of(self.data_dir):
            connection = connect(path, read_only=True)
            try:
                yield connection
            finally:
                connection.close()

    def user_id(self, name: str) -> str:
        """The user ID of what an operator typed: a user ID, or a Uni-ID or localpart of this server."""
        try:
            return name if name.startswith("@") else user_id_of(name, self.config["server"].name)
        except ValueError as error:
            raise Trouble(t(f"{name} is no Uni-ID: {error}", f"{name} ist keine Uni-ID: {error}")) from None


#: What a command does with a call; its exit status.
Run = Callable[[Call], int]


class Commands:
    """The place where a group of commands registers itself."""

    def __init__(self, parser: Parser) -> None:
        self._parsers = parser.add_subparsers(
            required=True, metavar=t("COMMAND", "BEFEHL"), title=t("commands", "Befehle"), parser_class=Parser
        )

    def add(
        self, name: str, run: Run, *, en: str, de: str, more_en: str = "", more_de: str = "", examples: str = ""
    ) -> Parser:
        """A command; options are added to what this returns.

        `en`, `de`: what it does, in one line; `more_…`: further paragraphs of its help; `examples`: lines of calls
        without the program's name.
        """
        parser = self._parser(name, t(en, de), t(more_en, more_de), examples)
        parser.set_defaults(run=run)
        return parser

    def group(
        self, name: str, *, en: str, de: str, more_en: str = "", more_de: str = "", examples: str = ""
    ) -> Commands:
        """A command that has commands of its own, e.g. `users` with `users list`."""
        return Commands(self._parser(name, t(en, de), t(more_en, more_de), examples))

    def _parser(self, name: str, text: str, more: str, examples: str) -> Parser:
        shown = "".join(f"  heichat-admin {line.strip()}\n" for line in examples.strip().splitlines())
        parser: Parser = self._parsers.add_parser(
            name,
            help=text,
            description=_wrapped(f"{text[:1].upper()}{text[1:]}.\n\n{more}"),
            epilog=f"{t('examples', 'Beispiele')}:\n{shown}" if shown else None,
        )
        _add_config(parser, argparse.SUPPRESS)
        return parser


def _wrapped(text: str) -> str:
    """Paragraphs, which blank lines separate, in lines of a terminal's width."""
    return "\n\n".join(fill(" ".join(part.split()), WIDTH) for part in text.split("\n\n") if part.strip())


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Paragraphs stay as written; the word before the usage is the operator's."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=WIDTH)

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, t("usage: ", "Aufruf: ") if prefix is None else prefix)


class Parser(argparse.ArgumentParser):
    """argparse in the operator's language."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, add_help=False, formatter_class=_Formatter, allow_abbrev=False)
        self._positionals.title = t("arguments", "Argumente")
        self._optionals.title = t("options", "Optionen")
        self.add_argument("-h", "--help", action="help", help=t("show this help and end", "diese Hilfe zeigen"))

    def error(self, message: str) -> NoReturn:
        """Exit status 2."""
        hint = t("see", "siehe")
        self.exit(2, f"{self.prog}: {wrong_call(message)}\n({hint}: {self.prog} --help)\n")


def main_parser() -> Parser:
    """The parser without commands."""
    parser = Parser(
        prog="heichat-admin",
        description=_wrapped(
            t(
                "Looks after a heiCHAT server.\n\nExit status: 0 all is well, 1 something is wrong, 2 wrong call. "
                "Speaks German or English by the locale (LC_ALL, LC_MESSAGES, LANG).",
                "Betreut einen heiCHAT-Server.\n\nRückgabewert: 0 alles in Ordnung, 1 etwas stimmt nicht, 2 falscher "
                "Aufruf. Spricht Deutsch oder Englisch je nach Spracheinstellung (LC_ALL, LC_MESSAGES, LANG).",
            )
        ),
    )
    _add_config(parser, None)
    return parser


def _add_config(parser: Parser, default: Any) -> None:
    text = t(
        f"the configuration (otherwise the variable HEICHAT_CONFIG, otherwise {DEFAULT_CONFIG})",
        f"die Konfiguration (sonst die Variable HEICHAT_CONFIG, sonst {DEFAULT_CONFIG})",
    )
    parser.add_argument("--config", metavar=t("FILE", "DATEI"), default=default, help=text)
