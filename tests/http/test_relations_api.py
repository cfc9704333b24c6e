"""Bundled aggregations, the relations endpoints, threads."""

from __future__ import annotations

import json

import pytest
import pytest_twisted

from tests.appliance import Appliance, q
from tests.http.reading_kit import GONE, INSIDE, OUTSIDE, V1, TickingClock, bodies, ids, messages, refused, society
from tests.http.room_kit import QUIET, make_room, say, set_member, user


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",), config=QUIET, clock=TickingClock())
    yield running
    await running.stop()


def to(rel_type, parent, **more):
    """The content that makes an event relate to another."""
    return {"m.relates_to": {"rel_type": rel_type, "event_id": parent, **more}}


async def edit(server, room, name, parent, body):
    return await say(server, room, name, f"* {body}", **{"m.new_content": {"body": body}}, **to("m.replace", parent))


async def event(actor, room, event_id):
    return actor.ok(await actor.get(f"/rooms/{q(room)}/event/{q(event_id)}"))


async def bundle(actor, room, event_id):
    """The bundled aggregations of an event, {} without any."""
    return (await event(actor, room, event_id))["unsigned"].get("m.relations", {})


async def relations(actor, room, event_id, rest="", **params):
    if "from_" in params:
        params["from"] = params.pop("from_")
    return actor.ok(await actor.get(f"{V1}/rooms/{q(room)}/relations/{q(event_id)}{rest}", **params))


async def threads(actor, room, **params):
    if "from_" in params:
        params["from"] = params.pop("from_")
    return actor.ok(await actor.get(f"{V1}/rooms/{q(room)}/threads", **params))


# -- edits -------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_newest_valid_edit_is_bundled_and_the_content_stays(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice", bob="join")
    original = await say(server, room, "alice", "first")
    assert await bundle(alice, room, original) == {}
    await edit(server, room, "alice", original, "second")
    third = await edit(server, room, "alice", original, "third")
    await edit(server, room, "bob", original, "forged")
    await say(server, room, "alice", "no new content", **to("m.replace", original))
    shown = await event(alice, room, original)
    assert shown["content"]["body"] == "first"
    latest = shown["unsigned"]["m.relations"]["m.replace"]
    assert (latest["event_id"], latest["content"]["m.new_content"]["body"]) == (third, "third")
    assert latest["sender"] == alice.user_id and latest["room_id"] == room
    assert await bundle(alice, room, third) == {}


