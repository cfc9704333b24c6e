"""Which rooms a sliding sync is about: its lists, sorted and filtered, the windows on them, and subscriptions (MSC4186)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import orjson

from heichat_appliance.db.engine import Engine
from heichat_appliance.protocol import requiredstate
from heichat_appliance.protocol.requiredstate import Required
from heichat_appliance.services.people import Standing
from heichat_appliance.services.render import Viewer
from heichat_appliance.services.sliding_request import Filters, List, RoomConfig, SlidingRequest
from heichat_appliance.store import account_data, events, state
from heichat_appliance.store import sliding as store
from heichat_appliance.store.events import StoredEvent

#: The most events of a room in an answer, whatever is asked for; the rest comes through /messages.
MAX_TIMELINE = 100
#: Rooms of which it is kept what lists need.
MAX_KEPT = 50_000


class RoomIndex:
    """What lists sort and filter by, kept in memory until something happens in the room."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._last: dict[str, int] = {}
        self._bumps: dict[str, int] = {}
        self._members: dict[str, tuple[int, int]] = {}
        self._encrypted: dict[str, bool] = {}
        self._types: dict[str, str | None] = {}

    def committed(self, position: int, rooms: set[str], users: set[str]) -> None:
        """Listens to the notifier: something happened in `rooms`."""
        for room_id in rooms:
            for kept in (self._last, self._bumps):
                kept.pop(room_id, None)
            if users:  # only who names a person changes a membership
                self._members.pop(room_id, None)
            if self._encrypted.get(room_id) is False:
                del self._encrypted[room_id]

    def last_positions(self, room_ids: Iterable[str]) -> dict[str, int]:
        """The position of the last event of each room."""
        missing = _missing(self._last, room_ids)
        if missing:
            self._last.update(store.last_positions(self._engine.read, missing))
        return self._last

    def last_bump(self, room_id: str, upto: int) -> int:
        """The position of the room's last event of the kinds in BUMPING, up to a position."""
        if _missing(self._bumps, (room_id,)):
            self._bumps[room_id] = store.last_bump(self._engine.read, room_id, self._engine.position)
        found = self._bumps[room_id]
        return found if found <= upto else store.last_bump(self._engine.read, room_id, upto)

    def members(self, room_id: str) -> tuple[int, int]:
        """How many people have joined the room, and how many are invited."""
        if _missing(self._members, (room_id,)):
            self._members[room_id] = state.members_counted(self._engine.read, room_id)
        return self._members[room_id]

    def is_encrypted(self, room_ids: Sequence[str]) -> dict[str, bool]:
        """Whether each room is encrypted."""
        missing = _missing(self._encrypted, room_ids)
        if missing:
            found = store.encrypted(self._engine.read, missing)
            self._encrypted.update((room_id, room_id in found) for room_id in missing)
        return self._encrypted

    def types(self, room_ids: Sequence[str]) -> dict[str, str | None]:
        """The type of each room, None for an ordinary one."""
        missing = _missing(self._types, room_ids)
        if missing:
            self._types.update(store.room_types(self._engine.read, missing))
        return self._types


def _missing(kept: dict[str, Any], room_ids: Iterable[str]) -> list[str]:
    """The rooms that are not kept and must be read; when there is no place for them, all is forgotten first."""
    wanted = list(room_ids)
    missing = [room_id for room_id in wanted if room_id not in kept]
    if missing and len(kept) + len(missing) > MAX_KEPT:
        kept.clear()
        return wanted
    return missing


class Wish(NamedTuple):
    """What is wanted of a room."""

    limit: int
    required: Required


@dataclass(eq=False)
class Ask:
    """A request at one moment. `since`: the position of its `pos`, None without; `upto`: of the answer."""

    engine: Engine
    viewer: Viewer
    request: SlidingRequest
    since: int | None
    upto: int
    standing: Standing
    #: rooms left, or put out of, since: room ID to position
    newly_left: dict[str, int] = field(default_factory=dict)

    @property
    def ignored(self) -> frozenset[str]:
        """Whom the person ignores."""
        return self.standing.ignored

    @cached_property
    def direct(self) -> frozenset[str]:
        """The rooms that the person has marked as direct chats (m.direct)."""
        content = account_data.get(self.engine.read, self.viewer.user_id, "", "m.direct")
        value = orjson.loads(content) if content else {}
        lists = [one for one in value.values() if isinstance(one, list)] if isinstance(value, dict) else []
        return frozenset(room for one in lists for room in one if isinstance(room, str))

    @cached_property
    def tags(self) -> dict[str, frozenset[str]]:
        """The person's tags by room."""
        result = {}
        for room_id, content in store.tags(self.engine.read, self.viewer.user_id).items():
            found = orjson.loads(content).get("tags")
            result[room_id] = frozenset(found) if isinstance(found, dict) else frozenset()
        return result


@dataclass
class Windows:
    """The rooms that a request is about. `lists`: for each list the number of its rooms and (start, end, room IDs) of its
    ranges; `wishes`: what is wanted of each room; `subscribed`: those of them that have a subscription."""

    lists: dict[str, tuple[int, list[tuple[int, int, list[str]]]]]
    wishes: dict[str, Wish]
    subscribed: set[str]

    def in_lists(self, names: Iterable[str]) -> set[str]:
        """The rooms in the windows of some lists."""
        return {room for name in names if name in self.lists for _, _, rooms in self.lists[name][1] for room in rooms}


