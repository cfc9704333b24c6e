"""heichat-admin doctor: what it finds when all is well, and the line it says for each thing that is not."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heichat_appliance.admin import doctor_calls, doctor_server
from heichat_appliance.admin.doctor import CHECKS
from heichat_appliance.calls import stun
from tests import certificates
from tests.admin.kit import Admin, findings, make_admin, one, says
from tests.clients.coturn import Coturn, requires_coturn
from tests.daemon import Daemon, free_port
from tests.element_kit import release

# -- all is well -------------------------------------------------------------------------------------------------


def test_a_good_server_has_no_failure(admin: Admin, daemon: Daemon, tmp_path: Path) -> None:
    daemon.login("alice").create_room()
    admin.ok("backup", str(tmp_path))
    found = findings(admin)
    assert not [row for rows in found.values() for row in rows if row[0] == "FAIL"], found
    for check in ("configuration", "permissions", "daemon", "database", "commits", "public", "backup", "disk"):
        assert found[check][0][0] == "OK", (check, found[check])
    assert "0 hours old" in found["backup"][0][1] and "whole" in found["database"][0][1]


def test_the_lines_for_people(admin: Admin) -> None:
    lines = admin.ok("doctor", "--only", "configuration", "daemon").splitlines()
    assert lines[0].startswith("OK    configuration  ") and lines[1].startswith(
        "WARN  configuration  demo people can log in"
    )
    assert lines[2].strip().startswith("-> [plugins] enabled: ldap_identity")
    admin.german()
    said = admin("doctor", "--only", "configuration", "daemon", "--quiet", "--strict")
    assert said.status == 1 and "Demo-Personen können sich anmelden" in said.out and "OK" not in said.out
    assert admin("doctor", "--only", "nonsense").status == 2


def test_authorities_that_are_none(admin: Admin, tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("nothing")
    for name in ("none.pem", "missing.pem"):
        said = admin("doctor", "--ca-file", str(tmp_path / name))
        assert said.status == 1 and said.out == "" and name in said.err


def test_every_check_is_named_in_the_help(admin: Admin) -> None:
    said = admin("doctor", "--help").out
    assert all(check in said for check in CHECKS)


def test_a_check_that_breaks_is_a_line_and_not_the_end(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> Iterator[Any]:
        raise RuntimeError("oops")
        yield

    monkeypatch.setitem(CHECKS, "limits", broken)
    found = findings(admin, "--only", "limits", "disk")
    assert says(found["limits"], "FAIL", "RuntimeError: oops") and found["disk"][0][0] == "OK"


def test_a_bad_configuration(admin: Admin, tmp_path: Path) -> None:
    (tmp_path / "bad.ini").write_text("[server]\nnmae = x\n")
    said = admin("doctor", "--json", "--config", str(tmp_path / "bad.ini"))
    assert said.status == 1 and said.json["level"] == "FAIL"
    assert any("did you mean name?" in finding["text"] for finding in said.json["findings"])


# -- the daemon and its data -------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """A daemon of the test's own, and heichat-admin for it."""
    with Daemon(tmp_path / "server") as daemon:
        yield daemon, Admin(daemon, monkeypatch, capsys)


def test_a_daemon_that_does_not_run(own: Any) -> None:
    daemon, admin = own
    daemon.kill()
    found = findings(admin)
    assert says(found["daemon"], "FAIL", "the daemon does not run") and "commits" not in found
    assert says(found["public"], "FAIL", "Connection refused")
    assert found["database"][0][0] == "OK"
    admin.german()
    assert says(one(admin, "daemon"), "FAIL", "der Dienst läuft nicht")


def test_before_the_first_start(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    found = findings(make_admin(tmp_path / "new", None, monkeypatch, capsys))
    assert says(found["database"], "FAIL", "no database") and says(found["disk"], "FAIL", "does not exist")


def test_a_full_disk(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon, admin = own
    process = daemon.process.pid
    before = resource.prlimit(process, resource.RLIMIT_FSIZE)
    log = daemon.data_dir / "heichat.db-wal"
    resource.prlimit(process, resource.RLIMIT_FSIZE, (log.stat().st_size, before[1]))
    try:
        assert says(one(admin, "commits"), "FAIL", "writing failed")
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, before)
    assert says(one(admin, "daemon"), "FAIL", "could not be written since the start")
    usage = shutil.disk_usage(daemon.data_dir)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**8))
    assert says(one(admin, "disk"), "FAIL", "95.4 MiB")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=usage.total // 20 + 2**29))
    assert says(one(admin, "disk"), "WARN", "make the disk larger")
    daemon.process.kill()  # its log has errors, as it should
    daemon.process.wait()
    daemon.process = None


