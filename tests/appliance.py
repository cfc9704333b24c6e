"""A whole appliance on a loopback port, and actors who use it over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import treq
from twisted.internet import reactor
from twisted.web.client import Agent, HTTPConnectionPool

from heichat_appliance.app import Appliance as Daemon
from heichat_appliance.config import from_values
from heichat_appliance.db import invariants
from heichat_appliance.db.engine import connect
from heichat_appliance.plugins import all_sections

SERVER_NAME = "chat.test"
CLIENT = "/_matrix/client/v3"
#: Paths that begin so are whole; others are in the client API v3.
OWN_PATHS = ("/_", "/.", "/?", "/try", "/element", "/terms", "/privacy", "/favicon.ico")


class ManualClock:
    """A clock that stands until the test moves it; `now` is in milliseconds."""

    def __init__(self, now: int = 1_800_000_000_000) -> None:
        self.now = now

    def now_ms(self) -> int:
        """See clock.Clock."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += int(seconds * 1000)


def q(value: str) -> str:
    """A path segment, percent-encoded."""
    return quote(value, safe="")


@dataclass
class Answer:
    """An HTTP answer: `json` is None where the body is not JSON."""

    status: int
    json: Any
    headers: dict[str, str]
    body: bytes

    @property
    def errcode(self) -> str | None:
        """The Matrix error code."""
        return self.json.get("errcode") if isinstance(self.json, dict) else None


class Http:
    """A client without login."""

    def __init__(self, url: str, pool: HTTPConnectionPool, token: str | None = None) -> None:
        self.url = url
        self.pool = pool
        self.token = token

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: dict[str, Any] | None = None,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 30,
    ) -> Answer:
        """Send a request; `body` goes as JSON, `raw` as it is; see OWN_PATHS."""
        url = self.url + (path if path.startswith(OWN_PATHS) or path == "/" else CLIENT + path)
        if params:
            url += "?" + urlencode(params, doseq=True)
        sent = dict(headers or {})
        if self.token:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        data = raw if raw is not None else (json.dumps(body).encode() if body is not None else None)
        agent = Agent(reactor, pool=self.pool)
        response = await treq.client.HTTPClient(agent).request(
            method, url, data=data, headers=sent, timeout=timeout, allow_redirects=False
        )
        content = await response.content()
        try:
            value = json.loads(content)
        except ValueError:
            value = None
        found = {k.decode().lower(): v[0].decode() for k, v in response.headers.getAllRawHeaders()}
        return Answer(response.code, value, found, content)

    async def get(self, path: str, **params: Any) -> Answer:
        """GET with query parameters."""
        return await self.request("GET", path, params=params)

    async def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        """POST JSON (an empty object if there is no body)."""
        return await self.request("POST", path, {} if body is None else body, **options)

    async def put(self, path: str, body: Any = None, **options: Any) -> Answer:
        """PUT JSON."""
        return await self.request("PUT", path, {} if body is None else body, **options)

    async def delete(self, path: str, body: Any = None, **options: Any) -> Answer:
        """DELETE, with JSON if there is a body."""
        return await self.request("DELETE", path, body, **options)


