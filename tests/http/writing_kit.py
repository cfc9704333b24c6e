"""For tests of what changes rooms: a server, looking into rooms past the reading API, refusals, people of every standing."""

from __future__ import annotations

from typing import Any

from heichat_appliance.db.engine import FOREVER
from heichat_appliance.protocol import pdu
from heichat_appliance.protocol.pdu import Pdu
from heichat_appliance.protocol.roomversions import ROOM_VERSIONS
from heichat_appliance.store import events, state
from tests.appliance import SERVER_NAME, Actor, Answer, Appliance, q

VERSIONS = tuple(ROOM_VERSIONS)


def user(name: str) -> str:
    """The user ID of a demo person."""
    return f"@{name}:{SERVER_NAME}"


def timeline(server: Appliance, room_id: str) -> list[Pdu]:
    """All events of a room, in order."""
    read = server.daemon.engine.read
    version = ROOM_VERSIONS[state.room_version(read, room_id)]
    return [
        pdu.load(version, row.event_id, row.pdu, row.room_id)
        for row in events.in_room(read, room_id, 0, FOREVER - 1, 10_000)
    ]


def content(server: Appliance, room_id: str, type: str, state_key: str = "") -> dict[str, Any] | None:
    """The content of a piece of state, None if it is not set."""
    found = [event for event in timeline(server, room_id) if (event.type, event.state_key) == (type, state_key)]
    return found[-1].content if found else None


def member(server: Appliance, room_id: str, name: str) -> dict[str, Any] | None:
    """The content of a person's member event."""
    return content(server, room_id, "m.room.member", user(name))


def membership(server: Appliance, room_id: str, name: str) -> str | None:
    """A person's membership as the table has it."""
    found = state.membership_now(server.daemon.engine.read, user(name), room_id)
    return found.membership if found else None


def rooms(server: Appliance) -> int:
    """How many rooms there are."""
    return server.daemon.engine.read("SELECT count(*) FROM rooms").fetchone()[0]


def total(server: Appliance) -> int:
    """How many events there are in all rooms."""
    return server.daemon.engine.read("SELECT count(*) FROM events").fetchone()[0]


def refused(answer: Answer, status: int, errcode: str, *words: str) -> None:
    """The answer is this error, and its sentence has these words."""
    assert (answer.status, answer.errcode) == (status, errcode), answer.json
    for word in words:
        assert word in answer.json["error"], (word, answer.json["error"])


async def people(server: Appliance, **room_options: Any) -> tuple[str, dict[str, Actor]]:
    """A room by alice in which bob is joined, charlotte invited, david has left, emine is banned; frieda is a stranger."""
    names = ("alice", "bob", "charlotte", "david", "emine", "frieda")
    actors = {name: await server.login(name) for name in names}
    alice = actors["alice"]
    room_id = await alice.create_room(**room_options)
    for name in ("bob", "charlotte", "david", "emine"):
        await alice.invite(room_id, user(name))
        if name != "charlotte":
            await actors[name].join(room_id)
    await actors["david"].leave(room_id)
    alice.ok(await alice.post(f"/rooms/{q(room_id)}/ban", {"user_id": user("emine"), "reason": "noise"}))
    return room_id, actors


#: Those of `people` who are not in the room, in any way.
OUTSIDE = ("charlotte", "david", "emine", "frieda")