def test_damage_in_the_database(own: Any) -> None:
    daemon, admin = own
    alice = daemon.login("alice")
    event_id = alice.send(alice.create_room(), "hello")
    daemon.stop()
    database = sqlite3.connect(daemon.data_dir / "heichat.db")
    with database:
        database.execute("UPDATE events SET pdu = replace(pdu, 'hello', 'howdy')")
    assert says(one(admin, "database"), "FAIL", event_id)
    database.execute("PRAGMA writable_schema = ON")
    with database:
        database.execute("UPDATE sqlite_schema SET rootpage = 3 WHERE name = 'rooms'")
    database.close()
    assert one(admin, "database")[0][0] == "FAIL"
    (daemon.data_dir / "heichat.db").write_bytes(b"garbage" * 1000)
    assert one(admin, "database")[0][0] == "FAIL"


def test_a_large_database_is_looked_at_for_a_while(own: Any) -> None:
    daemon, admin = own
    alice = daemon.login("alice")
    room_id = alice.create_room()
    for number in range(50):
        alice.send(room_id, str(number))
    rows = one(admin, "database", "--seconds", "0")
    assert says(rows, "OK", "nothing wrong found in 0 s")


def test_a_clock_that_went_back(own: Any) -> None:
    daemon, admin = own
    daemon.login("alice").create_room()
    daemon.stop()
    database = sqlite3.connect(daemon.data_dir / "heichat.db")
    with database:
        database.execute("UPDATE events SET ts = ts + 7200000")
    database.close()
    assert says(one(admin, "clock"), "FAIL", "ahead of it")


@pytest.mark.parametrize(("said", "level"), [(True, "OK"), (False, "WARN"), (None, "OK")])
def test_what_the_system_says_of_its_clock(admin: Admin, monkeypatch: Any, said: bool | None, level: str) -> None:
    monkeypatch.setattr(doctor_server, "_synchronised", lambda: said)
    assert one(admin, "clock")[0][0] == level


def test_the_system_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor_server._synchronised() in (True, False, None)


def test_secrets_that_others_can_read(own: Any) -> None:
    daemon, admin = own
    (daemon.data_dir / "signing.key").chmod(0o644)
    rows = one(admin, "permissions")
    assert says(rows, "FAIL", "signing.key") and says(rows, "FAIL", "chmod o= ")
    (daemon.data_dir / "signing.key").chmod(0o600)
    assert one(admin, "permissions") == [("OK", "secrets are closed to others", "")]


def test_backups_that_are_old_or_gone(own: Any, tmp_path: Path) -> None:
    daemon, admin = own
    assert says(one(admin, "backup"), "WARN", "there never was one")
    admin.ok("backup", str(tmp_path / "backups"))
    assert one(admin, "backup")[0][0] == "OK"
    shutil.rmtree(tmp_path / "backups")
    assert says(one(admin, "backup"), "WARN", "not there any more")
    note = daemon.data_dir / "last-backup.json"
    note.write_text(json.dumps({"path": "/x", "created": time.time() - 100 * 3600}))
    assert says(one(admin, "backup"), "WARN", "100 hours old")
    note.write_text("{")
    assert says(one(admin, "backup"), "WARN", "there never was one")


