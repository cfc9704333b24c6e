"""Sessions on a real database: what a request costs, limits of memory, races with the writer."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import Clock as ReactorClock

from heichat_appliance.db.database import prepare
from heichat_appliance.db.engine import Engine
from heichat_appliance.errors import MatrixError
from heichat_appliance.extension import Person
from heichat_appliance.services import sessions as module
from heichat_appliance.services.accounts import Accounts
from heichat_appliance.services.sessions import FLUSH_SECONDS, Sessions
from tests.appliance import ManualClock

ALICE = "@alice:chat.test"


class World:
    """Sessions and what they stand on."""

    def __init__(self, folder) -> None:
        path, _ = prepare(folder, "chat.test")
        self.clock = ManualClock()
        self.time = ReactorClock()
        self.engine = Engine(path, reactor, durability="normal")
        self.accounts = Accounts(self.engine, self.clock, "chat.test")
        self.sessions = Sessions(self.engine, self.clock, self.accounts, self.time, 3600)
        self.statements: list[str] = []
        self.engine._reader.set_trace_callback(self.statements.append)

    async def begin(self, device_id=None, refresh=False):
        return await self.sessions.begin(ALICE, device_id, None, refresh, "10.0.0.7")

    def works(self, token: str) -> bool:
        try:
            self.sessions.authenticate(token, "10.0.0.1")
        except MatrixError as error:
            assert (error.status, error.errcode) == (401, "M_UNKNOWN_TOKEN")
            return False
        return True

    def stored_last_seen(self, device_id: str):
        return self.engine.read(
            "SELECT last_seen_ts, last_seen_ip FROM devices WHERE device_id = ?", (device_id,)
        ).fetchone()


@pytest_twisted.async_yield_fixture
async def world(tmp_path):
    made = World(tmp_path)
    assert await made.accounts.ensure(Person("Alice", None, None)) == (ALICE, True)
    yield made
    await made.sessions.stop()
    await made.engine.close()


@pytest_twisted.ensureDeferred
async def test_a_live_session_is_read_once(world):
    token = (await world.begin(refresh=True)).access_token
    session = world.sessions.authenticate(token, "10.0.0.1")
    world.statements.clear()
    for second in range(200):
        world.clock.advance(1)
        assert world.sessions.authenticate(token, f"10.0.0.{second % 3}") is session
    assert world.statements == []


@pytest_twisted.ensureDeferred
async def test_the_session_used_longest_ago_leaves_memory(world, monkeypatch):
    monkeypatch.setattr(module, "MAX_CACHED", 2)
    a, b, c = [(await world.begin()).access_token for _ in range(3)]
    for token in (a, b, a, c):  # c pushes b out
        assert world.works(token)
    world.statements.clear()
    assert world.works(a) and world.works(c)
    assert world.statements == []
    assert world.works(b)
    assert len(world.statements) == 1


@pytest_twisted.ensureDeferred
async def test_a_session_in_hand_learns_that_it_ended(world):
    tokens = await world.begin("PHONE")
    session = world.sessions.authenticate(tokens.access_token, "10.0.0.1")
    told = []
    world.engine.announce = lambda position, rooms, users: told.append(users)
    deleted = world.sessions.delete(ALICE, ["PHONE"])
    assert world.works(tokens.access_token)  # not committed yet
    await deleted
    assert session.ended
    assert told == [{ALICE}]
    assert not world.works(tokens.access_token)


@pytest_twisted.ensureDeferred
async def test_a_first_use_that_races_with_another_refresh(world):
    first = await world.begin(refresh=True)
    second = await world.sessions.refresh(first.refresh_token)
    again = world.sessions.refresh(first.refresh_token)  # queued before the new token is used
    assert world.works(second.access_token)
    third = await again
    assert not world.works(second.access_token)
    assert world.works(third.access_token)


@pytest_twisted.ensureDeferred
async def test_a_refresh_after_the_first_use_was_queued_is_refused(world):
    first = await world.begin(refresh=True)
    second = await world.sessions.refresh(first.refresh_token)
    assert world.works(second.access_token)  # queues the end of the first refresh token
    with pytest.raises(MatrixError, match="used before"):
        await world.sessions.refresh(first.refresh_token)
    assert world.works(second.access_token)


@pytest_twisted.ensureDeferred
async def test_the_device_seen_longest_ago_makes_room(world, monkeypatch):
    monkeypatch.setattr(module, "MAX_DEVICES", 3)
    tokens = []
    for name in "ABC":
        world.clock.advance(60)
        tokens.append((await world.begin(name)).access_token)
    world.clock.advance(60)
    assert world.works(tokens[0])  # A is seen later than B and C were made
    await world.sessions.stop()
    await world.begin("D")
    assert [device.device_id for device in world.sessions.devices(ALICE)] == ["A", "C", "D"]
    assert [world.works(token) for token in tokens] == [True, False, True]


@pytest_twisted.ensureDeferred
async def test_last_seen_is_written_once_in_a_while(world):
    world.sessions.start()
    token = (await world.begin("PHONE")).access_token
    logged_in = world.clock.now
    assert world.stored_last_seen("PHONE") == (logged_in, "10.0.0.7")
    world.clock.advance(30)
    assert world.works(token)
    first_seen = world.clock.now
    world.clock.advance(30)
    assert world.works(token)  # within the step: not worth noting
    assert world.stored_last_seen("PHONE") == (logged_in, "10.0.0.7")
    world.time.advance(FLUSH_SECONDS)
    await world.engine.write(lambda tx: None)  # what was queued before is committed
    assert world.stored_last_seen("PHONE") == (first_seen, "10.0.0.1")
    commits = world.engine.commits
    world.time.advance(FLUSH_SECONDS)
    await world.engine.write(lambda tx: None)
    assert world.engine.commits == commits  # nobody was seen, nothing was written
    assert world.sessions.device(ALICE, "PHONE").last_seen_ts == first_seen


@pytest_twisted.ensureDeferred
async def test_a_new_login_on_a_device_is_when_it_was_last_seen(world):
    assert world.works((await world.begin("PHONE")).access_token)
    world.clock.advance(5)
    await world.begin("PHONE")
    await world.sessions.stop()
    assert world.stored_last_seen("PHONE") == (world.clock.now, "10.0.0.7")


@pytest_twisted.ensureDeferred
async def test_many_last_seen_are_all_written(world, monkeypatch):
    monkeypatch.setattr(module, "_FLUSH_AT_ONCE", 2)
    for name in "ABCDE":
        assert world.works((await world.begin(name)).access_token)
    await world.sessions.stop()
    assert [world.stored_last_seen(name)[1] for name in "ABCDE"] == ["10.0.0.1"] * 5


@pytest_twisted.ensureDeferred
async def test_one_account_for_every_case_of_a_uni_id(world):
    for spelling in ("alice", "ALICE", " Alice "):
        assert await world.accounts.ensure(Person(spelling, "Another Name", None)) == (ALICE, False)
    assert await world.accounts.ensure(Person("alice2", None, None)) == ("@alice2:chat.test", True)
