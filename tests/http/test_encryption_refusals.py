"""What must be refused of keys: each with the specification's error, and nothing is stored, handed out or told."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import pytest_twisted

from heichat_appliance.http.keys import LARGE_BODY
from heichat_appliance.services import keys as service
from tests.appliance import SERVER_NAME, Actor, Answer, Appliance
from tests.encryption_kit import DeviceKit, PersonKit, Signer

ALICE, BOB = f"@alice:{SERVER_NAME}", f"@bob:{SERVER_NAME}"
CURVE = "signed_curve25519"
UPLOAD, CLAIM = "/keys/upload", "/keys/claim"
CROSS_SIGNING, SIGNATURES = "/keys/device_signing/upload", "/keys/signatures/upload"
TABLES = (
    "devices", "device_keys", "one_time_keys", "fallback_keys", "cross_signing_keys", "key_signatures",
    "dehydrated_devices", "device_list_changes", "to_device", "key_backups", "key_backup_sessions",
)  # fmt: skip


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",))
    yield running
    await running.stop()


@contextmanager
def nothing_stored(server: Appliance):
    """Whatever happens inside leaves every table of keys as it is."""

    def stored() -> dict[str, list]:
        read = server.daemon.engine.read
        columns = {"devices": "user_id, device_id"}  # when somebody was seen may change
        return {name: read(f"SELECT {columns.get(name, '*')} FROM {name}").fetchall() for name in TABLES}

    before = stored()
    yield
    assert stored() == before


async def person(server: Appliance, name: str, device_id: str) -> tuple[Actor, DeviceKit, PersonKit]:
    """A session with its device's keys, five one-time keys and the cross-signing keys of the person."""
    actor = await server.login(name, device_id=device_id)
    kit, keys = DeviceKit(actor.user_id, device_id), PersonKit(actor.user_id)
    actor.ok(await actor.post(UPLOAD, {"device_keys": kit.device_keys(), "one_time_keys": kit.one_time_keys(5)}))
    actor.ok(await actor.post(CROSS_SIGNING, keys.upload()))
    return actor, kit, keys


def assert_refused(answer: Answer, status: int, errcode: str) -> None:
    assert (answer.status, answer.errcode) == (status, errcode), answer.json
    assert answer.json["error"]


async def signature_refused(actor: Actor, owner: str, name: str, value: dict, errcode: str) -> None:
    failures = actor.ok(await actor.post(SIGNATURES, {owner: {name: value}}))["failures"]
    assert failures[owner][name]["errcode"] == errcode, failures


def tampered(value: dict) -> dict:
    """The same with another content, and the old signatures."""
    return {**value, "org.example.more": 1}


@pytest_twisted.ensureDeferred
async def test_wrong_signatures(server):
    alice, phone, keys = await person(server, "alice", "PHONE")
    laptop = await server.login("alice", device_id="LAPTOP")
    kit = DeviceKit(ALICE, "LAPTOP")
    forged = Signer(ALICE, "LAPTOP").sign({k: v for k, v in kit.device_keys().items() if k != "signatures"})
    with nothing_stored(server):
        for body in (
            {"device_keys": tampered(kit.device_keys())},
            {"device_keys": forged},
            {"device_keys": kit.device_keys(), "one_time_keys": {f"{CURVE}:A": tampered(kit.one_time_key())}},
            {"device_keys": kit.device_keys(), "fallback_keys": {f"{CURVE}:A": tampered(kit.one_time_key())}},
        ):
            assert_refused(await laptop.post(UPLOAD, body), 400, "M_INVALID_SIGNATURE")
        other = PersonKit(ALICE)
        for usage in ("self_signing", "user_signing"):
            body = {f"{usage}_key": other.key(usage)}  # signed by a master key that is not hers
            assert_refused(await alice.post(CROSS_SIGNING, body), 400, "M_INVALID_SIGNATURE")
        signed = keys.self_signing.sign({**phone.device_keys(), "signatures": {}})
        await signature_refused(alice, ALICE, "PHONE", tampered(signed), "M_INVALID_SIGNATURE")


