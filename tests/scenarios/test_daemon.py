"""The life of a daemon: start, stop, refusals, TLS, `--demo`."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from heichat_appliance import __version__
from tests import certificates
from tests.appliance import SERVER_NAME
from tests.daemon import START_SECONDS, STOP_SECONDS, TWISTD, Client, Daemon, Person, free_port, wait_until


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as running:
        yield running


def refused(daemon: Daemon) -> str:
    """Start one that must not start; what it says."""
    process = daemon.launch()
    try:
        assert process.wait(START_SECONDS) == 1, daemon.output()
    finally:
        daemon.kill()
    output = daemon.output()
    assert "Traceback" not in output, output
    return output


# -- start -------------------------------------------------------------------------------------------------------


def test_start_tells_in_order_what_runs(daemon: Daemon) -> None:
    told = [
        f"heiCHAT {__version__} for {SERVER_NAME}",
        f"configuration: {daemon.config_path}",
        f"database: {daemon.data_dir / 'heichat.db'}, version ",
        f"listening: IPv4Address(type='TCP', host='127.0.0.1', port={daemon.port})",
        "plugins: demo_directory, closed_rooms",
    ]
    wait_until(lambda: told[-1] in daemon.output(), what="the start has been told")
    places = [daemon.output().find(text) for text in told]
    assert -1 not in places and places == sorted(places), daemon.output()


def test_configuration_errors_come_all_at_once(tmp_path: Path) -> None:
    daemon = Daemon(
        tmp_path,
        {
            "server": {"nmae": "x", "public_url": "no address", "listen": "carrier pigeon"},
            "storage": {"durability": "perhaps"},
            "limits": {"send_burst": "many"},
            "nonsense": {"a": "b"},
        },
    )
    output = refused(daemon)
    for name in ("nmae", "public_url", "listen", "durability", "send_burst", "nonsense"):
        assert name in output, output
    assert "hint" in output and "name" in output
    assert not (daemon.data_dir / "heichat.db").exists()


def test_a_configuration_that_is_not_there_is_refused(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.config_path.unlink()
    assert str(daemon.config_path) in refused(daemon)


def test_without_a_configuration_it_says_how_to_begin(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.args = []
    output = refused(daemon)
    assert "--config FILE" in output and "--demo" in output


def test_a_plugin_that_is_not_installed_stops_the_start(tmp_path: Path) -> None:
    output = refused(Daemon(tmp_path, {"plugins": {"enabled": "demo_directory, closed_room"}}))
    assert "closed_room," in output and "closed_rooms" in output


def test_the_demo_directory_needs_a_word_that_it_is_wanted(tmp_path: Path) -> None:
    assert "demo = yes" in refused(Daemon(tmp_path, {"demo_directory": {"demo": "no"}}))


def test_a_port_in_use_ends_the_start_with_a_sentence(daemon: Daemon, tmp_path: Path) -> None:
    second = Daemon(tmp_path / "second", {"server": {"listen": f"tcp:{daemon.port}:interface=127.0.0.1"}})
    process = second.launch()
    try:
        assert process.wait(START_SECONDS) == 1, second.output()
    finally:
        second.kill()
    assert "heiCHAT can't start" in second.output() and str(daemon.port) in second.output()
    assert "[server] listen" in second.output() and "Traceback" not in second.output()


def test_a_port_for_calls_in_use_ends_the_start_with_a_sentence(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        listen = f"tcp:127.0.0.1:0, udp:127.0.0.1:{taken.getsockname()[1]}"
        daemon = Daemon(tmp_path, {"calls": {"enabled": "yes", "listen": listen}})
        assert daemon.launch().wait(START_SECONDS) == 1, daemon.output()
    assert "heiCHAT can't start: [calls] listen: Address already in use (hint: does another STUN" in daemon.output()
    assert "Traceback" not in daemon.output()


def test_a_second_daemon_on_the_same_data_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    assert daemon.process is not None
    second = Daemon(tmp_path / "second", {"server": {"data_dir": str(daemon.data_dir)}})
    output = refused(second)
    assert "in use by another heiCHAT daemon" in output and str(daemon.process.pid) in output
    daemon.login("alice").sync()  # the first one is unharmed


def test_a_database_of_another_server_name_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    daemon.stop()
    other = Daemon(tmp_path / "other", {"server": {"name": "other.test", "data_dir": str(daemon.data_dir)}})
    output = refused(other)
    assert SERVER_NAME in output and "other.test" in output and "can't be changed" in output
    daemon.start()
    daemon.login("alice").sync()


# -- stop --------------------------------------------------------------------------------------------------------


def test_sigterm_answers_waiting_syncs(daemon: Daemon) -> None:
    alice, bob = daemon.login("alice"), daemon.login("bob")
    alice.create_room()
    waiting = [(person.again(), person.sync()["next_batch"]) for person in (alice, bob) for _ in range(5)]
    for person, since in waiting:
        person.begin("GET", "/sync", since=since, timeout=60_000)
    alice.ok("GET", "/account/whoami")  # read after the ten before it
    daemon.terminate()
    ends = []
    for person, _ in waiting:
        answer = person.finish()
        assert answer.status == 200, answer
        assert "rooms" not in answer.json
        ends.append(answer.json["next_batch"])
    daemon.restart()
    room_id = alice.again().create_room(name="After the restart")
    news = waiting[0][0].again().sync(since=ends[0], timeout=60_000)
    assert list(news["rooms"]["join"]) == [room_id], "a session goes on where it was when the daemon stopped"
    assert "rooms" not in waiting[-1][0].again().sync(since=ends[-1])


def test_sigterm_finishes_the_queue(daemon: Daemon) -> None:
    alice = daemon.login("alice")
    room_id = alice.create_room(name="Queue")
    acknowledged: dict[str, str] = {}
    enough = threading.Event()

    def send_on(person: Person, name: str) -> None:
        try:
            for number in range(100_000):
                text = f"{name}.{number}"
                acknowledged[text] = person.send(room_id, text, txn=text)
                if len(acknowledged) >= 40:
                    enough.set()
        except (OSError, AssertionError) as error:  # the server goes away, or says so
            failures.append(error)

    failures: list[Exception] = []
    threads = [threading.Thread(target=send_on, args=(alice.again(), f"sender{n}")) for n in range(8)]
    for thread in threads:
        thread.start()
    assert enough.wait(30)
    daemon.stop()
    for thread in threads:
        thread.join(10)
    assert not [error for error in failures if isinstance(error, AssertionError) and "500" in str(error)], failures
    daemon.start()
    again = alice.again()
    for text, event_id in acknowledged.items():
        assert again.ok("GET", f"/rooms/{room_id}/event/{event_id}")["content"]["body"] == text


def test_sigterm_with_nobody_there(daemon: Daemon) -> None:
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(STOP_SECONDS) == 0
    assert not list(daemon.data_dir.glob("*-wal")), "the database has been closed in order"


def test_half_a_request_does_not_hold_up_the_end(daemon: Daemon) -> None:
    client = Client(daemon.url)
    client.connection.putrequest("PUT", "/_matrix/client/v3/profile/x/displayname")
    client.connection.putheader("Content-Length", "100")
    client.connection.endheaders(b'{"displayname": ')
    daemon.login("alice").sync()
    daemon.stop()


# -- TLS ---------------------------------------------------------------------------------------------------------


def test_tls_beside_tcp(tmp_path: Path) -> None:
    key, cert = certificates.make(tmp_path)
    plain, secure = free_port(), free_port()
    listen = (
        f"tcp:{plain}:interface=127.0.0.1\n"
        f"ssl:{secure}:interface=127.0.0.1:privateKey={key}:certKey={cert}"
    )  # fmt: skip
    daemon = Daemon(tmp_path, {"server": {"listen": listen, "public_url": f"https://127.0.0.1:{secure}"}})
    daemon.port, daemon.url = plain, f"http://127.0.0.1:{plain}"
    with daemon:
        alice = daemon.login("alice")
        context = ssl.create_default_context(cafile=str(cert))
        client = Client(f"https://127.0.0.1:{secure}", token=alice.token, tls=context)
        assert client.ok("GET", "/account/whoami")["user_id"] == alice.user_id
        well_known = client.ok("GET", "/.well-known/matrix/client")
        assert well_known["m.homeserver"]["base_url"] == f"https://127.0.0.1:{secure}"
        assert client.connection.sock.version() in ("TLSv1.2", "TLSv1.3")
        since = client.ok("GET", "/sync")["next_batch"]
        client.begin("GET", "/sync", since=since, timeout=60_000)
        room_id = alice.create_room()
        assert room_id in client.finish().json["rooms"]["join"]


# -- the first minute --------------------------------------------------------------------------------------------


def test_the_demo_ends_with_its_terminal(tmp_path: Path) -> None:
    port = free_port()
    daemon = Daemon(tmp_path, args=["--demo", "--demo-port", str(port)])
    daemon.port, daemon.url = port, f"http://127.0.0.1:{port}"
    with daemon:
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        assert daemon.process.wait(STOP_SECONDS) == 0
        assert "heiCHAT has stopped" in daemon.output()


def test_demo_runs_without_configuration_and_says_who_may_log_in(tmp_path: Path) -> None:
    port = free_port()
    daemon = Daemon(tmp_path, args=["--demo", "--demo-port", str(port)])
    daemon.port, daemon.url = port, f"http://127.0.0.1:{port}"
    with daemon:
        printed = wait_until(lambda: re.search(r"alice\b.*alice-demo", daemon.output()), what="the demo people")
        assert printed
        assert f"{daemon.url}/try/" in daemon.output() and str(tmp_path / "heichat-demo") in daemon.output()
        second = subprocess.run(
            [TWISTD, "-n", "--pidfile=", "heichat", *daemon.args, "--demo-dir", "other"],
            cwd=tmp_path, capture_output=True, text=True, timeout=START_SECONDS,
        )  # fmt: skip
        assert second.returncode == 1 and "make run PORT=8009" in second.stdout + second.stderr
        pairs = re.findall(r"\b(\w+)\s+(\w+-demo)\b", daemon.output())
        assert len(pairs) >= 3
        for uni_id, password in pairs:
            daemon.login(uni_id, password).sync()
        assert (tmp_path / "heichat-demo" / "heichat.db").exists()
        listening = subprocess.run(["cat", "/proc/net/tcp"], capture_output=True, text=True).stdout
        assert f"0100007F:{port:04X}" in listening and f"00000000:{port:04X}" not in listening
