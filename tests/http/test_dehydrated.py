"""Dehydrated devices (MSC3814) over real HTTP."""

from __future__ import annotations

import pytest
import pytest_twisted

from heichat_appliance.services import sessions
from tests.appliance import SERVER_NAME, Actor, Appliance, ManualClock
from tests.encryption_kit import DeviceKit, PersonKit

ALICE = f"@alice:{SERVER_NAME}"
PATH = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"
DATA = {"algorithm": "org.matrix.msc3814.v1.olm", "account": "…"}


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",))
    yield running
    await running.stop()


def body(kit: DeviceKit, keys: PersonKit | None = None) -> dict:
    signed = kit.device_keys(dehydrated=True)
    return {
        "device_id": kit.device_id,
        "device_data": DATA,
        "initial_device_display_name": "Dehydrated device",
        "device_keys": keys.self_signing.sign(signed) if keys else signed,
        "one_time_keys": kit.one_time_keys(2),
        "fallback_keys": kit.fallback_key(),
    }


async def events(actor: Actor, device_id: str, batch: str | None = None) -> tuple[list[int], str]:
    sent = {"next_batch": batch} if batch else {}
    answer = actor.ok(await actor.post(f"{PATH}/{device_id}/events", sent))
    return [event["content"]["n"] for event in answer["events"]], answer["next_batch"]


@pytest_twisted.ensureDeferred
async def test_a_dehydrated_device_receives_and_is_rehydrated(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    answer = await alice.get(PATH)
    assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")  # supported, but none is there
    keys = PersonKit(ALICE)
    alice.ok(await alice.post("/keys/device_signing/upload", keys.upload()))
    before = (await alice.sync())["next_batch"]
    kit = DeviceKit(ALICE, "DRY")
    uploaded = body(kit, keys)
    assert (await alice.put(PATH, uploaded)).json == {"device_id": "DRY"}
    assert (await alice.sync(since=before))["device_lists"]["changed"] == [ALICE]
    assert (await alice.get(PATH)).json == {"device_id": "DRY", "device_data": DATA}
    found = bob.ok(await bob.post("/keys/query", {"device_keys": {ALICE: []}}))["device_keys"][ALICE]["DRY"]
    assert found == {**uploaded["device_keys"], "unsigned": {"device_display_name": "Dehydrated device"}}
    assert found["dehydrated"] is True
    claim = {"one_time_keys": {ALICE: {"DRY": "signed_curve25519"}}}
    assert bob.ok(await bob.post("/keys/claim", claim))["one_time_keys"][ALICE]["DRY"]
    for n in range(120):
        bob.ok(await bob.put(f"/sendToDevice/m.room.encrypted/t{n}", {"messages": {ALICE: {"DRY": {"n": n}}}}))
    first, batch = await events(alice, "DRY")
    assert first == list(range(100))
    assert (await events(alice, "DRY"))[0] == first  # an interrupted rehydration begins again
    second, batch = await events(alice, "DRY", batch)
    assert second == list(range(100, 120))
    assert (await events(alice, "DRY", batch))[0] == []


@pytest_twisted.ensureDeferred
async def test_a_new_one_replaces_the_old_one_and_the_same_again_changes_nothing(server):
    alice = await server.login("alice", device_id="PHONE")
    first, second = body(DeviceKit(ALICE, "DRY1")), body(DeviceKit(ALICE, "DRY2"))
    alice.ok(await alice.put(PATH, first))
    message = {"messages": {ALICE: {"DRY1": {"n": 1}}}}
    alice.ok(await alice.put("/sendToDevice/m.x/t", message))
    alice.ok(await alice.put(PATH, first))
    assert (await events(alice, "DRY1"))[0] == [1]
    alice.ok(await alice.put(PATH, second))
    found = alice.ok(await alice.post("/keys/query", {"device_keys": {ALICE: []}}))["device_keys"][ALICE]
    assert found.keys() == {"DRY2"}
    refused = await alice.post(f"{PATH}/DRY1/events")
    assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")
    assert {device["device_id"] for device in (await alice.get("/devices")).json["devices"]} == {"PHONE", "DRY2"}
    assert (await alice.delete(PATH)).json == {"device_id": "DRY2"}
    for answer in (await alice.delete(PATH), await alice.get(PATH)):
        assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")
    assert server.daemon.engine.read("SELECT count(*) FROM to_device").fetchone() == (0,)


@pytest_twisted.ensureDeferred
async def test_it_stays_however_many_devices_come_after_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sessions, "MAX_DEVICES", 3)
    clock = ManualClock()
    server = await Appliance.start(tmp_path, plugins=("demo_directory",), clock=clock)
    alice = await server.login("alice", device_id="A")
    alice.ok(await alice.put(PATH, body(DeviceKit(ALICE, "DRY"))))
    for name in "BCDE":
        clock.advance(1)
        alice = await server.login("alice", device_id=name)
    assert (await alice.get(PATH)).json["device_id"] == "DRY"
    assert {device["device_id"] for device in (await alice.get("/devices")).json["devices"]} == {"DRY", "C", "D", "E"}
    await server.stop()


@pytest.mark.parametrize(
    ("change", "status", "errcode"),
    [
        ({"device_id": None}, 400, "M_MISSING_PARAM"),
        ({"device_id": ""}, 400, "M_INVALID_PARAM"),
        ({"device_id": "x" * 256}, 400, "M_INVALID_PARAM"),
        ({"device_id": "OTHER"}, 400, "M_INVALID_PARAM"),
        ({"device_data": "x"}, 400, "M_BAD_JSON"),
        ({"device_data": {"x": "x" * 70_000}}, 413, "M_TOO_LARGE"),
        ({"initial_device_display_name": 5}, 400, "M_BAD_JSON"),
        ({"device_keys": None}, 400, "M_MISSING_PARAM"),
        ({"one_time_keys": {"signed_curve25519:K": {"key": "x", "signatures": {}}}}, 400, "M_INVALID_SIGNATURE"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_wrong_ones_are_refused_and_the_old_one_stays(server, change, status, errcode):
    alice = await server.login("alice")
    alice.ok(await alice.put(PATH, body(DeviceKit(ALICE, "OLD"))))
    answer = await alice.put(PATH, {**body(DeviceKit(ALICE, "DRY")), **change})
    assert (answer.status, answer.errcode) == (status, errcode)
    assert (await alice.get(PATH)).json["device_id"] == "OLD"


@pytest_twisted.ensureDeferred
async def test_it_takes_no_other_device_s_or_key_s_name_and_is_private(server):
    alice, bob = await server.login("alice", device_id="PHONE"), await server.login("bob")
    keys = PersonKit(ALICE)
    alice.ok(await alice.post("/keys/device_signing/upload", keys.upload()))
    for name in ("PHONE", keys.master.public):
        answer = await alice.put(PATH, body(DeviceKit(ALICE, name)))
        assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    alice.ok(await alice.put(PATH, body(DeviceKit(ALICE, "DRY"))))
    assert (await bob.get(PATH)).status == 404
    assert (await bob.post(f"{PATH}/DRY/events")).errcode == "M_FORBIDDEN"
    assert (await alice.post(f"{PATH}/DRY/events", {"next_batch": "x"})).errcode == "M_INVALID_PARAM"
