"""Messages to devices over real HTTP."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from heichat_appliance.services import to_device as service
from tests.appliance import SERVER_NAME, Actor, Appliance, ManualClock, q

ALICE, BOB = f"@alice:{SERVER_NAME}", f"@bob:{SERVER_NAME}"
PLUGINS = ("demo_directory",)


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=PLUGINS)
    yield running
    await running.stop()


async def send(actor: Actor, messages: dict, txn: str, type: str = "m.test"):
    return await actor.put(f"/sendToDevice/{q(type)}/{q(txn)}", {"messages": messages})


async def received(actor: Actor, **params) -> list:
    """The contents that a sync gives."""
    synced = await actor.sync(**params)
    return [event["content"] for event in synced.get("to_device", {}).get("events", [])]


@pytest_twisted.ensureDeferred
async def test_messages_arrive_once_and_in_order(server):
    alice = await server.login("alice")
    bob = await server.login("bob", device_id="BOB")
    await bob.sync()
    contents = [{"n": n, "untouched": {"float": 0.5, "text": "ä\u2028", "null": None}} for n in range(3)]
    for n, content in enumerate(contents):
        assert (await send(alice, {BOB: {"BOB": content}}, f"t{n}", "m.key.verification.start")).json == {}
    before = bob.since
    synced = await bob.sync()
    assert synced["to_device"]["events"] == [
        {"type": "m.key.verification.start", "sender": ALICE, "content": content} for content in contents
    ]
    assert await received(bob, since=before) == contents  # the answer was lost
    assert await received(bob) == []
    assert await received(bob, since=before) == []  # acknowledged, so gone
    assert await received(bob, since=None) == []


@pytest_twisted.ensureDeferred
async def test_a_message_wakes_a_waiting_sync(server):
    alice = await server.login("alice")
    bob = await server.login("bob", device_id="BOB")
    await bob.sync()
    waiting = Deferred.fromCoroutine(received(bob, timeout=20_000))
    alice.ok(await send(alice, {BOB: {"BOB": {"n": 1}}}, "t"))
    assert await waiting == [{"n": 1}]


@pytest_twisted.ensureDeferred
async def test_the_same_transaction_sends_once_also_after_a_restart(server, tmp_path):
    alice = await server.login("alice", device_id="PHONE")
    laptop = await server.login("alice", device_id="LAPTOP")
    bob = await server.login("bob", device_id="BOB")
    for _ in range(2):
        alice.ok(await send(alice, {BOB: {"BOB": {"n": 1}}}, "t"))
    alice.ok(await send(laptop, {BOB: {"BOB": {"n": 2}}}, "t"))
    alice.ok(await send(alice, {BOB: {"BOB": {"n": 3}}}, "t", "m.other"))
    await server.stop()
    again = await Appliance.start(tmp_path, plugins=PLUGINS)
    for actor in (alice, bob):
        actor.url, actor.pool = again.url, again.pool
    try:
        alice.ok(await send(alice, {BOB: {"BOB": {"n": 1}}}, "t"))
        assert await received(bob) == [{"n": 1}, {"n": 2}, {"n": 3}]
    finally:
        server.daemon, server.pool = again.daemon, again.pool  # the fixture stops this one


@pytest_twisted.ensureDeferred
async def test_transaction_ids_are_forgotten_after_a_day(tmp_path):
    clock = ManualClock()
    server = await Appliance.start(tmp_path, plugins=PLUGINS, clock=clock)
    alice = await server.login("alice", device_id="A")
    alice.ok(await send(alice, {ALICE: {"A": {}}}, "old"))
    clock.now += service.REMEMBER_MS + service.PRUNE_MS
    alice.ok(await send(alice, {ALICE: {"A": {}}}, "new"))
    rows = server.daemon.engine.read("SELECT txn_id FROM to_device_txns").fetchall()
    await server.stop()
    assert rows == [("new",)]


@pytest_twisted.ensureDeferred
async def test_a_star_means_all_devices_and_a_named_one_its_own(server):
    alice = await server.login("alice", device_id="A")
    phone = await server.login("bob", device_id="PHONE")
    laptop = await server.login("bob", device_id="LAPTOP")
    alice.ok(
        await send(alice, {BOB: {"*": {"for": "all"}, "PHONE": {"for": "phone"}}, ALICE: {"*": {"for": "me"}}}, "t")
    )
    assert await received(phone) == [{"for": "phone"}]
    assert await received(laptop) == [{"for": "all"}]
    assert await received(alice) == [{"for": "me"}]
    newer = await server.login("bob", device_id="NEW")
    assert await received(newer) == []


@pytest_twisted.ensureDeferred
async def test_unknown_people_and_devices_are_passed_over(server):
    alice = await server.login("alice", device_id="A")
    messages = {
        f"@nobody:{SERVER_NAME}": {"*": {}, "X": {}},
        "@eve:elsewhere.example": {"*": {}},
        "": {"X": {}},
        ALICE: {"NONE": {}, "": {}, "A": {"n": 1}},
    }
    alice.ok(await send(alice, messages, "t"))
    assert await received(alice) == [{"n": 1}]
    assert server.daemon.engine.read("SELECT count(*) FROM to_device").fetchone() == (1,)


@pytest_twisted.ensureDeferred
async def test_a_long_queue_comes_in_batches_and_none_is_lost(server):
    alice = await server.login("alice", device_id="A")
    bob = await server.login("bob", device_id="BOB")
    await bob.sync()
    for n in range(250):
        alice.ok(await send(alice, {BOB: {"BOB": {"n": n}}}, f"t{n}"))
    first = bob.since
    assert len(await received(bob)) == 100
    assert [content["n"] for content in await received(bob, since=first)] == list(range(100))
    alice.ok(await send(alice, {BOB: {"BOB": {"n": 250}}}, "last"))
    found = []
    while batch := await received(bob):
        assert len(batch) <= 100
        found += batch
    assert [content["n"] for content in found] == list(range(100, 251))


@pytest_twisted.ensureDeferred
async def test_a_logout_takes_the_messages_along(server):
    alice = await server.login("alice")
    bob = await server.login("bob", device_id="BOB")
    alice.ok(await send(alice, {BOB: {"BOB": {"n": 1}}}, "t"))
    bob.ok(await bob.post("/logout"))
    again = await server.login("bob", device_id="BOB")
    assert await received(again) == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"messages": {ALICE: []}},
        {"messages": {ALICE: {"A": "x"}}},
        {"messages": {ALICE: {"A": None}}},
    ],
)
@pytest_twisted.ensureDeferred
async def test_wrong_shapes_are_refused(server, body):
    alice = await server.login("alice", device_id="A")
    answer = await alice.put("/sendToDevice/m.test/t", body)
    assert (answer.status, answer.errcode) == (400, "M_BAD_JSON")
    alice.ok(await send(alice, {ALICE: {"A": {"n": 1}}}, "t"))  # the transaction was not used up
    assert await received(alice) == [{"n": 1}]


@pytest_twisted.ensureDeferred
async def test_sizes_and_names_are_limited(server, monkeypatch):
    monkeypatch.setattr(service, "MAX_MESSAGES", 3)
    alice = await server.login("alice", device_id="A")
    large = {ALICE: {"A": {"n": 0}, "*": {"x": "x" * service.MAX_CONTENT}}}
    for messages in (large, {ALICE: {str(n): {} for n in range(4)}}):
        answer = await send(alice, messages, "t")
        assert (answer.status, answer.errcode) == (413, "M_TOO_LARGE")
    for type, txn in (("x" * 256, "t"), ("m.test", "x" * 256)):
        answer = await send(alice, {ALICE: {"A": {}}}, txn, type)
        assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM")
    assert await received(alice) == []


@pytest_twisted.ensureDeferred
async def test_a_full_queue_refuses_one_sender_and_drops_nothing(server, monkeypatch):
    monkeypatch.setattr(service, "MAX_WAITING", 2)
    alice = await server.login("alice", device_id="A")
    bob = await server.login("bob", device_id="BOB")
    for n in range(2):
        alice.ok(await send(alice, {BOB: {"BOB": {"n": n}}}, f"t{n}"))
    refused = await send(alice, {ALICE: {"A": {}}, BOB: {"BOB": {"n": 2}}}, "t2")
    assert (refused.status, refused.errcode) == (429, "M_LIMIT_EXCEEDED")
    assert refused.json["retry_after_ms"] > 0 and "BOB" in refused.json["error"]
    assert await received(alice) == []
    bob.ok(await send(bob, {BOB: {"BOB": {"n": "own"}}}, "t"))
    assert await received(bob) == [{"n": 0}, {"n": 1}, {"n": "own"}]
    await bob.sync()
    alice.ok(await send(alice, {BOB: {"BOB": {"n": 2}}}, "t2"))
    assert await received(bob) == [{"n": 2}]


@pytest_twisted.ensureDeferred
async def test_a_sender_is_limited_by_messages(tmp_path):
    limits = {"limits": {"enabled": "yes", "to_device_rate": "1", "to_device_burst": "2500"}}
    server = await Appliance.start(tmp_path, plugins=PLUGINS, config=limits, clock=ManualClock())
    alice, bob = await server.login("alice", device_id="A"), await server.login("bob")
    many = {ALICE: {f"D{n}": {} for n in range(900)}}
    large = {ALICE: {f"D{n}": {"x": "x" * 60_000} for n in range(110)}}  # counts as 880 messages
    answers = [await send(sender, what, f"t{n}") for sender, what in ((alice, many), (bob, large)) for n in range(3)]
    await server.stop()
    assert [answer.status for answer in answers] == [200, 200, 429] * 2
    assert answers[2].errcode == answers[5].errcode == "M_LIMIT_EXCEEDED"
