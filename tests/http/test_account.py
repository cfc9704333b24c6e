"""What the directory manages and is refused here; administrators; locked and suspended accounts; discovery."""

from __future__ import annotations

import pytest
import pytest_twisted

from tests.appliance import SERVER_NAME, Appliance, ManualClock

ALICE = f"@alice:{SERVER_NAME}"
ADMIN = f"@admin:{SERVER_NAME}"
V1 = "/_matrix/client/v1"


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    clock = ManualClock()
    running = await Appliance.start(tmp_path, plugins=("demo_directory",), clock=clock)
    running.clock = clock
    yield running
    await running.stop()


# -- managed by the directory ------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("logged_in", [False, True])
@pytest.mark.parametrize(
    ("method", "path", "status", "errcode", "needs_login"),
    [
        ("POST", "/register", 403, "M_FORBIDDEN", False),
        ("POST", "/register?kind=guest", 403, "M_FORBIDDEN", False),
        ("GET", "/register/available?username=alice", 403, "M_FORBIDDEN", False),
        ("POST", "/register/email/requestToken", 403, "M_THREEPID_DENIED", False),
        ("POST", "/register/msisdn/requestToken", 403, "M_THREEPID_DENIED", False),
        ("GET", f"{V1}/register/m.login.registration_token/validity?token=a", 403, "M_FORBIDDEN", False),
        ("POST", "/account/password", 403, "M_FORBIDDEN", False),
        ("POST", "/account/password/email/requestToken", 403, "M_THREEPID_DENIED", False),
        ("POST", "/account/password/msisdn/requestToken", 403, "M_THREEPID_DENIED", False),
        ("POST", "/account/deactivate", 403, "M_FORBIDDEN", False),
        ("POST", "/account/3pid", 403, "M_FORBIDDEN", True),
        ("POST", "/account/3pid/add", 403, "M_FORBIDDEN", True),
        ("POST", "/account/3pid/bind", 403, "M_FORBIDDEN", True),
        ("POST", "/account/3pid/delete", 403, "M_FORBIDDEN", True),
        ("POST", "/account/3pid/unbind", 403, "M_FORBIDDEN", True),
        ("POST", "/account/3pid/email/requestToken", 400, "M_THREEPID_MEDIUM_NOT_SUPPORTED", False),
        ("POST", "/account/3pid/msisdn/requestToken", 400, "M_THREEPID_MEDIUM_NOT_SUPPORTED", False),
    ],
)
async def test_accounts_are_managed_by_the_directory(server, method, path, status, errcode, needs_login, logged_in):
    client = await server.login("alice") if logged_in else server.http
    answer = await client.request(method, path, {} if method == "POST" else None)
    if needs_login and not logged_in:
        status, errcode = 401, "M_MISSING_TOKEN"
    assert (answer.status, answer.errcode) == (status, errcode)
    if errcode != "M_MISSING_TOKEN":
        assert "university's directory" in answer.json["error"]
        assert "Verzeichnis der Universität" in answer.json["error"]


@pytest_twisted.ensureDeferred
async def test_there_are_no_third_party_addresses(server):
    alice = await server.login("alice")
    assert (await alice.get("/account/3pid")).json == {"threepids": []}


@pytest_twisted.ensureDeferred
async def test_ways_to_log_in_that_do_not_exist_are_unknown_paths(server):
    alice = await server.login("alice")
    for method, path in (
        ("GET", "/login/sso/redirect?redirectUrl=x"),
        ("GET", f"{V1}/auth_metadata"),
    ):
        answer = await alice.request(method, path)
        assert (answer.status, answer.errcode) == (404, "M_UNRECOGNIZED")


