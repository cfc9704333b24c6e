"""Events that write jobs hand over to those who sync: what was just written is not read again."""

from __future__ import annotations

import pytest
import pytest_twisted

from heichat_appliance.services import gap
from heichat_appliance.services.gap import Gaps
from heichat_appliance.store import events
from tests.appliance import Appliance


class Room:
    """A room, its gaps of their own, and how often the events of all rooms were read."""

    def __init__(self, server: Appliance, room_id: str, sender: str) -> None:
        self.daemon, self.room_id, self.sender = server.daemon, room_id, sender
        self.gaps = Gaps(self.daemon.engine)
        self.daemon.timeline.added = self.gaps.added
        self.reads = 0

    def count_reads(self, monkeypatch) -> None:
        between = events.between

        def counted(*args):
            self.reads += 1
            return between(*args)

        monkeypatch.setattr(events, "between", counted)

    def say(self, text: str, fail: bool = False):
        def job(tx):
            view = self.daemon.timeline.view(tx, self.room_id)
            content = {"msgtype": "m.text", "body": text}
            self.daemon.timeline.append(tx, view, type="m.room.message", sender=self.sender, content=content)
            if fail:
                raise RuntimeError("a job that fails after it has stored an event")

        return self.daemon.engine.write(job)

    def heard(self, after: int):
        """The room's events after a position, as those who sync get them, and as they are stored."""
        engine = self.daemon.engine
        found, _ = self.gaps.get(after, engine.position).events(self.room_id, 100)
        return found, events.in_room(engine.read, self.room_id, after, engine.position, 100)


@pytest.fixture
def room(tmp_path, monkeypatch):
    async def make() -> Room:
        server = await Appliance.start(tmp_path, plugins=("demo_directory",))
        alice = await server.login("alice")
        made = Room(server, await alice.create_room(), alice.user_id)
        made.count_reads(monkeypatch)
        return made

    return make


@pytest_twisted.ensureDeferred
async def test_what_was_written_is_told_as_it_is_stored_and_not_read(room):
    room = await room()
    after = room.daemon.engine.position
    for text in ("one", "zwei", "três"):
        await room.say(text)
    heard, stored = room.heard(after)
    assert len(heard) == 3 and heard == stored and room.reads == 0


@pytest_twisted.ensureDeferred
async def test_what_was_rolled_back_is_not_told(room):
    room = await room()
    after = room.daemon.engine.position
    first, failing, last = room.say("first"), room.say("failing", fail=True), room.say("last")  # one group
    await first
    with pytest.raises(RuntimeError):
        await failing
    await last
    heard, stored = room.heard(after)
    assert len(heard) == 2 and heard == stored and room.reads == 0


@pytest_twisted.ensureDeferred
async def test_what_nobody_takes_is_dropped_and_read_when_somebody_asks(room, monkeypatch):
    room = await room()
    monkeypatch.setattr(gap, "MAX_BYTES", 4_000)
    after = room.daemon.engine.position
    for number in range(20):
        await room.say(f"message {number}")
        assert room.gaps._recent.added._bytes <= 4_000
    heard, stored = room.heard(after)
    assert room.reads == 1 and heard == stored[-len(heard) :]
    position = room.daemon.engine.position
    await room.say("one more")
    heard, stored = room.heard(position)
    assert len(heard) == 1 and heard == stored and room.reads == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("few", [0, 2, 1_000])  # a wide gap and many rooms, a wide gap, a narrow gap
async def test_only_rooms_in_which_something_happened_are_touched(room, monkeypatch, few):
    room = await room()
    monkeypatch.setattr(gap, "FEW", few)
    rooms = {room.room_id: 1, "!quiet": 2}
    for messages in (1, 5):
        after = room.daemon.engine.position
        for number in range(messages):
            await room.say(f"message {number}")
        told = room.gaps.get(after, room.daemon.engine.position)
        assert told.touched_among(rooms) == {room.room_id}
        assert told.touched_among({"!quiet": 2}) == set()
    assert room.gaps.get(room.daemon.engine.position, room.daemon.engine.position).touched_among(rooms) == set()
