"""State, members, and the old way to read a room whole."""

from __future__ import annotations

import pytest_twisted

from tests.appliance import Appliance, q
from tests.http.reading_kit import GONE, INSIDE, OUTSIDE, bodies, messages, refused, society
from tests.http.room_kit import QUIET, make_room, say, set_member, user


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",), config=QUIET)
    yield running
    await running.stop()


def memberships(answer):
    """{user ID: membership} of a /members answer."""
    return {event["state_key"]: event["content"]["membership"] for event in answer["chunk"]}


# -- state -------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_members_read_the_present_state_and_those_who_left_that_of_their_leaving(server):
    there = await society(server)
    alice = there["alice"]
    await alice.set_state(there.room, "m.room.name", {"name": "new"})
    for name in INSIDE:
        types = {event["type"] for event in there[name].ok(await there[name].get(f"{there.path}/state"))}
        assert "m.room.name" in types
        assert (await there[name].get(f"{there.path}/state/m.room.name")).json == {"name": "new"}
    for name in GONE:
        state = there[name].ok(await there[name].get(f"{there.path}/state"))
        assert "m.room.name" not in {event["type"] for event in state}
        own = [event for event in state if event.get("state_key") == user(name)]
        assert own[0]["content"]["membership"] in ("leave", "ban")
        refused(await there[name].get(f"{there.path}/state/m.room.name"), 404, "M_NOT_FOUND")
        assert (await there[name].get(f"{there.path}/state/m.room.create/")).status == 200
    for name in OUTSIDE:
        for path in (
            "state",
            "state/m.room.create",
            "state/m.room.create/",
            "members",
            "joined_members",
            "initialSync",
        ):
            refused(await there[name].get(f"{there.path}/{path}"), 403, "M_FORBIDDEN")


