"""The files of deploy/ and the Vagrantfile, as far as they can be checked without a machine to install them on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from heichat_appliance.config import ConfigErrors, read
from heichat_appliance.plugins import all_sections
from tests.deploy.machine import ROOT

DEPLOY = ROOT / "deploy"
UNITS = sorted([*DEPLOY.glob("*.service"), *DEPLOY.glob("*.timer")])

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian package systemd)"
)


# -- units -------------------------------------------------------------------------------------------------------


@needs_systemd
def test_systemd_understands_the_units() -> None:
    done = subprocess.run(["systemd-analyze", "verify", *UNITS], capture_output=True, text=True, timeout=60)
    named = {unit.name for unit in UNITS}
    complaints = [
        line
        for line in (done.stdout + done.stderr).splitlines()
        if line.split(":")[0] in named and "/opt/heichat" not in line  # which is not installed here
    ]
    assert complaints == []


@needs_systemd
def test_the_services_are_exposed_little() -> None:
    for name in ("heichat.service", "heichat-backup.service", "heichat-doctor.service"):
        command = ["systemd-analyze", "security", "--offline=true", "--threshold=25", DEPLOY / name]  # 2.5 of 10
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout[-300:]


def test_install_installs_every_unit() -> None:
    line = next(line for line in (DEPLOY / "install.sh").read_text().splitlines() if line.startswith("UNITS="))
    assert sorted(line.split('"')[1].split()) == sorted(unit.name for unit in UNITS)


# -- scripts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", sorted(DEPLOY.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_executable_and_bash_understands_them(script: Path) -> None:
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True, timeout=20)


@pytest.mark.parametrize(("locale", "word"), [("de_DE.UTF-8", "Aufruf:"), ("C.UTF-8", "Usage:")])
def test_the_help_names_every_option_in_both_languages(locale: str, word: str) -> None:
    script = DEPLOY / "install.sh"
    environment = {"PATH": os.environ["PATH"], "LC_ALL": locale}
    shown = subprocess.run([script, "--help"], capture_output=True, text=True, env=environment, timeout=20).stdout
    assert shown.startswith(word)
    cases = script.read_text().split("case $1 in")[2].split("esac")[0]
    options = [line.split(")")[0].strip() for line in cases.splitlines() if line.strip().startswith("--")]
    assert len(options) > 10
    assert [option for option in [*options, "--behind-proxy", "--refresh", "--no-start"] if option not in shown] == []


# -- filling in the configuration --------------------------------------------------------------------------------


def fill(*values: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, DEPLOY / "fill_config.py", ROOT / "config.example.ini", *values]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


def test_the_example_is_filled_in_and_nothing_else_changes(tmp_path: Path) -> None:
    listen = r"ssl:443:privateKey=/k:certKey=/c:interface=\:\:" + "\ntcp:8008"
    values = (
        "server.name=chat.uni.example",
        f"server.listen={listen}",
        "server.admins=a, b",
        "calls.listen=udp:1\ntls:2",
    )
    done = fill(*values, "ldap_identity.uri=ldap://127.0.0.1", "ldap_identity.start_tls=no")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "heichat.ini"
    path.write_text(done.stdout)
    config = read(path, all_sections())
    assert config["server"].name == "chat.uni.example"
    assert config["server"].listen == tuple(listen.split("\n"))
    assert config["server"].admins == ("a", "b")
    assert [tuple(one) for one in config["calls"].listen] == [("udp", "", 1), ("tls", "", 2)]
    assert config["ldap_identity"].uri == ("ldap://127.0.0.1",)
    assert config["ldap_identity"].start_tls is False

    example = (ROOT / "config.example.ini").read_text().splitlines()
    removed = [line for line in example if line not in done.stdout.splitlines()]
    assert {line.lstrip("# ").split(" ")[0] for line in removed} <= {
        "name", "listen", "admins", "uri", "start_tls", "ldaps://ldap2.example.org", "tcp:3478",
    }  # fmt: skip


def test_what_the_example_does_not_know_is_refused() -> None:
    done = fill("server.nmae=x")
    assert done.returncode == 1
    assert "[server] nmae" in done.stderr
    assert done.stdout == ""


def test_a_broken_value_is_found_by_check_config(tmp_path: Path) -> None:
    path = tmp_path / "heichat.ini"
    path.write_text(fill("server.listen=ssl:443:certKey=/c").stdout)
    with pytest.raises(ConfigErrors, match="privateKey is missing"):
        read(path, all_sections())


# -- Vagrant -----------------------------------------------------------------------------------------------------


@pytest.mark.vagrant
@pytest.mark.skipif(shutil.which("vagrant") is None, reason="vagrant is not installed (Debian package vagrant)")
def test_vagrant_validate(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "VAGRANT_CWD": str(ROOT),
        "VAGRANT_HOME": str(tmp_path / "home"),
        "VAGRANT_DOTFILE_PATH": str(tmp_path / "dotfiles"),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
    }
    # A provider such as VirtualBox is not what is checked here.
    command = ["vagrant", "validate", "--ignore-provider"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "validated successfully" in done.stdout


def test_vagrant_calls_the_scripts_with_options_that_they_know() -> None:
    text = (ROOT / "Vagrantfile").read_text()
    script = (DEPLOY / "install.sh").read_text()
    called = [word for word in text.split("install.sh", 1)[1].split("SHELL")[0].split() if word.startswith("--")]
    assert "--name" in called and "--ldap-password-file" in called
    assert [option for option in called if f"{option})" not in script] == []
