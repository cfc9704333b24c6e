"""The list of notifications."""

from __future__ import annotations

import pytest
import pytest_twisted

from tests.appliance import Appliance, q
from tests.http.reading_kit import bodies, refused, society
from tests.http.room_kit import QUIET, make_room, say, set_member, user


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",), config=QUIET)
    yield running
    await running.stop()


async def ask(actor, **params):
    if "from_" in params:
        params["from"] = params.pop("from_")
    return actor.ok(await actor.get("/notifications", **params))


def shown(answer):
    return bodies([one["event"] for one in answer["notifications"]])


@pytest_twisted.ensureDeferred
async def test_what_others_said_in_ones_rooms_newest_first(server):
    alice = await server.login("alice")
    first = await make_room(server, "bob", alice="join")
    second = await make_room(server, "charlotte", alice="join")
    await say(server, first, "bob", "one")
    await say(server, second, "charlotte", "two")
    await say(server, first, "alice", "my own")
    await say(server, first, "bob", "three", **{"m.mentions": {"user_ids": [alice.user_id]}})
    answer = await ask(alice)
    assert shown(answer) == ["three", "two", "one"]
    assert "next_token" not in answer
    entry = answer["notifications"][1]
    assert (entry["room_id"], entry["read"]) == (second, False)
    assert "notify" in entry["actions"] and entry["ts"] == entry["event"]["origin_server_ts"]
    assert "room_id" not in entry["event"]
    assert shown(await ask(alice, only="highlight")) == ["three"]
    assert (await ask(await server.login("david")))["notifications"] == []


@pytest_twisted.ensureDeferred
async def test_read_ones_are_marked(server):
    alice = await server.login("alice")
    room = await make_room(server, "bob", alice="join")
    read = await say(server, room, "bob", "read")
    await say(server, room, "bob", "unread")
    alice.ok(await alice.post(f"/rooms/{q(room)}/receipt/m.read.private/{q(read)}"))
    assert [one["read"] for one in (await ask(alice))["notifications"]] == [False, True]


@pytest_twisted.ensureDeferred
async def test_pages(server):
    alice = await server.login("alice")
    rooms = [await make_room(server, "bob", alice="join") for _ in range(3)]
    for number in range(20):
        await say(server, rooms[number % 3], "bob", str(number))
    page, found = await ask(alice, limit=6), []
    while True:
        found += shown(page)
        if "next_token" not in page:
            break
        page = await ask(alice, limit=6, from_=page["next_token"])
    assert found == [str(number) for number in range(19, -1, -1)]


@pytest_twisted.ensureDeferred
async def test_muted_rooms_redacted_events_and_ignored_people_do_not_notify(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    muted, room = [await make_room(server, "bob", alice="join", charlotte="join") for _ in range(2)]
    alice.ok(await alice.put(f"/pushrules/global/room/{q(muted)}", {"actions": []}))
    await say(server, muted, "bob", "muted")
    gone = await say(server, room, "bob", "redacted")
    bob.ok(await bob.put(f"/rooms/{q(room)}/redact/{q(gone)}/t"))
    await say(server, room, "charlotte", "ignored")
    await say(server, room, "bob", "heard")
    path = f"/user/{q(alice.user_id)}/account_data/m.ignored_user_list"
    alice.ok(await alice.put(path, {"ignored_users": {user("charlotte"): {}}}))
    assert shown(await ask(alice)) == ["heard"]


@pytest_twisted.ensureDeferred
async def test_only_of_the_present_stay_in_a_room(server):
    there = await society(server)
    for name in ("charlotte", "frieda", "david", "emine"):
        assert (await ask(there[name]))["notifications"] == []
    assert shown(await ask(there["bob"])) == ["after", "before"]
    await set_member(server, there.room, "david", "invite", "alice")
    await set_member(server, there.room, "david", "join", "david")
    assert shown(await ask(there["david"])) == []
    await say(server, there.room, "alice", "welcome back")
    assert shown(await ask(there["david"])) == ["welcome back"]


@pytest.mark.parametrize(
    ("params", "word"), [({"from": "x"}, "from"), ({"limit": "x"}, "limit"), ({"only": "x"}, "only")]
)
@pytest_twisted.ensureDeferred
async def test_bad_requests(server, params, word):
    alice = await server.login("alice")
    refused(await alice.get("/notifications", **params), 400, "M_INVALID_PARAM", word)
