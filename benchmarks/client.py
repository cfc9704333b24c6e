"""A light Matrix client for load: raw HTTP/1.1 over asyncio, so that the load side is never the bottleneck."""

import asyncio
import itertools
import time
from urllib.parse import quote, urlencode

import orjson

# What a browser sends besides; servers pay for parsing headers, so a load client must send as many as Element does.
BROWSER_HEADERS = (
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: application/json\r\n"
    b"Accept-Language: de,en-US;q=0.7,en;q=0.3\r\n"
    b"Accept-Encoding: identity\r\n"
    b"Origin: http://localhost:8080\r\n"
    b"Connection: keep-alive\r\n"
    b"Referer: http://localhost:8080/\r\n"
    b"Sec-Fetch-Dest: empty\r\n"
    b"Sec-Fetch-Mode: cors\r\n"
    b"Sec-Fetch-Site: same-site\r\n"
)
# As matrix-js-sdk asks on behalf of Element Web: lazy members, threads counted, twenty events of each room.
ELEMENT_FILTER = {
    "room": {
        "state": {"lazy_load_members": True},
        "timeline": {"limit": 20, "unread_thread_notifications": True},
    }
}
# No rooms at all: the cheapest way for a client to learn a position to start waiting from.
POSITION_FILTER = {"room": {"rooms": []}, "presence": {"types": []}, "account_data": {"types": []}}


class RequestFailed(Exception):
    """An answer other than 200."""


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request in flight at a time; opened at need, and again if closed."""

    def __init__(self, port: int):
        self.port = port
        self.transport = None
        self.buffer = bytearray()
        self.waiter = None

    async def request(
        self, method: str, path: str, token: str | None, body: bytes | None, content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        """Sends a request, awaits the answer: (status, body). Tried again if the idle connection had been closed."""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost:{self.port}\r\n".encode() + BROWSER_HEADERS
        if token is not None:
            head += b"Authorization: Bearer " + token.encode() + b"\r\n"
        if body is not None:
            head += b"Content-Type: %b\r\nContent-Length: %d\r\n" % (content_type.encode(), len(body))
        message = head + b"\r\n" + (body or b"")
        fresh = self.transport is None
        try:
            return await self._exchange(message)
        except ConnectionError:
            if fresh:
                raise
            return await self._exchange(message)

    async def _exchange(self, message):
        loop = asyncio.get_running_loop()
        if self.transport is None:
            await loop.create_connection(lambda: self, "127.0.0.1", self.port)
        self.waiter = loop.create_future()
        self.transport.write(message)
        return await self.waiter

    def connection_made(self, transport):
        self.transport = transport
        self.buffer = bytearray()

    def connection_lost(self, exc):
        self.transport = None
        self._finish(exc or ConnectionResetError("the server closed the connection"))

    def data_received(self, data):
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        body = _body(head, self.buffer, end + 4)
        if body is not None:
            self.buffer = bytearray()
            self._finish((int(head[9:12]), body))

    def _finish(self, outcome):
        waiter, self.waiter = self.waiter, None
        if waiter is None or waiter.done():
            return
        if isinstance(outcome, Exception):
            waiter.set_exception(outcome)
        else:
            waiter.set_result(outcome)

    def close(self):
        if self.transport is not None:
            self.transport.abort()


def _body(head: bytearray, data: bytearray, start: int) -> bytes | bytearray | None:
    """The body that begins at `start`, or None while it is incomplete."""
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        length = int(head[at + 17 :].split(b"\r\n", 1)[0])
        return data[start : start + length] if len(data) >= start + length else None
    if b"\r\ntransfer-encoding: chunked" not in head:
        return b""
    if not data.endswith(b"0\r\n\r\n"):
        return None
    parts = []
    while True:
        line = data.find(b"\r\n", start)
        size = int(data[start:line], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(data[line + 2 : line + 2 + size])
        start = line + 2 + size + 2


class Person:
    """A logged-in person with two connections, as a browser has: one waits in /sync, the other does the rest."""

    _txn = itertools.count(time.time_ns())

    def __init__(self, port: int, user_id: str, token: str):
        self.user_id = user_id
        self.token = token
        self.api = Connection(port)
        self.poll = Connection(port)
        self.since = None
        self.filter_id = None

    async def call(self, method: str, path: str, body: dict | None = None) -> dict:
        """One request under /_matrix/client; its JSON answer. Raises RequestFailed for any status but 200."""
        data = None if body is None else orjson.dumps(body)
        return _checked(path, await self.api.request(method, "/_matrix/client" + path, self.token, data))

    async def create_room(self, name: str) -> str:
        """A room that everybody may join by its ID; the ID."""
        body = {"preset": "public_chat", "visibility": "private", "name": name}
        return (await self.call("POST", "/v3/createRoom", body))["room_id"]

    async def join(self, room_id: str) -> None:
        await self.call("POST", f"/v3/rooms/{quote(room_id, safe='')}/join", {})

    async def send(self, room_id: str, text: str) -> str:
        """Sends a text message; the event's ID."""
        path = f"/v3/rooms/{quote(room_id, safe='')}/send/m.room.message/b{next(self._txn)}"
        return (await self.call("PUT", path, {"msgtype": "m.text", "body": text}))["event_id"]

    async def upload(self, data: bytes, content_type: str) -> str:
        """Uploads a file; its server name and media ID with a slash between."""
        path = "/_matrix/media/v3/upload?filename=file"
        answer = await self.api.request("POST", path, self.token, data, content_type)
        return _checked(path, answer)["content_uri"].removeprefix("mxc://")

    async def download(self, path: str) -> bytes:
        """Fetches a file or a thumbnail: what stands at `path` under /_matrix/client/v1/media."""
        status, body = await self.api.request("GET", "/_matrix/client/v1/media" + path, self.token, None)
        if status != 200:
            raise RequestFailed(f"{path}: {status} {body[:300]!r}")
        return body

    async def use_element_filter(self) -> None:
        """Stores Element's filter, to be named in every later `sync`."""
        path = f"/v3/user/{quote(self.user_id, safe='')}/filter"
        self.filter_id = (await self.call("POST", path, ELEMENT_FILTER))["filter_id"]

    async def find_position(self) -> None:
        """Learns where the stream is now, without loading any room; opens the connection that will wait."""
        query = urlencode({"filter": orjson.dumps(POSITION_FILTER), "timeout": 0})
        path = "/_matrix/client/v3/sync?" + query
        self.since = _checked(path, await self.poll.request("GET", path, self.token, None))["next_batch"]

    async def sync(self, timeout_ms: int = 30_000) -> bytes:
        """One /sync from where the last one ended (initial if there was none); the raw answer."""
        query = {"filter": self.filter_id, "timeout": timeout_ms}
        if self.since is not None:
            query["since"] = self.since
        path = "/_matrix/client/v3/sync?" + urlencode(query)
        status, body = await self.poll.request("GET", path, self.token, None)
        self.since = _checked(path, (status, body))["next_batch"]
        return body

    def close(self):
        self.api.close()
        self.poll.close()


def _checked(path: str, answer: tuple[int, bytes]) -> dict:
    status, body = answer
    if status != 200:
        raise RequestFailed(f"{path.split('?')[0]}: {status} {body[:300]!r}")
    return orjson.loads(body)
