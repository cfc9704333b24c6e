"""Random people do random things in rooms of all versions, some of them undone in the middle. Whatever came of it: the
database is whole, and what the writer keeps in memory is what the database says, now and after a restart."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import pytest_twisted

from heichat_appliance.errors import MatrixError
from heichat_appliance.protocol.roomversions import ROOM_VERSIONS
from heichat_appliance.services.rooms import InitialState, NewRoom
from heichat_appliance.store import events, state
from tests.appliance import Appliance
from tests.http.writing_kit import user

NAMES = ("alice", "bob", "charlotte", "david", "emine")
STEPS = 400
#: Nothing here is about power failures.
FAST = {"storage": {"durability": "normal"}}


class Undone(Exception):
    """Raised in the middle of a job."""


class Mob:
    """People who act at random, and what came of it."""

    def __init__(self, server: Appliance, seed: int) -> None:
        self.server = server
        self.daemon = server.daemon
        self.random = random.Random(seed)
        self.rooms: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self.count = 0

    def someone(self) -> str:
        return user(self.random.choice(NAMES))

    def room(self, who: str | None = None) -> str:
        """A room; for `who`, mostly one that they are in."""
        joined = state.rooms_of_user_now(self.daemon.engine.read, who) if who else []
        return self.random.choice(joined if joined and self.random.random() < 0.7 else self.rooms)

    def event(self, room_id: str) -> str:
        read = self.daemon.engine.read
        last = events.in_room(read, room_id, 0, 2**62, 15, backwards=True)
        return self.random.choice(last).event_id

    async def create(self, who: str) -> None:
        rules = self.random.choice(["invite", "knock", "restricted", "public"])
        allow = [{"type": "m.room_membership", "room_id": self.room()}] if self.rooms else []
        room = NewRoom(
            room_version=self.random.choice(list(ROOM_VERSIONS)),
            preset=self.random.choice(["private_chat", "trusted_private_chat", None]),
            invite=[name for name in {self.someone(), self.someone()} if name != who],
            initial_state=[InitialState("m.room.join_rules", {"join_rule": rules, "allow": allow})],
        )
        self.rooms.append(await self.daemon.rooms.create(who, room))

    async def member(self, who: str) -> None:
        membership, room_id, target = self.daemon.membership, self.room(who), self.someone()
        act = self.random.choice(
            ["join", "join", "leave", "knock", "invite", "invite", "kick", "ban", "unban", "put", "forget"]
        )
        if act in ("join", "leave", "knock", "forget"):
            await getattr(membership, act)(who, room_id)
        elif act == "put":
            content = {
                "membership": self.random.choice(["join", "leave", "invite", "ban", "knock"]),
                "displayname": "x",
            }
            await self.daemon.sender.state(who, room_id, "m.room.member", target, content)
        else:
            await getattr(membership, act)(who, room_id, target)

    async def message(self, who: str) -> None:
        room_id = self.room(who)
        content = {"body": "x"}
        if self.random.random() < 0.4:
            rel_type = self.random.choice(["m.thread", "m.annotation", "m.replace"])
            content["m.relates_to"] = {"rel_type": rel_type, "event_id": self.event(room_id), "key": "k"}
        txn = str(self.random.randrange(200))
        await self.daemon.sender.message(who, "D", room_id, "m.room.message", txn, content)

    async def redact(self, who: str) -> None:
        room_id = self.room(who)
        await self.daemon.sender.redact(who, "D", room_id, self.event(room_id), str(self.random.randrange(200)), {})

    async def state(self, who: str) -> None:
        room_id = self.room(who)
        type, content = self.random.choice(
            [
                ("m.room.name", {"name": str(self.random.randrange(3))}),
                ("m.room.join_rules", {"join_rule": self.random.choice(["invite", "knock", "public"])}),
                ("m.room.power_levels", {"users": {who: 100, self.someone(): self.random.choice([0, 50, 100])}}),
                ("m.room.history_visibility", {"history_visibility": "joined"}),
            ]
        )
        await self.daemon.sender.state(who, room_id, type, "", content)

    async def upgrade(self, who: str) -> None:
        new_version = self.random.choice(list(ROOM_VERSIONS))
        self.rooms.append(await self.daemon.upgrade.upgrade(who, self.room(who), new_version, [self.someone()]))

    async def undo(self, who: str) -> None:
        """A job that changes a room, its levels too, and then fails."""
        timeline, room_id = self.daemon.timeline, self.room(who)

        def job(tx):
            view = timeline.member_view(tx, room_id, who)
            for type, content in (("m.room.name", {"name": "never"}), ("m.room.power_levels", {"users_default": -5})):
                timeline.append(tx, view, type=type, sender=who, state_key="", content=content)
            raise Undone

        await self.daemon.engine.write(job)

    async def act(self) -> None:
        actions = (
            [self.member] * 8 + [self.message] * 6 + [self.state] * 3 + [self.redact] * 2 + [self.create, self.undo]
        )
        action = self.create if not self.rooms else self.random.choice(actions)
        if self.rooms and self.random.random() < 0.01:
            action = self.upgrade
        self.count += 1
        try:
            await action(self.someone())
        except (MatrixError, Undone) as error:
            assert not isinstance(error, MatrixError) or error.status < 500, error
            self.outcomes[f"{action.__name__} refused"] += 1
        else:
            self.outcomes[action.__name__] += 1

    def check_views(self) -> None:
        """What is kept of each room is what the database says."""
        read = self.daemon.engine.read
        for room_id, view in self.daemon.timeline._views.items():
            assert (view.last_event_id, view.depth) == events.last_of_room(read, room_id)
            for key, kept in view._state.items():
                row = state.current(read, room_id, *key)
                assert (kept and (kept.event_id, kept.json.decode())) == (row and (row.event_id, row.pdu)), (
                    room_id,
                    key,
                )


@pytest.mark.parametrize("seed", range(3))
@pytest_twisted.ensureDeferred
async def test_whatever_people_do_the_database_is_whole(tmp_path, seed):
    server = await Appliance.start(tmp_path, plugins=("demo_directory",), config=FAST)
    for name in NAMES:
        await server.login(name)
    mob = Mob(server, seed)
    for _ in range(STEPS):
        await mob.act()
    mob.check_views()
    did = {name for name in mob.outcomes if not name.endswith("refused")}
    assert did >= {"create", "member", "message", "state", "redact"} and mob.outcomes["undo refused"] > 0, mob.outcomes
    assert sum(mob.outcomes[name] for name in did) > STEPS / 4, mob.outcomes
    await server.stop()
    server = await Appliance.start(tmp_path, plugins=("demo_directory",), config=FAST)
    mob.server, mob.daemon = server, server.daemon
    for _ in range(50):
        await mob.act()
    mob.check_views()
    await server.stop()
