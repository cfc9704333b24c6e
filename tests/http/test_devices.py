"""Devices over real HTTP, and user-interactive authentication, which guards their deletion."""

from __future__ import annotations

import pytest
import pytest_twisted

from heichat_appliance.services.uia import LIFETIME_MS
from tests.appliance import SERVER_NAME, Appliance, ManualClock

ALICE = f"@alice:{SERVER_NAME}"
SEEN = {"last_seen_ip": "127.0.0.1"}


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    clock = ManualClock()
    running = await Appliance.start(tmp_path, plugins=("demo_directory",), clock=clock)
    running.clock = clock
    yield running
    await running.stop()


def proof(dialogue: str | None = None, user: str = "alice", password: str = "alice-demo", **extra):
    """The `auth` of somebody who enters a password."""
    auth = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": user}, "password": password}
    return {**auth, **({"session": dialogue} if dialogue else {}), **extra}


def assert_asks(answer, errcode: str | None = None) -> str:
    """The answer is the flows (with a problem, or none); the dialogue's ID."""
    assert answer.status == 401, answer.json
    assert answer.errcode == errcode
    assert ("error" in answer.json) is (errcode is not None)
    assert answer.json["flows"] == [{"stages": ["m.login.password"]}]
    assert answer.json["params"] == {}
    return answer.json["session"]


async def device_ids(actor) -> list[str]:
    return [device["device_id"] for device in (await actor.get("/devices")).json["devices"]]


@pytest_twisted.ensureDeferred
async def test_list_get_and_rename(server):
    phone = await server.login("alice", device_id="PHONE", initial_device_display_name="Phone")
    await server.login("alice", device_id="LAPTOP")
    bob = await server.login("bob", device_id="BOB")
    logged_in = server.clock.now
    server.clock.advance(5)
    listed = (await phone.get("/devices")).json["devices"]
    assert listed == [
        {"device_id": "LAPTOP", **SEEN, "last_seen_ts": logged_in},
        {"device_id": "PHONE", "display_name": "Phone", **SEEN, "last_seen_ts": server.clock.now},
    ]
    laptop = listed[0]
    assert (await phone.put("/devices/LAPTOP", {"display_name": "Läptop"})).json == {}
    assert (await phone.get("/devices/LAPTOP")).json == laptop | {"display_name": "Läptop"}
    assert (await phone.put("/devices/LAPTOP", {})).json == {}
    assert (await phone.get("/devices/LAPTOP")).json["display_name"] == "Läptop"
    for method in ("GET", "PUT"):
        for actor, device_id in ((bob, "PHONE"), (phone, "NONE")):
            answer = await actor.request(method, f"/devices/{device_id}", {} if method == "PUT" else None)
            assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("name", "errcode"), [(5, "M_BAD_JSON"), ("x" * 256, "M_INVALID_PARAM"), ("\0", "M_INVALID_PARAM")]
)
async def test_bad_names(server, name, errcode):
    alice = await server.login("alice", device_id="PHONE")
    answer = await alice.put("/devices/PHONE", {"display_name": name})
    assert (answer.status, answer.errcode) == (400, errcode)
    assert "display_name" in answer.json["error"]


@pytest_twisted.ensureDeferred
async def test_last_seen_survives_a_restart(tmp_path):
    clock = ManualClock()
    server = await Appliance.start(tmp_path, plugins=("demo_directory",), clock=clock)
    alice = await server.login("alice", device_id="PHONE")
    clock.advance(5000)
    await alice.get("/account/whoami")
    seen = clock.now
    await server.stop()
    clock.advance(5000)
    server = await Appliance.start(tmp_path, plugins=("demo_directory",), clock=clock)
    try:
        laptop = await server.login("alice", device_id="LAPTOP")
        phone = (await laptop.get("/devices/PHONE")).json
        assert (phone["last_seen_ts"], phone["last_seen_ip"]) == (seen, "127.0.0.1")
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_deleting_a_device_needs_the_password(server):
    alice = await server.login("alice", device_id="PHONE")
    lost = await server.login("alice", device_id="LOST", refresh_token=True)
    dialogue = assert_asks(await alice.delete("/devices/LOST"))
    assert (
        assert_asks(await alice.delete("/devices/LOST", {"auth": proof(dialogue, password="x")}), "M_FORBIDDEN")
        == dialogue
    )
    assert (await lost.get("/account/whoami")).status == 200
    assert (await alice.delete("/devices/LOST", {"auth": proof(dialogue)})).json == {}
    assert (await lost.get("/account/whoami")).errcode == "M_UNKNOWN_TOKEN"
    assert (await server.http.post("/refresh", {"refresh_token": lost.login["refresh_token"]})).status == 401
    assert await device_ids(alice) == ["PHONE"]


