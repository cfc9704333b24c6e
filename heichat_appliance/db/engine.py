"""The storage engine: one ordered writer, commit groups, answers only after the commit.

Jobs (ordinary synchronous functions of a `Transaction`) run on the reactor thread against the writer connection, each in
a savepoint; only COMMIT, which waits for the disk, runs in a thread. Jobs that arrive meanwhile form the next group. Reads
use other connections and so see committed data alone.

Positions: every write that a client can learn of takes the next number of one counter (`Transaction.next_position`). The
counter is never behind a number that was handed out, even after a crash: a ceiling is stored ahead of it, and a start begins
at the ceiling. That lets volatile facts (typing, presence) take numbers without a write to disk.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from heichat_appliance.errors import storage_failed

T = TypeVar("T")
log = Logger()

#: How far ahead of the counter the stored ceiling is put.
CEILING_STEP = 100_000
#: The most jobs of one commit group: bounds how long the reactor is busy with jobs at a stretch.
GROUP_LIMIT = 64
#: How long, in seconds, a group waits for more jobs when the last one had several, i.e. when many write: a commit costs as much
#: CPU as half a dozen jobs. Who writes alone never waits.
GATHER = 0.0003
#: `to_pos` of an interval that has not ended.
FOREVER = 2**63 - 1


#: The jobs of a group that went well: what waits for the result, the result, the transaction.
Group = list[tuple[Deferred[Any], Any, "Transaction"]]


class EngineStopped(Exception):
    """The engine is closing and takes no more jobs."""


class Transaction:
    """What a write job gets: SQL on the writer connection, positions, and who must hear of it after the commit.

    `execute` is the connection's. `rooms` and `users` collect what to announce: the IDs of rooms in which something
    happened and of users to whom something happened. `on_rollback(fn)` registers what restores memory when the job or its
    group is rolled back (caches drop what the job had put in).
    """

    __slots__ = ("_engine", "_undo", "execute", "rooms", "users")

    def __init__(self, engine: Engine, execute: Callable[..., sqlite3.Cursor]) -> None:
        self._engine = engine
        self.execute = execute
        self.rooms: set[str] = set()
        self.users: set[str] = set()
        self._undo: list[Callable[[], None]] = []

    def next_position(self) -> int:
        """The next number of the one counter; gaps happen, repeats never."""
        self._engine._counter += 1
        return self._engine._counter

    def on_rollback(self, undo: Callable[[], None]) -> None:
        """Call `undo` if this job's work does not reach the disk."""
        self._undo.append(undo)

    def roll_back_memory(self) -> None:
        """Run what was registered, last first."""
        while self._undo:
            self._undo.pop()()


def _no_sql(*_: object) -> sqlite3.Cursor:
    raise RuntimeError("a volatile job must not use the database")


