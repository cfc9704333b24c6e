"""The storage engine on a real SQLite: order, groups, failing jobs, failing commits, positions after a crash."""

from __future__ import annotations

import contextlib
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, gatherResults

from heichat_appliance.db import database
from heichat_appliance.db.engine import GATHER, GROUP_LIMIT, Engine, EngineStopped, Transaction
from heichat_appliance.errors import MatrixError


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    path, _ = database.prepare(tmp_path, "chat.test")
    engine = Engine(path, reactor)
    yield engine
    pytest_twisted.blockon(engine.close())


def put(tx: Transaction, user_id: str, field: str, value: str = "1") -> int:
    tx.execute("INSERT INTO profiles VALUES (?, ?, ?)", (user_id, field, value))
    tx.users.add(user_id)
    return tx.next_position()


def fields(engine: Engine) -> list[str]:
    return [row[0] for row in engine.read("SELECT field FROM profiles ORDER BY field")]


@pytest_twisted.ensureDeferred
async def test_jobs_run_in_order_and_share_commits(engine: Engine) -> None:
    results = await gatherResults([engine.write(put, "@a:x", f"{i:04}") for i in range(GROUP_LIMIT * 3)])
    assert results == sorted(results) and len(set(results)) == len(results)
    assert len(fields(engine)) == GROUP_LIMIT * 3
    assert engine.commits == 3


class Delays:
    """The reactor, noting for how long calls are put off."""

    def __init__(self) -> None:
        self.noted: list[float] = []

    def callLater(self, delay: float, *call: Any) -> Any:
        self.noted.append(delay)
        return reactor.callLater(delay, *call)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


@pytest_twisted.ensureDeferred
async def test_a_group_waits_for_more_only_after_one_of_several_jobs(tmp_path: Path) -> None:
    path, _ = database.prepare(tmp_path, "chat.test")
    delays = Delays()
    engine = Engine(path, delays)
    for number in range(3):
        await engine.write(put, "@a:x", f"alone {number}")
    assert delays.noted == [0, 0, 0]
    await gatherResults([engine.write(put, "@a:x", f"together {number}") for number in range(2)])
    await engine.write(put, "@a:x", "after them")
    await engine.write(put, "@a:x", "alone again")
    assert delays.noted[3:] == [0, GATHER, 0]
    await engine.close()


@pytest_twisted.ensureDeferred
async def test_an_answer_comes_after_the_commit(engine: Engine, tmp_path: Path) -> None:
    seen: list[int] = []
    other = sqlite3.connect(tmp_path / database.DATABASE)

    def look(_: Any) -> None:
        seen.append(other.execute("SELECT count(*) FROM profiles").fetchone()[0])

    done = engine.write(put, "@a:x", "one").addCallback(look)
    assert fields(engine) == []  # readers see committed data alone
    await done
    other.close()
    assert seen == [1]


@pytest_twisted.ensureDeferred
async def test_a_failing_job_leaves_no_trace_and_the_others_of_its_group_stay(engine: Engine) -> None:
    undone: list[str] = []

    def fail(tx: Transaction) -> None:
        tx.on_rollback(lambda: undone.append("memory"))
        put(tx, "@bad:x", "half")
        raise MatrixError(403, "M_FORBIDDEN", "no")

    heard: list[tuple[int, set[str], set[str]]] = []
    engine.announce = lambda position, rooms, users: heard.append((position, rooms, users))
    results = await DeferredList(
        [engine.write(put, "@a:x", "one"), engine.write(fail), engine.write(put, "@b:x", "two")], consumeErrors=True
    )
    assert [ok for ok, _ in results] == [True, False, True]
    assert results[1][1].value.errcode == "M_FORBIDDEN"
    assert fields(engine) == ["one", "two"]
    assert undone == ["memory"]
    assert heard == [(engine.position, set(), {"@a:x", "@b:x"})]


@pytest_twisted.ensureDeferred
async def test_a_broken_constraint_fails_only_its_job(engine: Engine) -> None:
    await engine.write(put, "@a:x", "one")
    again = engine.write(put, "@a:x", "one")
    fine = engine.write(put, "@a:x", "two")
    with pytest.raises(sqlite3.IntegrityError):
        await again
    await fine
    assert fields(engine) == ["one", "two"]


