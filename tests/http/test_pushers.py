"""Setting pushers over real HTTP."""

from __future__ import annotations

import pytest
import pytest_twisted

from heichat_appliance.outgoing import is_public
from heichat_appliance.services.pushers import MAX_DATA, MAX_PUSHERS
from tests.appliance import Appliance
from tests.push_kit import pusher

URL = "https://push.example.org/_matrix/push/v1/notify"


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path)
    yield running
    await running.stop()


async def keys(actor) -> list[str]:
    return [one["pushkey"] for one in actor.ok(await actor.get("/pushers"))["pushers"]]


@pytest_twisted.ensureDeferred
async def test_what_was_set_is_listed(server):
    alice = await server.login("alice")
    assert alice.ok(await alice.get("/pushers")) == {"pushers": []}
    body = pusher(URL, profile_tag="xyz", data={"url": URL, "format": "event_id_only", "more": [1, {"a": "ü"}]})
    assert alice.ok(await alice.post("/pushers/set", body)) == {}
    assert alice.ok(await alice.get("/pushers")) == {"pushers": [body]}
    changed = body | {"lang": "en", "data": {"url": URL}}
    del changed["profile_tag"]
    alice.ok(await alice.post("/pushers/set", changed))
    assert alice.ok(await alice.get("/pushers")) == {"pushers": [changed]}


@pytest_twisted.ensureDeferred
async def test_null_deletes(server):
    alice = await server.login("alice")
    for key in ("one", "two"):
        alice.ok(await alice.post("/pushers/set", pusher(URL, key)))
    gone = {"kind": None, "app_id": "org.example.app", "pushkey": "one"}
    assert alice.ok(await alice.post("/pushers/set", gone)) == {}
    assert alice.ok(await alice.post("/pushers/set", gone)) == {}
    assert await keys(alice) == ["two"]


@pytest.mark.parametrize("append", [False, True])
@pytest_twisted.ensureDeferred
async def test_append_decides_whether_others_keep_theirs(server, append):
    alice, bob = await server.login("alice"), await server.login("bob")
    alice.ok(await alice.post("/pushers/set", pusher(URL)))
    alice.ok(await alice.post("/pushers/set", pusher(URL, app_id="org.example.other")))
    bob.ok(await bob.post("/pushers/set", pusher(URL, append=append)))
    left = [one["app_id"] for one in (await alice.get("/pushers")).json["pushers"]]
    assert left == (["org.example.app"] if append else []) + ["org.example.other"]
    assert await keys(bob) == ["key"]


@pytest_twisted.ensureDeferred
async def test_pushers_go_with_the_device_that_set_them_last(server):
    phone, laptop = await server.login("alice"), await server.login("alice")
    phone.ok(await phone.post("/pushers/set", pusher(URL, "phone")))
    phone.ok(await phone.post("/pushers/set", pusher(URL, "both")))
    laptop.ok(await laptop.post("/pushers/set", pusher(URL, "both")))
    phone.ok(await phone.post("/logout"))
    assert await keys(laptop) == ["both"]
    laptop.ok(await laptop.post("/logout/all"))
    assert await keys(await server.login("alice")) == []


@pytest_twisted.ensureDeferred
async def test_a_person_has_so_many_pushers_at_most(server):
    alice = await server.login("alice")
    for number in range(MAX_PUSHERS):
        alice.ok(await alice.post("/pushers/set", pusher(URL, f"key{number}")))
    answer = await alice.post("/pushers/set", pusher(URL, "one more"))
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    alice.ok(await alice.post("/pushers/set", pusher(URL, "key0", lang="en")))
    assert len(await keys(alice)) == MAX_PUSHERS


@pytest.mark.parametrize(
    ("changes", "errcode", "named"),
    [
        ({"kind": "email"}, "M_INVALID_PARAM", "kind"),
        ({"kind": 5}, "M_BAD_JSON", "kind"),
        ({"lang": None, "data": None}, "M_MISSING_PARAM", "lang, data"),
        ({"app_id": "x" * 65}, "M_INVALID_PARAM", "app_id"),
        ({"app_id": ""}, "M_INVALID_PARAM", "app_id"),
        ({"pushkey": "ü" * 257}, "M_INVALID_PARAM", "pushkey"),
        ({"pushkey": ""}, "M_INVALID_PARAM", "pushkey"),
        ({"lang": "x" * 65}, "M_INVALID_PARAM", "lang"),
        ({"append": "yes"}, "M_BAD_JSON", "append"),
        ({"data": []}, "M_BAD_JSON", "data"),
        ({"data": {}}, "M_INVALID_PARAM", "data.url"),
        ({"data": {"url": 5}}, "M_INVALID_PARAM", "data.url"),
        ({"data": {"url": URL, "x": "x" * MAX_DATA}}, "M_INVALID_PARAM", "data"),
        ({"data": {"url": URL, "x": 2**70}}, "M_INVALID_PARAM", "data"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_input_is_named(server, changes, errcode, named):
    alice = await server.login("alice")
    answer = await alice.post("/pushers/set", pusher(URL, **changes))
    assert (answer.status, answer.errcode) == (400, errcode)
    assert named in answer.json["error"]
    assert await keys(alice) == []


@pytest.mark.parametrize("field", ["kind", "app_id", "pushkey"])
@pytest_twisted.ensureDeferred
async def test_required_fields(server, field):
    alice = await server.login("alice")
    body = pusher(URL)
    del body[field]
    answer = await alice.post("/pushers/set", body)
    assert (answer.status, answer.errcode) == (400, "M_MISSING_PARAM")
    assert field in answer.json["error"]


@pytest.mark.parametrize(
    "url",
    [
        "http://push.example.org/_matrix/push/v1/notify",
        "ftp://push.example.org/_matrix/push/v1/notify",
        "https:///_matrix/push/v1/notify",
        "https://push.example.org/",
        "https://push.example.org/_matrix/push/v1/notify/../../../admin",
        "https://push.example.org/_matrix/push/v1/notify?x=1",
        "https://push.example.org/_matrix/push/v1/notify#x",
        "https://me:secret@push.example.org/_matrix/push/v1/notify",
        "https://push.example.org:99999/_matrix/push/v1/notify",
        "https://push.example.org:0/_matrix/push/v1/notify",
        "https://push.exämple.org/_matrix/push/v1/notify",
        "https://push .example.org/_matrix/push/v1/notify",
        "https://push.example.org\r\n/_matrix/push/v1/notify",
        "https://[::1/_matrix/push/v1/notify",
        "https://127.0.0.1/_matrix/push/v1/notify",
        "https://[::1]/_matrix/push/v1/notify",
        "https://10.1.2.3:8443/_matrix/push/v1/notify",
        "https://169.254.169.254/_matrix/push/v1/notify",
    ],
)
@pytest_twisted.ensureDeferred
async def test_gateways_must_be_https_and_not_private(server, url):
    alice = await server.login("alice")
    answer = await alice.post("/pushers/set", pusher(url))
    assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM")
    assert "data.url" in answer.json["error"]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2a00:1450:4001::1", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("172.16.5.5", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::1", False),
        ("2001:0:1::1", False),
    ],
)
def test_which_addresses_are_public(address, public):
    assert is_public(address) is public
