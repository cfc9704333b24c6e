"""What is measured: each operation drives a running server as plain Matrix clients and gives figures.

Sending, delivering and syncing are here; what more there is to Matrix is in `features.py`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from urllib.parse import quote, urlencode

import orjson

from .client import Person
from .features import key_claims, key_query, media, photo, search, sliding_cold, sliding_many, sliding_sync
from .measuring import Figure, Sizes, Stopwatch, close, percentiles, timed
from .world import LOGINS, MEMBERS, READERS, SMALL_ROOMS, Site, in_parallel

SENDERS = 8
#: Seconds between the messages of a room of the delivery.
PAUSE = 0.02


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
            latencies.append(await timed(person.send(room, "Good morning, is the lecture in the usual room?")))

    share = count // SENDERS
    await asyncio.gather(*(talk(person, max(2, share // 10)) for person in people))
    latencies.clear()
    async with Stopwatch(site) as watch:
        await asyncio.gather(*(talk(person, share) for person in people))
    close(people)
    return Figure(key, watch.cpu_ms / (share * SENDERS), *percentiles(latencies))


async def delivery(site: Site, sizes: Sizes) -> list[Figure]:
    """Ten rooms of ten waiting members: CPU for each delivery, without what the same sends cost with nobody waiting."""
    rooms = [site.small_room(number) for number in range(SMALL_ROOMS)]
    people = [[site.person(name) for name in names] for _, names in rooms]
    delays = []

    # The rooms begin one after another, so that in both measurements each message has a commit of its own: together, those
    # that nobody hears would share theirs, and the deliveries be charged for what the others save.
    async def alone(number):
        await asyncio.sleep(number * PAUSE / SMALL_ROOMS)
        for turn in range(sizes.rounds):
            await people[number][0].send(rooms[number][0], f"nobody hears this {turn}")
            await asyncio.sleep(PAUSE)

    async def heard(number, audience, turns):
        await asyncio.sleep(number * PAUSE / SMALL_ROOMS)
        for turn in range(turns):
            delays.extend(await audience.hear(rooms[number][0], f"heard {number} {turn} {time.time_ns()}"))
            await asyncio.sleep(PAUSE)  # so that all wait again

    await asyncio.gather(*(people[number][0].send(rooms[number][0], "warm") for number in range(SMALL_ROOMS)))
    async with Stopwatch(site) as sending:
        await asyncio.gather(*map(alone, range(SMALL_ROOMS)))
    async with AsyncExitStack() as waiting:
        audiences = [await waiting.enter_async_context(Audience(members)) for members in people]
        await asyncio.gather(*(heard(number, audience, 1) for number, audience in enumerate(audiences)))
        delays.clear()
        async with Stopwatch(site) as watch:
            await asyncio.gather(*(heard(number, audience, sizes.rounds) for number, audience in enumerate(audiences)))
    return [Figure("delivery", (watch.cpu_ms - sending.cpu_ms) / len(delays), *percentiles(delays))]


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
        Figure("lecture", cpu, *percentiles(every)),
        Figure("lecture_last", percentiles(last)[0], *percentiles(last)),
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
            latencies.append(await timed(person.sync(0)))
    close(people)
    return [Figure("initial_sync", watch.cpu_ms / count, *percentiles(latencies))]


async def messages(site: Site, sizes: Sizes) -> list[Figure]:
    """Pages back through a room of ten, 100 events a page, and again from the end when the beginning is reached."""
    room, names = site.small_room(0)
    return [await _paging(site, "messages", room, site.person(names[1]), sizes.pages)]


async def messages_cold(site: Site, sizes: Sizes) -> list[Figure]:
    """The same in a room of 10,000 messages, of which hardly a page comes twice before it is forgotten."""
    return [await _paging(site, "messages_cold", site.world.archive, site.person(MEMBERS[1]), sizes.pages)]


async def _paging(site: Site, key: str, room: str, person: Person, count: int) -> Figure:
    query = {"dir": "b", "limit": 100, "filter": orjson.dumps({"lazy_load_members": True})}
    pages, latencies = 0, []
    async with Stopwatch(site) as watch:
        while pages < count:
            began = time.perf_counter()
            page = await person.call("GET", f"/v3/rooms/{quote(room, safe='')}/messages?{urlencode(query)}")
            latencies.append((time.perf_counter() - began) * 1000)
            pages += len(page["chunk"]) / 100
            query.pop("from", None)
            if "end" in page:
                query["from"] = page["end"]
    close([person])
    return Figure(key, watch.cpu_ms / pages, *percentiles(latencies))


async def login(site: Site, sizes: Sizes) -> list[Figure]:
    """Password logins one after the other, each making a new device."""
    latencies = []
    async with Stopwatch(site) as watch:
        for number in range(sizes.logins):
            latencies.append(await timed(site.server.log_in(LOGINS[number % len(LOGINS)])))
    return [Figure("login", watch.cpu_ms / sizes.logins, *percentiles(latencies))]


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
    sliding_many,
    sliding_cold,
    messages,
    messages_cold,
    search,
    media,
    photo,
    key_query,
    key_claims,
    login,
    idle,
    start,
]