@pytest_twisted.ensureDeferred
async def test_keys_of_another_device(server):
    alice, phone, keys = await person(server, "alice", "PHONE")
    bob, bobs_device, bobs = await person(server, "bob", "BOB")
    laptop = await server.login("alice", device_id="LAPTOP")
    kit = DeviceKit(ALICE, "LAPTOP")
    with nothing_stored(server):
        for foreign in (phone, bobs_device):
            body = {"device_keys": foreign.device_keys()}
            assert_refused(await laptop.post(UPLOAD, body), 400, "M_INVALID_PARAM")
            body = {"device_keys": kit.device_keys(), "one_time_keys": foreign.one_time_keys(1)}
            assert_refused(await laptop.post(UPLOAD, body), 400, "M_INVALID_SIGNATURE")
        assert_refused(await laptop.post(UPLOAD, {"one_time_keys": kit.one_time_keys(1)}), 400, "M_INVALID_PARAM")
        assert_refused(await bob.post(CROSS_SIGNING, keys.upload()), 400, "M_INVALID_PARAM")
        # Whom a person knows they confirm with their master key, never a device of others; and only with their own keys.
        signed = keys.user_signing.sign(bobs_device.device_keys())
        await signature_refused(alice, BOB, "BOB", signed, "M_NOT_FOUND")
        own = keys.self_signing.sign(bobs.key("master"))
        await signature_refused(alice, BOB, bobs.master.public, own, "M_INVALID_SIGNATURE")
        await signature_refused(bob, ALICE, "PHONE", keys.self_signing.sign(phone.device_keys()), "M_INVALID_SIGNATURE")


@pytest_twisted.ensureDeferred
async def test_a_replaced_master_key(server):
    alice, phone, old = await person(server, "alice", "PHONE")
    bob, _, bobs = await person(server, "bob", "BOB")
    new = PersonKit(ALICE)
    with nothing_stored(server):
        asked = await alice.post(CROSS_SIGNING, new.upload())
        assert asked.status == 401 and asked.json["flows"] == [{"stages": ["m.login.password"]}]
        proof = {
            "type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"},
            "session": asked.json["session"],
        }  # fmt: skip
        for password in ("wrong", "bob-demo", ""):
            body = {**new.upload(), "auth": {**proof, "password": password}}
            assert (await alice.post(CROSS_SIGNING, body)).status == 401
        renamed = {**old.key("master"), "org.example.more": 1}  # the same key in another object is another one
        assert (await alice.post(CROSS_SIGNING, {"master_key": renamed})).status == 401
    alice.ok(await alice.post(CROSS_SIGNING, {**new.upload(), "auth": {**proof, "password": "alice-demo"}}))
    with nothing_stored(server):
        # What belongs to the old one is worth nothing any more.
        await signature_refused(alice, ALICE, old.master.public, phone.sign(old.key("master")), "M_NOT_FOUND")
        await signature_refused(bob, ALICE, old.master.public, bobs.user_signing.sign(old.key("master")), "M_NOT_FOUND")
        stale = old.self_signing.sign({**phone.device_keys(), "signatures": {}})
        await signature_refused(alice, ALICE, "PHONE", stale, "M_INVALID_SIGNATURE")
        body = {"self_signing_key": old.key("self_signing")}
        assert_refused(await alice.post(CROSS_SIGNING, body), 400, "M_INVALID_SIGNATURE")


