"""The servers under measurement as child processes on core 0: matrix-synapse from PyPI, and the appliance."""

import asyncio
import configparser
import fcntl
import hashlib
import hmac
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from .client import Connection

SERVER_CORE, LOAD_CORE = 0, 1
CACHE = Path(os.environ.get("HEICHAT_BENCH_CACHE", Path.home() / ".cache" / "heichat-bench"))
REPOSITORY = Path(__file__).resolve().parent.parent
SERVER_NAME = "bench.example.org"
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


# The log configuration that Synapse generates for a new server, in a file named by its working folder.
SYNAPSE_LOG = {
    "version": 1,
    "formatters": {
        "precise": {"format": "%(asctime)s - %(name)s - %(lineno)d - %(levelname)s - %(request)s - %(message)s"}
    },
    "handlers": {
        "file": {"class": "logging.FileHandler", "formatter": "precise", "filename": "synapse.log"},
        "buffer": {
            "class": "synapse.logging.handlers.PeriodicallyFlushingMemoryHandler",
            "target": "file",
            "capacity": 10,
            "flushLevel": 30,
            "period": 5,
        },
    },
    "root": {"level": "INFO", "handlers": ["buffer"]},
    "disable_existing_loggers": False,
}


class Server:
    """A server process with its data in `folder`, for `people`. Subclasses say how it is run and what it needs."""

    name: str

    def __init__(self, folder: Path, people: list[str]):
        self.folder = folder
        self.people = people
        self.port = free_port()
        self.process = None

    async def start(self, *, fast_setup: bool = False) -> float:
        """Starts it pinned to its core; returns the seconds from the start to the first answer."""
        self.configure(fast_setup)
        log = (self.folder / "stdout.log").open("ab")
        began = time.perf_counter()
        self.process = subprocess.Popen(
            self.command(),
            cwd=self.folder,
            stdout=log,
            stderr=log,
            preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE % os.cpu_count()}),
        )
        while not await self._answers():
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} did not start, see {self.folder}/stdout.log")
            await asyncio.sleep(0.005)
        return time.perf_counter() - began

    async def _answers(self) -> bool:
        connection = Connection(self.port)
        try:
            status, _ = await connection.request("GET", "/_matrix/client/versions", None, None)
        except ConnectionError:
            return False
        finally:
            connection.close()
        return status == 200

    def stop(self) -> float:
        """Ends it in order; returns the seconds that took."""
        began = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return time.perf_counter() - began

    def cpu_ms(self) -> float:
        """User and system time of the process, its threads and its children so far, in milliseconds."""
        return sum(map(_cpu_ms, _tree(self.process.pid)))

    def resident_mib(self) -> float:
        """Resident memory of the process and its children, in MiB."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in _tree(self.process.pid))
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def forget_peak(self) -> None:
        """From now on `peak_mib` is counted anew."""
        for pid in _tree(self.process.pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5)

    def peak_mib(self) -> float:
        """The most resident memory that the process and its children had, in MiB."""
        status = [Path(f"/proc/{pid}/status").read_text().splitlines() for pid in _tree(self.process.pid)]
        return sum(int(line.split()[1]) for lines in status for line in lines if line.startswith("VmHWM:")) / 1024

    async def settled(self, quiet_s: float = 0.4, at_most_s: float = 120) -> None:
        """Waits until it has done what it still does in the background: until it uses less than a tenth of its core."""
        deadline = time.monotonic() + at_most_s
        before = self.cpu_ms()
        while time.monotonic() < deadline:
            await asyncio.sleep(quiet_s)
            now = self.cpu_ms()
            if now - before < quiet_s * 100:
                return
            before = now

    def configure(self, fast_setup: bool) -> None:
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    async def admit(self, name: str) -> tuple[str, str]:
        """Makes sure that the person exists and logs in once: (user ID, access token)."""
        raise NotImplementedError

    async def _post(self, path: str, body: dict | None) -> dict:
        connection = Connection(self.port)
        method, data = ("GET", None) if body is None else ("POST", orjson.dumps(body))
        try:
            status, answer = await connection.request(method, path, None, data)
        finally:
            connection.close()
        if status != 200:
            raise SystemExit(f"{self.name}: {path}: {status} {answer[:300]!r}")
        return orjson.loads(answer)

    async def log_in(self, name: str) -> tuple[str, str]:
        """Password login: (user ID, access token)."""
        identifier = {"type": "m.id.user", "user": name}
        body = {"type": "m.login.password", "identifier": identifier, "password": password(name)}
        answer = await self._post("/_matrix/client/v3/login", body)
        return answer["user_id"], answer["access_token"]


class Synapse(Server):
    """matrix-synapse on SQLite, as it configures itself but with its rate limits raised; in its own environment."""

    name = "Synapse"
    venv = CACHE / "synapse-venv"
    secret = "bench"

    @classmethod
    def install(cls) -> str:
        """Installs the newest release from PyPI unless one is there; its version."""
        python = cls.venv / "bin" / "python"
        if not python.exists():
            print("installing matrix-synapse ...", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", cls.venv], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "matrix-synapse"], check=True)
        show = "import importlib.metadata as m; print(m.version('matrix-synapse'))"
        return subprocess.run([python, "-c", show], check=True, capture_output=True, text=True).stdout.strip()

    @classmethod
    def fingerprint(cls) -> str:
        return "synapse-" + cls.install()

    def configure(self, fast_setup):
        # As `--generate-config` writes it, with the limits raised and a /sync never answered from a cache.
        folder = str(self.folder)
        never = {"per_second": 1e6, "burst_count": 1e6}
        resources = [{"names": ["client", "federation"], "compress": False}]
        listener = {"port": self.port, "type": "http", "bind_addresses": ["127.0.0.1"], "x_forwarded": True}
        config = {
            "server_name": SERVER_NAME,
            "pid_file": f"{folder}/pid",
            "listeners": [{**listener, "tls": False, "resources": resources}],
            "database": {"name": "sqlite3", "args": {"database": f"{folder}/homeserver.db"}},
            "log_config": f"{folder}/log.yaml",
            "media_store_path": f"{folder}/media",
            "signing_key_path": f"{folder}/signing.key",
            "registration_shared_secret": self.secret,
            "macaroon_secret_key": self.secret,
            "form_secret": self.secret,
            "report_stats": False,
            "trusted_key_servers": [],
            "caches": {"sync_response_cache_duration": "0s"},
            "bcrypt_rounds": 4 if fast_setup else 12,
            "rc_message": never,
            "rc_registration": never,
            "rc_room_creation": never,
            "rc_joins_per_room": never,
            "rc_joins": {"local": never, "remote": never},
            "rc_login": {"address": never, "account": never, "failed_attempts": never},
        }
        (self.folder / "homeserver.yaml").write_text(json.dumps(config, indent=1))  # JSON is YAML
        (self.folder / "log.yaml").write_text(json.dumps(SYNAPSE_LOG))
        if not (self.folder / "signing.key").exists():
            keys = [*self.command(), "--generate-keys"]
            subprocess.run(keys, check=True, cwd=self.folder, stderr=subprocess.DEVNULL)

    def command(self):
        return [str(self.venv / "bin" / "python"), "-m", "synapse.app.homeserver", "-c", "homeserver.yaml"]

    async def admit(self, name):
        path = "/_synapse/admin/v1/register"
        nonce = (await self._post(path, None))["nonce"]
        fields = [nonce, name, password(name), "notadmin"]
        mac = hmac.new(self.secret.encode(), "\0".join(fields).encode(), hashlib.sha1).hexdigest()
        body = {"nonce": nonce, "username": name, "password": password(name), "admin": False, "mac": mac}
        answer = await self._post(path, body)
        return answer["user_id"], answer["access_token"]


class Heichat(Server):
    """The appliance as it is started in production, with the demo directory instead of LDAP and limits off."""

    name = "heiCHAT"
    twistd_options: tuple[str, ...] = ()

    def __init__(self, folder: Path, people: list[str]):
        super().__init__(folder, people)
        self.calls_port = free_port()

    @classmethod
    def fingerprint(cls) -> str:
        sources = sorted((REPOSITORY / "heichat_appliance").rglob("*.*"))
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources if path.suffix in (".py", ".sql")))
        return f"heichat-{digest.hexdigest()[:12]}"

    def configure(self, fast_setup):
        (self.folder / "users").write_text("".join(f"{name}:{password(name)}:Person {name}\n" for name in self.people))
        sections = {
            "server": {
                "name": SERVER_NAME,
                "public_url": f"http://localhost:{self.port}",
                "listen": f"tcp:{self.port}:interface=127.0.0.1",
                "data_dir": "data",
            },
            "plugins": {"enabled": "demo_directory"},
            "demo_directory": {"demo": "yes", "users": "users"},
            "storage": {"durability": "normal" if fast_setup else "full"},
            "limits": {"enabled": "no"},
            "calls": {"listen": f"udp:127.0.0.1:{self.calls_port}\ntcp:127.0.0.1:{self.calls_port}"},
        }
        config = configparser.ConfigParser(interpolation=None)
        config.read_dict(sections)
        with (self.folder / "heichat.ini").open("w") as file:
            config.write(file)

    def command(self):
        twistd = str(Path(sys.executable).with_name("twistd"))
        # An editable installation does not show its twistd plugin outside of the repository.
        return [
            "env",
            f"PYTHONPATH={REPOSITORY}",
            twistd,
            *self.twistd_options,
            "-n",
            "heichat",
            "--config",
            "heichat.ini",
        ]

    async def admit(self, name):
        return await self.log_in(name)


def password(name: str) -> str:
    return f"secret of {name}"


@contextmanager
def alone() -> Iterator[None]:
    """Pins this process to the core of the load, and waits until no other run uses the cores and the cache."""
    os.sched_setaffinity(0, {LOAD_CORE % os.cpu_count()})
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another run of the benchmarks is under way: waiting for its end", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _tree(pid: int) -> list[int]:
    """The process and all its descendants that live."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _cpu_ms(pid: int) -> float:
    # clock_getcpuclockid(3): the clock of a process with all threads that it has or had, far finer than the ticks that
    # /proc has. Of children that ended there are only ticks: proc(5), cutime and cstime are fields 16 and 17.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ended = sum(int(field) for field in fields[13:15]) * TICK_MS
    return time.clock_gettime(~pid << 3 | 2) * 1000 + ended
