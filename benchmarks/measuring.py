"""How the operations measure: figures, how often each thing is done, and the watches on the server's CPU and memory.

CPU is user and system time of the server alone, taken when it has come to rest: what it does after answering counts.
"""

import time
from collections.abc import Awaitable
from dataclasses import dataclass, replace

from .client import Person
from .servers import Server
from .world import Site


@dataclass(frozen=True)
class Figure:
    """One result: `value` in the unit of its row in the table; latencies in milliseconds where there are any."""

    key: str
    value: float
    p50: float | None = None
    p95: float | None = None


@dataclass(frozen=True)
class Sizes:
    """How often each thing is done in one round."""

    sends_10: int
    sends_200: int
    sends_1000: int
    rounds: int  # messages in each of the ten rooms whose members wait
    lectures: int  # messages to the thousand who wait
    initial_syncs: int
    sliding_syncs: int
    restarts: int
    pages: int
    searches: int  # of each word
    big_files: int
    small_files: int
    photos: int
    key_queries: int
    key_claims: int
    logins: int
    idle_s: int  # a multiple of 30, when every /sync ends once


FULL = Sizes(4000, 2000, 2000, 50, 10, 20, 20, 3, 100, 5, 5, 200, 2, 20, 100, 200, 60)
SLOW = Sizes(800, 240, 64, 20, 3, 5, 5, 1, 10, 2, 3, 30, 2, 3, 20, 10, 60)  # for Synapse
_KEPT = ("restarts", "photos", "idle_s", "logins")


def quick(sizes: Sizes) -> Sizes:
    """The same with less of everything, for a glance."""
    sends = {key: max(16, getattr(sizes, key) // 4) for key in ("sends_10", "sends_200", "sends_1000")}
    few = {key: max(1, count // 3) for key, count in vars(sizes).items() if key not in (*sends, *_KEPT)}
    return replace(sizes, **sends, **few, restarts=1, photos=1, logins=max(4, sizes.logins // 4), idle_s=30)


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


class MemoryWatch:
    """`mib`: the peak of the server's resident memory within, beyond what was resident before."""

    def __init__(self, server: Server):
        self.server = server

    async def __aenter__(self):
        await self.server.settled()
        self.before = self.server.resident_mib()
        self.server.forget_peak()
        return self

    async def __aexit__(self, *failure):
        self.mib = max(0.0, self.server.peak_mib() - self.before)


async def timed(work: Awaitable) -> float:
    """Milliseconds that something took."""
    began = time.perf_counter()
    await work
    return (time.perf_counter() - began) * 1000


def percentiles(values: list[float]) -> tuple[float, float]:
    """The 50th and the 95th."""
    ranked = sorted(values)
    return ranked[len(ranked) // 2], ranked[min(len(ranked) - 1, int(len(ranked) * 0.95))]


def close(people: list[Person]) -> None:
    """Close their connections."""
    for person in people:
        person.close()