@pytest_twisted.ensureDeferred
async def test_redacting_an_edit_brings_back_the_one_before(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    original = await say(server, room, "alice", "first")
    second = await edit(server, room, "alice", original, "second")
    third = await edit(server, room, "alice", original, "third")
    for redacted, expected in ((third, second), (second, None)):
        alice.ok(await alice.put(f"/rooms/{q(room)}/redact/{q(redacted)}/{redacted[1:9]}"))
        assert (await bundle(alice, room, original)).get("m.replace", {}).get("event_id") == expected


@pytest_twisted.ensureDeferred
async def test_a_redacted_event_has_no_edit_but_keeps_its_thread(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    original = await say(server, room, "alice", "first")
    await edit(server, room, "alice", original, "second")
    await say(server, room, "alice", "reply", **to("m.thread", original))
    alice.ok(await alice.put(f"/rooms/{q(room)}/redact/{q(original)}/t"))
    found = await bundle(alice, room, original)
    assert "m.replace" not in found and found["m.thread"]["count"] == 1


@pytest_twisted.ensureDeferred
async def test_state_events_have_no_bundle(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    topic = await alice.set_state(room, "m.room.topic", {"topic": "x"})
    await say(server, room, "alice", "about it", **to("m.reference", topic))
    assert await bundle(alice, room, topic) == {}


# -- threads and references --------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_bundle_of_a_thread(server):
    alice, bob, charlotte = [await server.login(name) for name in ("alice", "bob", "charlotte")]
    room = await make_room(server, "alice", bob="join", charlotte="join")
    root = await say(server, room, "alice", "root")
    await say(server, room, "bob", "one", **to("m.thread", root))
    last = await say(server, room, "bob", "two", **to("m.thread", root))
    await edit(server, room, "bob", last, "two, edited")
    for actor, participated in ((alice, True), (bob, True), (charlotte, False)):
        thread = (await bundle(actor, room, root))["m.thread"]
        assert (thread["count"], thread["current_user_participated"]) == (2, participated)
        assert thread["latest_event"]["event_id"] == last
        nested = thread["latest_event"]["unsigned"]["m.relations"]["m.replace"]
        assert nested["content"]["m.new_content"]["body"] == "two, edited"


@pytest_twisted.ensureDeferred
async def test_redacting_an_event_of_a_thread_takes_it_out(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    root = await say(server, room, "alice", "root")
    one = await say(server, room, "alice", "one", **to("m.thread", root))
    two = await say(server, room, "alice", "two", **to("m.thread", root))
    alice.ok(await alice.put(f"/rooms/{q(room)}/redact/{q(two)}/t"))
    thread = (await bundle(alice, room, root))["m.thread"]
    assert (thread["count"], thread["latest_event"]["event_id"]) == (1, one)
    assert (await relations(alice, room, root))["chunk"][0]["event_id"] == one


@pytest_twisted.ensureDeferred
async def test_references_are_listed_and_reactions_are_not_bundled(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    poll = await say(server, room, "alice", "poll")
    votes = [await say(server, room, "alice", f"vote {n}", **to("m.reference", poll)) for n in range(3)]
    await alice.send(room, to("m.annotation", poll, key="+"), "m.reaction")
    assert await bundle(alice, room, poll) == {"m.reference": {"chunk": [{"event_id": vote} for vote in votes]}}


@pytest_twisted.ensureDeferred
async def test_bundles_come_with_every_kind_of_reading(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    room = await make_room(server, "alice", bob="join")
    root = await say(server, room, "alice", "needle")
    await say(server, room, "bob", "reply", **to("m.thread", root))
    await say(server, room, "bob", "refers", **to("m.reference", root))

    def count(events):
        found = [one for one in events if one["event_id"] == root]
        return found[0]["unsigned"]["m.relations"]["m.thread"]["count"]

    timeline = (await bob.sync())["rooms"]["join"][room]["timeline"]["events"]
    context = alice.ok(await alice.get(f"/rooms/{q(room)}/context/{q(root)}"))
    body = {"search_categories": {"room_events": {"search_term": "needle"}}}
    search = alice.ok(await alice.post("/search", body))["search_categories"]["room_events"]["results"]
    assert count(timeline) == 1
    assert count((await messages(alice, room))["chunk"]) == 1
    assert count([context["event"]]) == 1
    assert count((await threads(alice, room))["chunk"]) == 1
    assert count([one["result"] for one in search]) == 1
    reference = await say(server, room, "bob", "x", **to("m.reference", root))
    await edit(server, room, "bob", reference, "y")
    children = (await relations(alice, room, root, "/m.reference"))["chunk"]
    assert children[0]["unsigned"]["m.relations"]["m.replace"]["content"]["m.new_content"]["body"] == "y"


@pytest_twisted.ensureDeferred
async def test_a_sync_in_steps_brings_the_bundle_with_the_event(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    room = await make_room(server, "alice", bob="join")
    await bob.sync()
    root = await say(server, room, "alice", "root")
    await say(server, room, "alice", "reply", **to("m.thread", root))
    events = (await bob.sync())["rooms"]["join"][room]["timeline"]["events"]
    assert events[0]["unsigned"]["m.relations"]["m.thread"]["current_user_participated"] is False
    assert (await alice.sync())["rooms"]["join"][room]["timeline"]["events"][-2]["event_id"] == root


@pytest_twisted.ensureDeferred
async def test_ignored_people_do_not_count(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice", bob="join", charlotte="join")
    root = await say(server, room, "alice", "root")
    kept = await say(server, room, "charlotte", "one", **to("m.thread", root))
    await say(server, room, "bob", "two", **to("m.thread", root))
    await say(server, room, "bob", "ref", **to("m.reference", root))
    bobs_root = await say(server, room, "bob", "bob's root")
    await say(server, room, "charlotte", "three", **to("m.thread", bobs_root))
    bobs_thread = await say(server, room, "charlotte", "quiet root")
    await say(server, room, "bob", "four", **to("m.thread", bobs_thread))
    path = f"/user/{q(alice.user_id)}/account_data/m.ignored_user_list"
    alice.ok(await alice.put(path, {"ignored_users": {user("bob"): {}}}))
    found = await bundle(alice, room, root)
    assert found["m.thread"]["count"] == 1 and found["m.thread"]["latest_event"]["event_id"] == kept
    assert "m.reference" not in found
    assert ids((await relations(alice, room, root))["chunk"]) == [kept]
    chunk = (await threads(alice, room))["chunk"]
    assert ids(chunk) == [bobs_root, root]
    assert chunk[0]["content"] == {}, "a root by an ignored person is shown redacted"
    bob = await server.login("bob")
    assert (await event(bob, room, bobs_root))["content"]["body"] == "bob's root"


# -- what may not be seen ----------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_children_that_may_not_be_seen_are_not_in_bundles(server):
    there = await society(server)
    await say(server, there.room, "alice", "late reply", **to("m.thread", there.before))
    await edit(server, there.room, "alice", there.before, "late edit")
    await say(server, there.room, "alice", "late reference", **to("m.reference", there.before))
    assert set(await bundle(there["bob"], there.room, there.before)) == {"m.thread", "m.replace", "m.reference"}
    for name in GONE:
        assert await bundle(there[name], there.room, there.before) == {}
        assert (await relations(there[name], there.room, there.before))["chunk"] == []
        assert (await relations(there[name], there.room, there.before, recurse="true"))["chunk"] == []
        assert (await threads(there[name], there.room))["chunk"] == []


@pytest_twisted.ensureDeferred
async def test_threads_from_before_ones_time_stay_unseen(server):
    bob = await server.login("bob")
    room = await make_room(server, "alice", "joined")
    old = await say(server, room, "alice", "old root")
    await say(server, room, "alice", "old reply", **to("m.thread", old))
    await set_member(server, room, "bob", "invite", "alice")
    await set_member(server, room, "bob", "join", "bob")
    await say(server, room, "alice", "new reply to the old", **to("m.thread", old))
    new = await say(server, room, "alice", "new root")
    await say(server, room, "alice", "new reply", **to("m.thread", new))
    assert ids((await threads(bob, room))["chunk"]) == [new]


@pytest_twisted.ensureDeferred
async def test_who_asks_for_relations_and_threads(server):
    there = await society(server)
    reply = await say(server, there.room, "bob", "reply", **to("m.thread", there.after))
    for name in INSIDE:
        assert ids((await relations(there[name], there.room, there.after))["chunk"]) == [reply]
        assert ids((await threads(there[name], there.room))["chunk"]) == [there.after]
    paths = [f"{there.v1}/relations/{q(there.after)}{rest}" for rest in ("", "/m.thread", "/m.thread/m.room.message")]
    for name in (*OUTSIDE, *GONE):
        for path in paths:
            refused(await there[name].get(path), 404, "M_NOT_FOUND")
    for name in OUTSIDE:
        refused(await there[name].get(f"{there.v1}/threads"), 403, "M_FORBIDDEN")
    refused(await there["bob"].get(f"{there.v1}/relations/$nothing"), 404, "M_NOT_FOUND")


@pytest_twisted.ensureDeferred
async def test_who_was_only_invited_syncs_with_what_they_could_see(server):
    charlotte = await server.login("charlotte")
    room = await make_room(server, "alice", "invited")
    await set_member(server, room, "charlotte", "invite", "alice")
    await charlotte.sync()
    root = await say(server, room, "alice", "root")
    await say(server, room, "alice", "reply", **to("m.thread", root))
    await set_member(server, room, "charlotte", "leave", "charlotte")
    await say(server, room, "alice", "later reply", **to("m.thread", root))
    for since in (charlotte.since, None):
        synced = await charlotte.sync(since=since, filter=json.dumps({"room": {"include_leave": True}}))
        left = synced["rooms"]["leave"][room]["timeline"]["events"]
        assert "later reply" not in bodies(left)
        for one in left:
            if one["event_id"] == root:
                assert one["unsigned"]["m.relations"]["m.thread"]["count"] == 1
    assert root in ids(left), "what the invited person could see is there"


# -- the relations endpoints -------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_relations_by_kind_and_direction(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice", bob="join")
    root = await say(server, room, "alice", "root")
    one = await say(server, room, "bob", "one", **to("m.thread", root))
    like = await alice.send(room, to("m.annotation", root, key="+"), "m.reaction")
    two = await say(server, room, "bob", "two", **to("m.thread", root))
    everything = await relations(alice, room, root)
    assert ids(everything["chunk"]) == [two, like, one]
    assert "next_batch" not in everything and "prev_batch" not in everything
    assert "recursion_depth" not in everything
    assert ids((await relations(alice, room, root, dir="f"))["chunk"]) == [one, like, two]
    assert ids((await relations(alice, room, root, "/m.thread"))["chunk"]) == [two, one]
    assert ids((await relations(alice, room, root, "/m.annotation/m.reaction"))["chunk"]) == [like]
    assert (await relations(alice, room, root, "/m.annotation/m.room.message"))["chunk"] == []
    assert (await relations(alice, room, one))["chunk"] == []


@pytest.mark.parametrize("dir", ["b", "f"])
@pytest.mark.parametrize("recurse", [None, "true"])
@pytest_twisted.ensureDeferred
async def test_pages_of_relations(server, dir, recurse):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    root = await say(server, room, "alice", "root")
    sent = [await say(server, room, "alice", str(n), **to("m.thread", root)) for n in range(7)]
    options = {"limit": 3, "dir": dir, **({"recurse": recurse} if recurse else {})}
    page, found = await relations(alice, room, root, **options), []
    while True:
        found += ids(page["chunk"])
        if "next_batch" not in page:
            break
        start = page["next_batch"]
        page = await relations(alice, room, root, from_=start, **options)
        assert page["prev_batch"] == start
    assert found == (sent if dir == "f" else list(reversed(sent)))
    assert len(page["chunk"]) == 1


@pytest_twisted.ensureDeferred
async def test_relations_between_two_tokens(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    root = await say(server, room, "alice", "root")
    await say(server, room, "alice", "0", **to("m.thread", root))
    early = (await messages(alice, room, limit=1))["start"]
    await say(server, room, "alice", "1", **to("m.thread", root))
    late = (await messages(alice, room, limit=1))["start"]
    await say(server, room, "alice", "2", **to("m.thread", root))
    assert bodies((await relations(alice, room, root, from_=late, to=early))["chunk"]) == ["1"]
    assert bodies((await relations(alice, room, root, from_=early, to=late))["chunk"]) == []
    assert bodies((await relations(alice, room, root, from_=early, to=late, dir="f"))["chunk"]) == ["1"]


@pytest_twisted.ensureDeferred
async def test_relations_of_relations(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    root = await say(server, room, "alice", "root")
    reply = await say(server, room, "alice", "reply", **to("m.thread", root))
    change = await edit(server, room, "alice", reply, "edited")
    like = await alice.send(room, to("m.annotation", reply, key="+"), "m.reaction")
    deeper = await say(server, room, "alice", "about the edit", **to("m.reference", change))
    too_deep = await say(server, room, "alice", "about that", **to("m.reference", deeper))
    await say(server, room, "alice", "unrelated")
    found = await relations(alice, room, root, recurse="true")
    assert ids(found["chunk"]) == [deeper, like, change, reply]
    assert found["recursion_depth"] == 3
    assert too_deep not in ids(found["chunk"])
    direct = await relations(alice, room, root, recurse="false")
    assert (ids(direct["chunk"]), direct["recursion_depth"]) == ([reply], 1)
    # what is between must be of the kind as well
    assert (await relations(alice, room, root, "/m.annotation", recurse="true"))["chunk"] == []


@pytest.mark.parametrize(
    ("params", "word"),
    [({"dir": "x"}, "dir"), ({"limit": 0}, "limit"), ({"limit": -3}, "limit"), ({"limit": "a"}, "limit"),
     ({"from": "x"}, "from"), ({"to": "x"}, "to"), ({"recurse": "maybe"}, "recurse")],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_bad_relations(server, params, word):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    root = await say(server, room, "alice", "root")
    answer = await alice.get(f"{V1}/rooms/{q(room)}/relations/{q(root)}", **params)
    refused(answer, 400, "M_INVALID_PARAM", word)


# -- the list of threads -----------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_threads_in_the_order_of_their_newest_events(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice", bob="join")
    roots = [await say(server, room, "alice", f"root {n}") for n in range(5)]
    for index in (3, 0, 4, 1, 2, 0):
        await say(server, room, "bob", "reply", **to("m.thread", roots[index]))
    expected = [roots[index] for index in (0, 2, 1, 4, 3)]
    assert ids((await threads(alice, room))["chunk"]) == expected
    page, found = await threads(alice, room, limit=2), []
    while True:
        found += ids(page["chunk"])
        if "next_batch" not in page:
            break
        page = await threads(alice, room, limit=2, from_=page["next_batch"])
    assert found == expected


@pytest_twisted.ensureDeferred
async def test_threads_that_one_took_part_in(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    room = await make_room(server, "alice", bob="join")
    alices = await say(server, room, "alice", "alice's")
    bobs = await say(server, room, "bob", "bob's")
    await say(server, room, "bob", "x", **to("m.thread", bobs))
    await say(server, room, "alice", "x", **to("m.thread", alices))
    assert ids((await threads(alice, room, include="participated"))["chunk"]) == [alices]
    assert ids((await threads(bob, room, include="participated"))["chunk"]) == [bobs]
    await say(server, room, "bob", "x", **to("m.thread", alices))
    assert ids((await threads(bob, room, include="participated"))["chunk"]) == [alices, bobs]
    assert ids((await threads(bob, room, include="all"))["chunk"]) == [alices, bobs]


@pytest.mark.parametrize(
    ("params", "word"), [({"include": "some"}, "include"), ({"limit": 0}, "limit"), ({"from": "p2"}, "from")]
)
@pytest_twisted.ensureDeferred
async def test_bad_threads(server, params, word):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    refused(await alice.get(f"{V1}/rooms/{q(room)}/threads", **params), 400, "M_INVALID_PARAM", word)


@pytest_twisted.ensureDeferred
async def test_a_filtered_sync_still_bundles(server):
    bob = await server.login("bob")
    room = await make_room(server, "alice", bob="join")
    root = await say(server, room, "alice", "root")
    await say(server, room, "alice", "reply", **to("m.thread", root))
    await alice_topic(server, room)
    wanted = json.dumps({"room": {"timeline": {"types": ["m.room.message"], "limit": 5}}})
    events = (await bob.sync(filter=wanted))["rooms"]["join"][room]["timeline"]["events"]
    assert events[-2]["unsigned"]["m.relations"]["m.thread"]["count"] == 1


@pytest_twisted.ensureDeferred
async def test_a_sync_of_events_that_others_relate_to(server):
    bob = await server.login("bob")
    room = await make_room(server, "alice", bob="join")
    root = await say(server, room, "alice", "root")
    await say(server, room, "alice", "reply", **to("m.thread", root))
    for wanted in ({"related_by_rel_types": ["m.thread"]}, {"related_by_senders": [user("alice")]}):
        synced = await bob.sync(since=None, filter=json.dumps({"room": {"timeline": wanted}}))
        assert ids(synced["rooms"]["join"][room]["timeline"]["events"]) == [root]


async def alice_topic(server, room):
    alice = await server.login("alice")
    await alice.set_state(room, "m.room.topic", {"topic": "x"})
