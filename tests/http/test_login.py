"""Logging in over real HTTP: who gets in, as whom, what is refused and how often one may try."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from heichat_appliance.store import accounts, devices, profiles
from tests.appliance import SERVER_NAME, Appliance, ManualClock
from tests.slapd import PEOPLE_BASE, Slapd, requires_slapd

ALICE = f"@alice:{SERVER_NAME}"
LIMITS = {
    "enabled": "yes",
    "login_failures_rate": "0.1",
    "login_failures_burst": "3",
    "address_failures_rate": "0.1",
    "address_failures_burst": "6",
}


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",))
    yield running
    await running.stop()


@pytest_twisted.async_yield_fixture
async def limited(tmp_path):
    """A server with limits, whose time the test decides (`limited.clock`)."""
    clock = ManualClock()
    running = await Appliance.start(tmp_path, plugins=("demo_directory",), config={"limits": LIMITS}, clock=clock)
    running.clock = clock
    yield running
    await running.stop()


async def with_users(tmp_path: Path, text: str) -> Appliance:
    """A server whose directory is a list of people."""
    (tmp_path / "people").write_text(text, "utf-8")
    return await Appliance.start(
        tmp_path, plugins=("demo_directory",), config={"demo_directory": {"users": str(tmp_path / "people")}}
    )


async def log_in(server, user="alice", password="alice-demo", **extra):
    body = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": user}, "password": password}
    return await server.http.post("/login", {**body, **extra})


@pytest_twisted.ensureDeferred
async def test_flows(server):
    answer = await server.http.get("/login")
    assert answer.status == 200
    assert answer.json == {"flows": [{"type": "m.login.password"}]}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "naming",
    [
        {"identifier": {"type": "m.id.user", "user": "alice"}},
        {"identifier": {"type": "m.id.user", "user": "ALICE"}},
        {"identifier": {"type": "m.id.user", "user": " Alice "}},
        {"identifier": {"type": "m.id.user", "user": ALICE}},
        {"identifier": {"type": "m.id.user", "user": f"@Alice:{SERVER_NAME.upper()}"}},
        {"user": "alice"},
        {"user": ALICE, "identifier": None},
    ],
)
async def test_every_way_to_name_a_person_is_one_account(server, naming):
    first = await server.login("alice")
    answer = await server.http.post("/login", {"type": "m.login.password", "password": "alice-demo", **naming})
    assert answer.status == 200, answer.json
    assert first.user_id == answer.json["user_id"] == ALICE
    assert answer.json["device_id"] != first.device_id
    assert answer.json["home_server"] == SERVER_NAME
    assert answer.json["access_token"].startswith("hct_")
    assert "refresh_token" not in answer.json and "expires_in_ms" not in answer.json


@pytest_twisted.ensureDeferred
async def test_name_and_mail_come_from_the_directory_at_the_first_login(server):
    alice = await server.login("alice")
    read = server.daemon.engine.read
    assert profiles.display(read, ALICE).display_name == "Alice Müller"
    assert accounts.by_user_id(read, ALICE).mail == "alice.mueller@uni.example"
    for path in ("/devices", "/account/whoami", "/account/3pid", f"/admin/whois/{ALICE}"):
        assert b"alice.mueller@" not in (await alice.get(path)).body
    assert "alice.mueller@" not in json.dumps(alice.login)


@pytest_twisted.ensureDeferred
async def test_wrong_and_unknown_look_the_same(server):
    await server.login("alice")
    answers = [
        await log_in(server, password="wrong"),
        await log_in(server, password=""),
        await log_in(server, "bob", "alice-demo"),
        await log_in(server, "nobody", "alice-demo"),
        await log_in(server, "", "alice-demo"),
        await log_in(server, "*", "alice-demo"),
    ]
    assert {answer.status for answer in answers} == {403}
    assert len({answer.body for answer in answers}) == 1
    assert answers[0].errcode == "M_FORBIDDEN"
    assert "Uni-ID or password is wrong" in answers[0].json["error"]
    assert "Passwort ist falsch" in answers[0].json["error"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("change", "status", "errcode", "names"),
    [
        ({"type": None}, 400, "M_BAD_JSON", "type"),
        ({"type": "m.login.token", "token": "x"}, 400, "M_UNKNOWN", "type"),
        ({"password": None}, 400, "M_MISSING_PARAM", "password"),
        ({"password": 5}, 400, "M_BAD_JSON", "password"),
        ({"identifier": None}, 400, "M_MISSING_PARAM", "user"),
        ({"identifier": "alice"}, 400, "M_BAD_JSON", "identifier"),
        ({"identifier": {"user": "alice"}}, 400, "M_BAD_JSON", "identifier"),
        ({"identifier": {"type": "m.id.user"}}, 400, "M_MISSING_PARAM", "identifier.user"),
        ({"identifier": {"type": "m.id.user", "user": ["alice"]}}, 400, "M_BAD_JSON", "identifier.user"),
        (
            {"identifier": {"type": "m.id.thirdparty", "medium": "email", "address": "alice@uni.example"}},
            403,
            "M_FORBIDDEN",
            "identifier",
        ),
        ({"identifier": {"type": "m.id.user", "user": "@alice:other.example"}}, 403, "M_FORBIDDEN", "user"),
        ({"device_id": ""}, 400, "M_INVALID_PARAM", "device_id"),
        ({"device_id": "x" * 256}, 400, "M_INVALID_PARAM", "device_id"),
        ({"device_id": "a\0b"}, 400, "M_INVALID_PARAM", "device_id"),
        ({"device_id": 7}, 400, "M_BAD_JSON", "device_id"),
        ({"initial_device_display_name": "x" * 256}, 400, "M_INVALID_PARAM", "initial_device_display_name"),
        ({"refresh_token": "yes"}, 400, "M_BAD_JSON", "refresh_token"),
    ],
)
async def test_bad_bodies(server, change, status, errcode, names):
    answer = await log_in(server, **change)
    assert (answer.status, answer.errcode) == (status, errcode), answer.json
    assert names in answer.json["error"]
    assert server.daemon.engine.read("SELECT count(*) FROM devices").fetchone() == (0,)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'"x"', b'{"type": NaN}', b"\xff", b'{"type":"\\ud800"}', b"[" * 5000]
)
async def test_bodies_that_are_no_json_object(server, raw):
    answer = await server.http.request("POST", "/login", raw=raw)
    assert answer.status == 400
    assert answer.errcode in {"M_NOT_JSON", "M_BAD_JSON", "M_MISSING_PARAM"}


@pytest_twisted.ensureDeferred
async def test_a_device_is_used_again_by_the_same_person_only(server):
    first = await server.login("alice", device_id="PHONE", initial_device_display_name="My phone", refresh_token=True)
    bob = await server.login("bob", device_id="PHONE", initial_device_display_name="Bob's phone")
    again = await server.login("alice", device_id="PHONE", initial_device_display_name="Other name")
    assert again.device_id == "PHONE"
    ended = await first.get("/account/whoami")
    assert (ended.status, ended.errcode) == (401, "M_UNKNOWN_TOKEN")
    assert "soft_logout" not in ended.json
    refused = await server.http.post("/refresh", {"refresh_token": first.login["refresh_token"]})
    assert (refused.status, refused.errcode) == (401, "M_UNKNOWN_TOKEN")
    assert (await again.get("/devices/PHONE")).json["display_name"] == "My phone"
    assert (await bob.get("/devices/PHONE")).json["display_name"] == "Bob's phone"


@pytest_twisted.ensureDeferred
async def test_a_device_id_must_not_be_a_cross_signing_key(server):
    await server.login("alice")

    def add_key(tx):
        tx.execute("INSERT INTO cross_signing_keys VALUES (?, 'master', 'base64key', '{}')", (ALICE,))

    await server.daemon.engine.write(add_key)
    answer = await log_in(server, device_id="base64key")
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    assert "device_id" in answer.json["error"]
    assert devices.get(server.daemon.engine.read, ALICE, "base64key") is None


@pytest_twisted.ensureDeferred
async def test_odd_uni_ids_map_to_one_localpart(tmp_path):
    server = await with_users(tmp_path, "Jürgen.O:pw:Jürgen\na=3db:pw:Equals\n")
    try:
        expected = f"@j=c3=bcrgen.o:{SERVER_NAME}"
        for user in ("jürgen.o", "JÜRGEN.O", "j=c3=bcrgen.o", expected):
            answer = await log_in(server, user, "pw")
            assert (answer.status, answer.json.get("user_id")) == (200, expected)
        equals = f"@a=3d3db:{SERVER_NAME}"
        assert (await log_in(server, equals, "pw")).json["user_id"] == equals
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_a_uni_id_that_is_too_long_for_a_user_id(tmp_path):
    server = await with_users(tmp_path, "x" * 250 + ":pw:Long\n")
    try:
        answer = await log_in(server, "x" * 250, "pw")
        assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
        assert "/" in answer.json["error"]
        assert server.daemon.engine.read("SELECT count(*) FROM accounts").fetchone() == (0,)
    finally:
        await server.stop()


# -- what follows a login ----------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_hooks_run_before_the_answer_and_their_errors_do_no_harm(server, logged_errors):
    told = []

    def slow_first(user_id: str) -> Deferred:
        return deferLater(reactor, 0, told.append, ("first", user_id))

    def broken(user_id: str) -> None:
        told.append(("broken", user_id))
        raise RuntimeError("a hook that fails")

    async def every(user_id: str) -> None:
        told.append(("every", user_id))

    server.daemon.login.first_login += [slow_first, broken]
    server.daemon.login.every_login.append(every)
    await server.login("alice")
    assert told == [("first", ALICE), ("broken", ALICE), ("every", ALICE)]
    await server.login("alice")
    assert told[3:] == [("every", ALICE)]
    assert [event["log_failure"].type for event in logged_errors] == [RuntimeError]
    logged_errors.clear()


# -- limits ------------------------------------------------------------------------------------------------------


def assert_limited(answer):
    assert (answer.status, answer.errcode) == (429, "M_LIMIT_EXCEEDED")
    assert 0 < answer.json["retry_after_ms"] <= 10_001
    assert int(answer.headers["retry-after"]) == -(-answer.json["retry_after_ms"] // 1000)


@pytest_twisted.ensureDeferred
async def test_failures_of_one_person_are_limited(limited):
    for user in ("alice", "ALICE", ALICE):
        assert (await log_in(limited, user, "wrong")).status == 403
    assert_limited(await log_in(limited, "Alice", "wrong"))
    assert_limited(await log_in(limited))
    assert (await log_in(limited, "bob", "bob-demo")).status == 200
    limited.clock.advance(10)
    assert (await log_in(limited)).status == 200


@pytest_twisted.ensureDeferred
async def test_success_counts_as_nothing(limited):
    for _ in range(10):
        assert (await log_in(limited)).status == 200


@pytest_twisted.ensureDeferred
async def test_failures_of_one_address_are_limited(limited):
    for number in range(6):
        assert (await log_in(limited, f"guess{number}", "wrong")).status == 403
    assert_limited(await log_in(limited))
    limited.clock.advance(10)
    assert (await log_in(limited)).status == 200


@pytest_twisted.ensureDeferred
async def test_many_tries_at_once_do_not_get_past_the_limit(limited, monkeypatch):
    asked = []
    answers: list[Deferred] = []

    def slow(uni_id, password):
        asked.append(uni_id)
        answers.append(Deferred())
        return answers[-1]

    monkeypatch.setattr(limited.daemon.identity, "authenticate", slow)
    tries = [Deferred.fromCoroutine(log_in(limited, "alice", "wrong")) for _ in range(8)]
    refused = []
    for one in tries:
        one.addCallback(lambda answer: refused.append(answer) or answer)
    while len(refused) < 5:
        await deferLater(reactor, 0)
    for one in answers:
        one.callback(None)
    done = await gatherResults(tries)
    assert sorted(answer.status for answer in done) == [403] * 3 + [429] * 5
    assert len(asked) == 3


# -- a real directory --------------------------------------------------------------------------------------------


def slapd_test(function):
    for mark in requires_slapd:
        function = mark(function)
    return function


@slapd_test
@pytest_twisted.ensureDeferred
async def test_a_directory_that_is_away_stops_logins_only(tmp_path):
    people = [{"uid": "Alice", "displayName": "Alice Müller", "mail": "a@uni.example", "userPassword": "wonder-land"}]
    with Slapd(tmp_path, people) as slapd:
        settings = {
            "uri": slapd.uri,
            "start_tls": "no",
            "base": PEOPLE_BASE,
            "bind_dn": Slapd.service_dn,
            "bind_password": Slapd.service_password,
        }
        config = {"ldap_identity": settings, "limits": LIMITS}
        server = await Appliance.start(tmp_path, plugins=("ldap_identity",), config=config)
        try:
            alice = await server.login("aLICE", "wonder-land")
            assert alice.user_id == ALICE
            slapd.stop()
            for _ in range(5):  # more than the limit of failures: these are none
                answer = await log_in(server, "alice", "wonder-land")
                assert (answer.status, answer.errcode) == (503, "M_UNKNOWN")
            assert "directory" in answer.json["error"] and "Verzeichnis" in answer.json["error"]
            assert "wonder-land" not in answer.json["error"]
            assert (await alice.get("/account/whoami")).json["user_id"] == ALICE
            slapd.start()
            assert (await server.login("alice", "wonder-land")).user_id == ALICE
        finally:
            await server.stop()
