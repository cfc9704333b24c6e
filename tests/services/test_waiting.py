"""Who is served first when many are woken at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from heichat_appliance.notify import CROWD, Notifier
from heichat_appliance.services import waiting
from heichat_appliance.services.waiting import Waiting

LECTURE = [f"@listener{number}:chat.test" for number in range(CROWD + 50)]
FEW = ["@alice:chat.test", "@bob:chat.test"]
ROOMS = {"!lecture": LECTURE, "!few": FEW}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Notifier, list[str]]]:
    """Everybody waits; whoever has an answer is noted. A slice is as short as can be."""
    monkeypatch.setattr(waiting, "SLICE", 0.0)
    answered: list[str] = []
    position = [1]
    notifier = Notifier(ROOMS.__getitem__, 1)
    notifier.listeners.append(lambda upto, rooms, users: position.__setitem__(0, upto))
    parked = Waiting(reactor, notifier)
    for person in LECTURE + FEW:
        result = parked.answer(person, 30_000, lambda may_wait: [b"{}"] if position[0] > 1 else None)
        result.addCallback(lambda _, person=person: answered.append(person))
    yield notifier, answered
    parked.stop()


async def turns(count: int) -> None:
    """Lets the reactor go round."""
    for _ in range(count):
        await deferLater(reactor, 0)


@pytest_twisted.ensureDeferred
async def test_a_small_room_does_not_wait_until_a_lecture_is_through(served) -> None:
    notifier, answered = served
    notifier.publish(2, {"!lecture"}, set())
    await turns(10)
    begun = len(answered)
    assert 0 < begun < CROWD
    notifier.publish(3, {"!few"}, set())
    await turns(len(FEW) + 1)
    assert set(FEW) <= set(answered) and len(answered) < begun + 10


@pytest_twisted.ensureDeferred
async def test_a_lecture_is_served_however_much_small_rooms_talk(served) -> None:
    notifier, answered = served
    notifier.publish(2, {"!lecture"}, set())
    for turn in range(len(LECTURE)):
        notifier.publish(3 + turn, {"!few"}, set())
        await turns(1)
    assert sorted(answered) == sorted(LECTURE + FEW)  # each once
    assert notifier.waiting == 0
