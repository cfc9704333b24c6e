"""Cross-signing keys and signatures over real HTTP."""

from __future__ import annotations

import pytest
import pytest_twisted

from heichat_appliance.services import cross_signing as service
from tests.appliance import SERVER_NAME, Actor, Appliance
from tests.encryption_kit import DeviceKit, PersonKit, Signer

ALICE, BOB = f"@alice:{SERVER_NAME}", f"@bob:{SERVER_NAME}"
UPLOAD, SIGN = "/keys/device_signing/upload", "/keys/signatures/upload"
UNSTABLE = "/_matrix/client/unstable/keys/device_signing/upload"


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",))
    yield running
    await running.stop()


async def device(server: Appliance, name: str, device_id: str) -> tuple[Actor, DeviceKit]:
    actor = await server.login(name, device_id=device_id)
    kit = DeviceKit(actor.user_id, device_id)
    actor.ok(await actor.post("/keys/upload", {"device_keys": kit.device_keys()}))
    return actor, kit


async def person(server: Appliance, name: str, device_id: str) -> tuple[Actor, DeviceKit, PersonKit]:
    """A session whose person has cross-signing keys, and the keys."""
    actor, kit = await device(server, name, device_id)
    keys = PersonKit(actor.user_id)
    actor.ok(await actor.post(UPLOAD, keys.upload()))
    return actor, kit, keys


async def query(actor: Actor, user_id: str) -> dict:
    return actor.ok(await actor.post("/keys/query", {"device_keys": {user_id: []}}))


async def sign(actor: Actor, user_id: str, name: str, value: dict) -> dict:
    """Upload one signed object; the failure, or an empty object."""
    failures = actor.ok(await actor.post(SIGN, {user_id: {name: value}}))["failures"]
    return failures.get(user_id, {}).get(name, {})


def assert_refused(answer, status: int, errcode: str, *words: str) -> None:
    assert (answer.status, answer.errcode) == (status, errcode), answer.json
    for word in words:
        assert word in answer.json["error"]


def proof(answer) -> dict:
    assert answer.status == 401 and answer.json["flows"] == [{"stages": ["m.login.password"]}], answer.json
    user = {"type": "m.id.user", "user": "alice"}
    session = answer.json["session"]
    return {"type": "m.login.password", "identifier": user, "password": "alice-demo", "session": session}


@pytest_twisted.ensureDeferred
async def test_the_first_upload_and_the_same_again_need_no_password(server):
    alice, _ = await device(server, "alice", "PHONE")
    bob = await server.login("bob")
    keys = PersonKit(ALICE)
    for path in (UPLOAD, UPLOAD, UNSTABLE):
        assert (await alice.post(path, keys.upload())).json == {}
    only_master = {"master_key": keys.key("master")}
    assert (await alice.post(UPLOAD, only_master)).json == {}
    assert (await alice.post(UPLOAD, {})).json == {}
    mine, others = await query(alice, ALICE), await query(bob, ALICE)
    for usage in ("master", "self_signing", "user_signing"):
        assert mine[f"{usage}_keys"] == {ALICE: keys.key(usage)}
    assert others["master_keys"] == mine["master_keys"]
    assert others["self_signing_keys"] == mine["self_signing_keys"]
    assert others["user_signing_keys"] == {}


@pytest.mark.parametrize("path", [UPLOAD, UNSTABLE])
@pytest_twisted.ensureDeferred
async def test_new_keys_need_the_password(server, path):
    alice, phone, old = await person(server, "alice", "PHONE")
    signed = old.self_signing.sign(phone.device_keys())
    assert await sign(alice, ALICE, "PHONE", signed) == {}
    new = PersonKit(ALICE)
    asked = await alice.post(path, new.upload())
    assert (await query(alice, ALICE))["master_keys"][ALICE] == old.key("master")
    wrong = {**proof(asked), "password": "wrong"}
    assert (await alice.post(path, {**new.upload(), "auth": wrong})).status == 401
    assert (await query(alice, ALICE))["master_keys"][ALICE] == old.key("master")
    assert (await alice.post(path, {**new.upload(), "auth": proof(asked)})).json == {}
    found = await query(alice, ALICE)
    assert found["master_keys"][ALICE] == new.key("master")
    assert found["user_signing_keys"][ALICE] == new.key("user_signing")
    # What the old self-signing key had signed is not trusted any more.
    assert found["device_keys"][ALICE]["PHONE"]["signatures"] == phone.device_keys()["signatures"]


