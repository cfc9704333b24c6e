"""Filters (client-server API "Filtering"): parsing, checking and applying them.

The parse functions take decoded JSON and raise ValueError with a sentence that begins with the field's path. Unknown
fields are ignored, null counts as absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heichat_appliance.protocol import fieldpaths, globs

#: Most entries that one list of a filter may have.
MAX_ENTRIES = 1000
#: Higher limits are cut down to this.
MAX_LIMIT = 1000

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class TypePatterns:
    """A list of event types in which `*` stands for any characters."""

    exact: frozenset[str]
    #: Those with a `*`.
    wild: tuple[re.Pattern[str], ...]

    def matches(self, type: str) -> bool:
        """Whether one of the patterns is the whole of `type`."""
        return type in self.exact or any(pattern.match(type) for pattern in self.wild)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events without a room to include. None for a list means that it is absent: all are included."""

    limit: int | None = None
    types: TypePatterns | None = None
    not_types: TypePatterns | None = None
    senders: frozenset[str] | None = None
    not_senders: frozenset[str] = _NONE
    #: Nothing is filtered out (whatever the limit): matches() need not be asked.
    is_default: bool = True

    def matches(self, type: str, sender: str | None) -> bool:
        """Whether an event is included. `sender` None, of an event that has none, fits every list of senders."""
        if self.is_default:
            return True
        if self.types is not None and not self.types.matches(type):
            return False
        if self.not_types is not None and self.not_types.matches(type):
            return False
        if sender is None:
            return True
        return sender not in self.not_senders and (self.senders is None or sender in self.senders)


@dataclass(frozen=True, slots=True)
class RoomEventFilter:
    """Which events of rooms to include, and how. `is_default` is about the including alone, not limit or lazy-loading.

    `related_by_senders` and `related_by_rel_types` need the database: whoever reads events there applies them.
    """

    events: EventFilter = field(default_factory=EventFilter)
    rooms: frozenset[str] | None = None
    not_rooms: frozenset[str] = _NONE
    contains_url: bool | None = None
    lazy_load_members: bool = False
    include_redundant_members: bool = False
    unread_thread_notifications: bool = False
    related_by_senders: frozenset[str] | None = None
    related_by_rel_types: frozenset[str] | None = None
    is_default: bool = True

    @property
    def limit(self) -> int | None:
        return self.events.limit

    @property
    def asks_for_relations(self) -> bool:
        """Whether only events are wanted that others relate to."""
        return self.related_by_senders is not None or self.related_by_rel_types is not None

    def includes_room(self, room_id: str) -> bool:
        """Whether events of a room are included at all."""
        return room_id not in self.not_rooms and (self.rooms is None or room_id in self.rooms)

    def matches(self, type: str, sender: str | None, content: Mapping[str, Any], room_id: str) -> bool:
        """Whether an event is included, as far as the event itself tells."""
        if self.is_default:
            return True
        if not self.includes_room(room_id) or not self.events.matches(type, sender):
            return False
        return self.contains_url is None or self.contains_url == ("url" in content)


