"""Device keys, one-time keys and fallback keys over real HTTP."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from heichat_appliance.services import keys as service
from tests.appliance import SERVER_NAME, Actor, Appliance
from tests.encryption_kit import ALGORITHMS, DeviceKit, Signer

ALICE, BOB = f"@alice:{SERVER_NAME}", f"@bob:{SERVER_NAME}"
CURVE = "signed_curve25519"


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",))
    yield running
    await running.stop()


async def device(server: Appliance, name: str, device_id: str) -> tuple[Actor, DeviceKit]:
    """A session, and the keys of its device, uploaded."""
    actor = await server.login(name, device_id=device_id)
    kit = DeviceKit(actor.user_id, device_id)
    actor.ok(await actor.post("/keys/upload", {"device_keys": kit.device_keys()}))
    return actor, kit


async def claim(actor: Actor, user_id: str, *device_ids: str, algorithm: str = CURVE) -> dict:
    body = {"one_time_keys": {user_id: dict.fromkeys(device_ids, algorithm)}}
    answer = actor.ok(await actor.post("/keys/claim", body))
    assert answer["failures"] == {}
    return answer["one_time_keys"].get(user_id, {})


async def query(actor: Actor, *user_ids: str) -> dict:
    return actor.ok(await actor.post("/keys/query", {"device_keys": {user_id: [] for user_id in user_ids}}))


def assert_refused(answer, status: int, errcode: str, *words: str) -> None:
    assert (answer.status, answer.errcode) == (status, errcode), answer.json
    for word in words:
        assert word in answer.json["error"]


@pytest_twisted.ensureDeferred
async def test_device_keys_come_back_as_uploaded(server):
    alice = await server.login("alice", device_id="PHONE", initial_device_display_name="Phone")
    kit = DeviceKit(ALICE, "PHONE")
    uploaded = kit.device_keys(**{"org.example.more": {"b": 1, "a": ["ä"]}})
    assert (await alice.post("/keys/upload", {"device_keys": uploaded})).json == {"one_time_key_counts": {CURVE: 0}}
    bob = await server.login("bob")
    answer = await query(bob, ALICE, BOB)
    assert answer["device_keys"] == {
        ALICE: {"PHONE": {**uploaded, "unsigned": {"device_display_name": "Phone"}}},
        BOB: {},
    }
    assert answer["failures"] == answer["master_keys"] == {}


@pytest_twisted.ensureDeferred
async def test_a_query_names_devices_and_passes_over_unknown_people(server):
    phone, _ = await device(server, "alice", "PHONE")
    await device(server, "alice", "LAPTOP")
    asked = {ALICE: ["LAPTOP", "NONE"], f"@nobody:{SERVER_NAME}": [], "@eve:elsewhere.example": [], "no user": []}
    answer = phone.ok(await phone.post("/keys/query", {"device_keys": asked, "timeout": 10_000}))
    assert {user: sorted(found) for user, found in answer["device_keys"].items()} == {ALICE: ["LAPTOP"]}


@pytest_twisted.ensureDeferred
async def test_a_query_for_many_people_gives_the_same(server):
    alice, _ = await device(server, "alice", "PHONE")
    many = [ALICE, *(f"@x{number}:{SERVER_NAME}" for number in range(service.INLINE_QUERY + 5))]
    assert (await query(alice, *many)) == (await query(alice, ALICE))


@pytest.mark.parametrize(
    ("change", "errcode"),
    [
        ({"user_id": BOB}, "M_INVALID_PARAM"),
        ({"device_id": "OTHER"}, "M_INVALID_PARAM"),
        ({"keys": {}}, "M_INVALID_PARAM"),
        ({"keys": {"ed25519:OTHER": "A" * 43}}, "M_INVALID_PARAM"),
        ({"keys": {"ed25519:PHONE": "short"}}, "M_INVALID_PARAM"),
        ({"keys": {"ED 25519:PHONE": "A" * 43}}, "M_INVALID_PARAM"),
        ({"keys": {"ed25519:PHONE": 7}}, "M_BAD_JSON"),
        ({"algorithms": ["M Olm"]}, "M_INVALID_PARAM"),
        ({"algorithms": ["m.olm", ""]}, "M_INVALID_PARAM"),
        ({"algorithms": ["m" * 256]}, "M_INVALID_PARAM"),
        ({"algorithms": "m.olm"}, "M_BAD_JSON"),
        ({"more": 1.5}, "M_BAD_JSON"),
        ({"signatures": {ALICE: {}}}, "M_INVALID_SIGNATURE"),
        ({"signatures": {ALICE: {"ed25519:PHONE": "A" * 86}}}, "M_INVALID_SIGNATURE"),
        ({"signatures": {ALICE: {"ed25519:PHONE": "%"}}}, "M_INVALID_SIGNATURE"),
        ({"signatures": {ALICE: "x"}}, "M_BAD_JSON"),
        ({"signatures": []}, "M_BAD_JSON"),
        ({"algorithms": [*ALGORITHMS, "m.more"]}, "M_INVALID_SIGNATURE"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_wrong_device_keys_are_refused_and_nothing_is_stored(server, change, errcode):
    alice = await server.login("alice", device_id="PHONE")
    kit = DeviceKit(ALICE, "PHONE")
    body = {"device_keys": {**kit.device_keys(), **change}, "one_time_keys": kit.one_time_keys(1)}
    assert_refused(await alice.post("/keys/upload", body), 400, errcode, "device_keys")
    assert (await query(alice, ALICE))["device_keys"] == {ALICE: {}}
    assert (await alice.sync())["device_one_time_keys_count"] == {CURVE: 0}


@pytest_twisted.ensureDeferred
async def test_a_signature_by_somebody_else_does_not_count(server):
    alice = await server.login("alice", device_id="PHONE")
    kit, thief = DeviceKit(ALICE, "PHONE"), Signer(ALICE, "PHONE")
    forged = thief.sign({k: v for k, v in kit.device_keys().items() if k != "signatures"})
    assert_refused(await alice.post("/keys/upload", {"device_keys": forged}), 400, "M_INVALID_SIGNATURE")


@pytest_twisted.ensureDeferred
async def test_identity_keys_of_a_device_are_final_and_the_rest_may_change(server):
    alice, kit = await device(server, "alice", "PHONE")
    other = DeviceKit(ALICE, "PHONE")
    assert_refused(
        await alice.post("/keys/upload", {"device_keys": other.device_keys()}), 400, "M_INVALID_PARAM", "ed25519"
    )
    before = alice.since = (await alice.sync())["next_batch"]
    alice.ok(await alice.post("/keys/upload", {"device_keys": kit.device_keys()}))
    assert "device_lists" not in await alice.sync(since=before)
    alice.ok(await alice.post("/keys/upload", {"device_keys": kit.device_keys(algorithms=["m.new"])}))
    assert (await query(alice, ALICE))["device_keys"][ALICE]["PHONE"]["algorithms"] == ["m.new"]
    assert (await alice.sync(since=before))["device_lists"] == {"changed": [ALICE], "left": []}


# -- one-time keys -----------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_one_time_keys_are_handed_out_once_oldest_first_then_the_fallback_key(server):
    alice, kit = await device(server, "alice", "PHONE")
    bob = await server.login("bob")
    first, second, fallback = kit.one_time_keys(1), kit.one_time_keys(1), kit.fallback_key()
    alice.ok(await alice.post("/keys/upload", {"one_time_keys": first, "fallback_keys": fallback}))
    counts = alice.ok(await alice.post("/keys/upload", {"one_time_keys": second}))
    assert counts == {"one_time_key_counts": {CURVE: 2}}
    synced = await alice.sync()
    assert synced["device_one_time_keys_count"] == {CURVE: 2}
    assert synced["device_unused_fallback_key_types"] == [CURVE]
    for expected in (first, second, fallback, fallback):
        assert await claim(bob, ALICE, "PHONE") == {"PHONE": expected}
    synced = await alice.sync(since=None)
    assert synced["device_one_time_keys_count"] == {CURVE: 0}
    assert synced["device_unused_fallback_key_types"] == []
    # The same fallback key again is still the one that was used; a new one is not.
    alice.ok(await alice.post("/keys/upload", {"fallback_keys": fallback}))
    assert (await alice.sync(since=None))["device_unused_fallback_key_types"] == []
    newer = kit.fallback_key("F2")
    alice.ok(await alice.post("/keys/upload", {"fallback_keys": newer}))
    assert (await alice.sync(since=None))["device_unused_fallback_key_types"] == [CURVE]
    assert await claim(bob, ALICE, "PHONE") == {"PHONE": newer}


@pytest_twisted.ensureDeferred
async def test_parallel_claims_never_get_the_same_key(server):
    alice, kit = await device(server, "alice", "PHONE")
    uploaded = kit.one_time_keys(30)
    alice.ok(await alice.post("/keys/upload", {"one_time_keys": uploaded}))
    claimers = [await server.login(name) for name in ("bob", "charlotte", "david")]

    claims = [Deferred.fromCoroutine(claim(claimers[n % 3], ALICE, "PHONE")) for n in range(40)]
    found = [list(answer["PHONE"]) for answer in await gatherResults(claims) if answer]
    names = [name for (name,) in found]
    assert sorted(names) == sorted(uploaded)


@pytest_twisted.ensureDeferred
async def test_an_upload_that_is_repeated_never_brings_a_claimed_key_back(server):
    alice, kit = await device(server, "alice", "PHONE")
    uploaded = kit.one_time_keys(2)
    for _ in range(2):
        answer = alice.ok(await alice.post("/keys/upload", {"one_time_keys": uploaded}))
        assert answer["one_time_key_counts"] == {CURVE: 2}
    await claim(alice, ALICE, "PHONE")
    answer = alice.ok(await alice.post("/keys/upload", {"one_time_keys": uploaded}))
    assert answer["one_time_key_counts"] == {CURVE: 1}
    name = next(iter(uploaded))
    other = {"signed_curve25519:NEW": kit.one_time_key(), name: kit.one_time_key()}
    assert_refused(await alice.post("/keys/upload", {"one_time_keys": other}), 400, "M_INVALID_PARAM", name)
    assert (await alice.sync())["device_one_time_keys_count"] == {CURVE: 1}


@pytest_twisted.ensureDeferred
async def test_claims_pass_over_what_is_not_there(server):
    alice, kit = await device(server, "alice", "PHONE")
    alice.ok(await alice.post("/keys/upload", {"one_time_keys": kit.one_time_keys(1)}))
    assert await claim(alice, ALICE, "NONE") == {}
    assert await claim(alice, "@eve:elsewhere.example", "PHONE") == {}
    assert await claim(alice, ALICE, "PHONE", algorithm="no_such") == {}
    assert await claim(alice, ALICE, "NONE", "PHONE") != {}


@pytest.mark.parametrize(
    ("name", "change", "errcode"),
    [
        ("signed_curve25519", {}, "M_INVALID_PARAM"),
        ("signed_curve25519:", {}, "M_INVALID_PARAM"),
        (":K1", {}, "M_INVALID_PARAM"),
        ("Signed Curve:K1", {}, "M_INVALID_PARAM"),
        ("x" * 300 + ":K1", {}, "M_INVALID_PARAM"),
        ("signed_curve25519:K1", {"key": "short"}, "M_INVALID_SIGNATURE"),
        ("signed_curve25519:K1", {"key": 5}, "M_BAD_JSON"),
        ("signed_curve25519:K1", {"fallback": "yes"}, "M_BAD_JSON"),
        ("signed_curve25519:K1", {"fallback": True}, "M_INVALID_SIGNATURE"),
        ("signed_curve25519:K1", {"signatures": {}}, "M_INVALID_SIGNATURE"),
        ("signed_curve25519:K1", {"signatures": {ALICE: {"ed25519:PHONE": 5}}}, "M_BAD_JSON"),
        ("signed_curve25519:K1", None, "M_BAD_JSON"),
        ("signed_curve25519:K1", "text", "M_BAD_JSON"),
        ("curve25519:K1", "short", "M_INVALID_PARAM"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_wrong_one_time_keys_are_refused_and_nothing_is_stored(server, name, change, errcode):
    alice, kit = await device(server, "alice", "PHONE")
    wrong = {**kit.one_time_key(), **change} if isinstance(change, dict) else change
    for field in ("one_time_keys", "fallback_keys"):
        good = (
            {"one_time_keys": kit.one_time_keys(1)}
            if field == "fallback_keys"
            else {"fallback_keys": kit.fallback_key()}
        )
        assert_refused(await alice.post("/keys/upload", {**good, field: {name: wrong}}), 400, errcode, field)
    synced = await alice.sync()
    assert synced["device_one_time_keys_count"] == {CURVE: 0}
    assert synced["device_unused_fallback_key_types"] == []


@pytest_twisted.ensureDeferred
async def test_one_time_keys_need_device_keys_and_the_device_s_own_signature(server):
    alice = await server.login("alice", device_id="PHONE")
    _, laptop = await device(server, "alice", "LAPTOP")
    kit = DeviceKit(ALICE, "PHONE")
    refused = await alice.post("/keys/upload", {"one_time_keys": kit.one_time_keys(1)})
    assert_refused(refused, 400, "M_INVALID_PARAM", "device_keys")
    of_other = {"device_keys": kit.device_keys(), "one_time_keys": laptop.one_time_keys(1)}
    assert_refused(await alice.post("/keys/upload", of_other), 400, "M_INVALID_SIGNATURE")
    assert (await query(alice, ALICE))["device_keys"][ALICE].keys() == {"LAPTOP"}


@pytest_twisted.ensureDeferred
async def test_numbers_are_limited(server, monkeypatch):
    monkeypatch.setattr(service, "MAX_ONE_TIME_KEYS", 5)
    monkeypatch.setattr(service, "MAX_ALGORITHMS", 5)
    monkeypatch.setattr(service, "MAX_QUERIED", 5)
    monkeypatch.setattr(service, "MAX_CLAIMED", 5)
    alice, kit = await device(server, "alice", "PHONE")
    assert_refused(await alice.post("/keys/upload", {"one_time_keys": kit.one_time_keys(6)}), 413, "M_TOO_LARGE")
    alice.ok(await alice.post("/keys/upload", {"one_time_keys": kit.one_time_keys(4)}))
    assert_refused(
        await alice.post("/keys/upload", {"one_time_keys": kit.one_time_keys(2)}), 400, "M_INVALID_PARAM", "5"
    )
    assert (await alice.post("/keys/upload")).json == {"one_time_key_counts": {CURVE: 4}}
    large = {"fallback_keys": {f"{CURVE}:F": kit.one_time_key(fallback=True, padding="x" * 10_000)}}
    assert_refused(await alice.post("/keys/upload", large), 413, "M_TOO_LARGE")
    two = {
        "fallback_keys": {f"{CURVE}:F": kit.one_time_key(fallback=True), f"{CURVE}:G": kit.one_time_key(fallback=True)}
    }
    assert_refused(await alice.post("/keys/upload", two), 400, "M_INVALID_PARAM", "at most one")
    for field in ("one_time_keys", "fallback_keys"):
        many_algorithms = {field: {f"m{n}:K": kit.one_time_key() for n in range(5)}}  # beside signed_curve25519
        assert_refused(await alice.post("/keys/upload", many_algorithms), 400, "M_INVALID_PARAM", "algorithms")
    assert (await alice.post("/keys/upload")).json == {"one_time_key_counts": {CURVE: 4}}
    many = [f"@u{number}:{SERVER_NAME}" for number in range(6)]
    assert_refused(await alice.post("/keys/query", {"device_keys": {key: [] for key in many}}), 413, "M_TOO_LARGE")
    asked = {"one_time_keys": {key: {"PHONE": CURVE} for key in many}}
    assert_refused(await alice.post("/keys/claim", asked), 413, "M_TOO_LARGE")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/keys/upload", {"device_keys": []}),
        ("/keys/upload", {"one_time_keys": []}),
        ("/keys/upload", {"fallback_keys": "x"}),
        ("/keys/query", {}),
        ("/keys/query", {"device_keys": []}),
        ("/keys/query", {"device_keys": {ALICE: "PHONE"}}),
        ("/keys/query", {"device_keys": {ALICE: [1]}}),
        ("/keys/claim", {}),
        ("/keys/claim", {"one_time_keys": []}),
        ("/keys/claim", {"one_time_keys": {ALICE: []}}),
        ("/keys/claim", {"one_time_keys": {ALICE: {"PHONE": [CURVE]}}}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_wrong_shapes_are_named(server, path, body):
    alice = await server.login("alice")
    assert_refused(await alice.post(path, body), 400, "M_BAD_JSON", next(iter(body), ""))


@pytest_twisted.ensureDeferred
async def test_a_logout_takes_the_keys_along(server):
    phone, kit = await device(server, "alice", "PHONE")
    laptop, _ = await device(server, "alice", "LAPTOP")
    phone.ok(
        await phone.post("/keys/upload", {"one_time_keys": kit.one_time_keys(1), "fallback_keys": kit.fallback_key()})
    )
    await laptop.sync()
    phone.ok(await phone.post("/logout"))
    assert (await laptop.sync(timeout=10_000))["device_lists"] == {"changed": [ALICE], "left": []}
    assert (await query(laptop, ALICE))["device_keys"][ALICE].keys() == {"LAPTOP"}
    assert await claim(laptop, ALICE, "PHONE") == {}
    again, other = await device(server, "alice", "PHONE")
    again.ok(await again.post("/keys/upload", {"one_time_keys": other.one_time_keys(1)}))


@pytest_twisted.ensureDeferred
async def test_nothing_without_a_login(server):
    for method, path in (
        ("POST", "/keys/upload"),
        ("POST", "/keys/query"),
        ("POST", "/keys/claim"),
        ("GET", "/keys/changes"),
    ):
        answer = await server.http.request(method, path, {} if method == "POST" else None)
        assert_refused(answer, 401, "M_MISSING_TOKEN")
