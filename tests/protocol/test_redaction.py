"""What survives a redaction in each room version."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heichat_appliance.protocol.redaction import redact
from heichat_appliance.protocol.roomversions import ROOM_VERSIONS, V10, V11, V12, RoomVersion

versions = pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=ROOM_VERSIONS)

BASE: dict[str, Any] = {
    "event_id": "$e",
    "type": "m.room.message",
    "room_id": "!r",
    "sender": "@a",
    "state_key": "",
    "hashes": {},
    "signatures": {},
    "depth": 1,
    "prev_events": [],
    "auth_events": [],
    "origin_server_ts": 1,
}
OLD_KEYS = {"prev_state": [], "origin": "x", "membership": "join"}


@versions
def test_top_level_keys(version: RoomVersion) -> None:
    raw = {**BASE, **OLD_KEYS, "content": {"body": "x"}, "unsigned": {}, "redacts": "$t", "extra": 1}
    kept = {**BASE, "content": {}} | (OLD_KEYS if version is V10 else {})
    assert redact(version, raw) == kept
    assert raw["content"] == {"body": "x"}


SIGNED = {"mxid": "@b", "token": "t"}
LEVELS = ["ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default"]
#: type, content, keys kept in version 10, keys kept from version 11
CONTENTS: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("m.room.message", {"body": "x"}, {}, {}),
    ("m.room.topic", {"topic": "x"}, {}, {}),
    ("m.room.aliases", {"aliases": []}, {}, {}),
    (
        "m.room.member",
        {"membership": "invite", "displayname": "x", "join_authorised_via_users_server": "@a", "reason": "r"},
        {"membership": "invite", "join_authorised_via_users_server": "@a"},
        {"membership": "invite", "join_authorised_via_users_server": "@a"},
    ),
    (
        "m.room.member",
        {"membership": "invite", "third_party_invite": {"signed": SIGNED, "display_name": "x"}},
        {"membership": "invite"},
        {"membership": "invite", "third_party_invite": {"signed": SIGNED}},
    ),
    ("m.room.member", {"third_party_invite": {"display_name": "x"}}, {}, {}),
    ("m.room.member", {"third_party_invite": "x"}, {}, {}),
    ("m.room.create", {"creator": "@a", "x": 1}, {"creator": "@a"}, {"creator": "@a", "x": 1}),
    (
        "m.room.join_rules",
        {"join_rule": "restricted", "allow": [], "x": 1},
        {"join_rule": "restricted", "allow": []},
        {"join_rule": "restricted", "allow": []},
    ),
    (
        "m.room.power_levels",
        dict.fromkeys([*LEVELS, "invite", "notifications", "x"], 1),
        dict.fromkeys(LEVELS, 1),
        dict.fromkeys([*LEVELS, "invite"], 1),
    ),
    (
        "m.room.history_visibility",
        {"history_visibility": "joined", "x": 1},
        {"history_visibility": "joined"},
        {"history_visibility": "joined"},
    ),
    ("m.room.redaction", {"redacts": "$t", "reason": "x"}, {}, {"redacts": "$t"}),
]


@versions
@pytest.mark.parametrize(("type", "content", "old", "new"), CONTENTS)
def test_content(
    version: RoomVersion, type: str, content: dict[str, Any], old: dict[str, Any], new: dict[str, Any]
) -> None:
    assert redact(version, {"type": type, "content": content})["content"] == (old if version is V10 else new)


@pytest.mark.parametrize("content", [None, [], "x"])
def test_content_that_is_no_object_becomes_one(content: object) -> None:
    assert redact(V11, {"type": "m.room.create", "content": content})["content"] == {}


keys = st.sampled_from([*BASE, *OLD_KEYS, "redacts", "unsigned", "creator", "signed", "third_party_invite", "users"])
values = st.recursive(st.text(max_size=3), lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=6)
types = st.sampled_from([row[0] for row in CONTENTS])


@given(
    st.sampled_from([V10, V11, V12]),
    st.dictionaries(keys, values),
    types,
    st.dictionaries(st.sampled_from(["membership", "third_party_invite", *LEVELS, "redacts", "creator"]), values),
)
def test_redacting_twice_is_redacting_once(
    version: RoomVersion, raw: dict[str, Any], type: str, content: dict[str, Any]
) -> None:
    raw = {**raw, "type": type, "content": content}
    once = redact(version, raw)
    assert redact(version, once) == once
    assert once.keys() <= raw.keys()
