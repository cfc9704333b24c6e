"""What systemd is told, over a real datagram socket, and the log as journald wants it."""

from __future__ import annotations

import io
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, LogPublisher

from heichat_appliance import systemd
from tests import certificates
from tests.daemon import Daemon, free_port


class Manager:
    """systemd's side of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        """`address` is a path, or begins with @ for the abstract namespace."""
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(20)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def next(self) -> dict[str, str]:
        """The next message: its variables."""
        return dict(line.split("=", 1) for line in self._socket.recv(4096).decode().splitlines())

    def next_with(self, variable: str) -> dict[str, str]:
        """The next message that sets `variable`."""
        while variable not in (message := self.next()):
            pass
        return message

    def is_empty(self) -> bool:
        """Whether nothing waits to be read."""
        return not select.select([self._socket], [], [], 0)[0]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@heichat-test-{os.getpid()}"
    found = Manager(address)
    yield found
    found.close()


def test_the_watchdog_is_fed_at_half_its_interval(manager: Manager) -> None:
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}
    supervisor, clock = systemd.Supervisor(environ), Clock()
    assert environ == {}, "processes that the daemon starts must not find the socket"
    clock.advance(60)
    assert manager.is_empty(), "nothing before it is ready"
    supervisor.ready("serving\nx", clock)
    assert manager.next() == {"READY": "1", "STATUS": "serving x"}
    assert manager.next() == {"WATCHDOG": "1"}
    clock.advance(4.9)
    assert manager.is_empty()
    for _ in range(3):
        clock.advance(0.1)
        assert manager.next() == {"WATCHDOG": "1"}
        assert manager.is_empty()
        clock.advance(4.9)
    supervisor.ready("again", clock)  # after a reload: fed once, not twice
    assert manager.next()["READY"] == "1"
    clock.advance(0.1)
    assert manager.next() == {"WATCHDOG": "1"}
    assert manager.is_empty()


def test_a_watchdog_of_another_process_is_not_fed(manager: Manager) -> None:
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}
    clock = Clock()
    systemd.Supervisor(environ).ready("serving", clock)
    assert manager.next()["READY"] == "1"
    clock.advance(60)
    assert manager.is_empty()


def test_without_systemd_or_with_a_socket_that_is_gone_nothing_happens(tmp_path: Path) -> None:
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "1000000"}):
        supervisor, clock = systemd.Supervisor(environ), Clock()
        supervisor.ready("serving", clock)
        clock.advance(5)
        supervisor.reloading()
        supervisor.stopping()


def test_the_daemon_tells_what_it_does(manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = certificates.make(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    daemon = Daemon(tmp_path)
    listen = f"tcp:{daemon.port}:interface=127.0.0.1\nssl:{free_port()}:privateKey={key}:certKey={certificate}"
    daemon._write_config({"server": {"listen": listen}})
    daemon.launch()
    try:
        message = manager.next_with("READY")
        assert message["STATUS"].startswith("serving ")
        with socket.create_connection(("127.0.0.1", daemon.port), 5):
            pass  # ready means that it listens
        assert daemon.process is not None
        for _ in range(3):
            assert manager.next() == {"WATCHDOG": "1"}

        before = time.monotonic_ns() // 1000
        daemon.process.send_signal(signal.SIGHUP)
        message = manager.next_with("RELOADING")
        assert before <= int(message["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert manager.next_with("READY")["STATUS"].startswith("serving ")

        certificate.write_text("broken")
        daemon.process.send_signal(signal.SIGHUP)
        manager.next_with("RELOADING")
        assert f"{certificate} holds no certificate" in manager.next_with("READY")["STATUS"]

        daemon.process.terminate()
        assert manager.next_with("STOPPING")["STOPPING"] == "1"
        daemon.stop()
    finally:
        daemon.kill()


# -- the log -----------------------------------------------------------------------------------------------------


def test_the_journal_gets_lines_with_a_priority_and_without_a_time() -> None:
    out = io.StringIO()
    publisher = LogPublisher(systemd._journal_observer(out))
    log = Logger(namespace="heichat_appliance.x", observer=publisher)
    log.info("all is {state}", state="well")
    log.warn("hm")
    log.error("first\n<0>not the start of a line")
    try:
        raise ValueError("why")
    except ValueError:
        log.failure("it broke", level=LogLevel.critical)
    lines = out.getvalue().splitlines()
    assert lines[0] == "<6>[heichat_appliance.x#info] all is well"
    assert lines[1] == "<4>[heichat_appliance.x#warn] hm"
    assert lines[2:4] == ["<3>[heichat_appliance.x#error] first", "<3>  <0>not the start of a line"]
    assert lines[4].startswith("<2>[heichat_appliance.x#critical] it broke")
    assert all(line.startswith("<2>  ") for line in lines[5:])
    assert "ValueError: why" in lines[-1]


@pytest.mark.parametrize("journal", [True, False])
def test_the_daemon_logs_for_the_journal_only_when_it_is_connected_to_it(
    tmp_path: Path, journal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = Daemon(tmp_path)
    daemon.output_path.touch()
    found = daemon.output_path.stat()
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino if journal else 1}")
    daemon.logger = "heichat_appliance.systemd.log_observer"
    daemon.start()
    try:
        daemon.stop()
        lines = daemon.output().splitlines()
        assert lines
        assert all(line.startswith("<6>[") if journal else line[:2] == "20" for line in lines)
    finally:
        daemon.kill()
