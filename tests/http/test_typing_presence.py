"""Typing and presence over real HTTP."""

from __future__ import annotations

import pytest
import pytest_twisted

from tests.appliance import Appliance, ManualClock, q
from tests.http.room_kit import QUIET, long_poll, make_room, say, set_member, user


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",), config=QUIET)
    yield running
    await running.stop()


@pytest_twisted.async_yield_fixture
async def social(tmp_path):
    """A server with presence, whose time the test decides (`social.clock`)."""
    clock = ManualClock()
    running = await Appliance.start(tmp_path, plugins=("demo_directory",), clock=clock)
    running.clock = clock
    yield running
    await running.stop()


async def type_in(actor, room, typing=True, **body):
    return await actor.put(f"/rooms/{q(room)}/typing/{q(actor.user_id)}", {"typing": typing, **body})


def typing_in(sync, room):
    """The user IDs of m.typing in a sync answer, None if it has no such event."""
    events = sync.get("rooms", {}).get("join", {}).get(room, {}).get("ephemeral", {}).get("events", [])
    return next((event["content"]["user_ids"] for event in events if event["type"] == "m.typing"), None)


@pytest_twisted.ensureDeferred
async def test_typing_begins_and_ends(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    room = await make_room(server, "alice", bob="join")
    await alice.sync()
    waiting = await long_poll(server, alice)
    assert (await type_in(bob, room, timeout=30_000)).json == {}
    assert typing_in(await waiting[0], room) == [bob.user_id]
    assert typing_in(await alice.sync(), room) is None
    waiting = await long_poll(server, alice)
    assert (await type_in(bob, room, timeout=60_000)).status == 200  # going on is no news
    assert not waiting[0].called
    assert (await type_in(bob, room, False)).status == 200
    assert typing_in(await waiting[0], room) == []
    assert typing_in(await alice.sync(since=None), room) is None


@pytest_twisted.ensureDeferred
async def test_typing_runs_out(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    room = await make_room(server, "alice", bob="join")
    await alice.sync()
    await type_in(alice, room, timeout=500_000)
    await type_in(bob, room, timeout=300)
    assert typing_in(await alice.sync(), room) == [alice.user_id, bob.user_id]
    assert typing_in(await (await long_poll(server, alice))[0], room) == [alice.user_id]


@pytest_twisted.ensureDeferred
async def test_bad_typing(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    room = await make_room(server, "alice", bob="join")
    answer = await bob.put(f"/rooms/{q(room)}/typing/{q(alice.user_id)}", {"typing": True})
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    assert (await type_in(bob, room, timeout=-1)).errcode == "M_INVALID_PARAM"
    assert (await type_in(bob, room, timeout="long")).errcode == "M_BAD_JSON"
    assert (await type_in(bob, room, "yes")).errcode == "M_BAD_JSON"
    assert (await bob.put(f"/rooms/{q(room)}/typing/{q(bob.user_id)}", {})).errcode == "M_MISSING_PARAM"
    assert server.daemon.typing.in_room(room) == (0, [])


@pytest.mark.parametrize("membership", [None, "invite", "leave", "ban"])
@pytest_twisted.ensureDeferred
async def test_only_members_type(server, membership):
    bob = await server.login("bob")
    room = await make_room(server, "alice", **({"bob": membership} if membership else {}))
    for one in (room, "!unknown:chat.test"):
        answer = await type_in(bob, one)
        assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    assert server.daemon.typing.in_room(room) == (0, [])


@pytest.mark.parametrize("membership", ["leave", "ban"])
@pytest_twisted.ensureDeferred
async def test_whoever_leaves_stops_typing(server, membership):
    alice, bob = await server.login("alice"), await server.login("bob")
    room = await make_room(server, "alice", bob="join")
    await type_in(bob, room, timeout=100_000)
    await type_in(alice, room, timeout=100_000)
    await alice.sync()
    waiting = await long_poll(server, alice)
    await set_member(server, room, "bob", membership, "bob" if membership == "leave" else "alice")
    synced = await waiting[0]
    if typing_in(synced, room) is None:
        synced = await (await long_poll(server, alice))[0]
    assert typing_in(synced, room) == [alice.user_id]


@pytest_twisted.ensureDeferred
async def test_typing_in_a_large_room_is_told_later(server, monkeypatch):
    monkeypatch.setattr("heichat_appliance.services.wakeups.SMALL_ROOM", 1)
    monkeypatch.setattr("heichat_appliance.services.wakeups.DELAY_SECONDS", 0.2)
    alice, bob = await server.login("alice"), await server.login("bob")
    room = await make_room(server, "alice", bob="join")
    await alice.sync()
    waiting = await long_poll(server, alice)
    await type_in(bob, room, timeout=100_000)
    assert not waiting[0].called
    assert typing_in(await waiting[0], room) == [bob.user_id]


@pytest_twisted.ensureDeferred
async def test_suspended_people_show_nothing_new_of_themselves(social):
    alice, bob, admin = [await social.login(name) for name in ("alice", "bob", "admin")]
    room = await make_room(social, "alice", bob="join")
    event = await say(social, room, "alice")
    path = f"/_matrix/client/v1/admin/suspend/{q(bob.user_id)}"
    assert (await admin.put(path, {"suspended": True})).status == 200
    for answer in (
        await type_in(bob, room),
        await bob.put(f"/presence/{q(bob.user_id)}/status", {"presence": "online", "status_msg": "spam"}),
        await bob.put(f"/profile/{q(bob.user_id)}/displayname", {"displayname": "spam"}),
        await bob.delete(f"/profile/{q(bob.user_id)}/displayname"),
    ):
        assert (answer.status, answer.errcode) == (403, "M_USER_SUSPENDED")
    own = f"/user/{q(bob.user_id)}"
    for answer in (
        await bob.post(f"/rooms/{q(room)}/receipt/m.read/{q(event)}"),
        await bob.put(f"{own}/account_data/t", {}),
        await bob.post(f"{own}/filter", {}),
        await bob.put(f"{own}/rooms/{q(room)}/tags/u.x", {}),
        await bob.get(f"/profile/{q(alice.user_id)}"),
    ):
        assert answer.status == 200


# -- presence ----------------------------------------------------------------------------------------------------


async def status(actor, name):
    return await actor.get(f"/presence/{q(user(name))}/status")


def presence_in(sync):
    return {event["sender"]: event["content"] for event in sync.get("presence", {}).get("events", [])}


@pytest_twisted.ensureDeferred
async def test_presence_is_set_and_seen(social):
    alice, bob = await social.login("alice"), await social.login("bob")
    await make_room(social, "alice", bob="join")
    assert (await status(alice, "bob")).json == {"presence": "offline"}
    answer = await bob.put(f"/presence/{q(bob.user_id)}/status", {"presence": "unavailable", "status_msg": "Mensa"})
    assert answer.json == {}
    seen = (await status(alice, "bob")).json
    assert (seen["presence"], seen["status_msg"], seen["currently_active"]) == ("unavailable", "Mensa", False)
    found = presence_in(await alice.sync())[bob.user_id]
    assert (found["presence"], found["status_msg"], found["displayname"]) == ("unavailable", "Mensa", "Bob Schäfer")
    await bob.put(f"/presence/{q(bob.user_id)}/status", {"presence": "online"})
    social.clock.advance(10)
    assert (await status(alice, "bob")).json == {
        "presence": "online", "currently_active": True, "last_active_ago": 10_000
    }  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_presence_follows_sync_and_time(social):
    alice, bob = await social.login("alice"), await social.login("bob")
    await make_room(social, "alice", bob="join")
    presence = social.daemon.presence

    async def of_bob():
        presence.sweep()
        return (await status(alice, "bob")).json["presence"]

    await bob.sync(set_presence="offline")
    assert await of_bob() == "offline"
    await bob.sync(set_presence="unavailable")
    assert await of_bob() == "unavailable"
    await bob.sync()  # a client that does not say anything: it was idle before, so it still is
    assert await of_bob() == "unavailable"
    await bob.sync(set_presence="online")
    assert await of_bob() == "online"
    for _ in range(3):  # still syncing, without any action for six minutes
        social.clock.advance(119)
        await bob.sync()
    assert await of_bob() == "online"
    social.clock.advance(119)
    await bob.sync()
    assert await of_bob() == "unavailable"
    social.clock.advance(121)
    assert await of_bob() == "offline"
    await bob.sync()
    assert await of_bob() == "online"
    await bob.put(f"/presence/{q(bob.user_id)}/status", {"presence": "offline"})
    assert await of_bob() == "offline"


@pytest_twisted.ensureDeferred
async def test_presence_wakes_nobody_but_is_not_lost(social):
    alice, bob = await social.login("alice"), await social.login("bob")
    room = await make_room(social, "alice", bob="join")
    await alice.sync()
    waiting = await long_poll(social, alice)
    await bob.sync()
    assert (await status(alice, "bob")).json["presence"] == "online"
    assert not waiting[0].called
    await say(social, room, "bob")
    assert presence_in(await waiting[0])[bob.user_id]["presence"] == "online"


@pytest_twisted.ensureDeferred
async def test_sending_shows_that_a_person_is_there_unless_they_hide(social):
    alice, bob = await social.login("alice"), await social.login("bob")
    room = await make_room(social, "alice", bob="join")
    await bob.sync(set_presence="offline")
    await bob.send(room, "unseen")
    assert (await status(alice, "bob")).json["presence"] == "offline"
    await bob.sync(set_presence="unavailable")
    await bob.send(room, "seen")
    assert (await status(alice, "bob")).json["presence"] == "online"


@pytest_twisted.ensureDeferred
async def test_presence_repeats_a_new_name(social):
    alice, bob = await social.login("alice"), await social.login("bob")
    await make_room(social, "alice", bob="join")
    await bob.sync()
    assert presence_in(await alice.sync())[bob.user_id]["displayname"] == "Bob Schäfer"
    await bob.put(f"/profile/{q(bob.user_id)}/displayname", {"displayname": "Robert"})
    await bob.put(f"/profile/{q(bob.user_id)}/avatar_url", {"avatar_url": "mxc://chat.test/r"})
    found = presence_in(await alice.sync())[bob.user_id]
    assert (found["displayname"], found["avatar_url"]) == ("Robert", "mxc://chat.test/r")


@pytest_twisted.ensureDeferred
async def test_presence_is_for_people_who_share_a_room(social):
    alice, bob = await social.login("alice"), await social.login("bob")
    await bob.sync()
    for membership in (None, "invite", "leave", "ban"):
        if membership:
            await make_room(social, "alice", bob=membership)
        answer = await status(alice, "bob")
        assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN"), membership
        assert bob.user_id not in presence_in(await alice.sync())
    assert (await status(alice, "nobody")).json == (await status(alice, "bob")).json
    assert (await status(bob, "bob")).status == 200
    answer = await alice.put(f"/presence/{q(bob.user_id)}/status", {"presence": "offline"})
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    await set_member(social, await make_room(social, "alice", bob="invite"), "bob", "join", "bob")
    assert (await status(alice, "bob")).status == 200


@pytest_twisted.ensureDeferred
async def test_bad_presence(social):
    alice = await social.login("alice")
    path = f"/presence/{q(alice.user_id)}/status"
    assert (await alice.put(path, {"presence": "dancing"})).errcode == "M_INVALID_PARAM"
    assert (await alice.put(path, {})).errcode == "M_MISSING_PARAM"
    assert (await alice.put(path, {"presence": 1})).errcode == "M_BAD_JSON"
    assert (await alice.put(path, {"presence": "online", "status_msg": "x" * 513})).errcode == "M_INVALID_PARAM"
    assert (await status(alice, "alice")).json == {"presence": "offline"}


@pytest_twisted.ensureDeferred
async def test_presence_switched_off(server):
    alice = await server.login("alice")
    assert (await alice.put(f"/presence/{q(alice.user_id)}/status", {"presence": "online"})).status == 200
    assert (await status(alice, "alice")).json == {"presence": "offline"}
    assert presence_in(await alice.sync()) == {}
