"""What happened between two positions: read once, shared by everybody who asks for the same two.

A thousand people who wait in one room ask for the same gap, so its events are read once and serialised once.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Hashable
from typing import Any

from heichat_appliance.db.engine import Engine
from heichat_appliance.store import device_lists, events, receipts, state
from heichat_appliance.store.events import StoredEvent
from heichat_appliance.store.receipts import Receipt

#: A gap of at most so many positions is read as a whole; a wider one by room.
SMALL = 1_000
#: Gaps kept. Those of one moment have few beginnings and one end.
MAX_GAPS = 64


class Gap:
    """The positions after < pos <= upto."""

    __slots__ = ("_engine", "_events", "_receipts", "after", "is_small", "may_change_device_lists", "shared", "upto")

    def __init__(self, engine: Engine, after: int, upto: int) -> None:
        self._engine = engine
        self.after = after
        self.upto = upto
        self.is_small = upto - after <= SMALL
        #: Serialised pieces that do not depend on the person, by whatever they depend on.
        self.shared: dict[Hashable, Any] = {}
        self._events: dict[str, list[StoredEvent]] = defaultdict(list)
        self._receipts: dict[str, list[Receipt]] = defaultdict(list)
        #: Whether anybody's device list may have to be told of; False is certain.
        self.may_change_device_lists = True
        if self.is_small:
            for event in events.between(engine.read, after, upto):
                self._events[event.room_id].append(event)
            for receipt in receipts.by_position(engine.read, after, upto):
                self._receipts[receipt.room_id].append(receipt)
            self.may_change_device_lists = device_lists.is_any_changed(engine.read, after, upto) or any(
                event.type in ("m.room.member", "m.room.encryption")
                for found in self._events.values()
                for event in found
            )

    def touched_rooms(self) -> set[str] | None:
        """The rooms with new events or receipts; None if only a look at each room can tell."""
        return self._events.keys() | self._receipts.keys() if self.is_small else None

    def receipt_rooms(self) -> set[str] | None:
        """The rooms with new receipts; None if only a look at each room can tell."""
        return set(self._receipts) if self.is_small else None

    def events(self, room_id: str, limit: int) -> tuple[list[StoredEvent], bool]:
        """The last `limit` events of a room in the gap, in order, and whether there are more."""
        if self.is_small:
            found = self._events.get(room_id, [])
            return found[-limit:], len(found) > limit
        return last_events(self._engine, room_id, self.after, self.upto, limit)

    def receipts(self, room_id: str) -> list[Receipt]:
        """The receipts of a room in the gap, private ones too."""
        if self.is_small:
            return self._receipts.get(room_id, [])
        return receipts.changed(self._engine.read, room_id, self.after, self.upto)

    def state(self, room_id: str) -> list[StoredEvent]:
        """The state that holds at the end of the gap and did not at its beginning."""
        return state.changes(self._engine.read, room_id, self.after, self.upto)


class Gaps:
    """The gaps that were asked for lately."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: OrderedDict[tuple[int, int], Gap] = OrderedDict()

    def get(self, after: int, upto: int) -> Gap:
        """The gap after < pos <= upto. Positions never change what lies behind them, but for redactions."""
        gap = self._kept.get((after, upto))
        if gap is None:
            gap = Gap(self._engine, after, upto)
            if gap.is_small:
                self._kept[(after, upto)] = gap
                if len(self._kept) > MAX_GAPS:
                    self._kept.popitem(last=False)
        return gap

    def clear(self) -> None:
        """Forget all: something behind was changed (a redaction)."""
        self._kept.clear()


def last_events(engine: Engine, room_id: str, after: int, upto: int, limit: int) -> tuple[list[StoredEvent], bool]:
    """The last `limit` events of a room at after < pos <= upto, in order, and whether there are more."""
    found = events.in_room(engine.read, room_id, after, upto, limit + 1, backwards=True)
    return found[limit - 1 :: -1] if len(found) > limit else found[::-1], len(found) > limit
