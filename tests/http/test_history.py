"""Pages of history, single events, the surroundings of an event, the event nearest to a time."""

from __future__ import annotations

import json

import pytest
import pytest_twisted

from tests.appliance import Appliance, ManualClock, q
from tests.http.reading_kit import GONE, INSIDE, OUTSIDE, V1, all_pages, bodies, ids, messages, refused, society
from tests.http.room_kit import QUIET, make_room, say, set_member, user


@pytest.fixture
def clock():
    return ManualClock()


@pytest_twisted.async_yield_fixture
async def server(tmp_path, clock):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",), config=QUIET, clock=clock)
    yield running
    await running.stop()


async def numbered(server, count=20, **members):
    room = await make_room(server, "alice", **(members or {"bob": "join"}))
    return room, [await say(server, room, "alice", str(number)) for number in range(count)]


# -- pages -------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_pages_backwards_and_forwards_have_every_event_once_and_end(server):
    alice = await server.login("alice")
    room, sent = await numbered(server)
    backwards = [event for page in await all_pages(alice, room, "b") for event in page["chunk"]]
    forwards = [event for page in await all_pages(alice, room, "f") for event in page["chunk"]]
    assert ids(backwards) == list(reversed(ids(forwards)))
    assert ids(forwards)[-20:] == sent
    assert forwards[0]["type"] == "m.room.create"
    assert len(set(ids(forwards))) == len(forwards)


@pytest_twisted.ensureDeferred
async def test_tokens_of_sync_continue_in_both_directions(server):
    bob = await server.login("bob")
    room, _ = await numbered(server)
    await bob.sync(filter={"room": {"timeline": {"limit": 3}}})
    await say(server, room, "alice", "new")
    synced = await bob.sync(since=None, filter={"room": {"timeline": {"limit": 3}}})
    timeline = synced["rooms"]["join"][room]["timeline"]
    assert bodies(timeline["events"]) == ["18", "19", "new"]
    page = await messages(bob, room, "b", from_=timeline["prev_batch"], limit=2)
    assert bodies(page["chunk"]) == ["17", "16"]
    assert page["start"] == timeline["prev_batch"]
    page = await messages(bob, room, "f", from_=timeline["prev_batch"], limit=2)
    assert bodies(page["chunk"]) == ["18", "19"]
    await say(server, room, "alice", "newer")
    assert bodies((await messages(bob, room, "f", from_=synced["next_batch"]))["chunk"]) == ["newer"]


@pytest_twisted.ensureDeferred
async def test_the_start_of_a_page_leads_back(server):
    alice = await server.login("alice")
    room, _ = await numbered(server)
    page = await messages(alice, room, "b", limit=5)
    assert bodies(page["chunk"]) == ["19", "18", "17", "16", "15"]
    assert bodies((await messages(alice, room, "f", from_=page["end"]))["chunk"]) == ["15", "16", "17", "18", "19"]
    assert (await messages(alice, room, "f", from_=page["start"]))["chunk"] == []


@pytest_twisted.ensureDeferred
async def test_to_stops_the_page(server):
    alice = await server.login("alice")
    room, _ = await numbered(server)
    middle = (await messages(alice, room, "b", limit=5))["end"]
    page = await messages(alice, room, "b", to=middle, limit=100)
    assert bodies(page["chunk"]) == ["19", "18", "17", "16", "15"]
    assert page["end"] == middle
    page = await messages(alice, room, "f", to=middle, limit=100)
    assert bodies(page["chunk"])[-1] == "14"
    exact = await messages(alice, room, "b", to=middle, limit=5)
    assert len(exact["chunk"]) == 5 and exact["end"] == middle


@pytest_twisted.ensureDeferred
async def test_the_default_is_ten_events(server):
    alice = await server.login("alice")
    room, _ = await numbered(server)
    assert len((await messages(alice, room))["chunk"]) == 10
    assert len((await messages(alice, room, filter={"limit": 3}))["chunk"]) == 3
    assert len((await messages(alice, room, limit=2, filter={"limit": 3}))["chunk"]) == 2


