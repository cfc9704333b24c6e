"""Whether what an operation costs grows with the database: sends, pages and starts with few and with many events stored.

    python -m benchmarks.growth                     10,000 and then 2,000,000 events
    python -m benchmarks.growth --many 200000

The events are written by the appliance's own timeline, in this process and without a server around it: a thousand rooms of ten,
each message hashed and signed as any other, the search index filled. Then the daemon starts over them.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from .measuring import FULL, Figure
from .operations import messages, send_10
from .servers import REPOSITORY, Heichat, alone
from .words import sentences
from .world import MEMBERS, Site, World, in_parallel, with_person

ROOMS = 1000
STARTS = 5
BATCH = 100  # messages of one write job


class Rooms(Site):
    """The same ten people are in every room."""

    def small_room(self, number: int) -> tuple[str, list[str]]:
        return self.world.small[number], MEMBERS[:10]


def fill(folder: Path, rooms: list[str], people: list[str], events: int) -> None:
    """Writes messages until the database has so many events. Runs in a process of its own, which has the reactor."""
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    from heichat_appliance.app import Appliance
    from heichat_appliance.config import read
    from heichat_appliance.plugins import all_sections

    appliance = Appliance(read(folder / "heichat.ini", all_sections()), reactor)
    said = sentences(2)

    def talk(tx, room_id):
        view = appliance.timeline.view(tx, room_id)
        for number in range(BATCH):
            content = {"msgtype": "m.text", "body": next(said)}
            sender = people[number % len(people)]
            appliance.timeline.append(tx, view, type="m.room.message", sender=sender, content=content)

    async def work():
        (there,) = appliance.engine.read("SELECT count(*) FROM events").fetchone()
        for number in range(max(0, events - there) // BATCH):
            await appliance.engine.write(talk, rooms[number % len(rooms)])
        await appliance.search_index.catch_up()
        await appliance.stop()

    def failed(failure):
        failure.printTraceback()

    Deferred.fromCoroutine(work()).addErrback(failed).addBoth(lambda _: reactor.stop())
    reactor.run()


async def _build(server: Heichat) -> Site:
    """Ten people who are all in a thousand rooms."""
    site = Rooms(server, World())
    names = MEMBERS[:10]

    async def admit(name):
        site.world.people[name] = list(await server.admit(name))

    await in_parallel(4, map(admit, names))

    async def gather():
        room = await with_person(site, names[0], lambda person: person.create_room("room"))
        for name in names[1:]:
            await with_person(site, name, lambda person: person.join(room))
        site.world.small.append(room)

    await in_parallel(4, (gather() for _ in range(ROOMS)))
    return site


def _fill(site: Site, events: int) -> None:
    task = {
        "folder": str(site.server.folder),
        "rooms": site.world.small,
        "people": [user_id for user_id, _ in site.world.people.values()],
        "events": events,
    }
    command = [sys.executable, "-m", "benchmarks.growth", "--fill"]
    subprocess.run(command, input=json.dumps(task), text=True, check=True, cwd=REPOSITORY, stdout=sys.stderr)


async def _measure(site: Site, events: int) -> dict[str, float]:
    """Seconds to the first answer, CPU of a send and of a page of messages, in milliseconds."""
    server = site.server
    server.configure(True)
    _fill(site, events)
    starts = []
    for _ in range(STARTS):
        starts.append(await server.start())
        await server.settled()
        server.stop()
    await server.start()
    sends: list[Figure] = []
    pages: list[Figure] = []
    for _ in range(5):
        sends += await send_10(site, FULL)
        pages += await messages(site, FULL)
    server.stop()
    size = (server.folder / "data" / "heichat.db").stat().st_size / 2**30
    print(f"{events} events, {size:.1f} GiB: measured", file=sys.stderr, flush=True)
    return {
        "start to the first answer, s": median(starts),
        "send in a room of 10, ms CPU": median(one.value for one in sends),
        "a page of 100 messages, ms CPU": median(one.value for one in pages),
    }


async def _run(few: int, many: int) -> str:
    with tempfile.TemporaryDirectory(prefix="heichat-growth-") as folder:
        server = Heichat(Path(folder), MEMBERS[:10])
        await server.start(fast_setup=True)
        site = await _build(server)
        server.stop()
        small, large = await _measure(site, few), await _measure(site, many)
    lines = [f"| | {few:,} events | {many:,} events | ratio |", "|---|--:|--:|--:|"]
    lines += [
        f"| {title} | {small[title]:.3g} | {large[title]:.3g} | {large[title] / small[title]:.2f} |" for title in small
    ]
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.splitlines()[0])
    parser.add_argument("--few", type=int, default=20_000)
    parser.add_argument("--many", type=int, default=2_000_000)
    parser.add_argument("--fill", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        task = json.load(sys.stdin)
        fill(Path(task["folder"]), task["rooms"], task["people"], task["events"])
        return
    with alone():
        print(asyncio.run(_run(options.few, options.many)))


if __name__ == "__main__":
    main()
