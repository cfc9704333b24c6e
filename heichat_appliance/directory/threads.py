"""Calls that block, in a few threads of their own, with a deadline that holds even when a thread hangs.

Twisted's ThreadPool does not fit: it queues without bound, its threads are not daemons, and its `stop()` joins them, so
that one hanging name lookup would keep the daemon from ending.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from heichat_appliance.extension import DirectoryUnavailable

QUEUE_PER_THREAD = 16  # a burst of logins waits its turn; more than this is refused at once
HANGING = 0.2  # part of the time-out after which a call counts as hanging: a healthy directory needs milliseconds
MARGIN = 0.1  # part of the time-out by which a thread gives up before the reactor does, to tell the better reason


class Job:
    """One call. Its thread asks `left()` before each step and keeps the connection in use in `connection`."""

    def __init__(self, work: Callable[[Job], Any], timeout: float) -> None:
        self.connection: Any = None
        self.started: float | None = None
        self.deferred: Deferred[Any] = Deferred()
        self.timer: Any = None
        self._work = work
        self._until = time.monotonic() + timeout * (1 - MARGIN)

    def left(self) -> float:
        """Seconds left; not above 0 when the time is over."""
        return self._until - time.monotonic()

    def run(self) -> Any:
        """The result or a Failure; in a thread."""
        self.started = time.monotonic()
        try:
            return self._work(self)
        except DirectoryUnavailable as error:
            return Failure(error.with_traceback(None))  # its frames hold the password
        except BaseException:
            return Failure()

    def cut(self) -> None:
        """Shut the connection that the thread may be waiting on, so that the thread comes back. Nothing is sent: the
        plain socket method is called even on a TLS socket, whose own would drop the encryption first."""
        self._until = 0.0
        sock = getattr(self.connection, "socket", None)
        if sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


class BlockingCalls:
    """`size` threads; each call's Deferred fires within `timeout` seconds, with DirectoryUnavailable at the latest."""

    def __init__(self, size: int, timeout: float) -> None:
        self._size = size
        self._timeout = timeout
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._jobs: set[Job] = set()  # handed to a thread or queued; touched by the reactor's thread alone
        self._running = False

    def start(self) -> None:
        """Start the threads."""
        from twisted.internet import reactor  # not before the service starts: importing it installs one

        self._reactor = reactor
        self._running = True
        for number in range(self._size):
            Thread(target=self._serve, name=f"directory-{number}", daemon=True).start()

    def stop(self) -> None:
        """Fail all calls under way and let the threads end; does not wait for them."""
        self._running = False
        for job in self._jobs:
            self._give_up(job, "the directory connection is being closed")
        for _ in range(self._size):
            self._queue.put(None)

    def call(self, work: Callable[[Job], Any]) -> Deferred[Any]:
        """Run `work(job)` in a thread. Fails at once when there is no hope that a thread gets to it in time."""
        refusal = self._refusal()
        if refusal:
            return fail(DirectoryUnavailable(refusal))
        job = Job(work, self._timeout)
        job.timer = self._reactor.callLater(
            self._timeout, self._give_up, job, f"no answer within {self._timeout:g} seconds"
        )
        self._jobs.add(job)
        self._queue.put(job)
        return job.deferred

    def _refusal(self) -> str | None:
        if not self._running:
            return "the directory connection is closed"
        if len(self._jobs) >= self._size * QUEUE_PER_THREAD:
            return f"{len(self._jobs)} calls wait for the directory already"
        now = time.monotonic()
        hanging = [job for job in self._jobs if job.started and now - job.started > self._timeout * HANGING]
        if len(hanging) >= self._size:
            return f"all {self._size} connections wait for a directory that does not answer"
        return None

    def _give_up(self, job: Job, reason: str) -> None:
        if job.timer.active():
            job.timer.cancel()
        job.cut()
        if not job.deferred.called:
            job.deferred.errback(DirectoryUnavailable(reason))

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            result = job.run()
            self._reactor.callFromThread(self._finish, job, result)
            del job, result  # a waiting thread keeps no password alive

    def _finish(self, job: Job, result: Any) -> None:
        self._jobs.discard(job)
        if job.timer.active():
            job.timer.cancel()
        if not job.deferred.called:  # else too late or cancelled: nobody waits for it
            job.deferred.callback(result)
