"""Sending messages, state and redactions: de-duplication, who may, what is refused."""

from __future__ import annotations

import json

import orjson
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from heichat_appliance.protocol import pdu
from heichat_appliance.protocol.roomversions import ROOM_VERSIONS
from heichat_appliance.store import events
from tests.appliance import Appliance, q
from tests.http.writing_kit import OUTSIDE, VERSIONS, content, people, refused, timeline, total, user


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",))
    yield running
    await running.stop()


def send_path(room_id, txn, type="m.room.message"):
    return f"/rooms/{q(room_id)}/send/{q(type)}/{q(txn)}"


def state_path(room_id, type, state_key=None):
    return f"/rooms/{q(room_id)}/state/{q(type)}" + ("" if state_key is None else f"/{q(state_key)}")


def redact_path(room_id, event_id, txn):
    return f"/rooms/{q(room_id)}/redact/{q(event_id)}/{q(txn)}"


def stored(server, event_id):
    return events.by_id(server.daemon.engine.read, event_id)


# -- messages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_an_event_is_a_real_pdu(server, version):
    alice = await server.login("alice")
    room_id = await alice.create_room(room_version=version)
    body = {"msgtype": "m.text", "body": "Grüße 👋", "nested": {"a": [1, -5, None, True]}}
    event_id = await alice.send(room_id, body)
    before, event = timeline(server, room_id)[-2:]
    assert (event.event_id, event.content, event.prev_events) == (event_id, body, [before.event_id])
    signer = server.daemon.signer
    assert event.raw["signatures"].keys() == {"chat.test"}
    assert event.event_id == pdu.event_id_for(ROOM_VERSIONS[version], event.raw)
    assert set(event.raw["signatures"]["chat.test"]) == {signer.key_id}


@pytest_twisted.ensureDeferred
async def test_the_same_transaction_gives_the_same_event(server):
    room_id, actors = await people(server)
    alice = actors["alice"]
    other = await alice.create_room()
    first = await alice.send(room_id, "one", txn="t/1")
    assert await alice.send(room_id, "two", txn="t/1") == first
    # Another room, another type, another device, another person: other requests.
    others = [
        await alice.send(other, "one", txn="t/1"),
        await alice.send(room_id, {"a": 1}, type="org.example.type", txn="t/1"),
        await (await server.login("alice")).send(room_id, "one", txn="t/1"),
        await actors["bob"].send(room_id, "one", txn="t/1"),
    ]
    assert len({first, *others}) == 5
    assert stored(server, first).txn_id == "t/1" and '"one"' in stored(server, first).pdu
    # A repeated request is answered even by a room that one has left meanwhile.
    await alice.leave(room_id)
    assert await alice.send(room_id, "one", txn="t/1") == first


@pytest_twisted.ensureDeferred
async def test_the_same_transaction_at_once_is_one_event(server):
    alice = await server.login("alice")
    room_id = await alice.create_room()
    before = total(server)
    sent = [Deferred.fromCoroutine(alice.send(room_id, "hello", txn="same")) for _ in range(10)]
    assert len(set(await gatherResults(sent))) == 1
    assert total(server) == before + 1


@pytest_twisted.ensureDeferred
async def test_what_was_sent_before_a_restart_is_known_after_it(tmp_path):
    server = await Appliance.start(tmp_path, plugins=("demo_directory",))
    alice = await server.login("alice")
    room_id = await alice.create_room()
    first = await alice.send(room_id, "one", txn="1")
    await server.stop()
    server = await Appliance.start(tmp_path, plugins=("demo_directory",))
    alice.url, alice.pool = server.url, server.pool
    assert await alice.send(room_id, "one", txn="1") == first
    second = await alice.send(room_id, "two", txn="2")
    assert [event.event_id for event in timeline(server, room_id)][-2:] == [first, second]
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_only_members_send(server):
    room_id, actors = await people(server)
    before = total(server)
    event_id = timeline(server, room_id)[0].event_id
    for name in OUTSIDE:
        actor = actors[name]
        answers = [
            await actor.put(send_path(room_id, "1"), {"body": "x"}),
            await actor.put(send_path(room_id, "1", "m.room.redaction"), {"redacts": event_id}),
            await actor.put(state_path(room_id, "m.room.name"), {"name": "x"}),
            await actor.put(state_path(room_id, "org.example.x", user(name)), {}),
            await actor.put(redact_path(room_id, event_id, "1"), {}),
            await actor.put(redact_path(room_id, "$unknown", "1"), {}),
            await actor.put(send_path("!unknown:chat.test", "1"), {"body": "x"}),
            await actor.put(state_path("!unknown:chat.test", "m.room.name"), {"name": "x"}),
        ]
        for answer in answers:
            refused(answer, 403, "M_FORBIDDEN", "nicht in diesem Raum")
    assert (await server.http.put(send_path(room_id, "1"), {"body": "x"})).errcode == "M_MISSING_TOKEN"
    assert total(server) == before
    await actors["bob"].send(room_id, "hello")


