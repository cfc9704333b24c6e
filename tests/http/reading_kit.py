"""For tests of what reads rooms: a room with people of every standing, short names for the endpoints, refusals."""

from __future__ import annotations

import json
from typing import Any

from tests.appliance import Actor, Answer, Appliance, ManualClock, q
from tests.http.room_kit import make_room, say, set_member

V1 = "/_matrix/client/v1"
#: Names of the people of `society`.
INSIDE = ("alice", "bob")
OUTSIDE = ("charlotte", "frieda")  # invited, stranger
GONE = ("david", "emine")  # left, banned


class TickingClock(ManualClock):
    """A clock on which no two events have the same time: of two edits with the same, either may be the latest."""

    def now_ms(self) -> int:
        self.now += 1
        return self.now


class Society:
    """A room by alice with everybody: bob joined, charlotte invited, david left, emine banned, frieda outside.

    `before` is the ID of a message that all but charlotte and frieda could see, `after` one that came when david and emine
    had gone.
    """

    def __init__(self, server: Appliance, room: str, people: dict[str, Actor], before: str, after: str) -> None:
        self.server = server
        self.room = room
        self.path = f"/rooms/{q(room)}"
        self.v1 = f"{V1}/rooms/{q(room)}"
        self.people = people
        self.before = before
        self.after = after

    def __getitem__(self, name: str) -> Actor:
        return self.people[name]


async def society(server: Appliance, visibility: str = "shared") -> Society:
    """See Society."""
    room = await make_room(server, "alice", visibility, bob="join", charlotte="invite", david="join", emine="join")
    before = await say(server, room, "alice", "before")
    await set_member(server, room, "david", "leave", "david")
    await set_member(server, room, "emine", "ban", "alice")
    after = await say(server, room, "alice", "after")
    people = {name: await server.login(name) for name in (*INSIDE, *OUTSIDE, *GONE)}
    return Society(server, room, people, before, after)


async def messages(actor: Actor, room: str, dir: str = "b", **params: Any) -> dict[str, Any]:
    """A page of messages; `filter` may be an object."""
    if "filter" in params:
        params["filter"] = json.dumps(params["filter"])
    if "from_" in params:
        params["from"] = params.pop("from_")
    return actor.ok(await actor.get(f"/rooms/{q(room)}/messages", dir=dir, **params))


async def all_pages(actor: Actor, room: str, dir: str = "b", limit: int = 4, **params: Any) -> list[dict[str, Any]]:
    """All pages, one after the other."""
    pages = [await messages(actor, room, dir, limit=limit, **params)]
    while "end" in pages[-1]:
        pages.append(await messages(actor, room, dir, limit=limit, from_=pages[-1]["end"], **params))
    return pages


def bodies(events: list[dict[str, Any]]) -> list[str]:
    """The bodies of messages; other events are left out."""
    return [event["content"]["body"] for event in events if "body" in event["content"]]


def ids(events: list[dict[str, Any]]) -> list[str]:
    """Event IDs."""
    return [event["event_id"] for event in events]


def refused(answer: Answer, status: int, errcode: str, *words: str) -> None:
    """The answer is this error, and its sentence has these words."""
    assert (answer.status, answer.errcode) == (status, errcode), (answer.status, answer.json)
    for word in words:
        assert word in answer.json["error"], answer.json
