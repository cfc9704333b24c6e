"""What of whole rooms is shared between people (`services.whole_rooms`) against what is made for one person alone: nobody
gets what is another's, and nothing is told that has changed since."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_twisted

from heichat_appliance.protocol.filters import parse_filter
from heichat_appliance.services import unread, whole_rooms
from heichat_appliance.services.bundles import Bundles
from heichat_appliance.services.render import Renderer, Viewer
from heichat_appliance.services.room_parts import RoomParts
from heichat_appliance.services.sync_rooms import Query, RoomSections
from heichat_appliance.services.unread import Unread
from heichat_appliance.store import account_data
from tests.appliance import Actor, Appliance, ManualClock, q
from tests.http.room_kit import QUIET, make_room, say, set_member

NAMES = ("alice", "bob", "charlotte", "david")
STEPS = 120
ACTIONS = {
    "say": 4, "send": 4, "relate": 4, "redact": 3, "read": 3, "set_state": 2, "rename": 1, "move": 2, "ignore": 1,
    "tag": 1, "type": 1, "wait": 1,
}  # fmt: skip


@pytest.fixture(params=["roomy", "tight", "no horizon", "kept counts"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Counts of a person are not kept, so that they are made anew, or are; little room; few events counted."""
    if request.param != "kept counts":
        monkeypatch.setattr(unread, "MAX_COUNTS", 0)
    if request.param == "tight":
        monkeypatch.setattr(whole_rooms, "MAX_KEPT", 3)
        monkeypatch.setattr(unread, "MAX_TALLIES", 1)
    elif request.param == "no horizon":
        monkeypatch.setattr(unread, "MAX_LOOKED_AT", 5)
    yield


@dataclass
class Walk:
    """A random walk over one server; the same person may be there with two devices."""

    server: Appliance
    actors: list[Actor]
    rooms: list[str]
    dice: random.Random
    events: dict[str, list[str]] = field(default_factory=dict)

    async def step(self) -> None:
        actor, room_id = self.dice.choice(self.actors), self.dice.choice(self.rooms)
        what = self.dice.choices(list(ACTIONS), list(ACTIONS.values()))[0]
        await getattr(self, what)(actor, room_id)

    def some_event(self, room_id: str) -> str:
        return self.dice.choice(self.events[room_id][-6:])

    async def say(self, actor: Actor, room_id: str) -> None:
        event_id = await say(self.server, room_id, "alice", "100 % of it", **self.mention(actor))
        self.events[room_id].append(event_id)

    def mention(self, actor: Actor) -> dict[str, Any]:
        mentions = self.dice.choice([None, {"user_ids": [actor.user_id]}, {"room": True}])
        return {} if mentions is None else {"m.mentions": mentions}

    async def send(self, actor: Actor, room_id: str) -> None:
        content = {"msgtype": "m.text", "body": "sent", **self.mention(actor)}
        await self.put(actor, room_id, f"send/m.room.message/{self.dice.random()}", content)

    async def relate(self, actor: Actor, room_id: str) -> None:
        kind = self.dice.choice(("m.replace", "m.thread", "m.reference", "m.annotation"))
        content: dict[str, Any] = {"m.relates_to": {"rel_type": kind, "event_id": self.some_event(room_id)}}
        type = "m.room.message"
        if kind == "m.annotation":
            content["m.relates_to"]["key"], type = str(self.dice.random()), "m.reaction"
        else:
            content |= {"msgtype": "m.text", "body": "related"}
        if kind == "m.replace":
            content["m.new_content"] = {"msgtype": "m.text", "body": "edited"}
        await self.put(actor, room_id, f"send/{type}/{self.dice.random()}", content)

    async def redact(self, actor: Actor, room_id: str) -> None:
        await self.put(actor, room_id, f"redact/{q(self.some_event(room_id))}/{self.dice.random()}", {})

    async def set_state(self, actor: Actor, room_id: str) -> None:
        what = self.dice.choice(
            (("m.room.name", "name", ""), ("m.room.name", "name", "N"), ("m.room.topic", "topic", "%d"),
             ("m.room.history_visibility", "history_visibility", self.dice.choice(("joined", "shared"))))
        )  # fmt: skip
        await self.put(self.actors[0], room_id, f"state/{what[0]}/", {what[1]: what[2]})

    async def rename(self, actor: Actor, room_id: str) -> None:
        content = {"membership": "join", "displayname": str(self.dice.random())}
        await self.put(actor, room_id, f"state/m.room.member/{q(actor.user_id)}", content)

    async def move(self, actor: Actor, room_id: str) -> None:
        for membership, sender in self.dice.choice(
            ((("leave", "david"),), (("invite", "alice"), ("join", "david")), (("ban", "alice"), ("leave", "alice")))
        ):
            try:
                await set_member(self.server, room_id, "david", membership, sender)
            except Exception:  # not from this membership
                return

    async def read(self, actor: Actor, room_id: str) -> None:
        type = self.dice.choice(("m.read", "m.read", "m.read.private"))
        body = self.dice.choice(({}, {"thread_id": "main"}))
        await actor.post(f"/rooms/{q(room_id)}/receipt/{type}/{q(self.some_event(room_id))}", body)

    async def ignore(self, actor: Actor, room_id: str) -> None:
        people = self.dice.choice(({}, {self.dice.choice(self.actors).user_id: {}}))
        await actor.put(f"/user/{q(actor.user_id)}/account_data/m.ignored_user_list", {"ignored_users": people})

    async def tag(self, actor: Actor, room_id: str) -> None:
        await actor.put(f"/user/{q(actor.user_id)}/rooms/{q(room_id)}/tags/u.{self.dice.random()}", {})

    async def type(self, actor: Actor, room_id: str) -> None:
        await actor.put(f"/rooms/{q(room_id)}/typing/{q(actor.user_id)}", {"typing": True, "timeout": 30_000})

    async def wait(self, actor: Actor, room_id: str) -> None:
        self.server.daemon.clock.advance(self.dice.random() * 100)

    async def put(self, actor: Actor, room_id: str, path: str, content: dict[str, Any]) -> None:
        answer = await actor.put(f"/rooms/{q(room_id)}/{path}", content)
        if answer.status == 200:
            self.events[room_id].append(answer.json["event_id"])

    def check(self) -> None:
        """What an actor is told of their rooms is the same as without sharing."""
        daemon, dice = self.server.daemon, self.dice
        actor = dice.choice(self.actors)
        timeline = {"limit": dice.choice((1, 3, 20)), "unread_thread_notifications": dice.random() < 0.5}
        wanted = parse_filter({"room": {"timeline": timeline, "state": {"lazy_load_members": True}}})
        section = dice.choice((b"state", b"state_after"))
        upto = daemon.engine.position
        standing = daemon.standings.at(actor.user_id, upto)
        viewer = Viewer(actor.user_id, actor.device_id)
        query = Query(viewer, None, wanted, "", state_section=section, ignored=standing.ignored)
        start = daemon.room_sections.begin(actor.user_id, standing.joined, upto)
        for room_id, joined_at in standing.joined.items():
            data = account_data.in_room(daemon.engine.read, actor.user_id, room_id)
            shared = daemon.room_sections.whole(query, room_id, start, upto, joined_at, data)
            alone = alone_sections(daemon).joined(query, room_id, None, upto, joined_at, data)
            compare(orjson.loads(b"".join(shared)), orjson.loads(b"".join(alone)), section.decode())


