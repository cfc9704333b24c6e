"""Rows that are kept are those that the database has, whatever is redacted in between, and they are bounded."""

from __future__ import annotations

import random

import pytest
import pytest_twisted

from heichat_appliance.services import recent_pages
from heichat_appliance.services.recent_pages import RecentPages
from heichat_appliance.services.rooms import NewRoom
from heichat_appliance.store import events
from tests.appliance import Appliance
from tests.http.writing_kit import user

ALICE = user("alice")
FAST = {"storage": {"durability": "normal"}}


class Counting:
    """`execute` that counts the statements which read whole rows."""

    def __init__(self, execute) -> None:
        self._execute = execute
        self.whole = 0

    def __call__(self, sql, *params):
        self.whole += "pdu" in sql
        return self._execute(sql, *params)


@pytest.mark.parametrize("bounds", [(5_000, 2**23), (40, 2**23), (5_000, 20_000), (0, 0)])
@pytest_twisted.ensureDeferred
async def test_kept_rows_are_those_of_the_database(tmp_path, monkeypatch, bounds):
    monkeypatch.setattr(recent_pages, "MAX_ROWS", bounds[0])
    monkeypatch.setattr(recent_pages, "MAX_BYTES", bounds[1])
    server = await Appliance.start(tmp_path, plugins=("demo_directory",), config=FAST)
    await server.login("alice")
    daemon, dice, pages = server.daemon, random.Random(1), RecentPages()
    rooms = [await daemon.rooms.create(ALICE, NewRoom(preset="public_chat")) for _ in range(3)]
    sent = [
        (room, await daemon.sender.message(ALICE, "D", room, "m.room.message", str(number), {"body": str(number)}))
        for number in range(20)
        for room in rooms
    ]
    execute, top, redacted = Counting(daemon.engine.read), daemon.engine.position, 0
    for turn in range(400):
        if turn % 20 == 19:
            room, event_id = dice.choice(sent)
            await daemon.sender.redact(ALICE, "D", room, event_id, f"r{turn}", {})
            redacted += 1
        room, after, upto = dice.choice(rooms), dice.randrange(top), dice.choice((top, 2**62, dice.randrange(top + 9)))
        asked = (room, after, upto, dice.choice((1, 5, 50)))
        backwards = dice.random() < 0.5
        expected = events.in_room(daemon.engine.read, *asked, backwards=backwards)
        assert pages.in_room(execute, *asked, backwards=backwards) == expected
        rows = [row for kept in pages._rooms.values() for row in kept.rows.values()]
        assert len(rows) == pages._count <= bounds[0]
        assert sum(len(row.pdu) for row in rows) <= pages._size <= bounds[1]
    assert redacted == 20
    # What fits is read once, but for what was redacted; what is not kept is read each time.
    assert execute.whole < 250 if bounds == (5_000, 2**23) else execute.whole <= 400
    assert execute.whole == 400 or bounds != (0, 0)
    await server.stop()
