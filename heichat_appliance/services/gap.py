"""What happened between two positions, for all who ask.

The newest events and receipts are kept for a while after their commit (`Recent`). A thousand people who
wait in one room ask for the same gap, so what a gap's answers have in common is made once (`Gap.shared`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Collection, Hashable
from operator import attrgetter
from typing import Any

from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.store import device_lists, events, receipts, state
from heichat_appliance.store.events import StoredEvent
from heichat_appliance.store.receipts import Receipt

#: Events and receipts kept in memory; what is older is read by room.
MAX_KEPT = 5_000
#: Bytes of them, roughly.
MAX_BYTES = 16 * 2**20
#: When nobody asked for so many positions, what lies between is not fetched any more.
MAX_BEHIND = 2_000
#: Gaps kept. Those of one moment have few beginnings and one end.
MAX_GAPS = 64
#: Of so few rooms each is looked at, unless the gap has fewer positions than this; else all in which something happened.
FEW = 100

_position = attrgetter("pos")
_Key = tuple[str, str, str]


class _Room:
    """What is new in a room: events in order, the last receipt of each person, type and thread in order; `pos`: of the
    newest of all these."""

    __slots__ = ("events", "pos", "receipts")

    def __init__(self) -> None:
        self.pos = 0
        self.events: list[StoredEvent] = []
        self.receipts: dict[_Key, Receipt] = {}

    def last_receipt(self) -> int:
        return next(reversed(self.receipts.values())).pos if self.receipts else 0


class _Added:
    """The events that write jobs have stored and nobody has taken yet: what was just written need not be read again."""

    def __init__(self, position: int) -> None:
        self._rows: deque[StoredEvent] = deque()
        self._bytes = 0
        #: Events up to this position may be missing here.
        self._missing = position

    def add(self, tx: Transaction, row: StoredEvent) -> None:
        """An event of a job that may still be rolled back."""
        self._rows.append(row)
        self._bytes += _size(row)
        tx.on_rollback(lambda: self._undo(row))
        if len(self._rows) > MAX_BEHIND or self._bytes > MAX_BYTES:
            self._rows.clear()
            self._bytes = 0
            self._missing = row.pos

    def _undo(self, row: StoredEvent) -> None:
        if self._rows and self._rows[-1] is row:
            self._bytes -= _size(self._rows.pop())

    def take(self, after: int, upto: int) -> list[StoredEvent] | None:
        """The committed events at after < pos <= upto, in order; None if some may be missing. They are here no longer."""
        taken = []
        while self._rows and self._rows[0].pos <= upto:
            row = self._rows.popleft()
            self._bytes -= _size(row)
            taken.append(row)
        return taken if after >= self._missing else None


class Recent:
    """The events and receipts of all rooms at the positions start < pos <= upto."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.start = self.upto = engine.position
        self.added = _Added(engine.position)
        #: Nobody's receipts, devices or memberships changed after this position: those name the person.
        self.named = self.start
        #: Nobody's device list, and nobody's sharing of encrypted rooms, changed after this position.
        self.device_lists_changed = self.start
        #: in the order of the newest position
        self._rooms: OrderedDict[str, _Room] = OrderedDict()
        self._kept: deque[StoredEvent | Receipt] = deque()
        self._bytes = 0

    def catch_up(self) -> None:
        """Take in what was committed since the last call."""
        after, upto = self.upto, self._engine.position
        if upto <= after:
            return
        self.upto = upto
        added = self.added.take(after, upto)
        if upto - after > MAX_BEHIND:
            self.start = self.device_lists_changed = upto
            self._rooms.clear()
            self._kept.clear()
            self._bytes = 0
            return
        read = self._engine.read
        found: list[StoredEvent | Receipt] = [*(events.between(read, after, upto) if added is None else added)]
        moved = any(row.type in ("m.room.member", "m.room.encryption") for row in found)
        redacted = {row.room_id for row in found if row.type == "m.room.redaction"}
        if self.named > after:
            found += receipts.by_position(read, after, upto)
            found.sort(key=_position)
            moved = moved or device_lists.is_any_changed(read, after, upto)
        for row in found:
            self._add(row)
        for room_id in redacted:  # what is kept of the room may have changed
            room = self._rooms[room_id]
            room.events = events.in_room(read, room_id, self.start, upto, len(room.events))
        if moved:
            self.device_lists_changed = upto
        while len(self._kept) > MAX_KEPT or self._bytes > MAX_BYTES:
            self._drop(self._kept.popleft())

    def _add(self, row: StoredEvent | Receipt) -> None:
        room = self._rooms.get(row.room_id)
        if room is None:
            room = self._rooms[row.room_id] = _Room()
        else:
            self._rooms.move_to_end(row.room_id)
        room.pos = row.pos
        if isinstance(row, StoredEvent):
            room.events.append(row)
        else:
            room.receipts.pop(_key(row), None)
            room.receipts[_key(row)] = row
        self._kept.append(row)
        self._bytes += _size(row)

    def _drop(self, row: StoredEvent | Receipt) -> None:
        self.start = row.pos
        self._bytes -= _size(row)
        room = self._rooms[row.room_id]
        if isinstance(row, StoredEvent):
            del room.events[0]
        elif room.receipts[_key(row)].pos == row.pos:
            del room.receipts[_key(row)]
        if not (room.events or room.receipts):
            del self._rooms[row.room_id]

    def rooms(self, after: int) -> set[str]:
        """The rooms with something after a position."""
        found = set()
        for room_id in reversed(self._rooms):
            if self._rooms[room_id].pos <= after:
                break
            found.add(room_id)
        return found

    def receipt_rooms(self, after: int) -> set[str]:
        """The rooms with receipts after a position."""
        return {room_id for room_id in self.rooms(after) if self._rooms[room_id].last_receipt() > after}

    def is_touched(self, room_id: str, after: int) -> bool:
        """Whether something happened in a room after a position."""
        room = self._rooms.get(room_id)
        return room is not None and room.pos > after

    def events(self, room_id: str, after: int, upto: int) -> list[StoredEvent]:
        """The events of a room at after < pos <= upto, in order."""
        room = self._rooms.get(room_id)
        if room is None:
            return []
        first = bisect_right(room.events, after, key=_position)
        if upto >= self.upto:
            return room.events[first:]
        return room.events[first : bisect_right(room.events, upto, key=_position)]

    def receipts(self, room_id: str, after: int, upto: int) -> list[Receipt]:
        """The receipts of a room at after < pos <= upto in order, private ones too."""
        room = self._rooms.get(room_id)
        if room is None:
            return []
        found = []
        for receipt in reversed(room.receipts.values()):
            if receipt.pos <= after:
                break
            if receipt.pos <= upto:
                found.append(receipt)
        return found[::-1]


