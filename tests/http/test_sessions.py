"""Tokens over real HTTP: refresh, expiry, logout, whoami, and what the database knows of them."""

from __future__ import annotations

import pytest_twisted

from tests.appliance import SERVER_NAME, Actor, Answer, Appliance, Http, ManualClock

ALICE = f"@alice:{SERVER_NAME}"
HOUR = 3600


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    clock = ManualClock()
    running = await Appliance.start(tmp_path, plugins=("demo_directory",), clock=clock)
    running.clock = clock
    yield running
    await running.stop()


async def refresh(server, token: str) -> Answer:
    return await server.http.post("/refresh", {"refresh_token": token})


async def who(server, token: str) -> Answer:
    return await Http(server.url, server.pool, token).get("/account/whoami")


def assert_over(answer: Answer, *, soft: bool = False) -> None:
    assert (answer.status, answer.errcode) == (401, "M_UNKNOWN_TOKEN")
    assert answer.json.get("soft_logout", False) is soft


@pytest_twisted.ensureDeferred
async def test_who_am_i(server):
    alice = await server.login("alice", device_id="PHONE")
    answer = await alice.get("/account/whoami")
    assert answer.json == {"user_id": ALICE, "device_id": "PHONE", "is_guest": False}
    assert (await server.http.get("/account/whoami")).errcode == "M_MISSING_TOKEN"
    assert_over(await who(server, "hct_" + "x" * 43))


@pytest_twisted.ensureDeferred
async def test_a_session_without_refresh_token_lasts(server):
    alice = await server.login("alice")
    server.clock.advance(400 * 24 * HOUR)
    assert (await alice.get("/account/whoami")).status == 200


@pytest_twisted.ensureDeferred
async def test_an_expired_token_is_a_soft_logout_and_can_be_refreshed(server):
    alice = await server.login("alice", refresh_token=True)
    assert alice.login["expires_in_ms"] == HOUR * 1000
    server.clock.advance(HOUR - 1)
    assert (await alice.get("/account/whoami")).status == 200
    server.clock.advance(1)
    assert_over(await alice.get("/account/whoami"), soft=True)
    new = (await refresh(server, alice.login["refresh_token"])).json
    assert new.keys() == {"access_token", "refresh_token", "expires_in_ms"}
    assert (await who(server, new["access_token"])).json["device_id"] == alice.device_id


@pytest_twisted.ensureDeferred
async def test_a_lost_answer_of_refresh_can_be_asked_for_again(server):
    old = (await server.login("alice", refresh_token=True)).login["refresh_token"]
    lost = (await refresh(server, old)).json
    new = (await refresh(server, old)).json
    assert_over(await who(server, lost["access_token"]))
    assert_over(await refresh(server, lost["refresh_token"]))
    assert (await who(server, new["access_token"])).status == 200
    assert_over(await refresh(server, old))  # its successor is in use now
    assert (await who(server, new["access_token"])).status == 200


@pytest_twisted.ensureDeferred
async def test_using_the_new_refresh_token_revokes_the_old_one(server):
    old = (await server.login("alice", refresh_token=True)).login["refresh_token"]
    second = (await refresh(server, old)).json
    third = (await refresh(server, second["refresh_token"])).json
    assert_over(await refresh(server, old))
    assert (await who(server, third["access_token"])).status == 200


@pytest_twisted.ensureDeferred
async def test_requests_under_way_may_use_the_replaced_token_until_it_expires(server):
    alice = await server.login("alice", refresh_token=True)
    server.clock.advance(HOUR / 2)
    new = (await refresh(server, alice.login["refresh_token"])).json
    assert (await who(server, new["access_token"])).status == 200
    assert (await alice.get("/account/whoami")).status == 200
    server.clock.advance(HOUR / 2)
    assert_over(await alice.get("/account/whoami"), soft=True)
    assert (await who(server, new["access_token"])).status == 200


