"""Events of rooms whose history is being read, kept as rows: many people read the same part of the same room."""

from __future__ import annotations

from collections import OrderedDict

from heichat_appliance.store import events
from heichat_appliance.store.events import Execute, StoredEvent

#: Rows kept of all rooms together, and bytes of their PDUs.
MAX_ROWS = 5_000
MAX_BYTES = 8 * 2**20


class _Room:
    """Rows by their positions, all of which are at low <= pos <= high."""

    __slots__ = ("high", "low", "rows", "size")

    def __init__(self) -> None:
        self.low, self.high, self.size = 2**63, 0, 0
        self.rows: dict[int, StoredEvent] = {}


class RecentPages:
    """`in_room` is that of `store.events`. Nothing of an event changes but by its redaction, so a kept row is good as
    long as `redacted_by` is what the database says: that and the positions are read each time, at a quarter of the cost."""

    def __init__(self) -> None:
        self._rooms: OrderedDict[str, _Room] = OrderedDict()
        self._count = self._size = 0

    def in_room(
        self, execute: Execute, room_id: str, after: int, upto: int, limit: int, *, backwards: bool = False
    ) -> list[StoredEvent]:
        """At most `limit` events of a room at after < pos <= upto, in order, or backwards from `upto`."""
        room = self._rooms.get(room_id)
        if room is not None and after < room.high and upto >= room.low:
            marks = events.marks_in_room(execute, room_id, after, upto, limit, backwards=backwards)
            kept = list(map(room.rows.get, [pos for pos, _ in marks]))
            if [row and row.redacted_by for row in kept] == [mark for _, mark in marks] and None not in kept:
                self._rooms.move_to_end(room_id)
                return kept  # type: ignore[return-value]
        found = events.in_room(execute, room_id, after, upto, limit, backwards=backwards)
        if found:
            self._keep(room_id, found)
        return found

    def _keep(self, room_id: str, found: list[StoredEvent]) -> None:
        room = self._rooms.pop(room_id, None) or _Room()
        self._rooms[room_id] = room  # the last to be dropped
        count, size = len(room.rows), room.size
        for row in found:
            if row.pos not in room.rows:
                room.size += len(row.pdu)
            room.rows[row.pos] = row
        room.low = min(room.low, found[0].pos, found[-1].pos)
        room.high = max(room.high, found[0].pos, found[-1].pos)
        self._count += len(room.rows) - count
        self._size += room.size - size
        while self._count > MAX_ROWS or self._size > MAX_BYTES:
            _, dropped = self._rooms.popitem(last=False)
            self._count -= len(dropped.rows)
            self._size -= dropped.size
