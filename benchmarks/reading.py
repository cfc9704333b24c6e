"""What reading a server with much history costs: pages, threads, members, and searches over 200,000 messages.

    python -m benchmarks.reading [--messages 200000]

CPU of the whole process (readers' threads too), without HTTP, which adds what any request costs. 50 rooms of 100 people.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from heichat_appliance.db.engine import Transaction
from heichat_appliance.protocol.filters import parse_room_event_filter
from heichat_appliance.protocol.roomversions import ROOM_VERSIONS
from heichat_appliance.services.history import Page
from heichat_appliance.services.relations import Wanted
from heichat_appliance.services.render import Viewer
from heichat_appliance.services.search import Context, Criteria
from tests.appliance import SERVER_NAME, Appliance

from .words import WORDS, sentences

ROOMS, MEMBERS, ROOTS = 50, 100, 200


def user(number: int) -> str:
    """Alice is the first of the members."""
    return f"@m{number}:{SERVER_NAME}" if number else f"@alice:{SERVER_NAME}"


async def fill(daemon: Any, messages: int) -> tuple[list[str], list[str]]:
    """The rooms, and the roots of the threads that a fifth of the messages in the first room belong to."""
    timeline, rooms, roots = daemon.timeline, [], []

    def room(tx: Transaction, number: int) -> str:
        view = timeline.create_room(tx, ROOM_VERSIONS["11"], f"!room{number}:{SERVER_NAME}", user(0), {})
        for member in range(MEMBERS):
            for membership, sender in (("invite", 0), ("join", member)) if member else (("join", 0),):
                content = {"membership": membership, "displayname": f"Person {member}"}
                timeline.append(
                    tx, view, type="m.room.member", sender=user(sender), state_key=user(member), content=content
                )
        return view.room_id

    said = sentences(1)

    def talk(tx: Transaction, count: int) -> None:
        for _ in range(count):
            place = random.choice(rooms)
            content: dict[str, Any] = {"msgtype": "m.text", "body": next(said)}
            if place == rooms[0] and len(roots) == ROOTS and random.random() < 0.2:
                content["m.relates_to"] = {"rel_type": "m.thread", "event_id": random.choice(roots)}
            sender = user(random.randrange(MEMBERS))
            view = timeline.view(tx, place)
            event = timeline.append(tx, view, type="m.room.message", sender=sender, content=content)
            if place == rooms[0] and len(roots) < ROOTS:
                roots.append(event.event_id)

    for number in range(ROOMS):
        rooms.append(await daemon.engine.write(room, number))
    for _ in range(messages // 50):
        await daemon.engine.write(talk, 50)
    await daemon.search_index.catch_up()
    return rooms, roots


async def measure(title: str, work: Callable[[], Any], rounds: int = 20) -> None:
    """Print the CPU of one round in ms."""
    for number in range(rounds + 1):
        if number == 1:  # the first fills the caches
            began = time.process_time()
        result = work()
        if isinstance(result, Awaitable):
            await result
    print(f"{title:<58} {(time.process_time() - began) / rounds * 1000:8.2f} ms")


async def run(messages: int, folder: Path) -> None:
    """All steps."""
    server = await Appliance.start(folder, plugins=("demo_directory",))
    daemon, alice = server.daemon, await server.login("alice")
    rooms, roots = await fill(daemon, messages)
    viewer = Viewer(alice.user_id, alice.device_id)
    lazy = parse_room_event_filter({"lazy_load_members": True})
    nothing = parse_room_event_filter({"types": ["org.example.nothing"]})

    def page(number: int, filter: Any) -> list[bytes]:
        return daemon.history.messages(viewer, rooms[number], Page(None, None, True, 100, filter))

    await measure("/messages, 100 a page, lazy members", lambda: page(1, lazy))
    await measure("the same in a room with threads", lambda: page(0, lazy))
    await measure("/messages with a filter that finds nothing", lambda: page(1, nothing))
    await measure("/context, 20 events", lambda: daemon.history.context(viewer, rooms[0], roots[9], 20, lazy))
    await measure("/threads, 20", lambda: daemon.relations.threads(viewer, rooms[0], None, 20, False))
    wanted = Wanted(None, None, True, 50, recurse=True)
    await measure("/relations, recursive", lambda: daemon.relations.children(viewer, rooms[0], roots[9], wanted))
    await measure("/members, 100", lambda: daemon.room_reads.members(viewer, rooms[0], None, None, None))
    await measure("/notifications, 20", lambda: daemon.notifications.page(viewer, None, 20, False))
    for word in (*WORDS, "everywhere often"):
        for ranked in (True, False):
            criteria = Criteria(word, 10, ranked=ranked, context=Context(5, 5, True))
            title = f"/search {word!r}, {'rank' if ranked else 'recent'}, with context"
            await measure(title, lambda criteria=criteria: daemon.search.find(viewer, criteria))
    await server.stop()


def main() -> None:
    """Run on a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=200_000)
    options = parser.parse_args()
    random.seed(1)
    folder = Path(tempfile.mkdtemp())
    try:
        react(lambda _: Deferred.fromCoroutine(run(options.messages, folder)))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
