"""Delivering notifications to push gateways, in the background: a slow or dead one costs nobody else anything.

A pusher's notifications go one after another. One that fails is tried again with growing pauses; a gateway that could
not be reached and then can be gets at once what waited for it. Source: Push Gateway API, "Homeserver behaviour".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import orjson
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from heichat_appliance.clock import Clock
from heichat_appliance.outgoing import Outgoing
from heichat_appliance.protocol.pusheval import NOTHING, Actions
from heichat_appliance.store.pushers import Pusher

log = Logger()

#: Notifications of one pusher that wait; the oldest is given up for a new one. And the age in ms at which one is.
MAX_WAITING = 50
MAX_AGE_MS = 24 * 3600 * 1000
#: Requests to one gateway at a time.
AT_ONCE = 10
#: Seconds between two tries: at first, and at most.
FIRST_PAUSE = 1.0
LAST_PAUSE = 600.0
#: Seconds that requests under way have when the server stops.
LAST_SECONDS = 1.0


class Waiting(NamedTuple):
    """A notification that waits: position of its event (0: only the counts are told), what the rules do, since when."""

    pos: int
    actions: Actions
    since_ms: int


class Target:
    """A pusher, what waits for it, and how many unread events it was last told of (None: not known)."""

    __slots__ = ("gone", "pause", "pusher", "queued", "stored_resume", "told", "url", "waiting")

    def __init__(self, pusher: Pusher) -> None:
        self.waiting: deque[Waiting] = deque(maxlen=MAX_WAITING)
        self.told: int | None = None
        self.pause = 0.0
        self.queued = self.gone = False
        self.stored_resume = pusher.resume_after
        self.update(pusher)

    def update(self, pusher: Pusher) -> None:
        """The pusher was set again."""
        self.pusher = pusher
        self.url: str = orjson.loads(pusher.data)["url"]

    def add_counts(self, now: int) -> None:
        """The counts are to be told, unless a notification will do that anyway."""
        if not self.waiting and self.told != 0:
            self.waiting.append(Waiting(0, NOTHING, now))

    @property
    def resume_after(self) -> int | None:
        """Events after this position wait; None if none does."""
        return next((waiting.pos - 1 for waiting in self.waiting if waiting.pos), None)


#: Makes the body of a notification; None if there is no reason for it any more.
Compose = Callable[[Target, Waiting], Awaitable[bytes | None]]


class Gateways:
    """All gateways, by URL."""

    def __init__(
        self, reactor: IReactorTime, clock: Clock, outgoing: Outgoing, compose: Compose,
        rejected: Callable[[Target], None],
    ) -> None:  # fmt: skip
        """`rejected` is called when a gateway says that a pushkey is no more."""
        self.reactor = reactor
        self.clock = clock
        self.outgoing = outgoing
        self.compose = compose
        self.rejected = rejected
        self._gateways: dict[str, _Gateway] = {}
        self._stopped = False

    def ready(self, target: Target) -> None:
        """Something waits for this target."""
        if not target.queued and target.waiting and not self._stopped:
            gateway = self._gateways.get(target.url)
            if gateway is None:
                gateway = self._gateways[target.url] = _Gateway(self, target.url)
            gateway.add(target)

    def forget(self, url: str) -> None:
        """For a gateway: nothing waits for it."""
        self._gateways.pop(url, None)

    async def stop(self) -> None:
        """Begin nothing more. What is not answered soon is broken off and counts as not delivered."""
        self._stopped = True
        under_way = [work for gateway in self._gateways.values() for work in gateway.stop()]
        if under_way:
            await DeferredList(under_way).addTimeout(LAST_SECONDS, self.reactor)


class _Gateway:
    def __init__(self, owner: Gateways, url: str) -> None:
        self._owner = owner
        self._url = url
        self._ready: deque[Target] = deque()
        self._pausing: dict[Target, IDelayedCall] = {}
        self._sending: set[Deferred[None]] = set()
        self._unreachable = self._stopped = False

    def add(self, target: Target) -> None:
        target.queued = True
        self._ready.append(target)
        self._send()

    def stop(self) -> set[Deferred[None]]:
        self._stopped = True
        for call in self._pausing.values():
            call.cancel()
        return self._sending

    def _send(self) -> None:
        while self._ready and len(self._sending) < AT_ONCE and not self._stopped:
            target = self._ready.popleft()
            work = Deferred.fromCoroutine(self._serve(target))
            self._sending.add(work)
            work.addErrback(self._broken, target)
            work.addBoth(self._served, work, target)
        if not (self._ready or self._sending or self._pausing):
            self._owner.forget(self._url)

    def _broken(self, failure: Any, target: Target) -> None:
        if not self._stopped:
            log.failure("a notification could not be made", failure)
            target.waiting.clear()

    def _served(self, _: Any, work: Deferred[None], target: Target) -> None:
        self._sending.discard(work)
        if target not in self._pausing:
            target.queued = False
            if target.url != self._url:
                self._owner.ready(target)
            elif target.waiting and not target.gone:
                self.add(target)
        self._send()

    async def _serve(self, target: Target) -> None:
        """Deliver what waits longest, or give it up; a failure makes the target pause."""
        if target.gone or target.url != self._url or not target.waiting:
            return
        waiting = target.waiting[0]
        if self._owner.clock.now_ms() - waiting.since_ms < MAX_AGE_MS:
            body = await self._owner.compose(target, waiting)
            if body is not None and not await self._deliver(target, body):
                return
        if target.waiting and target.waiting[0] is waiting:
            target.waiting.popleft()

    async def _deliver(self, target: Target, body: bytes) -> bool:
        """Whether the notification is settled: accepted, or refused for good."""
        try:
            answer = await self._owner.outgoing.post(self._url, body)
        except Exception as error:
            if not self._stopped:
                self._unreachable = True
                self._pause(target, str(error) or type(error).__name__)
            return False
        if self._unreachable:
            self._unreachable = False
            self._resume_all()
        if answer.status >= 500 or answer.status in (408, 429):
            if not self._stopped:
                self._pause(target, f"status {answer.status}")
            return False
        target.pause = 0.0
        if answer.status != 200:
            log.warn("push gateway {url} refused a notification: {status}", url=self._url, status=answer.status)
        elif target.pusher.pushkey in _rejected(answer.body):
            self._owner.rejected(target)
        return True

    def _pause(self, target: Target, reason: str) -> None:
        target.pause = min(max(FIRST_PAUSE, target.pause * 2), LAST_PAUSE)
        log.info("push gateway {url} fails ({reason}); next try in {pause:.0f} s", url=self._url, reason=reason,
                 pause=target.pause)  # fmt: skip
        self._pausing[target] = self._owner.reactor.callLater(target.pause, self._resume, target)

    def _resume(self, target: Target) -> None:
        self._pausing.pop(target)
        self.add(target)

    def _resume_all(self) -> None:
        for target, call in list(self._pausing.items()):
            call.cancel()
            self._resume(target)


def _rejected(body: bytes) -> list[Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return []
    rejected = found.get("rejected") if isinstance(found, dict) else None
    return rejected if isinstance(rejected, list) else []
