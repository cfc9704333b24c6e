"""What /sync and sliding sync both tell of a room: timelines, heroes, stripped state, receipts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from heichat_appliance.clock import Clock
from heichat_appliance.db.engine import Engine
from heichat_appliance.protocol.visibility import is_visible
from heichat_appliance.services import visibility
from heichat_appliance.services.gap import last_events
from heichat_appliance.services.render import Piece, Renderer, Viewer
from heichat_appliance.store import receipts, state
from heichat_appliance.store.account_data import AccountData
from heichat_appliance.store.events import StoredEvent
from heichat_appliance.store.receipts import Receipt

#: What invited people and people who knock are shown of a room (spec "Stripped state").
STRIPPED = (
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.encryption",
)
HEROES = 5


class RoomParts:
    """Reads and renders parts of rooms for one person."""

    def __init__(self, engine: Engine, clock: Clock, renderer: Renderer, bundles: Any = None) -> None:
        """`bundles`: gives `unsigned."m.relations"` of events, if there is such."""
        self._engine = engine
        self._clock = clock
        self.renderer = renderer
        self._bundles = bundles

    def visible_tail(
        self, user_id: str, room_id: str, upto: int, limit: int, joined: int | None = None
    ) -> tuple[list[StoredEvent], bool]:
        """The last `limit` events up to a position, of these those that the person may see; whether there are more.

        `joined`: the person has been in the room since this position, if it is known.
        """
        found, more = last_events(self._engine, room_id, 0, upto, limit)
        if joined is not None and found and found[0].pos >= joined:
            return found, more
        ranges = visibility.ranges(self._engine.read, user_id, room_id)
        kept = [event for event in found if is_visible(ranges, event.pos)]
        return kept, more or len(kept) < len(found)

    def is_personal(
        self, viewer: Viewer, ignored: frozenset[str], found: Sequence[StoredEvent], newest: bool = False
    ) -> bool:
        """Whether the person's JSON of the events differs from other members'; `newest` as for Bundles.has_any."""
        if self._bundles is not None and self._bundles.has_any(found, newest):
            return True
        return any(
            (event.txn_id is not None and event.sender == viewer.user_id) or event.sender in ignored for event in found
        )

    def timeline(
        self,
        viewer: Viewer,
        ignored: frozenset[str],
        room_id: str,
        found: Sequence[StoredEvent],
        joined: int | None = None,
    ) -> list[bytes]:
        """The JSON of timeline events. In the timeline of a joined room the person is joined at each event except for
        those before the join. `joined` as for `visible_tail`."""
        now = self._clock.now_ms()
        kept = shown(found, ignored)
        relations = self._bundles.of(kept, viewer.user_id, ignored) if self._bundles and kept else {}
        first = kept[0].pos if kept else 0
        memberships = None
        is_known = not kept or (joined is not None and first >= joined)
        if not is_known and state.membership_at(self._engine.read, viewer.user_id, room_id, first) != "join":
            memberships = state.membership_intervals(self._engine.read, viewer.user_id, room_id)
        return [
            self.renderer.render(
                event, now, viewer=viewer, with_room_id=False, relations=relations.get(event.event_id),
                membership="join" if memberships is None else _membership_at(memberships, event.pos),
            )
            for event in kept
        ]  # fmt: skip

    def state(self, viewer: Viewer, rows: Iterable[StoredEvent]) -> list[bytes]:
        """The JSON of state events."""
        now = self._clock.now_ms()
        return [self.renderer.render(row, now, viewer=viewer, with_room_id=False) for row in rows]

    def timeline_piece(self, found: Sequence[StoredEvent]) -> Piece | None:
        """What `timeline` gives to people who joined before these events, ignore none of their senders and sent none of
        them from this device; None if there are bundled aggregations, which depend on the person."""
        if self._bundles is not None and self._bundles.has_any(found):
            return None
        return Piece([self.renderer.template(event, "join") for event in found], found)

    def state_piece(self, rows: Sequence[StoredEvent]) -> Piece:
        """What `state` gives to people who sent none of these events from this device."""
        return Piece([self.renderer.template(row) for row in rows], rows)

    def tell(self, piece: Piece) -> bytes:
        """The JSON of a piece, now."""
        return piece.at(self._clock.now_ms())

    def has_name(self, room_id: str, upto: int) -> bool:
        """Whether the room has a name or an alias, and so needs no heroes."""
        for type, key in (("m.room.name", "name"), ("m.room.canonical_alias", "alias")):
            event = state.at(self._engine.read, room_id, type, "", upto)
            if event is not None and orjson.loads(event.pdu)["content"].get(key):
                return True
        return False

    def hero_candidates(self, room_id: str, upto: int) -> list[str]:
        """Whom to choose a member's heroes from (`heroes_among`): joined or invited people; and, if it is but one, those
        who left."""
        present = state.first_members_at(self._engine.read, room_id, ("join", "invite"), upto, HEROES + 1)
        if len(present) > 1:
            return present
        return present + state.first_members_at(self._engine.read, room_id, ("leave", "ban"), upto, HEROES + 1)

    def heroes(self, user_id: str, room_id: str, upto: int) -> list[str]:
        """At most five members other than the person: joined or invited ones, else those who left."""
        present = state.first_members_at(self._engine.read, room_id, ("join", "invite"), upto, HEROES + 1)
        found = heroes_among(present, user_id)
        if not found:
            gone = state.first_members_at(self._engine.read, room_id, ("leave", "ban"), upto, HEROES + 1)
            found = heroes_among(gone, user_id)
        return found

    def stripped(self, room_id: str, member: StoredEvent) -> list[dict[str, Any]]:
        """What an invited or knocking person is shown of a room; `member`: their member event."""
        rows = [state.at(self._engine.read, room_id, type, "", member.pos) for type in STRIPPED]
        rows.append(state.at(self._engine.read, room_id, "m.room.member", member.sender, member.pos))
        found = [self.renderer.stripped(row) for row in rows if row is not None and row.pos != member.pos]
        own = {**self.renderer.stripped(member), "event_id": member.event_id, "origin_server_ts": member.ts}
        return [*found, own]


def heroes_among(candidates: Iterable[str], user_id: str) -> list[str]:
    """At most five of them, without the person."""
    return [member for member in candidates if member != user_id][:HEROES]


def shown(found: Iterable[StoredEvent], ignored: frozenset[str]) -> list[StoredEvent]:
    """The events of a timeline without the messages of people whom the person ignores."""
    return [event for event in found if event.state_key is not None or event.sender not in ignored]


def visible_receipts(found: Iterable[Receipt], user_id: str, ignored: frozenset[str]) -> list[Receipt]:
    """The receipts that the person may see: their own, and public ones of people whom they do not ignore."""
    return [r for r in found if r.user_id not in ignored and (r.type == receipts.READ or r.user_id == user_id)]


def receipt_content(found: Iterable[Receipt]) -> dict[str, Any]:
    """The content of an m.receipt event."""
    content: dict[str, Any] = {}
    for receipt in found:
        data: dict[str, Any] = {"ts": receipt.ts}
        if receipt.thread_id:
            data["thread_id"] = receipt.thread_id
        content.setdefault(receipt.event_id, {}).setdefault(receipt.type, {})[receipt.user_id] = data
    return content


def by_room(rows: Iterable[AccountData]) -> dict[str, list[AccountData]]:
    """Account data by room."""
    result: dict[str, list[AccountData]] = {}
    for row in rows:
        result.setdefault(row.room_id, []).append(row)
    return result


def event_json(row: AccountData) -> bytes:
    """An account data event."""
    return b'{"type":%b,"content":%b}' % (orjson.dumps(row.type), row.content.encode())


def _membership_at(intervals: Iterable[state.Membership], pos: int) -> str:
    return next((m.membership for m in intervals if m.from_pos <= pos < m.to_pos), "leave")
