"""Room summaries, the tree of a space, mutual rooms."""

from __future__ import annotations

import pytest
import pytest_twisted

from tests.appliance import Appliance, q
from tests.http.reading_kit import GONE, INSIDE, OUTSIDE, V1, refused, society
from tests.http.room_kit import QUIET, make_room, set_member, user


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",), config=QUIET)
    yield running
    await running.stop()


async def summary(actor, room):
    return await actor.get(f"{V1}/room_summary/{q(room)}")


async def hierarchy(actor, room, **params):
    if "from_" in params:
        params["from"] = params.pop("from_")
    return actor.ok(await actor.get(f"{V1}/rooms/{q(room)}/hierarchy", **params))


def room_ids(tree):
    return [room["room_id"] for room in tree["rooms"]]


async def space(actor, **body):
    return await actor.create_room(creation_content={"type": "m.space"}, **body)


async def link(actor, parent, child, **content):
    await actor.set_state(parent, "m.space.child", {"via": ["chat.test"], **content}, child)


# -- summaries ---------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_summary_has_what_the_room_says_of_itself(server):
    alice = await server.login("alice")
    allowed = await space(alice)
    room = await alice.create_room(
        name="Seminar",
        topic="Von Zahlen",
        room_alias_name="seminar",
        initial_state=[
            {"type": "m.room.avatar", "state_key": "", "content": {"url": "mxc://chat.test/a"}},
            {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}},
            {
                "type": "m.room.join_rules",
                "state_key": "",
                "content": {
                    "join_rule": "restricted",
                    "allow": [{"type": "m.room_membership", "room_id": allowed}, {"type": "org.example.other"}],
                },
            },
        ],
    )
    expected = {
        "room_id": room,
        "name": "Seminar",
        "topic": "Von Zahlen",
        "avatar_url": "mxc://chat.test/a",
        "canonical_alias": "#seminar:chat.test",
        "encryption": "m.megolm.v1.aes-sha2",
        "join_rule": "restricted",
        "allowed_room_ids": [allowed],
        "num_joined_members": 1,
        "guest_can_join": True,
        "world_readable": False,
        "room_version": "11",
        "membership": "join",
    }
    for name in (room, "#seminar:chat.test"):
        found = alice.ok(await summary(alice, name))
        assert {key: found.get(key) for key in expected} == expected
    assert (await summary(alice, allowed)).json["room_type"] == "m.space"
    for path in (f"rooms/{q(room)}/summary", f"summary/{q(room)}"):
        answer = await alice.get(f"/_matrix/client/unstable/im.nheko.summary/{path}")
        assert answer.json == (await summary(alice, room)).json


@pytest_twisted.ensureDeferred
async def test_who_gets_a_summary(server):
    there = await society(server)
    for name, membership in (("alice", "join"), ("bob", "join"), ("charlotte", "invite")):
        answer = await summary(there[name], there.room)
        assert (answer.status, answer.json["membership"]) == (200, membership)
    for name in ("frieda", *GONE):
        refused(await summary(there[name], there.room), 404, "M_NOT_FOUND")
    refused(await server.http.get(f"{V1}/room_summary/{q(there.room)}"), 404, "M_NOT_FOUND")
    for name in ("!nothing:chat.test", "#nothing:chat.test", "nothing", "#"):
        refused(await summary(there["alice"], name), 404, "M_NOT_FOUND")


@pytest.mark.parametrize(
    ("rule", "stranger", "nobody"),
    [("invite", 404, 404), ("knock", 200, 404), ("public", 200, 200), ("private", 404, 404)],
)
@pytest_twisted.ensureDeferred
async def test_join_rules_decide_for_strangers(server, rule, stranger, nobody):
    there = await society(server)
    await there["alice"].set_state(there.room, "m.room.join_rules", {"join_rule": rule})
    assert (await summary(there["frieda"], there.room)).status == stranger
    assert (await summary(there["david"], there.room)).status == stranger
    assert (await summary(there["emine"], there.room)).status == 404, "banned"
    assert (await server.http.get(f"{V1}/room_summary/{q(there.room)}")).status == nobody


@pytest_twisted.ensureDeferred
async def test_a_world_readable_room_is_known_to_everybody(server):
    there = await society(server, "world_readable")
    for name in (*INSIDE, *OUTSIDE, *GONE):
        assert (await summary(there[name], there.room)).json["world_readable"] is True
    assert (await server.http.get(f"{V1}/room_summary/{q(there.room)}")).status == 200
    refused(await server.http.get(f"{V1}/room_summary/{q(there.room)}", access_token="no"), 401, "M_UNKNOWN_TOKEN")


# -- the tree of a space -----------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_tree_depth_first_in_the_order_of_the_children(server):
    alice = await server.login("alice")
    root = await space(alice, name="root")
    sub = await space(alice, name="sub")
    rooms = [await alice.create_room(name=f"room {n}") for n in range(4)]
    await link(alice, root, rooms[0])
    await link(alice, root, sub, order="b")
    await link(alice, root, rooms[1], order="a")
    await link(alice, sub, rooms[2], suggested=True, order="1")
    await link(alice, sub, rooms[3], order="2")
    await link(alice, sub, root)
    await alice.set_state(root, "m.space.child", {}, "!removed:chat.test")
    await link(alice, root, "!unknown:chat.test", order="z")
    tree = await hierarchy(alice, root)
    assert room_ids(tree) == [root, rooms[1], sub, rooms[2], rooms[3], rooms[0]]
    assert "next_batch" not in tree
    top = tree["rooms"][0]
    assert (top["name"], top["room_type"], top["num_joined_members"]) == ("root", "m.space", 1)
    children = top["children_state"]
    assert [child["state_key"] for child in children] == [rooms[1], sub, "!unknown:chat.test", rooms[0]]
    assert set(children[0]) == {"type", "state_key", "content", "sender", "origin_server_ts"}
    assert tree["rooms"][1]["children_state"] == []
    assert room_ids(await hierarchy(alice, root, max_depth=1)) == [root, rooms[1], sub, rooms[0]]
    assert room_ids(await hierarchy(alice, root, max_depth=0)) == [root]
    assert room_ids(await hierarchy(alice, sub, suggested_only="true")) == [sub, rooms[2]]