@pytest_twisted.ensureDeferred
async def test_members_of_the_senders_come_with_a_page_when_lazily_loaded(server):
    alice = await server.login("alice")
    room, _ = await numbered(server, 3, bob="join", charlotte="join")
    await say(server, room, "bob", "last")
    lazy = {"lazy_load_members": True}
    page = await messages(alice, room, limit=1, filter=lazy)
    assert [member["state_key"] for member in page["state"]] == [user("bob")]
    page = await messages(alice, room, limit=4, filter=lazy)
    assert {member["state_key"] for member in page["state"]} == {user("alice"), user("bob")}
    assert all(member["type"] == "m.room.member" for member in page["state"])
    assert "state" not in await messages(alice, room, limit=1)


@pytest_twisted.ensureDeferred
async def test_a_sender_who_left_is_shown_as_they_were(server):
    alice = await server.login("alice")
    room, _ = await numbered(server, 1, bob="join")
    await say(server, room, "bob", "bye")
    await set_member(server, room, "bob", "leave", "bob")
    page = await messages(alice, room, limit=2, filter={"types": ["m.room.message"], "lazy_load_members": True})
    memberships = {member["state_key"]: member["content"]["membership"] for member in page["state"]}
    assert memberships == {user("alice"): "join", user("bob"): "join"}


@pytest_twisted.ensureDeferred
async def test_filters_choose_and_pages_are_full_all_the_same(server):
    alice = await server.login("alice")
    room, _ = await numbered(server, 30, bob="join")
    for number in range(3):
        await say(server, room, "bob", f"bob{number}", url="mxc://chat.test/x")
    for number in range(30):
        await say(server, room, "alice", f"more{number}")

    async def found(**filter):
        return bodies((await messages(alice, room, limit=5, filter=filter))["chunk"])

    assert await found(senders=[user("bob")], types=["m.room.message"]) == ["bob2", "bob1", "bob0"]
    assert await found(contains_url=True) == ["bob2", "bob1", "bob0"]
    assert len(await found(not_senders=[user("alice")], types=["m.*"])) == 3
    assert await found(types=[]) == []
    assert await found(not_types=["m.room.message"]) == []
    assert await found(not_rooms=[room]) == []


@pytest_twisted.ensureDeferred
async def test_filters_by_related_events(server):
    alice = await server.login("alice")
    room, sent = await numbered(server, 5, bob="join")

    def related(rel_type, parent):
        return {"m.relates_to": {"rel_type": rel_type, "event_id": parent}}

    await say(server, room, "bob", "in a thread", **related("m.thread", sent[1]))
    await say(server, room, "alice", "referring", **related("m.reference", sent[3]))

    async def found(**filter):
        return bodies((await messages(alice, room, limit=5, filter=filter))["chunk"])

    assert await found(related_by_rel_types=["m.thread"]) == ["1"]
    assert await found(related_by_senders=[user("alice")]) == ["3"]
    assert await found(related_by_rel_types=["m.thread"], related_by_senders=[user("alice")]) == []
    assert await found(related_by_rel_types=["m.thread", "m.reference"]) == ["3", "1"]


@pytest_twisted.ensureDeferred
async def test_messages_of_ignored_people_are_left_out_but_not_their_state(server):
    alice = await server.login("alice")
    room, _ = await numbered(server, 2, bob="join")
    event = await say(server, room, "bob", "noise")
    path = f"/user/{q(alice.user_id)}/account_data/m.ignored_user_list"
    alice.ok(await alice.put(path, {"ignored_users": {user("bob"): {}}}))
    chunk = (await messages(alice, room, limit=50))["chunk"]
    assert bodies(chunk) == ["1", "0"]
    assert user("bob") in {one["sender"] for one in chunk}
    refused(await alice.get(f"/rooms/{q(room)}/event/{q(event)}"), 404, "M_NOT_FOUND")


@pytest_twisted.ensureDeferred
async def test_events_name_the_transaction_only_to_the_device_that_sent_them(server):
    alice, other, bob = [await server.login(name) for name in ("alice", "alice", "bob")]
    room = await make_room(server, "alice", bob="join")
    event = await alice.send(room, "mine", txn="abc")
    for actor, expected in ((alice, "abc"), (other, None), (bob, None)):
        shown = (await messages(actor, room, limit=1))["chunk"][0]
        assert shown["event_id"] == event
        assert shown["unsigned"].get("transaction_id") == expected
        assert shown["unsigned"]["membership"] == "join"
        assert shown["room_id"] == room


