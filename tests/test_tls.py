"""TLS from files: endpoint strings, what is offered, and certificates that are replaced while people are connected."""

from __future__ import annotations

import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from heichat_appliance import tls
from tests import certificates
from tests.daemon import Client, Daemon, free_port, wait_until

# -- endpoint strings --------------------------------------------------------------------------------------------


def test_endpoint_strings_are_those_of_twisted() -> None:
    assert tls.parse("ssl:443:privateKey=/a/key.pem:certKey=/a/chain.pem") == {
        "port": "443", "privateKey": "/a/key.pem", "certKey": "/a/chain.pem", "backlog": "1024",
    }  # fmt: skip
    assert tls.parse(r"ssl:port=8448:privateKey=C\:/k=y.pem:interface=\:\::backlog=5") == {
        "port": "8448", "privateKey": "C:/k=y.pem", "interface": "::", "backlog": "5",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("endpoint", "complaint"),
    [
        ("ssl:443", "privateKey is missing"),
        ("ssl:https:privateKey=key.pem", "port must be a number"),
        ("ssl:privateKey=key.pem", "port must be a number"),
        ("ssl:443:privateKey=key.pem:sslmethod=TLSv1_METHOD", "'sslmethod' is not known"),
        ("ssl:443:key.pem", "'key.pem' is not known"),
        ("ssl:443:privateKey=key.pem:backlog=many", "backlog must be a number"),
    ],
)
def test_wrong_endpoint_strings_are_refused(endpoint: str, complaint: str) -> None:
    with pytest.raises(tls.TLSError, match=complaint):
        tls.parse(endpoint)


# -- files -------------------------------------------------------------------------------------------------------


def test_broken_files_are_refused_with_the_reason_and_the_old_certificate_stays(tmp_path: Path) -> None:
    key, certificate = certificates.make(tmp_path)
    good_key = key.read_bytes()
    known = tls.Certificates()
    files = known.files(key, certificate)
    serial = files.certificate.serial_number
    assert known.describe() == [files.describe()]
    assert files.describe().startswith("127.0.0.1, localhost, valid until 20")

    for content, reason in (
        ("nonsense", "holds no certificate in PEM"),
        ("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n", "error parsing"),
    ):
        certificate.write_text(content)
        (error,) = known.reload()
        assert str(certificate) in error and reason in error
        assert files.certificate.serial_number == serial
    certificate.unlink()
    assert known.reload() == [f"{certificate} can't be read: No such file or directory"]

    certificates.make(tmp_path)  # a new pair, of which only one half has arrived
    new_key = key.read_bytes()
    key.write_bytes(good_key)
    (error,) = known.reload()
    assert "key values mismatch" in error
    key.write_bytes(new_key)
    assert known.reload() == []
    assert files.certificate.serial_number != serial


def test_a_key_with_a_passphrase_is_refused_without_asking(tmp_path: Path) -> None:
    key, certificate = certificates.make(tmp_path)
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(tls.TLSError, match="passphrase"):
        tls.Certificates().files(key, certificate)


def test_an_expired_certificate_is_told(tmp_path: Path) -> None:
    key, certificate = certificates.make(tmp_path, days=-1)
    assert "EXPIRED" in tls.Certificates().files(key, certificate).describe()


# -- the daemon --------------------------------------------------------------------------------------------------


class SecureDaemon(Daemon):
    """With TCP for the tests' clients and TLS beside it."""

    def __init__(self, folder: Path, private_key: Path, certificate: Path) -> None:
        self.secure, self.relay = free_port(), free_port()
        super().__init__(folder)
        self._write_config(
            {
                "server": {
                    "listen": f"tcp:{self.port}:interface=127.0.0.1\n"
                    f"ssl:{self.secure}:interface=127.0.0.1:privateKey={private_key}:certKey={certificate}"
                },
                "limits": {"enabled": "no", "connections_per_address": "10000"},
                "calls": {
                    "enabled": "yes",
                    "listen": f"tls:127.0.0.1:{self.relay}",
                    "certificate": str(certificate),
                    "private_key": str(private_key),
                    "allow_networks": "127.0.0.0/8",
                },
            }
        )

    def handshake(self, context: ssl.SSLContext, port: int = 0) -> ssl.SSLSocket:
        """A new connection."""
        return context.wrap_socket(
            socket.create_connection(("127.0.0.1", port or self.secure), 20), server_hostname="127.0.0.1"
        )

    def serial(self, port: int = 0) -> int:
        """The serial number of the certificate that a new connection is shown."""
        with self.handshake(anybody(), port) as connection:
            return serial_of(connection)

    def hang_up_signal(self) -> None:
        """SIGHUP."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)


def anybody() -> ssl.SSLContext:
    """A context that takes every certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def serial_of(connection: Any) -> int:
    """The serial number of the certificate on the other side."""
    return x509.load_der_x509_certificate(connection.getpeercert(True)).serial_number


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureDaemon]:
    folder = tmp_path_factory.mktemp("tls")
    with SecureDaemon(folder, *certificates.make(folder)) as running:
        yield running


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_only_modern_tls_is_spoken(daemon: SecureDaemon) -> None:
    old = anybody()
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        daemon.handshake(old)
    weak = anybody()
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("ECDHE+AES+SHA256:ECDHE+AES+SHA384:RSA+AESGCM:!aNULL:!AESGCM:RSA")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        daemon.handshake(weak)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = anybody()
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        with daemon.handshake(context) as connection:
            assert connection.selected_alpn_protocol() == "http/1.1"
            assert connection.compression() is None
            assert connection.cipher()[0].startswith(("ECDHE", "TLS_"))


