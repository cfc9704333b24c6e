"""Simplified sliding sync over real HTTP: lists, windows, subscriptions, and what a connection remembers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from heichat_appliance.services.sliding_sync import FEW
from tests.appliance import Appliance, ManualClock, q
from tests.http.sliding_kit import NAMES, Sliding, a_list, a_subscription, bodies, members_of, state_of, window
from tests.http.test_sync import people, room_of


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Appliance]:
    server = pytest_twisted.blockon(Deferred.fromCoroutine(Appliance.start(tmp_path)))
    yield server
    pytest_twisted.blockon(Deferred.fromCoroutine(server.stop()))


@pytest_twisted.ensureDeferred
async def test_it_is_advertised(server: Appliance) -> None:
    versions = (await server.http.get("/_matrix/client/versions")).json
    assert versions["unstable_features"]["org.matrix.simplified_msc3575"] is True


@pytest_twisted.ensureDeferred
async def test_a_room_comes_whole_and_then_only_what_is_new(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob, name="Seminar")
    await alice.send(room_id, "one")
    sliding = Sliding(bob)
    first = await sliding(lists={"all": a_list()})
    assert first["lists"]["all"] == {"count": 1, "ops": [{"op": "SYNC", "range": [0, 19], "room_ids": [room_id]}]}
    room = first["rooms"][room_id]
    assert room["initial"] is True and room["name"] == "Seminar" and "heroes" not in room
    assert bodies(room) == ["one"] and room["num_live"] == 0
    assert room["joined_count"] == 2 and room["invited_count"] == 0
    assert room["notification_count"] == 1 and room["highlight_count"] == 0
    assert state_of(room)[("m.room.name", "")] == {"name": "Seminar"}
    assert all("room_id" not in event for event in room["timeline"] + room["required_state"])
    assert (await sliding(lists={"all": a_list()}))["rooms"] == {}
    await alice.send(room_id, "two")
    room = (await sliding(lists={"all": a_list()}))["rooms"][room_id]
    assert bodies(room) == ["two"] and room["num_live"] == 1 and room["limited"] is False
    assert not {"initial", "name", "required_state", "joined_count"} & room.keys()
    assert room["notification_count"] == 2


@pytest.mark.parametrize("state", [NAMES, [], [["m.room.avatar", ""]], [["*", "*"]]])
@pytest_twisted.ensureDeferred
async def test_every_new_connection_sees_the_room_as_it_is(server: Appliance, state: Any) -> None:
    alice, bob = await server.login("alice"), await server.login("bob")
    room_id = await alice.create_room(name="Seminar", invite=[bob.user_id])

    async def seen() -> dict[str, Any]:
        room: dict[str, Any] = (await Sliding(alice)(lists={"all": a_list(state=state)}))["rooms"][room_id]
        return {key: room.get(key) for key in ("name", "avatar", "joined_count", "invited_count", "bump_stamp")}

    first = await seen()
    assert first | {"bump_stamp": 0} == {
        "name": "Seminar", "avatar": None, "joined_count": 1, "invited_count": 1, "bump_stamp": 0,
    }  # fmt: skip
    await bob.join(room_id)
    assert await seen() == first | {"joined_count": 2, "invited_count": 0}
    state_path = f"/rooms/{q(room_id)}/state/m.room."
    alice.ok(await alice.put(state_path + "name/", {"name": "Kolloquium"}))
    alice.ok(await alice.put(state_path + "avatar/", {"url": "mxc://chat.test/a"}))
    second = await seen()
    assert second == first | {
        "name": "Kolloquium",
        "avatar": "mxc://chat.test/a",
        "joined_count": 2,
        "invited_count": 0,
    }
    await bob.send(room_id, "x")
    third = await seen()
    assert third.pop("bump_stamp") > second.pop("bump_stamp") and third == second
    alice.ok(await alice.post(f"/rooms/{q(room_id)}/kick", {"user_id": bob.user_id}))
    assert (await seen())["joined_count"] == 1


@pytest_twisted.ensureDeferred
async def test_a_long_poll_wakes_and_a_time_out_gives_a_pos(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob)
    sliding = Sliding(bob)
    await sliding(lists={"all": a_list()})
    waiting = Deferred.fromCoroutine(sliding(timeout=20_000, lists={"all": a_list()}))
    while not server.daemon.notifier.waiting:
        await server.http.get("/_matrix/client/versions")
    await alice.send(room_id, "wake up")
    assert bodies((await waiting)["rooms"][room_id]) == ["wake up"]
    assert server.daemon.notifier.waiting == 0
    before = sliding.pos
    empty = await sliding(timeout=50, lists={"all": a_list()})
    assert empty["rooms"] == {} and empty["lists"]["all"]["count"] == 1 and sliding.pos == before


@pytest_twisted.ensureDeferred
async def test_lists_are_sorted_by_the_newest_event_and_windows_slide(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    rooms = [await room_of(alice, bob, name=f"r{number}") for number in range(5)]
    sliding = Sliding(bob)
    first = await sliding(lists={"all": a_list(0, 1)})
    assert window(first) == [rooms[4], rooms[3]] and first["lists"]["all"]["count"] == 5
    assert first["rooms"].keys() == {rooms[4], rooms[3]}
    await alice.send(rooms[0], "up")
    second = await sliding(lists={"all": a_list(0, 1)})
    assert window(second) == [rooms[0], rooms[4]]
    assert second["rooms"].keys() == {rooms[0]} and second["rooms"][rooms[0]]["initial"] is True
    third = await sliding(lists={"all": a_list(0, 9)})
    assert window(third) == [rooms[0], rooms[4], rooms[3], rooms[2], rooms[1]]
    assert third["rooms"].keys() == {rooms[2], rooms[1]}  # rooms[3] was known, and nothing happened in it
    stamps = {room_id: room["bump_stamp"] for one in (first, second, third) for room_id, room in one["rooms"].items()}
    assert sorted(stamps, key=stamps.__getitem__, reverse=True) == window(third)
    nothing = await sliding(lists={"all": {"timeline_limit": 1, "required_state": []}})
    assert nothing["lists"]["all"] == {"count": 5, "ops": []}


@pytest_twisted.ensureDeferred
async def test_a_room_that_fell_out_of_the_window_comes_back_with_what_happened(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    one, two = [await room_of(alice, bob, name=name) for name in ("one", "two")]
    sliding = Sliding(bob)
    await sliding(lists={"all": a_list(0, 1)})
    await alice.send(one, "unseen")
    await alice.set_state(one, "m.room.name", {"name": "renamed"})
    await alice.send(two, "seen")
    away = await sliding(lists={"all": a_list(0, 0)})
    assert away["rooms"].keys() == {two}
    await alice.send(two, "again")
    await sliding(lists={"all": a_list(0, 0)})
    room = (await sliding(lists={"all": a_list(0, 1)}))["rooms"][one]
    assert "initial" not in room and bodies(room) == ["unseen"] and room["num_live"] == 0
    assert room["name"] == "renamed" and state_of(room) == {("m.room.name", ""): {"name": "renamed"}}


@pytest_twisted.ensureDeferred
async def test_a_gap_is_limited_and_can_be_filled(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob, name="old")
    sliding = Sliding(bob)
    await sliding(lists={"all": a_list(limit=2)})
    await alice.set_state(room_id, "m.room.name", {"name": "new"})
    for number in range(4):
        await alice.send(room_id, f"m{number}")
    room = (await sliding(lists={"all": a_list(limit=2)}))["rooms"][room_id]
    assert bodies(room) == ["m2", "m3"] and room["limited"] is True and room["num_live"] == 2
    assert state_of(room)[("m.room.name", "")] == {"name": "new"} and room["name"] == "new"
    older = await bob.get(f"/rooms/{q(room_id)}/messages", dir="b", **{"from": room["prev_batch"]}, limit=3)
    assert [e["content"].get("body") or e["content"].get("name") for e in older.json["chunk"]] == ["m1", "m0", "new"]
    await alice.send(room_id, "m4")
    bare = (await sliding(lists={"all": a_list(limit=0)}))["rooms"][room_id]
    assert not {"timeline", "limited", "prev_batch", "num_live"} & bare.keys()


@pytest_twisted.ensureDeferred
async def test_a_raised_limit_sends_the_longer_timeline(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob)
    for number in range(5):
        await alice.send(room_id, f"m{number}")
    sliding = Sliding(bob)
    lists = {"all": a_list(limit=1)}
    assert bodies((await sliding(lists=lists))["rooms"][room_id]) == ["m4"]
    opened = {room_id: a_subscription(3)}
    room = (await sliding(lists=lists, room_subscriptions=opened))["rooms"][room_id]
    assert room["unstable_expanded_timeline"] is True and "initial" not in room
    assert bodies(room) == ["m2", "m3", "m4"] and room["num_live"] == 0 and room["limited"] is True
    assert (await sliding(lists=lists, room_subscriptions=opened))["rooms"] == {}
    assert (await sliding(lists=lists))["rooms"] == {}
    again = (await sliding(lists=lists, room_subscriptions=opened))["rooms"][room_id]
    assert again["unstable_expanded_timeline"] is True


@pytest_twisted.ensureDeferred
async def test_required_state_is_what_was_asked_for_and_newly_asked_state_follows(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob, name="Seminar", topic="Thema")
    await alice.set_state(room_id, "com.example.poll", {"n": 1}, "a")
    await alice.set_state(room_id, "com.example.poll", {"n": 2}, "b")
    sliding = Sliding(bob)
    state = [["m.room.topic", ""], ["m.room.member", "$ME"], ["com.example.poll", "*"]]
    room = (await sliding(lists={"all": a_list(limit=1, state=state)}))["rooms"][room_id]
    assert state_of(room).keys() == {
        ("m.room.topic", ""), ("m.room.member", bob.user_id), ("com.example.poll", "a"), ("com.example.poll", "b"),
    }  # fmt: skip
    more = [*state, ["m.room.name", ""], ["m.room.member", alice.user_id]]
    room = (await sliding(lists={"all": a_list(limit=1, state=more)}))["rooms"][room_id]
    assert state_of(room).keys() == {("m.room.name", ""), ("m.room.member", alice.user_id)}
    assert room["timeline"] == []
    await alice.set_state(room_id, "com.example.poll", {"n": 3}, "b")
    await alice.set_state(room_id, "com.example.other", {})
    room = (await sliding(lists={"all": a_list(limit=1, state=more)}))["rooms"][room_id]
    assert state_of(room) == {("com.example.poll", "b"): {"n": 3}}
    everything = (await Sliding(bob)(lists={"all": a_list(state=[["*", "*"]])}))["rooms"][room_id]
    assert {("m.room.create", ""), ("m.room.power_levels", ""), ("com.example.other", "")} <= state_of(
        everything
    ).keys()
    assert members_of(everything) == {alice.user_id, bob.user_id}
    lazily = await Sliding(bob)(lists={"all": a_list(limit=1, state=[["*", "*"], ["m.room.member", "$LAZY"]])})
    assert members_of(lazily["rooms"][room_id]) == {alice.user_id}


@pytest_twisted.ensureDeferred
async def test_lazily_loaded_members_come_once(server: Appliance) -> None:
    alice, bob, charlotte = await people(server, "alice", "bob", "charlotte")
    room_id = await room_of(alice, bob, charlotte)
    await alice.send(room_id, "a")
    lists = {"all": a_list(limit=1, state=[["m.room.member", "$LAZY"]])}
    sliding = Sliding(bob)
    assert members_of((await sliding(lists=lists))["rooms"][room_id]) == {alice.user_id}
    await charlotte.send(room_id, "c")
    pos = sliding.pos
    lost = await sliding(lists=lists)
    sliding.pos = pos
    again = await sliding(lists=lists)
    assert members_of(lost["rooms"][room_id]) == members_of(again["rooms"][room_id]) == {charlotte.user_id}
    assert bodies(again["rooms"][room_id]) == ["c"]
    await charlotte.send(room_id, "d")
    assert "required_state" not in (await sliding(lists=lists))["rooms"][room_id]
    await charlotte.leave(room_id)
    for number in range(3):
        await alice.send(room_id, f"m{number}")
    room = (await sliding(lists=lists))["rooms"][room_id]
    assert room["limited"] is True and room["joined_count"] == 2
    assert state_of(room)[("m.room.member", charlotte.user_id)]["membership"] == "leave"


@pytest_twisted.ensureDeferred
async def test_a_lost_answer_is_given_again_and_newer_tokens_end_older_ones(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    one, two = await room_of(alice, bob), await room_of(alice, bob)
    sliding = Sliding(bob)
    await sliding(lists={"all": a_list(0, 0)})
    first = sliding.pos
    await alice.send(one, "hello")
    lost = await sliding(lists={"all": a_list(0, 9)})
    sliding.pos = first
    again = await sliding(lists={"all": a_list(0, 9)})
    assert again["rooms"].keys() == lost["rooms"].keys() == {one}
    assert again["rooms"][one]["initial"] is True and bodies(again["rooms"][one]) == ["hello"]
    assert (await sliding(lists={"all": a_list(0, 9)}))["rooms"] == {}
    answer = await sliding.ask(pos=first, lists={"all": a_list(0, 9)})
    assert (answer.status, answer.errcode) == (400, "M_UNKNOWN_POS")
    assert two in (await Sliding(bob)(lists={"all": a_list()}))["rooms"]


@pytest.mark.parametrize("pos", ["nonsense", "1.1.1.1", "999.1.1.1", "1.1.99999999999.1"])
@pytest_twisted.ensureDeferred
async def test_an_unknown_pos(server: Appliance, pos: str) -> None:
    (alice,) = await people(server, "alice")
    answer = await Sliding(alice).ask(pos=pos, lists={"all": a_list()})
    assert (answer.status, answer.errcode) == (400, "M_UNKNOWN_POS")


@pytest_twisted.ensureDeferred
async def test_a_pos_is_good_for_its_device_and_connection_only(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    tablet = await server.login("alice")
    await room_of(alice, bob, name="x")
    own = Sliding(alice, "room-list")
    other = Sliding(alice, "encryption")
    assert (await own(lists={"all": a_list()}))["rooms"]
    assert (await other())["rooms"] == {} and "lists" not in await other()
    assert (await own(lists={"all": a_list()}))["rooms"] == {}
    for stranger in (
        Sliding(bob, "room-list"),
        Sliding(tablet, "room-list"),
        Sliding(alice, "encryption"),
        Sliding(alice),
    ):
        answer = await stranger.ask(pos=own.pos, lists={"all": a_list()})
        assert (answer.status, answer.errcode) == (400, "M_UNKNOWN_POS")
    old = own.pos
    own.pos = None
    assert (await own(lists={"all": a_list()}))["rooms"]
    assert (await own.ask(pos=old)).errcode == "M_UNKNOWN_POS"


@pytest_twisted.ensureDeferred
async def test_invitations_joins_kicks_and_leaves(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    sliding = Sliding(bob)
    lists = {"all": a_list()}
    await sliding(lists=lists)
    room_id = await alice.create_room(name="Gruppe", invite=[bob.user_id])
    await alice.send(room_id, "hidden until joined")
    answer = await sliding(lists=lists)
    room = answer["rooms"][room_id]
    told = {(e["type"], e["state_key"]): e for e in room["invite_state"]}
    assert told[("m.room.member", bob.user_id)]["content"]["membership"] == "invite"
    assert ("m.room.create", "") in told and room["name"] == "Gruppe" and room["initial"] is True
    assert not {"timeline", "required_state", "prev_batch", "limited", "joined_count"} & room.keys()
    assert "hidden" not in str(answer)
    assert (await sliding(lists=lists))["rooms"] == {}
    await bob.join(room_id)
    room = (await sliding(lists=lists))["rooms"][room_id]
    assert room["initial"] is True and "invite_state" not in room and room["joined_count"] == 2
    await alice.post(f"/rooms/{q(room_id)}/kick", {"user_id": bob.user_id, "reason": "why"})
    await alice.send(room_id, "secret")
    answer = await sliding(lists=lists)
    room = answer["rooms"][room_id]
    assert state_of(room)[("m.room.member", bob.user_id)] == {"membership": "leave", "reason": "why"}
    assert room["timeline"][-1]["content"]["reason"] == "why" and "initial" not in room
    assert "secret" not in str(answer) and window(answer) == [room_id]
    assert (await sliding(lists=lists))["rooms"] == {}
    fresh = await Sliding(bob)(lists=lists, room_subscriptions={room_id: a_subscription()})
    assert window(fresh) == [room_id] and "secret" not in str(fresh)


@pytest_twisted.ensureDeferred
async def test_a_room_left_by_oneself_is_told_once_wherever_it_stands(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    one, two = [await room_of(alice, bob) for _ in range(2)]
    sliding = Sliding(bob)
    await sliding(lists={"all": a_list(0, 1)})
    await bob.leave(one)
    await bob.post(f"/rooms/{q(one)}/forget")
    await alice.send(one, "secret")
    await alice.send(two, "newer")
    answer = await sliding(lists={"all": a_list(0, 0)})
    assert window(answer) == [two]
    assert state_of(answer["rooms"][one])[("m.room.member", bob.user_id)]["membership"] == "leave"
    assert "secret" not in str(answer)
    assert (await sliding(lists={"all": a_list()}))["lists"]["all"]["count"] == 1
    assert (await Sliding(bob, "new")(lists={"all": a_list()}))["rooms"].keys() == {two}
    await alice.invite(one, bob.user_id)
    await bob.join(one)
    assert (await sliding(lists={"all": a_list()}))["rooms"][one]["initial"] is True


@pytest_twisted.ensureDeferred
async def test_a_withdrawn_invitation_tells_no_more_than_that(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await alice.create_room(name="geheim", invite=[bob.user_id])
    sliding = Sliding(bob)
    state = [["*", "*"]]
    await sliding(lists={"all": a_list(state=state)})
    await alice.set_state(room_id, "m.room.topic", {"topic": "secret"})
    await alice.post(f"/rooms/{q(room_id)}/kick", {"user_id": bob.user_id})
    answer = await sliding(lists={"all": a_list(state=state)})
    room = answer["rooms"][room_id]
    assert state_of(room) == {("m.room.member", bob.user_id): {"membership": "leave"}} and room["timeline"] == []
    assert "secret" not in str(answer)


@pytest_twisted.ensureDeferred
async def test_a_knock(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    rule = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
    room_id = await alice.create_room(name="Klub", initial_state=[rule])
    await alice.send(room_id, "secret")
    sliding = Sliding(bob)
    await sliding(lists={"all": a_list()})
    assert (await bob.post(f"/knock/{q(room_id)}")).status == 200
    answer = await sliding(lists={"all": a_list(is_invite=False)})
    room = answer["rooms"][room_id]
    told = {(e["type"], e["state_key"]): e["content"] for e in room["invite_state"]}
    assert told[("m.room.member", bob.user_id)]["membership"] == "knock" and room["name"] == "Klub"
    assert "secret" not in str(answer)
    await alice.post(f"/rooms/{q(room_id)}/kick", {"user_id": bob.user_id})
    room = (await sliding(lists={"all": a_list()}))["rooms"][room_id]
    assert state_of(room)[("m.room.member", bob.user_id)]["membership"] == "leave" and room["timeline"] == []


@pytest_twisted.ensureDeferred
async def test_strangers_and_hidden_history_do_not_leak(server: Appliance) -> None:
    alice, bob, charlotte = await people(server, "alice", "bob", "charlotte")
    state = [{"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}]
    room_id = await alice.create_room(initial_state=state)
    await alice.send(room_id, "before")
    await alice.invite(room_id, bob.user_id)
    await bob.join(room_id)
    await alice.send(room_id, "after")
    answer = await Sliding(bob)(room_subscriptions={room_id: a_subscription()})
    assert bodies(answer["rooms"][room_id]) == ["after"] and "before" not in str(answer)
    stranger = await Sliding(charlotte)(room_subscriptions={room_id: a_subscription(), "!no:where": a_subscription()})
    assert stranger["rooms"] == {}


@pytest_twisted.ensureDeferred
async def test_ignored_people_are_not_heard(server: Appliance) -> None:
    alice, bob, charlotte = await people(server, "alice", "bob", "charlotte")
    room_id = await room_of(charlotte, alice, bob)
    await bob.put(f"/user/{q(bob.user_id)}/account_data/m.ignored_user_list", {"ignored_users": {alice.user_id: {}}})
    sliding = Sliding(bob)
    await sliding(lists={"all": a_list()})
    await alice.send(room_id, "noise")
    await charlotte.send(room_id, "music")
    invited = await alice.create_room(invite=[bob.user_id])
    answer = await sliding(lists={"all": a_list()}, room_subscriptions={invited: a_subscription()})
    assert bodies(answer["rooms"][room_id]) == ["music"] and answer["rooms"].keys() == {room_id}


@pytest_twisted.ensureDeferred
async def test_filters(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    plain = await room_of(alice, bob, name="Plain Room")
    direct = await room_of(alice, bob)
    secret = await room_of(
        alice, bob, initial_state=[{"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}]
    )
    space = await room_of(alice, bob, creation_content={"type": "m.space"})
    await alice.set_state(space, "m.space.child", {"via": ["chat.test"]}, secret)
    await alice.set_state(space, "m.space.child", {}, plain)
    invited = await alice.create_room(invite=[bob.user_id])
    await bob.put(f"/user/{q(bob.user_id)}/account_data/m.direct", {alice.user_id: [direct]})
    await bob.put(f"/user/{q(bob.user_id)}/rooms/{q(plain)}/tags/m.favourite", {})

    async def of(**filters: Any) -> set[str]:
        answer = await Sliding(bob)(lists={"all": a_list(**filters)})
        assert answer["lists"]["all"]["count"] == len(window(answer))
        return set(window(answer))

    everything = {plain, direct, secret, space, invited}
    assert await of(is_dm=None) == everything
    assert await of(is_dm=True) == {direct} and await of(is_dm=False) == everything - {direct}
    assert await of(is_encrypted=True) == {secret} and await of(is_encrypted=False) == everything - {secret}
    assert await of(is_invite=True) == {invited} and await of(is_invite=False) == everything - {invited}
    assert await of(room_types=["m.space"]) == {space} and await of(room_types=[None]) == everything - {space}
    assert await of(not_room_types=["m.space"]) == everything - {space}
    assert await of(room_types=["m.space", None], not_room_types=["m.space"]) == everything - {space}
    assert await of(tags=["m.favourite", "u.x"]) == {plain} and await of(not_tags=["m.favourite"]) == everything - {
        plain
    }
    assert await of(spaces=[space]) == {secret} and await of(spaces=["!no:where"]) == set()
    assert await of(room_name_like="plain") == {plain}
    assert await of(is_dm=False, is_encrypted=False, is_invite=False, not_room_types=["m.space"]) == {plain}
    dm = (await Sliding(bob)(lists={"all": a_list()}))["rooms"]
    assert [room for room in everything if dm[room].get("is_dm")] == [direct]
    assert dm[direct]["heroes"] == [{"user_id": alice.user_id, "displayname": "Alice Müller"}]
    await alice.set_state(plain, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    assert await of(is_encrypted=True) == {secret, plain}


@pytest_twisted.ensureDeferred
async def test_a_room_in_lists_and_subscriptions_gets_what_is_wanted_altogether(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob, name="n", topic="t")
    lists = {"a": a_list(limit=1, state=[["m.room.name", ""]]), "b": a_list(limit=2, state=[["m.room.topic", ""]])}
    subscriptions = {room_id: a_subscription(3, [["m.room.create", ""]])}
    room = (await Sliding(bob)(lists=lists, room_subscriptions=subscriptions))["rooms"][room_id]
    assert len(room["timeline"]) == 3
    assert {type for type, _ in state_of(room)} == {"m.room.name", "m.room.topic", "m.room.create"}


@pytest_twisted.ensureDeferred
async def test_own_receipts_of_other_devices_bring_new_counts(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    tablet = await server.login("bob")
    room_id = await room_of(alice, bob)
    sliding = Sliding(bob)
    await sliding(lists={"all": a_list()})
    event_id = await alice.send(
        room_id, {"msgtype": "m.text", "body": "bob", "m.mentions": {"user_ids": [bob.user_id]}}
    )
    room = (await sliding(lists={"all": a_list()}))["rooms"][room_id]
    assert (room["notification_count"], room["highlight_count"]) == (1, 1)
    await tablet.post(f"/rooms/{q(room_id)}/receipt/m.read/{q(event_id)}")
    room = (await sliding(lists={"all": a_list()}))["rooms"][room_id]
    assert (room["notification_count"], room["highlight_count"]) == (0, 0) and room["timeline"] == []


@pytest_twisted.ensureDeferred
async def test_transaction_ids_and_relations_are_shown(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob)
    sliding, other = Sliding(alice), Sliding(bob)
    await sliding(lists={"all": a_list()})
    await other(lists={"all": a_list()})
    event_id = await alice.send(room_id, "x", txn="mine")
    own = (await sliding(lists={"all": a_list()}))["rooms"][room_id]["timeline"][-1]["unsigned"]
    others = (await other(lists={"all": a_list()}))["rooms"][room_id]["timeline"][-1]["unsigned"]
    assert own["transaction_id"] == "mine" and "transaction_id" not in others
    relation = {"rel_type": "m.thread", "event_id": event_id}
    await bob.send(room_id, {"msgtype": "m.text", "body": "in thread", "m.relates_to": relation})
    timeline = (await Sliding(alice)(lists={"all": a_list()}))["rooms"][room_id]["timeline"]
    root = next(event for event in timeline if event["event_id"] == event_id)
    assert root["unsigned"]["m.relations"]["m.thread"]["count"] == 1


@pytest_twisted.ensureDeferred
async def test_a_connection_resumes_after_a_restart(tmp_path: Path) -> None:
    server = await Appliance.start(tmp_path)
    alice, bob = await people(server, "alice", "bob")
    one, _ = [await room_of(alice, bob, name=name) for name in ("one", "two")]
    sliding = Sliding(bob, "room-list")
    lists = {"all": a_list(0, 0, limit=1)}
    await sliding(lists=lists)
    await sliding(lists={"all": a_list(0, 1, limit=1)})
    before = sliding.pos
    await alice.send(one, "before the restart")
    lost = await sliding(lists={"all": a_list(0, 1, limit=1)})
    assert members_of(lost["rooms"][one]) == {alice.user_id}
    sliding.pos = before
    await server.stop()
    server = await Appliance.start(tmp_path)
    try:
        alice.url = bob.url = server.url
        alice.pool = bob.pool = server.pool
        room = (await sliding(lists={"all": a_list(0, 1, limit=1)}))["rooms"]
        assert room.keys() == {one} and "initial" not in room[one] and bodies(room[one]) == ["before the restart"]
        await alice.send(one, "after the restart")
        room = (await sliding(lists={"all": a_list(0, 1, limit=1)}))["rooms"][one]
        assert bodies(room) == ["after the restart"] and "required_state" not in room
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_a_request_that_was_overtaken_says_nothing(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob)
    sliding, overtaken = Sliding(bob), Sliding(bob)
    await sliding(lists={"all": a_list()})
    pos = overtaken.pos = sliding.pos
    waiting = Deferred.fromCoroutine(overtaken(timeout=20_000, lists={"all": a_list()}))
    while not server.daemon.notifier.waiting:
        await server.http.get("/_matrix/client/versions")
    await sliding(lists={"all": a_list()})
    await alice.send(room_id, "hello")
    assert await waiting == {"pos": pos, "rooms": {}, "extensions": {}}
    assert bodies((await sliding(lists={"all": a_list()}))["rooms"][room_id]) == ["hello"]


@pytest_twisted.ensureDeferred
async def test_many_rooms_and_a_wide_gap(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    rooms = [await room_of(alice, bob, name=f"r{number}") for number in range(FEW + 2)]
    sliding = Sliding(bob)
    lists = {"all": a_list(0, 99, limit=1, state=[["m.room.name", ""]])}
    first = await sliding(lists=lists)
    assert first["rooms"].keys() == set(rooms)
    assert {room["name"] for room in first["rooms"].values()} == {f"r{number}" for number in range(FEW + 2)}
    one_by_one = Sliding(bob, "one by one")
    await one_by_one(lists={"all": a_list(0, 0, limit=1)})
    await alice.send(rooms[0], "first")
    await server.daemon.engine.write(lambda tx: [tx.next_position() for _ in range(2_000)])
    await alice.send(rooms[1], "second")
    told = (await sliding(lists=lists, timeout=20_000))["rooms"]
    assert {room_id: bodies(room) for room_id, room in told.items()} == {rooms[0]: ["first"], rooms[1]: ["second"]}
    assert (await sliding(lists=lists))["rooms"] == {}
    await one_by_one(lists={"all": a_list(0, 0, limit=1)})
    away = (await one_by_one(lists={"all": a_list(0, 99, limit=1)}))["rooms"]
    assert "initial" not in away.get(rooms[-1], {}) and away[rooms[0]]["initial"] is True


@pytest_twisted.ensureDeferred
async def test_stopping_answers_those_who_wait(tmp_path: Path) -> None:
    server = await Appliance.start(tmp_path)
    (alice,) = await people(server, "alice")
    await alice.create_room()
    sliding = Sliding(alice)
    await sliding(lists={"all": a_list()})
    waiting = Deferred.fromCoroutine(sliding(timeout=60_000, lists={"all": a_list()}))
    while not server.daemon.notifier.waiting:
        await server.http.get("/_matrix/client/versions")
    stopping = Deferred.fromCoroutine(server.daemon.stop())
    answer = await waiting
    assert answer["rooms"] == {} and answer["lists"]["all"]["count"] == 1
    await stopping
    await server.pool.closeCachedConnections()


@pytest_twisted.ensureDeferred
async def test_unused_connections_expire(tmp_path: Path) -> None:
    clock = ManualClock()
    server = await Appliance.start(tmp_path, clock=clock)
    try:
        (alice,) = await people(server, "alice")
        old, used = Sliding(alice, "old"), Sliding(alice, "used")
        await old()
        await used()
        clock.advance(4 * 24 * 3600)
        await used()
        clock.advance(4 * 24 * 3600)
        await Sliding(alice, "new")()
        read = server.daemon.engine.read
        assert {row[0] for row in read("SELECT conn_id FROM sliding_connections")} == {"used", "new"}
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_connections_of_a_device_are_limited_and_end_with_it(server: Appliance) -> None:
    (alice,) = await people(server, "alice")
    connections = [Sliding(alice, f"c{number}") for number in range(12)]
    for sliding in connections:
        await sliding()
    read = server.daemon.engine.read
    kept = {row[0] for row in read("SELECT conn_id FROM sliding_connections").fetchall()}
    assert kept == {f"c{number}" for number in range(2, 12)}
    assert (await alice.post("/logout")).status == 200
    assert read("SELECT count(*) FROM sliding_connections").fetchone() == (0,)


GOOD: dict[str, Any] = {"timeline_limit": 1, "required_state": []}


@pytest.mark.parametrize(
    ("body", "errcode", "named"),
    [
        ({"lists": []}, "M_BAD_JSON", "lists"),
        ({"lists": {"all": {"ranges": [[0, 1]], "required_state": []}}}, "M_MISSING_PARAM", "timeline_limit"),
        ({"lists": {"all": {"timeline_limit": 1}}}, "M_MISSING_PARAM", "required_state"),
        ({"lists": {"all": GOOD | {"timeline_limit": 1001}}}, "M_BAD_JSON", "timeline_limit"),
        ({"lists": {"all": GOOD | {"timeline_limit": "1"}}}, "M_BAD_JSON", "timeline_limit"),
        ({"lists": {"all": GOOD | {"ranges": [[-1, 1]]}}}, "M_BAD_JSON", "ranges"),
        ({"lists": {"all": GOOD | {"ranges": [[3, 1]]}}}, "M_INVALID_PARAM", "ranges"),
        ({"lists": {"all": GOOD | {"ranges": [[1]]}}}, "M_BAD_JSON", "ranges"),
        ({"lists": {"all": GOOD | {"ranges": [[0, 1]] * 101}}}, "M_INVALID_PARAM", "ranges"),
        ({"lists": {"all": GOOD | {"required_state": [["m.room.name"]]}}}, "M_BAD_JSON", "required_state"),
        ({"lists": {"all": GOOD | {"required_state": [["a", "b"]] * 301}}}, "M_INVALID_PARAM", "required_state"),
        ({"lists": {"all": GOOD | {"filters": {"is_dm": "yes"}}}}, "M_BAD_JSON", "is_dm"),
        ({"lists": {"ü" * 33: GOOD}}, "M_INVALID_PARAM", "lists"),
        ({"lists": {str(n): GOOD for n in range(101)}}, "M_INVALID_PARAM", "lists"),
        ({"room_subscriptions": {"!a:b": {"timeline_limit": 1}}}, "M_MISSING_PARAM", "required_state"),
        ({"room_subscriptions": {f"!{n}:b": GOOD for n in range(1001)}}, "M_INVALID_PARAM", "room_subscriptions"),
        ({"conn_id": 4}, "M_BAD_JSON", "conn_id"),
        ({"conn_id": "x" * 65}, "M_BAD_JSON", "conn_id"),
        ({"extensions": {"typing": {"enabled": 1}}}, "M_BAD_JSON", "enabled"),
        ({"extensions": {"to_device": {"enabled": True, "since": "x"}}}, "M_INVALID_PARAM", "to_device.since"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_input_is_named(server: Appliance, body: dict[str, Any], errcode: str, named: str) -> None:
    (alice,) = await people(server, "alice")
    answer = await Sliding(alice).ask(**body)
    assert (answer.status, answer.errcode) == (400, errcode), answer.json
    assert named in answer.json["error"]


@pytest_twisted.ensureDeferred
async def test_unknown_keys_are_passed_over(server: Appliance) -> None:
    (alice,) = await people(server, "alice")
    answer = await Sliding(alice)(
        txn_id="x",
        lists={"all": a_list(state=NAMES) | {"sort": ["by_recency"], "include_old_rooms": {}, "bump_event_types": []}},
        extensions={"com.example": {"enabled": True}},
    )
    assert answer["lists"]["all"]["count"] == 0 and answer["extensions"] == {}


@pytest_twisted.ensureDeferred
async def test_more_rooms_than_are_kept_in_memory(server: Appliance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heichat_appliance.services.sliding_lists.MAX_KEPT", 3)
    (alice,) = await people(server, "alice")
    rooms = [await alice.create_room() for _ in range(2)]
    sliding = Sliding(alice)
    await sliding(lists={"all": a_list()})
    rooms += [await alice.create_room() for _ in range(3)]
    answer = await sliding(lists={"all": a_list(filters={"is_encrypted": False, "not_room_types": ["m.space"]})})
    assert answer["lists"]["all"]["count"] == len(rooms)
