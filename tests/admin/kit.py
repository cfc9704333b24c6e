"""heichat-admin called in this process, on the data of a daemon in another: `Admin(daemon, monkeypatch, capsys)`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from heichat_appliance.admin.main import main
from tests.daemon import Daemon


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as JSON."""
        return json.loads(self.out)


class Admin:
    """Calls commands, in English unless `german()` was called."""

    def __init__(self, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.daemon = daemon
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.language("C.UTF-8")

    def language(self, locale: str) -> None:
        """From now on the operator has this locale."""
        self._monkeypatch.setenv("LC_ALL", locale)

    def german(self) -> None:
        """From now on the operator reads German."""
        self.language("de_DE.UTF-8")

    def __call__(self, *arguments: str) -> Said:
        """Call a command; a wrong call ends with status 2, as the process would."""
        self._capsys.readouterr()
        try:
            status = main(["--config", str(self.daemon.config_path), *arguments])
        except SystemExit as error:
            status = int(error.code or 0)
        out, err = self._capsys.readouterr()
        return Said(status, out, err)

    def ok(self, *arguments: str) -> str:
        """The output of a command that must end with 0."""
        said = self(*arguments)
        assert said.status == 0, (arguments, said)
        return said.out


# -- doctor ------------------------------------------------------------------------------------------------------


def findings(admin: Admin, *arguments: str) -> dict[str, list[tuple[str, str, str]]]:
    """What doctor finds: (level, text, step) by check; the exit status must fit."""
    said = admin("doctor", "--json", *arguments)
    found: dict[str, list[tuple[str, str, str]]] = {}
    for one in said.json["findings"]:
        found.setdefault(one["check"], []).append((one["level"], one["text"], one["step"]))
    levels = {level for rows in found.values() for level, _, _ in rows}
    assert said.status == int("FAIL" in levels)
    assert all(step for rows in found.values() for level, _, step in rows if level != "OK"), found
    return found


def one(admin: Admin, check: str, *arguments: str) -> list[tuple[str, str, str]]:
    """What one check finds."""
    found = findings(admin, "--only", check, *arguments)
    return [row for rows in found.values() for row in rows]


def says(rows: list[tuple[str, str, str]], level: str, part: str) -> bool:
    """Whether there is a line of this level with this part."""
    return any(found == level and part in text + step for found, text, step in rows)


def make_admin(folder: Path, config: Any, monkeypatch: Any, capsys: Any) -> Admin:
    """heichat-admin for a daemon that has not started."""
    return Admin(Daemon(folder, config), monkeypatch, capsys)
