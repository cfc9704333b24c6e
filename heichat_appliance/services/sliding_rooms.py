"""The rooms of a sliding sync's answer (MSC4186): what a client does not know yet of one room, as bytes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from heichat_appliance.db.engine import Engine
from heichat_appliance.protocol.requiredstate import MEMBER, Required
from heichat_appliance.services.gap import Gap, last_events
from heichat_appliance.services.room_parts import RoomParts, shown
from heichat_appliance.services.sliding_lists import Ask, RoomIndex, Wish, content_text, text_in
from heichat_appliance.services.sliding_memory import LIVE, MAX_MEMBERS, NOTHING, Memory
from heichat_appliance.services.tokens import Token
from heichat_appliance.services.unread import Fresh, Unread
from heichat_appliance.store import events, state
from heichat_appliance.store import sliding as store
from heichat_appliance.store.events import StoredEvent

#: What changes how a room is called or looks.
NAMING = ("m.room.name", "m.room.avatar")


class Section(NamedTuple):
    """What is told of a room: JSON, None if there is nothing to tell; what the client knows then; for receipts the events
    of a timeline that is told whole (None: only what is new is told)."""

    body: bytes | None
    memory: Memory
    whole: list[str] | None = None


@dataclass(eq=False)
class _Room:
    """A room that is being told. `known`: position up to which the client knows it; `new`: it is told whole; `end`:
    position up to which it is told; `events`: of the timeline, `fresh` those after `known`; `changes`: of state in
    between."""

    room_id: str
    wish: Wish
    memory: Memory
    known: int
    end: int
    new: bool
    expanded: bool = False
    events: list[StoredEvent] = None  # type: ignore[assignment]
    fresh: list[StoredEvent] = None  # type: ignore[assignment]
    limited: bool = False
    cut: bool = False  # some events after `known` are not in the timeline
    changes: list[StoredEvent] = None  # type: ignore[assignment]


class SlidingRooms:
    """Makes the sections of rooms."""

    def __init__(self, engine: Engine, index: RoomIndex, parts: RoomParts, unread: Unread) -> None:
        self._engine = engine
        self._index = index
        self._parts = parts
        self._unread = unread

    def section(self, ask: Ask, gap: Gap | None, room_id: str, wish: Wish, memory: Memory) -> Section:
        """What is to be told of a room now. `gap`: from `ask.since` to `ask.upto`, None without a `since`."""
        known = memory.sent if ask.since is None else min(memory.sent, ask.since)
        standing = ask.standing
        if room_id in standing.joined:
            return self._joined(ask, gap, room_id, wish, memory, known)
        told = Memory(LIVE, wish.limit, wish.required, frozenset(), memory.receipts, memory.data)
        at = standing.invited.get(room_id) or standing.knocking.get(room_id)
        if at is not None:
            return Section(None if known >= at else self._stripped(ask, room_id, at), told)
        at = ask.newly_left.get(room_id) or standing.left[room_id]
        if known >= at:
            return Section(None, told)
        return Section(self._left(ask, _Room(room_id, wish, memory, known, at, known < 0)), told)

    # -- joined rooms --------------------------------------------------------------------------------------------

    def _joined(self, ask: Ask, gap: Gap | None, room_id: str, wish: Wish, memory: Memory, known: int) -> Section:
        room = _Room(room_id, wish, memory, known, ask.upto, known < ask.standing.joined[room_id])
        if room.new:
            room.memory = memory = NOTHING._replace(receipts=memory.receipts, data=memory.data)
        room.expanded = not room.new and wish.limit > memory.limit
        self._read(ask, gap, room)
        rows = self._required(room)
        own = gap is not None and any(r.user_id == ask.viewer.user_id for r in gap.receipts(room_id))
        members = self._lazy(room, rows, ask.ignored)
        told = memory._replace(
            sent=LIVE, limit=wish.limit, required=wish.required, members=_remembered(memory.members, members)
        )
        if not (room.new or room.expanded or room.fresh or room.cut or rows or own):
            return Section(None, told)
        body = self._body(ask, gap, room, [*rows, *members], own)
        whole = [event.event_id for event in room.events] if room.new or room.expanded else None
        return Section(body, told, whole)

    def _read(self, ask: Ask, gap: Gap | None, room: _Room) -> None:
        """Fill in the timeline and what of the state changed."""
        limit = room.wish.limit
        if room.new:
            room.events, room.limited = self._tail(ask, room, limit)
            room.fresh, room.changes = room.events, []
            return
        at_least = max(limit, 1)
        if gap is not None and gap.after == room.known:
            room.fresh, room.cut = gap.events(room.room_id, at_least)
        else:
            room.fresh, room.cut = last_events(self._engine, room.room_id, room.known, room.end, at_least)
        if not limit:
            room.fresh, room.cut = [], bool(room.fresh)
        room.events, room.limited = self._tail(ask, room, limit) if room.expanded else (room.fresh, room.cut)
        if room.cut:
            room.changes = state.changes(self._engine.read, room.room_id, room.known, room.end)
        else:
            last = {(event.type, event.state_key): event for event in room.fresh if event.state_key is not None}
            room.changes = list(last.values())

    def _tail(self, ask: Ask, room: _Room, limit: int) -> tuple[list[StoredEvent], bool]:
        if not limit:
            return [], False
        return self._parts.visible_tail(
            ask.viewer.user_id, room.room_id, room.end, limit, ask.standing.joined.get(room.room_id)
        )

    # -- state ---------------------------------------------------------------------------------------------------

    def _required(self, room: _Room) -> list[StoredEvent]:
        """The state that is asked for and not known, without lazily loaded members."""
        wanted = room.wish.required
        if room.new:
            return self._state(room.room_id, wanted, room.end)
        rows = [event for event in room.changes if wanted.matches(event.type, event.state_key or "")]
        if wanted != room.memory.required:
            further = wanted.beyond(room.memory.required)
            known = {event.pos for event in rows}
            rows += [e for e in self._state(room.room_id, further, room.end) if e.pos not in known]
        return rows

    def _state(self, room_id: str, wanted: Required, at: int) -> list[StoredEvent]:
        read = self._engine.read
        if wanted.is_nothing:
            return []
        if not wanted.everything:
            return state.some_at(read, room_id, wanted.types, wanted.exact, at)
        if not wanted.lazy:
            return state.all_at(read, room_id, at)
        own = [pair for pair in wanted.exact if pair[0] == MEMBER]
        return state.all_but_members_at(read, room_id, at) + state.some_at(read, room_id, (), own, at)

    def _lazy(self, room: _Room, rows: list[StoredEvent], ignored: frozenset[str]) -> list[StoredEvent]:
        """The member events that the timeline needs and the client lacks, and the changes of those that it has."""
        if not room.wish.required.lazy:
            return []
        needed = {event.sender for event in shown(room.events, ignored)}
        needed |= {event.state_key for event in room.events if event.type == MEMBER and event.state_key is not None}
        had = room.memory.members
        changed = {e.state_key: e for e in room.changes if e.type == MEMBER}
        told = {event.state_key for event in rows if event.type == MEMBER}
        found = [e for who, e in changed.items() if who not in told and (not room.cut or who in needed or who in had)]
        missing = sorted(needed - had - told - changed.keys())
        if missing:
            found += state.members_at(self._engine.read, room.room_id, missing, room.end)
        return found

    # -- putting it together -------------------------------------------------------------------------------------

    def _body(self, ask: Ask, gap: Gap | None, room: _Room, rows: Collection[StoredEvent], own_receipt: bool) -> bytes:
        head: dict[str, Any] = {"initial": True} if room.new else {}
        if room.expanded:
            head["unstable_expanded_timeline"] = True
        if room.room_id in ask.direct:
            head["is_dm"] = True
        moved = room.new or any(event.type == MEMBER for event in room.changes)
        self._name(ask, room, head, moved, rows)
        if moved:
            head["joined_count"], head["invited_count"] = self._index.members(room.room_id)
        self._bump(room, head)
        self._count(ask, room, head, own_receipt)
        pieces = [orjson.dumps(head)[:-1]]
        if rows or room.new:
            pieces.append(b',"required_state":[%b]' % b",".join(self._parts.state(ask.viewer, rows)))
        pieces += self._timeline(ask, gap, room)
        return b"".join((*pieces, b"}"))

    def _name(self, ask: Ask, room: _Room, head: dict[str, Any], moved: bool, rows: Collection[StoredEvent]) -> None:
        """Name and avatar, when they are new; heroes, when there is no name. `rows`: the required state that is told."""
        renamed = any(event.type in NAMING for event in room.changes)
        if not (moved or renamed):
            return
        name = self._text(room, rows, "m.room.name", "name")
        if name is None:
            head["heroes"] = self._heroes(ask, room)
        if room.new or renamed:
            avatar = self._text(room, rows, "m.room.avatar", "url")
            head.update({key: value for key, value in (("name", name), ("avatar", avatar)) if value is not None})

    def _text(self, room: _Room, rows: Collection[StoredEvent], type: str, key: str) -> str | None:
        """A text in the content of a state event, which is among `rows` if a new room's required state has it."""
        if room.new and room.wish.required.matches(type, ""):
            return text_in(next((row for row in rows if row.type == type and row.state_key == ""), None), key)
        return content_text(self._engine, room.room_id, type, key, room.end)

    def _heroes(self, ask: Ask, room: _Room) -> list[dict[str, str]]:
        heroes = self._parts.heroes(ask.viewer.user_id, room.room_id, room.end)
        found = state.members_at(self._engine.read, room.room_id, heroes, room.end) if heroes else []
        contents = {event.state_key: orjson.loads(event.pdu)["content"] for event in found}
        return [
            {"user_id": hero}
            | {
                key: value
                for key in ("displayname", "avatar_url")
                if isinstance(value := contents.get(hero, {}).get(key), str)
            }
            for hero in heroes
        ]

    def _bump(self, room: _Room, head: dict[str, Any]) -> None:
        """`bump_stamp`; left out where it has not changed."""
        if room.new or room.cut:
            head["bump_stamp"] = self._index.last_bump(room.room_id, room.end)
            return
        bumps = [event.pos for event in room.fresh if event.type in store.BUMPING]
        if bumps:
            head["bump_stamp"] = bumps[-1]

    def _count(self, ask: Ask, room: _Room, head: dict[str, Any], own_receipt: bool) -> None:
        at_hand = None if room.new or room.cut else Fresh(room.known, room.fresh)
        moved = own_receipt or room.known != ask.since
        joined_at = ask.standing.joined.get(room.room_id)
        counts = self._unread.counts(ask.viewer.user_id, room.room_id, room.end, at_hand, moved, joined_at).values()
        head["notification_count"] = sum(count.notify for count in counts)
        head["highlight_count"] = sum(count.highlight for count in counts)

    def _timeline(self, ask: Ask, gap: Gap | None, room: _Room) -> list[bytes]:
        if not room.wish.limit:
            return []
        found = room.events
        since = ask.since
        live = 0 if since is None else sum(event.pos > since for event in shown(found, ask.ignored))
        start = found[0].pos - 1 if found else room.end
        head = b',"num_live":%d,"limited":%b,"prev_batch":"%b","timeline":[' % (
            live, b"true" if room.limited else b"false", str(Token(start, self._engine.epoch)).encode(),
        )  # fmt: skip

        def render() -> bytes:
            joined = ask.standing.joined.get(room.room_id)
            return b",".join(self._parts.timeline(ask.viewer, ask.ignored, room.room_id, found, joined))

        shared = gap is not None and gap.after == room.known and not (room.new or room.expanded)
        if not shared or self._parts.is_personal(ask.viewer, ask.ignored, found):
            return [head, render(), b"]"]
        return [head, _once(gap, (room.room_id, "sliding", len(found)), render), b"]"]

    # -- other rooms ---------------------------------------------------------------------------------------------

    def _stripped(self, ask: Ask, room_id: str, at: int) -> bytes:
        """An invited or knocking person's room."""
        member = events.by_position(self._engine.read, at)
        assert member is not None, at
        shown_state = self._parts.stripped(room_id, member)
        body: dict[str, Any] = {"initial": True, "bump_stamp": at, "invite_state": shown_state}
        for event in shown_state:
            for type, key, name in (("m.room.name", "name", "name"), ("m.room.avatar", "url", "avatar")):
                if event["type"] == type and isinstance(event["content"].get(key), str):
                    body[name] = event["content"][key]
        if room_id in ask.direct:
            body["is_dm"] = True
        return orjson.dumps(body)

    def _left(self, ask: Ask, room: _Room) -> bytes:
        """A room that the person left, or was put out of, at `room.end`: what they could still see, and that."""
        viewer, read = ask.viewer, self._engine.read
        intervals = [
            m for m in state.membership_intervals(read, viewer.user_id, room.room_id) if m.from_pos <= room.end
        ]
        stay = None
        for interval in reversed(intervals[:-1]):
            if interval.membership != "join":
                break
            stay = interval.from_pos
        room.new = room.new or (stay is not None and room.known < stay)
        found, more = self._tail(ask, room, room.wish.limit)
        room.events = [event for event in found if room.new or event.pos > room.known]
        room.limited = more and (room.new or len(room.events) == len(found))
        rows: list[StoredEvent] = []
        if stay is not None:
            wanted = room.wish.required
            if room.new:
                rows = self._state(room.room_id, wanted, room.end)
            else:
                changes = state.changes(read, room.room_id, room.known, room.end)
                rows = [e for e in changes if wanted.matches(e.type, e.state_key or "")]
        own = events.by_position(read, room.end)
        if own is not None and all(row.pos != own.pos for row in rows):
            rows.append(own)
        head: dict[str, Any] = {"initial": True} if room.new else {}
        head["bump_stamp"] = room.end
        pieces = [orjson.dumps(head)[:-1], b',"required_state":[%b]' % b",".join(self._parts.state(viewer, rows))]
        return b"".join((*pieces, *self._timeline(ask, None, room), b"}"))


def _once(gap: Gap | None, key: tuple[Any, ...], make: Callable[[], bytes]) -> bytes:
    """A piece that is the same for everybody who asks for the gap: made once."""
    assert gap is not None
    piece: bytes | None = gap.shared.get(key)
    if piece is None:
        piece = gap.shared[key] = make()
    return piece


def _remembered(had: frozenset[str], told: Collection[StoredEvent]) -> frozenset[str]:
    """The lazily loaded members that the client has now; the earlier ones are forgotten if they become too many."""
    new = frozenset(event.state_key for event in told if event.state_key is not None)
    if new <= had:
        return had
    return had | new if len(had) + len(new) <= MAX_MEMBERS else new