# -- administrators ----------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_locked_account_can_only_log_out(server):
    admin = await server.login("admin")
    alice, gone = await server.login("alice"), await server.login("alice")
    lock = f"{V1}/admin/lock/{ALICE}"
    assert (await admin.get(lock)).json == {"locked": False}
    assert (await admin.put(lock, {"locked": True})).json == {"locked": True}
    assert (await admin.get(lock)).json == {"locked": True}
    assert (await admin.get(f"{V1}/admin/suspend/{ALICE}")).json == {"suspended": False}
    for path in ("/account/whoami", "/devices", "/capabilities", "/_matrix/client/versions"):
        answer = await alice.get(path)
        assert (answer.status, answer.errcode, answer.json["soft_logout"]) == (401, "M_USER_LOCKED", True)
        assert "locked" in answer.json["error"] and "gesperrt" in answer.json["error"]
    login = {"type": "m.login.password", "user": "alice", "password": "alice-demo"}
    assert (await server.http.post("/login", login)).errcode == "M_USER_LOCKED"
    assert (await server.http.post("/login", {**login, "password": "x"})).errcode == "M_FORBIDDEN"
    assert (await gone.post("/logout")).status == 200
    assert (await admin.put(lock, {"locked": False})).json == {"locked": False}
    assert (await alice.get("/account/whoami")).status == 200
    assert (await gone.get("/account/whoami")).errcode == "M_UNKNOWN_TOKEN"


@pytest_twisted.ensureDeferred
async def test_a_suspended_account_reads_and_manages_its_sessions(server):
    admin, alice = await server.login("admin"), await server.login("alice", device_id="PHONE")
    suspend = f"{V1}/admin/suspend/{ALICE}"
    assert (await admin.put(suspend, {"suspended": True})).json == {"suspended": True}
    assert (await admin.get(suspend)).json == {"suspended": True}
    for path in ("/account/whoami", "/devices", "/capabilities"):
        assert (await alice.get(path)).status == 200
    again = await server.login("alice", device_id="OTHER")
    assert (await again.put("/devices/PHONE", {"display_name": "x"})).status == 200
    refused = await alice.put(f"{V1}/admin/lock/{ADMIN}", {"locked": True})  # any operation that reading does not need
    assert (refused.status, refused.errcode) == (403, "M_USER_SUSPENDED")
    assert "suspended" in refused.json["error"] and "stillgelegt" in refused.json["error"]
    assert (await again.post("/logout/all")).status == 200
    assert (await admin.put(suspend, {"suspended": False})).json == {"suspended": False}


@pytest_twisted.ensureDeferred
async def test_flags_survive_a_restart(tmp_path):
    server = await Appliance.start(tmp_path, plugins=("demo_directory",))
    admin, alice = await server.login("admin"), await server.login("alice")
    await admin.put(f"{V1}/admin/lock/{ALICE}", {"locked": True})
    await server.stop()
    server = await Appliance.start(tmp_path, plugins=("demo_directory",))
    try:
        alice.url = server.url
        assert (await alice.get("/account/whoami")).errcode == "M_USER_LOCKED"
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("flag", "key"), [("lock", "locked"), ("suspend", "suspended")])
async def test_who_may_moderate_whom(server, flag, key):
    admin, alice, bob = await server.login("admin"), await server.login("alice"), await server.login("bob")

    async def both(actor, user_id):
        got = await actor.get(f"{V1}/admin/{flag}/{user_id}")
        put = await actor.put(f"{V1}/admin/{flag}/{user_id}", {key: True})
        return [(got.status, got.errcode), (put.status, put.errcode)]

    for target in (ALICE, f"@nobody:{SERVER_NAME}", "@x:other.example", "nonsense", ADMIN):
        assert await both(bob, target) == [(403, "M_FORBIDDEN")] * 2
    assert await both(admin, f"@nobody:{SERVER_NAME}") == [(404, "M_NOT_FOUND")] * 2
    assert await both(admin, "@x:other.example") == [(400, "M_INVALID_PARAM")] * 2
    assert await both(admin, "nonsense") == [(400, "M_INVALID_PARAM")] * 2
    assert await both(admin, ADMIN) == [(200, None), (403, "M_FORBIDDEN")]
    bad = await admin.put(f"{V1}/admin/{flag}/{ALICE}", {key: "yes"})
    assert (bad.status, bad.errcode) == (400, "M_BAD_JSON")
    missing = await admin.put(f"{V1}/admin/{flag}/{ALICE}", {})
    assert (missing.status, missing.errcode) == (400, "M_MISSING_PARAM")
    for actor in (admin, alice):
        assert (await actor.get("/account/whoami")).status == 200


