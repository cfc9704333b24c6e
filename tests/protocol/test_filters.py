"""Filters: parsing, checking, matching."""

from __future__ import annotations

from typing import Any

import pytest

from heichat_appliance.protocol import fieldpaths
from heichat_appliance.protocol.filters import (
    MAX_ENTRIES,
    MAX_LIMIT,
    Filter,
    parse_event_filter,
    parse_filter,
    parse_room_event_filter,
)

ROOM, USER = "!r:x", "@a:x"


@pytest.mark.parametrize("value", [None, {}, {"room": {}}, {"room": {"timeline": {"types": None}}, "unknown": 1}])
def test_empty_filters_let_all_through(value: object) -> None:
    parsed = parse_filter(value)
    assert parsed == Filter()
    room = parsed.room
    assert all(part.is_default for part in (room.timeline, room.state, room.ephemeral, room.account_data))
    assert parsed.presence.is_default and parsed.account_data.is_default
    assert room.timeline.matches("m.room.message", USER, {}, ROOM)


#: source of a RoomEventFilter, event (type, sender, content, room), included?
MATCHES: list[tuple[dict[str, Any], tuple[str, str, dict[str, Any], str], bool]] = [
    ({"types": ["m.room.message"]}, ("m.room.message", USER, {}, ROOM), True),
    ({"types": ["m.room.message"]}, ("m.room.name", USER, {}, ROOM), False),
    ({"types": ["m.room.*"]}, ("m.room.name", USER, {}, ROOM), True),
    ({"types": ["m.*.name"]}, ("m.room.name", USER, {}, ROOM), True),
    ({"types": ["m.room.*"]}, ("xm.room.name", USER, {}, ROOM), False),
    ({"types": ["m?room.name"]}, ("m.room.name", USER, {}, ROOM), False),
    ({"types": ["M.ROOM.NAME"]}, ("m.room.name", USER, {}, ROOM), False),
    ({"types": []}, ("m.room.name", USER, {}, ROOM), False),
    ({"not_types": ["m.room.*"]}, ("m.room.name", USER, {}, ROOM), False),
    ({"not_types": ["*"]}, ("m.room.name", USER, {}, ROOM), False),
    ({"types": ["*"], "not_types": ["m.room.name"]}, ("m.room.name", USER, {}, ROOM), False),
    ({"not_types": []}, ("m.room.name", USER, {}, ROOM), True),
    ({"senders": [USER]}, ("t", USER, {}, ROOM), True),
    ({"senders": ["@b:x"]}, ("t", USER, {}, ROOM), False),
    ({"senders": []}, ("t", USER, {}, ROOM), False),
    ({"senders": [USER], "not_senders": [USER]}, ("t", USER, {}, ROOM), False),
    ({"not_senders": ["@b:x"]}, ("t", USER, {}, ROOM), True),
    ({"rooms": [ROOM]}, ("t", USER, {}, ROOM), True),
    ({"rooms": []}, ("t", USER, {}, ROOM), False),
    ({"not_rooms": [ROOM], "rooms": [ROOM]}, ("t", USER, {}, ROOM), False),
    ({"contains_url": True}, ("t", USER, {"url": "x"}, ROOM), True),
    ({"contains_url": True}, ("t", USER, {}, ROOM), False),
    ({"contains_url": False}, ("t", USER, {"url": "x"}, ROOM), False),
    ({"contains_url": False}, ("t", USER, {}, ROOM), True),
]


@pytest.mark.parametrize(("source", "event", "included"), MATCHES)
def test_room_event_filter(source: dict[str, Any], event: tuple[str, str, dict[str, Any], str], included: bool) -> None:
    assert parse_room_event_filter(source).matches(*event) == included


def test_events_without_sender_pass_lists_of_senders() -> None:
    assert parse_event_filter({"senders": ["@b:x"]}).matches("m.direct", None)
    assert not parse_event_filter({"not_types": ["m.direct"]}).matches("m.direct", None)