class Engine:
    """Owner of the connections, the write queue and the position counter of one database file."""

    def __init__(self, path: Path, reactor: Any, *, durability: str = "full", readers: int = 2) -> None:
        """`path`: an existing, migrated database; `durability`: `full` (power loss) or `normal` (process loss)."""
        self._path = path
        self._reactor: IReactorFromThreads & IReactorTime & IReactorCore = reactor  # type: ignore[operator]
        self._writer = connect(path, durability=durability)
        self._reader = connect(path, read_only=True)
        self._jobs: deque[tuple[Callable[..., Any], tuple[Any, ...], bool, Deferred[Any]]] = deque()
        self._scheduled = False
        self._crowded = False
        self._committing = False
        self._stopping: Deferred[None] | None = None
        self._commits: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._committer = threading.Thread(target=self._commit_loop, name="commit", daemon=True)
        self._committer.start()
        self._pool = ThreadPool(0, readers, name="readers")
        self._pool.start()
        self._local = threading.local()
        self._thread_connections: list[sqlite3.Connection] = []
        self.epoch = int(self._meta("epoch") or 1)
        self._ceiling = int(self._meta("position_ceiling") or 0)
        self._counter = self._ceiling
        #: Everything up to and including this position is on disk (or is volatile and visible).
        self.position = self._counter
        #: Called after each commit with (position, rooms, users): the notifier.
        self.announce: Callable[[int, set[str], set[str]], None] = lambda position, rooms, users: None
        self.commits = 0
        self.commit_failures = 0

    # -- reading -------------------------------------------------------------------------------------------------

    @property
    def read(self) -> Callable[..., sqlite3.Cursor]:
        """`execute` of the reactor thread's read connection: committed data, one snapshot a statement."""
        return self._reader.execute

    @contextmanager
    def snapshot(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """Several statements on one snapshot (reactor thread; must not be held across a wait)."""
        self._reader.execute("BEGIN")
        try:
            yield self._reader.execute
        finally:
            self._reader.execute("COMMIT")

    def read_in_thread(self, query: Callable[..., T], *args: Any) -> Deferred[T]:
        """Run `query(execute, *args)` on one snapshot in a reader thread: for what takes more than some milliseconds."""
        result: Deferred[T] = Deferred()

        def work() -> None:
            try:
                execute = self._thread_connection().execute
                execute("BEGIN")
                try:
                    value = query(execute, *args)
                finally:
                    execute("COMMIT")
            except BaseException:
                self._reactor.callFromThread(result.errback, Failure())
            else:
                self._reactor.callFromThread(result.callback, value)

        self._pool.callInThread(work)
        return result

    def _thread_connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect(self._path, read_only=True)
            self._thread_connections.append(connection)
        return connection

    def _meta(self, key: str) -> str | None:
        row = self._reader.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    # -- writing -------------------------------------------------------------------------------------------------

    def write(self, job: Callable[..., T], *args: Any, volatile: bool = False) -> Deferred[T]:
        """Queue `job(transaction, *args)`; fires with its result after the commit, fails with what it raised.

        A job that raises leaves no trace. When the commit itself fails, every job of the group fails with 503.
        `volatile`: the job touches memory only, takes at most one position and needs no commit.
        """
        if self._stopping is not None:
            return fail(EngineStopped())
        result: Deferred[T] = Deferred()
        self._jobs.append((job, args, volatile, result))
        self._schedule()
        return result

    def _schedule(self) -> None:
        if not self._scheduled and not self._committing:
            self._scheduled = True
            self._reactor.callLater(GATHER if self._crowded else 0, self._run_group)

    def _run_group(self) -> None:
        self._scheduled = False
        self._crowded = len(self._jobs) > 1
        group: Group = []
        failed: list[tuple[Deferred[Any], Failure]] = []
        execute = self._writer.execute
        changes = self._writer.total_changes
        begun = False
        for _ in range(min(GROUP_LIMIT, len(self._jobs))):
            job, args, volatile, result = self._jobs.popleft()
            volatile = volatile and self._counter < self._ceiling
            transaction = Transaction(self, _no_sql if volatile else execute)
            in_savepoint = False
            try:
                if not volatile:
                    if not begun:
                        execute("BEGIN IMMEDIATE")
                        begun = True
                    execute("SAVEPOINT job")
                    in_savepoint = True
                value = job(transaction, *args)
                if in_savepoint:
                    execute("RELEASE job")
            except BaseException as error:
                failed.append((result, self._job_failure(error)))
                transaction.roll_back_memory()
                if in_savepoint and not self._undo_job():
                    failed.extend(self._lose(group))
                    group, begun = [], False
            else:
                group.append((result, value, transaction))
        if begun and self._counter >= self._ceiling and not self._raise_ceiling():
            failed.extend(self._lose(group))
            group, begun = [], False
        self._finish_group(group, begun, self._writer.total_changes != changes)
        for result, failure in failed:
            result.errback(failure)

    @staticmethod
    def _job_failure(error: BaseException) -> Failure:
        if isinstance(error, sqlite3.OperationalError):
            log.failure("a write job failed in the database")
            return Failure(storage_failed())
        return Failure()

    def _raise_ceiling(self) -> bool:
        value = str(self._counter + CEILING_STEP)
        try:
            self._writer.execute("UPDATE meta SET value = ? WHERE key = 'position_ceiling'", (value,))
        except sqlite3.Error:
            log.failure("the position ceiling could not be stored")
            return False
        return True

    def _undo_job(self) -> bool:
        """Undo the job that just raised; False if SQLite has rolled the whole transaction back (e.g. disk full)."""
        if not self._writer.in_transaction:
            return False
        try:
            self._writer.execute("ROLLBACK TO job")
            self._writer.execute("RELEASE job")
        except sqlite3.Error:
            log.failure("a savepoint could not be rolled back; the whole group is")
            return False
        return True

    def _finish_group(self, group: Group, begun: bool, changed: bool) -> None:
        counter = self._counter
        if begun and changed:
            self._committing = True
            self._commits.put(lambda: self._commit(group, counter))
            return
        if begun:
            self._writer.execute("COMMIT")  # nothing was written, so nothing is synced and nothing can fail
        self._committed(group, counter)

    def _commit_loop(self) -> None:
        for task in iter(self._commits.get, None):
            task()

    def _commit(self, group: Group, counter: int) -> None:
        try:
            self._writer.execute("COMMIT")
        except sqlite3.Error:
            self._reactor.callFromThread(self._commit_failed, group, Failure())
        else:
            self._reactor.callFromThread(self._commit_done, group, counter)

    def _commit_done(self, group: Group, counter: int) -> None:
        self._committing = False
        self.commits += 1
        if counter >= self._ceiling:
            self._ceiling = counter + CEILING_STEP
        self._committed(group, counter)

    def _committed(self, group: Group, counter: int) -> None:
        self.position = counter
        if self._jobs:
            self._schedule()
        rooms: set[str] = set()
        users: set[str] = set()
        for _, _, transaction in group:
            rooms |= transaction.rooms
            users |= transaction.users
        if rooms or users:  # first, so that nobody who goes on after a write meets a memory from before it
            self.announce(counter, rooms, users)
        for result, value, _ in group:
            result.callback(value)
        self._stop_if_idle()

    def _commit_failed(self, group: Group, failure: Failure) -> None:
        self._committing = False
        log.failure("a commit failed; every request of its group is refused", failure)
        lost = self._lose(group)
        if self._jobs:
            self._schedule()
        for result, refusal in lost:
            result.errback(refusal)
        self._stop_if_idle()

    def _lose(self, group: Group) -> list[tuple[Deferred[Any], Failure]]:
        """Roll the whole group back, on disk and in memory; what its requests must be told."""
        self.commit_failures += 1
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")
        for _, _, transaction in reversed(group):
            transaction.roll_back_memory()
        return [(result, Failure(storage_failed())) for result, _, _ in group]

    # -- stopping ------------------------------------------------------------------------------------------------

    def close(self) -> Deferred[None]:
        """Finish the queue, commit, checkpoint and close; no job is taken any more."""
        if self._stopping is None:
            self._stopping = Deferred()
            self._reactor.callLater(0, self._stop_if_idle)
        return self._stopping

    def _stop_if_idle(self) -> None:
        stopping = self._stopping
        if stopping is None or stopping.called or self._jobs or self._committing or self._scheduled:
            return
        self._commits.put(None)
        self._committer.join()
        self._pool.stop()
        for connection in (*self._thread_connections, self._reader, self._writer):
            connection.close()
        stopping.callback(None)


def connect(path: Path, *, durability: str = "full", read_only: bool = False) -> sqlite3.Connection:
    """A connection as every part of this server uses it: explicit transactions, WAL, foreign keys on."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=5)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA cache_size = -8000")  # KiB; what is not in it is in the system's cache
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    else:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
        connection.execute("PRAGMA journal_size_limit = 67108864")
    return connection
