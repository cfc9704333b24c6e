"""Counting what was judged when it was sent gives what judging every event again gives."""

from __future__ import annotations

import random

import pytest
import pytest_twisted

from heichat_appliance.services.members import Members
from heichat_appliance.services.unread import Unread
from tests.appliance import Appliance, q

NAMES = ("alice", "bob", "emine")


class Judging(Unread):
    """Looks at every event, as for people who have changed their push rules."""

    def rules(self, user_id):
        return "changed", super().rules(user_id)[1]


class Talk:
    """A room of three, and what they may do in it."""

    def __init__(self, dice: random.Random, actors, room_id: str) -> None:
        self.dice, self.actors, self.room_id = dice, actors, room_id
        self.sent: list[tuple[str, str]] = []  # event ID and the thread that a receipt for it names
        self.number = 0

    async def step(self) -> None:
        actor = self.dice.choice(self.actors)
        await self.dice.choices((self.say, self.read, self.redact), (8, 3, 1))[0](actor)

    async def say(self, actor) -> None:
        content = {"msgtype": self.dice.choice(("m.text", "m.text", "m.notice")), "body": "x"}
        # Their own message counts as read if it notifies: by the stored ones anybody, by the others its sender.
        people = [self.dice.choice(self.actors).user_id, actor.user_id]
        mentions = self.dice.choice(({}, {}, {"user_ids": people}, {"room": True}))
        if mentions:
            content["m.mentions"] = mentions
        roots = [event_id for event_id, thread in self.sent if thread == "main"][:2]
        thread = self.dice.choice(roots) if roots and self.dice.random() < 0.3 else "main"
        if thread != "main":
            content["m.relates_to"] = {"rel_type": "m.thread", "event_id": thread}
        # The other type notifies nobody but those who are mentioned.
        type = self.dice.choice(("m.room.message", "m.room.message", "org.example.survey"))
        self.number += 1
        path = f"/rooms/{q(self.room_id)}/send/{type}/{self.number}"
        self.sent.append((actor.ok(await actor.put(path, content))["event_id"], thread))

    async def read(self, actor) -> None:
        if self.sent:
            event_id, thread = self.dice.choice(self.sent)
            body = self.dice.choice(({}, {"thread_id": thread}))
            actor.ok(await actor.post(f"/rooms/{q(self.room_id)}/receipt/m.read/{q(event_id)}", body))

    async def redact(self, actor) -> None:
        if self.sent:
            event_id = self.dice.choice(self.sent)[0]
            self.number += 1
            await actor.put(f"/rooms/{q(self.room_id)}/redact/{q(event_id)}/{self.number}", {})


@pytest.mark.parametrize("seed", range(6))
@pytest_twisted.ensureDeferred
async def test_stored_counts_are_those_of_judging_again(tmp_path, seed):
    server = await Appliance.start(tmp_path, plugins=("demo_directory",))
    actors = [await server.login(name) for name in NAMES]
    room_id = await actors[0].create_room(preset="public_chat")
    for actor in actors[1:]:
        await actor.join(room_id)
    talk, engine, highlights, threads = Talk(random.Random(seed), actors, room_id), server.daemon.engine, 0, 0
    for _ in range(50):
        await talk.step()
        for actor in actors:
            found = Unread(engine, Members(engine)).counts(actor.user_id, room_id, engine.position)
            assert found == Judging(engine, Members(engine)).counts(actor.user_id, room_id, engine.position), (
                talk.number,
                actor.user_id,
            )
            highlights += sum(count.highlight for count in found.values())
            threads += len(found.keys() - {"main"})
    assert highlights and threads  # else nothing was tried
    await server.stop()