def test_the_web_client(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    admin = make_admin(tmp_path / "server", None, monkeypatch, capsys)
    home = admin.daemon.data_dir / "element"
    home.parent.mkdir()
    assert says(one(admin, "element"), "WARN", "there is no web client")
    digest = release(tmp_path / "element.tar.gz", "1.11.90")
    admin.ok("element", "install", str(tmp_path / "element.tar.gz"), "--sha256", digest)
    assert one(admin, "element") == [("OK", "Element Web 1.11.90, installed 0 days ago", "")]
    (record,) = (home / "current.releases").glob("*.json")
    known = record.read_text()
    record.write_text(json.dumps({**json.loads(known), "installed": "2020-01-01T00:00:00+00:00"}))
    assert says(one(admin, "element"), "WARN", "look for a newer one")
    record.write_text(known)
    (home / "current" / "index.html").write_text("defaced")
    assert says(one(admin, "element"), "FAIL", "files are missing or have changed")
    record.unlink()
    assert says(one(admin, "element"), "OK", "of unknown version")


# -- calls -------------------------------------------------------------------------------------------------------


def relay_config(**keys: str) -> dict[str, dict[str, str]]:
    return {"calls": {"enabled": "yes"} | keys}


def test_the_relay_gives_and_refuses(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    port = free_port()
    with Daemon(tmp_path, relay_config(listen=f"udp:127.0.0.1:{port}\ntcp:127.0.0.1:{port}")) as daemon:
        rows = one(Admin(daemon, monkeypatch, capsys), "calls")
        assert [level for level, _, _ in rows] == ["OK"] * 6, rows
        for transport in ("udp", "tcp"):
            uri = f"turn:127.0.0.1:{port}?transport={transport}"
            for part in (
                "refuses an allocation without credentials",
                "refuses wrong credentials",
                "sees us as 127.0.0.1:",
            ):
                assert says(rows, "OK", f"{uri}: {part}"), (uri, part)


def test_the_relay_over_tls(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    key, certificate = certificates.make(tmp_path)
    keys = {"listen": f"tls:127.0.0.1:{free_port()}", "certificate": str(certificate), "private_key": str(key)}
    with Daemon(tmp_path / "server", relay_config(**keys)) as daemon:
        admin = Admin(daemon, monkeypatch, capsys)
        rows = one(admin, "calls", "--ca-file", str(certificate))
        assert [level for level, _, _ in rows] == ["OK"] * 3 and "turns:127.0.0.1" in rows[0][1], rows
        ((level, text, _),) = one(admin, "calls")
        assert level == "FAIL" and "certificate verify failed" in text


@requires_coturn
def test_anothers_relay(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    with (
        Coturn(tmp_path / "coturn") as coturn,
        Daemon(tmp_path / "server", relay_config(**coturn.settings())) as daemon,
    ):
        rows = one(Admin(daemon, monkeypatch, capsys), "calls")
        assert {level for level, _, _ in rows} == {"OK"} and says(rows, "OK", "relays at"), rows


class StrangeRelay(threading.Thread):
    """A STUN server on a UDP port of loopback which gives everybody everything (`open`), or refuses all, or is silent."""

    def __init__(self, behaviour: str) -> None:
        super().__init__(daemon=True)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.uri = f"turn:127.0.0.1:{self._socket.getsockname()[1]}?transport=udp"
        self._behaviour = behaviour
        self.start()

    def run(self) -> None:
        while True:
            data, sender = self._socket.recvfrom(2048)
            if not data:
                return
            if self._behaviour == "silent":
                continue
            request = stun.parse(data)
            if request.method == stun.BINDING or self._behaviour == "open":
                answer = stun.Builder(request.method, stun.SUCCESS, request.transaction)
                answer.address(stun.XOR_MAPPED_ADDRESS, sender).address(stun.XOR_RELAYED_ADDRESS, ("127.0.0.1", 9))
            else:
                answer = stun.Builder(request.method, stun.ERROR, request.transaction)
                answer.error(401).add(stun.REALM, b"x").add(stun.NONCE, b"y")
            self._socket.sendto(answer.build(), sender)

    def close(self) -> None:
        """A thread in recvfrom does not hear of a close: it is woken by a last datagram."""
        self._behaviour = "silent"
        self._socket.sendto(b"", self._socket.getsockname())
        self.join()
        self._socket.close()


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: Any, capsys: Any) -> Iterator[Callable[[str], Any]]:
    """`strange(behaviour)`: what doctor finds at such a relay."""
    relays = []
    (tmp_path / "secret").write_text("a secret of sixteen letters\n")
    monkeypatch.setattr(doctor_calls, "SECONDS", 0.4)

    def look(behaviour: str) -> list[tuple[str, str, str]]:
        relays.append(StrangeRelay(behaviour))
        config = relay_config(uris=relays[-1].uri, shared_secret_file=str(tmp_path / "secret"))
        with Daemon(tmp_path / behaviour, config) as daemon:
            return one(Admin(daemon, monkeypatch, capsys), "calls")

    yield look
    for relay in relays:
        relay.close()


def test_a_relay_that_is_open_to_all(strange: Any) -> None:
    rows = strange("open")
    assert says(rows, "FAIL", "relays for everybody") and says(rows, "FAIL", "takes wrong credentials")
    assert says(rows, "FAIL", "shut it off now")


def test_a_relay_that_refuses_everybody(strange: Any) -> None:
    rows = strange("refuses")
    assert says(rows, "OK", "refuses wrong credentials") and says(rows, "FAIL", "it answers 401")


def test_a_relay_that_is_silent(strange: Any) -> None:
    ((level, text, step),) = strange("silent")
    assert level == "FAIL" and "no answer within" in text and "firewall" in step


def test_calls_that_are_off(admin: Admin) -> None:
    assert one(admin, "calls")[0][:2] == ("OK", "calls are not helped: [calls] enabled = no")


@pytest.mark.parametrize(("address", "hidden"), [("10.1.2.3:5", True), ("[fd00::1]:5", True), ("8.8.8.8:5", False)])
def test_addresses_that_nobody_outside_reaches(address: str, hidden: bool) -> None:
    assert doctor_calls._is_hidden(address) is hidden


def test_doctor_changes_nothing(own: Any) -> None:
    daemon, admin = own
    daemon.stop()
    before = {path: path.stat().st_mtime_ns for path in daemon.data_dir.rglob("*")}
    admin("doctor", "--seconds", "5")
    after = {path: path.stat().st_mtime_ns for path in daemon.data_dir.rglob("*")}
    assert before == after and os.listdir(daemon.data_dir)
