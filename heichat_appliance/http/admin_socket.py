"""The operator's way to the running daemon: HTTP over a Unix socket in the data folder, with routes of its own.

Nothing of it can be reached through the public listeners. Who may use it is a matter of the operating system: the socket
belongs to the daemon's user (mode 0600), and the kernel says who is at the other end (SO_PEERCRED, unix(7)): root and that
user are let in, nobody else, whatever the modes of folders are.
"""

from __future__ import annotations

import os
import resource
import socket
import stat
import struct
import time
from pathlib import Path
from typing import Any

from msgspec import Struct
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from heichat_appliance import __version__
from heichat_appliance.config import ConfigErrors
from heichat_appliance.errors import MatrixError, not_found
from heichat_appliance.http.connection import Connection
from heichat_appliance.http.routing import Auth, Request, Route
from heichat_appliance.http.server import HTTPFactory, Limits
from heichat_appliance.http.site import Site
from heichat_appliance.services.administration import Administration
from heichat_appliance.services.notices import Notices

NAME = "admin.sock"
#: The longest path of a Unix socket (sun_path, with its NUL).
MAX_PATH = 107
#: Writes of one measurement.
MAX_COMMITS = 1000
#: What is done so often, or to nobody, that the log need not have it.
_QUIET = ("/commits", "/notices")

log = Logger()


class AdminSocket:
    """Listens in the data folder while the daemon runs."""

    def __init__(self, host: Any) -> None:
        """`host`: the app.Appliance."""
        self._path: Path = host.data_dir / NAME
        self._reactor = host.reactor
        self._port: IListeningPort | None = None
        site = Site(_routes(host), _NoSessions(), {}, ())
        self._factory = _AdminFactory(site, host.reactor, limits=Limits(connections=20))

    def start(self) -> None:
        """Begin to listen. The caller holds the lock of the data folder, so a socket that lies there is a dead one's.

        Where that can't be (a long path, a file system without sockets) people chat nevertheless. Raises ConfigErrors if
        something else lies there.
        """
        if self._path.is_symlink() or self._path.exists():
            if not stat.S_ISSOCK(self._path.lstat().st_mode):
                raise ConfigErrors([f"{self._path} is not a socket (hint: what is it? move it away)"])
            self._path.unlink()
        before = os.umask(0o177)  # from its first moment nobody else may use it
        try:
            if len(os.fsencode(self._path)) > MAX_PATH:
                raise CannotListenError(None, str(self._path), "the path is too long for a Unix socket")
            self._port = self._reactor.listenUNIX(str(self._path), self._factory, mode=0o600)
        except CannotListenError as error:
            log.error("heichat-admin can't reach this daemon: {path}: {error} (hint: another data_dir)",
                      path=str(self._path), error=str(error.socketError))  # fmt: skip
        finally:
            os.umask(before)

    async def stop(self) -> None:
        """Stop listening; the socket goes."""
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
            await self._factory.shut_down().addTimeout(1, self._reactor)


class _AdminFactory(HTTPFactory):
    def welcome(self, connection: Connection) -> None:
        super().welcome(connection)
        credentials = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        user = struct.unpack("3i", credentials)[1]
        if user not in (0, os.geteuid()):
            log.warn("user {user} tried to use the socket for heichat-admin", user=user)
            connection.refuse(403, "Only root and the daemon's own user may do this.")
        connection.peer = f"user {user}"  # for the log


class _NoSessions:
    """Nobody logs in here."""

    def authenticate(self, token: str, peer: str) -> Any:
        raise MatrixError(401, "M_UNKNOWN_TOKEN", "there are no sessions here")


class _Flag(Struct):
    value: bool


class _Reason(Struct):
    reason: str | None = None


class _Notice(Struct):
    user_id: str
    body: str
    once: str
    formatted_body: str | None = None


class _Count(Struct):
    count: int


def _routes(host: Any) -> list[Route]:
    notices = Notices(host.timeline, host.server_name, _administrator(host))
    service = Administration(
        host.engine, host.timeline, host.frozen_rooms, host.media, notices, host.server_name
    )  # fmt: skip
    return [*_server_routes(host, service), *_people_routes(host, service), *_room_routes(service)]


def _administrator(host: Any) -> str:
    """The user ID that notices come from. Nobody may log in as it, also without the plugin that sees to that."""
    user_id = f"@{host.config['terms_consent'].administrator}:{host.server_name}"
    if "terms_consent" not in host.plugins:
        try:
            host.accounts.reserve(user_id)
        except ValueError as error:
            raise ConfigErrors([f"[terms_consent] administrator: {error} (hint: choose a name that is no Uni-ID)"])
    return user_id