@pytest.mark.parametrize("name", ["", "Signed Curve", "m.ölm", "x" * 256, "a\n", "\x00", "1two"])
@pytest_twisted.ensureDeferred
async def test_malformed_names_of_algorithms(server, name):
    alice, _, _ = await person(server, "alice", "PHONE")
    laptop = await server.login("alice", device_id="LAPTOP")
    kit = DeviceKit(ALICE, "LAPTOP")
    with nothing_stored(server):
        named = {**kit.device_keys()["keys"], f"{name}:LAPTOP": "x"}
        for body in (
            {"device_keys": kit.device_keys(keys=named)},
            {"device_keys": kit.device_keys(algorithms=["m.olm.v1.curve25519-aes-sha2", name])},
            {"device_keys": kit.device_keys(), "one_time_keys": {f"{name}:A": kit.one_time_key()}},
            {"device_keys": kit.device_keys(), "fallback_keys": {f"{name}:A": kit.one_time_key()}},
        ):
            assert_refused(await laptop.post(UPLOAD, body), 400, "M_INVALID_PARAM")
        body = {"one_time_keys": {ALICE: {"PHONE": CURVE, "LAPTOP": name}}}
        assert_refused(await alice.post(CLAIM, body), 400, "M_INVALID_PARAM")
        backup = {"algorithm": name, "auth_data": {}}
        assert_refused(await alice.post("/room_keys/version", backup), 400, "M_INVALID_PARAM")


@pytest_twisted.ensureDeferred
async def test_huge_claims_and_queries(server):
    alice, _, _ = await person(server, "alice", "PHONE")
    many = {f"@u{n}:{SERVER_NAME}": {"D": CURVE} for n in range(service.MAX_CLAIMED)}
    with nothing_stored(server):
        body = {"one_time_keys": {ALICE: {"PHONE": CURVE}, **many}}
        assert_refused(await alice.post(CLAIM, body), 413, "M_TOO_LARGE")
        body = {"one_time_keys": {ALICE: {"PHONE": CURVE, **{f"D{n}": CURVE for n in range(service.MAX_CLAIMED)}}}}
        assert_refused(await alice.post(CLAIM, body), 413, "M_TOO_LARGE")
        body = {"one_time_keys": {ALICE: {"PHONE": CURVE}}, "padding": "x" * LARGE_BODY}
        assert_refused(await alice.post(CLAIM, body), 413, "M_TOO_LARGE")
        body = {"device_keys": {f"@u{n}:{SERVER_NAME}": [] for n in range(service.MAX_QUERIED + 1)}}
        assert_refused(await alice.post("/keys/query", body), 413, "M_TOO_LARGE")
        body = {"one_time_keys": {ALICE: {"PHONE": CURVE}, BOB: {"BOB": None}}}
        assert_refused(await alice.post(CLAIM, body), 400, "M_BAD_JSON")
    del many[next(iter(many))]
    found = alice.ok(await alice.post(CLAIM, {"one_time_keys": {ALICE: {"PHONE": CURVE}, **many}}))
    assert found["one_time_keys"].keys() == {ALICE}  # the most that is possible


@pytest_twisted.ensureDeferred
async def test_unknown_devices(server):
    alice, phone, keys = await person(server, "alice", "PHONE")
    backup = {"first_message_index": 0, "forwarded_count": 0, "is_verified": True, "session_data": {}}
    unknown = {ALICE: {"NONE": CURVE}, f"@nobody:{SERVER_NAME}": {"X": CURVE}, "@eve:elsewhere.example": {"X": CURVE}}
    with nothing_stored(server):
        answer = alice.ok(await alice.post(CLAIM, {"one_time_keys": unknown}))
        assert answer == {"one_time_keys": {}, "failures": {}}
        messages = {user_id: {device_id: {} for device_id in found} for user_id, found in unknown.items()}
        alice.ok(await alice.put("/sendToDevice/m.test/t", {"messages": messages}))
        none = keys.self_signing.sign({**phone.device_keys(device_id="NONE"), "signatures": {}})
        await signature_refused(alice, ALICE, "NONE", none, "M_NOT_FOUND")
        path = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/NONE/events"
        assert_refused(await alice.post(path), 403, "M_FORBIDDEN")
        rooms = {"rooms": {"!r:x": {"sessions": {"s": backup}}}}
        assert_refused(await alice.put("/room_keys/keys?version=1", rooms), 404, "M_NOT_FOUND")