class Actor(Http):
    """A logged-in person on one device. The usual actions fail the test when the answer is not 200."""

    def __init__(self, url: str, pool: HTTPConnectionPool, login: dict[str, Any]) -> None:
        super().__init__(url, pool, login["access_token"])
        self.user_id: str = login["user_id"]
        self.device_id: str = login["device_id"]
        self.login = login
        self.since: str | None = None
        self._txn = 0

    @staticmethod
    def ok(answer: Answer) -> Any:
        """The JSON of an answer that must be 200."""
        assert answer.status == 200, (answer.status, answer.json or answer.body)
        return answer.json

    async def create_room(self, **body: Any) -> str:
        """createRoom; the room ID."""
        return self.ok(await self.post("/createRoom", body))["room_id"]

    async def invite(self, room_id: str, user_id: str) -> None:
        """Invite somebody."""
        self.ok(await self.post(f"/rooms/{q(room_id)}/invite", {"user_id": user_id}))

    async def join(self, room_id: str) -> str:
        """Join; the room ID."""
        return self.ok(await self.post(f"/join/{q(room_id)}"))["room_id"]

    async def leave(self, room_id: str) -> None:
        """Leave."""
        self.ok(await self.post(f"/rooms/{q(room_id)}/leave"))

    async def send(self, room_id: str, content: Any, type: str = "m.room.message", txn: str | None = None) -> str:
        """Send a message event (a string becomes m.text); the event ID."""
        if isinstance(content, str):
            content = {"msgtype": "m.text", "body": content}
        self._txn += 1
        path = f"/rooms/{q(room_id)}/send/{q(type)}/{q(txn or f'txn{self._txn}')}"
        return self.ok(await self.put(path, content))["event_id"]

    async def set_state(self, room_id: str, type: str, content: Any, state_key: str = "") -> str:
        """Set a piece of state; the event ID."""
        return self.ok(await self.put(f"/rooms/{q(room_id)}/state/{q(type)}/{q(state_key)}", content))["event_id"]

    async def sync(self, timeout: int = 0, **params: Any) -> dict[str, Any]:
        """/sync from where the last one ended (`since=None` begins anew); remembers next_batch."""
        since = params.pop("since", self.since)
        query = {"timeout": timeout, **({"since": since} if since else {}), **params}
        if isinstance(query.get("filter"), dict):
            query["filter"] = json.dumps(query["filter"])
        result = self.ok(await self.get("/sync", **query))
        self.since = result["next_batch"]
        return result


class Appliance:
    """A running daemon of the code under test, in this process."""

    def __init__(self, daemon: Daemon, url: str) -> None:
        self.daemon = daemon
        self.url = url
        self.pool = HTTPConnectionPool(reactor, persistent=True)
        self.pool.maxPersistentPerHost = 50
        self.pool.retryAutomatically = False

    @classmethod
    async def start(
        cls,
        folder: Path,
        *,
        plugins: Sequence[str] = ("demo_directory", "closed_rooms"),
        config: dict[str, dict[str, str]] | None = None,
        clock: Any = None,
        demo: bool = True,
    ) -> Appliance:
        """Start over `folder` (again: the same data). `config` overrides or adds keys; limits are off by default."""
        values: dict[str, dict[str, str]] = {
            "server": {
                "name": SERVER_NAME,
                "public_url": "https://chat.test",
                "listen": "tcp:0:interface=127.0.0.1",
                "data_dir": str(folder / "data"),
                "admins": "admin",
            },
            "plugins": {"enabled": ", ".join(plugins)},
            "limits": {"enabled": "no"},
            "calls": {"enabled": "no"},
        }
        for section, keys in (config or {}).items():
            values.setdefault(section, {}).update(keys)
        parsed = from_values(values, all_sections(), source="(test)", folder=folder, demo=demo)
        daemon = Daemon(parsed, reactor, clock)
        await daemon.start()
        return cls(daemon, f"http://127.0.0.1:{daemon.ports[0].getHost().port}")

    @property
    def http(self) -> Http:
        """A client without login."""
        return Http(self.url, self.pool)

    async def login(self, uni_id: str, password: str | None = None, **extra: Any) -> Actor:
        """Log a demo person in (the password of a demo person is known)."""
        body = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": uni_id},
            "password": password or demo_password(uni_id),
            **extra,
        }
        answer = await self.http.post("/login", body)
        assert answer.status == 200, (answer.status, answer.json)
        return Actor(self.url, self.pool, answer.json)

    async def stop(self) -> None:
        """Stop the daemon in order; the database it leaves must be whole."""
        await self.pool.closeCachedConnections()
        await self.daemon.stop()
        assert self.problems() == []

    def problems(self) -> list[str]:
        """What the invariant checker finds in the database."""
        daemon = self.daemon
        connection = connect(daemon.database_path, read_only=True)
        try:
            return invariants.check(
                connection.execute, daemon.server_name, daemon.signer.verify_keys, daemon.engine.position
            )
        finally:
            connection.close()


def demo_password(uni_id: str) -> str:
    """The password of an embedded demo person."""
    return f"{uni_id}-demo"
