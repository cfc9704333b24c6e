"""Making, hashing, signing, reading and verifying PDUs; vectors from the appendix "Cryptographic Test Vectors"."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from heichat_appliance.protocol import canonicaljson, pdu
from heichat_appliance.protocol.roomversions import ROOM_VERSIONS, V10, V11, V12, RoomVersion

SEED = base64.b64decode("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA0=")
KEY = SigningKey(SEED)
SIGNER = pdu.Signer("domain", "ed25519:1", KEY)
versions = pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=ROOM_VERSIONS)


def build(version: RoomVersion, **changes: Any) -> pdu.Pdu:
    fields: dict[str, Any] = {
        "room_id": "!r:domain",
        "type": "m.room.message",
        "sender": "@u:domain",
        "content": {"body": "Grüße", "msgtype": "m.text"},
        "state_key": None,
        "prev_events": ["$p"],
        "auth_events": ["$a", "$b"],
        "depth": 7,
        "origin_server_ts": 1000000,
        "signer": SIGNER,
    }
    return pdu.build(version, **(fields | changes))


def problems(version: RoomVersion, event: pdu.Pdu, raw: dict[str, Any], **options: Any) -> list[str]:
    return pdu.verify(
        version, raw, KEY.verify_key, server_name="domain", key_id="ed25519:1", event_id=event.event_id, **options
    )


@pytest.mark.parametrize(
    ("value", "signature"),
    [
        ({}, "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"),
        (
            {"one": 1, "two": "Two", "unsigned": {"age": 1}},
            "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
        ),
    ],
)
def test_spec_vectors_of_json_signing(value: dict[str, Any], signature: str) -> None:
    signed = SIGNER.sign_json(value)
    assert signed == {**value, "signatures": {"domain": {"ed25519:1": signature}}}


EVENT_VECTORS = [
    (
        {
            "room_id": "!x:domain",
            "sender": "@a:domain",
            "origin": "domain",
            "origin_server_ts": 1000000,
            "signatures": {},
            "hashes": {},
            "type": "X",
            "content": {},
            "prev_events": [],
            "auth_events": [],
            "depth": 3,
            "unsigned": {"age_ts": 1000000},
        },
        "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos",
        "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg",
    ),
    (
        {
            "content": {"body": "Here is the message content"},
            "event_id": "$0:domain",
            "origin": "domain",
            "origin_server_ts": 1000000,
            "type": "m.room.message",
            "room_id": "!r:domain",
            "sender": "@u:domain",
            "signatures": {},
            "unsigned": {"age_ts": 1000000},
        },
        "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g",
        "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA",
    ),
]


@pytest.mark.parametrize(("raw", "content_hash", "signature"), EVENT_VECTORS)
def test_spec_vectors_of_event_signing(raw: dict[str, Any], content_hash: str, signature: str) -> None:
    assert pdu.content_hash(raw) == content_hash
    # The vectors are of old room versions; version 10 is the last that keeps `origin` in a redaction, as they did.
    hashed = {**raw, "hashes": {"sha256": content_hash}}
    assert SIGNER.sign(pdu.signed_bytes(V10, hashed)) == signature


def kinds_of_event() -> list[dict[str, Any]]:
    return [
        {},
        {"content": {}},
        {"type": "m.room.topic", "state_key": "", "content": {"topic": "x"}},
        {"type": "m.room.redaction", "content": {"reason": "spam"}, "redacts": "$t"},
        {"type": "m.room.member", "state_key": "@u:domain", "content": {"membership": "join", "displayname": "Ü"}},
        {"type": "m.room.power_levels", "state_key": "", "content": {"invite": 50, "users": {"@u:domain": 100}}},
        {"type": 'quo"te\n', "state_key": 'k\\"\u0001', "content": {"ä": [1, None, {"b": True}]}},
    ]


@versions
@pytest.mark.parametrize("changes", kinds_of_event(), ids=lambda changes: str(changes.get("type")))
def test_built_event_is_canonical_and_verifies(version: RoomVersion, changes: dict[str, Any]) -> None:
    event = build(version, **changes)
    assert event.json == canonicaljson.encode(event.raw)
    assert event.event_id == pdu.event_id_for(version, event.raw)
    assert problems(version, event, event.raw) == []
    assert "unsigned" not in event.raw


@versions
@pytest.mark.parametrize("changes", kinds_of_event(), ids=lambda changes: str(changes.get("type")))
def test_redacted_event_keeps_id_and_signature(version: RoomVersion, changes: dict[str, Any]) -> None:
    event = build(version, **changes)
    redacted = pdu.redact(version, event.raw)
    assert problems(version, event, redacted, redacted=True) == []


@versions
@pytest.mark.parametrize("changes", kinds_of_event(), ids=lambda changes: str(changes.get("type")))
@pytest.mark.parametrize("text", [False, True])
def test_load_gives_back_what_was_built(version: RoomVersion, changes: dict[str, Any], text: bool) -> None:
    event = build(version, **changes)
    loaded = pdu.load(version, event.event_id, event.json.decode() if text else event.json, event.room_id)
    for slot in pdu.Pdu.__slots__:
        assert getattr(loaded, slot) == getattr(event, slot), slot


def test_redacts_is_where_the_version_keeps_it() -> None:
    old = build(V10, type="m.room.redaction", content={"reason": "r"}, redacts="$t")
    assert (old.raw["redacts"], old.content, old.redacts) == ("$t", {"reason": "r"}, "$t")
    content = {"reason": "r"}
    new = build(V11, type="m.room.redaction", content=content, redacts="$t")
    assert (new.content, new.redacts) == ({"reason": "r", "redacts": "$t"}, "$t")
    assert "redacts" not in new.raw
    assert content == {"reason": "r"}
    assert build(V11, content={"redacts": "$t"}).redacts is None


def test_v12_room_id_is_the_create_events_hash() -> None:
    event = build(V12, room_id=None, type="m.room.create", state_key="", content={"room_version": "12"}, auth_events=[])
    assert "room_id" not in event.raw
    assert event.room_id == "!" + event.event_id[1:]
    assert event.json == canonicaljson.encode(event.raw)
    assert problems(V12, event, event.raw) == []


@pytest.mark.parametrize(
    ("version", "changes"),
    [
        (V11, {"room_id": None, "type": "m.room.create", "state_key": ""}),
        (V12, {"room_id": None}),
        (V12, {"room_id": "!r:domain", "type": "m.room.create", "state_key": ""}),
    ],
)
def test_room_id_and_version_must_go_together(version: RoomVersion, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="version 12"):
        build(version, **changes)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ({"content": {"body": "forged"}}, "content hash"),
        ({"sender": "@mallory:domain"}, "event ID should be"),
        ({"depth": 8}, "signature of domain with key ed25519:1 is wrong"),
        ({"hashes": {}}, "content hash"),
        ({"signatures": {}}, "is missing"),
        ({"signatures": {"domain": {"ed25519:1": "!!"}}}, "is wrong"),
        ({"signatures": "x"}, "is missing"),
        ({"depth": 1.5}, "no canonical JSON: depth: floats"),
    ],
)
def test_verify_finds_damage(damage: dict[str, Any], expected: str) -> None:
    event = build(V11)
    assert any(expected in problem for problem in problems(V11, event, event.raw | damage))


def test_verify_rejects_another_key() -> None:
    event = build(V11)
    other = SigningKey(hashlib.sha256(b"other").digest()).verify_key
    found = pdu.verify(V11, event.raw, other, server_name="domain", key_id="ed25519:1")
    assert found == ["The signature of domain with key ed25519:1 is wrong"]


def test_event_of_65536_bytes_is_allowed_and_one_more_is_not() -> None:
    overhead = len(build(V11, content={"body": ""}).json)
    room = pdu.MAX_EVENT_BYTES - overhead
    assert len(build(V11, content={"body": "x" * room}).json) == pdu.MAX_EVENT_BYTES
    with pytest.raises(pdu.EventTooLarge, match="65537 bytes"):
        build(V11, content={"body": "x" * (room + 1)})


@pytest.mark.parametrize("field", ["type", "state_key", "sender", "room_id"])
@pytest.mark.parametrize("unit", ["x", "ü", "😀"])
def test_identifiers_have_at_most_255_bytes(field: str, unit: str) -> None:
    width = len(unit.encode())
    build(V11, **{field: unit * (255 // width)})
    with pytest.raises(pdu.EventTooLarge, match=f"{field}: must not be longer than 255 bytes"):
        build(V11, **{field: unit * (255 // width + 1)})


@pytest.mark.parametrize("changes", [{"state_key": "\ud800"}, {"content": {"a": "\ud800"}}, {"content": {"a": 1.5}}])
def test_what_has_no_canonical_json_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(canonicaljson.CanonicalJSONError):
        build(V11, **changes)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(content=st.dictionaries(st.text(), json_values, max_size=4), depth=st.integers(1, 2**53 - 1))
def test_event_id_survives_storage(content: dict[str, Any], depth: int) -> None:
    event = build(V11, content=content, depth=depth)
    again = pdu.load(V11, event.event_id, event.json, event.room_id)
    assert again.event_id == pdu.event_id_for(V11, json.loads(event.json)) == event.event_id
    assert problems(V11, again, again.raw) == []


CREATE, POWER = ("m.room.create", ""), ("m.room.power_levels", "")
RULES, ME, YOU = ("m.room.join_rules", ""), ("m.room.member", "@me:x"), ("m.room.member", "@you:x")
INVITE_3PID = {"membership": "invite", "third_party_invite": {"signed": {"token": "tok"}}}
SELECTION: list[tuple[str, str | None, dict[str, Any], list[tuple[str, str]]]] = [
    ("m.room.message", None, {}, []),
    ("m.room.topic", "", {}, []),
    ("m.room.member", "@me:x", {"membership": "join"}, [RULES]),
    ("m.room.member", "@me:x", {"membership": "leave"}, []),
    ("m.room.member", "@me:x", {"membership": "knock"}, [RULES]),
    ("m.room.member", "@you:x", {"membership": "ban"}, [YOU]),
    ("m.room.member", "@you:x", {"membership": "invite"}, [YOU, RULES]),
    ("m.room.member", "@you:x", INVITE_3PID, [YOU, RULES, ("m.room.third_party_invite", "tok")]),
    ("m.room.member", "@you:x", {"membership": "invite", "third_party_invite": 7}, [YOU, RULES]),
    ("m.room.member", "@me:x", {"membership": "join", "join_authorised_via_users_server": "@you:x"}, [RULES, YOU]),
    ("m.room.member", "@me:x", {"membership": "join", "join_authorised_via_users_server": "@me:x"}, [RULES]),
    ("m.room.member", "@me:x", {"membership": "leave", "join_authorised_via_users_server": "@you:x"}, []),
]


@versions
@pytest.mark.parametrize(("type", "state_key", "content", "more"), SELECTION)
def test_auth_events_selection(
    version: RoomVersion, type: str, state_key: str | None, content: dict[str, Any], more: list[tuple[str, str]]
) -> None:
    keys = pdu.auth_event_keys(version, type, "@me:x", state_key, content)
    assert sorted(keys) == sorted([*([] if version is V12 else [CREATE]), POWER, ME, *more])


@versions
def test_create_event_has_no_auth_events(version: RoomVersion) -> None:
    assert pdu.auth_event_keys(version, "m.room.create", "@me:x", "", {}) == []
