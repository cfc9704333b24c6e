"""The people and rooms that the operations play in: made through the Matrix API, kept as a copy of the data folder."""

import asyncio
import json
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .client import Person
from .servers import CACHE, Server
from .words import sentences

MEMBERS = [f"m{number:04}" for number in range(1000)]
READERS = [f"r{number:04}" for number in range(100)]
LOGINS = [f"l{number:04}" for number in range(10)]
BUSY = "b0000"
EVERYBODY = [*MEMBERS, *READERS, *LOGINS, BUSY]
SMALL_ROOMS, READING_ROOMS, BUSY_ROOMS = 10, 50, 1000
HISTORY = 1000  # events in the first small room, for /messages
ARCHIVE = 10_000  # messages in the room that is searched
VERSION = 2  # of the world: raise it when what is built changes


@dataclass
class World:
    """Who has which token, and the IDs of the rooms: ten rooms of 10, one of 200, one of 1,000, fifty of 100, one of 10
    with an archive of messages, and a thousand rooms of two that one person is in."""

    reading_events: int = 30
    people: dict[str, list[str]] = field(default_factory=dict)
    small: list[str] = field(default_factory=list)
    middle: str = ""
    lecture: str = ""
    reading: list[str] = field(default_factory=list)
    archive: str = ""
    busy: list[str] = field(default_factory=list)


@dataclass
class Site:
    """A running server with its world. `sampler` (start, stop) is told when a measurement begins and ends."""

    server: Server
    world: World
    sampler: Any = None
    readers_used: int = 0
    devices: dict[str, str] = field(default_factory=dict)  # user ID to the device that has uploaded its keys
    claimed: int = 0

    def person(self, name: str) -> Person:
        user_id, token = self.world.people[name]
        return Person(self.server.port, user_id, token)

    def small_room(self, number: int) -> tuple[str, list[str]]:
        """Room and member names of one of the ten rooms of ten."""
        return self.world.small[number], MEMBERS[number * 10 : number * 10 + 10]


async def in_parallel(width: int, jobs: Iterable[Awaitable]) -> None:
    """Awaits all jobs, `width` at a time."""
    waiting = iter(jobs)

    async def worker():
        for job in waiting:
            await job

    await asyncio.gather(*(worker() for _ in range(width)))


async def prepared(kind: type[Server], reading_events: int) -> tuple[Path, World]:
    """The folder with the server's data and its world, made if this version has none; never run it, copy it."""
    fingerprint = kind.fingerprint()
    prefix = fingerprint.split("-")[0]
    kept = CACHE / f"{fingerprint}-{reading_events}-v{VERSION}"
    if not (kept / "world.json").exists():
        for old in CACHE.glob(f"{prefix}-*-{reading_events}*"):
            shutil.rmtree(old)
        making = CACHE / f"{prefix}-making"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        server = kind(making, EVERYBODY)
        await server.start(fast_setup=True)
        try:
            world = await _build(server, reading_events)
        finally:
            server.stop()
        (making / "world.json").write_text(json.dumps(asdict(world)))
        making.rename(kept)
    return kept, World(**json.loads((kept / "world.json").read_text()))


async def _build(server: Server, reading_events: int) -> World:
    world = World(reading_events)
    site = Site(server, world)

    async def admit(name):
        world.people[name] = list(await server.admit(name))

    people = [*MEMBERS, *READERS, BUSY]
    await _step(f"{server.name}: {len(people)} people", in_parallel(4, map(admit, people)))
    for number in range(SMALL_ROOMS):
        names = MEMBERS[number * 10 : number * 10 + 10]
        world.small.append(await _step(f"room of 10, {number}", _room(site, names)))
    world.middle = await _step("room of 200", _room(site, MEMBERS[:200]))
    world.lecture = await _step("room of 1,000", _room(site, MEMBERS))
    for number in range(READING_ROOMS):
        world.reading.append(await _step(f"room of 100, {number}", _room(site, READERS)))
    said = sentences(1)
    await _step("history", _talk(site, world.small[0], MEMBERS[:10], HISTORY, said))
    talks = (_talk(site, room, READERS[:8], reading_events, said) for room in world.reading)
    await _step("talk in the rooms of 100", in_parallel(1, talks))
    world.archive = await _step("archive", _room(site, MEMBERS[:10]))
    await _step("talk in the archive", _talk(site, world.archive, MEMBERS[:10], ARCHIVE, said))
    busy = (_busy_room(site, MEMBERS[number]) for number in range(BUSY_ROOMS))
    await _step("rooms of the busy person", in_parallel(4, busy))
    return world


async def _step(title: str, work: Awaitable):
    began = time.monotonic()
    result = await work
    print(f"  {title}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    return result


async def _room(site: Site, names: list[str]) -> str:
    room = await with_person(site, names[0], lambda person: person.create_room("room"))
    await in_parallel(4, (with_person(site, name, lambda person: person.join(room)) for name in names[1:]))
    return room


async def _busy_room(site: Site, name: str) -> None:
    """A room that somebody made and said something in, and the busy person has joined."""

    async def begin(person):
        room = await person.create_room(f"room of {name}")
        await person.send(room, "Who comes to the seminar?")
        return room

    room = await with_person(site, name, begin)
    await with_person(site, BUSY, lambda person: person.join(room))
    site.world.busy.append(room)


async def _talk(site: Site, room: str, names: list[str], count: int, said: Iterator[str]) -> None:
    async def talker(person, turns):
        for _ in range(turns):
            await person.send(room, next(said))

    share = -(-count // len(names))
    await asyncio.gather(*(with_person(site, name, lambda person: talker(person, share)) for name in names))


async def with_person(site: Site, name: str, work: Callable[[Person], Awaitable]):
    """Awaits work(person) and closes the person's connections."""
    person = site.person(name)
    try:
        return await work(person)
    finally:
        person.close()
