"""heichat-admin: its help, its languages, wrong calls, and the commands that only look."""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from heichat_appliance import __version__
from heichat_appliance.admin.command import Parser
from heichat_appliance.admin.language import language
from heichat_appliance.admin.main import parser
from tests import certificates
from tests.admin.kit import Admin
from tests.appliance import q
from tests.daemon import Daemon


def commands(whole: Parser, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Parser]]:
    """Every command with its parser."""
    for action in whole._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, found in action.choices.items():
                yield (*path, name), found
                yield from commands(found, (*path, name))


def test_every_command_has_its_help_in_both_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    english = {path: found.format_help() for path, found in commands(parser())}
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    german = {path: found.format_help() for path, found in commands(parser())}
    assert len(english) > 20 and english.keys() == german.keys()
    for path, text in english.items():
        assert text.startswith(f"usage: heichat-admin {' '.join(path)} "), path
        assert german[path].startswith(f"Aufruf: heichat-admin {' '.join(path)} "), path
        about, about_german = text.split("\n\n")[1], german[path].split("\n\n")[1]
        assert about.endswith(".") and about_german.endswith(".") and about != about_german, path
        assert not {"usage:", "options:", "show this help"} & set(german[path].splitlines()), path


def test_every_option_says_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    for locale in ("C", "de_DE"):
        monkeypatch.setenv("LC_ALL", locale)
        for path, found in commands(parser()):
            for action in found._actions:
                assert action.help or isinstance(action, argparse._SubParsersAction), (path, action.dest)


def test_examples_are_calls_that_work(monkeypatch: pytest.MonkeyPatch) -> None:
    import shlex

    monkeypatch.setenv("LC_ALL", "C")
    whole = parser()
    for path, found in commands(whole):
        for line in (found.epilog or "").splitlines()[1:]:
            arguments = shlex.split(line.partition("<")[0].replace("0123…cdef", "0" * 64))
            assert arguments[0] == "heichat-admin", path
            whole.parse_args(arguments[1:])  # would end the test


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "de"),
        ({"LANG": "de_DE.UTF-8", "LC_MESSAGES": "en_GB.UTF-8"}, "en"),
        ({"LC_ALL": "de_AT@euro", "LC_MESSAGES": "en_GB", "LANG": "C"}, "de"),
        ({"LC_ALL": "", "LANG": "de"}, "de"),
        ({"LANG": "deutsch"}, "en"),
    ],
)
def test_the_locale_decides(environ: dict[str, str], expected: str) -> None:
    assert language(environ) == expected


def test_wrong_calls(admin: Admin) -> None:
    for arguments, english, german in (
        ((), "required: COMMAND", "es fehlt: BEFEHL"),
        (("nonsense",), "invalid choice: 'nonsense'", "'nonsense' gibt es nicht"),
        (("users", "lock"), "required: PERSON", "es fehlt: PERSON"),
        (("reports", "--limit", "x"), "invalid int value", "kein gültiger Wert"),
        (("reports", "--limt", "3"), "unrecognized arguments", "unbekannt: --limt 3"),
        (("notice", "send", "x"), "one of the arguments", "eines hiervon wird gebraucht"),
        (("doctor", "--ca-file"), "expected one argument", "hier fehlt ein Wert"),
    ):
        admin.language("C")
        said = admin(*arguments)
        assert said.status == 2 and english in said.err and said.out == "", arguments
        admin.german()
        said = admin(*arguments)
        assert said.status == 2 and german in said.err, arguments


# -- version, check-config ---------------------------------------------------------------------------------------


def test_version_of_command_and_daemon(admin: Admin) -> None:
    assert admin.ok("version").splitlines() == [f"heiCHAT {__version__}", f"daemon: {__version__}"]
    admin.german()
    assert f"Dienst: {__version__}" in admin.ok("version")


def test_check_config(admin: Admin, tmp_path: Path) -> None:
    assert "is in order" in admin.ok("check-config")
    bad = tmp_path / "bad.ini"
    bad.write_text("[server]\nnmae = x\n[plugins]\nenabled = nothing\n")
    said = admin("check-config", "--config", str(bad))
    assert said.status == 1 and "did you mean name?" in said.err and "public_url is missing" in said.err
    admin.german()
    said = admin("--config", str(tmp_path / "none.ini"), "check-config")
    assert said.status == 1 and "Die Konfiguration hat Fehler" in said.err


