"""Syncs in random order against what the database holds: nothing is missed and nothing doubled, whatever is kept in memory.

What is kept (`services.gap.Recent`) is made tiny, so that nearly every walk leaves it and comes back.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from heichat_appliance.services import gap
from heichat_appliance.services.members import Members
from heichat_appliance.services.unread import ZERO, Unread
from heichat_appliance.store import events, receipts
from tests.appliance import Actor, Appliance, q
from tests.http.room_kit import QUIET, make_room, say

NAMES = ("alice", "bob", "charlotte")
STEPS = 120
LAZY = {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 100}}}


@pytest.fixture(params=[(1, 1), (4, 3), (40, 1_000), (5_000, 2_000)])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """How much is kept in memory."""
    kept, behind = request.param
    monkeypatch.setattr(gap, "MAX_KEPT", kept)
    monkeypatch.setattr(gap, "MAX_BEHIND", behind)
    yield


@dataclass
class Walk:
    """A random walk over one server."""

    server: Appliance
    people: dict[str, Actor]
    rooms: list[str]
    dice: random.Random
    said: dict[str, list[str]] = field(default_factory=dict)
    tokens: dict[str, list[str]] = field(default_factory=dict)

    async def step(self) -> None:
        name, room_id = self.dice.choice(NAMES), self.dice.choice(self.rooms)
        what = self.dice.choices(("say", "send", "redact", "read", "type", "sync"), (4, 3, 1, 2, 1, 6))[0]
        await getattr(self, what)(name, room_id)

    async def say(self, name: str, room_id: str) -> None:
        self.said.setdefault(room_id, []).append(await say(self.server, room_id, name))

    async def send(self, name: str, room_id: str) -> None:
        self.said.setdefault(room_id, []).append(await self.people[name].send(room_id, "sent"))

    async def redact(self, name: str, room_id: str) -> None:
        if self.said.get(room_id):
            event_id = self.dice.choice(self.said[room_id][-5:])
            path = f"/rooms/{q(room_id)}/redact/{q(event_id)}/{self.dice.random()}"
            await self.people[name].put(path, {})  # of others: refused

    async def read(self, name: str, room_id: str) -> None:
        if self.said.get(room_id):
            event_id = self.dice.choice(self.said[room_id][-5:])
            await self.people[name].post(f"/rooms/{q(room_id)}/receipt/m.read/{q(event_id)}")

    async def type(self, name: str, room_id: str) -> None:
        actor = self.people[name]
        typing = {"typing": self.dice.random() < 0.5, "timeout": 30_000}
        await actor.put(f"/rooms/{q(room_id)}/typing/{q(actor.user_id)}", typing)

    async def sync(self, name: str, _: str) -> None:
        """From the last answer's token, or from an older one, as after a lost answer."""
        actor, tokens = self.people[name], self.tokens.setdefault(name, [])
        since = self.dice.choice([*tokens[-4:], *tokens[-1:] * 4]) if tokens else None
        if since is None:
            tokens.append((await actor.sync(filter=LAZY))["next_batch"])
            return
        answer = actor.ok(await actor.get("/sync", since=since, filter=json.dumps(LAZY), timeout=0))
        tokens.append(answer["next_batch"])
        self.check(actor, answer, _position(since), _position(answer["next_batch"]))

    def check(self, actor: Actor, answer: dict[str, Any], after: int, upto: int) -> None:
        """The answer has what lies between the two positions, no more and no less."""
        read, engine = self.server.daemon.engine.read, self.server.daemon.engine
        joined = answer.get("rooms", {}).get("join", {})
        for room_id in self.rooms:
            section = joined.get(room_id, {})
            expected = [] if after == upto else events.in_room(read, room_id, after, upto, 1000)
            timeline = section.get("timeline", {"events": []})["events"]
            assert [event["event_id"] for event in timeline] == [event.event_id for event in expected]
            for shown, stored in zip(timeline, expected, strict=True):
                assert ("body" in shown["content"]) == (stored.type == "m.room.message" and not stored.redacted_by)
                is_own = stored.sender == actor.user_id and stored.device_id == actor.device_id
                assert ("transaction_id" in shown["unsigned"]) == is_own
            assert _receipts(section) == {
                (row.event_id, row.user_id) for row in receipts.changed(read, room_id, after, upto)
            }
            if "unread_notifications" in section:
                counted = Unread(engine, Members(engine)).counts(actor.user_id, room_id, upto)
                assert section["unread_notifications"]["notification_count"] == counted.get("main", ZERO).notify


def _position(token: str) -> int:
    return int(token[1:].partition(".")[0])


def _receipts(section: dict[str, Any]) -> set[tuple[str, str]]:
    found = [event for event in section.get("ephemeral", {"events": []})["events"] if event["type"] == "m.receipt"]
    return {
        (event_id, user_id)
        for event in found
        for event_id, by_type in event["content"].items()
        for user_id in by_type.get("m.read", {})
    }


@pytest.mark.parametrize("seed", range(6))
@pytest_twisted.ensureDeferred
async def test_every_sync_has_what_happened_since(tmp_path: Path, memory: None, seed: int) -> None:
    server = await Appliance.start(tmp_path, config=QUIET)
    people = {name: await server.login(name) for name in NAMES}
    rooms = [await make_room(server, name, **dict.fromkeys(set(NAMES) - {name}, "join")) for name in NAMES]
    walk = Walk(server, people, rooms, random.Random(seed))
    for _ in range(STEPS):
        await walk.step()
    await server.stop()