@pytest_twisted.ensureDeferred
async def test_deleting_many(server):
    alice = await server.login("alice", device_id="PHONE")
    bob = await server.login("bob", device_id="B")
    for device_id in ("A", "B", "C"):
        await server.login("alice", device_id=device_id)
    body = {"devices": ["A", "B", "A", "NONE", "PHONE"]}
    dialogue = assert_asks(await alice.post("/delete_devices", body))
    assert (await alice.post("/delete_devices", {**body, "auth": proof(dialogue)})).json == {}
    assert (await alice.get("/devices")).errcode == "M_UNKNOWN_TOKEN"
    assert (await bob.get("/account/whoami")).status == 200
    assert set(await device_ids(await server.login("alice", device_id="NEW"))) == {"C", "NEW"}


@pytest_twisted.ensureDeferred
async def test_a_dialogue_is_good_for_one_operation_of_one_device(server):
    alice = await server.login("alice", device_id="PHONE")
    other = await server.login("alice", device_id="OTHER")
    for device_id in ("A", "B", "C"):
        await server.login("alice", device_id=device_id)
    dialogue = assert_asks(await alice.post("/delete_devices", {"devices": ["A"]}))
    stolen = [
        await alice.post("/delete_devices", {"devices": ["B"], "auth": proof(dialogue)}),
        await alice.delete("/devices/A", {"auth": proof(dialogue)}),
        await other.post("/delete_devices", {"devices": ["A"], "auth": proof(dialogue)}),
        await alice.post("/delete_devices", {"devices": ["A"], "auth": proof("made-up")}),
    ]
    for answer in stolen:
        assert assert_asks(answer, "M_FORBIDDEN") != dialogue
    assert len(await device_ids(alice)) == 5
    assert (await alice.post("/delete_devices", {"devices": ["A"], "auth": proof(dialogue)})).status == 200
    assert_asks(await alice.post("/delete_devices", {"devices": ["A"], "auth": proof(dialogue)}), "M_FORBIDDEN")


@pytest_twisted.ensureDeferred
async def test_a_dialogue_ends_after_a_while(server):
    alice = await server.login("alice", device_id="PHONE")
    dialogue = assert_asks(await alice.delete("/devices/PHONE"))
    server.clock.advance(LIFETIME_MS / 1000)
    assert_asks(await alice.delete("/devices/PHONE", {"auth": proof(dialogue)}), "M_FORBIDDEN")
    assert (await alice.get("/account/whoami")).status == 200


@pytest_twisted.ensureDeferred
async def test_only_the_same_person_can_prove_it(server):
    alice = await server.login("alice", device_id="PHONE")
    await server.login("bob")
    dialogue = assert_asks(await alice.delete("/devices/PHONE"))
    answer = await alice.delete("/devices/PHONE", {"auth": proof(dialogue, "bob", "bob-demo")})
    assert_asks(answer, "M_FORBIDDEN")
    assert "your own Uni-ID" in answer.json["error"] and "eigenen Uni-ID" in answer.json["error"]
    assert await device_ids(alice) == ["PHONE"]
    for user in ("ALICE", ALICE):
        await server.login("alice", device_id="A")
        assert (await alice.delete("/devices/A", {"auth": proof(None, user)})).status == 200


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("auth", "status", "errcode", "names"),
    [
        ([], 400, "M_BAD_JSON", "auth"),
        ({"session": 5}, 400, "M_BAD_JSON", "auth.session"),
        ({"type": {}}, 400, "M_BAD_JSON", "auth.type"),
        ({"type": "m.login.dummy"}, 401, "M_UNRECOGNIZED", "auth.type"),
        (proof() | {"password": None}, 400, "M_MISSING_PARAM", "auth.password"),
        (proof() | {"password": ["alice-demo"]}, 400, "M_BAD_JSON", "auth.password"),
        (proof() | {"identifier": None}, 400, "M_MISSING_PARAM", "auth.user"),
        (proof() | {"identifier": {"type": "m.id.phone"}}, 403, "M_FORBIDDEN", "auth.identifier"),
        (proof() | {"identifier": {"type": "m.id.user", "user": 1}}, 400, "M_BAD_JSON", "auth.identifier.user"),
    ],
)
async def test_bad_auth(server, auth, status, errcode, names):
    alice = await server.login("alice", device_id="PHONE")
    answer = await alice.delete("/devices/PHONE", {"auth": auth})
    assert (answer.status, answer.errcode) == (status, errcode), answer.json
    assert names in answer.json["error"]
    assert await device_ids(alice) == ["PHONE"]


