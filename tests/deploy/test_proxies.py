"""deploy/nginx.conf and deploy/apache.conf: Debian's nginx and Apache before the real daemon."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest

from tests import certificates
from tests.daemon import Client, Daemon, Person, free_port, wait_until
from tests.deploy.machine import ROOT

pytestmark = pytest.mark.proxies

#: What Debian's configuration says around the site, and what makes the site fit for a test: (program, arguments, text, changes).
SERVERS = {
    "nginx": (
        ["nginx", "-c", "{folder}/around.conf", "-p", "{folder}"],
        """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
user {user};
events {{ worker_connections 512; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    access_log off;
    include {folder}/site.conf;
}}
""",
        {
            "listen [::]:443 ssl http2;": "",
            "listen [::]:80;": "",
            "listen 443 ": "listen 127.0.0.1:{port} ",
            "listen 80;": "listen 127.0.0.1:{plain_port};",
            "server_name matrix-im.example.org;": "server_name 127.0.0.1;",
        },
    ),
    "apache2": (
        ["apache2", "-d", "{folder}", "-f", "{folder}/around.conf", "-DFOREGROUND"],
        """
ServerName 127.0.0.1
PidFile {folder}/apache.pid
ErrorLog {folder}/error.log
Listen 127.0.0.1:{port}
Listen 127.0.0.1:{plain_port}
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
Include {folder}/site.conf
""",
        {
            "<VirtualHost *:80>": "<VirtualHost *:{plain_port}>",
            "<VirtualHost *:443>": "<VirtualHost *:{port}>",
            "ServerName matrix-im.example.org": "ServerName 127.0.0.1",
            "https://matrix-im.example.org/": "https://127.0.0.1/",
        },
    ),
}


@dataclass
class Proxied:
    """A daemon and the web server before it."""

    program: str
    daemon: Daemon
    port: int
    plain_port: int
    certificate: Path

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def person(self, uni_id: str) -> Person:
        """A demo person who comes through the proxy."""
        person = self.daemon.login(uni_id)
        through = Person(self.url, person.login)
        through.connection = HTTPSConnection("127.0.0.1", self.port, timeout=60, context=self.trust())
        return through

    def status(self, source: str, **headers: str) -> int:
        """The status of a request without login from the address `source`."""
        connection = HTTPSConnection(
            "127.0.0.1", self.port, timeout=20, context=self.trust(), source_address=(source, 0)
        )
        connection.request(
            "POST",
            "/_matrix/client/v3/refresh",
            '{"refresh_token": "unknown"}',
            {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}},
        )
        status = connection.getresponse().status
        connection.close()
        return status


@pytest.fixture(scope="module", params=SERVERS)
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    program = shutil.which(request.param, path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip(f"{request.param} is not installed (Debian package {request.param})")
    command, around, changes = SERVERS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    key, certificate = certificates.make(folder)
    port, plain_port = free_port(), free_port()
    limits = {"enabled": "yes", "anonymous_burst": "10", "anonymous_rate": "0.01"}
    server = {"trusted_proxies": "127.0.0.1", "public_url": f"https://127.0.0.1:{port}"}
    with Daemon(folder, {"server": server, "limits": limits}) as daemon:
        values = {"folder": folder, "port": port, "plain_port": plain_port, "user": folder.owner()}
        site = (ROOT / "deploy" / f"{request.param.removesuffix('2')}.conf").read_text()
        for old, new in {
            **changes,
            "127.0.0.1:8008": f"127.0.0.1:{daemon.port}",
            "/etc/ssl/matrix-im/chain.pem": str(certificate),
            "/etc/ssl/matrix-im/key.pem": str(key),
        }.items():
            assert old in site
            site = site.replace(old, new.format(**values))
        (folder / "site.conf").write_text(site)
        (folder / "around.conf").write_text(around.format(**values))
        with (folder / "proxy.log").open("wb") as log:
            proxy = subprocess.Popen(
                [program, *(word.format(**values) for word in command[1:])], stdout=log, stderr=log
            )
        try:
            wait_until(lambda: _listens(port) or proxy.poll() is not None, what="the proxy listens")
            assert proxy.poll() is None, (folder / "proxy.log").read_text()
            yield Proxied(request.param, daemon, port, plain_port, certificate)
        finally:
            proxy.terminate()
            proxy.wait(20)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_long_poll_waits_and_wakes(proxied: Proxied) -> None:
    alice, bob = proxied.person("alice"), proxied.person("bob")
    room_id = alice.create_room(invite=[bob.user_id])
    bob.ok("POST", f"/join/{room_id}")
    since = bob.sync()["next_batch"]
    bob.begin("GET", "/sync", since=since, timeout=60_000)
    event_id = alice.send(room_id, "hello")
    (event,) = bob.finish().json["rooms"]["join"][room_id]["timeline"]["events"]
    assert event["event_id"] == event_id
    assert bob.sync(since=bob.sync()["next_batch"], timeout=50)["next_batch"]


def test_the_largest_file_goes_up_and_comes_down(proxied: Proxied) -> None:
    alice = proxied.person("alice")
    content = hashlib.sha256(b"seed").digest() * (50 * 2**20 // 32)
    connection = alice.connection
    headers = {"Authorization": f"Bearer {alice.token}", "Content-Type": "application/octet-stream"}
    connection.request("POST", "/_matrix/media/v3/upload", content, headers)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, body
    media = body.decode().split("mxc://")[1].rstrip('"}')
    connection.request("GET", f"/_matrix/client/v1/media/download/{media}", headers=headers)
    answer = connection.getresponse()
    assert hashlib.sha256(answer.read()).digest() == hashlib.sha256(content).digest()

    connection.request("POST", "/_matrix/media/v3/upload", content + b"x", headers)
    answer = connection.getresponse()
    assert answer.status == 413
    answer.read()


def test_limits_count_the_clients_address_which_nobody_can_forge(proxied: Proxied) -> None:
    statuses = [proxied.status("127.0.0.2") for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    assert proxied.status("127.0.0.2", X_Forwarded_For="127.0.0.77") == 429
    assert proxied.status("127.0.0.3") == 401
    assert proxied.status("127.0.0.3", X_Forwarded_For="127.0.0.2") == 401


def test_encoded_paths_arrive_as_they_were_sent(proxied: Proxied) -> None:
    alice = proxied.person("alice")
    room_id = alice.create_room()
    path = f"/rooms/{room_id}/state/org.example.x/a%2Fb%3Ac%20d%25"
    alice.ok("PUT", path, {"x": 1})
    keys = [
        event["state_key"] for event in alice.ok("GET", f"/rooms/{room_id}/state") if event["type"] == "org.example.x"
    ]
    assert keys == ["a/b:c d%"]


def test_many_clients_wait_at_once(proxied: Proxied) -> None:
    alice = proxied.person("alice")
    room_id = alice.create_room()
    since = alice.sync()["next_batch"]
    count = 100 if proxied.program == "nginx" else 20  # with Apache each holds a thread, as its example says
    clients = []
    for _ in range(count):
        client = Client(proxied.url, token=alice.token, tls=proxied.trust())
        client.begin("GET", "/sync", since=since, timeout=60_000)
        clients.append(client)
    alice.send(room_id, "all of you")
    found: list[bool] = []

    def finish(client: Client) -> None:
        found.append(room_id in client.finish().json["rooms"]["join"])
        client.close()

    threads = [threading.Thread(target=finish, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [True] * count


def test_plain_http_is_sent_to_https(proxied: Proxied) -> None:
    connection = HTTPConnection("127.0.0.1", proxied.plain_port, timeout=20)
    connection.request("GET", "/?lang=de", headers={"Host": "127.0.0.1"})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Location"]) == (301, "https://127.0.0.1/?lang=de")
