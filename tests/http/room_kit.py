"""Rooms for tests whose subject is something else: made in one job, with people of every membership."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from heichat_appliance.db.engine import Transaction
from heichat_appliance.protocol.roomversions import ROOM_VERSIONS
from heichat_appliance.store.events import StoredEvent
from tests.appliance import SERVER_NAME, Actor, Appliance

#: A server on which nobody's coming and going is told, so that a sync has what the test is about.
QUIET = {"server": {"presence": "no"}}
#: What a person does after the invitation to end up with a membership.
_STEPS = {"invite": (), "join": ("join",), "leave": ("join", "leave"), "ban": ("join", "ban")}


def user(name: str) -> str:
    """The user ID of a demo person."""
    return f"@{name}:{SERVER_NAME}"


async def make_room(server: Appliance, creator: str, visibility: str = "shared", **members: str) -> str:
    """A room by `creator`; `members` maps names to invite, join, leave or ban. The room ID."""
    timeline, me = server.daemon.timeline, user(creator)

    def job(tx: Transaction) -> str:
        view = timeline.create_room(tx, ROOM_VERSIONS["11"], f"!{creator}{tx.next_position()}:{SERVER_NAME}", me, {})

        def member(name: str, membership: str, sender: str) -> None:
            timeline.append(
                tx, view, type="m.room.member", sender=user(sender), state_key=user(name),
                content={"membership": membership},
            )  # fmt: skip

        member(creator, "join", creator)
        timeline.append(
            tx, view, type="m.room.history_visibility", sender=me, state_key="",
            content={"history_visibility": visibility},
        )  # fmt: skip
        for name, membership in members.items():
            member(name, "invite", creator)
            for step in _STEPS[membership]:
                member(name, step, creator if step == "ban" else name)
        return view.room_id

    return await server.daemon.engine.write(job)


async def say(server: Appliance, room_id: str, name: str, body: str = "hello", **content: Any) -> str:
    """A message; its event ID."""

    def job(tx: Transaction) -> StoredEvent:
        timeline = server.daemon.timeline
        return timeline.append(
            tx, timeline.view(tx, room_id), type="m.room.message", sender=user(name),
            content={"msgtype": "m.text", "body": body, **content},
        )  # fmt: skip

    return (await server.daemon.engine.write(job)).event_id


async def set_member(server: Appliance, room_id: str, name: str, membership: str, sender: str) -> None:
    """A change of membership."""

    def job(tx: Transaction) -> None:
        timeline = server.daemon.timeline
        timeline.append(
            tx, timeline.view(tx, room_id), type="m.room.member", sender=user(sender), state_key=user(name),
            content={"membership": membership},
        )  # fmt: skip

    await server.daemon.engine.write(job)


async def long_poll(server: Appliance, actor: Actor) -> list[Deferred[dict[str, Any]]]:
    """A sync of the actor that is waiting at the server when this returns; `await found[0]` gives its answer.

    (In a list, since a Deferred that a coroutine returns would be waited for.)
    """
    before = server.daemon.notifier.waiting
    answer = Deferred.fromCoroutine(actor.sync(timeout=20_000))
    while server.daemon.notifier.waiting == before:
        assert not answer.called, f"there was something to tell already: {answer.result}"
        await deferLater(reactor, 0.001)
    return [answer]
