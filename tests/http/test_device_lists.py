"""Whose device lists changed, as /sync, sliding sync and /keys/changes tell it: exact over what happens in between."""

from __future__ import annotations

import pytest_twisted
from twisted.internet.defer import Deferred

from tests.appliance import Actor, Appliance
from tests.encryption_kit import DeviceKit
from tests.http.room_kit import QUIET, user
from tests.http.sliding_kit import Sliding

ENCRYPTION = {"algorithm": "m.megolm.v1.aes-sha2"}
ENCRYPTED = [{"type": "m.room.encryption", "content": ENCRYPTION}]
NOTHING = ([], [])


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",), config=QUIET)
    yield running
    await running.stop()


async def new_device(server: Appliance, name: str) -> Actor:
    """A session on a new device that can encrypt."""
    actor = await server.login(name)
    keys = DeviceKit(actor.user_id, actor.device_id).device_keys()
    actor.ok(await actor.post("/keys/upload", {"device_keys": keys}))
    return actor


async def people(server: Appliance, *names: str) -> list[Actor]:
    return [await new_device(server, name) for name in names]


async def room_of(creator: Actor, *others: Actor, encrypted: bool = True) -> str:
    state = ENCRYPTED if encrypted else []
    room_id = await creator.create_room(invite=[other.user_id for other in others], initial_state=state)
    for other in others:
        await other.join(room_id)
    return room_id


def lists_of(answer: dict) -> tuple[list[str], list[str]]:
    found = answer.get("device_lists", {"changed": [], "left": []})
    return found["changed"], found["left"]


async def told(actor: Actor) -> tuple[list[str], list[str]]:
    """What sync tells since the last time; /keys/changes says the same."""
    before = actor.since
    found = lists_of(await actor.sync())
    assert before is not None
    changes = actor.ok(await actor.get("/keys/changes", **{"from": before, "to": actor.since}))
    assert (changes["changed"], changes["left"]) == found
    return found


async def caught_up(*actors: Actor) -> None:
    for actor in actors:
        await actor.sync()


@pytest_twisted.ensureDeferred
async def test_a_room_that_becomes_encrypted(server):
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob, encrypted=False)
    await caught_up(alice, bob)
    await new_device(server, "alice")
    assert await told(bob) == NOTHING
    await alice.set_state(room_id, "m.room.encryption", ENCRYPTION)
    assert await told(bob) == ([alice.user_id], [])
    # Of herself she hears as well: there is another device of hers.
    assert await told(alice) == (sorted([alice.user_id, bob.user_id]), [])
    # A second event of the same kind is no news, and no way to switch it off.
    await alice.set_state(room_id, "m.room.encryption", {**ENCRYPTION, "rotation_period_msgs": 7})
    assert await told(bob) == NOTHING
    await new_device(server, "alice")
    assert await told(bob) == ([alice.user_id], [])


@pytest_twisted.ensureDeferred
async def test_who_leaves_and_comes_back_between_two_syncs(server):
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob)
    await caught_up(alice)
    for changes in (False, True):
        await bob.leave(room_id)
        if changes:
            await new_device(server, "bob")  # while nobody shares a room with him
        await alice.invite(room_id, bob.user_id)
        await bob.join(room_id)
        assert await told(alice) == (([bob.user_id], []) if changes else NOTHING)


@pytest_twisted.ensureDeferred
async def test_who_leaves_for_good_and_another_room_that_remains(server):
    alice, bob, charlotte = await people(server, "alice", "bob", "charlotte")
    one, two = [await room_of(alice, bob, charlotte) for _ in range(2)]
    await room_of(alice, bob, charlotte, encrypted=False)
    await caught_up(alice, bob, charlotte)
    await bob.leave(one)
    assert [await told(one) for one in (alice, bob, charlotte)] == [NOTHING] * 3
    await bob.leave(two)
    assert await told(bob) == ([], sorted([alice.user_id, charlotte.user_id]))
    assert await told(alice) == await told(charlotte) == ([], [bob.user_id])
    await new_device(server, "bob")
    assert await told(alice) == NOTHING
    await alice.invite(one, bob.user_id)
    await bob.join(one)
    assert await told(alice) == ([bob.user_id], [])


@pytest_twisted.ensureDeferred
async def test_who_is_invited_gets_keys_and_is_told_of_so(server):
    alice, bob = await people(server, "alice", "bob")
    await caught_up(alice, bob)
    room_id = await alice.create_room(invite=[bob.user_id], initial_state=ENCRYPTED)
    assert await told(alice) == ([bob.user_id], [])
    assert await told(bob) == NOTHING  # he has no keys for anybody yet
    waiting = Deferred.fromCoroutine(alice.sync(timeout=20_000))
    await new_device(server, "bob")
    assert lists_of(await waiting) == ([bob.user_id], [])
    await new_device(server, "alice")
    assert await told(bob) == ([bob.user_id], [])
    await caught_up(alice)
    await bob.leave(room_id)
    assert await told(alice) == ([], [bob.user_id])


@pytest_twisted.ensureDeferred
async def test_tokens_that_say_nothing(server):
    alice, bob, charlotte = await people(server, "alice", "bob", "charlotte")
    await room_of(alice, bob)
    await room_of(alice, charlotte, encrypted=False)
    await caught_up(alice)
    everybody = sorted([alice.user_id, bob.user_id])
    for token in ("s1.7", "s999999999999.0"):  # from before a restore of the server, from the future
        answer = alice.ok(await alice.get("/sync", since=token))
        assert lists_of(answer) == (everybody, [])
        changes = alice.ok(await alice.get("/keys/changes", **{"from": token, "to": alice.since}))
        assert changes == {"changed": everybody, "left": []}
    assert lists_of(alice.ok(await alice.get("/sync"))) == NOTHING  # a device without a past asks for what it needs
    backwards = alice.ok(await alice.get("/keys/changes", **{"from": alice.since, "to": "s0.0"}))
    assert backwards == {"changed": [], "left": []}


@pytest_twisted.ensureDeferred
async def test_sliding_sync_tells_later_what_it_left_out(server):
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob)
    sliding, on, off = Sliding(alice), {"e2ee": {"enabled": True}}, {"e2ee": {"enabled": False}}
    await sliding(extensions=on)
    await bob.leave(room_id)
    for _ in range(2):
        assert "e2ee" not in (await sliding(extensions=off))["extensions"]
    await new_device(server, "alice")
    await sliding(extensions=off)
    lost = alice.ok(await sliding.ask(pos=sliding.pos, extensions=on))["extensions"]["e2ee"]
    assert lists_of(lost) == ([alice.user_id], [bob.user_id])
    assert lists_of((await sliding(extensions=on))["extensions"]["e2ee"]) == ([alice.user_id], [bob.user_id])
    assert lists_of((await sliding(extensions=on))["extensions"]["e2ee"]) == NOTHING
    # One that never asked is told from then on.
    plain = Sliding(alice, "other")
    await plain()
    await alice.invite(room_id, user("bob"))
    await plain()
    assert lists_of((await plain(extensions=on))["extensions"]["e2ee"]) == NOTHING
    await new_device(server, "bob")
    assert lists_of((await plain(extensions=on))["extensions"]["e2ee"]) == ([bob.user_id], [])