@pytest_twisted.ensureDeferred
async def test_a_single_new_key_needs_the_password_too(server):
    alice, _, keys = await person(server, "alice", "PHONE")
    keys.self_signing = Signer(ALICE)
    body = {"self_signing_key": keys.key("self_signing")}
    asked = await alice.post(UPLOAD, body)
    assert (await alice.post(UPLOAD, {**body, "auth": proof(asked)})).json == {}
    found = await query(alice, ALICE)
    assert found["self_signing_keys"][ALICE] == body["self_signing_key"]
    assert found["user_signing_keys"][ALICE] == keys.key("user_signing")


@pytest_twisted.ensureDeferred
async def test_a_new_master_key_alone_takes_the_others_away(server):
    alice, _, _ = await person(server, "alice", "PHONE")
    body = {"master_key": PersonKit(ALICE).key("master")}
    asked = await alice.post(UPLOAD, body)
    alice.ok(await alice.post(UPLOAD, {**body, "auth": proof(asked)}))
    found = await query(alice, ALICE)
    assert found["self_signing_keys"] == found["user_signing_keys"] == {}


def _wrong_uploads():
    def usage(body):
        body["self_signing_key"] = {**body["self_signing_key"], "usage": ["master"]}

    def owner(body):
        body["master_key"] = {**body["master_key"], "user_id": BOB}

    def unsigned(body):
        del body["user_signing_key"]["signatures"]

    def by_other(body):
        del body["user_signing_key"]["signatures"]
        body["user_signing_key"] = Signer(ALICE).sign(body["user_signing_key"])

    def tampered(body):
        body["self_signing_key"]["more"] = True

    def two_keys(body):
        body["master_key"]["keys"]["ed25519:x"] = "x"

    def malformed(body):
        body["master_key"]["keys"] = {"ed25519:short": "short"}

    def other_name(body):
        ((_, key),) = body["master_key"]["keys"].items()
        body["master_key"]["keys"] = {"ed25519:NAME": key}

    def same_twice(body):
        body["self_signing_key"] = {**body["self_signing_key"], "keys": body["master_key"]["keys"]}

    def no_object(body):
        body["master_key"] = "x"

    def no_master(body):
        del body["master_key"]

    yield from [
        (usage, "M_INVALID_PARAM"),
        (owner, "M_INVALID_PARAM"),
        (unsigned, "M_INVALID_SIGNATURE"),
        (by_other, "M_INVALID_SIGNATURE"),
        (tampered, "M_INVALID_SIGNATURE"),
        (two_keys, "M_INVALID_PARAM"),
        (malformed, "M_INVALID_PARAM"),
        (other_name, "M_INVALID_PARAM"),
        (same_twice, "M_INVALID_PARAM"),
        (no_object, "M_BAD_JSON"),
        (no_master, "M_MISSING_PARAM"),
    ]


@pytest.mark.parametrize(("change", "errcode"), list(_wrong_uploads()))
@pytest_twisted.ensureDeferred
async def test_wrong_keys_are_refused_and_nothing_is_stored(server, change, errcode):
    alice, _ = await device(server, "alice", "PHONE")
    body = PersonKit(ALICE).upload()
    change(body)
    assert_refused(await alice.post(UPLOAD, body), 400, errcode, "_key")
    found = await query(alice, ALICE)
    assert found["master_keys"] == found["self_signing_keys"] == found["user_signing_keys"] == {}


