"""deploy/install.sh on a bare Debian 12: what it makes of it, again and again, and an upgrade and the way back."""

from __future__ import annotations

import json
import re
import resource
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests import certificates
from tests.daemon import wait_until
from tests.deploy import machine as machines
from tests.deploy.machine import Machine

pytestmark = [
    pytest.mark.machine,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(machines.why_not()), reason=f"a bare Debian: {machines.why_not()}"),
]

NAME = "chat.uni.example"
UNIT = "/etc/systemd/system/heichat.service"
INSTALL = (
    "/root/heichat/deploy/install.sh", "--name", NAME, "--admin", "admin",
    "--ldap-uri", "ldap://127.0.0.1", "--ldap-base", "ou=people,dc=demo", "--ldap-bind-dn", "cn=heichat,dc=demo",
    "--ldap-password-file", "/root/heichat-demo-directory.password",
)  # fmt: skip


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A bare machine with the project unpacked, and a directory with demo people."""
    machine = machines.build(tmp_path_factory.mktemp("deploy"))
    machine.put_project()
    machine.run("/root/heichat/deploy/demo-directory.sh")
    yield machine
    machine.remove()


@pytest.fixture(scope="module")
def installed(bare: Machine) -> Machine:
    """After install.sh, in a chroot: without a running systemd."""
    began = time.monotonic()
    output = bare.run(*INSTALL)
    print(f"\nfrom a bare Debian to an installed server: {time.monotonic() - began:.0f} s")
    bare.write("/root/first-run", output.stdout + output.stderr)
    # For an upgrade later on, when the machine has no network.
    bare.shell("/opt/heichat/venv/bin/pip download -q -d /root/wheels /root/heichat 'setuptools>=68' wheel")
    return bare


@pytest.fixture(scope="module")
def booted(installed: Machine) -> Iterator[Machine]:
    """The installed machine with a running systemd and a network of its own."""
    if not machines.which("systemd-nspawn"):
        pytest.skip("systemd-nspawn is not installed (Debian package systemd-container)")
    reason = installed.boot()
    if reason:
        pytest.xfail(f"only the installation in a chroot was tested: {reason}")
    wait_until(lambda: installed.run("systemctl", "is-active", "heichat", check=False).returncode == 0, 30, "it runs")
    yield installed
    installed.power_off()


def fetch(machine: Machine, method: str, path: str, body: object = None, token: str = "") -> dict[str, object]:
    """A request from within the machine, which verifies the certificate against what the machine trusts."""
    script = (
        "import json,sys,urllib.request as u;m,url,b,t=json.load(sys.stdin);"
        "r=u.Request(url,None if b is None else json.dumps(b).encode(),method=m);"
        "t and r.add_header('Authorization','Bearer '+t);print(u.urlopen(r,timeout=20).read().decode())"
    )
    call = json.dumps([method, f"https://{NAME}{path}", body, token])
    found: dict[str, object] = json.loads(machine.run("python3", "-c", script, input=call).stdout)
    return found


def log_in(machine: Machine, uni_id: str) -> str:
    """The access token of a demo person."""
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": uni_id},
        "password": f"{uni_id}-demo",
    }
    return str(fetch(machine, "POST", "/_matrix/client/v3/login", body)["access_token"])


def tree(machine: Machine) -> dict[str, tuple[int, float, int]]:
    """Every file that an installation could change: mode, time of change and size."""
    found = {}
    for top in ("etc", "opt", "usr/local", "var/lib/heichat", "var/backups"):
        for path in (machine.root / top).rglob("*"):
            status = path.lstat()
            found[str(path)] = (status.st_mode, status.st_mtime, status.st_size)
    return found


# -- in a chroot -------------------------------------------------------------------------------------------------


def test_without_a_running_systemd_it_says_how_to_start(installed: Machine) -> None:
    output = installed.path("/root/first-run").read_text()
    assert "systemd does not run here" in output
    assert "self-signed" in output
    assert re.search(r"443/tcp +HTTPS", output) and "49152-65535/udp" in output
    (command,) = re.findall(r"^ +(cd /var/lib/heichat && setpriv .*heichat.ini)$", output, re.MULTILINE)
    directory = "slapd -d 0 -h ldap://127.0.0.1 -F /etc/ldap/slapd.d"
    daemon = installed.alone(["bash", "-c", f"{directory} & {command.replace('&& setpriv', '&& exec setpriv')}"])
    try:
        assert daemon.stdout is not None
        lines = []
        while "heiCHAT" not in (line := daemon.stdout.readline().decode()) or "for " + NAME not in line:
            assert line, f"it ended:\n{''.join(lines)}"
            lines.append(line)
        trust = "/etc/heichat/tls/chain.pem"
        answer = installed.beside(
            daemon, "python3", "-c", f"import ssl,urllib.request as u;c=ssl.create_default_context(cafile='{trust}');"
            f"print(u.urlopen('https://{NAME}/_matrix/client/versions',context=c).read().decode())",
        )  # fmt: skip
        assert "versions" in json.loads(answer.stdout), answer.stderr
        done = installed.beside(daemon, "heichat-admin", "doctor", "--ca-file", trust)
        assert done.returncode == 0 and "FAIL" not in done.stdout, done.stdout
    finally:
        installed.end(daemon)


def test_a_second_run_changes_nothing_and_says_so(installed: Machine) -> None:
    before = tree(installed)
    output = installed.run(*INSTALL).stdout
    assert "Nothing had to be changed." in output
    assert " + " not in output
    assert tree(installed) == before
    assert "options for install.sh" in installed.run("/root/heichat/deploy/demo-directory.sh").stdout
    assert tree(installed) == before


def test_it_speaks_german(installed: Machine) -> None:
    output = installed.run("env", "LC_ALL=de_DE.UTF-8", *INSTALL).stdout
    assert "Es war nichts zu ändern." in output
    assert "Ports, die die Firewall hereinlassen muss" in output


def test_it_goes_by_the_configuration_that_is_there(installed: Machine) -> None:
    config = installed.path("/etc/heichat/heichat.ini")
    before, text = tree(installed), config.read_text()
    changed = re.sub(r"(?m)^listen = ssl:.*$", "listen = tcp:8008:interface=127.0.0.1", text)
    changed = re.sub(r"(?m)^(certificate|private_key) = .*\n", "", changed)
    config.write_text(re.sub(r"(?m)^    tls:5349\n", "", changed))
    try:
        output = installed.run(INSTALL[0])
        assert "the web server before it" in output.stdout and "HTTPS" not in output.stdout
        assert "Nothing had to be changed." in output.stdout
        assert "self-signed" not in output.stderr
    finally:
        config.write_text(text)
    after = tree(installed)
    assert {path for path in before if before[path] != after.get(path)} == {str(config)}


def test_files_belong_to_root_and_secrets_are_not_readable_for_others(installed: Machine) -> None:
    shown = installed.shell(
        "stat -c '%a %U:%G %n' /etc/heichat /etc/heichat/heichat.ini /etc/heichat/ldap-password /etc/heichat/tls/key.pem "
        "/var/lib/heichat /var/backups/heichat /opt/heichat/venv/bin/twistd"
    ).splitlines()
    assert shown == [
        "750 root:heichat /etc/heichat",
        "640 root:heichat /etc/heichat/heichat.ini",
        "640 root:heichat /etc/heichat/ldap-password",
        "640 root:heichat /etc/heichat/tls/key.pem",
        "700 heichat:heichat /var/lib/heichat",
        "700 heichat:heichat /var/backups/heichat",
        "755 root:root /opt/heichat/venv/bin/twistd",
    ]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--certificate", "/etc/hostname"), "--certificate and --key belong together"),
        (("--ldap-uri", "ldaps://x.example"), "--ldap-base is missing"),
        (("--name", "not a name"), "must be a host name"),
        (("--port",), "--port needs a value"),
        (("--ldap-ca", "/nowhere"), "/nowhere can't be read"),
        (("--prot", "443"), "unknown option --prot"),
        (("--name", "other.uni.example"), f"this is the server {NAME}"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_done(
    installed: Machine, arguments: tuple[str, ...], complaint: str
) -> None:
    before = tree(installed)
    done = installed.run(INSTALL[0], *arguments, check=False)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert tree(installed) == before


# -- with systemd ------------------------------------------------------------------------------------------------


def test_the_service_runs_with_little_power(booted: Machine) -> None:
    status = booted.shell("systemctl show heichat -p ActiveState -p StatusText -p User -p NRestarts -p MainPID")
    assert (
        "ActiveState=active\n" in status
        and "StatusText=serving chat.uni.example" in status
        and "User=heichat" in status
    )
    assert "NRestarts=0" in status
    pid = re.search(r"MainPID=(\d+)", status)[1]  # type: ignore[index]
    process = booted.shell(f"cat /proc/{pid}/status /proc/{pid}/limits")
    assert re.search(r"CapEff:\s+0000000000000400", process)  # CAP_NET_BIND_SERVICE alone
    assert re.search(r"CapBnd:\s+0000000000000400", process)
    assert re.search(r"NoNewPrivs:\s+1", process) and re.search(r"Seccomp:\s+2", process)
    files = min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    assert re.search(rf"Max open files\s+{files}\s", process)
    # What the daemon sees: only its own folders can be written, and the homes are gone.
    enter = f"nsenter -t {pid} -m runuser -u heichat --"
    assert "Read-only file system" in booted.shell(
        f"nsenter -t {pid} -m touch /etc/heichat/x /usr/x /var/x 2>&1", check=False
    )
    assert booted.shell(f"{enter} touch /var/lib/heichat/x && rm /var/lib/heichat/x && echo yes") == "yes\n"
    assert booted.shell(f"nsenter -t {pid} -m ls /home /root 2>&1", check=False).count("heichat") == 0


def test_a_real_certificate_replaces_the_self_signed_one_and_doctor_is_green(booted: Machine, tmp_path: Path) -> None:
    key, certificate, root = certificates.chain(tmp_path, name=NAME)
    booted.write("/usr/local/share/ca-certificates/test.crt", root.read_text())
    booted.run("update-ca-certificates")
    booted.write("/root/key.pem", key.read_text())
    booted.write("/root/chain.pem", certificate.read_text())
    output = booted.run(INSTALL[0], "--certificate", "/root/chain.pem", "--key", "/root/key.pem").stdout
    assert "has read the new certificate" in output
    assert "self-signed" not in output
    assert "versions" in fetch(booted, "GET", "/_matrix/client/versions")
    booted.run("systemctl", "start", "heichat-backup")
    findings = doctor(booted)
    # What nobody has given it: terms of its own, Element Web; and there is no time server in here.
    missing = ("configuration", "element", "clock")
    bad = [one for one in findings if one["level"] != "OK" and one["check"] not in missing]
    assert len(findings) > 8 and not bad, bad
    assert not [one for one in findings if one["level"] == "FAIL"]
    booted.run("systemctl", "start", "heichat-doctor")
    again = booted.run(INSTALL[0], "--certificate", "/root/chain.pem", "--key", "/root/key.pem").stdout
    assert "Nothing had to be changed." in again


def doctor(machine: Machine) -> list[dict[str, str]]:
    """What `heichat-admin doctor` finds."""
    found: list[dict[str, str]] = json.loads(machine.run("heichat-admin", "doctor", "--json", check=False).stdout)[
        "findings"
    ]
    return found


def test_a_certificate_that_does_not_fit_its_key_is_refused(booted: Machine, tmp_path: Path) -> None:
    key, _ = certificates.make(tmp_path)
    booted.write("/root/other.pem", key.read_text())
    before = tree(booted)
    done = booted.run(INSTALL[0], "--certificate", "/root/chain.pem", "--key", "/root/other.pem", check=False)
    assert done.returncode == 1
    assert "is not the key of" in done.stderr
    assert tree(booted) == before


def test_the_hook_for_renewed_certificates_in_the_documentation_works(booted: Machine, tmp_path: Path) -> None:
    text = (machines.ROOT / "docs/operators/configure.md").read_text()
    (hook,) = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", text, re.DOTALL)
    key, certificate, root = certificates.chain(tmp_path, name=NAME)
    booted.write("/usr/local/share/ca-certificates/renewed.crt", root.read_text())
    booted.run("update-ca-certificates")
    booted.write("/root/live/privkey.pem", key.read_text())
    booted.write("/root/live/fullchain.pem", certificate.read_text())
    booted.run("env", "RENEWED_LINEAGE=/root/live", "sh", "-c", hook)
    serial = f"{x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number:x}"
    wait_until(lambda: serial in booted.shell("journalctl -u heichat -o cat -n 20 --no-pager"), 20, "it is told")
    assert "versions" in fetch(booted, "GET", "/_matrix/client/versions")


def test_a_restore_by_root_as_the_documentation_has_it(booted: Machine) -> None:
    token = log_in(booted, "charlotte")
    account = "/_matrix/client/v3/account/whoami"
    backup = booted.shell("heichat-admin backup /var/backups/heichat").splitlines()[0]
    text = (machines.ROOT / "docs/operators/backup.md").read_text()
    (commands,) = re.findall(r"## Restore\n\n```sh\n(.*?)```", text, re.DOTALL)
    booted.shell("set -e\n" + re.sub(r"/var/backups/heichat/\S+", backup, commands))
    wait_until(lambda: booted.run("systemctl", "is-active", "heichat", check=False).returncode == 0, 30, "it runs")
    assert fetch(booted, "GET", account, token=token)["user_id"] == f"@charlotte:{NAME}"
    booted.run("systemctl", "start", "heichat-backup")


def test_people_log_in_and_the_log_has_no_secrets(booted: Machine) -> None:
    token = log_in(booted, "alice")
    assert fetch(booted, "GET", "/_matrix/client/v3/account/whoami", token=token)["user_id"] == f"@alice:{NAME}"
    log = booted.shell("journalctl -u heichat -o cat --no-pager")
    assert "heiCHAT" in log
    assert not re.search(r"(?m)^\d{4}-\d\d-\d\dT", log), "the journal has a clock of its own"
    assert token not in log and "alice-demo" not in log
    assert booted.path("/etc/heichat/ldap-password").read_text() not in log


def test_a_daemon_that_hangs_is_started_again(booted: Machine) -> None:
    booted.write(f"{UNIT}.d/test.conf", "[Service]\nWatchdogSec=1\n")
    booted.shell("systemctl daemon-reload && systemctl restart heichat")
    try:
        pid = booted.shell("systemctl show heichat -p MainPID --value").strip()
        booted.shell(f"kill -STOP {pid}")
        wait_until(
            lambda: booted.shell("systemctl show heichat -p NRestarts --value").strip() == "1"
            and booted.run("systemctl", "is-active", "heichat", check=False).returncode == 0,
            60, "it has been started again",
        )  # fmt: skip
        assert booted.shell("systemctl show heichat -p MainPID --value").strip() != pid
    finally:
        booted.shell(f"rm -r {UNIT}.d; systemctl daemon-reload; systemctl restart heichat")


def test_an_upgrade_makes_a_backup_first_and_shows_the_way_back(booted: Machine) -> None:
    token = log_in(booted, "bob")
    old = booted.shell("readlink /opt/heichat/venv").strip()
    version = booted.path("/root/heichat/heichat_appliance/__init__.py")
    version.write_text(version.read_text().replace('__version__ = "', '__version__ = "99.'))
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/root/wheels"}
    booted.environment |= offline
    output = booted.run(*INSTALL).stdout
    assert "heichat restarted" in output
    (backup,) = re.findall(r"\+ backup (/var/backups/heichat/\S+)", output)
    assert booted.path(backup).joinpath("manifest.json").is_file()
    assert "heiCHAT 99." in booted.shell("heichat-admin version")
    assert fetch(booted, "GET", "/_matrix/client/v3/account/whoami", token=token)["user_id"] == f"@bob:{NAME}"

    way_back = re.search(r"== The way back\n((?:  .*\n)+)", output)
    assert way_back
    commands = [shlex.split(line, comments=True) for line in way_back[1].splitlines()]
    for command in commands:
        if "restore" not in command:
            booted.run(*command)
    assert booted.shell("readlink /opt/heichat/venv").strip() == old
    wait_until(lambda: booted.run("systemctl", "is-active", "heichat", check=False).returncode == 0, 30, "it runs")
    assert "heiCHAT 99." not in booted.shell("heichat-admin version")
    assert fetch(booted, "GET", "/_matrix/client/v3/account/whoami", token=token)["user_id"] == f"@bob:{NAME}"
    booted.run("systemctl", "start", "heichat-backup")  # the folder still belongs to the daemon's user

    # As if the upgrade had been broken off after the switch: another run ends it.
    new = next(path.name for path in booted.path("/opt/heichat/releases").iterdir() if path.name.startswith("99."))
    booted.run("ln", "-sfn", f"/opt/heichat/releases/{new}", "/opt/heichat/venv")
    output = booted.run(*INSTALL).stdout
    assert "heichat restarted" in output and "1 changes" in output
    assert "Nothing had to be changed." in booted.run(*INSTALL).stdout


def test_an_upgrade_that_does_not_start_says_so_and_shows_the_way_back(booted: Machine) -> None:
    project = booted.put_project()
    version = booted.path(f"{project}/heichat_appliance/__init__.py")
    version.write_text(version.read_text().replace('__version__ = "', '__version__ = "98.'))
    service = booted.path(f"{project}/heichat_appliance/service.py")
    service.write_text(service.read_text().replace("_allow_many_connections()\n", "_refuse_start('it is broken')\n", 1))
    booted.environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/root/wheels"}
    old = booted.shell("readlink /opt/heichat/venv").strip()
    done = booted.run(*INSTALL, check=False)
    assert done.returncode == 1
    assert "heichat does not start" in done.stderr and "heiCHAT can't start: it is broken" in done.stderr
    way_back = re.search(r"== The way back\n((?:  .*\n)+)", done.stderr)
    assert way_back and f"ln -sfn {old} /opt/heichat/venv" in way_back[1]
    for line in way_back[1].splitlines():
        if "restore" not in line:
            booted.run(*shlex.split(line))
    wait_until(lambda: booted.run("systemctl", "is-active", "heichat", check=False).returncode == 0, 30, "it runs")
    assert "versions" in fetch(booted, "GET", "/_matrix/client/versions")


def test_a_configuration_that_the_new_version_refuses_stops_the_upgrade_before_anything_is_changed(
    booted: Machine,
) -> None:
    booted.put_project()
    old = booted.shell("readlink /opt/heichat/venv").strip()
    config = booted.path("/etc/heichat/heichat.ini")
    text = config.read_text()
    config.write_text(text.replace("[server]", "[server]\nno_such_key = 1"))
    try:
        done = booted.run(*INSTALL, check=False)
    finally:
        config.write_text(text)
    assert done.returncode == 1
    assert "no_such_key" in done.stderr
    assert booted.shell("readlink /opt/heichat/venv").strip() == old
    assert booted.run("systemctl", "is-active", "heichat").stdout == "active\n"