# -- who may -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("visibility", ["shared", "joined", "invited"])
@pytest_twisted.ensureDeferred
async def test_who_reads_pages(server, visibility):
    there = await society(server, visibility)
    for name in INSIDE:
        assert bodies((await messages(there[name], there.room))["chunk"]) == ["after", "before"]
    for name in GONE:
        chunk = (await messages(there[name], there.room))["chunk"]
        assert bodies(chunk) == ["before"]
        assert chunk[0]["state_key"] == user(name)
    for name in OUTSIDE:
        refused(await there[name].get(f"{there.path}/messages", dir="b"), 403, "M_FORBIDDEN", "Mitglied")
        refused(await there[name].get(f"{there.path}/messages", dir="f", **{"from": "s0.1"}), 403, "M_FORBIDDEN")
    refused(await there["alice"].get("/rooms/!nothing:chat.test/messages", dir="b"), 403, "M_FORBIDDEN")


@pytest.mark.parametrize("visibility", ["shared", "joined", "invited"])
@pytest_twisted.ensureDeferred
async def test_who_reads_single_events(server, visibility):
    there = await society(server, visibility)
    for kind in ("event", "context"):
        for name in INSIDE:
            assert (await there[name].get(f"{there.path}/{kind}/{q(there.after)}")).status == 200
        for name in GONE:
            assert (await there[name].get(f"{there.path}/{kind}/{q(there.before)}")).status == 200
            refused(await there[name].get(f"{there.path}/{kind}/{q(there.after)}"), 404, "M_NOT_FOUND")
        for name in OUTSIDE:
            for event in (there.before, there.after):
                refused(await there[name].get(f"{there.path}/{kind}/{q(event)}"), 404, "M_NOT_FOUND")
        for unknown in ("$nothing", "x", "$" + "a" * 43):
            refused(await there["alice"].get(f"{there.path}/{kind}/{q(unknown)}"), 404, "M_NOT_FOUND")


@pytest_twisted.ensureDeferred
async def test_an_event_is_only_found_in_its_own_room(server):
    alice = await server.login("alice")
    _, sent = await numbered(server, 1)
    other = await make_room(server, "alice")
    refused(await alice.get(f"/rooms/{q(other)}/event/{q(sent[0])}"), 404, "M_NOT_FOUND")


@pytest_twisted.ensureDeferred
async def test_the_world_reads_a_world_readable_room(server):
    there = await society(server, "world_readable")
    for name in (*INSIDE, *OUTSIDE, *GONE):
        assert bodies((await messages(there[name], there.room))["chunk"]) == ["after", "before"]
        assert (await there[name].get(f"{there.path}/event/{q(there.after)}")).status == 200
        assert (await there[name].get(f"{there.path}/state")).status == 200


@pytest_twisted.ensureDeferred
async def test_who_joins_later_sees_what_the_visibility_says(server):
    expected = {"shared": ["old", "invited", "in"], "invited": ["invited", "in"], "joined": ["in"]}
    bob = await server.login("bob")
    for visibility, visible in expected.items():
        room = await make_room(server, "alice", visibility)
        old = await say(server, room, "alice", "old")
        await set_member(server, room, "bob", "invite", "alice")
        await say(server, room, "alice", "invited")
        await set_member(server, room, "bob", "join", "bob")
        await say(server, room, "alice", "in")
        assert bodies([event for page in await all_pages(bob, room, "f", 2) for event in page["chunk"]]) == visible
        pages = await all_pages(bob, room, "b", 2)
        assert bodies([event for page in pages for event in page["chunk"]]) == list(reversed(visible))
        assert all(page["chunk"] for page in pages[:-1]), "a page before the last is empty"
        status = (await bob.get(f"/rooms/{q(room)}/event/{q(old)}")).status
        assert status == (200 if visibility == "shared" else 404)