@pytest_twisted.ensureDeferred
async def test_one_piece_of_state_as_content_and_as_event(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    event_id = await alice.set_state(room, "org.example.thing", {"a": [1]}, "key/with a slash")
    path = f"/rooms/{q(room)}/state/org.example.thing/{q('key/with a slash')}"
    assert (await alice.get(path)).json == {"a": [1]}
    assert (await alice.get(path, format="content")).json == {"a": [1]}
    event = (await alice.get(path, format="event")).json
    assert (event["event_id"], event["state_key"], event["room_id"]) == (event_id, "key/with a slash", room)
    refused(await alice.get(path, format="xml"), 400, "M_INVALID_PARAM", "format")
    refused(await alice.get(f"/rooms/{q(room)}/state/org.example.thing"), 404, "M_NOT_FOUND", "org.example.thing")
    assert (await alice.get(f"/rooms/{q(room)}/state/m.room.create")).status == 200
    assert (await alice.get(f"/rooms/{q(room)}/state/m.room.create/")).status == 200


@pytest_twisted.ensureDeferred
async def test_state_events_tell_what_they_replaced(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    first = await alice.set_state(room, "m.room.topic", {"topic": "one"})
    await alice.set_state(room, "m.room.topic", {"topic": "two"})
    event = (await alice.get(f"/rooms/{q(room)}/state/m.room.topic", format="event")).json
    assert event["unsigned"]["replaces_state"] == first
    assert event["unsigned"]["prev_content"]["topic"] == "one"


@pytest_twisted.ensureDeferred
async def test_redacted_state_is_not_shown_as_what_came_before(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    secret = await alice.set_state(room, "m.room.topic", {"topic": "secret"})
    await alice.set_state(room, "m.room.topic", {"topic": "new"})
    path = f"/rooms/{q(room)}/state/m.room.topic"
    assert (await alice.get(path, format="event")).json["unsigned"]["prev_content"]["topic"] == "secret"
    alice.ok(await alice.put(f"/rooms/{q(room)}/redact/{q(secret)}/t"))
    assert (await alice.get(path, format="event")).json["unsigned"]["prev_content"] == {}
    assert b"secret" not in (await alice.get(f"/rooms/{q(room)}/messages", dir="b", limit=50)).body


# -- members -----------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_members_of_each_kind(server):
    there = await society(server)
    alice = there["alice"]

    async def found(**params):
        return memberships(alice.ok(await alice.get(f"{there.path}/members", **params)))

    everybody = {
        user("alice"): "join", user("bob"): "join", user("charlotte"): "invite", user("david"): "leave",
        user("emine"): "ban",
    }  # fmt: skip
    assert await found() == everybody
    assert await found(membership="join") == {user("alice"): "join", user("bob"): "join"}
    assert await found(membership="knock") == {}
    assert set(await found(not_membership="leave")) == set(everybody) - {user("david")}
    # both together: the one or not the other (spec, "GET .../members")
    assert set(await found(membership="ban", not_membership="ban")) == set(everybody)
    assert set(await found(membership="ban", not_membership="join")) == set(everybody) - INSIDE_IDS
    refused(await alice.get(f"{there.path}/members", membership="x"), 400, "M_INVALID_PARAM", "membership")
    refused(await alice.get(f"{there.path}/members", not_membership="x"), 400, "M_INVALID_PARAM", "not_membership")
    refused(await alice.get(f"{there.path}/members", at="yesterday"), 400, "M_INVALID_PARAM", "at")


INSIDE_IDS = {user(name) for name in INSIDE}


@pytest_twisted.ensureDeferred
async def test_members_at_an_earlier_time(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice", bob="join")
    before = (await alice.sync())["next_batch"]
    await set_member(server, room, "bob", "leave", "bob")
    now = memberships(alice.ok(await alice.get(f"/rooms/{q(room)}/members")))
    then = memberships(alice.ok(await alice.get(f"/rooms/{q(room)}/members", at=before)))
    assert (then[user("bob")], now[user("bob")]) == ("join", "leave")


@pytest_twisted.ensureDeferred
async def test_those_who_left_do_not_see_who_came_later(server):
    there = await society(server)
    await set_member(server, there.room, "frieda", "invite", "alice")
    await set_member(server, there.room, "frieda", "join", "frieda")
    late = (await there["frieda"].sync())["next_batch"]
    for name in GONE:
        for params in ({}, {"at": late}):
            found = memberships(there[name].ok(await there[name].get(f"{there.path}/members", **params)))
            assert user("frieda") not in found and user("alice") in found


@pytest_twisted.ensureDeferred
async def test_members_from_before_ones_own_time_stay_unseen(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    room = await make_room(server, "alice", "joined", charlotte="join")
    early = (await alice.sync())["next_batch"]
    await set_member(server, room, "charlotte", "leave", "charlotte")
    await set_member(server, room, "bob", "invite", "alice")
    await set_member(server, room, "bob", "join", "bob")
    found = memberships(bob.ok(await bob.get(f"/rooms/{q(room)}/members", at=early)))
    assert (found[user("bob")], found[user("charlotte")]) == ("join", "leave"), (
        "as of the own joining, the nearest time"
    )


@pytest_twisted.ensureDeferred
async def test_joined_members_have_names_and_only_members_get_them(server):
    there = await society(server)
    alice = there["alice"]
    alice.ok(await alice.put(f"/profile/{q(alice.user_id)}/avatar_url", {"avatar_url": "mxc://chat.test/a"}))
    alice.ok(await alice.put(f"/profile/{q(alice.user_id)}/displayname", {"displayname": "Alice"}))
    room = await alice.create_room()
    joined = (await alice.get(f"/rooms/{q(room)}/joined_members")).json["joined"]
    assert joined == {user("alice"): {"display_name": "Alice", "avatar_url": "mxc://chat.test/a"}}
    assert set((await there["bob"].get(f"{there.path}/joined_members")).json["joined"]) == INSIDE_IDS
    for name in (*GONE, *OUTSIDE):
        refused(await there[name].get(f"{there.path}/joined_members"), 403, "M_FORBIDDEN")


# -- initialSync of a room ---------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_room_whole(server):
    there = await society(server)
    bob, david = there["bob"], there["david"]
    bob.ok(await bob.put(f"/user/{q(bob.user_id)}{there.path}/account_data/org.example", {"x": 1}))
    whole = bob.ok(await bob.get(f"{there.path}/initialSync", limit=2))
    assert (whole["room_id"], whole["membership"], whole["visibility"]) == (there.room, "join", "private")
    assert whole["account_data"] == [{"type": "org.example", "content": {"x": 1}}]
    assert whole["messages"]["chunk"][-1]["event_id"] == there.after
    assert {event["type"] for event in whole["state"]} >= {"m.room.create", "m.room.member"}
    older = await messages(bob, there.room, "b", from_=whole["messages"]["start"], limit=1)
    assert older["chunk"][0]["event_id"] != whole["messages"]["chunk"][0]["event_id"]
    await say(server, there.room, "alice", "later")
    assert bodies((await messages(bob, there.room, "f", from_=whole["messages"]["end"]))["chunk"]) == ["later"]
    left = david.ok(await david.get(f"{there.path}/initialSync", limit=1))
    assert left["membership"] == "leave"
    assert left["messages"]["chunk"][0]["state_key"] == user("david")