@dataclass(frozen=True, slots=True)
class RoomFilter:
    """The part `room` of a sync filter. `rooms` and `not_rooms` come before those of the inner filters."""

    rooms: frozenset[str] | None = None
    not_rooms: frozenset[str] = _NONE
    include_leave: bool = False
    timeline: RoomEventFilter = field(default_factory=RoomEventFilter)
    state: RoomEventFilter = field(default_factory=RoomEventFilter)
    ephemeral: RoomEventFilter = field(default_factory=RoomEventFilter)
    account_data: RoomEventFilter = field(default_factory=RoomEventFilter)

    def includes_room(self, room_id: str) -> bool:
        """Whether a room is included at all."""
        return room_id not in self.not_rooms and (self.rooms is None or room_id in self.rooms)


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter of /sync. `event_fields` is for fieldpaths.select; None means all fields."""

    event_fields: fieldpaths.FieldTree | None = None
    #: "client" or "federation"
    event_format: str = "client"
    presence: EventFilter = field(default_factory=EventFilter)
    account_data: EventFilter = field(default_factory=EventFilter)
    room: RoomFilter = field(default_factory=RoomFilter)


def parse_filter(value: object, path: str = "filter") -> Filter:
    """A filter of /sync from decoded JSON."""
    source = _object(value, path)
    event_format = source.get("event_format")
    if event_format not in (None, "client", "federation"):
        raise ValueError(f"{path}.event_format must be client or federation")
    fields = _strings(source, "event_fields", path)
    return Filter(
        event_fields=None if fields is None else fieldpaths.tree(map(fieldpaths.split, fields)),
        event_format=event_format or "client",
        presence=parse_event_filter(source.get("presence"), f"{path}.presence"),
        account_data=parse_event_filter(source.get("account_data"), f"{path}.account_data"),
        room=_parse_room_filter(source.get("room"), f"{path}.room"),
    )


def parse_event_filter(value: object, path: str = "filter") -> EventFilter:
    """An EventFilter from decoded JSON."""
    source = _object(value, path)
    types, not_types = _types(source, "types", path), _types(source, "not_types", path)
    senders = _identifiers(source, "senders", "@", path)
    not_senders = _identifiers(source, "not_senders", "@", path) or _NONE
    return EventFilter(
        limit=_limit(source, path),
        types=types,
        not_types=not_types,
        senders=senders,
        not_senders=not_senders,
        is_default=types is None and not_types is None and senders is None and not not_senders,
    )


def parse_room_event_filter(value: object, path: str = "filter") -> RoomEventFilter:
    """A RoomEventFilter from decoded JSON (a part of a sync filter; the filter of /messages, /context and /search)."""
    source = _object(value, path)
    events = parse_event_filter(source, path)
    rooms = _identifiers(source, "rooms", "!", path)
    not_rooms = _identifiers(source, "not_rooms", "!", path) or _NONE
    contains_url = _boolean(source, "contains_url", path)
    related_by_senders = _identifiers(source, "related_by_senders", "@", path)
    rel_types = _strings(source, "related_by_rel_types", path)
    return RoomEventFilter(
        events=events,
        rooms=rooms,
        not_rooms=not_rooms,
        contains_url=contains_url,
        lazy_load_members=_boolean(source, "lazy_load_members", path) or False,
        include_redundant_members=_boolean(source, "include_redundant_members", path) or False,
        unread_thread_notifications=_boolean(source, "unread_thread_notifications", path) or False,
        related_by_senders=related_by_senders,
        related_by_rel_types=None if rel_types is None else frozenset(rel_types),
        is_default=events.is_default and rooms is None and not not_rooms and contains_url is None,
    )


def _parse_room_filter(value: object, path: str) -> RoomFilter:
    source = _object(value, path)
    return RoomFilter(
        rooms=_identifiers(source, "rooms", "!", path),
        not_rooms=_identifiers(source, "not_rooms", "!", path) or _NONE,
        include_leave=_boolean(source, "include_leave", path) or False,
        timeline=parse_room_event_filter(source.get("timeline"), f"{path}.timeline"),
        state=parse_room_event_filter(source.get("state"), f"{path}.state"),
        ephemeral=parse_room_event_filter(source.get("ephemeral"), f"{path}.ephemeral"),
        account_data=parse_room_event_filter(source.get("account_data"), f"{path}.account_data"),
    )


def _object(value: object, path: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{path} must be an object")
    return value


def _strings(source: Mapping[str, Any], key: str, path: str) -> list[str] | None:
    value = source.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{path}.{key} must be a list of strings")
    if len(value) > MAX_ENTRIES:
        raise ValueError(f"{path}.{key} must not have more than {MAX_ENTRIES} entries")
    return value


def _types(source: Mapping[str, Any], key: str, path: str) -> TypePatterns | None:
    value = _strings(source, key, path)
    if value is None:
        return None
    wild = tuple(globs.whole(one, question_mark=False) for one in value if "*" in one)
    return TypePatterns(frozenset(one for one in value if "*" not in one), wild)


def _identifiers(source: Mapping[str, Any], key: str, sigil: str, path: str) -> frozenset[str] | None:
    value = _strings(source, key, path)
    if value is None:
        return None
    for index, item in enumerate(value):
        if not item.startswith(sigil):
            raise ValueError(f"{path}.{key}.{index} must begin with {sigil}")
    return frozenset(value)


def _boolean(source: Mapping[str, Any], key: str, path: str) -> bool | None:
    value = source.get(key)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{path}.{key} must be true or false")
    return value


def _limit(source: Mapping[str, Any], path: str) -> int | None:
    """The limit, at most MAX_LIMIT. 0 counts as 1: the spec wants more than 0, but clients send it for "hardly any"."""
    value = source.get("limit")
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise ValueError(f"{path}.limit must be an integer greater than 0")
    return min(max(value, 1), MAX_LIMIT)