@pytest_twisted.ensureDeferred
async def test_what_happened_between_two_stays_stays_unseen(server):
    bob = await server.login("bob")
    room = await make_room(server, "alice", "joined", bob="join")
    await say(server, room, "alice", "first stay")
    await set_member(server, room, "bob", "leave", "bob")
    hidden = await say(server, room, "alice", "secret")
    await set_member(server, room, "bob", "invite", "alice")
    await set_member(server, room, "bob", "join", "bob")
    shown = await say(server, room, "alice", "second stay")
    chunk = (await messages(bob, room, limit=100))["chunk"]
    assert bodies(chunk) == ["second stay", "first stay"]
    context = bob.ok(await bob.get(f"/rooms/{q(room)}/context/{q(shown)}", limit=100))
    assert "secret" not in bodies(context["events_before"])
    refused(await bob.get(f"/rooms/{q(room)}/context/{q(hidden)}"), 404, "M_NOT_FOUND")


@pytest_twisted.ensureDeferred
async def test_a_change_of_the_visibility_does_not_open_what_was_closed(server):
    bob = await server.login("bob")
    alice = await server.login("alice")
    room = await make_room(server, "alice", "joined")
    await say(server, room, "alice", "closed")
    await alice.set_state(room, "m.room.history_visibility", {"history_visibility": "shared"})
    await say(server, room, "alice", "open")
    await set_member(server, room, "bob", "invite", "alice")
    await set_member(server, room, "bob", "join", "bob")
    assert bodies((await messages(bob, room, limit=100))["chunk"]) == ["open"]


@pytest_twisted.ensureDeferred
async def test_a_forgotten_room_can_not_be_read(server):
    there = await society(server)
    david = there["david"]
    david.ok(await david.post(f"{there.path}/forget"))
    refused(await david.get(f"{there.path}/messages", dir="b"), 403, "M_FORBIDDEN")
    refused(await david.get(f"{there.path}/event/{q(there.before)}"), 404, "M_NOT_FOUND")
    refused(await david.get(f"{there.path}/state"), 403, "M_FORBIDDEN")


# -- surroundings ------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_context_has_both_sides_tokens_and_state(server):
    alice = await server.login("alice")
    room, sent = await numbered(server)
    context = alice.ok(await alice.get(f"/rooms/{q(room)}/context/{q(sent[10])}", limit=6))
    assert context["event"]["event_id"] == sent[10]
    assert bodies(context["events_before"]) == ["9", "8", "7"]
    assert bodies(context["events_after"]) == ["11", "12", "13"]
    assert {event["type"] for event in context["state"]} >= {"m.room.create", "m.room.member"}
    assert bodies((await messages(alice, room, "b", from_=context["start"], limit=1))["chunk"]) == ["6"]
    assert bodies((await messages(alice, room, "f", from_=context["end"], limit=1))["chunk"]) == ["14"]


@pytest_twisted.ensureDeferred
async def test_context_without_any_around_and_with_a_filter(server):
    alice = await server.login("alice")
    room, sent = await numbered(server, 5, bob="join")
    alone = alice.ok(await alice.get(f"/rooms/{q(room)}/context/{q(sent[2])}", limit=0))
    assert (alone["events_before"], alone["events_after"]) == ([], [])
    wanted = json.dumps({"senders": [user("bob")], "lazy_load_members": True})
    await say(server, room, "bob", "bob's")
    filtered = alice.ok(await alice.get(f"/rooms/{q(room)}/context/{q(sent[2])}", filter=wanted))
    assert bodies(filtered["events_after"]) == ["bob's"]
    assert filtered["event"]["sender"] == user("alice")