@pytest_twisted.ensureDeferred
async def test_a_key_and_a_device_never_have_the_same_name(server):
    keys = PersonKit(ALICE)
    alice, _ = await device(server, "alice", keys.master.public)
    assert_refused(await alice.post(UPLOAD, keys.upload()), 403, "M_FORBIDDEN")
    other = PersonKit(ALICE)
    alice.ok(await alice.post(UPLOAD, other.upload()))
    user = {"type": "m.id.user", "user": "alice"}
    body = {"type": "m.login.password", "identifier": user, "password": "alice-demo", "device_id": other.master.public}
    assert_refused(await server.http.post("/login", body), 403, "M_FORBIDDEN")


# -- signatures --------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_own_devices_and_master_key_get_signed_and_everybody_sees_it(server):
    alice, phone, keys = await person(server, "alice", "PHONE")
    bob, _ = await device(server, "bob", "BOB")
    before = (await alice.sync())["next_batch"]
    both = {
        "PHONE": keys.self_signing.sign({**phone.device_keys(), "signatures": {}}),
        keys.master.public: phone.sign(keys.key("master")),
    }
    assert alice.ok(await alice.post(SIGN, {ALICE: both})) == {"failures": {}}
    assert (await alice.sync(since=before))["device_lists"]["changed"] == [ALICE]
    for reader in (alice, bob):
        found = await query(reader, ALICE)
        signatures = found["device_keys"][ALICE]["PHONE"]["signatures"][ALICE]
        assert signatures.keys() == {"ed25519:PHONE", keys.self_signing.key_id}
        assert found["master_keys"][ALICE] == phone.sign(keys.key("master"))
    before = (await alice.sync())["next_batch"]
    assert alice.ok(await alice.post(SIGN, {ALICE: both})) == {"failures": {}}
    assert "device_lists" not in await alice.sync(since=before)


@pytest_twisted.ensureDeferred
async def test_only_the_signer_sees_a_signature_on_another_person(server):
    alice, _, keys = await person(server, "alice", "PHONE")
    bob, _, bobs = await person(server, "bob", "BOB")
    charlotte = await server.login("charlotte")
    tokens = {actor: (await actor.sync())["next_batch"] for actor in (alice, bob, charlotte)}
    signed = keys.user_signing.sign(bobs.key("master"))
    assert await sign(alice, BOB, bobs.master.public, signed) == {}
    assert (await query(alice, BOB))["master_keys"][BOB] == signed
    for other in (bob, charlotte):
        assert (await query(other, BOB))["master_keys"][BOB] == bobs.key("master")
        assert "device_lists" not in await other.sync(since=tokens[other])
    assert (await alice.sync(since=tokens[alice]))["device_lists"] == {"changed": [BOB], "left": []}