@pytest_twisted.ensureDeferred
async def test_who_is_another_administrator(tmp_path):
    server = await Appliance.start(
        tmp_path, plugins=("demo_directory",), config={"server": {"admins": "Admin, charlotte"}}
    )
    try:
        admin = await server.login("admin")
        await server.login("charlotte")
        target = f"{V1}/admin/lock/@charlotte:{SERVER_NAME}"
        assert (await admin.get(target)).errcode == "M_FORBIDDEN"
        assert (await admin.put(target, {"locked": True})).errcode == "M_FORBIDDEN"
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_who_is(server):
    admin, alice, bob = (
        await server.login("admin"),
        await server.login("alice", device_id="A"),
        await server.login("bob"),
    )
    await server.login("alice", device_id="UNUSED")
    await alice.get("/account/whoami")
    for asker in (alice, admin):
        found = (await asker.get(f"/admin/whois/{ALICE}")).json
        assert found["user_id"] == ALICE
        connection = {"ip": "127.0.0.1", "last_seen": server.clock.now}
        assert found["devices"] == {
            "A": {"sessions": [{"connections": [connection]}]},
            "UNUSED": {"sessions": [{"connections": [connection]}]},
        }
    refused = await bob.get(f"/admin/whois/{ALICE}")
    unknown = await bob.get(f"/admin/whois/@nobody:{SERVER_NAME}")
    assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")
    assert refused.body == unknown.body
    assert (await admin.get(f"/admin/whois/@nobody:{SERVER_NAME}")).status == 404
    assert (await admin.get("/admin/whois/@x:other.example")).errcode == "M_INVALID_PARAM"


# -- discovery ---------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_versions(server):
    answer = await server.http.get("/_matrix/client/versions")
    assert answer.status == 200
    assert answer.json["versions"] == [f"v1.{minor}" for minor in range(1, 20)]
    assert all(value is True for value in answer.json["unstable_features"].values())
    assert (await (await server.login("alice")).get("/_matrix/client/versions")).json == answer.json


@pytest_twisted.ensureDeferred
async def test_capabilities(server):
    found = (await (await server.login("alice")).get("/capabilities")).json["capabilities"]
    assert found["m.room_versions"] == {"default": "11", "available": {"10": "stable", "11": "stable", "12": "stable"}}
    for name in ("m.change_password", "m.3pid_changes", "m.get_login_token", "m.forget_forced_upon_leave"):
        assert found[name] == {"enabled": False}
    for name in ("m.set_displayname", "m.set_avatar_url", "m.profile_fields"):
        assert found[name] == {"enabled": True}
    assert "m.account_moderation" not in found
    admins = (await (await server.login("admin")).get("/capabilities")).json["capabilities"]
    assert admins["m.account_moderation"] == {"suspend": True, "lock": True}


@pytest_twisted.ensureDeferred
async def test_names_of_the_directory_and_contact(tmp_path):
    config = {"accounts": {"display_name": "directory"}, "server": {"support_email": "help@uni.example"}}
    server = await Appliance.start(tmp_path, plugins=("demo_directory",), config=config)
    try:
        found = (await (await server.login("alice")).get("/capabilities")).json["capabilities"]
        assert found["m.set_displayname"] == {"enabled": False}
        assert found["m.profile_fields"] == {"enabled": True, "disallowed": ["displayname"]}
        contact = (await server.http.get("/.well-known/matrix/support")).json
        assert contact == {"contacts": [{"email_address": "help@uni.example", "role": "m.role.admin"}]}
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_well_known(server):
    client = await server.http.get("/.well-known/matrix/client")
    assert client.json["m.homeserver"] == {"base_url": "https://chat.test"}
    assert client.headers["access-control-allow-origin"] == "*"
    assert client.headers["content-type"] == "application/json"
    none = await server.http.get("/.well-known/matrix/support")
    assert (none.status, none.errcode) == (404, "M_NOT_FOUND")
