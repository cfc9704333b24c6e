"""The daemon's socket for heichat-admin: who may use it, and what happens to one that a dead daemon left."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from heichat_appliance.admin.client import DaemonClient, NotRunning, Refused
from tests.daemon import START_SECONDS, Client, Daemon

NOBODY = 65534


def ask_as(user: int, path: Path) -> bytes:
    """The answer that another user of this machine gets."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            os.write(writer, _ask(path))
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


def _ask(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        try:
            while piece := client.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
    return answer


def path_of(daemon: Daemon) -> Path:
    return daemon.data_dir / "admin.sock"


def test_only_its_owner_may_open_it(daemon: Daemon) -> None:
    mode = path_of(daemon).stat().st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    assert DaemonClient(daemon.data_dir).get("/status")["pid"] == daemon.process.pid  # type: ignore[union-attr]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_others_are_refused_even_where_modes_let_them_in(daemon: Daemon) -> None:
    path = path_of(daemon)
    closed = [one for one in (path, *path.parents) if one.stat().st_mode & 0o007 != 0o007 and one != Path("/")]
    modes = {one: stat.S_IMODE(one.stat().st_mode) for one in closed}
    assert ask_as(NOBODY, path) == b""
    try:
        for one in closed:
            one.chmod(modes[one] | 0o007)
        said = ask_as(NOBODY, path)
        assert said.startswith(b"HTTP/1.1 403") and b"pid" not in said
        assert ask_as(0, path).startswith(b"HTTP/1.1 200")
    finally:
        for one, mode in modes.items():
            one.chmod(mode)


def test_it_is_not_reached_through_the_network(daemon: Daemon) -> None:
    client = Client(daemon.url)
    for method, path in (("GET", "/status"), ("POST", "/commits"), ("POST", "/users/x/log-out")):
        client.connection.request(method, path, b"{}" if method == "POST" else None)
        assert client.finish().status == 404, path


def test_nothing_of_the_public_api_is_there(daemon: Daemon) -> None:
    with pytest.raises(Refused) as refused:
        DaemonClient(daemon.data_dir).get("/_matrix/client/versions")
    assert refused.value.status == 404


def test_bad_requests_get_errors_of_the_protocol(daemon: Daemon) -> None:
    client = DaemonClient(daemon.data_dir)
    for path, body, status in (
        ("/commits", {"count": "many"}, 400),
        ("/commits", {}, 400),
        ("/users/%40alice%3Achat.test/flags/admin", {"value": True}, 404),
        ("/users/nobody/log-out", None, 400),
        ("/users/%40nobody%3Achat.test/log-out", None, 404),
        ("/users/%40alice%3Aother.test/log-out", None, 404),
        ("/rooms/%21none%3Achat.test/shut-down", {}, 404),
        ("/rooms/%21none%3Achat.test/frozen", {"value": True}, 404),
        ("/media/none/remove", None, 404),
        ("/notices", {"user_id": "@nobody:chat.test", "body": "x", "once": "y"}, 404),
    ):
        with pytest.raises(Refused) as refused:
            client.post(path, body)
        assert refused.value.status == status, (path, refused.value)


def test_a_killed_daemons_socket_is_in_nobodys_way(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        daemon.kill()
        assert path_of(daemon).exists()
        with pytest.raises(NotRunning):
            DaemonClient(daemon.data_dir).get("/status")
        daemon.start()
        assert DaemonClient(daemon.data_dir).get("/status")["pid"] == daemon.process.pid
        daemon.stop()
        assert not path_of(daemon).exists()


def test_what_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.data_dir.mkdir()
    path_of(daemon).write_text("precious")
    process = daemon.launch()
    assert process.wait(START_SECONDS) == 1
    assert "is not a socket" in daemon.output()
    assert path_of(daemon).read_text() == "precious"


def test_a_path_too_long_for_a_socket_costs_only_the_commands(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 90)
    with Daemon(folder) as daemon:
        assert daemon.login("alice").sync()["next_batch"]
        with pytest.raises(NotRunning):
            DaemonClient(daemon.data_dir).get("/status")
        assert "too long for a Unix socket" in daemon.output()


def test_where_no_socket_can_be_people_chat_nevertheless(tmp_path: Path) -> None:
    import asyncio
    from types import SimpleNamespace

    from twisted.internet.error import CannotListenError
    from twisted.internet.task import Clock

    from heichat_appliance.http.admin_socket import AdminSocket

    class NoSockets(Clock):
        def listenUNIX(self, path: str, *_: Any, **__: Any) -> None:
            raise CannotListenError(None, path, OSError(95, "Operation not supported"))

    accounts = SimpleNamespace(reserve=lambda _: None)
    config = {"terms_consent": SimpleNamespace(administrator="administrator")}
    nothing = dict.fromkeys(("engine", "timeline", "frozen_rooms", "media"))
    host = SimpleNamespace(
        data_dir=tmp_path,
        reactor=NoSockets(),
        config=config,
        server_name="x.test",
        plugins={},
        accounts=accounts,
        **nothing,
    )
    listener = AdminSocket(host)
    listener.start()
    assert not (tmp_path / "admin.sock").exists()
    asyncio.run(listener.stop())


def test_commits_really_write(daemon: Daemon) -> None:
    client = DaemonClient(daemon.data_dir)
    before = client.get("/status")["commits"]
    answer = client.post("/commits", {"count": 20})
    assert len(answer["ms"]) == 20 and min(answer["ms"]) > 0 and answer["durability"] == "full"
    assert client.get("/status")["commits"] >= before + 20


def test_a_silent_socket_does_not_hang_the_command(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "admin.sock"))
        silent.listen()
        with pytest.raises(NotRunning, match="timed out"):
            DaemonClient(tmp_path).get("/status", seconds=0.05)


def test_an_answer_that_is_none(tmp_path: Path) -> None:
    from threading import Thread

    with socket.socket(socket.AF_UNIX) as strange:
        strange.bind(str(tmp_path / "admin.sock"))
        strange.listen()

        def answer() -> None:
            connection, _ = strange.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\noops")

        thread = Thread(target=answer)
        thread.start()
        with pytest.raises(NotRunning):
            DaemonClient(tmp_path).get("/status", seconds=5)
        thread.join()


def test_status_is_complete(daemon: Daemon) -> None:
    status = DaemonClient(daemon.data_dir).get("/status")
    assert status["server_name"] == "chat.test" and status["epoch"] == 1 and status["commit_failures"] == 0
    assert status["files_open"] > 5 and status["files_limit"] > 100 and status["memory"] > 10_000_000
    assert abs(status["clock_jump"]) < 1 and "demo_directory" in status["plugins"]
    assert json.dumps(status)
