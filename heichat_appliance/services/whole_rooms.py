"""What of a whole room is the same for all members who ask for it, kept while nothing happens there.

On the morning of a lecture hundreds begin with an empty cache, in the same rooms. What a room's events, state and receipts
give is made once for each of the room's last positions; whatever changes it (messages, edits, redactions, state) is an
event of the room and so has a later position. Nothing in here depends on who asks; ages are put in when it is told.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable
from typing import Any, NamedTuple

import orjson

from heichat_appliance.db.engine import Engine
from heichat_appliance.services.gap import last_events
from heichat_appliance.services.render import Piece, Viewer
from heichat_appliance.services.room_parts import RoomParts, receipt_content, visible_receipts
from heichat_appliance.store import events, receipts, state
from heichat_appliance.store.events import StoredEvent

#: Pieces that are kept, the bytes of them all (roughly), and of one.
MAX_KEPT = 2_000
MAX_BYTES = 16 * 2**20
MAX_ONE = 256 * 2**10


class Whole(NamedTuple):
    """A room whose timeline begins at `first`, with its state without the members whom nobody needs.

    `timeline` is None where it depends on the reader (bundled aggregations); `senders` of its events, `devices` that sent
    them or the state with a transaction ID; `members`: whose member events are in `state`, `noted`: these and those in the
    timeline; `heroes`: those to choose from, None if the room has a name.
    """

    first: int
    limited: bool
    timeline: Piece | None
    state: Piece
    senders: frozenset[str]
    devices: frozenset[tuple[str, str | None]]
    state_devices: frozenset[tuple[str, str | None]]
    members: frozenset[str]
    noted: tuple[str, ...]
    heroes: list[str] | None
    joined: int
    invited: int


class Receipts(NamedTuple):
    """The public receipts of a room as an event (b"" if there are none), whose they are, and who has private ones."""

    json: bytes
    people: frozenset[str]
    private: frozenset[str]


class Start(NamedTuple):
    """What one request has found out about all its rooms at a position: the last event and the last receipt of each,
    and the person's own member events."""

    events: dict[str, int]
    receipts: dict[str, int]
    own: dict[str, StoredEvent]


class WholeRooms:
    """Makes and keeps what is the same for all."""

    def __init__(self, engine: Engine, parts: RoomParts) -> None:
        self._engine = engine
        self._parts = parts
        #: key to (the room's last position, value, bytes)
        self._kept: OrderedDict[Hashable, tuple[int, Any, int]] = OrderedDict()
        self._bytes = 0

    def start(self, user_id: str, room_ids: Collection[str], upto: int) -> Start:
        """Look up, for a person who begins with an empty cache, what has to be known of their rooms: three statements."""
        read = self._engine.read
        return Start(
            events.last_positions(read, room_ids, upto),
            receipts.last_positions(read, room_ids, upto),
            state.own_member_events(read, user_id, upto),
        )

    def room(self, room_id: str, last: int, limit: int, *, state_after: bool) -> Whole | None:
        """The room with its last `limit` events and the state before or after them; None if it has no events.

        `last`: the position of its last event.
        """
        key = (room_id, limit, state_after)
        whole: Whole | None = self._get(key, last)
        if whole is None:
            whole = self._make(room_id, last, limit, state_after)
            if whole is not None:
                self._keep(key, last, whole, whole.state.size + (whole.timeline.size if whole.timeline else 0))
        return whole

    def receipts(self, room_id: str, last: int) -> Receipts:
        """The receipts of a room; `last`: the position of the last one, 0 if there is none."""
        if not last:
            return _NO_RECEIPTS
        found: Receipts | None = self._get(room_id, last)
        if found is None:
            rows = receipts.in_room(self._engine.read, room_id, last)
            visible = visible_receipts(rows, _NOBODY.user_id, frozenset())
            json = receipts_event(receipt_content(visible)) if visible else b""
            private = frozenset(row.user_id for row in rows if row.type != receipts.READ)
            found = Receipts(json, frozenset(row.user_id for row in rows), private)
            self._keep(room_id, last, found, 2 * len(json))
        return found

    # -- making --------------------------------------------------------------------------------------------------

    def _make(self, room_id: str, last: int, limit: int, state_after: bool) -> Whole | None:
        read = self._engine.read
        found, limited = last_events(self._engine, room_id, 0, last, limit)
        if not found:
            return None
        at = last if state_after else found[0].pos - 1
        heroes = None if self._parts.has_name(room_id, last) else self._parts.hero_candidates(room_id, last)
        senders = frozenset(event.sender for event in found)
        shown = state.members_at(read, room_id, sorted(senders.union(heroes or ())), at)
        rows = [*state.all_but_members_at(read, room_id, at), *shown]
        members = frozenset(row.state_key for row in shown if row.state_key is not None)
        told = {e.state_key for e in found if e.type == "m.room.member" and e.state_key is not None}
        joined, invited = state.members_counted(read, room_id)
        return Whole(
            found[0].pos, limited, self._parts.timeline_piece(found), self._parts.state_piece(rows), senders,
            _devices(found), _devices(rows), members, tuple(members | told), heroes, joined, invited,
        )  # fmt: skip

    # -- keeping -------------------------------------------------------------------------------------------------

    def _get(self, key: Hashable, last: int) -> Any:
        kept = self._kept.get(key)
        if kept is None or kept[0] != last:
            return None
        self._kept.move_to_end(key)
        return kept[1]

    def _keep(self, key: Hashable, last: int, value: Any, size: int) -> None:
        old = self._kept.pop(key, None)
        self._bytes -= old[2] if old is not None else 0
        if size > MAX_ONE:
            return
        self._kept[key] = (last, value, size)
        self._bytes += size
        while len(self._kept) > MAX_KEPT or self._bytes > MAX_BYTES:
            self._bytes -= self._kept.popitem(last=False)[1][2]


def receipts_event(content: dict[str, Any]) -> bytes:
    """An m.receipt event."""
    return b'{"type":"m.receipt","content":%b}' % orjson.dumps(content)


def _devices(found: Collection[StoredEvent]) -> frozenset[tuple[str, str | None]]:
    return frozenset((event.sender, event.device_id) for event in found if event.txn_id is not None)


_NOBODY = Viewer("", "")
_NO_RECEIPTS = Receipts(b"", frozenset(), frozenset())