def _server_routes(host: Any, service: Administration) -> list[Route]:
    status = _Status(host)

    async def commits(request: Request) -> Any:
        count = max(1, min(MAX_COMMITS, request.body.count))
        return {"ms": await service.measure_commits(count), "durability": host.config["storage"].durability}

    def calls(request: Request) -> Any:
        """What people are told of the relay; without a user ID of theirs, for doctor."""
        return host.calls.offer.turn_server(f"@doctor:{host.server_name}") if host.calls else {}

    async def notify(request: Request) -> Any:
        notice: _Notice = request.body
        content = {"body": notice.body}
        if notice.formatted_body is not None:
            content |= {"format": "org.matrix.custom.html", "formatted_body": notice.formatted_body}
        return {"sent": await service.notify(notice.user_id, content, notice.once)}

    async def remove_media(request: Request) -> Any:
        return {"removed": await service.remove_media(request.params["mediaId"])}

    return [
        _row("GET", "/status", status.tell),
        _row("GET", "/calls", calls),
        _row("POST", "/commits", commits, _Count),
        _row("POST", "/notices", notify, _Notice),
        _row("POST", "/media/{mediaId}/remove", remove_media),
    ]


def _people_routes(host: Any, service: Administration) -> list[Route]:
    async def flag(request: Request) -> Any:
        name = request.params["flag"]
        if name not in ("locked", "suspended"):
            raise not_found("flag: locked or suspended")
        service.check_person(request.params["userId"])
        await host.accounts.put_flag(request.params["userId"], name, request.body.value)

    async def log_out(request: Request) -> Any:
        user_id = request.params["userId"]
        service.check_person(user_id)
        devices = len(host.sessions.devices(user_id))
        await host.sessions.delete_all(user_id)
        return {"devices": devices}

    async def leave_all(request: Request) -> Any:
        return {"rooms": await service.leave_all(request.params["userId"], request.body.reason)}

    return [
        _row("POST", "/users/{userId}/flags/{flag}", flag, _Flag),
        _row("POST", "/users/{userId}/log-out", log_out),
        _row("POST", "/users/{userId}/leave-all", leave_all, _Reason),
    ]


def _room_routes(service: Administration) -> list[Route]:
    async def freeze(request: Request) -> Any:
        await service.freeze(request.params["roomId"], request.body.value)

    async def shut_down(request: Request) -> Any:
        return {"left": await service.shut_down(request.params["roomId"], request.body.reason)}

    async def promote(request: Request) -> Any:
        return {"level": await service.promote(request.params["roomId"], request.params["userId"])}

    async def redact(request: Request) -> Any:
        room_id, event_id = request.params["roomId"], request.params["eventId"]
        return {"event_id": await service.redact(room_id, event_id, request.body.reason)}

    async def redact_all(request: Request) -> Any:
        done, failed = await service.redact_all(request.params["roomId"], request.body.reason)
        return {"redacted": done, "failed": failed}

    return [
        _row("POST", "/rooms/{roomId}/frozen", freeze, _Flag),
        _row("POST", "/rooms/{roomId}/shut-down", shut_down, _Reason),
        _row("POST", "/rooms/{roomId}/promote/{userId}", promote),
        _row("POST", "/rooms/{roomId}/redact", redact_all, _Reason),
        _row("POST", "/rooms/{roomId}/redact/{eventId}", redact, _Reason),
    ]


def _row(method: str, path: str, handler: Any, body: Any = None) -> Route:
    shown = _logged(path, handler) if method == "POST" and path not in _QUIET else handler
    return Route(method=method, path=path, handler=shown, auth=Auth.NONE, limit="none", anchor="", body=body)


def _logged(path: str, handler: Any) -> Any:
    """Who did what to whom is in the log; what was said is not."""

    def logged(request: Request) -> Any:
        log.info("operator, {who}: {path} {whom}", who=request.exchange.peer, path=path, whom=request.params)
        return handler(request)

    return logged


class _Status:
    """What the daemon knows of itself."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self._started = time.time()
        self._started_monotonic = time.monotonic()

    def tell(self, _: Request) -> Any:
        """GET /status. `clock_jump`: seconds by which the clock was set since the start (it should not be); memory in
        bytes."""
        host, engine = self._host, self._host.engine
        running = time.monotonic() - self._started_monotonic
        return {
            "version": __version__,
            "pid": os.getpid(),
            "server_name": host.server_name,
            "running_seconds": round(running, 1),
            "clock_jump": round(time.time() - self._started - running, 3),
            "database_version": host.database_version,
            "epoch": engine.epoch,
            "position": engine.position,
            "commits": engine.commits,
            "commit_failures": engine.commit_failures,
            "connections": host.factory.connections,
            "listening": [str(port.getHost()) for port in host.ports],
            "files_open": len(os.listdir("/proc/self/fd")),
            "files_limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "memory": _resident(),
            "plugins": list(host.plugins),
        }


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