def test_the_chain_in_certkey_is_sent(tmp_path: Path) -> None:
    key, certificate, root = certificates.chain(tmp_path)
    with SecureDaemon(tmp_path, key, certificate) as daemon:
        client = Client(f"https://127.0.0.1:{daemon.secure}", tls=ssl.create_default_context(cafile=str(root)))
        assert client.request("GET", "/_matrix/client/versions").status == 200


def test_one_endpoint_listens_on_ipv4_and_ipv6(tmp_path: Path) -> None:
    """As install.sh writes it."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.xfail("this machine has no IPv6")
    key, certificate = certificates.make(tmp_path)
    daemon = Daemon(tmp_path)
    secure = free_port()
    listen = rf"ssl:{secure}:privateKey={key}:certKey={certificate}:interface=\:\:"
    daemon._write_config({"server": {"listen": f"tcp:{daemon.port}:interface=127.0.0.1\n{listen}"}})
    with daemon:
        for host in ("127.0.0.1", "[::1]"):
            client = Client(f"https://{host}:{secure}", tls=anybody())
            assert client.request("GET", "/_matrix/client/versions").status == 200


def test_a_broken_file_keeps_the_old_certificate_and_the_log_says_why(daemon: SecureDaemon) -> None:
    serial = daemon.serial()
    path = daemon.folder / "certificate.pem"
    path.write_text("-----BEGIN CERTIFICATE-----\nnot finished")
    daemon.hang_up_signal()
    wait_until(lambda: f"{path} holds no certificate" in daemon.output(), what="the reason is logged")
    assert daemon.serial() == serial
    certificates.make(daemon.folder)
    daemon.hang_up_signal()
    wait_until(lambda: daemon.serial() != serial, what="the new certificate")


def test_the_relay_gets_the_new_certificate_too(daemon: SecureDaemon) -> None:
    before = daemon.serial()
    assert daemon.serial(daemon.relay) == before
    certificates.make(daemon.folder)
    daemon.hang_up_signal()
    wait_until(lambda: daemon.serial() != before, what="the new certificate")
    assert daemon.serial(daemon.relay) == daemon.serial()


class Load:
    """Threads that use the daemon until they are stopped; whatever goes wrong is kept."""

    def __init__(self, daemon: SecureDaemon, token: str, *, kept: int, new: int) -> None:
        self.errors: list[str] = []
        self.counts = {"kept": 0, "new": 0}
        self._daemon, self._token, self._stop, self._lock = daemon, token, threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(self._keep,)) for _ in range(kept)]
        self._threads += [threading.Thread(target=self._run, args=(self._open,)) for _ in range(new)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def client(self) -> Client:
        return Client(f"https://127.0.0.1:{self._daemon.secure}", token=self._token, tls=anybody())

    def _run(self, work: Any) -> None:
        try:
            work()
        except Exception as error:
            self.errors.append(repr(error))

    def _count(self, kind: str) -> None:
        with self._lock:
            self.counts[kind] += 1

    def _keep(self) -> None:
        """One connection for all requests: it must stay the same, with the certificate it began with."""
        client = self.client()
        client.ok("GET", "/account/whoami")
        connection = client.connection.sock
        serial = serial_of(connection)
        while not self._stop.is_set():
            client.ok("GET", "/account/whoami")
            assert client.connection.sock is connection, "the connection was dropped"
            assert serial_of(connection) == serial
            self._count("kept")
        client.close()

    def _open(self) -> None:
        """A new connection for every request."""
        while not self._stop.is_set():
            client = self.client()
            client.ok("GET", "/account/whoami")
            client.close()
            self._count("new")


def test_reloading_under_load_drops_nothing(daemon: SecureDaemon) -> None:
    alice = daemon.login("alice")
    since = alice.sync()["next_batch"]
    seen, polls = {daemon.serial()}, []
    with Load(daemon, alice.token, kept=12, new=4) as load:
        for _ in range(20):  # long polls that began before the first reload
            poll = load.client()
            poll.begin("GET", "/sync", since=since, timeout=60_000)
            polls.append(poll)
        for _ in range(8):
            certificates.make(daemon.folder)
            daemon.hang_up_signal()
            known = set(seen)
            seen.add(wait_until(lambda known=known: {daemon.serial()} - known, what="a new certificate").pop())
            before = dict(load.counts)
            wait_until(lambda before=before: all(load.counts[kind] > before[kind] + 20 for kind in before))
        room_id = alice.create_room()
        for poll in polls:
            answer = poll.finish()
            assert answer.status == 200 and room_id in answer.json["rooms"]["join"]
            poll.close()
    assert load.errors == []
    assert len(seen) == 9