def alone_sections(daemon: Any) -> RoomSections:
    """What remembers nothing."""
    renderer = Renderer(daemon.engine)
    bundles = Bundles(daemon.engine, daemon.clock, renderer)
    parts = RoomParts(daemon.engine, daemon.clock, renderer, bundles)
    return RoomSections(daemon.engine, parts, Unread(daemon.engine, daemon.members), daemon.typing)


def compare(shared: dict[str, Any], alone: dict[str, Any], section: str) -> None:
    """They are equal, but the shared one may have a member more, who is somebody's hero or ignored."""
    states = [{event["event_id"]: event for event in one.pop(section)["events"]} for one in (shared, alone)]
    for one in (shared, alone):
        for event in one["ephemeral"]["events"]:
            if event["type"] == "m.typing":
                event["content"]["user_ids"].sort()
    assert shared == alone
    more = [event for event_id, event in states[0].items() if event_id not in states[1]]
    assert {event_id: states[0].get(event_id) for event_id in states[1]} == states[1]
    assert all(event["type"] == "m.room.member" for event in more)


@pytest.mark.parametrize("seed", range(3))
@pytest_twisted.ensureDeferred
async def test_sharing_changes_nothing(tmp_path: Path, memory: None, seed: int) -> None:
    server = await Appliance.start(tmp_path, config=QUIET, clock=ManualClock())
    actors = [await server.login(name) for name in (*NAMES, "alice")]
    rooms = [await make_room(server, "alice", **dict.fromkeys(NAMES[1:], "join")) for _ in range(3)]
    walk = Walk(server, actors, rooms, random.Random(seed))
    walk.events = {room_id: [await say(server, room_id, "alice")] for room_id in rooms}
    for _ in range(STEPS):
        await walk.step()
        for _ in range(3):
            walk.check()
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_who_comes_second_costs_few_statements(tmp_path: Path) -> None:
    server = await Appliance.start(tmp_path, config=QUIET)
    people = [await server.login(name) for name in NAMES]
    rooms = [await make_room(server, "alice", **dict.fromkeys(NAMES[1:], "join")) for _ in range(10)]
    for room_id in rooms:
        await say(server, room_id, "alice")
    lazy = {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 2}}}
    costs = []
    for person in people:
        statements: list[str] = []
        server.daemon.engine._reader.set_trace_callback(statements.append)
        await person.sync(filter=lazy)
        server.daemon.engine._reader.set_trace_callback(None)
        costs.append(len(statements) / len(rooms))
    assert costs[-1] <= 4 < costs[0]
    await server.stop()