@contextlib.contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """No file may grow beyond the size that `path` has now."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest_twisted.ensureDeferred
async def test_a_failing_commit_fails_its_group_and_the_server_goes_on(
    engine: Engine, tmp_path: Path, logged_errors: list[Any]
) -> None:
    memory: list[str] = []

    def remember(tx: Transaction, field: str) -> None:
        put(tx, "@a:x", field)
        memory.append(field)
        tx.on_rollback(lambda: memory.remove(field))

    await engine.write(remember, "before")
    with full_disk(tmp_path / f"{database.DATABASE}-wal"):
        results = await DeferredList([engine.write(remember, name) for name in ("x", "y")], consumeErrors=True)
    assert [failure.value.status for ok, failure in results if not ok] == [503, 503]
    assert "nothing was saved" in results[0][1].value.message
    assert memory == fields(engine) == ["before"]
    assert logged_errors, "the operator's log names the cause"
    logged_errors.clear()
    await engine.write(remember, "later")
    assert memory == fields(engine) == ["before", "later"]


@pytest_twisted.ensureDeferred
async def test_a_full_database_inside_a_job_fails_it_clearly(engine: Engine, logged_errors: list[Any]) -> None:
    await engine.write(put, "@a:x", "one")
    pages = engine.read("PRAGMA page_count").fetchone()[0]
    engine._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(MatrixError) as refused:
        await engine.write(put, "@a:x", "big", "x" * 200_000)
    assert refused.value.status == 503
    logged_errors.clear()
    engine._writer.execute("PRAGMA max_page_count = 1000000")
    await engine.write(put, "@a:x", "big", "x" * 200_000)
    assert fields(engine) == ["big", "one"]


@pytest_twisted.ensureDeferred
async def test_positions_never_repeat_after_a_crash(engine: Engine, tmp_path: Path) -> None:
    await engine.write(put, "@a:x", "one")
    volatile = await engine.write(lambda tx: tx.next_position(), volatile=True)
    assert engine.position == volatile
    copy = tmp_path / "crashed"
    copy.mkdir()
    with sqlite3.connect(copy / "heichat.db") as target:
        engine._reader.backup(target)  # what a killed process would leave
    path, _ = database.prepare(copy, "chat.test")
    second = Engine(path, reactor)
    try:
        assert second.position > volatile
        assert await second.write(lambda tx: tx.next_position(), volatile=True) > volatile
    finally:
        await second.close()


@pytest_twisted.ensureDeferred
async def test_a_volatile_job_needs_no_commit_and_may_not_write(engine: Engine) -> None:
    await engine.write(put, "@a:x", "one")
    before = engine.commits
    await engine.write(lambda tx: tx.next_position(), volatile=True)
    assert engine.commits == before
    with pytest.raises(RuntimeError):
        await engine.write(put, "@a:x", "two", volatile=True)
    assert fields(engine) == ["one"]


@pytest_twisted.ensureDeferred
async def test_a_failing_volatile_job_does_not_harm_its_group(engine: Engine) -> None:
    await engine.write(put, "@a:x", "zero")

    def fail(tx: Transaction) -> None:
        raise MatrixError(400, "M_UNKNOWN", "no")

    results = await DeferredList(
        [engine.write(put, "@a:x", "one"), engine.write(fail, volatile=True), engine.write(put, "@a:x", "two")],
        consumeErrors=True,
    )
    assert [ok for ok, _ in results] == [True, False, True]
    assert fields(engine) == ["one", "two", "zero"]


@pytest_twisted.ensureDeferred
async def test_the_reactor_runs_on_while_a_commit_waits_for_the_disk(engine: Engine) -> None:
    """A commit that cannot go on (another process holds the lock on the database) holds nobody up."""
    turns: list[int] = []
    done: Deferred[None] = Deferred()
    original = engine._commit

    def slow(group: Any, counter: int) -> None:
        # in the commit thread: wait until the reactor has shown ten signs of life
        for _ in range(10):
            finished: Any = __import__("threading").Event()
            reactor.callFromThread(lambda event=finished: (turns.append(1), event.set()))  # type: ignore[attr-defined]
            assert finished.wait(10)
        original(group, counter)

    engine._commit = slow  # type: ignore[method-assign]
    await engine.write(put, "@a:x", "one")
    done.callback(None)
    assert len(turns) == 10 and fields(engine) == ["one"]


@pytest_twisted.ensureDeferred
async def test_close_finishes_the_queue(tmp_path: Path) -> None:
    path, _ = database.prepare(tmp_path, "chat.test")
    engine = Engine(path, reactor)
    writes = [engine.write(put, "@a:x", str(i)) for i in range(GROUP_LIMIT + 5)]
    await engine.close()
    assert all(write.called for write in writes)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM profiles").fetchone()[0] == GROUP_LIMIT + 5
    with pytest.raises(EngineStopped):
        await engine.write(put, "@a:x", "late")


@pytest_twisted.ensureDeferred
async def test_reads_in_a_thread_see_one_snapshot(engine: Engine) -> None:
    await engine.write(put, "@a:x", "one")
    assert await engine.read_in_thread(lambda execute: execute("SELECT field FROM profiles").fetchall()) == [("one",)]
    with pytest.raises(sqlite3.OperationalError):
        await engine.read_in_thread(lambda execute: execute("SELECT nonsense"))