@pytest_twisted.ensureDeferred
async def test_pages_of_a_tree(server):
    alice = await server.login("alice")
    root = await space(alice)
    rooms = [await alice.create_room() for _ in range(5)]
    for index, room in enumerate(rooms):
        await link(alice, root, room, order=str(index))
    page, found = await hierarchy(alice, root, limit=2), []
    while True:
        found += room_ids(page)
        if "next_batch" not in page:
            break
        token = page["next_batch"]
        page = await hierarchy(alice, root, limit=2, from_=token)
    assert found == [root, *rooms]
    path = f"{V1}/rooms/{q(root)}/hierarchy"
    refused(await alice.get(path, **{"from": token, "max_depth": 1}), 400, "M_INVALID_PARAM", "max_depth")
    refused(
        await alice.get(path, **{"from": token, "suggested_only": "true"}), 400, "M_INVALID_PARAM", "suggested_only"
    )


@pytest_twisted.ensureDeferred
async def test_a_tree_has_only_rooms_that_the_person_may_know(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    root = await space(alice)
    closed = await alice.create_room(name="closed")
    invited = await alice.create_room(name="invited", invite=[bob.user_id])
    banned = await alice.create_room(name="banned")
    knock, by_space, by_other = [
        await alice.create_room(initial_state=[{"type": "m.room.join_rules", "state_key": "", "content": content}])
        for content in (
            {"join_rule": "knock"},
            {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": root}]},
            {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": closed}]},
        )
    ]
    await alice.set_state(banned, "m.room.join_rules", {"join_rule": "knock"})
    await alice.set_state(banned, "m.room.member", {"membership": "ban"}, bob.user_id)
    for room in (closed, invited, knock, by_space, by_other, banned):
        await link(alice, root, room)
    refused(await bob.get(f"{V1}/rooms/{q(root)}/hierarchy"), 403, "M_FORBIDDEN")
    await alice.invite(root, bob.user_id)
    assert set(room_ids(await hierarchy(bob, root))) == {root, invited, knock}
    await bob.join(root)
    assert set(room_ids(await hierarchy(bob, root))) == {root, invited, knock, by_space}
    assert len(room_ids(await hierarchy(alice, root))) == 7


@pytest_twisted.ensureDeferred
async def test_who_gets_a_tree(server):
    there = await society(server)
    for name in (*INSIDE, "charlotte"):
        assert room_ids(await hierarchy(there[name], there.room)) == [there.room]
    for name in ("frieda", *GONE):
        refused(await there[name].get(f"{there.v1}/hierarchy"), 403, "M_FORBIDDEN")
    refused(await there["alice"].get(f"{V1}/rooms/!nothing:chat.test/hierarchy"), 403, "M_FORBIDDEN")


@pytest.mark.parametrize(
    ("params", "word"),
    [({"limit": 0}, "limit"), ({"limit": "x"}, "limit"), ({"max_depth": -1}, "max_depth"), ({"from": "x"}, "from"),
     ({"max_depth": "deep"}, "max_depth"), ({"suggested_only": "yes"}, "suggested_only")],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_bad_trees(server, params, word):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    refused(await alice.get(f"{V1}/rooms/{q(room)}/hierarchy", **params), 400, "M_INVALID_PARAM", word)


# -- mutual rooms ------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_rooms_that_both_are_joined_to(server):
    alice = await server.login("alice")
    shared = [await make_room(server, "alice", bob="join") for _ in range(2)]
    await make_room(server, "alice", bob="invite")
    await make_room(server, "alice", bob="leave")
    await make_room(server, "bob", charlotte="join")
    path = f"{V1}/mutual_rooms"
    found = alice.ok(await alice.get(path, user_id=user("bob")))
    assert (sorted(found["joined"]), found["count"]) == (sorted(shared), 2)
    assert "next_batch" not in found
    assert (await alice.get(path, user_id=user("nobody"))).json == {"joined": [], "count": 0}
    await set_member(server, shared[0], "bob", "leave", "bob")
    assert (await alice.get(path, user_id=user("bob"))).json["joined"] == [shared[1]]
    refused(await alice.get(path, user_id=alice.user_id), 400, "M_INVALID_PARAM", "user_id")
    refused(await alice.get(path, user_id="bob"), 400, "M_INVALID_PARAM", "user_id")
    refused(await alice.get(path), 400, "M_MISSING_PARAM", "user_id")
    refused(await alice.get(path, user_id=user("bob"), **{"from": "x"}), 400, "M_INVALID_PARAM", "from")


@pytest_twisted.ensureDeferred
async def test_many_mutual_rooms_come_in_pages(server, monkeypatch):
    monkeypatch.setattr("heichat_appliance.services.spaces.MAX_MUTUAL", 2)
    alice = await server.login("alice")
    rooms = [await make_room(server, "alice", bob="join") for _ in range(5)]
    page, found = alice.ok(await alice.get(f"{V1}/mutual_rooms", user_id=user("bob"))), []
    while True:
        assert page["count"] == 5
        found += page["joined"]
        if "next_batch" not in page:
            break
        query = {"user_id": user("bob"), "from": page["next_batch"]}
        page = alice.ok(await alice.get(f"{V1}/mutual_rooms", **query))
    assert found == sorted(rooms)
