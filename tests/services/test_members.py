"""Who is in a room, as it is kept in memory."""

from __future__ import annotations

import pytest_twisted

from heichat_appliance.services import members
from heichat_appliance.services.members import Members
from tests.appliance import Appliance


@pytest_twisted.ensureDeferred
async def test_whoever_comes_or_goes_is_noticed(tmp_path):
    server = await Appliance.start(tmp_path, plugins=("demo_directory",))
    alice, bob, emine = [await server.login(name) for name in ("alice", "bob", "emine")]
    kept = server.daemon.members
    room_id = await alice.create_room(preset="public_chat")
    assert kept.of(room_id) == {alice.user_id}
    await bob.join(room_id)
    assert kept.of(room_id) == {alice.user_id, bob.user_id}
    await alice.post(f"/rooms/{room_id}/invite", {"user_id": emine.user_id})
    assert kept.of(room_id) == {alice.user_id, bob.user_id}
    await emine.join(room_id)
    await alice.post(f"/rooms/{room_id}/kick", {"user_id": bob.user_id})
    assert kept.of(room_id) == {alice.user_id, emine.user_id}
    await emine.post(f"/rooms/{room_id}/leave")
    assert kept.of(room_id) == {alice.user_id}


@pytest_twisted.ensureDeferred
async def test_large_rooms_are_not_read_for_small_ones(tmp_path):
    server = await Appliance.start(tmp_path, plugins=("demo_directory",))
    alice, bob = [await server.login(name) for name in ("alice", "bob")]
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    kept = Members(server.daemon.engine)
    for _ in range(2):  # the second time the room is kept
        assert kept.of_small(room_id, 1) == frozenset()
        assert kept.of_small(room_id, 2) == {alice.user_id, bob.user_id}


@pytest_twisted.ensureDeferred
async def test_no_more_are_kept_than_there_is_room_for(tmp_path, monkeypatch):
    server = await Appliance.start(tmp_path, plugins=("demo_directory",))
    alice, bob = [await server.login(name) for name in ("alice", "bob")]
    rooms = [await alice.create_room(preset="public_chat") for _ in range(4)]
    await bob.join(rooms[3])
    kept = Members(server.daemon.engine)
    monkeypatch.setattr(members, "MAX_KEPT", 3)
    sizes = [len(kept.of(room_id)) for room_id in rooms]
    assert sizes == [1, 1, 1, 2]
    assert list(kept._kept) == rooms[2:] and kept._size == 3
    kept.committed(0, {rooms[3]}, {bob.user_id})
    assert list(kept._kept) == [rooms[2]] and kept._size == 1
