"""/sync over real HTTP: what is told, when, to whom, and that nothing is told twice or lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from heichat_appliance.store import relations
from tests.appliance import Actor, Appliance, q
from tests.http.room_kit import long_poll


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Appliance]:
    server = pytest_twisted.blockon(_start(tmp_path))
    yield server
    pytest_twisted.blockon(_ensure(server.stop()))


def _start(tmp_path: Path) -> Any:
    return _ensure(Appliance.start(tmp_path))


def _ensure(coroutine: Any) -> Any:
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(coroutine)


async def people(server: Appliance, *names: str) -> list[Actor]:
    return [await server.login(name) for name in names]


async def room_of(owner: Actor, *guests: Actor, **body: Any) -> str:
    room_id = await owner.create_room(invite=[guest.user_id for guest in guests], **body)
    for guest in guests:
        await guest.join(room_id)
    return room_id


def timeline(sync: dict[str, Any], room_id: str) -> list[dict[str, Any]]:
    return sync["rooms"]["join"][room_id]["timeline"]["events"]


def bodies(sync: dict[str, Any], room_id: str) -> list[str]:
    return [e["content"].get("body") for e in timeline(sync, room_id) if e["type"] == "m.room.message"]


def state_of(section: dict[str, Any], name: str = "state") -> dict[tuple[str, str], Any]:
    return {(e["type"], e["state_key"]): e["content"] for e in section[name]["events"]}


@pytest_twisted.ensureDeferred
async def test_messages_go_both_ways_and_come_once(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob)
    await alice.sync()
    await bob.sync()
    await alice.send(room_id, "hello")
    assert bodies(await bob.sync(), room_id) == ["hello"]
    assert "rooms" not in await bob.sync()
    await bob.send(room_id, "hi")
    assert bodies(await alice.sync(), room_id) == ["hello", "hi"]


@pytest_twisted.ensureDeferred
async def test_a_long_poll_wakes_for_a_message(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob)
    await bob.sync()
    (waiting,) = await long_poll(server, bob)
    await alice.send(room_id, "wake up")
    assert bodies(await waiting, room_id) == ["wake up"]
    assert server.daemon.notifier.waiting == 0


@pytest_twisted.ensureDeferred
async def test_a_time_out_answers_with_nothing_new(server: Appliance) -> None:
    (alice,) = await people(server, "alice")
    first = await alice.sync()
    second = await alice.sync(timeout=50, set_presence="offline")
    assert "rooms" not in second and second["next_batch"]
    assert first["account_data"]["events"][0]["type"] == "m.push_rules"


@pytest_twisted.ensureDeferred
async def test_initial_sync_tells_each_room_whole(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob, name="Arbeitsgruppe", topic="Thema")
    for number in range(15):
        await alice.send(room_id, f"m{number}")
    section = (await bob.sync(since=None))["rooms"]["join"][room_id]
    assert [e["content"]["body"] for e in section["timeline"]["events"]] == [f"m{n}" for n in range(5, 15)]
    assert section["timeline"]["limited"] is True
    state = state_of(section)
    assert state[("m.room.name", "")] == {"name": "Arbeitsgruppe"}
    assert {key for type, key in state if type == "m.room.member"} == {alice.user_id, bob.user_id}
    assert section["unread_notifications"] == {"notification_count": 15, "highlight_count": 0}


@pytest_twisted.ensureDeferred
async def test_a_gap_is_limited_and_its_state_changes_are_told(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob, name="old")
    await bob.sync()
    await alice.set_state(room_id, "m.room.name", {"name": "new"})
    for number in range(12):
        await alice.send(room_id, f"m{number}")
    section = (await bob.sync())["rooms"]["join"][room_id]
    assert section["timeline"]["limited"] is True and len(section["timeline"]["events"]) == 10
    assert state_of(section) == {("m.room.name", ""): {"name": "new"}}
    older = await bob.get(
        f"/rooms/{q(room_id)}/messages", dir="b", **{"from": section["timeline"]["prev_batch"]}, limit=3
    )
    assert [e["content"].get("body") or e["content"].get("name") for e in older.json["chunk"]] == ["m1", "m0", "new"]


@pytest.mark.parametrize("prefix", ["", "org.matrix.msc4222."])
@pytest_twisted.ensureDeferred
async def test_state_after_holds_what_the_timeline_changes(server: Appliance, prefix: str) -> None:
    """Under the name of before it was in the spec, matrix-js-sdk asks for it and wants it; else it sees no state at all."""
    asked, name = {f"{prefix}use_state_after": "true"}, f"{prefix}state_after"
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob, name="old")
    await bob.sync()
    await alice.set_state(room_id, "m.room.name", {"name": "new"})
    section = (await bob.sync(**asked))["rooms"]["join"][room_id]
    assert {key for key in section if "state" in key} == {name}
    assert state_of(section, name) == {("m.room.name", ""): {"name": "new"}}
    assert [e["type"] for e in section["timeline"]["events"]] == ["m.room.name"]
    whole = (await bob.sync(since=None, **asked))["rooms"]["join"][room_id]
    assert state_of(whole, name)[("m.room.name", "")] == {"name": "new"}
    await bob.post(f"/rooms/{q(room_id)}/leave")
    assert name in (await bob.sync(**asked))["rooms"]["leave"][room_id]


LAZY = {"room": {"state": {"lazy_load_members": True}}}


@pytest_twisted.ensureDeferred
async def test_lazy_loading_sends_each_member_once_and_again_if_the_answer_was_lost(server: Appliance) -> None:
    alice, bob, charlotte = await people(server, "alice", "bob", "charlotte")
    room_id = await room_of(alice, bob, charlotte)
    for number in range(12):
        await alice.send(room_id, f"m{number}")
    first = (await bob.sync(since=None, filter=LAZY))["rooms"]["join"][room_id]
    members = {key for type, key in state_of(first) if type == "m.room.member"}
    assert members == {alice.user_id, bob.user_id, charlotte.user_id}  # sender, oneself, heroes
    assert first["summary"]["m.joined_member_count"] == 3
    assert set(first["summary"]["m.heroes"]) == {alice.user_id, charlotte.user_id}
    david = await server.login("david")
    await alice.invite(room_id, david.user_id)
    await david.join(room_id)
    await bob.sync(filter=LAZY)
    since = bob.since
    await david.send(room_id, "one")
    lost = await bob.sync(filter=LAZY, since=since)
    again = await bob.sync(filter=LAZY, since=since)
    assert state_of(lost["rooms"]["join"][room_id]) == state_of(again["rooms"]["join"][room_id])
    await david.send(room_id, "two")
    assert state_of((await bob.sync(filter=LAZY))["rooms"]["join"][room_id]) == {}


@pytest_twisted.ensureDeferred
async def test_lazy_loading_tells_membership_changes_in_a_gap(server: Appliance) -> None:
    alice, bob, charlotte = await people(server, "alice", "bob", "charlotte")
    room_id = await room_of(alice, bob, charlotte)
    await bob.sync(filter=LAZY)
    await charlotte.leave(room_id)
    for number in range(12):
        await alice.send(room_id, f"m{number}")
    section = (await bob.sync(filter=LAZY))["rooms"]["join"][room_id]
    assert state_of(section)[("m.room.member", charlotte.user_id)]["membership"] == "leave"
    assert section["summary"]["m.joined_member_count"] == 2


@pytest_twisted.ensureDeferred
async def test_invitations_joins_leaves_kicks(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    await bob.sync()
    room_id = await alice.create_room(name="Gruppe", invite=[bob.user_id])
    invite = (await bob.sync())["rooms"]["invite"][room_id]["invite_state"]["events"]
    told = {e["type"]: e for e in invite}
    assert {"m.room.create", "m.room.name", "m.room.join_rules", "m.room.member"} <= told.keys()
    assert any(e["state_key"] == bob.user_id and e["content"]["membership"] == "invite" for e in invite)
    assert "rooms" not in await bob.sync()
    await bob.join(room_id)
    joined = (await bob.sync())["rooms"]["join"][room_id]
    assert ("m.room.create", "") in state_of(joined) or joined["timeline"]["events"][0]["type"] == "m.room.create"
    await alice.post(f"/rooms/{q(room_id)}/kick", {"user_id": bob.user_id, "reason": "why"})
    left = (await bob.sync())["rooms"]["leave"][room_id]
    assert left["timeline"]["events"][-1]["content"] == {"membership": "leave", "reason": "why"}
    await alice.send(room_id, "secret")
    assert "rooms" not in await bob.sync()
    assert room_id not in (await bob.sync(since=None))["rooms"]["join"]
    with_left = await bob.sync(since=None, filter={"room": {"include_leave": True}})
    assert "secret" not in str(with_left["rooms"]["leave"][room_id])


@pytest_twisted.ensureDeferred
async def test_a_rejected_invitation_is_told_as_left(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await alice.create_room(invite=[bob.user_id])
    await bob.sync()
    await bob.leave(room_id)
    sync = await bob.sync()
    assert room_id in sync["rooms"]["leave"]
    assert "m.room.create" not in str(sync["rooms"]["leave"][room_id]["state"])


@pytest_twisted.ensureDeferred
async def test_who_rejoins_gets_the_room_whole(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob, name="Gruppe")
    await bob.leave(room_id)
    await bob.sync()
    await alice.invite(room_id, bob.user_id)
    await bob.join(room_id)
    section = (await bob.sync())["rooms"]["join"][room_id]
    known = state_of(section) | {
        (e["type"], e["state_key"]): e["content"] for e in section["timeline"]["events"] if "state_key" in e
    }
    assert known[("m.room.name", "")] == {"name": "Gruppe"}


@pytest_twisted.ensureDeferred
async def test_history_that_is_for_joined_people_only_does_not_leak(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    state = [{"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}]
    room_id = await alice.create_room(initial_state=state)
    await alice.send(room_id, "before")
    await alice.invite(room_id, bob.user_id)
    await bob.join(room_id)
    await alice.send(room_id, "after")
    section = (await bob.sync(since=None))["rooms"]["join"][room_id]
    assert [e["content"].get("body") for e in section["timeline"]["events"] if e["type"] == "m.room.message"] == [
        "after"
    ]
    assert "before" not in str(section)


@pytest_twisted.ensureDeferred
async def test_transaction_id_and_membership_are_shown_to_whom_they_belong(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    other_device = await server.login("alice")
    room_id = await room_of(alice, bob)
    for actor in (alice, bob, other_device):
        await actor.sync()
    await alice.send(room_id, "x", txn="my-txn")
    unsigned = [timeline(await actor.sync(), room_id)[-1]["unsigned"] for actor in (alice, bob, other_device)]
    assert unsigned[0]["transaction_id"] == "my-txn"
    assert "transaction_id" not in unsigned[1] and "transaction_id" not in unsigned[2]
    assert all(one["membership"] == "join" and one["age"] >= 0 for one in unsigned)


@pytest_twisted.ensureDeferred
async def test_receipts_typing_account_data_and_unread_counts(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob)
    await bob.sync()
    await alice.sync()
    event_id = await alice.send(
        room_id, {"msgtype": "m.text", "body": "bob?", "m.mentions": {"user_ids": [bob.user_id]}}
    )
    section = (await bob.sync())["rooms"]["join"][room_id]
    assert section["unread_notifications"] == {"notification_count": 1, "highlight_count": 1}
    await bob.post(f"/rooms/{q(room_id)}/receipt/m.read/{q(event_id)}")
    await bob.put(f"/rooms/{q(room_id)}/typing/{q(bob.user_id)}", {"typing": True, "timeout": 20_000})
    section = (await bob.sync())["rooms"]["join"][room_id]
    assert section["unread_notifications"] == {"notification_count": 0, "highlight_count": 0}
    ephemeral = {e["type"]: e["content"] for e in (await alice.sync())["rooms"]["join"][room_id]["ephemeral"]["events"]}
    assert bob.user_id in ephemeral["m.receipt"][event_id]["m.read"]
    assert ephemeral["m.typing"] == {"user_ids": [bob.user_id]}
    await bob.put(f"/user/{q(bob.user_id)}/rooms/{q(room_id)}/tags/m.favourite", {"order": 0.5})
    section = (await bob.sync())["rooms"]["join"][room_id]
    assert section["account_data"]["events"] == [
        {"type": "m.tag", "content": {"tags": {"m.favourite": {"order": 0.5}}}}
    ]
    assert "rooms" not in await alice.sync()


@pytest_twisted.ensureDeferred
async def test_account_data_from_before_joining_comes_with_the_room(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await alice.create_room(invite=[bob.user_id])
    await bob.put(f"/user/{q(bob.user_id)}/rooms/{q(room_id)}/tags/u.work", {"order": 0.1})
    await bob.sync()
    await bob.join(room_id)
    section = (await bob.sync())["rooms"]["join"][room_id]
    assert section["account_data"]["events"] == [{"type": "m.tag", "content": {"tags": {"u.work": {"order": 0.1}}}}]


@pytest_twisted.ensureDeferred
async def test_private_receipts_are_private(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob)
    event_id = await alice.send(room_id, "x")
    await alice.sync()
    await bob.sync()
    await bob.post(f"/rooms/{q(room_id)}/receipt/m.read.private/{q(event_id)}")
    own = (await bob.sync())["rooms"]["join"][room_id]
    assert own["unread_notifications"]["notification_count"] == 0
    assert "m.read.private" in str(own["ephemeral"])
    assert bob.user_id not in str((await alice.sync()).get("rooms", {}))
    assert "m.read.private" not in str(await alice.sync(since=None))


@pytest_twisted.ensureDeferred
async def test_counts_by_thread(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob)
    root = await alice.send(room_id, "root")
    await bob.post(f"/rooms/{q(room_id)}/receipt/m.read/{q(root)}")
    await bob.sync()
    relation = {"rel_type": "m.thread", "event_id": root}
    await alice.send(room_id, {"msgtype": "m.text", "body": "in thread", "m.relates_to": relation})
    await alice.send(room_id, "in main")
    wanted = {"room": {"timeline": {"unread_thread_notifications": True}}}
    section = (await bob.sync(filter=wanted))["rooms"]["join"][room_id]
    assert section["unread_notifications"]["notification_count"] == 1
    assert section["unread_thread_notifications"][root] == {"notification_count": 1, "highlight_count": 0}


@pytest_twisted.ensureDeferred
async def test_a_message_that_was_edited_before_it_was_told_shows_its_edit(server: Appliance) -> None:
    alice, bob, charlotte = await people(server, "alice", "bob", "charlotte")
    room_id = await room_of(alice, bob, charlotte)
    for actor in (bob, charlotte):
        await actor.sync()
    original = await alice.send(room_id, "first")
    relation = {"rel_type": "m.replace", "event_id": original}
    new = {"msgtype": "m.text", "body": "second"}
    edit = await alice.send(room_id, {**new, "m.new_content": new, "m.relates_to": relation})
    for actor in (bob, charlotte):
        told = {event["event_id"]: event for event in timeline(await actor.sync(), room_id)}
        assert told[original]["unsigned"]["m.relations"]["m.replace"]["event_id"] == edit


@pytest_twisted.ensureDeferred
async def test_the_children_of_a_plain_message_are_not_looked_for(server: Appliance, monkeypatch) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id, other = await room_of(alice, bob), await room_of(alice, bob)
    await bob.sync()
    looked = []
    with_children = relations.with_children
    monkeypatch.setattr(relations, "with_children", lambda *args: looked.append(args) or with_children(*args))
    await alice.send(room_id, "one")
    await alice.send(other, "two")
    found = await bob.sync()
    assert [len(timeline(found, each)) for each in (room_id, other)] == [1, 1] and not looked


@pytest_twisted.ensureDeferred
async def test_what_is_made_once_for_all_does_not_depend_on_who_asks_first(server: Appliance) -> None:
    alice, bob, charlotte, david = actors = await people(server, "alice", "bob", "charlotte", "david")
    room_id = await room_of(alice, bob, charlotte, david)
    ignored = {"ignored_users": {alice.user_id: {}}}
    charlotte.ok(await charlotte.put(f"/user/{q(charlotte.user_id)}/account_data/m.ignored_user_list", ignored))
    for first in actors:
        for actor in actors:
            await actor.sync()
        since = max((actor.since for actor in actors), key=lambda token: int(token[1:].partition(".")[0]))
        await alice.send(room_id, "from alice", txn=f"a {first.user_id}")
        await david.send(room_id, "from david", txn=f"d {first.user_id}")
        for actor in sorted(actors, key=lambda one: one is not first):
            found = timeline(actor.ok(await actor.get("/sync", since=since, timeout=0)), room_id)
            heard = ["from david"] if actor is charlotte else ["from alice", "from david"]
            assert [event["content"]["body"] for event in found] == heard
            own = [event["sender"] for event in found if "transaction_id" in event["unsigned"]]
            assert own == ([actor.user_id] if actor in (alice, david) else [])


@pytest_twisted.ensureDeferred
async def test_ignored_people_are_not_heard(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob)
    await bob.put(f"/user/{q(bob.user_id)}/account_data/m.ignored_user_list", {"ignored_users": {alice.user_id: {}}})
    await bob.sync()
    await alice.send(room_id, "noise")
    await alice.set_state(room_id, "m.room.name", {"name": "state is still told"})
    assert [e["type"] for e in timeline(await bob.sync(), room_id)] == ["m.room.name"]
    await alice.create_room(invite=[bob.user_id])
    assert "invite" not in str((await bob.sync()).get("rooms", {}).get("invite") or "")


@pytest_twisted.ensureDeferred
async def test_filters(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    one, two = await room_of(alice, bob), await room_of(alice, bob)
    stored = await bob.post(f"/user/{q(bob.user_id)}/filter", {"room": {"rooms": [one]}})
    sync = await bob.sync(since=None, filter=stored.json["filter_id"])
    assert list(sync["rooms"]["join"]) == [one]
    await bob.sync(since=None)
    await alice.send(two, {"body": "r"}, type="m.reaction")
    for number in range(3):
        await alice.send(two, f"m{number}")
    await alice.set_state(two, "m.room.name", {"name": "told in state"})
    wanted = {"room": {"timeline": {"types": ["m.room.message"], "limit": 2}}, "account_data": {"not_types": ["*"]}}
    section = (await bob.sync(filter=wanted))["rooms"]["join"][two]
    assert [e["content"]["body"] for e in section["timeline"]["events"]] == ["m1", "m2"]
    assert section["timeline"]["limited"] is True
    assert state_of(section) == {("m.room.name", ""): {"name": "told in state"}}
    fields = await bob.sync(since=None, filter={"event_fields": ["type", "content.body"], "room": {"rooms": [two]}})
    assert all(set(e) <= {"type", "content"} for e in timeline(fields, two))


@pytest.mark.parametrize(
    ("params", "errcode", "named"),
    [
        ({"since": "nonsense"}, "M_INVALID_PARAM", "since"),
        ({"since": "s99999999999999999999999999.1"}, "M_INVALID_PARAM", "since"),
        ({"timeout": "soon"}, "M_INVALID_PARAM", "timeout"),
        ({"full_state": "maybe"}, "M_INVALID_PARAM", "full_state"),
        ({"set_presence": "asleep"}, "M_INVALID_PARAM", "set_presence"),
        ({"filter": "{nonsense"}, "M_INVALID_PARAM", "filter"),
        ({"filter": '{"room": {"timeline": {"limit": "ten"}}}'}, "M_INVALID_PARAM", "filter.room.timeline.limit"),
        ({"filter": "4711"}, "M_NOT_FOUND", "filter"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_parameters_are_named(server: Appliance, params: dict[str, str], errcode: str, named: str) -> None:
    (alice,) = await people(server, "alice")
    answer = await alice.get("/sync", **params)
    assert (answer.status in (400, 404), answer.errcode) == (True, errcode)
    assert named in answer.json["error"]


@pytest_twisted.ensureDeferred
async def test_a_token_of_another_epoch_begins_anew(server: Appliance) -> None:
    (alice,) = await people(server, "alice")
    room_id = await alice.create_room()
    sync = await alice.sync(since="s1.7")
    assert room_id in sync["rooms"]["join"]


@pytest_twisted.ensureDeferred
async def test_sync_resumes_after_a_restart(tmp_path: Path) -> None:
    server = await Appliance.start(tmp_path)
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob)
    await bob.sync()
    await alice.send(room_id, "before the restart")
    await server.stop()
    server = await Appliance.start(tmp_path)
    try:
        alice.url = bob.url = server.url
        alice.pool = bob.pool = server.pool
        await alice.send(room_id, "after the restart")
        assert bodies(await bob.sync(), room_id) == ["before the restart", "after the restart"]
        assert "rooms" not in await bob.sync()
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_stopping_answers_those_who_wait(tmp_path: Path) -> None:
    from twisted.internet.defer import Deferred

    server = await Appliance.start(tmp_path)
    alice = await server.login("alice")
    await alice.sync()
    (waiting,) = await long_poll(server, alice)
    stopping = Deferred.fromCoroutine(server.daemon.stop())
    assert "rooms" not in await waiting
    await stopping
    await server.pool.closeCachedConnections()


@pytest.mark.parametrize("rules", ["default", "own"])
@pytest_twisted.ensureDeferred
async def test_sending_a_message_marks_what_is_before_it_as_read(server: Appliance, rules: str) -> None:
    alice, bob = await people(server, "alice", "bob")
    if rules == "own":
        await bob.put("/pushrules/global/content/x", {"pattern": "xyzzy", "actions": ["notify"]})
    room_id = await room_of(alice, bob)
    root = await alice.send(room_id, "one")
    relation = {"rel_type": "m.thread", "event_id": root}
    await alice.send(room_id, {"msgtype": "m.text", "body": "in thread", "m.relates_to": relation})

    async def counts(**params: Any) -> tuple[int, int]:
        wanted = {"room": {"timeline": {"unread_thread_notifications": True}}}
        section = (await bob.sync(filter=wanted, **params))["rooms"]["join"][room_id]
        thread = section.get("unread_thread_notifications", {}).get(root, {"notification_count": 0})
        return section["unread_notifications"]["notification_count"], thread["notification_count"]

    assert await counts() == (1, 1)
    await bob.send(room_id, "answer")
    assert await counts() == (0, 1)
    await alice.send(room_id, "two")
    assert await counts() == (1, 1)
    server.daemon.unread._counters.clear()
    assert await counts(since=None) == (1, 1)
    await bob.send(room_id, {"msgtype": "m.text", "body": "in thread", "m.relates_to": relation})
    assert await counts() == (1, 0)
    server.daemon.unread._counters.clear()
    assert await counts(since=None) == (1, 0)


@pytest_twisted.ensureDeferred
async def test_unread_messages_are_counted_up_to_a_limit(server: Appliance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heichat_appliance.services.unread.MAX_LOOKED_AT", 5)
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob)
    for number in range(8):
        await alice.send(room_id, f"m{number}")
    section = (await bob.sync(since=None))["rooms"]["join"][room_id]
    assert section["unread_notifications"]["notification_count"] == 5
    await alice.send(room_id, "one more")
    section = (await bob.sync())["rooms"]["join"][room_id]
    assert section["unread_notifications"]["notification_count"] == 6


@pytest_twisted.ensureDeferred
async def test_a_query_that_is_known_means_for_each_person_their_own_filter(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await room_of(alice, bob)
    since = {}
    for actor, wanted in ((alice, {"room": {"rooms": []}}), (bob, {})):
        stored = actor.ok(await actor.post(f"/user/{q(actor.user_id)}/filter", wanted))
        assert stored["filter_id"] == "1"  # the same ID for both
        since[actor] = (await actor.sync())["next_batch"]
    await alice.send(room_id, "hello")
    for _ in range(2):
        for actor, rooms in ((alice, 0), (bob, 1)):
            answer = actor.ok(await actor.get("/sync", since=since[actor], filter="1", timeout=0))
            assert len(answer.get("rooms", {}).get("join", {})) == rooms


@pytest_twisted.ensureDeferred
async def test_since_is_read_wherever_and_however_it_stands_in_the_query(server: Appliance) -> None:
    (alice,) = await people(server, "alice")
    room_id = await room_of(alice)
    old = (await alice.sync())["next_batch"]
    await alice.send(room_id, "news")
    new = (await alice.sync())["next_batch"]
    for query in (
        f"since={old}&timeout=0", f"timeout=0&since={old}", f"timeout=0&since={old}&full_state=false",
        f"timeout=0&since={old.replace('s', '%73')}", f"timeout=0&since={old}&since={new}", f"xsince={new}&since={old}",
    ):  # fmt: skip
        for _ in range(2):
            answer = alice.ok(await alice.get(f"/sync?{query}"))
            assert bodies(answer, room_id) == ["news"], query
        told = alice.ok(await alice.get(f"/sync?{query.replace(old, new)}"))
        assert "%" in query or "rooms" not in told, query
    for bad in ("since=s1", "since=s%", "since=+", "timeout=x", "full_state=1", "set_presence=gone"):
        for _ in range(2):
            assert (await alice.get(f"/sync?since={old}&{bad}" if "since" not in bad else f"/sync?{bad}")).status == 400
