"""What is measured: each operation drives a running server as plain Matrix clients and gives figures.

CPU is user and system time of the server alone, taken when it has come to rest: what it does after answering counts.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from urllib.parse import quote, urlencode

import orjson

from .client import Person
from .world import LOGINS, MEMBERS, READERS, SMALL_ROOMS, Site, in_parallel


@dataclass(frozen=True)
class Figure:
    """One result: `value` in the unit of its row in the table; latencies in milliseconds where there are any."""

    key: str
    value: float
    p50: float | None = None
    p95: float | None = None


@dataclass(frozen=True)
class Sizes:
    """How often each thing is done in one round: enough to outweigh the clock tick of 10 ms of CPU."""

    sends_10: int
    sends_200: int
    sends_1000: int
    rounds: int  # messages in each of the ten rooms whose members wait
    lectures: int  # messages to the thousand who wait
    initial_syncs: int
    pages: int
    logins: int
    idle_s: int  # a multiple of 30, when every /sync ends once


FULL = Sizes(4000, 2000, 2000, 50, 10, 20, 100, 200, 60)
SLOW = Sizes(800, 240, 64, 20, 3, 5, 10, 10, 60)  # for Synapse
SENDERS = 8


def quick(sizes: Sizes) -> Sizes:
    """The same with less of everything, for a glance."""
    sends = {key: max(16, getattr(sizes, key) // 4) for key in ("sends_10", "sends_200", "sends_1000")}
    few = {key: max(1, getattr(sizes, key) // 3) for key in ("rounds", "lectures", "initial_syncs", "pages")}
    return replace(sizes, **sends, **few, logins=max(4, sizes.logins // 4), idle_s=30)


class Stopwatch:
    """CPU of the server between two moments of rest. A profiler may look on: the site's `sampler`."""

    def __init__(self, site: Site):
        self.server = site.server
        self.sampler = site.sampler

    async def __aenter__(self):
        await self.server.settled()
        if self.sampler:
            await self.sampler.start()
        self.began = self.server.cpu_ms()
        return self

    async def __aexit__(self, *failure):
        if failure[0] is None:
            await self.server.settled()
            self.cpu_ms = self.server.cpu_ms() - self.began
        if self.sampler:
            await self.sampler.stop()


class Audience:
    """People who wait in /sync, each in a task that asks again after every answer."""

    def __init__(self, people: list[Person]):
        self.people = people
        self.needle = None
        self.complete = None
        self.tasks = []

    async def __aenter__(self):
        async def ready(person):
            await person.use_element_filter()
            await person.find_position()

        await in_parallel(8, map(ready, self.people))
        self.tasks = [asyncio.create_task(self._listen(person)) for person in self.people]
        return self

    async def __aexit__(self, *failure):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for person in self.people:
            person.close()

    async def _listen(self, person):
        try:
            while True:
                self._heard(await person.sync())
        except Exception as error:
            if self.complete is None or self.complete.done():
                raise
            self.complete.set_exception(error)

    def _heard(self, body):
        if self.needle is None or self.needle not in body:
            return
        self.delays.append((time.perf_counter() - self.sent) * 1000)
        if len(self.delays) == len(self.people) and not self.complete.done():
            self.needle = None
            self.complete.set_result(None)

    async def hear(self, room: str, text: str) -> list[float]:
        """Lets the first person say `text`; how long after the sending began each person heard it, in ms, rising."""
        self.delays = []
        self.complete = asyncio.get_running_loop().create_future()
        self.sent = time.perf_counter()
        self.needle = text.encode()
        await self.people[0].send(room, text)
        await self.complete
        return self.delays


async def send_10(site: Site, sizes: Sizes) -> list[Figure]:
    room, names = site.small_room(1)
    return [await _sending(site, "send_10", room, names, sizes.sends_10)]


async def send_200(site: Site, sizes: Sizes) -> list[Figure]:
    return [await _sending(site, "send_200", site.world.middle, MEMBERS, sizes.sends_200)]


async def send_1000(site: Site, sizes: Sizes) -> list[Figure]:
    return [await _sending(site, "send_1000", site.world.lecture, MEMBERS, sizes.sends_1000)]


