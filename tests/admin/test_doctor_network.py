"""heichat-admin doctor: the directory, certificates, and the public address."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from heichat_appliance.admin import doctor_network
from tests import certificates
from tests.admin.kit import Admin, findings, make_admin, one, says
from tests.daemon import Daemon, free_port
from tests.slapd import SKIP_REASON, SLAPD, Authority, Slapd


def needs_slapd(test: Any) -> Any:
    """Marks a test that starts one."""
    return pytest.mark.slapd(pytest.mark.skipif(not SLAPD, reason=SKIP_REASON)(test))


# -- the directory -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("ca"))


def directory(tmp_path: Path, monkeypatch: Any, capsys: Any, server: Any, **keys: str) -> list[tuple[str, str, str]]:
    """What doctor finds at a directory."""
    settings = {
        "uri": server.uri,
        "start_tls": "no",
        "base": Slapd.base,
        "bind_dn": Slapd.service_dn,
        "bind_password": Slapd.service_password,
        "timeout": "2",
        **keys,
    }
    config = {"plugins": {"enabled": "ldap_identity, closed_rooms"}, "ldap_identity": settings}
    return one(make_admin(tmp_path / f"ldap{time.monotonic_ns()}", config, monkeypatch, capsys), "directory")


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: Any, authority: Authority) -> Iterator[Slapd]:
    people = [{"uid": "alice", "userPassword": "wonder-land"}]
    with Slapd(tmp_path_factory.mktemp("slapd"), people, tls=authority.issue(["127.0.0.1"])) as server:
        yield server


@needs_slapd
def test_a_good_one(slapd: Any, authority: Any, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    look = lambda **keys: directory(tmp_path, monkeypatch, capsys, slapd, **keys)  # noqa: E731
    ((level, text, _),) = look()
    assert level == "OK" and "connected in" in text and "bound in" in text and "searched in" in text
    rows = look(uri=slapd.ldaps_uri, ca_file=str(authority.ca_file))
    assert rows[0][0] == "OK" and says(rows, "WARN", "the certificate ends in 0 days")
    assert look(start_tls="yes", ca_file=str(authority.ca_file))[0][0] == "OK"


@needs_slapd
def test_what_may_be_wrong(slapd: Any, authority: Any, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    look = lambda **keys: directory(tmp_path, monkeypatch, capsys, slapd, **keys)  # noqa: E731
    assert says(look(bind_password="wrong"), "FAIL", "bind_dn and bind_password were refused")
    assert says(look(base=f"ou=none,{Slapd.base}"), "FAIL", "noSuchObject")
    assert says(look(filter="(&(objectClass=device)(uid={uid}))"), "FAIL", "found nobody")
    rows = look(uri=slapd.ldaps_uri)  # not signed by an authority of the system
    assert says(rows, "FAIL", "certificate verify failed")
    by_name = slapd.ldaps_uri.replace("127.0.0.1", "localhost")
    assert says(look(uri=by_name, ca_file=str(authority.ca_file)), "FAIL", "localhost")


@needs_slapd
def test_one_of_two_is_down(slapd: Any, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    dead = f"ldap://127.0.0.1:{free_port()}"
    rows = directory(tmp_path, monkeypatch, capsys, slapd, uri=f"{dead}\n{slapd.uri}")
    assert says(rows, "WARN", dead) and says(rows, "OK", slapd.uri)


@needs_slapd
def test_a_stopped_one(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    with Slapd(tmp_path, [{"uid": "alice", "userPassword": "x"}]) as server:
        assert directory(tmp_path, monkeypatch, capsys, server)[0][0] == "OK"
        server.stop()
        ((level, text, step),) = directory(tmp_path, monkeypatch, capsys, server)
        assert level == "FAIL" and server.uri in text and "firewall" in step


@needs_slapd
def test_an_expired_certificate(authority: Any, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    tls = authority.issue(["127.0.0.1"], expired=True)
    with Slapd(tmp_path, [{"uid": "alice", "userPassword": "x"}], tls=tls) as server:
        keys = {"uri": server.ldaps_uri, "ca_file": str(authority.ca_file)}
        assert says(directory(tmp_path, monkeypatch, capsys, server, **keys), "FAIL", "expired")


def test_a_silent_directory_is_given_up(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"ldap://127.0.0.1:{silent.getsockname()[1]}"
        rows = directory(tmp_path, monkeypatch, capsys, SimpleNamespace(uri=uri), timeout="0.3")
        assert says(rows, "FAIL", "timed out") or says(rows, "FAIL", "no answer in time")


# -- certificates and the public address -------------------------------------------------------------------------


class Secure(NamedTuple):
    """A daemon with TLS."""

    admin: Admin
    port: int


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: Any, capsys: Any) -> Iterator[Callable[..., Secure]]:
    """`secure(key, certificate)`: a daemon that listens with these files and has its public address there."""
    daemons = []

    def start(key: Path, certificate: Path, **server: str) -> Secure:
        port = free_port()
        daemon = Daemon(tmp_path / f"secure{len(daemons)}")
        listen = f"tcp:{daemon.port}:interface=127.0.0.1\nssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
        public = {"name": "127.0.0.1", "public_url": f"https://127.0.0.1:{port}", "listen": listen, **server}
        daemon._write_config({"server": public})
        daemon.start()
        daemons.append(daemon)
        return Secure(Admin(daemon, monkeypatch, capsys), port)

    yield start
    for daemon in daemons:
        daemon.kill()


def test_a_good_certificate_with_its_chain(secure: Any, tmp_path: Path) -> None:
    key, certificate, root = certificates.chain(tmp_path)
    admin, _ = secure(key, certificate)
    found = findings(admin, "--only", "tls", "public", "--ca-file", str(root))
    assert {level for rows in found.values() for level, _, _ in rows} == {"OK"}, found
    assert "good until" in found["tls"][0][1] and len(found["tls"]) == 2 and "leads here" in found["well-known"][0][1]
    assert says(one(admin, "tls"), "FAIL", "clients refuse the certificate")  # without the root


def test_a_chain_that_is_not_whole(secure: Any, tmp_path: Path) -> None:
    key, certificate, root = certificates.chain(tmp_path)
    pem = certificate.read_text()
    end = "-----END CERTIFICATE-----\n"
    certificate.write_text(pem.partition(end)[0] + end)
    admin, _ = secure(key, certificate)
    rows = one(admin, "tls", "--ca-file", str(root))
    assert says(rows, "FAIL", "unable to get local issuer certificate") and says(rows, "FAIL", "chain")


def test_a_certificate_that_ended_or_will(secure: Any, authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue(["127.0.0.1"], expired=True)
    admin, _ = secure(key, certificate)
    rows = one(admin, "tls", "--ca-file", str(authority.ca_file))
    assert says(rows, "FAIL", "the certificate ended on") and says(rows, "FAIL", "has expired")
    certificate, key = authority.issue(["127.0.0.1"])
    admin, _ = secure(key, certificate)
    rows = one(admin, "tls", "--ca-file", str(authority.ca_file))
    assert [level for level, _, _ in rows] == ["WARN", "WARN"] and "ends in 0 days" in rows[0][1]


def test_anothers_certificate(secure: Any, authority: Authority) -> None:
    certificate, key = authority.issue(["other.test"])
    admin, _ = secure(key, certificate)
    rows = one(admin, "tls", "--ca-file", str(authority.ca_file))
    assert says(rows, "FAIL", "is for other.test, not for 127.0.0.1") and says(rows, "FAIL", "IP address mismatch")


@pytest.mark.parametrize(
    ("name", "host", "fits"),
    [
        ("chat.example.org", "CHAT.example.org", True),
        ("*.example.org", "chat.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "a.chat.example.org", False),
        ("example.org", "chat.example.org", False),
    ],
)
def test_names_of_certificates(name: str, host: str, fits: bool) -> None:
    assert doctor_network._fits(name, host) is fits


class Web:
    """Answers GET as told: path -> (status, headers, body)."""

    def __init__(self, answers: dict[str, tuple[int, dict[str, str], bytes]]) -> None:
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, body = answers.get(self.path, (404, {}, b""))
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Web:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


VERSIONS, WELL_KNOWN = "/_matrix/client/versions", "/.well-known/matrix/client"
OPEN = {"Access-Control-Allow-Origin": "*"}


@pytest.mark.parametrize(
    ("answers", "check", "level", "part"),
    [
        ({}, "public", "FAIL", "answers 404"),
        ({VERSIONS: (502, {}, b"")}, "public", "FAIL", "answers 502"),
        ({VERSIONS: (200, OPEN, b"<html>")}, "public", "FAIL", "does not answer well"),
        ({VERSIONS: (200, OPEN, b"{}")}, "public", "FAIL", "no Matrix server"),
        ({VERSIONS: (200, {}, b'{"versions": []}')}, "public", "FAIL", "web clients can't use it"),
        ({VERSIONS: (200, OPEN, b'{"versions": []}')}, "well-known", "FAIL", "answers 404"),
        (
            {
                VERSIONS: (200, OPEN, b'{"versions": []}'),
                WELL_KNOWN: (200, OPEN, b'{"m.homeserver": {"base_url": "https://x"}}'),
            },
            "well-known",
            "FAIL",
            "names https://x, not",
        ),
        (
            {VERSIONS: (200, OPEN, b'{"versions": []}'), WELL_KNOWN: (200, OPEN, b'{"m.homeserver": 7}')},
            "well-known",
            "FAIL",
            "names None",
        ),
    ],
)
def test_what_a_proxy_may_do_wrong(
    tmp_path: Path, monkeypatch: Any, capsys: Any, answers: Any, check: str, level: str, part: str
) -> None:
    with Web(answers) as web:
        config = {"server": {"public_url": web.url, "name": "127.0.0.1"}}
        found = findings(make_admin(tmp_path / "x", config, monkeypatch, capsys), "--only", "public")
        assert says(found[check], level, part), found


def test_a_well_known_file_that_leads_here(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    answers = {VERSIONS: (200, OPEN, b'{"versions": []}')}
    with Web(answers) as web:
        answers[WELL_KNOWN] = (200, OPEN, b'{"m.homeserver": {"base_url": "%b/"}}' % web.url.encode())
        config = {"server": {"public_url": web.url, "name": "127.0.0.1"}}
        admin = make_admin(tmp_path / "x", config, monkeypatch, capsys)
        assert findings(admin, "--only", "public")["well-known"] == [("OK", f"{web.url}{WELL_KNOWN} leads here", "")]
        answers[WELL_KNOWN] = (200, {}, answers[WELL_KNOWN][2])
        assert findings(admin, "--only", "public")["well-known"][0][0] == "WARN"
