"""The real daemon as a subprocess, and people who use it with blocking calls: for whole journeys and for other programs.

daemon = Daemon(tmp_path)
daemon.start()
alice = daemon.login("alice")
alice.put(...)
daemon.stop()       # SIGTERM: must end with status 0 within 5 s
daemon.kill()       # kill -9
daemon.start()      # again, over the same data and on the same port
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import socket
import ssl
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from tests.appliance import CLIENT, SERVER_NAME, Answer, demo_password

#: Below the ports that the system gives to outgoing connections, so that nobody takes ours between two starts.
_PORTS = (20_000, 32_000)
START_SECONDS = 30
STOP_SECONDS = 5

TWISTD = str(Path(sysconfig.get_path("scripts")) / "twistd")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses now."""
    for _ in range(100):
        port = random.randint(*_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


def wait_until(condition: Any, seconds: float = 10, what: str = "") -> Any:
    """Ask until the answer is true, and return it; fails when `seconds` have gone by."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what or condition}"
        time.sleep(0.01)  # between two questions, not for something to happen
    return found


class Client:
    """Blocking HTTP over one kept connection; for one thread at a time."""

    def __init__(self, url: str, *, token: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "https":
            self.connection = http.client.HTTPSConnection(host, port, timeout=60, context=tls)
        else:
            self.connection = http.client.HTTPConnection(host, port, timeout=60)
        self.token = token

    def begin(self, method: str, path: str, body: Any = None, **params: Any) -> None:
        """Send a request without reading the answer; paths as in tests.appliance.Http."""
        target = path if path.startswith(("/_", "/.")) else CLIENT + path
        if params:
            target += "?" + urlencode(params, doseq=True)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        self.connection.request(method, target, None if body is None else json.dumps(body).encode(), headers)

    def finish(self) -> Answer:
        """Read the answer to what `begin` sent."""
        response = self.connection.getresponse()
        content = response.read()
        try:
            value = json.loads(content)
        except ValueError:
            value = None
        return Answer(response.status, value, {k.lower(): v for k, v in response.getheaders()}, content)

    def request(self, method: str, path: str, body: Any = None, **params: Any) -> Answer:
        """Send a request and read its answer."""
        self.begin(method, path, body, **params)
        return self.finish()

    def ok(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """The JSON of an answer that must be 200."""
        answer = self.request(method, path, body, **params)
        assert answer.status == 200, (method, path, answer.status, answer.json or answer.body)
        return answer.json

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        self.connection.close()


class Person(Client):
    """A person on one device, with the actions that journeys are made of."""

    def __init__(self, url: str, login: dict[str, Any]) -> None:
        super().__init__(url, token=login["access_token"])
        self.url = url
        self.login = login
        self.user_id: str = login["user_id"]
        self._numbers = itertools.count()

    def again(self) -> Person:
        """The same session over another connection (for another thread, or after a restart)."""
        return Person(self.url, self.login)

    def create_room(self, **body: Any) -> str:
        """createRoom; the room ID."""
        return self.ok("POST", "/createRoom", body)["room_id"]

    def send(self, room_id: str, text: str, txn: str | None = None) -> str:
        """Send a text message; the event ID."""
        txn = txn or f"{id(self)}.{next(self._numbers)}"
        path = f"/rooms/{quote(room_id)}/send/m.room.message/{quote(txn)}"
        return self.ok("PUT", path, {"msgtype": "m.text", "body": text})["event_id"]

    def sync(self, **params: Any) -> dict[str, Any]:
        """/sync."""
        return self.ok("GET", "/sync", **params)


class Daemon:
    """`twistd -n heichat` over `folder`: configuration, data and output are files in it."""

    def __init__(
        self, folder: Path, config: dict[str, dict[str, str]] | None = None, *, args: Sequence[str] = ()
    ) -> None:
        """`config` overrides or adds keys; limits are off by default. `args` replaces `--config FILE`."""
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_dir = folder / "data"
        self.output_path = folder / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.config_path = folder / "heichat.ini"
        self.args = args or ["--config", str(self.config_path)]
        self.logger = ""  # twistd's --logger
        folder.mkdir(parents=True, exist_ok=True)
        self._write_config(config or {})

    def _write_config(self, config: dict[str, dict[str, str]]) -> None:
        values: dict[str, dict[str, str]] = {
            "server": {
                "name": SERVER_NAME,
                "public_url": self.url,
                "listen": f"tcp:{self.port}:interface=127.0.0.1",
                "data_dir": str(self.data_dir),
                "admins": "admin",
            },
            "plugins": {"enabled": "demo_directory, closed_rooms"},
            "demo_directory": {"demo": "yes"},
            "limits": {"enabled": "no"},
            "calls": {"enabled": "no"},
        }
        for section, keys in config.items():
            values.setdefault(section, {}).update(keys)
        lines = []
        for section, keys in values.items():
            lines += [
                f"[{section}]",
                *(f"{key} = {value.replace(chr(10), chr(10) + '  ')}" for key, value in keys.items()),
            ]
        self.config_path.write_text("\n".join(lines) + "\n", "utf-8")

    # -- running -------------------------------------------------------------------------------------------------

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the process and do not wait for anything."""
        logger = [f"--logger={self.logger}"] if self.logger else []
        with self.output_path.open("ab") as output:
            self.process = subprocess.Popen(
                [TWISTD, "-n", *logger, "heichat", *self.args], cwd=self.folder, stdout=output, stderr=subprocess.STDOUT
            )
        return self.process

    def start(self) -> None:
        """Start and wait until it answers."""
        self.launch()
        wait_until(self._answers, START_SECONDS, "the daemon answers")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}:\n{self.output()}"
        client = Client(self.url)
        try:
            return client.request("GET", "/_matrix/client/versions").status == 200
        except OSError:
            return False
        finally:
            client.close()

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        assert self.process is not None
        self.process.terminate()

    def stop(self) -> None:
        """SIGTERM; it must end in order within 5 s, and must not have logged an error since it began."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the daemon did not stop within {STOP_SECONDS} s:\n{self.output()}")
        self.process = None
        output = self.output()
        assert status == 0, f"the daemon ended with {status}:\n{output}"
        assert "Traceback" not in output, output

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        """Stop in order and start again over the same data."""
        self.stop()
        self.start()

    def output(self) -> str:
        """Everything it printed and logged, over all its starts."""
        return self.output_path.read_text("utf-8", "replace")

    def __enter__(self) -> Daemon:
        self.start()
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        """Leave no process behind; where nothing has failed yet, it must stop in order."""
        if kind is None and self.process is not None:
            self.stop()
        self.kill()

    def verify(self) -> str:
        """`heichat-admin verify` over the data, beside the daemon or without it: what it says; it must find nothing."""
        command = [sys.executable, "-m", "heichat_appliance.admin.main", "--config", str(self.config_path), "verify"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # -- using ---------------------------------------------------------------------------------------------------

    def login(self, uni_id: str, password: str | None = None, **extra: Any) -> Person:
        """Log a demo person in."""
        body = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": uni_id},
            "password": password or demo_password(uni_id),
            **extra,
        }
        return Person(self.url, Client(self.url).ok("POST", "/login", body))
