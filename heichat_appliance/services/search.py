"""Searching messages, names and topics.

Source: client-server API "Server Side Search". The newest matches are looked at (store.search.MAX_MATCHES of them): the
closest come first among those, or the newest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from heichat_appliance.errors import MatrixError, invalid_param
from heichat_appliance.protocol.filters import RoomEventFilter
from heichat_appliance.services import visibility
from heichat_appliance.services.history import History, matches
from heichat_appliance.services.reading import Reading
from heichat_appliance.services.render import Viewer
from heichat_appliance.services.search_index import SearchIndex
from heichat_appliance.services.tokens import Token
from heichat_appliance.services.visibility import Reach
from heichat_appliance.store import events, search, state
from heichat_appliance.store.events import Execute, StoredEvent
from heichat_appliance.store.search import KEYS, MAX_MATCHES, Match

#: Words of one search.
MAX_WORDS = 30
#: Words of so many letters find longer words that begin with them.
PREFIX_LENGTH = 3
_TERMS = re.compile(r'"([^"]*)"?|(\S+)')


@dataclass(frozen=True, slots=True)
class Context:
    """How many events around each result, and whether with the profiles of their senders."""

    before: int
    after: int
    profiles: bool


class Place(NamedTuple):
    """Where the next page begins: matches at or before `upto`, past the first `offset`; in one group only if `key`."""

    upto: int
    offset: int
    key: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Criteria:
    """What to search. `keys`: some of store.search.KEYS; `groups`: room_id, sender; `place`: None for the first page."""

    term: str
    limit: int
    keys: Sequence[str] = KEYS
    filter: RoomEventFilter = field(default_factory=RoomEventFilter)
    ranked: bool = True
    context: Context | None = None
    include_state: bool = False
    groups: Sequence[str] = ()
    place: Place | None = None


class Found(NamedTuple):
    """All that matches, in the order of the answer; how far was looked (None: at everything); rooms by ID."""

    hits: list[Match]
    rest: int | None
    reaches: dict[str, Reach]


class Search:
    """POST /search."""

    def __init__(self, reading: Reading, history: History, index: SearchIndex) -> None:
        self._reading = reading
        self._history = history
        self._engine = reading.engine
        self._index = index

    async def find(self, viewer: Viewer, criteria: Criteria) -> dict[str, Any]:
        """The category `room_events` of an answer, with events as JSON fragments."""
        terms, words = expression(criteria.term)
        await self._index.catch_up()
        position = self._engine.position
        place = criteria.place or Place(position, 0)
        found = Found([], None, {})
        if terms:
            ignored = self._reading.ignored(viewer.user_id)
            found = await self._engine.read_in_thread(
                _find,
                viewer.user_id,
                criteria,
                terms,
                place._replace(upto=min(place.upto, position)),
                ignored,
                position,
            )
        page = found.hits[place.offset : place.offset + criteria.limit]
        shown = self._shown(page)
        results = [self._result(viewer, criteria, hit, shown[hit.pos], found.reaches[hit.room_id]) for hit in page]
        answer: dict[str, Any] = {"count": len(found.hits), "highlights": words, "results": results}
        following = _next(found, page, place, criteria)
        if following is not None:
            answer["next_batch"] = token(following)
        if criteria.groups:
            answer["groups"] = {key: self._groups(key, found, page, place, criteria, shown) for key in criteria.groups}
        if criteria.include_state:
            rooms = {hit.room_id: found.reaches[hit.room_id] for hit in page}
            answer["state"] = {room: self._state(viewer, reach, criteria.filter) for room, reach in rooms.items()}
        return answer

    def _shown(self, page: Sequence[Match]) -> dict[int, StoredEvent]:
        rows = (events.by_position(self._engine.read, hit.pos) for hit in page)
        return {row.pos: row for row in rows if row is not None}

    def _result(
        self, viewer: Viewer, criteria: Criteria, hit: Match, event: StoredEvent, reach: Reach
    ) -> dict[str, Any]:
        context = criteria.context
        if context is None:
            return {"rank": hit.score, "result": orjson.Fragment(self._reading.render(viewer, reach, [event])[0])}
        wanted = self._reading.unless_ignored(viewer.user_id, None)
        before, after = self._history.around(reach, event, context.before, context.after, wanted)
        ordered = [*reversed(before), event, *after]
        rendered = [orjson.Fragment(json) for json in self._reading.render(viewer, reach, ordered)]
        epoch = self._engine.epoch
        around: dict[str, Any] = {
            "start": str(Token(ordered[0].pos - 1, epoch)),
            "end": str(Token(ordered[-1].pos, epoch)),
            # in the order of the timeline, which clients count on here
            "events_before": rendered[: len(before)],
            "events_after": rendered[len(before) + 1 :],
        }
        if context.profiles:
            around["profile_info"] = self._profiles(reach.room_id, ordered)
        return {"rank": hit.score, "result": rendered[len(before)], "context": around}

    def _profiles(self, room_id: str, ordered: Iterable[StoredEvent]) -> dict[str, dict[str, str]]:
        newest = {event.sender: event.pos for event in ordered}
        profiles: dict[str, dict[str, str]] = {}
        for member in state.members_as_of(self._engine.read, room_id, newest):
            content, names = orjson.loads(member.pdu)["content"], ("displayname", "avatar_url")
            profiles[member.state_key or ""] = {n: content[n] for n in names if isinstance(content.get(n), str)}
        return profiles

    def _state(self, viewer: Viewer, reach: Reach, filter: RoomEventFilter) -> list[orjson.Fragment]:
        read = state.all_but_members_at if filter.lazy_load_members else state.all_at
        rows = read(self._engine.read, reach.room_id, reach.upto)
        return [orjson.Fragment(json) for json in self._reading.render_state(viewer, reach, rows)]

    def _groups(
        self, key: str, found: Found, page: Sequence[Match], place: Place, criteria: Criteria,
        shown: dict[int, StoredEvent],
    ) -> dict[str, Any]:  # fmt: skip
        """The groups of a page by value of `key`, ordered by their first result."""
        group_of = _group_of(key)
        groups: dict[str, Any] = {}
        for value in dict.fromkeys(map(group_of, page)):
            mine = [hit for hit in page if group_of(hit) == value]
            group: dict[str, Any] = {"order": len(groups) + 1, "results": [shown[hit.pos].event_id for hit in mine]}
            following = self._next_in_group(key, value, found, page, place, criteria)
            if following is not None:
                group["next_batch"] = token(following)
            groups[value] = group
        return groups

    @staticmethod
    def _next_in_group(
        key: str, value: str, found: Found, page: Sequence[Match], place: Place, criteria: Criteria
    ) -> Place | None:
        group_of = _group_of(key)
        inside = Found([hit for hit in found.hits if group_of(hit) == value], found.rest, found.reaches)
        end = place.offset + len(page)
        gone = sum(group_of(hit) == value for hit in found.hits[:end])
        mine = [hit for hit in page if group_of(hit) == value]
        following = _next(inside, mine, Place(place.upto, gone - len(mine)), criteria)
        return None if following is None else following._replace(key=key, value=value)


def expression(term: str) -> tuple[str, list[str]]:
    """The FTS5 expression of a search term, and its words: all must be found, what is in "quotes" as it stands there."""
    terms, words = [], []
    for match in _TERMS.finditer(term):
        quoted, word = match.groups()
        text = quoted if word is None else word.replace('"', " ")
        if not any(character.isalnum() for character in text):
            continue
        prefix = "*" if word is not None and len(text) >= PREFIX_LENGTH and text[-1].isalnum() else ""
        terms.append(f'"{text}"{prefix}')
        words += [part for part in re.split(r"[\W_]+", text.lower()) if part]
    if len(words) > MAX_WORDS:
        raise invalid_param(f"search_term must not have more than {MAX_WORDS} words")
    return " AND ".join(terms), list(dict.fromkeys(words))


def token(place: Place) -> str:
    """The `next_batch` of a place; http/search.py reads it."""
    return orjson.dumps(list(place)).hex()


def place(token: str) -> Place:
    """The place of a `next_batch`; 400 M_INVALID_PARAM."""
    try:
        upto, offset, key, value = orjson.loads(bytes.fromhex(token))
        good = all(type(number) is int and number >= 0 for number in (upto, offset))
        good = good and key in ("", "room_id", "sender") and isinstance(value, str)
    except (ValueError, TypeError):
        good = False
    if not good:
        raise invalid_param("query parameter next_batch is no token of this server")
    return Place(upto, offset, key, value)


def _find(
    execute: Execute, user_id: str, criteria: Criteria, terms: str, place: Place, ignored: frozenset[str], position: int
) -> Found:
    """Everything that matches and that the person may see."""
    filter = criteria.filter
    rooms = [room for room in state.rooms_ever_joined(execute, user_id) if filter.includes_room(room)]
    rooms = sorted(set(rooms) - search.encrypted_rooms(execute, rooms) - state.forgotten_rooms(execute, user_id))
    if not rooms:
        return Found([], None, {})
    rows = search.matches(execute, terms, criteria.keys, rooms, place.upto, ranked=criteria.ranked)
    reaches: dict[str, Reach | None] = {}
    hits = []
    for row in rows:
        if row.room_id not in reaches:
            reaches[row.room_id] = _reach(execute, user_id, row.room_id, position)
        reach = reaches[row.room_id]
        if reach is None or not reach.sees(row.pos) or (row.sender in ignored and row.type == "m.room.message"):
            continue
        if place.key and _group_of(place.key)(row) != place.value:
            continue
        if filter.is_default or _fits(execute, filter, row):
            hits.append(row)
    if criteria.ranked:
        hits.sort(key=lambda hit: (-hit.score, -hit.pos))
    rest = rows[-1].pos - 1 if len(rows) == MAX_MATCHES else None
    return Found(hits, rest, {room: reach for room, reach in reaches.items() if reach is not None})


def _reach(execute: Execute, user_id: str, room_id: str, position: int) -> Reach | None:
    try:
        return visibility.reach(execute, user_id, room_id, position)
    except MatrixError:
        return None


def _fits(execute: Execute, filter: RoomEventFilter, row: Match) -> bool:
    if filter.contains_url is None:
        return filter.matches(row.type, row.sender, {}, row.room_id)
    event = events.by_position(execute, row.pos)
    return event is not None and matches(filter, event)


def _group_of(key: str) -> Callable[[Match], str]:
    return (lambda hit: hit.room_id) if key == "room_id" else (lambda hit: hit.sender)


def _next(found: Found, page: Sequence[Match], place: Place, criteria: Criteria) -> Place | None:
    """Where the page after this one begins, None if this is the last. By rank, only what was looked at counts."""
    end = place.offset + len(page)
    if criteria.ranked:
        return place._replace(offset=end) if end < len(found.hits) else None
    if end < len(found.hits):
        return place._replace(upto=page[-1].pos - 1, offset=0)
    return None if found.rest is None else place._replace(upto=found.rest, offset=0)
