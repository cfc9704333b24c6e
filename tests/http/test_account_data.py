"""Account data, tags and filters over real HTTP."""

from __future__ import annotations

import pytest
import pytest_twisted

from tests.appliance import Appliance, q
from tests.http.room_kit import QUIET, long_poll, make_room, user

ALICE = q(user("alice"))


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",), config=QUIET)
    yield running
    await running.stop()


def types(events):
    return {event["type"]: event["content"] for event in events}


@pytest_twisted.ensureDeferred
async def test_global_data_is_stored_and_synced(server):
    alice = await server.login("alice")
    path = f"/user/{ALICE}/account_data/org.example.type"
    assert (await alice.get(path)).errcode == "M_NOT_FOUND"
    content = {"a": [1, 2.5, None, "ü"]}
    assert (await alice.put(path, content)).json == {}
    assert (await alice.get(path)).json == content
    assert types((await alice.sync())["account_data"]["events"])["org.example.type"] == content
    waiting = await long_poll(server, alice)
    await alice.put(path, {"a": 2})
    assert types((await waiting[0])["account_data"]["events"]) == {"org.example.type": {"a": 2}}


@pytest_twisted.ensureDeferred
async def test_only_ones_own(server):
    bob = await server.login("bob")
    room = q(await make_room(server, "alice", bob="join"))
    for path in (f"/user/{ALICE}/account_data/t", f"/user/{ALICE}/rooms/{room}/account_data/t",
                 f"/user/{ALICE}/rooms/{room}/tags/u.x"):  # fmt: skip
        answer = await bob.put(path, {})
        assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    for path in (f"/user/{ALICE}/account_data/t", f"/user/{ALICE}/rooms/{room}/tags", f"/user/{ALICE}/filter/1"):
        assert (await bob.get(path)).status == 403
    assert (await bob.delete(f"/user/{ALICE}/rooms/{room}/tags/u.x")).status == 403
    assert (await bob.post(f"/user/{ALICE}/filter", {})).status == 403


@pytest_twisted.ensureDeferred
async def test_types_of_the_server_are_read_only(server):
    alice = await server.login("alice")
    room = q(await make_room(server, "alice"))
    for base in (f"/user/{ALICE}", f"/user/{ALICE}/rooms/{room}"):
        for type in ("m.fully_read", "m.push_rules"):
            answer = await alice.put(f"{base}/account_data/{type}", {"event_id": "$x"})
            assert (answer.status, answer.errcode) == (405, "M_BAD_JSON")
    rules = (await alice.get(f"/user/{ALICE}/account_data/m.push_rules")).json
    assert rules == (await alice.get("/pushrules/")).json


@pytest_twisted.ensureDeferred
async def test_limits_and_bad_input(server, monkeypatch):
    alice = await server.login("alice")
    base = f"/user/{ALICE}/account_data"
    assert (await alice.put(f"{base}/t", {"x": "y" * 65_000})).status == 200
    answer = await alice.put(f"{base}/t", {"x": "y" * 66_000})
    assert (answer.status, answer.errcode) == (413, "M_TOO_LARGE")
    assert len((await alice.get(f"{base}/t")).json["x"]) == 65_000
    for raw, errcode in (
        (b"[]", "M_BAD_JSON"),
        (b'{"a":NaN}', "M_NOT_JSON"),
        (b'"x"', "M_BAD_JSON"),
        (b"{", "M_NOT_JSON"),
    ):
        answer = await alice.put(f"{base}/t", raw=raw)
        assert (answer.status, answer.errcode) == (400, errcode)
    assert (await alice.put(f"{base}/{'t' * 256}", {})).errcode == "M_INVALID_PARAM"
    assert (await alice.put(f"{base}/", {})).errcode == "M_INVALID_PARAM"
    for room in ("nonsense", "@a:b", ""):
        answer = await alice.put(f"/user/{ALICE}/rooms/{q(room)}/account_data/t", {})
        assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM")
    monkeypatch.setattr("heichat_appliance.services.account_data.MAX_VALUES", 2)
    assert (await alice.put(f"{base}/second", {})).status == 200
    answer = await alice.put(f"{base}/third", {})
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN") and "Kontodaten" in answer.json["error"]
    assert (await alice.put(f"{base}/t", {"still": "changeable"})).status == 200
    monkeypatch.setattr("heichat_appliance.services.account_data.MAX_TOTAL", 100)
    assert (await alice.put(f"{base}/t", {"x": "y" * 100})).status == 403