@pytest.mark.parametrize(
    ("sections", "part"),
    [
        ("[plugins]\nenabled = nothing\n", "nothing, which is not installed"),
        ("[plugins]\nenabled = closed_rooms\n", "exactly one plugin that knows people"),
        ("[plugins]\nenabled = demo_directory\n", "demo_directory is for trials only"),
        (
            "[plugins]\nenabled = ldap_identity\n[ldap_identity]\nuri = ldaps://x.test\nbase = dc=x\nbind_dn = cn=y\n",
            "bind_dn and bind_password",
        ),
        ("[terms_consent]\ndocuments = nowhere\n[plugins]\nenabled = terms_consent\n", "[terms_consent] documents"),
        ("[calls]\nuris = turn:turn.x.test:3478\n", "uris needs shared_secret_file"),
        ("[calls]\nlisten = tls:5349\n", "certificate is missing"),
        ("[calls]\nshared_secret_file = nowhere\n", "shared_secret_file can't be read"),
    ],
)
def test_check_config_finds_what_would_keep_the_daemon_from_starting(
    admin: Admin, tmp_path: Path, sections: str, part: str
) -> None:
    bad = tmp_path / "bad.ini"
    plugins = "" if "[plugins]" in sections else "[plugins]\nenabled = demo_directory\n[demo_directory]\ndemo = yes\n"
    bad.write_text(
        f"[server]\nname = x.test\npublic_url = https://x.test\ndata_dir = {tmp_path / 'data'}\n{plugins}{sections}"
    )
    said = admin("check-config", "--config", str(bad))
    assert said.status == 1 and part in said.err, said
    found = admin("doctor", "--json", "--only", "configuration", "--config", str(bad)).json
    assert found["level"] == "FAIL" and any(part in one["text"] for one in found["findings"])
    assert not (tmp_path / "data").exists()


def test_check_config_reads_the_certificates(admin: Admin, tmp_path: Path) -> None:
    key, certificate = certificates.make(tmp_path)
    bad = tmp_path / "bad.ini"
    text = (
        f"[server]\nname = x.test\npublic_url = https://x.test\ndata_dir = {tmp_path / 'data'}\n"
        f"listen = ssl:443:privateKey={key}:certKey={certificate}\n"
        "[plugins]\nenabled = demo_directory\n[demo_directory]\ndemo = yes\n[calls]\nenabled = no\n"
    )
    bad.write_text(text)
    assert admin("check-config", "--config", str(bad)).status == 0
    key.write_text("no key")
    assert "[server] listen:" in admin("check-config", "--config", str(bad)).err


def test_without_a_configuration(
    admin: Admin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from heichat_appliance.admin import command
    from heichat_appliance.admin.main import main

    monkeypatch.delenv("HEICHAT_CONFIG", raising=False)
    monkeypatch.setattr(command, "DEFAULT_CONFIG", Path("/nonexistent/heichat.ini"))
    assert main(["check-config"]) == 1
    assert "no configuration is named" in capsys.readouterr().err
    monkeypatch.setenv("HEICHAT_CONFIG", str(admin.daemon.config_path))
    assert main(["check-config"]) == 0


def test_example_config(admin: Admin) -> None:
    assert "[server]" in admin.ok("example-config")


# -- verify, reports ---------------------------------------------------------------------------------------------


def test_without_a_database(tmp_path: Path, admin: Admin) -> None:
    empty = tmp_path / "heichat.ini"
    empty.write_text(f"[server]\nname = x.test\npublic_url = https://x.test\ndata_dir = {tmp_path / 'data'}\n")
    for arguments in (("verify",), ("users", "list"), ("backup", str(tmp_path / "backups"))):
        said = admin(*arguments, "--config", str(empty))
        assert said.status == 1 and "there is no database" in said.err, arguments


def test_verify_and_reports_beside_the_running_daemon(admin: Admin, daemon: Daemon) -> None:
    alice = daemon.login("alice")
    room_id = alice.create_room()
    event_id = alice.send(room_id, "x")
    alice.ok("POST", f"/rooms/{q(room_id)}/report/{q(event_id)}", {"reason": "rude\n2030-01-01 all is well\u202e"})
    said = admin.ok("verify", "--media")
    assert "The daemon runs" in said and "Everything is whole." in said
    lines = admin.ok("reports").splitlines()
    assert len(lines) == 2 and alice.user_id in lines[0] and event_id in lines[0] and '"rude\\n2030' in lines[0]
    assert "\u202e" not in lines[0] and admin("reports", "--json").json[0]["reason"].startswith("rude")
    assert '"x"' not in "".join(lines) and '    "x"' in admin.ok("reports", "--text").splitlines()
    alice.ok("PUT", f"/rooms/{q(room_id)}/redact/{q(event_id)}/1", {})
    assert admin("reports", "--text", "--json").json[0]["text"] is None
    admin.german()
    assert "Alles ist heil." in admin.ok("verify")


def test_verify_names_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = Daemon(tmp_path)
    admin = Admin(daemon, monkeypatch, capsys)
    with daemon:
        alice = daemon.login("alice")
        event_id = alice.send(alice.create_room(), "x")
    assert "Without the daemon" in admin.ok("verify")
    database = sqlite3.connect(daemon.data_dir / "heichat.db")
    with database:
        database.execute("UPDATE events SET pdu = replace(pdu, '\"x\"', '\"y\"') WHERE event_id = ?", (event_id,))
    database.close()
    said = admin("verify")
    assert said.status == 1 and event_id in said.out and "1 problem found." in said.out
    (daemon.data_dir / "signing.key").unlink()
    assert "signing.key is missing" in admin("verify").out
    assert not (daemon.data_dir / "signing.key").exists()  # looking makes no new one
