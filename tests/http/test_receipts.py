"""Receipts and read markers over real HTTP."""

from __future__ import annotations

import pytest
import pytest_twisted

from tests.appliance import Appliance, q
from tests.http.room_kit import QUIET, long_poll, make_room, say, set_member, user


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",), config=QUIET)
    yield running
    await running.stop()


async def mark(actor, room, event, type="m.read", **body):
    return await actor.post(f"/rooms/{q(room)}/receipt/{q(type)}/{q(event)}", body)


def receipts_in(sync, room):
    """{(event, type, user, thread or None)} of a room in a sync answer."""
    events = sync.get("rooms", {}).get("join", {}).get(room, {}).get("ephemeral", {}).get("events", [])
    return {
        (event_id, type, user_id, data.get("thread_id"))
        for event in events
        if event["type"] == "m.receipt"
        for event_id, types in event["content"].items()
        for type, people in types.items()
        for user_id, data in people.items()
    }


@pytest_twisted.ensureDeferred
async def test_a_public_receipt_reaches_the_room_and_a_private_one_only_its_person(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    phone = await server.login("bob")
    room = await make_room(server, "alice", bob="join")
    event = await say(server, room, "alice")
    for actor in (alice, bob, phone):
        await actor.sync()
    waiting = await long_poll(server, alice)
    assert (await mark(bob, room, event)).json == {}
    assert receipts_in(await waiting[0], room) == {(event, "m.read", bob.user_id, None)}
    await phone.sync()
    waiting = await long_poll(server, phone)
    await mark(bob, room, event, "m.read.private")
    assert receipts_in(await waiting[0], room) == {(event, "m.read.private", bob.user_id, None)}
    assert receipts_in(await alice.sync(), room) == set()
    everything = receipts_in(await alice.sync(since=None), room)
    assert everything == {(event, "m.read", bob.user_id, None)}


@pytest_twisted.ensureDeferred
async def test_receipts_never_go_backwards(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    room = await make_room(server, "alice", bob="join")
    first, second = [await say(server, room, "alice") for _ in range(2)]
    await mark(bob, room, second)
    await alice.sync()
    assert (await mark(bob, room, first)).status == 200
    assert receipts_in(await alice.sync(since=None), room) == {(second, "m.read", bob.user_id, None)}
    # The private one is a receipt of its own, and each thread has its own too.
    await mark(bob, room, first, "m.read.private")
    await mark(bob, room, first, thread_id="main")
    assert receipts_in(await bob.sync(), room) == {
        (second, "m.read", bob.user_id, None),
        (first, "m.read.private", bob.user_id, None),
        (first, "m.read", bob.user_id, "main"),
    }


@pytest_twisted.ensureDeferred
async def test_unread_counts_follow_whichever_receipt_is_further(server):
    bob = await server.login("bob")
    room = await make_room(server, "alice", bob="join")
    events = [await say(server, room, "alice", f"message {n}") for n in range(3)]

    async def unread():
        return (await bob.sync(since=None))["rooms"]["join"][room]["unread_notifications"]["notification_count"]

    assert await unread() == 3
    await mark(bob, room, events[1], "m.read.private")
    assert await unread() == 1
    await mark(bob, room, events[0])
    assert await unread() == 1
    await mark(bob, room, events[2])
    assert await unread() == 0


@pytest_twisted.ensureDeferred
async def test_threads(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    root = await say(server, room, "alice")
    in_thread = {"m.relates_to": {"rel_type": "m.thread", "event_id": root}}
    reply = await say(server, room, "alice", "in the thread", **in_thread)
    edit = await say(server, room, "alice", "* x", **{"m.relates_to": {"rel_type": "m.replace", "event_id": reply}})
    other = await say(server, room, "alice", "not in it")
    good = [(root, "main"), (root, root), (reply, root), (edit, root), (other, "main")]
    for event, thread in good:
        assert (await mark(alice, room, event, thread_id=thread)).status == 200, (event, thread)
    bad = [(reply, "main"), (edit, "main"), (other, root), (reply, other), (reply, "$unknown"), (root, ""), (root, 5),
           (root, None)]  # fmt: skip
    for event, thread in bad:
        answer = await mark(alice, room, event, thread_id=thread)
        assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM"), (event, thread)
    assert (await mark(alice, room, root, "m.fully_read", thread_id="main")).errcode == "M_INVALID_PARAM"


@pytest_twisted.ensureDeferred
async def test_fully_read_is_account_data_and_moves_forwards_only(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    room = await make_room(server, "alice", bob="join")
    first, second = [await say(server, room, "alice") for _ in range(2)]
    await alice.sync()
    answer = await bob.post(
        f"/rooms/{q(room)}/read_markers", {"m.fully_read": second, "m.read": second, "m.read.private": first}
    )
    assert answer.json == {}
    synced = await bob.sync()
    assert receipts_in(synced, room) == {
        (second, "m.read", bob.user_id, None), (first, "m.read.private", bob.user_id, None)
    }  # fmt: skip
    data = synced["rooms"]["join"][room]["account_data"]["events"]
    assert {"type": "m.fully_read", "content": {"event_id": second}} in data
    assert (await mark(bob, room, first, "m.fully_read")).status == 200
    path = f"/user/{q(bob.user_id)}/rooms/{q(room)}/account_data/m.fully_read"
    assert (await bob.get(path)).json == {"event_id": second}
    assert receipts_in(await alice.sync(), room) == {(second, "m.read", bob.user_id, None)}
    assert (await bob.post(f"/rooms/{q(room)}/read_markers", {})).status == 200


@pytest_twisted.ensureDeferred
async def test_read_markers_move_together_or_not_at_all(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    event = await say(server, room, "alice")
    answer = await alice.post(f"/rooms/{q(room)}/read_markers", {"m.fully_read": event, "m.read": "$unknown"})
    assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")
    assert (await alice.get(f"/user/{q(alice.user_id)}/rooms/{q(room)}/account_data/m.fully_read")).status == 404
    for bad in ({"m.fully_read": 5}, {"m.read": {}}):
        assert (await alice.post(f"/rooms/{q(room)}/read_markers", bad)).errcode == "M_BAD_JSON"


@pytest_twisted.ensureDeferred
async def test_events_of_other_rooms_and_unknown_types(server):
    alice = await server.login("alice")
    room, other = await make_room(server, "alice"), await make_room(server, "alice")
    event = await say(server, other, "alice")
    for one in (event, "$unknown", "nonsense", ""):
        answer = await mark(alice, room, one)
        assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")
    assert (await mark(alice, other, event, "m.delivered")).errcode == "M_INVALID_PARAM"
    answer = await alice.request("POST", f"/rooms/{q(other)}/receipt/m.read/{q(event)}")
    assert answer.status == 200  # some clients send no body at all


@pytest.mark.parametrize("membership", [None, "invite", "leave", "ban"])
@pytest_twisted.ensureDeferred
async def test_only_members_mark(server, membership):
    bob = await server.login("bob")
    room = await make_room(server, "alice", **({"bob": membership} if membership else {}))
    event = await say(server, room, "alice")
    for answer in (
        await mark(bob, room, event),
        await mark(bob, room, event, "m.fully_read"),
        await bob.post(f"/rooms/{q(room)}/read_markers", {"m.read": event}),
        await mark(bob, "!unknown:chat.test", event),
    ):
        assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")


@pytest_twisted.ensureDeferred
async def test_events_that_a_member_may_not_see(server):
    bob = await server.login("bob")
    room = await make_room(server, "alice", visibility="joined")
    before = await say(server, room, "alice")
    await set_member(server, room, "bob", "invite", "alice")
    await set_member(server, room, "bob", "join", "bob")
    during = await say(server, room, "alice")
    assert (await mark(bob, room, before)).status == 404
    assert (await mark(bob, room, during)).status == 200
    # A change of the profile begins a new interval, but bob was in the room before.
    await server.daemon.profiles.put(bob.user_id, "displayname", "Robert")
    assert (await mark(bob, room, during, "m.read.private")).status == 200
    shared = await make_room(server, "alice")
    early = await say(server, shared, "alice")
    await set_member(server, shared, "bob", "invite", "alice")
    await set_member(server, shared, "bob", "join", "bob")
    assert (await mark(bob, shared, early)).status == 200


@pytest_twisted.ensureDeferred
async def test_a_large_room_is_woken_once_for_many_receipts(server, monkeypatch):
    """Nothing gets lost: whoever waits hears of all receipts, but not of each one by itself."""
    monkeypatch.setattr("heichat_appliance.services.wakeups.SMALL_ROOM", 2)
    monkeypatch.setattr("heichat_appliance.services.wakeups.DELAY_SECONDS", 0.2)
    people = {name: await server.login(name) for name in ("alice", "bob", "charlotte")}
    room = await make_room(server, "alice", bob="join", charlotte="join")
    event = await say(server, room, "alice")
    await people["alice"].sync()
    waiting = await long_poll(server, people["alice"])
    await mark(people["bob"], room, event)
    await mark(people["charlotte"], room, event)
    assert receipts_in(await waiting[0], room) == {
        (event, "m.read", user("bob"), None), (event, "m.read", user("charlotte"), None)
    }  # fmt: skip