@pytest.mark.parametrize("membership", ["invite", "join", "leave", "ban"])
@pytest_twisted.ensureDeferred
async def test_room_data_of_everybody_who_has_to_do_with_the_room(server, membership):
    bob = await server.login("bob")
    room = await make_room(server, "alice", bob=membership)
    base = f"/user/{q(bob.user_id)}/rooms/{q(room)}"
    assert (await bob.put(f"{base}/account_data/m.marked_unread", {"unread": True})).status == 200
    assert (await bob.get(f"{base}/account_data/m.marked_unread")).json == {"unread": True}
    assert (await bob.put(f"{base}/tags/m.favourite", {"order": 0.5})).status == 200
    assert (await bob.get(f"{base}/tags")).json == {"tags": {"m.favourite": {"order": 0.5}}}
    if membership == "join":
        found = types((await bob.sync())["rooms"]["join"][room]["account_data"]["events"])
        assert found["m.marked_unread"] == {"unread": True}
        assert found["m.tag"] == {"tags": {"m.favourite": {"order": 0.5}}}


@pytest_twisted.ensureDeferred
async def test_a_stranger_learns_nothing_of_a_room(server):
    bob = await server.login("bob")
    room = await make_room(server, "alice")
    answers = [
        (await bob.put(f"/user/{q(bob.user_id)}/rooms/{q(one)}/{path}", {}))
        for one in (room, "!unknown:chat.test")
        for path in ("account_data/t", "tags/m.favourite")
    ]
    assert {(answer.status, answer.errcode) for answer in answers} == {(403, "M_FORBIDDEN")}
    assert len({answer.body for answer in answers}) == 1
    assert (await bob.get(f"/user/{q(bob.user_id)}/rooms/{q(room)}/account_data/t")).status == 404


@pytest_twisted.ensureDeferred
async def test_tags_come_and_go(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    base = f"/user/{ALICE}/rooms/{q(room)}/tags"
    assert (await alice.get(base)).json == {"tags": {}}
    await alice.put(f"{base}/u.W%C3%B6rk%2FLife", {"order": 1})
    await alice.put(f"{base}/m.lowpriority", {})
    assert (await alice.get(base)).json == {"tags": {"u.Wörk/Life": {"order": 1}, "m.lowpriority": {}}}
    for bad in ({"order": "first"}, {"order": True}, {"order": 2}, {"order": -0.1}):
        assert (await alice.put(f"{base}/u.x", bad)).errcode == "M_INVALID_PARAM"
    assert (await alice.put(f"{base}/{'u' * 256}", {})).errcode == "M_INVALID_PARAM"
    await alice.sync()
    assert (await alice.delete(f"{base}/u.W%C3%B6rk%2FLife")).json == {}
    synced = (await alice.sync())["rooms"]["join"][room]["account_data"]["events"]
    assert types(synced) == {"m.tag": {"tags": {"m.lowpriority": {}}}}
    assert (await alice.delete(f"{base}/u.never")).status == 200


@pytest_twisted.ensureDeferred
async def test_the_number_of_tags_is_limited(server, monkeypatch):
    monkeypatch.setattr("heichat_appliance.services.account_data.MAX_TAGS", 1)
    alice = await server.login("alice")
    base = f"/user/{ALICE}/rooms/{q(await make_room(server, 'alice'))}/tags"
    assert (await alice.put(f"{base}/u.1", {})).status == 200
    assert (await alice.put(f"{base}/u.2", {})).status == 403
    assert (await alice.put(f"{base}/u.1", {"order": 0})).status == 200


@pytest_twisted.ensureDeferred
async def test_filters_are_stored_once(server):
    alice = await server.login("alice")
    wanted = {"room": {"timeline": {"limit": 7, "types": ["m.room.*"]}}, "event_format": "client"}
    first = (await alice.post(f"/user/{ALICE}/filter", wanted)).json["filter_id"]
    again = (await alice.post(f"/user/{ALICE}/filter", dict(reversed(wanted.items())))).json["filter_id"]
    other = (await alice.post(f"/user/{ALICE}/filter", {})).json["filter_id"]
    assert first == again != other
    assert (await alice.get(f"/user/{ALICE}/filter/{first}")).json == wanted
    for unknown in ("99", "0", "-1", "abc", "1" * 50, "%F0%9F%98%80"):
        assert (await alice.get(f"/user/{ALICE}/filter/{unknown}")).errcode == "M_NOT_FOUND"
    assert (await alice.sync(filter=first))["next_batch"]


@pytest_twisted.ensureDeferred
async def test_bad_filters(server, monkeypatch):
    alice = await server.login("alice")
    for bad in ({"room": []}, {"event_format": "xml"}, {"room": {"timeline": {"types": "m.room"}}}):
        answer = await alice.post(f"/user/{ALICE}/filter", bad)
        assert (answer.status, answer.errcode) == (400, "M_BAD_JSON")
    assert (await alice.post(f"/user/{ALICE}/filter", {"org.x": "y" * 66_000})).errcode == "M_TOO_LARGE"
    monkeypatch.setattr("heichat_appliance.services.account_data.MAX_FILTERS", 1)
    await alice.post(f"/user/{ALICE}/filter", {})
    assert (await alice.post(f"/user/{ALICE}/filter", {"a": 1})).status == 403
