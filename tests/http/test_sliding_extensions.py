"""The extensions of simplified sliding sync over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.appliance import Actor, Appliance, q
from tests.encryption_kit import DeviceKit
from tests.http.sliding_kit import Sliding, a_list, a_subscription
from tests.http.test_sync import people, room_of

ENCRYPTED = [{"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Appliance]:
    server = pytest_twisted.blockon(Deferred.fromCoroutine(Appliance.start(tmp_path)))
    yield server
    pytest_twisted.blockon(Deferred.fromCoroutine(server.stop()))


async def waiting_for(server: Appliance, sliding: Sliding, **body: Any) -> Deferred[dict[str, Any]]:
    """A long poll that is parked."""
    waiting = Deferred.fromCoroutine(sliding(timeout=20_000, **body))
    while not server.daemon.notifier.waiting:
        await server.http.get("/_matrix/client/versions")
    assert not waiting.called
    return waiting


def on(**extra: Any) -> dict[str, Any]:
    return {"enabled": True, **extra}


async def to_device(sender: Actor, receiver: Actor, body: str) -> None:
    messages = {receiver.user_id: {receiver.device_id: {"body": body}}}
    sender.ok(await sender.put(f"/sendToDevice/com.example.note/{body}", {"messages": messages}))


@pytest_twisted.ensureDeferred
async def test_extensions_that_are_not_asked_for_are_not_there(server: Appliance) -> None:
    (alice,) = await people(server, "alice")
    off = {name: {"enabled": False} for name in ("to_device", "e2ee", "account_data", "receipts", "typing")}
    assert (await Sliding(alice)(extensions=off))["extensions"] == {}
    assert (await Sliding(alice)())["extensions"] == {}


@pytest_twisted.ensureDeferred
async def test_to_device_messages_have_a_token_of_their_own(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    sliding = Sliding(bob, "encryption")
    told = (await sliding(extensions={"to_device": on()}))["extensions"]["to_device"]
    assert told["events"] == []
    waiting = await waiting_for(server, sliding, extensions={"to_device": on(since=told["next_batch"])})
    await to_device(alice, bob, "one")
    for body in ("two", "three"):
        await to_device(alice, bob, body)
    first = (await waiting)["extensions"]["to_device"]
    assert first["events"][0] == {"type": "com.example.note", "sender": alice.user_id, "content": {"body": "one"}}
    lost = (await sliding(extensions={"to_device": on(since=told["next_batch"], limit=2)}))["extensions"]["to_device"]
    assert [event["content"]["body"] for event in lost["events"]] == ["one", "two"]
    rest = (await sliding(extensions={"to_device": on(since=lost["next_batch"])}))["extensions"]["to_device"]
    assert [event["content"]["body"] for event in rest["events"]] == ["three"]
    left = server.daemon.engine.read("SELECT content FROM to_device").fetchall()
    assert left == [('{"body":"three"}',)]
    anew = (await Sliding(bob)(extensions={"to_device": on()}))["extensions"]["to_device"]
    assert [event["content"]["body"] for event in anew["events"]] == ["three"]


@pytest_twisted.ensureDeferred
async def test_key_counts_and_device_lists(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    await room_of(alice, bob, initial_state=ENCRYPTED)
    sliding = Sliding(bob, "encryption")
    first = (await sliding(extensions={"e2ee": on()}))["extensions"]["e2ee"]
    assert first == {"device_one_time_keys_count": {"signed_curve25519": 0}, "device_unused_fallback_key_types": []}
    waiting = await waiting_for(server, sliding, extensions={"e2ee": on()})
    device = DeviceKit(alice.user_id, alice.device_id)
    await alice.post("/keys/upload", {"device_keys": device.device_keys()})
    assert (await waiting)["extensions"]["e2ee"]["device_lists"] == {"changed": [alice.user_id], "left": []}
    own = DeviceKit(bob.user_id, bob.device_id)
    upload = {
        "device_keys": own.device_keys(),
        "one_time_keys": own.one_time_keys(3),
        "fallback_keys": own.fallback_key(),
    }
    await bob.post("/keys/upload", upload)
    told = (await sliding(extensions={"e2ee": on()}))["extensions"]["e2ee"]
    assert told["device_one_time_keys_count"] == {"signed_curve25519": 3}
    assert told["device_unused_fallback_key_types"] == ["signed_curve25519"]
    assert "device_lists" not in (await sliding(extensions={"e2ee": on()}))["extensions"]["e2ee"]


@pytest_twisted.ensureDeferred
async def test_account_data(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    one, two = [await room_of(alice, bob) for _ in range(2)]
    await bob.put(f"/user/{q(bob.user_id)}/account_data/com.example.a", {"n": 1})
    await bob.put(f"/user/{q(bob.user_id)}/rooms/{q(one)}/tags/u.work", {})
    await bob.put(f"/user/{q(bob.user_id)}/rooms/{q(two)}/tags/u.play", {})
    sliding = Sliding(bob)
    ask: dict[str, Any] = {"lists": {"all": a_list()}, "extensions": {"account_data": on()}}
    first = (await sliding(**ask))["extensions"]["account_data"]
    known = {event["type"]: event["content"] for event in first["global"]}
    assert known["com.example.a"] == {"n": 1} and "global" in known["m.push_rules"]
    assert first["rooms"][one] == [{"type": "m.tag", "content": {"tags": {"u.work": {}}}}] and two in first["rooms"]
    assert (await sliding(**ask))["extensions"]["account_data"] == {"global": [], "rooms": {}}
    waiting = await waiting_for(server, sliding, **ask)
    await bob.put(f"/user/{q(bob.user_id)}/account_data/com.example.a", {"n": 2})
    told = (await waiting)["extensions"]["account_data"]
    assert told == {"global": [{"type": "com.example.a", "content": {"n": 2}}], "rooms": {}}
    await bob.put("/pushrules/global/override/.m.rule.master/enabled", {"enabled": True})
    await bob.put(f"/user/{q(bob.user_id)}/rooms/{q(one)}/tags/u.work", {"order": 0.5})
    told = (await sliding(**ask))["extensions"]["account_data"]
    assert [event["type"] for event in told["global"]] == ["m.push_rules"] and told["rooms"].keys() == {one}


@pytest_twisted.ensureDeferred
async def test_what_an_extension_did_not_tell_it_tells_later(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    one = await room_of(alice, bob)
    event_id = await alice.send(one, "x")
    await alice.post(f"/rooms/{q(one)}/receipt/m.read/{q(event_id)}")
    sliding = Sliding(bob)
    lists = {"all": a_list()}
    whole = {"account_data": on(), "receipts": on()}
    narrow = {"account_data": on(lists=[]), "receipts": on(lists=["other"], rooms=[])}
    first = (await sliding(lists=lists, extensions=narrow))["extensions"]
    assert first["account_data"]["rooms"] == {} and first["receipts"]["rooms"] == {}
    second = (await sliding(lists=lists, extensions=whole))["extensions"]
    assert second["receipts"]["rooms"].keys() == {one}
    other_id = await alice.send(one, "y")
    await alice.post(f"/rooms/{q(one)}/receipt/m.read/{q(other_id)}")
    await bob.put(f"/user/{q(bob.user_id)}/rooms/{q(one)}/tags/u.work", {})
    await bob.put(f"/user/{q(bob.user_id)}/account_data/com.example.a", {"n": 1})
    assert (await sliding(lists=lists))["extensions"] == {}
    last = (await sliding(lists=lists, extensions=whole))["extensions"]
    assert last["receipts"]["rooms"][one]["content"].keys() == {other_id}
    assert last["account_data"]["rooms"].keys() == {one}
    assert [event["type"] for event in last["account_data"]["global"]] == ["com.example.a"]
    assert (await sliding(lists=lists, extensions=whole))["extensions"]["receipts"] == {"rooms": {}}


@pytest_twisted.ensureDeferred
async def test_receipts(server: Appliance) -> None:
    alice, bob, charlotte = await people(server, "alice", "bob", "charlotte")
    room_id = await room_of(alice, bob, charlotte)
    old = await alice.send(room_id, "old")
    new = await alice.send(room_id, "new")
    await charlotte.post(f"/rooms/{q(room_id)}/receipt/m.read/{q(old)}")
    await bob.post(f"/rooms/{q(room_id)}/receipt/m.read/{q(old)}")
    await alice.post(f"/rooms/{q(room_id)}/receipt/m.read/{q(new)}", {"thread_id": "main"})
    sliding = Sliding(bob)
    ask: dict[str, Any] = {"lists": {"all": a_list(limit=1)}, "extensions": {"receipts": on()}}
    told = (await sliding(**ask))["extensions"]["receipts"]["rooms"][room_id]
    assert told["type"] == "m.receipt"
    assert told["content"][old]["m.read"].keys() == {bob.user_id}  # one's own, wherever it is
    assert told["content"][new]["m.read"][alice.user_id]["thread_id"] == "main"
    opened = ask | {"room_subscriptions": {room_id: a_subscription(5)}}
    told = (await sliding(**opened))["extensions"]["receipts"]["rooms"][room_id]["content"]
    assert charlotte.user_id in told[old]["m.read"]  # the longer timeline holds the event
    await charlotte.post(f"/rooms/{q(room_id)}/receipt/m.read.private/{q(new)}")
    assert (await sliding(**opened))["extensions"]["receipts"] == {"rooms": {}}
    waiting = await waiting_for(server, sliding, **opened)
    await charlotte.post(f"/rooms/{q(room_id)}/receipt/m.read/{q(new)}")
    told = (await waiting)["extensions"]["receipts"]["rooms"][room_id]["content"]
    assert told.keys() == {new} and told[new]["m.read"].keys() == {charlotte.user_id}
    assert "m.read.private" not in str(await Sliding(alice)(**ask))


@pytest_twisted.ensureDeferred
async def test_typing(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id, quiet = await room_of(alice, bob), await room_of(alice, bob)
    path = f"/rooms/{q(room_id)}/typing/{q(alice.user_id)}"
    sliding = Sliding(bob)
    ask: dict[str, Any] = {"lists": {"all": a_list()}, "extensions": {"typing": on()}}
    assert (await sliding(**ask))["extensions"]["typing"] == {"rooms": {}}
    waiting = await waiting_for(server, sliding, **ask)
    await alice.put(path, {"typing": True, "timeout": 20_000})
    typing = {"rooms": {room_id: {"type": "m.typing", "content": {"user_ids": [alice.user_id]}}}}
    assert (await waiting)["extensions"]["typing"] == typing
    assert (await Sliding(bob, "new")(**ask))["extensions"]["typing"] == typing
    narrow = {"typing": on(lists=[], rooms=[quiet])}
    subscriptions = {quiet: a_subscription(), room_id: a_subscription()}
    told = await Sliding(bob, "narrow")(room_subscriptions=subscriptions, extensions=narrow)
    assert told["extensions"]["typing"] == {"rooms": {}}
    await alice.put(path, {"typing": False})
    stopped = (await sliding(**ask))["extensions"]["typing"]["rooms"]
    assert stopped == {room_id: {"type": "m.typing", "content": {"user_ids": []}}}


@pytest_twisted.ensureDeferred
async def test_rooms_of_others_are_no_business_of_extensions(server: Appliance) -> None:
    alice, bob = await people(server, "alice", "bob")
    room_id = await alice.create_room()
    event_id = await alice.send(room_id, "x")
    await alice.post(f"/rooms/{q(room_id)}/receipt/m.read/{q(event_id)}")
    await alice.put(f"/rooms/{q(room_id)}/typing/{q(alice.user_id)}", {"typing": True})
    extensions = {name: on(rooms=[room_id, "*"]) for name in ("account_data", "receipts", "typing")}
    answer = await Sliding(bob)(room_subscriptions={room_id: a_subscription()}, extensions=extensions)
    assert room_id not in str(answer)
