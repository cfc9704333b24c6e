"""A long quiet day of a university: ten thousand connected clients, twenty messages a second, and a lecture now and then.

    python -m benchmarks.soak                      15 minutes
    python -m benchmarks.soak --minutes 2 --people 2000

Every person is in one of the rooms of ten, and the first thousand are in the lecture as well; everybody waits in /sync. First
nothing happens for a minute (what connected clients cost), then messages are sent at a fixed rate whether or not the earlier
ones have arrived (open loop), each to a room by chance; once a minute somebody speaks to the lecture. Each message must reach
each member of its room exactly once.
"""

import argparse
import asyncio
import random
import resource
import tempfile
import time
from pathlib import Path

from .client import Person
from .servers import Heichat, alone
from .world import Site, World, in_parallel, with_person

ROOM = 10
LECTURE = 1000
MARK = b'"body":"soak '


class Listener:
    """A person who waits in /sync all the time and notes what arrives, and how late."""

    def __init__(self, person: Person, log: "Log"):
        self.person = person
        self.log = log

    async def run(self) -> None:
        while True:
            body = await self.person.sync()
            now = time.perf_counter_ns()
            at = body.find(MARK)
            while at >= 0:
                number, sent = body[at + len(MARK) : body.index(b'"', at + len(MARK))].split()
                self.log.arrived(int(number), now - int(sent))
                at = body.find(MARK, at + 1)


class Log:
    """What was sent and what arrived: delays in milliseconds, and how many still lack each message."""

    def __init__(self):
        self.missing: dict[int, int] = {}
        self.room_ms: list[float] = []
        self.lecture_ms: list[float] = []
        self.lectures: set[int] = set()
        self.twice = 0

    def sent(self, number: int, listeners: int) -> None:
        self.missing[number] = listeners
        if listeners > ROOM:
            self.lectures.add(number)

    def arrived(self, number: int, late_ns: int) -> None:
        (self.lecture_ms if number in self.lectures else self.room_ms).append(late_ns / 1e6)
        left = self.missing.get(number, 0) - 1
        if left > 0:
            self.missing[number] = left
        elif left == 0:
            del self.missing[number]
        else:
            self.twice += 1


class Soak:
    """The run over a server that holds nothing yet."""

    def __init__(self, server: Heichat, names: list[str], rate: float):
        self.server = server
        self.names = names
        self.rate = rate
        self.site = Site(server, World())
        self.rooms: list[str] = []
        self.lecture = ""
        self.log = Log()
        self.count = 0

    async def build(self) -> None:
        async def admit(name):
            self.site.world.people[name] = list(await self.server.admit(name))

        await in_parallel(8, map(admit, self.names))
        groups = [self.names[start : start + ROOM] for start in range(0, len(self.names), ROOM)]
        self.rooms = [""] * len(groups)

        async def gather(number, group):
            self.rooms[number] = await self._room(group)

        await in_parallel(4, (gather(number, group) for number, group in enumerate(groups)))
        self.lecture = await self._room(self.names[:LECTURE])

    async def _room(self, names: list[str]) -> str:
        room = await with_person(self.site, names[0], lambda person: person.create_room("room"))
        for name in names[1:]:
            await with_person(self.site, name, lambda person: person.join(room))
        return room

    async def run(self, minutes: float) -> None:
        people = [self.site.person(name) for name in self.names]

        async def ready(person):
            await person.use_element_filter()
            await person.find_position()
            person.api.close()

        await in_parallel(16, map(ready, people))
        listening = [asyncio.create_task(Listener(person, self.log).run()) for person in people]
        await asyncio.sleep(40)  # every first /sync has ended and been asked again
        self._report("connected")
        await self._idle()
        await self._talk(people, minutes)
        for task in listening:
            task.cancel()
        for failure in await asyncio.gather(*listening, return_exceptions=True):
            if not isinstance(failure, asyncio.CancelledError):
                raise failure

    def _report(self, title: str) -> None:
        print(f"{title}: {self.server.resident_mib():.0f} MiB resident", flush=True)

    async def _idle(self) -> None:
        began, cpu = time.monotonic(), self.server.cpu_ms()
        await asyncio.sleep(60)
        share = (self.server.cpu_ms() - cpu) / (time.monotonic() - began) / 10
        print(f"idle, {len(self.names)} connected clients: {share:.1f} % of one core", flush=True)

    async def _talk(self, people: list[Person], minutes: float) -> None:
        """Open loop: each message is sent when its time has come."""
        random.seed(1)
        began, cpu = time.perf_counter(), self.server.cpu_ms()
        sending: set[asyncio.Task] = set()
        for turn in range(int(minutes * 60 * self.rate)):
            await asyncio.sleep(max(0, began + turn / self.rate - time.perf_counter()))
            if turn % int(60 * self.rate) == int(30 * self.rate):
                sending.add(asyncio.create_task(self._say(people[0], self.lecture, min(LECTURE, len(people)))))
            room = random.randrange(len(self.rooms))
            speaker = people[room * ROOM + random.randrange(ROOM)]
            task = asyncio.create_task(self._say(speaker, self.rooms[room], ROOM))
            sending.add(task)
            task.add_done_callback(sending.discard)
            if turn % int(60 * self.rate) == 0:
                self._report(f"minute {turn // int(60 * self.rate)}")
        await asyncio.gather(*sending)
        await asyncio.sleep(5)
        seconds = time.perf_counter() - began
        self._report("end")
        share = (self.server.cpu_ms() - cpu) / seconds / 10
        print(f"talking: {self.count} messages in {seconds:.0f} s, {share:.1f} % of one core")
        _print("a message in a room of 10", self.log.room_ms)
        _print(f"a message to the lecture of {LECTURE}", self.log.lecture_ms)
        print(f"never heard: {sum(self.log.missing.values())}, heard twice: {self.log.twice}")

    async def _say(self, speaker: Person, room: str, listeners: int) -> None:
        number, self.count = self.count, self.count + 1
        self.log.sent(number, listeners)
        await speaker.send(room, f"soak {number} {time.perf_counter_ns()}")
        if not speaker.api.waiter:
            speaker.api.close()


def _print(title: str, delays: list[float]) -> None:
    ranked = sorted(delays)
    if ranked:
        shown = ", ".join(f"{name} {ranked[int((len(ranked) - 1) * part)]:.1f}" for name, part in PARTS)
        print(f"{title}: {shown} ms over {len(ranked)} deliveries")


PARTS = (("p50", 0.5), ("p99", 0.99), ("max", 1))


async def _main(options: argparse.Namespace) -> None:
    names = [f"s{number:05}" for number in range(options.people)]
    with tempfile.TemporaryDirectory(prefix="heichat-soak-") as folder:
        server = Heichat(Path(folder), names)
        soak = Soak(server, names, options.rate)
        await server.start(fast_setup=True)
        try:
            await soak.build()
            server.stop()
            print(f"start: {await server.start():.2f} s", flush=True)
            await soak.run(options.minutes)
        finally:
            server.stop()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--people", type=int, default=10_000, help="how many, a multiple of 10 (default 10,000)")
    parser.add_argument("--rate", type=float, default=20, help="messages a second (default 20)")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with alone():
        asyncio.run(_main(options))


if __name__ == "__main__":
    main()
