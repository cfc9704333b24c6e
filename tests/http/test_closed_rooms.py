"""The plugin closed_rooms: no way leads to a room that is open, and what a closed room can do stays possible."""

from __future__ import annotations

import pytest
import pytest_twisted

from heichat_appliance.plugins.closed_rooms import OPENING
from heichat_appliance.store import aliases
from tests.appliance import Appliance, q
from tests.http.writing_kit import VERSIONS, content, membership, refused, rooms, total, user

WORDS = ("Only closed rooms", "nur geschlossene Räume")
OPEN_STATE = [{"type": type, "content": {key: value}} for type, (key, value) in OPENING.items()]


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory", "closed_rooms"))
    yield running
    await running.stop()


@pytest.mark.parametrize(
    "body",
    [
        {"preset": "public_chat"},
        {"visibility": "public"},
        {"visibility": "public", "preset": "private_chat"},
        *({"initial_state": [state]} for state in OPEN_STATE),
        *({"preset": "private_chat", "initial_state": [state]} for state in OPEN_STATE[:2]),
        {"preset": "trusted_private_chat", "initial_state": [{**OPEN_STATE[0], "state_key": ""}]},
    ],
    ids=str,
)
@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_no_room_is_made_open(server, body, version):
    alice = await server.login("alice")
    refused(await alice.post("/createRoom", {"room_version": version, **body}), 403, "M_FORBIDDEN", *WORDS)
    assert (rooms(server), total(server)) == (0, 0)


@pytest.mark.parametrize("state", OPEN_STATE, ids=str)
@pytest_twisted.ensureDeferred
async def test_no_room_is_opened(server, state):
    alice = await server.login("alice")
    room_id = await alice.create_room()
    before = total(server)
    for suffix in ("", "/"):
        answer = await alice.put(f"/rooms/{q(room_id)}/state/{state['type']}{suffix}", state["content"])
        refused(answer, 403, "M_FORBIDDEN", *WORDS)
    beside = {**state["content"], "org.example.x": 1, "allow": []}
    refused(await alice.put(f"/rooms/{q(room_id)}/state/{state['type']}", beside), 403, "M_FORBIDDEN", *WORDS)
    assert total(server) == before


@pytest_twisted.ensureDeferred
async def test_nothing_is_published(server):
    alice, admin = await server.login("alice"), await server.login("admin")
    room_id = await alice.create_room()
    path = f"/directory/list/room/{q(room_id)}"
    for actor in (alice, admin):
        for body in ({}, {"visibility": "public"}):
            refused(await actor.put(path, body), 403, "M_FORBIDDEN", *WORDS)
    alice.ok(await alice.put(path, {"visibility": "private"}))
    assert (await alice.get(path)).json == {"visibility": "private"}
    for answer in (
        await alice.get("/publicRooms"),
        await alice.post("/publicRooms"),
        await server.http.get("/publicRooms"),
    ):
        assert answer.json == {"chunk": [], "total_room_count_estimate": 0}


@pytest.mark.parametrize("preset", [None, "private_chat", "trusted_private_chat"])
@pytest_twisted.ensureDeferred
async def test_private_presets_take_no_guests(server, preset):
    alice = await server.login("alice")
    room_id = await alice.create_room(preset=preset)
    assert content(server, room_id, "m.room.guest_access") == {"guest_access": "forbidden"}
    assert content(server, room_id, "m.room.join_rules") == {"join_rule": "invite"}


@pytest_twisted.ensureDeferred
async def test_what_element_says_of_guests_beside_a_private_preset_is_narrowed(server):
    """Element asks for guests in every private room that it makes; refusing that would leave it without rooms."""
    alice = await server.login("alice")
    room_id = await alice.create_room(
        preset="private_chat", visibility="private", name="x", initial_state=[{**OPEN_STATE[2], "state_key": ""}]
    )
    assert content(server, room_id, "m.room.guest_access") == {"guest_access": "forbidden"}


@pytest_twisted.ensureDeferred
async def test_closed_ways_in_stay(server):
    alice, bob, emine = [await server.login(name) for name in ("alice", "bob", "emine")]
    space = await alice.create_room(creation_content={"type": "m.space"}, invite=[bob.user_id])
    await bob.join(space)
    allow = {"join_rule": "knock_restricted", "allow": [{"type": "m.room_membership", "room_id": space}]}
    room_id = await alice.create_room(initial_state=[{"type": "m.room.join_rules", "content": allow}])
    await bob.join(room_id)
    emine.ok(await emine.post(f"/knock/{q(room_id)}"))
    await alice.invite(room_id, emine.user_id)
    await emine.join(room_id)
    for rule in ("invite", "knock", "private"):
        await alice.set_state(room_id, "m.room.join_rules", {"join_rule": rule})
    for visibility in ("invited", "joined", "shared"):
        await alice.set_state(room_id, "m.room.history_visibility", {"history_visibility": visibility})
    await alice.set_state(room_id, "m.room.guest_access", {"guest_access": "forbidden"})
    await alice.send(room_id, {"join_rule": "public"}, type="m.room.join_rules")  # a message of this type opens nothing
    assert content(server, room_id, "m.room.join_rules") == {"join_rule": "private"}


@pytest_twisted.ensureDeferred
async def test_open_rooms_from_before_are_hidden_and_not_upgraded(tmp_path):
    server = await Appliance.start(tmp_path, plugins=("demo_directory",))
    alice = await server.login("alice")
    public = await alice.create_room(visibility="public", name="open")
    guests = await alice.create_room(preset="private_chat")
    assert content(server, guests, "m.room.guest_access") == {"guest_access": "can_join"}
    await server.stop()

    server = await Appliance.start(tmp_path, plugins=("demo_directory", "closed_rooms"))
    alice.url, alice.pool = server.url, server.pool
    assert (await alice.get("/publicRooms")).json["chunk"] == []
    assert (await alice.get(f"/directory/list/room/{q(public)}")).json == {"visibility": "private"}
    before = rooms(server), total(server)
    refused(await alice.post(f"/rooms/{q(public)}/upgrade", {"new_version": "12"}), 403, "M_FORBIDDEN", *WORDS)
    assert (rooms(server), total(server)) == before
    await alice.set_state(public, "m.room.join_rules", {"join_rule": "invite"})
    for old in (public, guests):
        answer = alice.ok(await alice.post(f"/rooms/{q(old)}/upgrade", {"new_version": "12"}))
        new = answer["replacement_room"]
        assert content(server, new, "m.room.guest_access") == {"guest_access": "forbidden"}
        assert not aliases.is_published(server.daemon.engine.read, new)
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_a_policy_that_fails_denies(server, logged_errors):
    alice, bob = await server.login("alice"), await server.login("bob")
    room_id = await alice.create_room(invite=[bob.user_id])

    def broken(draft):
        raise ZeroDivisionError

    server.daemon.timeline._policies = (broken,)
    refused(await alice.put(f"/rooms/{q(room_id)}/send/m.room.message/1", {"body": "x"}), 403, "M_FORBIDDEN", "Regel")
    refused(await bob.post(f"/rooms/{q(room_id)}/join"), 403, "M_FORBIDDEN", "Regel")
    refused(await alice.post("/createRoom"), 403, "M_FORBIDDEN", "Regel")
    assert (rooms(server), membership(server, room_id, "bob")) == (1, "invite")
    assert len(logged_errors) == 3 and user("alice") not in str(logged_errors[0]["log_failure"])
    logged_errors.clear()