@pytest_twisted.ensureDeferred
async def test_auth_without_a_stage_asks_again(server):
    alice = await server.login("alice", device_id="PHONE")
    dialogue = assert_asks(await alice.delete("/devices/PHONE", {}))
    assert assert_asks(await alice.delete("/devices/PHONE", {"auth": {"session": dialogue}})) == dialogue


@pytest_twisted.ensureDeferred
async def test_bad_lists(server):
    alice = await server.login("alice")
    assert (await alice.post("/delete_devices", {})).errcode == "M_MISSING_PARAM"
    for devices in ("A", [1], {"A": 1}):
        answer = await alice.post("/delete_devices", {"devices": devices})
        assert (answer.status, answer.errcode) == (400, "M_BAD_JSON")
        assert "devices" in answer.json["error"]


@pytest_twisted.ensureDeferred
async def test_failed_proofs_are_limited_with_failed_logins(tmp_path):
    limits = {"enabled": "yes", "login_failures_rate": "0.1", "login_failures_burst": "2"}
    server = await Appliance.start(tmp_path, plugins=("demo_directory",), config={"limits": limits})
    try:
        alice = await server.login("alice", device_id="PHONE")
        for _ in range(2):
            assert_asks(await alice.delete("/devices/PHONE", {"auth": proof(password="x")}), "M_FORBIDDEN")
        answer = await alice.delete("/devices/PHONE", {"auth": proof()})
        assert (answer.status, answer.errcode) == (429, "M_LIMIT_EXCEEDED")
        assert await device_ids(alice) == ["PHONE"]
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_keys_and_messages_go_with_the_device_and_others_hear_of_it(server):
    alice = await server.login("alice", device_id="PHONE")
    await server.login("alice", device_id="LAPTOP")
    engine = server.daemon.engine

    def add_keys(tx):
        for device_id in ("PHONE", "LAPTOP"):
            owner = (ALICE, device_id)
            tx.execute("INSERT INTO device_keys (user_id, device_id, keys) VALUES (?, ?, '{}')", owner)
            tx.execute("INSERT INTO fallback_keys VALUES (?, ?, 'signed_curve25519', 'AAA', '{}', 0)", owner)
            tx.execute(
                "INSERT INTO one_time_keys (user_id, device_id, algorithm, key_id, key) VALUES (?, ?, 'x', 'y', '{}')",
                owner,
            )
            tx.execute(
                "INSERT INTO to_device VALUES (?, ?, ?, '@bob:chat.test', 't', '{}')", (tx.next_position(), *owner)
            )
            tx.execute("INSERT INTO to_device_txns VALUES (?, ?, 't', '1', 0)", owner)

    await engine.write(add_keys)
    before = engine.position
    await alice.post("/logout")
    for table in ("device_keys", "fallback_keys", "one_time_keys", "to_device", "to_device_txns"):
        assert engine.read(f"SELECT device_id FROM {table}").fetchall() == [("LAPTOP",)], table
    assert engine.read("SELECT user_id FROM device_list_changes WHERE pos > ?", (before,)).fetchall() == [(ALICE,)]


@pytest_twisted.ensureDeferred
async def test_a_renamed_device_with_keys_is_a_device_list_change(server):
    alice = await server.login("alice", device_id="PHONE")
    engine = server.daemon.engine
    await alice.put("/devices/PHONE", {"display_name": "one"})
    assert engine.read("SELECT count(*) FROM device_list_changes").fetchone() == (0,)
    await engine.write(lambda tx: tx.execute("INSERT INTO device_keys VALUES (?, 'PHONE', '{}')", (ALICE,)) and None)
    await alice.put("/devices/PHONE", {"display_name": "two"})
    assert engine.read("SELECT user_id FROM device_list_changes").fetchall() == [(ALICE,)]
