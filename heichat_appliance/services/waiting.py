"""Waiting for news: the long poll of /sync and of sliding sync.

Whoever has nothing to hear waits as a small object (no stack of coroutines): registered with the notifier first, looked
at second, parked third. Those who are woken together are looked at in slices of time, so that a lecture of a thousand
does not hold up the rest.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from heichat_appliance.notify import Notifier

#: Seconds of work at a stretch before others get a turn, the packets of calls among them.
SLICE = 0.005
#: Time-outs of LONG seconds and more end at multiples of GRAIN seconds, so that those of one moment share a timer.
LONG = 5.0
GRAIN = 0.5

#: The answer's JSON in pieces.
Body = list[bytes]
#: `look(may_wait)`: the answer, or a Deferred of it. None, if there is nothing to tell, only where it may wait.
Look = Callable[[bool], Any]


class _Waiter:
    """A parked request."""

    __slots__ = ("group", "look", "result", "user_id", "waiting")

    def __init__(self, waiting: Waiting, user_id: str, look: Look) -> None:
        self.waiting = waiting
        self.user_id = user_id
        self.look = look
        self.result: Deferred[Body] = Deferred(self._gone)
        #: those whose time is up together with this one's, while it is parked
        self.group: set[_Waiter] | None = None

    def wake(self, crowd: bool) -> None:
        self.waiting.woken(self, crowd)

    def _gone(self, _: Deferred[Body]) -> None:
        self.waiting.release(self)


class Waiting:
    """Those who wait for an answer."""

    def __init__(self, reactor: Any, notifier: Notifier) -> None:
        self._reactor = reactor
        self._notifier = notifier
        #: who is parked, by the moment at which their time is up
        self._parked: dict[float, set[_Waiter]] = {}
        self._timers: dict[float, IDelayedCall] = {}
        #: who was woken with few others, and who in a crowd: a room of ten does not wait until a lecture is through
        self._woken: tuple[deque[_Waiter], deque[_Waiter]] = (deque(), deque())
        self._draining = False
        self._stopping = False

    def answer(self, user_id: str, timeout_ms: int, look: Look) -> Deferred[Body]:
        """What `look` gives: at once if it gives something, else when it does, or after the time-out."""
        if timeout_ms <= 0 or self._stopping:
            return _deferred(look(False))
        waiter = _Waiter(self, user_id, look)
        self._notifier.register(user_id, waiter)
        try:
            found = look(True)
        except BaseException:
            self._notifier.unregister(user_id, waiter)
            raise
        if found is None:
            self._park(waiter, timeout_ms / 1000)
            return waiter.result
        self._notifier.unregister(user_id, waiter)
        return _deferred(found)

    def _park(self, waiter: _Waiter, seconds: float) -> None:
        now = self._reactor.seconds()
        due = now + seconds
        if seconds >= LONG:
            due = math.ceil(due / GRAIN) * GRAIN
        group = self._parked.get(due)
        if group is None:
            group = self._parked[due] = set()
            self._timers[due] = self._reactor.callLater(due - now, self._timed_out, due)
        group.add(waiter)
        waiter.group = group

    def woken(self, waiter: _Waiter, crowd: bool) -> None:
        """Something happened that may concern this waiter."""
        self._woken[crowd].append(waiter)
        if not self._draining:
            self._draining = True
            self._reactor.callLater(0, self._drain)

    def _drain(self) -> None:
        until = time.perf_counter() + SLICE
        few, crowd = self._woken
        while few or crowd:
            for queue in self._woken:
                waiter = queue.popleft() if queue else None
                if waiter is not None and waiter.group is not None:  # else it was answered, or is gone
                    self._look(waiter, not self._stopping)
            if time.perf_counter() > until:
                self._reactor.callLater(0, self._drain)
                return
        self._draining = False

    def _timed_out(self, due: float) -> None:
        """Time is up. What came at the last moment and has not been looked at yet must not be skipped."""
        del self._timers[due]
        self._answer_all(list(self._parked.pop(due)))

    def _answer_all(self, waiters: list[_Waiter]) -> None:
        until = time.perf_counter() + SLICE
        while waiters:
            waiter = waiters.pop()
            if waiter.group is not None:
                self._look(waiter, False)
            if time.perf_counter() > until:
                self._reactor.callLater(0, self._answer_all, waiters)
                return

    def _look(self, waiter: _Waiter, may_wait: bool) -> None:
        try:
            found = waiter.look(may_wait)
        except Exception:
            self.release(waiter)
            waiter.result.errback()
            return
        if found is None:
            return
        self.release(waiter)
        if isinstance(found, Deferred):
            found.addBoth(_pass_on, waiter.result)
        else:
            waiter.result.callback(found)

    def release(self, waiter: _Waiter) -> None:
        """The waiter waits no longer."""
        self._notifier.unregister(waiter.user_id, waiter)
        if waiter.group is not None:
            waiter.group.discard(waiter)
            waiter.group = None

    def stop(self) -> None:
        """Answer everybody who waits; nobody waits from now on."""
        self._stopping = True
        for timer in self._timers.values():
            timer.cancel()
        self._notifier.wake_everybody()


def _deferred(found: Any) -> Deferred[Body]:
    return found if isinstance(found, Deferred) else succeed(found)


def _pass_on(found: Any, result: Deferred[Body]) -> None:
    if not result.called:  # the client may have gone meanwhile
        result.callback(found)


def in_slices(reactor: Any, pieces: Iterator[bytes]) -> Deferred[Body]:
    """Collect the pieces, giving others a turn now and then."""
    result: Deferred[Body] = Deferred()
    _collect(reactor, pieces, [], result)
    return result


def _collect(reactor: Any, pieces: Iterator[bytes], done: Body, result: Deferred[Body]) -> None:
    if result.called:
        return  # the client has gone
    until = time.perf_counter() + SLICE
    try:
        for piece in pieces:
            done.append(piece)
            if time.perf_counter() > until:
                reactor.callLater(0, _collect, reactor, pieces, done, result)
                return
    except Exception:
        result.errback()
        return
    result.callback(done)
