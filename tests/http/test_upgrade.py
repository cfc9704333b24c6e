"""Room upgrades: what goes along, what stays, who may."""

from __future__ import annotations

import pytest
import pytest_twisted

from heichat_appliance.store import aliases, state
from tests.appliance import Appliance, q
from tests.http.writing_kit import (
    OUTSIDE,
    VERSIONS,
    content,
    member,
    membership,
    people,
    refused,
    rooms,
    timeline,
    total,
    user,
)


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",))
    yield running
    await running.stop()


async def upgrade(actor, room_id, version, **more):
    answer = await actor.post(f"/rooms/{q(room_id)}/upgrade", {"new_version": version, **more})
    return actor.ok(answer)["replacement_room"]


CARRIED = {
    "m.room.name": {"name": "Seminar"},
    "m.room.topic": {"topic": "Thursdays"},
    "m.room.avatar": {"url": "mxc://chat.test/a"},
    "m.room.encryption": {"algorithm": "m.megolm.v1.aes-sha2"},
    "m.room.history_visibility": {"history_visibility": "joined"},
    "m.room.guest_access": {"guest_access": "forbidden"},
    "m.room.server_acl": {"allow": ["*"]},
    "m.room.join_rules": {"join_rule": "knock"},
}


@pytest.mark.parametrize("old_version", VERSIONS)
@pytest.mark.parametrize("new_version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_from_every_version_to_every_version(server, old_version, new_version):
    alice, bob = await server.login("alice"), await server.login("bob")
    initial = [{"type": type, "content": value} for type, value in CARRIED.items()]
    old = await alice.create_room(
        room_version=old_version, initial_state=initial, invite=[bob.user_id], room_alias_name="seminar",
        creation_content={"m.federate": False, "type": "org.example.kind"},
    )  # fmt: skip
    await bob.join(old)
    levels = {**content(server, old, "m.room.power_levels")}
    levels["users"] = {**levels["users"], bob.user_id: 60}
    await alice.set_state(old, "m.room.power_levels", levels)
    await alice.set_state(old, "org.example.private", {"x": 1})
    last = timeline(server, old)[-1].event_id
    new = await upgrade(alice, old, new_version)

    create = content(server, new, "m.room.create")
    assert create["room_version"] == new_version and create["predecessor"] == {"room_id": old, "event_id": last}
    assert (create["type"], create["m.federate"]) == ("org.example.kind", False)
    assert "additional_creators" not in create
    assert {type: content(server, new, type) for type in CARRIED} == CARRIED
    assert content(server, new, "org.example.private") is None
    assert membership(server, new, "alice") == "join" and membership(server, new, "bob") is None
    assert content(server, old, "m.room.tombstone")["replacement_room"] == new
    assert content(server, new, "m.room.canonical_alias") == {"alias": "#seminar:chat.test"}
    assert content(server, old, "m.room.canonical_alias") == {}
    assert aliases.get(server.daemon.engine.read, "#seminar:chat.test").room_id == new

    new_levels = content(server, new, "m.room.power_levels")
    top = 150 if old_version == "12" else 100
    assert new_levels["users"] == {bob.user_id: 60, **({} if new_version == "12" else {alice.user_id: top})}
    if new_version == "12":
        assert new_levels["events"]["m.room.tombstone"] > new_levels["state_default"]
    closed = content(server, old, "m.room.power_levels")
    assert (closed["events_default"], closed["invite"]) == (50, 50)
    # In the old room only those above may still speak; in the new one its creator rules.
    await bob.send(old, "still here")
    await alice.set_state(new, "m.room.name", {"name": "New"})


@pytest_twisted.ensureDeferred
async def test_who_may_upgrade(server):
    room_id, actors = await people(server)
    before = rooms(server), total(server)
    for name in ("bob", *OUTSIDE):
        answer = await actors[name].post(f"/rooms/{q(room_id)}/upgrade", {"new_version": "12"})
        refused(answer, 403, "M_FORBIDDEN")
    alice = actors["alice"]

    async def post(body, room=room_id):
        return await alice.post(f"/rooms/{q(room)}/upgrade", body)

    refused(await post({"new_version": "99"}), 400, "M_UNSUPPORTED_ROOM_VERSION", "new_version")
    refused(await post({"new_version": 11}), 400, "M_BAD_JSON", "new_version")
    refused(await post({}), 400, "M_MISSING_PARAM", "new_version")
    refused(await post({"new_version": "12", "additional_creators": "x"}), 400, "M_BAD_JSON", "additional_creators")
    refused(await post({"new_version": "12", "additional_creators": ["bob"]}), 400, "M_INVALID_PARAM", "creators")
    refused(await post({"new_version": "12"}, "!unknown:chat.test"), 403, "M_FORBIDDEN")
    refused(await post({"new_version": "12"}, "x"), 400, "M_INVALID_PARAM", "roomId")
    assert (rooms(server), total(server)) == before
    await upgrade(alice, room_id, "12")


@pytest_twisted.ensureDeferred
async def test_bans_go_along_and_members_do_not(server):
    room_id, actors = await people(server)
    new = await upgrade(actors["alice"], room_id, "12")
    members = {m: state.members_now(server.daemon.engine.read, new, m) for m in ("join", "invite", "ban")}
    assert members == {"join": [user("alice")], "invite": [], "ban": [user("emine")]}
    assert member(server, new, "emine") == {"membership": "ban", "reason": "noise"}


@pytest_twisted.ensureDeferred
async def test_creators_of_version_12(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    old = await alice.create_room(
        room_version="12", preset="trusted_private_chat", invite=[bob.user_id],
        power_level_content_override={"users": {user("emine"): 100}},
    )  # fmt: skip
    await bob.join(old)
    # Creators are not carried over, but named.
    new = await upgrade(bob, old, "12", additional_creators=[user("charlotte"), bob.user_id])
    assert content(server, new, "m.room.create")["additional_creators"] == [user("charlotte")]
    assert content(server, new, "m.room.power_levels")["users"] == {user("emine"): 100}
    # In a version without creators, those of the old room stay on top. What it does not know is ignored.
    older = await upgrade(alice, old, "11", additional_creators=[user("charlotte")])
    assert "additional_creators" not in content(server, older, "m.room.create")
    levels = {user("emine"): 100, alice.user_id: 150, bob.user_id: 150}  # enough for the tombstone
    assert content(server, older, "m.room.power_levels")["users"] == levels
    # A named creator leaves the list of levels.
    newer = await upgrade(alice, older, "12", additional_creators=[bob.user_id])
    assert content(server, newer, "m.room.power_levels")["users"] == {user("emine"): 100}


@pytest_twisted.ensureDeferred
async def test_a_space_keeps_its_children(server):
    alice = await server.login("alice")
    space = await alice.create_room(creation_content={"type": "m.space"})
    await alice.set_state(space, "m.space.child", {"via": ["chat.test"]}, "!one:chat.test")
    await alice.set_state(space, "m.space.child", {"via": ["chat.test"], "order": "b"}, "!two:chat.test")
    await alice.set_state(space, "m.space.child", {}, "!one:chat.test")
    new = await upgrade(alice, space, "12")
    assert content(server, new, "m.room.create")["type"] == "m.space"
    assert content(server, new, "m.space.child", "!two:chat.test") == {"via": ["chat.test"], "order": "b"}
    assert content(server, new, "m.space.child", "!one:chat.test") is None


@pytest_twisted.ensureDeferred
async def test_the_directory_lists_the_new_room(server):
    alice = await server.login("alice")
    old = await alice.create_room(visibility="public")
    new = await upgrade(alice, old, "11")
    assert [room["room_id"] for room in (await alice.get("/publicRooms")).json["chunk"]] == [new]


@pytest_twisted.ensureDeferred
async def test_an_upgrader_without_the_right_to_change_levels(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    old = await alice.create_room(invite=[bob.user_id])
    await bob.join(old)
    levels = {**content(server, old, "m.room.power_levels"), "users": {alice.user_id: 100, bob.user_id: 50}}
    levels["events"] = {**levels["events"], "m.room.tombstone": 50}
    await alice.set_state(old, "m.room.power_levels", levels)
    new = await upgrade(bob, old, "11")
    assert content(server, old, "m.room.tombstone")["replacement_room"] == new
    assert content(server, old, "m.room.power_levels") == levels
    assert content(server, new, "m.room.power_levels")["users"] == levels["users"]


@pytest_twisted.ensureDeferred
async def test_a_room_without_power_levels(server):
    """Only rooms that others made by hand have none; their creator rules them all the same."""
    alice = await server.login("alice")
    daemon = server.daemon

    def job(tx):
        from heichat_appliance.protocol.roomversions import ROOM_VERSIONS

        view = daemon.timeline.create_room(tx, ROOM_VERSIONS["11"], "!bare:chat.test", alice.user_id, {})
        daemon.membership.add_creator(tx, view, alice.user_id)
        return view.room_id

    old = await daemon.engine.write(job)
    new = await upgrade(alice, old, "10")
    assert content(server, new, "m.room.power_levels")["users"] == {alice.user_id: 100}