@pytest_twisted.ensureDeferred
async def test_the_state_of_a_context_is_that_of_its_last_event(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    await alice.set_state(room, "m.room.name", {"name": "then"})
    event = await say(server, room, "alice", "x")
    await alice.set_state(room, "m.room.name", {"name": "now"})
    context = alice.ok(await alice.get(f"/rooms/{q(room)}/context/{q(event)}", limit=0))
    assert [e["content"]["name"] for e in context["state"] if e["type"] == "m.room.name"] == ["then"]


# -- times -------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_event_nearest_to_a_time(server, clock):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    made = clock.now
    sent = []
    for number in range(9):
        clock.advance(10)
        sent.append(await say(server, room, "alice", str(number)))

    async def nearest(ts, dir):
        return await alice.get(f"{V1}/rooms/{q(room)}/timestamp_to_event", ts=ts, dir=dir)

    for index in range(9):
        at = made + 10_000 * (index + 1)
        assert (await nearest(at, "f")).json == {"event_id": sent[index], "origin_server_ts": at}
        assert (await nearest(at, "b")).json["event_id"] == sent[index]
        assert (await nearest(at + 1, "b")).json["event_id"] == sent[index]
        assert (await nearest(at - 1, "f")).json["event_id"] == sent[index]
    refused(await nearest(made + 90_001, "f"), 404, "M_NOT_FOUND", "ts")
    refused(await nearest(made - 1, "b"), 404, "M_NOT_FOUND", "ts")
    assert (await nearest(made, "b")).json["origin_server_ts"] == made
    assert (await nearest(2**53 - 1, "b")).json["event_id"] == sent[-1]


@pytest_twisted.ensureDeferred
async def test_who_finds_events_by_time(server, clock):
    there = await society(server)
    query = {"ts": clock.now + 1, "dir": "b"}
    assert (await there["bob"].get(f"{there.v1}/timestamp_to_event", **query)).json["event_id"] == there.after
    for name in GONE:
        found = (await there[name].get(f"{there.v1}/timestamp_to_event", **query)).json["event_id"]
        assert found != there.after
    for name in OUTSIDE:
        refused(await there[name].get(f"{there.v1}/timestamp_to_event", **query), 403, "M_FORBIDDEN")


# -- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "errcode", "word"),
    [
        ({}, "M_MISSING_PARAM", "dir"),
        ({"dir": "x"}, "M_INVALID_PARAM", "dir"),
        ({"dir": "b", "from": "nonsense"}, "M_INVALID_PARAM", "from"),
        ({"dir": "b", "from": "s1"}, "M_INVALID_PARAM", "from"),
        ({"dir": "b", "to": "s" + "9" * 40 + ".1"}, "M_INVALID_PARAM", "to"),
        ({"dir": "b", "limit": "-1"}, "M_INVALID_PARAM", "limit"),
        ({"dir": "b", "limit": "ten"}, "M_INVALID_PARAM", "limit"),
        ({"dir": "b", "limit": "1.5"}, "M_INVALID_PARAM", "limit"),
        ({"dir": "b", "filter": "{"}, "M_INVALID_PARAM", "filter"),
        ({"dir": "b", "filter": "[]"}, "M_INVALID_PARAM", "filter"),
        ({"dir": "b", "filter": '{"types":"m.room.message"}'}, "M_INVALID_PARAM", "types"),
        ({"dir": "b", "filter": '{"senders":["bob"]}'}, "M_INVALID_PARAM", "senders"),
        ({"dir": "b", "filter": '{"lazy_load_members":1}'}, "M_INVALID_PARAM", "lazy_load_members"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_pages(server, params, errcode, word):
    alice = await server.login("alice")
    room, _ = await numbered(server, 1)
    refused(await alice.get(f"/rooms/{q(room)}/messages", **params), 400, errcode, word)


@pytest.mark.parametrize(
    ("params", "errcode", "word"),
    [
        ({"dir": "b"}, "M_MISSING_PARAM", "ts"),
        ({"ts": 1}, "M_MISSING_PARAM", "dir"),
        ({"ts": "now", "dir": "f"}, "M_INVALID_PARAM", "ts"),
        ({"ts": "-5", "dir": "f"}, "M_INVALID_PARAM", "ts"),
        ({"ts": 1, "dir": "up"}, "M_INVALID_PARAM", "dir"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_times(server, params, errcode, word):
    alice = await server.login("alice")
    room, _ = await numbered(server, 1)
    refused(await alice.get(f"{V1}/rooms/{q(room)}/timestamp_to_event", **params), 400, errcode, word)


@pytest_twisted.ensureDeferred
async def test_large_limits_and_far_tokens_are_cut_down(server):
    alice = await server.login("alice")
    room, sent = await numbered(server, 3)
    page = await messages(alice, room, limit=10**9, from_="s999999999999.1")
    assert ids(page["chunk"])[:3] == list(reversed(sent))
    assert len((await messages(alice, room, limit=0))["chunk"]) == 1