async def _sending(site, key, room, names, count) -> Figure:
    """Eight members send at the same time, each the next message when the last is acknowledged; nobody syncs."""
    people = [site.person(name) for name in names[:SENDERS]]
    latencies = []

    async def talk(person, turns):
        for _ in range(turns):
            latencies.append(await _timed(person.send(room, "Good morning, is the lecture in the usual room?")))

    share = count // SENDERS
    await asyncio.gather(*(talk(person, max(2, share // 10)) for person in people))
    latencies.clear()
    async with Stopwatch(site) as watch:
        await asyncio.gather(*(talk(person, share) for person in people))
    _close(people)
    return Figure(key, watch.cpu_ms / (share * SENDERS), *_percentiles(latencies))


async def delivery(site: Site, sizes: Sizes) -> list[Figure]:
    """Ten rooms of ten waiting members: CPU for each delivery, without what the same sends cost with nobody waiting."""
    rooms = [site.small_room(number) for number in range(SMALL_ROOMS)]
    people = [[site.person(name) for name in names] for _, names in rooms]
    delays = []

    async def alone(number):
        for turn in range(sizes.rounds):
            await people[number][0].send(rooms[number][0], f"nobody hears this {turn}")
            await asyncio.sleep(0.02)

    async def heard(number, audience, turns):
        for turn in range(turns):
            delays.extend(await audience.hear(rooms[number][0], f"heard {number} {turn} {time.time_ns()}"))
            await asyncio.sleep(0.02)  # so that all wait again

    await asyncio.gather(*(people[number][0].send(rooms[number][0], "warm") for number in range(SMALL_ROOMS)))
    async with Stopwatch(site) as sending:
        await asyncio.gather(*map(alone, range(SMALL_ROOMS)))
    async with AsyncExitStack() as waiting:
        audiences = [await waiting.enter_async_context(Audience(members)) for members in people]
        await asyncio.gather(*(heard(number, audience, 1) for number, audience in enumerate(audiences)))
        delays.clear()
        async with Stopwatch(site) as watch:
            await asyncio.gather(*(heard(number, audience, sizes.rounds) for number, audience in enumerate(audiences)))
    return [Figure("delivery", (watch.cpu_ms - sending.cpu_ms) / len(delays), *_percentiles(delays))]


async def lecture(site: Site, sizes: Sizes) -> list[Figure]:
    """A thousand members wait in one room: CPU for each delivery of a message, and when the last member has it."""
    people = [site.person(name) for name in MEMBERS]
    room = site.world.lecture
    async with Stopwatch(site) as sending:
        for turn in range(sizes.lectures):
            await people[0].send(room, f"nobody hears this {turn}")
    last, every = [], []
    async with Audience(people) as audience, Stopwatch(site) as watch:
        await site.server.settled()
        for _ in range(sizes.lectures):
            delays = await audience.hear(room, f"heard by all {time.time_ns()}")
            last.append(delays[-1])
            every += delays
            await asyncio.sleep(0.5)
    cpu = (watch.cpu_ms - sending.cpu_ms) / len(every)
    return [
        Figure("lecture", cpu, *_percentiles(every)),
        Figure("lecture_last", _percentiles(last)[0], *_percentiles(last)),
    ]


async def initial_sync(site: Site, sizes: Sizes) -> list[Figure]:
    """First /sync of people in 50 rooms of 100, lazy members, 20 events of each room; another person each time."""
    count, latencies = sizes.initial_syncs, []
    names = [READERS[(site.readers_used + number) % len(READERS)] for number in range(count)]
    site.readers_used += count
    people = [site.person(name) for name in names]
    for person in people:
        await person.use_element_filter()
    async with Stopwatch(site) as watch:
        for person in people:
            latencies.append(await _timed(person.sync(0)))
    _close(people)
    return [Figure("initial_sync", watch.cpu_ms / count, *_percentiles(latencies))]


#: What Element X asks of every room in its list, but for a few kinds that rooms do not have here.
LIST_STATE = [
    *([f"m.room.{kind}", ""] for kind in ("name", "encryption", "topic", "avatar", "canonical_alias", "power_levels")),
    *([f"m.room.{kind}", ""] for kind in ("join_rules", "tombstone", "create", "history_visibility")),
    *(["m.room.member", key] for key in ("$LAZY", "$ME")),
    *([f"m.space.{kind}", "*"] for kind in ("parent", "child")),
]


async def sliding_sync(site: Site, sizes: Sizes) -> list[Figure]:
    """First answer of sliding sync: 20 of the 50 rooms of 100 that a person is in, as Element X asks for them."""
    rooms = {"ranges": [[0, 19]], "timeline_limit": 1, "required_state": LIST_STATE}
    extensions = {name: {"enabled": True} for name in ("account_data", "receipts", "typing")}
    body = {"conn_id": "room-list", "lists": {"all_rooms": rooms}, "extensions": extensions}
    people = [site.person(name) for name in READERS[: sizes.initial_syncs]]
    latencies = []
    async with Stopwatch(site) as watch:
        for person in people:
            path = "/unstable/org.matrix.simplified_msc3575/sync?timeout=0"
            latencies.append(await _timed(person.call("POST", path, body)))
    _close(people)
    return [Figure("sliding_sync", watch.cpu_ms / len(people), *_percentiles(latencies))]


async def messages(site: Site, sizes: Sizes) -> list[Figure]:
    """Pages back through a room of ten, 100 events a page, and again from the end when the beginning is reached."""
    room, names = site.small_room(0)
    person = site.person(names[1])
    query = {"dir": "b", "limit": 100, "filter": orjson.dumps({"lazy_load_members": True})}
    events, latencies = 0, []
    async with Stopwatch(site) as watch:
        for _ in range(sizes.pages):
            began = time.perf_counter()
            page = await person.call("GET", f"/v3/rooms/{quote(room, safe='')}/messages?{urlencode(query)}")
            latencies.append((time.perf_counter() - began) * 1000)
            events += len(page["chunk"])
            query.pop("from", None)
            if "end" in page:
                query["from"] = page["end"]
    _close([person])
    return [Figure("messages", watch.cpu_ms / events, *_percentiles(latencies))]


async def login(site: Site, sizes: Sizes) -> list[Figure]:
    """Password logins one after the other, each making a new device."""
    latencies = []
    async with Stopwatch(site) as watch:
        for number in range(sizes.logins):
            latencies.append(await _timed(site.server.log_in(LOGINS[number % len(LOGINS)])))
    return [Figure("login", watch.cpu_ms / sizes.logins, *_percentiles(latencies))]


async def idle(site: Site, sizes: Sizes) -> list[Figure]:
    """A thousand connected clients in one room of a thousand while nothing happens: CPU of each per minute; memory."""
    async with Audience([site.person(name) for name in MEMBERS]) as audience:
        await site.server.settled()
        began, cpu = time.monotonic(), site.server.cpu_ms()
        await asyncio.sleep(sizes.idle_s)
        spent, minutes = site.server.cpu_ms() - cpu, (time.monotonic() - began) / 60
        resident = site.server.resident_mib()
    return [Figure("idle", spent / minutes / len(audience.people)), Figure("memory", resident)]


async def start(site: Site, sizes: Sizes) -> list[Figure]:
    """Stops the server and starts it again: seconds to its first answer."""
    site.server.stop()
    return [Figure("start", await site.server.start())]


OPERATIONS: list[Callable[[Site, Sizes], Awaitable[list[Figure]]]] = [
    send_10,
    send_200,
    send_1000,
    delivery,
    lecture,
    initial_sync,
    sliding_sync,
    messages,
    login,
    idle,
    start,
]


async def _timed(work: Awaitable) -> float:
    began = time.perf_counter()
    await work
    return (time.perf_counter() - began) * 1000


def _percentiles(values: list[float]) -> tuple[float, float]:
    ranked = sorted(values)
    return ranked[len(ranked) // 2], ranked[min(len(ranked) - 1, int(len(ranked) * 0.95))]


def _close(people: list[Person]) -> None:
    for person in people:
        person.close()