class Lists:
    """Sorts and filters a person's rooms."""

    def __init__(self, engine: Engine, index: RoomIndex) -> None:
        self._engine = engine
        self._index = index

    def windows(self, ask: Ask) -> Windows:
        """The rooms that the request is about."""
        found = Windows({}, {}, set())
        rooms = self._sorted(ask) if ask.request.lists else []
        for name, one in (ask.request.lists or {}).items():
            chosen = rooms if one.filters is None else self._filtered(ask, rooms, one.filters)
            ranges = [(start, end, chosen[start : end + 1]) for start, end in one.ranges or ()]
            found.lists[name] = len(chosen), ranges
            wish = _wish(one, ask.viewer)
            for _, _, part in ranges:
                for room_id in part:
                    _add(found.wishes, room_id, wish)
        standing = ask.standing
        for room_id, config in (ask.request.room_subscriptions or {}).items():
            if (
                room_id in standing.joined
                or room_id in standing.put_out
                or room_id in ask.newly_left
                or room_id in standing.knocking
                or (room_id in standing.invited and self._is_welcome(ask, room_id))
            ):
                found.subscribed.add(room_id)
                _add(found.wishes, room_id, _wish(config, ask.viewer))
        return found

    def _sorted(self, ask: Ask) -> list[str]:
        """All rooms, the one with the newest event that the person may see first."""
        standing = ask.standing
        last = self._index.last_positions(standing.joined)
        places = {room_id: last[room_id] for room_id in standing.joined}
        places.update((room_id, pos) for room_id, pos in standing.invited.items() if self._is_welcome(ask, room_id))
        places.update(standing.knocking)
        places.update((room_id, standing.left[room_id]) for room_id in standing.put_out)
        places.update(ask.newly_left)
        return sorted(places, key=places.__getitem__, reverse=True)

    def _is_welcome(self, ask: Ask, room_id: str) -> bool:
        """Whether an invitation comes from somebody whom the person does not ignore."""
        if not ask.ignored:
            return True
        member = events.by_position(self._engine.read, ask.standing.invited[room_id])
        return member is not None and member.sender not in ask.ignored

    # -- filters -------------------------------------------------------------------------------------------------

    def _filtered(self, ask: Ask, rooms: list[str], wanted: Filters) -> list[str]:
        """The rooms that pass every filter, in the same order; the cheap filters come first."""
        standing = ask.standing
        if wanted.is_invite is not None:
            rooms = [room for room in rooms if (room in standing.invited) is wanted.is_invite]
        if wanted.is_dm is not None:
            rooms = [room for room in rooms if (room in ask.direct) is wanted.is_dm]
        if wanted.tags is not None:
            rooms = [room for room in rooms if not ask.tags.get(room, frozenset()).isdisjoint(wanted.tags)]
        if wanted.not_tags:
            rooms = [room for room in rooms if ask.tags.get(room, frozenset()).isdisjoint(wanted.not_tags)]
        if wanted.spaces is not None:
            children = self._children(ask, wanted.spaces)
            rooms = [room for room in rooms if room in children]
        if wanted.room_types is not None or wanted.not_room_types:
            types = self._index.types(rooms)
            chosen, unwanted = wanted.room_types, wanted.not_room_types or ()
            rooms = [r for r in rooms if types.get(r) not in unwanted and (chosen is None or types.get(r) in chosen)]
        if wanted.is_encrypted is not None:
            encrypted = self._index.is_encrypted(rooms)
            rooms = [room for room in rooms if encrypted[room] is wanted.is_encrypted]
        if wanted.room_name_like is not None:
            part = wanted.room_name_like.casefold()
            rooms = [room for room in rooms if part in self._name(ask, room).casefold()]
        return rooms

    def _children(self, ask: Ask, spaces: Iterable[str]) -> set[str]:
        """The rooms of those of the spaces that the person has joined."""
        found: set[str] = set()
        for space in set(spaces) & ask.standing.joined.keys():
            for child in state.current_of_type(self._engine.read, space, "m.space.child"):
                if child.state_key and isinstance(orjson.loads(child.pdu)["content"].get("via"), list):
                    found.add(child.state_key)
        return found

    def _name(self, ask: Ask, room_id: str) -> str:
        """The room's name; for those who are not joined, as they know it."""
        standing = ask.standing
        places = (standing.invited, standing.knocking, standing.left, ask.newly_left)
        upto = ask.upto if room_id in standing.joined else next(p[room_id] for p in places if room_id in p)
        return content_text(self._engine, room_id, "m.room.name", "name", upto) or ""


def content_text(engine: Engine, room_id: str, type: str, key: str, upto: int) -> str | None:
    """A text in the content of a state event that holds at `upto`, None if there is none or it is empty."""
    return text_in(state.at(engine.read, room_id, type, "", upto), key)


def text_in(event: StoredEvent | None, key: str) -> str | None:
    """The same of an event at hand."""
    value = orjson.loads(event.pdu)["content"].get(key) if event is not None else None
    return value if isinstance(value, str) and value else None


def _wish(config: RoomConfig | List, viewer: Viewer) -> Wish:
    return Wish(min(config.timeline_limit, MAX_TIMELINE), requiredstate.parse(config.required_state, viewer.user_id))


def _add(wishes: dict[str, Wish], room_id: str, wish: Wish) -> None:
    """A room that is wanted more than once gets what is wanted altogether."""
    before = wishes.get(room_id)
    if before is None:
        wishes[room_id] = wish
    elif before is not wish:
        wishes[room_id] = Wish(max(before.limit, wish.limit), before.required.union(wish.required))
