"""A push gateway over real HTTP, and pushers that use it."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.appliance import Actor

PATH = "/_matrix/push/v1/notify"


class Gateway(Resource):
    """Keeps the notifications that it got; `next` waits for one.

    `status` and `rejected` are what it answers; `silent`: it never does. `requests` counts all of them.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.received: list[dict[str, Any]] = []
        self.status = 200
        self.rejected: list[str] = []
        self.silent = False
        self.requests = 0
        self._taken = 0
        self._number = 0
        self._waiter: Deferred[None] | None = None
        self.start()

    def start(self) -> None:
        """Listen, again on the same port."""
        self._connections: set[Any] = set()
        self._port = reactor.listenTCP(self._number, Site(self), interface="127.0.0.1")
        self._number = self._port.getHost().port
        self.url = f"http://127.0.0.1:{self._number}{PATH}"

    async def stop(self) -> None:
        """Be gone: connections are refused."""
        await self._port.stopListening()
        for channel in self._connections:
            if channel.transport is not None:
                channel.transport.abortConnection()

    def render_POST(self, request: Any) -> Any:
        """What the appliance sends."""
        self.requests += 1
        self._connections.add(request.channel)
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            reactor.callLater(0, waiter.callback, None)
        if self.silent:
            return NOT_DONE_YET
        assert request.path == PATH.encode()
        assert request.getHeader("content-type") == "application/json"
        request.setResponseCode(self.status)
        if self.status == 200:
            self.received.append(json.loads(request.content.read())["notification"])
        return json.dumps({"rejected": self.rejected}).encode()

    async def asked(self, times: int) -> None:
        """Wait until there were so many requests, answered well or not."""
        while self.requests < times:
            await self._something()

    async def next(self) -> dict[str, Any]:
        """The next notification."""
        while len(self.received) <= self._taken:
            await self._something()
        self._taken += 1
        return self.received[self._taken - 1]

    @property
    def unseen(self) -> list[dict[str, Any]]:
        """What came and was not taken."""
        return self.received[self._taken :]

    async def _something(self) -> None:
        self._waiter = Deferred()
        await self._waiter.addTimeout(10, reactor)


def pusher(url: str, pushkey: str = "key", **changes: Any) -> dict[str, Any]:
    """The body that sets a pusher."""
    body = {
        "kind": "http",
        "app_id": "org.example.app",
        "pushkey": pushkey,
        "app_display_name": "App",
        "device_display_name": "Phone",
        "lang": "de",
        "data": {"url": url},
    }
    return body | changes


async def set_pusher(actor: Actor, url: str, pushkey: str = "key", **data: Any) -> None:
    """Set a pusher; `data` goes beside its URL."""
    actor.ok(await actor.post("/pushers/set", pusher(url, pushkey, data={"url": url, **data})))