class Gap:
    """The positions after < pos <= upto."""

    __slots__ = ("_engine", "_recent", "_touched", "after", "shared", "upto")

    def __init__(self, engine: Engine, recent: Recent, after: int, upto: int) -> None:
        self._engine = engine
        self._recent = recent
        self._touched: set[str] | None = None
        self.after = after
        self.upto = upto
        #: Serialised pieces that do not depend on the person, by whatever they depend on.
        self.shared: dict[Hashable, Any] = {}

    @property
    def is_recent(self) -> bool:
        """Whether all of it is in memory."""
        return self.after >= self._recent.start

    @property
    def may_change_device_lists(self) -> bool:
        """Whether anybody's device list may have to be told of; False is certain."""
        return not self.is_recent or self._recent.device_lists_changed > self.after

    def touched_rooms(self) -> set[str] | None:
        """The rooms with new events or receipts, and maybe some with later ones; None if only a look at each room can tell."""
        if self._touched is None and self.is_recent:
            self._touched = self._recent.rooms(self.after)
        return self._touched

    def receipt_rooms(self) -> set[str] | None:
        """The rooms with new receipts; None if only a look at each room can tell."""
        return self._recent.receipt_rooms(self.after) if self.is_recent else None

    def touched_among(self, rooms: Collection[str]) -> set[str]:
        """Those of the rooms that may have new events or receipts."""
        if len(rooms) <= FEW < self.upto - self.after and self.is_recent:
            recent, after = self._recent, self.after
            return {room_id for room_id in rooms if recent.is_touched(room_id, after)}
        touched = self.touched_rooms()
        return set(rooms) if touched is None else touched.intersection(rooms)

    def events(self, room_id: str, limit: int) -> tuple[list[StoredEvent], bool]:
        """The last `limit` events of a room in the gap, in order, and whether there are more."""
        if self.is_recent:
            found = self._recent.events(room_id, self.after, self.upto)
            return found[-limit:], len(found) > limit
        return last_events(self._engine, room_id, self.after, self.upto, limit)

    def receipts(self, room_id: str) -> list[Receipt]:
        """The receipts of a room in the gap, private ones too."""
        if self.is_recent:
            return self._recent.receipts(room_id, self.after, self.upto)
        return receipts.changed(self._engine.read, room_id, self.after, self.upto)

    def state(self, room_id: str) -> list[StoredEvent]:
        """The state that holds at the end of the gap and did not at its beginning."""
        return state.changes(self._engine.read, room_id, self.after, self.upto)


class Gaps:
    """The gaps that were asked for lately."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._recent = Recent(engine)
        self.added = self._recent.added.add
        self._kept: OrderedDict[tuple[int, int], Gap] = OrderedDict()

    def committed(self, position: int, rooms: set[str], users: set[str]) -> None:
        """Listens to the notifier: something happened to these people."""
        if users:
            self._recent.named = position

    def get(self, after: int, upto: int) -> Gap:
        """The gap after < pos <= upto, where `upto` is the newest position."""
        gap = self._kept.get((after, upto))
        if gap is None:
            self._recent.catch_up()
            gap = self._kept[(after, upto)] = Gap(self._engine, self._recent, after, upto)
            if len(self._kept) > MAX_GAPS:
                self._kept.popitem(last=False)
        return gap


def last_events(engine: Engine, room_id: str, after: int, upto: int, limit: int) -> tuple[list[StoredEvent], bool]:
    """The last `limit` events of a room at after < pos <= upto, in order, and whether there are more."""
    found = events.in_room(engine.read, room_id, after, upto, limit + 1, backwards=True)
    return found[limit - 1 :: -1] if len(found) > limit else found[::-1], len(found) > limit


def _size(row: StoredEvent | Receipt) -> int:
    return len(row.pdu) if isinstance(row, StoredEvent) else 0


def _key(receipt: Receipt) -> _Key:
    return receipt.user_id, receipt.type, receipt.thread_id
