"""Profiles over real HTTP: fields, limits, policy, and how a change reaches rooms."""

from __future__ import annotations

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import fail, succeed
from twisted.internet.task import deferLater

from heichat_appliance.extension import DirectoryUnavailable, Person
from heichat_appliance.store import profiles
from tests.appliance import Appliance, q
from tests.http.room_kit import QUIET, long_poll, make_room, user

ALICE = f"/profile/{q(user('alice'))}"


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",), config=QUIET)
    yield running
    await running.stop()


async def all_rooms_told(server):
    """Wait until no room shows an outdated profile."""
    while profiles.outdated_users(server.daemon.engine.read):
        await deferLater(reactor, 0.001)


async def members_in(actor, room):
    """The contents of all member events of the actor in the room's timeline, in order."""
    sync = await actor.sync(since=None, filter={"room": {"timeline": {"limit": 100}}})
    return [
        event["content"]
        for event in sync["rooms"]["join"][room]["timeline"]["events"]
        if event["type"] == "m.room.member" and event["state_key"] == actor.user_id
    ]


@pytest_twisted.ensureDeferred
async def test_reading(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    assert (await bob.get(ALICE)).json == {"displayname": "Alice Müller"}
    assert (await bob.get(ALICE + "/displayname")).json == {"displayname": "Alice Müller"}
    answer = await bob.get(ALICE + "/avatar_url")
    assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")
    await alice.delete(ALICE + "/displayname")
    assert (await bob.get(ALICE)).json == {}
    for nobody in (user("nobody"), user("charlotte"), "@alice:elsewhere.example"):
        assert (await bob.get(f"/profile/{q(nobody)}")).errcode == "M_NOT_FOUND"
    assert (await bob.get("/profile/alice")).errcode == "M_INVALID_PARAM"
    for path in (ALICE, ALICE + "/displayname", f"/profile/{q(user('nobody'))}"):
        answer = await server.http.get(path)
        assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN") and "angemeldet" in answer.json["error"]


@pytest_twisted.ensureDeferred
async def test_fields_of_any_kind(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    values = {
        "avatar_url": "mxc://chat.test/AbC-123_x",
        "m.tz": "Europe/Berlin",
        "de.uni.example.office": {"room": "INF 205", "floors": [1, 2.5]},
        "de.uni.example.nothing": None,
    }
    for name, value in values.items():
        assert (await alice.put(f"{ALICE}/{name}", {name: value})).json == {}
        assert (await bob.get(f"{ALICE}/{name}")).json == {name: value}
    assert (await bob.get(ALICE)).json == {"displayname": "Alice Müller", **values}
    assert (await alice.delete(f"{ALICE}/m.tz")).json == {}
    assert (await alice.delete(f"{ALICE}/m.tz")).json == {}
    assert (await bob.get(f"{ALICE}/m.tz")).status == 404
    for name in ("displayname", "avatar_url"):  # clients mean it so
        assert (await alice.put(f"{ALICE}/{name}", {name: ""})).json == {}
        assert (await bob.get(f"{ALICE}/{name}")).status == 404


@pytest_twisted.ensureDeferred
async def test_only_ones_own(server):
    bob = await server.login("bob")
    await server.login("alice")
    for answer in (
        await bob.put(ALICE + "/displayname", {"displayname": "Mallory"}), await bob.delete(ALICE + "/displayname")
    ):  # fmt: skip
        assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    assert (await bob.get(ALICE + "/displayname")).json == {"displayname": "Alice Müller"}


@pytest_twisted.ensureDeferred
async def test_bad_fields(server):
    alice = await server.login("alice")
    await make_room(server, "alice")
    for name, body, errcode in (
        ("displayname", {}, "M_MISSING_PARAM"),
        ("displayname", {"displayname": "A", "avatar_url": "mxc://a/b"}, "M_BAD_JSON"),
        ("displayname", {"displayname": None}, "M_BAD_JSON"),
        ("displayname", {"displayname": "x" * 257}, "M_INVALID_PARAM"),
        ("displayname", {"displayname": "a\nb"}, "M_INVALID_PARAM"),
        ("avatar_url", {"avatar_url": "https://example.org/a.png"}, "M_INVALID_PARAM"),
        ("avatar_url", {"avatar_url": "mxc://chat.test/../x"}, "M_INVALID_PARAM"),
        ("avatar_url", {"avatar_url": 5}, "M_BAD_JSON"),
        ("m.tz", {"m.tz": 5}, "M_BAD_JSON"),
        ("color", {"color": "red"}, "M_INVALID_PARAM"),
        ("Org.Example", {"Org.Example": 1}, "M_INVALID_PARAM"),
        ("a." + "x" * 254, {"a." + "x" * 254: 1}, "M_KEY_TOO_LARGE"),
        ("org.example.big", {"org.example.big": "x" * 65_500}, "M_PROFILE_TOO_LARGE"),
    ):
        answer = await alice.put(f"{ALICE}/{name}", body)
        assert (answer.status, answer.errcode) == (400, errcode), name
    assert (await alice.get(f"{ALICE}/color")).errcode == "M_INVALID_PARAM"
    assert (await alice.get(ALICE)).json == {"displayname": "Alice Müller"}
    for part in ("a", "b"):  # the limit is one of the whole profile
        answer = await alice.put(f"{ALICE}/org.example.{part}", {f"org.example.{part}": "x" * 40_000})
    assert answer.errcode == "M_PROFILE_TOO_LARGE"
    assert (await alice.put(f"{ALICE}/org.example.a", {"org.example.a": "y" * 50_000})).status == 200


@pytest_twisted.ensureDeferred
async def test_a_new_name_reaches_every_joined_room_and_no_other(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    rooms = [await make_room(server, "alice", bob="join") for _ in range(8)]
    others = [await make_room(server, "bob", alice=membership) for membership in ("invite", "leave", "ban")]
    await bob.sync()
    waiting = await long_poll(server, bob)
    assert (await alice.put(ALICE + "/displayname", {"displayname": "Alice B."})).status == 200
    assert (await waiting[0])["rooms"]["join"]
    await all_rooms_told(server)
    expected = {"membership": "join", "displayname": "Alice B."}
    for room in rooms:
        assert (await members_in(alice, room))[-1] == expected
    assert (await alice.put(ALICE + "/avatar_url", {"avatar_url": "mxc://chat.test/x"})).status == 200
    await all_rooms_told(server)
    assert (await members_in(alice, rooms[0]))[-2:] == [expected, {**expected, "avatar_url": "mxc://chat.test/x"}]
    sync = await bob.sync(since=None)
    for room in others:
        events = sync["rooms"]["join"][room]["timeline"]["events"]
        assert "Alice B." not in str(events)


@pytest_twisted.ensureDeferred
async def test_what_is_not_new_sends_nothing(server):
    alice = await server.login("alice")
    room = await make_room(server, "alice")
    for _ in range(2):
        await alice.put(ALICE + "/displayname", {"displayname": "A"})
        await alice.put(ALICE + "/m.tz", {"m.tz": "Europe/Berlin"})
        await all_rooms_told(server)
    assert [content.get("displayname") for content in await members_in(alice, room)] == [None, "A"]


@pytest_twisted.ensureDeferred
async def test_quick_changes_end_with_the_last(server):
    alice = await server.login("alice")
    rooms = [await make_room(server, "alice") for _ in range(7)]
    for number in range(5):
        await alice.put(ALICE + "/displayname", {"displayname": f"Name {number}"})
    await all_rooms_told(server)
    assert {(await members_in(alice, room))[-1]["displayname"] for room in rooms} == {"Name 4"}


@pytest_twisted.ensureDeferred
async def test_a_stop_in_between_is_made_good_at_the_next_start(tmp_path):
    server = await Appliance.start(tmp_path, plugins=("demo_directory",), config=QUIET)
    alice = await server.login("alice")
    rooms = [await make_room(server, "alice") for _ in range(3)]
    engine = server.daemon.engine
    await engine.write(lambda tx: profiles.put(tx, alice.user_id, "displayname", '"Interrupted"'))
    await engine.write(profiles.add_outdated, alice.user_id)
    await server.stop()
    server = await Appliance.start(tmp_path, plugins=("demo_directory",), config=QUIET)
    try:
        await all_rooms_told(server)
        alice = await server.login("alice")
        assert {(await members_in(alice, room))[-1]["displayname"] for room in rooms} == {"Interrupted"}
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_names_from_the_directory_can_not_be_changed_but_follow_it(tmp_path, monkeypatch):
    config = {**QUIET, "accounts": {"display_name": "directory"}}
    server = await Appliance.start(tmp_path, plugins=("demo_directory",), config=config)
    try:
        alice = await server.login("alice")
        answers = [
            await alice.put(ALICE + "/displayname", {"displayname": "Someone else"}),
            await alice.delete(ALICE + "/displayname"),
            await alice.put(ALICE + "/displayname", {"displayname": ""}),
        ]
        for answer in answers:
            assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
            assert "Verzeichnis" in answer.json["error"] and "directory" in answer.json["error"]
        assert (await alice.get(ALICE + "/displayname")).json == {"displayname": "Alice Müller"}
        assert (await alice.put(ALICE + "/avatar_url", {"avatar_url": "mxc://chat.test/x"})).status == 200
        room = await make_room(server, "alice")
        monkeypatch.setattr(
            server.daemon.identity, "look_up", lambda uni_id: succeed(Person(uni_id, "Alice Schmidt", None))
        )
        alice = await server.login("alice")
        while (await alice.get(ALICE + "/displayname")).json == {"displayname": "Alice Müller"}:
            pass
        await all_rooms_told(server)
        assert (await members_in(alice, room))[-1]["displayname"] == "Alice Schmidt"
        monkeypatch.setattr(server.daemon.identity, "look_up", lambda uni_id: fail(DirectoryUnavailable("down")))
        alice = await server.login("alice")
        assert (await alice.get(ALICE + "/displayname")).json == {"displayname": "Alice Schmidt"}
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_before_agreeing_to_the_terms_a_profile_stays_as_it_is(tmp_path):
    server = await Appliance.start(tmp_path, plugins=("demo_directory", "terms_consent"), config=QUIET)
    try:
        alice = await server.login("alice")
        for answer in (
            await alice.put(ALICE + "/displayname", {"displayname": "A"}),
            await alice.delete(ALICE + "/displayname"),
        ):
            assert (answer.status, answer.errcode) == (403, "M_CONSENT_NOT_GIVEN")
        own = f"/user/{q(alice.user_id)}"
        for answer in (  # what clients do at their start works
            await alice.get(ALICE),
            await alice.put(own + "/account_data/org.example.settings", {}),
            await alice.post(own + "/filter", {}),
            await alice.get("/pushrules/"),
            await alice.put(f"/presence/{q(alice.user_id)}/status", {"presence": "online"}),
            await alice.post("/user_directory/search", {"search_term": "bob"}),
        ):
            assert answer.status == 200
    finally:
        await server.stop()