def test_flags_and_lists_are_kept() -> None:
    source = {
        "lazy_load_members": True,
        "include_redundant_members": True,
        "unread_thread_notifications": True,
        "related_by_senders": [USER],
        "related_by_rel_types": ["m.thread"],
        "limit": 7,
    }
    parsed = parse_room_event_filter(source)
    assert (parsed.lazy_load_members, parsed.include_redundant_members, parsed.unread_thread_notifications) == (
        True,
        True,
        True,
    )
    assert (parsed.related_by_senders, parsed.related_by_rel_types) == ({USER}, {"m.thread"})
    assert parsed.limit == 7
    assert parsed.is_default


@pytest.mark.parametrize(("limit", "counts_as"), [(1, 1), (0, 1), (MAX_LIMIT + 1, MAX_LIMIT), (2**70, MAX_LIMIT)])
def test_limit(limit: int, counts_as: int) -> None:
    assert parse_event_filter({"limit": limit}).limit == counts_as


def test_sync_filter() -> None:
    parsed = parse_filter(
        {
            "event_fields": ["content.body", "type"],
            "event_format": "federation",
            "presence": {"not_types": ["*"]},
            "account_data": {"types": ["m.direct"]},
            "room": {
                "rooms": [ROOM, "!s:x"],
                "not_rooms": ["!s:x"],
                "include_leave": True,
                "state": {"lazy_load_members": True},
                "ephemeral": {"not_types": ["m.typing"]},
            },
        }
    )
    assert parsed.event_format == "federation"
    assert parsed.event_fields is not None
    assert fieldpaths.select({"type": "t", "content": {"body": "b", "x": 1}}, parsed.event_fields) == {
        "type": "t",
        "content": {"body": "b"},
    }
    assert not parsed.presence.matches("m.presence", USER)
    assert parsed.account_data.matches("m.direct", None)
    assert [parsed.room.includes_room(room) for room in (ROOM, "!s:x", "!t:x")] == [True, False, False]
    assert parsed.room.include_leave
    assert parsed.room.state.lazy_load_members
    assert not parsed.room.ephemeral.matches("m.typing", None, {}, ROOM)


BAD: list[tuple[object, str]] = [
    ([], "filter must be an object"),
    ("x", "filter must be an object"),
    ({"room": []}, "filter.room must be an object"),
    ({"room": {"timeline": 5}}, "filter.room.timeline must be an object"),
    ({"room": {"timeline": {"limit": "5"}}}, "filter.room.timeline.limit must be an integer greater than 0"),
    ({"room": {"timeline": {"limit": True}}}, "filter.room.timeline.limit must be an integer"),
    ({"room": {"timeline": {"limit": -1}}}, "filter.room.timeline.limit must be an integer"),
    ({"room": {"timeline": {"limit": 1.5}}}, "filter.room.timeline.limit must be an integer"),
    ({"room": {"state": {"types": "m.room.name"}}}, "filter.room.state.types must be a list of strings"),
    ({"room": {"state": {"types": [1]}}}, "filter.room.state.types must be a list of strings"),
    ({"room": {"state": {"senders": ["@a:x", "bob"]}}}, "filter.room.state.senders.1 must begin with @"),
    ({"room": {"rooms": ["#a:x"]}}, "filter.room.rooms.0 must begin with !"),
    ({"room": {"include_leave": 1}}, "filter.room.include_leave must be true or false"),
    ({"room": {"state": {"lazy_load_members": "yes"}}}, "filter.room.state.lazy_load_members must be true or false"),
    ({"room": {"timeline": {"contains_url": "x"}}}, "filter.room.timeline.contains_url must be true or false"),
    ({"presence": {"not_types": {}}}, "filter.presence.not_types must be a list of strings"),
    ({"event_fields": "content"}, "filter.event_fields must be a list of strings"),
    ({"event_format": "raw"}, "filter.event_format must be client or federation"),
    ({"room": {"not_rooms": ["!x"] * (MAX_ENTRIES + 1)}}, "filter.room.not_rooms must not have more than 1000 entries"),
]


@pytest.mark.parametrize(("source", "text"), BAD, ids=[row[1] for row in BAD])
def test_bad_filters_are_refused_with_the_field(source: object, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_filter(source)
    assert str(caught.value).startswith(text)