@pytest_twisted.ensureDeferred
async def test_power_levels_count(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    levels = {"events_default": 10, "events": {"m.reaction": 0, "m.room.name": 0}}
    room_id = await alice.create_room(invite=[bob.user_id], power_level_content_override=levels)
    await bob.join(room_id)
    refused(await bob.put(send_path(room_id, "1"), {"body": "x"}), 403, "M_FORBIDDEN")
    refused(await bob.put(state_path(room_id, "m.room.topic"), {"topic": "x"}), 403, "M_FORBIDDEN")
    refused(
        await bob.put(state_path(room_id, "m.room.power_levels"), {"users": {bob.user_id: 100}}), 403, "M_FORBIDDEN"
    )
    refused(await bob.put(state_path(room_id, "org.example.x", alice.user_id), {}), 403, "M_FORBIDDEN")
    await bob.set_state(room_id, "m.room.name", {"name": "Bob's"})
    await bob.send(room_id, {"a": 1}, type="m.reaction")
    # Nobody makes himself more than he is, and the room's beginning stays.
    for actor in (alice, bob):
        refused(await actor.put(state_path(room_id, "m.room.create"), {"type": "m.space"}), 403, "M_FORBIDDEN")
        refused(await actor.put(send_path(room_id, "2", "m.room.create"), {}), 403, "M_FORBIDDEN")
        refused(await actor.put(send_path(room_id, "2", "m.room.member"), {"membership": "join"}), 403, "M_FORBIDDEN")


@pytest_twisted.ensureDeferred
async def test_what_one_may_send_follows_the_state_of_the_room(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    room_id = await alice.create_room(invite=[bob.user_id])

    async def may_send(txn_id):
        answer = await bob.put(send_path(room_id, txn_id), {"msgtype": "m.text", "body": txn_id})
        if answer.status != 200:
            refused(answer, 403, "M_FORBIDDEN")
            return None
        return orjson.loads(stored(server, answer.json["event_id"]).pdu)["auth_events"]

    assert await may_send("before the join") is None
    await bob.join(room_id)
    first, again = await may_send("1"), await may_send("2")
    assert first == again and len(set(first)) == 3
    muted = {"users": {alice.user_id: 100, bob.user_id: -1}}
    levels = await alice.set_state(room_id, "m.room.power_levels", muted)
    assert await may_send("muted") is None
    levels = await alice.set_state(room_id, "m.room.power_levels", {"users": {alice.user_id: 100}})
    heard = await may_send("3")
    assert levels in heard and heard != first
    alice.ok(await alice.post(f"/rooms/{q(room_id)}/kick", {"user_id": bob.user_id}))
    assert await may_send("kicked") is None
    alice.ok(await alice.post(f"/rooms/{q(room_id)}/invite", {"user_id": bob.user_id}))
    await bob.join(room_id)
    back = await may_send("4")
    assert len(set(back) - set(heard)) == 1, "the new membership, and no older one"


BODIES = [
    (b"", 400, "M_NOT_JSON"),
    (b"{", 400, "M_NOT_JSON"),
    (b"[]", 400, "M_BAD_JSON"),
    (b"null", 400, "M_BAD_JSON"),
    (b'"x"', 400, "M_BAD_JSON"),
    (b'{"a": NaN}', 400, "M_NOT_JSON"),
    (b'{"a": Infinity}', 400, "M_NOT_JSON"),
    (b'{"a": 1e999}', 400, "M_NOT_JSON"),
    (b'{"a": 1.5}', 400, "M_BAD_JSON"),
    (b'{"a": 1.0}', 400, "M_BAD_JSON"),
    (b'{"a": 9007199254740992}', 400, "M_BAD_JSON"),
    (b'{"a": ' + b"9" * 5000 + b"}", 400, None),
    (b'{"a": "\\ud800"}', 400, "M_NOT_JSON"),
    (b'{"a": "\xff"}', 400, "M_NOT_JSON"),
    (b'{"a": "x\x00"}', 400, "M_NOT_JSON"),
    (b'{"a":' * 101 + b"1" + b"}" * 101, 400, "M_NOT_JSON"),
    (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 400, "M_NOT_JSON"),
    (b'{"a": "' + b"x" * 65_536 + b'"}', 413, "M_TOO_LARGE"),
    (b'{"a": "' + b"x" * 600_000 + b'"}', 413, "M_TOO_LARGE"),
]


@pytest.mark.parametrize(("raw", "status", "errcode"), BODIES, ids=lambda value: str(value)[:40])
@pytest_twisted.ensureDeferred
async def test_bad_bodies(server, raw, status, errcode):
    alice = await server.login("alice")
    room_id = await alice.create_room()
    target = await alice.send(room_id, "x")
    before = total(server)
    for path in (
        send_path(room_id, "1"),
        state_path(room_id, "org.example.x"),
        state_path(room_id, "m.room.name", ""),
        redact_path(room_id, target, "2"),
    ):
        answer = await alice.request("PUT", path, raw=raw)
        assert answer.status == status and answer.json["error"], (path, answer.json)
        assert errcode is None or answer.errcode == errcode, (path, answer.json)
    assert total(server) == before


@pytest_twisted.ensureDeferred
async def test_the_largest_event(server):
    alice = await server.login("alice")
    room_id = await alice.create_room()
    await alice.send(room_id, {"body": ""})
    size = len(stored(server, timeline(server, room_id)[-1].event_id).pdu.encode())
    room = pdu.MAX_EVENT_BYTES - size
    refused(await alice.put(send_path(room_id, "big"), {"body": "x" * (room + 1)}), 413, "M_TOO_LARGE", "65536")
    event_id = await alice.send(room_id, {"body": "x" * room}, txn="big")
    assert len(stored(server, event_id).pdu.encode()) == pdu.MAX_EVENT_BYTES


@pytest_twisted.ensureDeferred
async def test_bad_paths(server):
    alice = await server.login("alice")
    room_id = await alice.create_room()
    long = "x" * 256
    refused(await alice.put(send_path(room_id, long), {}), 400, "M_INVALID_PARAM", "txnId")
    refused(await alice.put(send_path(room_id, "1", long), {}), 400, "M_INVALID_PARAM", "eventType")
    refused(await alice.put(send_path(room_id, ""), {}), 400, "M_INVALID_PARAM", "txnId")
    refused(await alice.put(send_path(room_id, "1", ""), {}), 400, "M_INVALID_PARAM", "eventType")
    refused(await alice.put(state_path(room_id, ""), {}), 400, "M_INVALID_PARAM", "eventType")
    refused(await alice.put(state_path(room_id, "a", long), {}), 413, "M_TOO_LARGE", "state_key")
    refused(await alice.put(send_path(room_id, "1") + "%zz", {}), 400, "M_INVALID_PARAM", "txnId")
    refused(await alice.put(send_path(room_id, "1") + "%ff", {}), 400, "M_INVALID_PARAM", "txnId")
    refused(await alice.put(send_path(room_id, "1") + "%00", {}), 400, "M_INVALID_PARAM", "txnId")
    refused(await alice.put(state_path(room_id, "a") + "/%ed%a0%80", {}), 400, "M_INVALID_PARAM", "stateKey")
    for room in ("x", "#a:b", "!x", "", "!" + "x" * 300):
        refused(await alice.put(send_path(room, "1"), {}), 403, "M_FORBIDDEN")
    refused(await alice.post(state_path(room_id, "a"), {}), 405, "M_UNRECOGNIZED")


# -- relations ---------------------------------------------------------------------------------------------------


def related(rel_type, event_id, **more):
    return {"m.relates_to": {"rel_type": rel_type, "event_id": event_id, **more}}


@pytest_twisted.ensureDeferred
async def test_reactions_come_once_until_redacted(server):
    room_id, actors = await people(server)
    alice, bob = actors["alice"], actors["bob"]
    event_id = await alice.send(room_id, "hello")
    thumb = related("m.annotation", event_id, key="👍")
    reaction = await bob.send(room_id, thumb, type="m.reaction", txn="r1")
    refused(await bob.put(send_path(room_id, "r2", "m.reaction"), thumb), 400, "M_DUPLICATE_ANNOTATION")
    assert await bob.send(room_id, thumb, type="m.reaction", txn="r1") == reaction
    await bob.send(room_id, related("m.annotation", event_id, key="👎"), type="m.reaction")
    await bob.send(room_id, thumb, type="org.example.reaction")
    await alice.send(room_id, thumb, type="m.reaction")
    bob.ok(await bob.put(redact_path(room_id, reaction, "r3"), {}))
    assert await bob.send(room_id, thumb, type="m.reaction") != reaction


@pytest_twisted.ensureDeferred
async def test_threads_begin_at_what_is_in_no_relation(server):
    alice = await server.login("alice")
    room_id = await alice.create_room()
    root = await alice.send(room_id, "root")
    reply = await alice.send(room_id, {"body": "in it", **related("m.thread", root)})
    edit = await alice.send(room_id, {"body": "* root", "m.new_content": {"body": "r"}, **related("m.replace", root)})
    for parent in (reply, edit):
        answer = await alice.put(send_path(room_id, "t"), {"body": "no", **related("m.thread", parent)})
        refused(answer, 400, "M_UNKNOWN", "m.relates_to")
    quote = await alice.send(room_id, {"body": "re", "m.relates_to": {"m.in_reply_to": {"event_id": root}}})
    await alice.send(room_id, {"body": "yes", **related("m.thread", quote)})


@pytest_twisted.ensureDeferred
async def test_relations_that_are_none_are_sent_but_do_not_count(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    secret, room_id = await alice.create_room(), await bob.create_room()
    elsewhere = await alice.send(secret, "secret")

    def count():
        return server.daemon.engine.read("SELECT count(*) FROM relations").fetchone()[0]

    for odd in (
        5,
        [],
        {},
        {"rel_type": "m.thread"},
        {"rel_type": 1, "event_id": elsewhere},
        {"rel_type": "m.thread", "event_id": 2},
    ):
        await bob.send(room_id, {"body": "x", "m.relates_to": odd})
    for parent in (elsewhere, "$unknown", "x" * 1000):
        for rel_type in ("m.thread", "m.annotation", "m.replace"):
            await bob.send(room_id, {"body": "x", **related(rel_type, parent, key="k")})
    assert count() == 0
    own = await bob.send(room_id, "x")
    await bob.send(room_id, {"body": "y", **related("m.reference", own)})
    assert count() == 1


# -- redactions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["redact", "send"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_redacting_either_way_in_every_version(server, version, way):
    alice = await server.login("alice")
    room_id = await alice.create_room(room_version=version)
    target = await alice.send(room_id, "oops")
    if way == "redact":
        answer = await alice.put(redact_path(room_id, target, "1"), {"reason": "typo", "org.example.x": 1})
        again = await alice.put(redact_path(room_id, target, "1"), {"reason": "typo"})
    else:
        body = {"redacts": target, "reason": "typo", "org.example.x": 1}
        answer = await alice.put(send_path(room_id, "1", "m.room.redaction"), body)
        again = await alice.put(send_path(room_id, "1", "m.room.redaction"), body)
    redaction = alice.ok(answer)["event_id"]
    assert alice.ok(again)["event_id"] == redaction
    assert orjson.loads(stored(server, target).pdu)["content"] == {}
    assert stored(server, target).redacted_by == redaction
    event = timeline(server, room_id)[-1]
    expected = {"reason": "typo", "org.example.x": 1}
    assert event.content == (expected if version == "10" else {**expected, "redacts": target})
    assert event.raw.get("redacts") == (target if version == "10" else None)
    assert event.redacts == target


@pytest_twisted.ensureDeferred
async def test_who_may_redact(server):
    room_id, actors = await people(server)
    alice, bob = actors["alice"], actors["bob"]
    hers, his = await alice.send(room_id, "a"), await bob.send(room_id, "b")
    refused(await bob.put(redact_path(room_id, hers, "1"), {}), 403, "M_FORBIDDEN")
    refused(await bob.put(send_path(room_id, "1", "m.room.redaction"), {"redacts": hers}), 403, "M_FORBIDDEN")
    bob.ok(await bob.put(redact_path(room_id, his, "2"), {}))
    another = await bob.send(room_id, "c")
    alice.ok(await alice.put(redact_path(room_id, another, "1"), {}))
    assert stored(server, hers).redacted_by is None
    # Nobody's server, encryption and beginning are redacted away.
    await alice.set_state(room_id, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    await alice.set_state(room_id, "m.room.server_acl", {"allow": ["*"]})
    for event in timeline(server, room_id):
        if event.type in ("m.room.create", "m.room.encryption", "m.room.server_acl"):
            refused(await alice.put(redact_path(room_id, event.event_id, "x"), {}), 403, "M_FORBIDDEN", event.type)


@pytest_twisted.ensureDeferred
async def test_redactions_stay_in_their_room(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    room_id, mine = await alice.create_room(), await bob.create_room()
    target = await alice.send(room_id, "hello")
    for wanted in (target, "$unknown", "x"):
        refused(await bob.put(redact_path(mine, wanted, "1"), {}), 404, "M_NOT_FOUND", "redacts")
        refused(await bob.put(send_path(mine, "1", "m.room.redaction"), {"redacts": wanted}), 404, "M_NOT_FOUND")
    for body in ({"redacts": 1}, {"redacts": None}, {"redacts": [target]}):
        refused(await bob.put(send_path(mine, "1", "m.room.redaction"), body), 400, "M_BAD_JSON", "redacts")
    refused(await bob.put(send_path(mine, "1", "m.room.redaction"), {}), 400, "M_MISSING_PARAM", "redacts")
    # As a state event it would slip past the checks.
    for key in (None, "", "x"):
        refused(
            await bob.put(state_path(mine, "m.room.redaction", key), {"redacts": target}), 400, "M_BAD_JSON", "redact"
        )
    refused(await bob.put(redact_path(mine, target, "1"), {"reason": 5}), 400, "M_BAD_JSON", "reason")
    assert stored(server, target).redacted_by is None
    # What else the body says of a target does not count beside the path.
    own = await bob.send(mine, "own")
    bob.ok(await bob.put(redact_path(mine, own, "2"), {"redacts": target}))
    assert (stored(server, own).redacted_by is None, stored(server, target).redacted_by) == (False, None)


@pytest_twisted.ensureDeferred
async def test_a_transaction_of_redact_belongs_to_its_path(server):
    alice = await server.login("alice")
    room_id = await alice.create_room()
    one, two = await alice.send(room_id, "1"), await alice.send(room_id, "2")
    first = alice.ok(await alice.put(redact_path(room_id, one, "t"), {}))["event_id"]
    second = alice.ok(await alice.put(redact_path(room_id, two, "t"), {}))["event_id"]
    assert first != second
    assert (stored(server, one).redacted_by, stored(server, two).redacted_by) == (first, second)
    assert alice.ok(await alice.put(redact_path(room_id, one, "t"), {}))["event_id"] == first


@pytest_twisted.ensureDeferred
async def test_redacted_state_counts_as_redacted(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    room_id = await alice.create_room(
        invite=[bob.user_id], power_level_content_override={"events": {"m.room.topic": 0}}
    )
    await bob.join(room_id)
    levels = await alice.set_state(
        room_id, "m.room.power_levels", {"users": {alice.user_id: 100}, "invite": 60, "kick": 0}
    )
    refused(await bob.put(f"/rooms/{q(room_id)}/state/m.room.name", {"name": "x"}), 403, "M_FORBIDDEN")
    topic = await alice.set_state(room_id, "m.room.topic", {"topic": "x"})
    for event_id in (levels, topic):
        alice.ok(await alice.put(redact_path(room_id, event_id, event_id), {}))
    assert content(server, room_id, "m.room.topic") == {}
    # Levels that the redaction keeps go on to hold.
    await alice.set_state(room_id, "m.room.topic", {"topic": "y"})
    refused(await bob.post(f"/rooms/{q(room_id)}/invite", {"user_id": user("emine")}), 403, "M_FORBIDDEN")


@pytest_twisted.ensureDeferred
async def test_the_suspended_redact_what_is_theirs(server):
    admin, alice, bob = [await server.login(name) for name in ("admin", "alice", "bob")]
    room_id = await bob.create_room(invite=[alice.user_id])
    await alice.join(room_id)
    his, hers = await bob.send(room_id, "b"), await alice.send(room_id, "a")
    admin.ok(await admin.put(f"/_matrix/client/v1/admin/suspend/{q(bob.user_id)}", {"suspended": True}))
    refused(await bob.put(send_path(room_id, "1"), {"body": "x"}), 403, "M_USER_SUSPENDED")
    refused(await bob.put(state_path(room_id, "m.room.name"), {"name": "x"}), 403, "M_USER_SUSPENDED")
    refused(await bob.put(redact_path(room_id, hers, "2"), {}), 403, "M_USER_SUSPENDED")
    bob.ok(await bob.put(redact_path(room_id, his, "3"), {}))


# -- state -------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_state_with_and_without_key(server):
    alice = await server.login("alice")
    room_id = await alice.create_room()
    for path, key in (
        (state_path(room_id, "org.example.a"), ""),
        (state_path(room_id, "org.example.b") + "/", ""),
        (state_path(room_id, "org/example ü", "a/b%c"), "a/b%c"),
        (state_path(room_id, "org.example.c", alice.user_id), alice.user_id),
    ):
        alice.ok(await alice.put(path, {"a": key}))
        event = timeline(server, room_id)[-1]
        assert (event.state_key, event.content) == (key, {"a": key})


@pytest_twisted.ensureDeferred
async def test_the_same_state_again_makes_no_event(server):
    room_id, actors = await people(server, power_level_content_override={"state_default": 0})
    alice, bob = actors["alice"], actors["bob"]
    first = await alice.set_state(room_id, "org.example.x", {"a": 1, "b": [True]})
    before = total(server)
    assert await alice.set_state(room_id, "org.example.x", {"b": [True], "a": 1}) == first
    assert total(server) == before
    second = await alice.set_state(room_id, "org.example.x", {"a": True, "b": [1]})  # not the same in JSON
    third = await bob.set_state(room_id, "org.example.x", {"a": True, "b": [1]})  # not by the same person
    assert len({first, second, third}) == 3


STATE_CONTENTS = [
    ("m.room.join_rules", {"join_rule": "open"}, "M_BAD_JSON", "content.join_rule"),
    ("m.room.join_rules", {"join_rule": "restricted", "allow": "x"}, "M_BAD_JSON", "content.allow"),
    ("m.room.power_levels", {"users": {user("alice"): "100"}}, "M_BAD_JSON", "content.users"),
    ("m.room.power_levels", {"users": {"alice": 100}}, "M_BAD_JSON", "content.users"),
    ("m.room.power_levels", {"users": {user("alice"): 100}, "ban": None}, "M_BAD_JSON", "content.ban"),
    ("m.room.history_visibility", {"history_visibility": "all"}, "M_BAD_JSON", "content.history_visibility"),
    ("m.room.guest_access", {}, "M_BAD_JSON", "content.guest_access"),
    ("m.room.encryption", {"algorithm": 1}, "M_BAD_JSON", "content.algorithm"),
    ("m.room.name", {"name": 1}, "M_BAD_JSON", "content.name"),
    ("m.room.pinned_events", {"pinned": "x"}, "M_BAD_JSON", "content.pinned"),
    ("m.room.canonical_alias", {"alias": "nonsense"}, "M_INVALID_PARAM", "content.alias"),
    ("m.room.canonical_alias", {"alt_aliases": ["#a:b", 1]}, "M_INVALID_PARAM", "content.alt_aliases"),
    ("m.room.canonical_alias", {"alias": "#unknown:chat.test"}, "M_BAD_ALIAS", "#unknown:chat.test"),
    ("m.room.canonical_alias", {"alt_aliases": ["#elsewhere:chat.test"]}, "M_BAD_ALIAS", "#elsewhere:chat.test"),
]


@pytest.mark.parametrize(("type", "body", "errcode", "word"), STATE_CONTENTS, ids=lambda value: json.dumps(value)[:50])
@pytest_twisted.ensureDeferred
async def test_state_of_a_wrong_shape(server, type, body, errcode, word):
    alice = await server.login("alice")
    await alice.create_room(room_alias_name="elsewhere")
    room_id = await alice.create_room()
    before = total(server)
    refused(await alice.put(state_path(room_id, type), body), 400, errcode, word)
    refused(await alice.put(state_path(room_id, type, ""), body), 400, errcode, word)
    assert total(server) == before
    if type not in ("m.room.name", "m.room.pinned_events"):
        refused(
            await alice.put(state_path(room_id, type, "x"), body),
            400,
            "M_INVALID_PARAM" if "alias" in type else "M_BAD_JSON",
        )


@pytest_twisted.ensureDeferred
async def test_canonical_aliases_lead_here(server):
    alice = await server.login("alice")
    room_id = await alice.create_room(room_alias_name="one")
    two = "#two:chat.test"
    refused(await alice.put(state_path(room_id, "m.room.canonical_alias"), {"alias": two}), 400, "M_BAD_ALIAS", two)
    alice.ok(await alice.put(f"/directory/room/{q(two)}", {"room_id": room_id}))
    await alice.set_state(room_id, "m.room.canonical_alias", {"alias": two, "alt_aliases": ["#one:chat.test"]})
    # What is in the event already is not checked again.
    server.daemon.engine.write(lambda tx: tx.execute("DELETE FROM room_aliases"))
    await alice.set_state(room_id, "m.room.canonical_alias", {"alias": "#one:chat.test", "alt_aliases": [two]})
    await alice.set_state(room_id, "m.room.canonical_alias", {"alias": None})
    refused(await alice.put(state_path(room_id, "m.room.canonical_alias"), {"alias": two}), 400, "M_BAD_ALIAS", two)


@pytest_twisted.ensureDeferred
async def test_encryption_stays_on(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    room_id = await alice.create_room(invite=[bob.user_id])
    await bob.join(room_id)
    await alice.set_state(room_id, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    for weaker in ({"algorithm": "none"}, {"algorithm": "org.example.plain"}):
        refused(await alice.put(state_path(room_id, "m.room.encryption"), weaker), 403, "M_FORBIDDEN", "encryption")
    refused(await alice.put(state_path(room_id, "m.room.encryption"), {}), 400, "M_BAD_JSON", "content.algorithm")
    # Whoever has no power can't even repeat it, and a moderator can't either.
    levels = content(server, room_id, "m.room.power_levels")
    same = {"algorithm": "m.megolm.v1.aes-sha2"}
    for level in (0, 50):
        await alice.set_state(
            room_id, "m.room.power_levels", {**levels, "users": {**levels["users"], bob.user_id: level}}
        )
        refused(await bob.put(state_path(room_id, "m.room.encryption"), same), 403, "M_FORBIDDEN")
        refused(await bob.put(state_path(room_id, "m.room.encryption"), {"algorithm": "x"}), 403, "M_FORBIDDEN")
    stronger = {"algorithm": "m.megolm.v1.aes-sha2", "rotation_period_msgs": 50}
    await alice.set_state(room_id, "m.room.encryption", stronger)
    assert content(server, room_id, "m.room.encryption") == stronger


@pytest_twisted.ensureDeferred
async def test_sending_has_a_limit(tmp_path):
    limits = {"limits": {"enabled": "yes", "send_burst": "3", "send_rate": "0.01"}}
    server = await Appliance.start(tmp_path, plugins=("demo_directory",), config=limits)
    alice, bob = await server.login("alice"), await server.login("bob")
    room_id, other = await alice.create_room(), await bob.create_room()
    await alice.send(room_id, "1")
    await alice.set_state(room_id, "m.room.name", {"name": "2"})
    await alice.send(room_id, "3")
    answer = await alice.put(send_path(room_id, "4"), {"body": "4"})
    refused(answer, 429, "M_LIMIT_EXCEEDED")
    assert answer.json["retry_after_ms"] > 0 and int(answer.headers["retry-after"]) > 0
    await bob.send(other, "1")
    await server.stop()