@pytest_twisted.ensureDeferred
async def test_refreshing_for_ever_leaves_few_tokens(server):
    token = (await server.login("alice", refresh_token=True)).login["refresh_token"]
    for _ in range(10):
        server.clock.advance(HOUR)
        token = (await refresh(server, token)).json["refresh_token"]
    count = server.daemon.engine.read(
        "SELECT (SELECT count(*) FROM access_tokens), (SELECT count(*) FROM refresh_tokens)"
    ).fetchone()
    assert count == (2, 2)


@pytest_twisted.ensureDeferred
async def test_refresh_survives_a_restart_between_issue_and_first_use(tmp_path):
    clock = ManualClock()
    server = await Appliance.start(tmp_path, plugins=("demo_directory",), clock=clock)
    old = (await server.login("alice", refresh_token=True)).login["refresh_token"]
    new = (await refresh(server, old)).json
    await server.stop()
    server = await Appliance.start(tmp_path, plugins=("demo_directory",), clock=clock)
    try:
        assert (await who(server, new["access_token"])).status == 200
        assert_over(await refresh(server, old))
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_bad_refreshes(server):
    assert_over(await refresh(server, "hcr_unknown"))
    access = (await server.login("alice", refresh_token=True)).login["access_token"]
    assert_over(await refresh(server, access))
    missing = await server.http.post("/refresh", {})
    assert (missing.status, missing.errcode) == (400, "M_MISSING_PARAM")
    assert "refresh_token" in missing.json["error"]
    wrong = await server.http.post("/refresh", {"refresh_token": 1})
    assert (wrong.status, wrong.errcode) == (400, "M_BAD_JSON")


@pytest_twisted.ensureDeferred
async def test_logout_ends_this_session_only_and_deletes_its_device(server):
    phone = await server.login("alice", device_id="PHONE", refresh_token=True)
    laptop = await server.login("alice", device_id="LAPTOP")
    assert (await phone.post("/logout")).json == {}
    assert_over(await phone.get("/account/whoami"))
    assert_over(await refresh(server, phone.login["refresh_token"]))
    assert [d["device_id"] for d in (await laptop.get("/devices")).json["devices"]] == ["LAPTOP"]


@pytest_twisted.ensureDeferred
async def test_logout_everywhere(server):
    phone, laptop, bob = await server.login("alice"), await server.login("alice"), await server.login("bob")
    assert (await phone.post("/logout/all")).json == {}
    for actor in (phone, laptop):
        assert_over(await actor.get("/account/whoami"))
    assert (await bob.get("/account/whoami")).status == 200
    assert (await (await server.login("alice")).get("/devices")).json["devices"][1:] == []


@pytest_twisted.ensureDeferred
async def test_no_token_is_in_the_database(server):
    alice = await server.login("alice", refresh_token=True)
    new = (await refresh(server, alice.login["refresh_token"])).json
    secrets = [alice.login["access_token"], alice.login["refresh_token"], new["access_token"], new["refresh_token"]]
    server.daemon.engine.read("SELECT 1").fetchone()
    files = [path.read_bytes() for path in server.daemon.data_dir.iterdir() if path.name.startswith("heichat.db")]
    assert any(alice.device_id.encode() in content for content in files)
    for secret in secrets:
        assert len(secret) == 47
        assert not any(secret.encode() in content or secret[4:].encode() in content for content in files)


@pytest_twisted.ensureDeferred
async def test_a_locked_account_cannot_refresh_and_goes_on_when_unlocked(server):
    admin = await server.login("admin")
    alice: Actor = await server.login("alice", refresh_token=True)
    await admin.put(f"/_matrix/client/v1/admin/lock/{ALICE}", {"locked": True})
    locked = await refresh(server, alice.login["refresh_token"])
    assert (locked.status, locked.errcode, locked.json["soft_logout"]) == (401, "M_USER_LOCKED", True)
    await admin.put(f"/_matrix/client/v1/admin/lock/{ALICE}", {"locked": False})
    assert (await refresh(server, alice.login["refresh_token"])).status == 200
    assert (await alice.get("/account/whoami")).status == 200