@pytest_twisted.ensureDeferred
async def test_wrong_signatures_are_refused_one_by_one(server):
    alice, phone, keys = await person(server, "alice", "PHONE")
    _, laptop = await device(server, "alice", "LAPTOP")
    bob, bobs_device, bobs = await person(server, "bob", "BOB")
    bare = {**phone.device_keys(), "signatures": {}}
    stranger = Signer(ALICE)
    tampered = {**keys.self_signing.sign(bare), "algorithms": []}
    wrong = {**bare, "signatures": {ALICE: {keys.self_signing.key_id: "A" * 86}}}
    for user_id, name, value, errcode in [
        (ALICE, "PHONE", bare, "M_INVALID_SIGNATURE"),
        (ALICE, "PHONE", wrong, "M_INVALID_SIGNATURE"),
        (ALICE, "PHONE", tampered, "M_INVALID_SIGNATURE"),
        (ALICE, "PHONE", stranger.sign(bare), "M_INVALID_SIGNATURE"),
        (ALICE, "PHONE", keys.master.sign(bare), "M_INVALID_SIGNATURE"),
        (ALICE, "PHONE", laptop.sign(bare), "M_INVALID_SIGNATURE"),
        (ALICE, "NONE", keys.self_signing.sign({**bare, "device_id": "NONE"}), "M_NOT_FOUND"),
        (ALICE, keys.self_signing.public, phone.sign(keys.key("self_signing")), "M_NOT_FOUND"),
        (ALICE, keys.master.public, bobs_device.sign(keys.key("master")), "M_INVALID_SIGNATURE"),
        (BOB, bobs.master.public, keys.master.sign(bobs.key("master")), "M_INVALID_SIGNATURE"),
        (BOB, bobs.master.public, phone.sign(bobs.key("master")), "M_INVALID_SIGNATURE"),
        (BOB, "BOB", keys.user_signing.sign(bobs_device.device_keys()), "M_NOT_FOUND"),
        (BOB, "x" * 43, keys.user_signing.sign(bobs.key("master")), "M_NOT_FOUND"),
        ("@eve:elsewhere.example", "X", keys.user_signing.sign(bare), "M_NOT_FOUND"),
    ]:
        assert (await sign(alice, user_id, name, value)).get("errcode") == errcode, (user_id, name)
    good = keys.self_signing.sign({**laptop.device_keys(), "signatures": {}})
    failures = alice.ok(await alice.post(SIGN, {ALICE: {"PHONE": wrong, "LAPTOP": good}}))["failures"]
    assert failures.keys() == {ALICE} and failures[ALICE].keys() == {"PHONE"}
    found = await query(alice, ALICE)
    assert found["device_keys"][ALICE]["PHONE"]["signatures"] == phone.device_keys()["signatures"]
    assert keys.self_signing.key_id in found["device_keys"][ALICE]["LAPTOP"]["signatures"][ALICE]
    assert (await query(bob, BOB))["master_keys"][BOB] == bobs.key("master")


@pytest_twisted.ensureDeferred
async def test_one_wrong_signature_spoils_the_whole_object(server):
    alice, phone, keys = await person(server, "alice", "PHONE")
    await device(server, "alice", "LAPTOP")
    value = phone.sign(keys.key("master"))
    value["signatures"][ALICE]["ed25519:LAPTOP"] = "A" * 86
    assert (await sign(alice, ALICE, keys.master.public, value))["errcode"] == "M_INVALID_SIGNATURE"
    assert (await query(alice, ALICE))["master_keys"][ALICE] == keys.key("master")


@pytest_twisted.ensureDeferred
async def test_wrong_shapes_and_too_many(server, monkeypatch):
    monkeypatch.setattr(service, "MAX_SIGNED", 2)
    alice = await server.login("alice")
    assert_refused(await alice.post(SIGN, {ALICE: []}), 400, "M_BAD_JSON", ALICE)
    assert_refused(await alice.post(SIGN, {ALICE: {"PHONE": 1}}), 400, "M_BAD_JSON", ALICE)
    assert_refused(await alice.post(SIGN, {ALICE: {"A": {}, "B": {}, "C": {}}}), 413, "M_TOO_LARGE")
    assert alice.ok(await alice.post(SIGN, {})) == {"failures": {}}


@pytest_twisted.ensureDeferred
async def test_signatures_that_come_with_keys_are_verified(server):
    alice, phone, keys = await person(server, "alice", "PHONE")
    laptop = await server.login("alice", device_id="LAPTOP")
    kit = DeviceKit(ALICE, "LAPTOP")
    forged = kit.device_keys()
    forged["signatures"][ALICE][keys.self_signing.key_id] = "A" * 86
    assert_refused(await laptop.post("/keys/upload", {"device_keys": forged}), 400, "M_INVALID_SIGNATURE")
    signed = keys.self_signing.sign(Signer(ALICE).sign(kit.device_keys()))
    laptop.ok(await laptop.post("/keys/upload", {"device_keys": signed}))
    found = (await query(alice, ALICE))["device_keys"][ALICE]["LAPTOP"]["signatures"][ALICE]
    assert found.keys() == {"ed25519:LAPTOP", keys.self_signing.key_id}
    master = phone.sign(keys.key("master"))
    laptop.ok(await laptop.post(UPLOAD, {"master_key": master}))
    assert (await query(alice, ALICE))["master_keys"][ALICE] == master
