"""The authorisation rules, one by one, in room versions 10, 11 and 12: what is allowed, and which rule refuses what."""

from __future__ import annotations

from typing import Any

import pytest
from nacl.signing import SigningKey

from heichat_appliance.protocol import auth, pdu
from heichat_appliance.protocol.powerlevels import PowerLevels
from heichat_appliance.protocol.roomversions import ROOM_VERSIONS, V10, V11, V12, RoomVersion
from tests.protocol.rooms import ALICE, BOB, CAROL, DAVE, SIGNER, Room

pytestmark = pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=ROOM_VERSIONS)


def in_version(version: RoomVersion, rule: str | None) -> str | None:
    """The number of a rule of rooms/v11 in another version: 12 has a rule 2 more, and there a rule 10.4 more."""
    if rule is None or version is not V12 or rule.startswith("1."):
        return rule
    first, _, rest = rule.partition(".")
    if first == "9" and int(rest.split(".")[0]) >= 4:
        second, _, rest = rest.partition(".")
        rest = f"{int(second) + 1}.{rest}".rstrip(".")
    return f"{int(first) + 1}.{rest}".rstrip(".")


# --- 1: m.room.create ---------------------------------------------------------------------------------------------


def test_create_is_allowed(version: RoomVersion) -> None:
    assert Room(version).refusal(Room(version).create) is None


def test_create_must_be_first(version: RoomVersion) -> None:
    room = Room(version)
    room_id = None if version is V12 else room.room_id
    content = {"creator": ALICE, "room_version": version.identifier}
    event = room.event("m.room.create", ALICE, content, "", room_id=room_id)
    assert room.refusal(event) == "1.1"


def test_create_and_its_room_id(version: RoomVersion) -> None:
    content = {"creator": ALICE, "room_version": version.identifier}
    fields: dict[str, Any] = {
        "sender": ALICE,
        "content": content,
        "state_key": "",
        "prev_events": [],
        "auth_events": [],
        "depth": 1,
        "origin_server_ts": 1,
        "signer": SIGNER,
        "type": "m.room.create",
    }
    # build() makes no such event for version 12, so it is made by the rules of 11 and judged by those of 12.
    event = pdu.build(V11, room_id="!room:elsewhere.example", **fields)
    assert Room(version).refusal(event) == "1.2"


@pytest.mark.parametrize("wrong", ["1", "999", 11, None])
def test_create_must_name_the_rooms_version(version: RoomVersion, wrong: object) -> None:
    assert Room(version).refusal(Room(version, {"room_version": wrong}).create) == "1.3"


def test_create_of_version_10_needs_a_creator(version: RoomVersion) -> None:
    event = Room(V11, {"room_version": version.identifier}).create
    assert Room(version).refusal(event) == {"10": "1.4", "11": None, "12": "1.2"}[version.identifier]


@pytest.mark.parametrize("wrong", ["@bob:uni.example", [BOB, "bob"], [1], None, {}])
def test_additional_creators_must_be_user_ids(version: RoomVersion, wrong: object) -> None:
    room = Room(version, {"additional_creators": wrong})
    assert room.refusal(room.create) == ("1.4" if version is V12 else None)


# --- 2 and 3: auth_events, federation -----------------------------------------------------------------------------


def test_auth_events(version: RoomVersion) -> None:
    room = Room(version)
    room.set("m.room.power_levels", {})
    room.set("m.room.topic", {"topic": "x"})
    right = room.event("m.room.message", ALICE, {}).auth_events
    topic = room.state["m.room.topic", ""].event_id

    def refusal(auth_events: list[str]) -> str | None:
        return room.refusal(room.event("m.room.message", ALICE, {}, auth_events=auth_events))

    assert refusal(right) is None
    assert refusal(right[::-1]) is None
    assert refusal([*right, right[-1]]) == in_version(version, "2.1")
    assert refusal([*right, topic]) == in_version(version, "2.2")
    without_create = [one for one in right if one != room.create.event_id]
    assert refusal(without_create) == (None if version is V12 else "2.4")
    with_create = [room.create.event_id, *without_create]
    assert refusal(with_create) == ("3.2" if version is V12 else None)


def test_a_room_needs_its_create_event(version: RoomVersion) -> None:
    room = Room(version)
    event = room.event("m.room.message", ALICE, {})
    del room.state["m.room.create", ""]
    assert room.refusal(event) == in_version(version, "2.4")


def test_room_id_must_be_that_of_the_create_event(version: RoomVersion) -> None:
    room = Room(version)
    event = room.event("m.room.message", ALICE, {}, room_id=Room(V12, {"other": 1}).room_id)
    assert room.refusal(event) == ("2" if version is V12 else None)


def test_unfederated_room_is_for_its_server_only(version: RoomVersion) -> None:
    stranger = "@mallory:elsewhere.example"
    room = Room(version, {"m.federate": False})
    room.set("m.room.join_rules", {"join_rule": "public"})
    join = {"membership": "join"}
    assert room.refuses("m.room.member", stranger, join, stranger) == in_version(version, "3")
    assert room.refuses("m.room.member", BOB, join, BOB) is None


# --- 4: m.room.member ---------------------------------------------------------------------------------------------

#: What a row needs: join rule, own membership before, and what is tried.
JOINS: list[tuple[str | None, str | None, str | None]] = [
    # join rule, membership before, refused by
    (None, None, "4.3.7"),
    (None, "invite", None),
    ("invite", None, "4.3.7"),
    ("invite", "leave", "4.3.7"),
    ("invite", "knock", "4.3.7"),
    ("invite", "invite", None),
    ("invite", "join", None),
    ("invite", "ban", "4.3.3"),
    ("knock", None, "4.3.7"),
    ("knock", "knock", "4.3.7"),
    ("knock", "invite", None),
    ("knock", "join", None),
    ("restricted", None, "4.3.5.2"),
    ("restricted", "invite", None),
    ("restricted", "join", None),
    ("restricted", "ban", "4.3.3"),
    ("knock_restricted", "knock", "4.3.5.2"),
    ("knock_restricted", "invite", None),
    ("public", None, None),
    ("public", "leave", None),
    ("public", "knock", None),
    ("public", "ban", "4.3.3"),
    ("private", None, "4.3.7"),
    ("private", "invite", "4.3.7"),
    ("nonsense", "invite", "4.3.7"),
]


@pytest.mark.parametrize(("join_rule", "before", "rule"), JOINS)
def test_join(version: RoomVersion, join_rule: str | None, before: str | None, rule: str | None) -> None:
    room = Room(version)
    if join_rule is not None:
        room.set("m.room.join_rules", {"join_rule": join_rule})
    if before is not None:
        room.member(BOB, before)
    assert room.refuses("m.room.member", BOB, {"membership": "join"}, BOB) == in_version(version, rule)


def test_nobody_can_join_for_another(version: RoomVersion) -> None:
    room = Room(version)
    room.set("m.room.join_rules", {"join_rule": "public"})
    assert room.refuses("m.room.member", ALICE, {"membership": "join"}, BOB) == in_version(version, "4.3.2")


def test_first_join_is_the_creators(version: RoomVersion) -> None:
    room = Room(version)
    del room.state["m.room.member", ALICE]

    def first_join(user_id: str) -> str | None:
        prev = [room.create.event_id]
        return room.refusal(room.event("m.room.member", user_id, {"membership": "join"}, user_id, prev_events=prev))

    assert first_join(ALICE) is None
    assert first_join(BOB) == in_version(version, "4.3.7")
    # Once something else has happened, also the creator needs an invitation.
    assert room.refuses("m.room.member", ALICE, {"membership": "join"}, ALICE) == in_version(version, "4.3.7")


def test_creator_is_named_by_content_before_version_11(version: RoomVersion) -> None:
    room = Room(version, {"creator": BOB})
    join = {"membership": "join"}
    event = room.event("m.room.member", BOB, join, BOB, prev_events=[room.create.event_id])
    assert room.refusal(event) == (None if version is V10 else in_version(version, "4.3.7"))


RESTRICTED: list[tuple[str, int, str | None]] = [
    # membership and power level of the one who lets in, refused by; inviting needs 50
    ("join", 50, None),
    ("join", 100, None),
    ("join", 49, "4.3.5.2"),
    ("invite", 100, "4.3.5.2"),
    ("leave", 100, "4.3.5.2"),
]


@pytest.mark.parametrize("join_rule", ["restricted", "knock_restricted"])
@pytest.mark.parametrize(("membership", "level", "rule"), RESTRICTED)
def test_restricted_join(version: RoomVersion, join_rule: str, membership: str, level: int, rule: str | None) -> None:
    room = Room(version)
    room.set("m.room.join_rules", {"join_rule": join_rule})
    room.set("m.room.power_levels", {"invite": 50, "users": {CAROL: level}})
    room.member(CAROL, membership)
    content = {"membership": "join", "join_authorised_via_users_server": CAROL}
    assert room.refuses("m.room.member", BOB, content, BOB) == in_version(version, rule)


@pytest.mark.parametrize("authoriser", [7, "@carol:elsewhere.example", "carol"])
def test_restricted_join_must_be_signed_by_the_authorisers_server(version: RoomVersion, authoriser: object) -> None:
    room = Room(version)
    room.set("m.room.join_rules", {"join_rule": "public"})
    content = {"membership": "join", "join_authorised_via_users_server": authoriser}
    assert room.refuses("m.room.member", BOB, content, BOB) == in_version(version, "4.2.1")


INVITES: list[tuple[str | None, str | None, int, str | None]] = [
    # sender's membership, target's membership, sender's level (needed: 50), refused by
    ("join", None, 50, None),
    ("join", "leave", 50, None),
    ("join", "knock", 50, None),
    ("join", "invite", 50, None),
    ("join", None, 49, "4.4.5"),
    ("join", "join", 100, "4.4.3"),
    ("join", "ban", 100, "4.4.3"),
    (None, None, 100, "4.4.2"),
    ("leave", None, 100, "4.4.2"),
    ("invite", None, 100, "4.4.2"),
    ("ban", None, 100, "4.4.2"),
]


@pytest.mark.parametrize(("sender", "target", "level", "rule"), INVITES)
def test_invite(version: RoomVersion, sender: str | None, target: str | None, level: int, rule: str | None) -> None:
    room = Room(version)
    room.set("m.room.power_levels", {"invite": 50, "users": {BOB: level}})
    if sender:
        room.member(BOB, sender)
    if target:
        room.member(CAROL, target)
    assert room.refuses("m.room.member", BOB, {"membership": "invite"}, CAROL) == in_version(version, rule)


LEAVES: list[tuple[str | None, str | None]] = [
    ("join", None),
    ("invite", None),
    ("knock", None),
    ("leave", "4.5.1"),
    ("ban", "4.5.1"),
    (None, "4.5.1"),
]


@pytest.mark.parametrize(("before", "rule"), LEAVES)
def test_leave(version: RoomVersion, before: str | None, rule: str | None) -> None:
    room = Room(version)
    if before:
        room.member(BOB, before)
    assert room.refuses("m.room.member", BOB, {"membership": "leave"}, BOB) == in_version(version, rule)


KICKS_AND_BANS: list[tuple[str, str | None, str | None, int, int, str | None]] = [
    # membership tried, sender's and target's membership, sender's and target's level; kick needs 40, ban 60
    ("leave", "join", "join", 40, 39, None),
    ("leave", "join", "join", 40, 40, "4.5.5"),
    ("leave", "join", "join", 39, 0, "4.5.5"),
    ("leave", "join", "invite", 40, 0, None),
    ("leave", "join", "knock", 40, 0, None),
    ("leave", "join", "ban", 59, 0, "4.5.3"),
    ("leave", "join", "ban", 60, 0, None),
    ("leave", "join", "ban", 60, 60, "4.5.5"),
    ("leave", "leave", "join", 100, 0, "4.5.2"),
    ("leave", None, "join", 100, 0, "4.5.2"),
    ("ban", "join", "join", 60, 59, None),
    ("ban", "join", "join", 60, 60, "4.6.3"),
    ("ban", "join", "join", 59, 0, "4.6.3"),
    ("ban", "join", None, 60, 0, None),
    ("ban", "join", "ban", 60, 0, None),
    ("ban", "invite", "join", 100, 0, "4.6.1"),
    ("ban", None, "join", 100, 0, "4.6.1"),
]


@pytest.mark.parametrize(("membership", "sender", "target", "own", "others", "rule"), KICKS_AND_BANS)
def test_kick_unban_and_ban(
    version: RoomVersion,
    membership: str,
    sender: str | None,
    target: str | None,
    own: int,
    others: int,
    rule: str | None,
) -> None:
    room = Room(version)
    room.set("m.room.power_levels", {"kick": 40, "ban": 60, "users": {BOB: own, CAROL: others}})
    if sender:
        room.member(BOB, sender)
    if target:
        room.member(CAROL, target)
    assert room.refuses("m.room.member", BOB, {"membership": membership}, CAROL) == in_version(version, rule)


KNOCKS: list[tuple[str | None, str | None, str | None]] = [
    ("knock", None, None),
    ("knock", "leave", None),
    ("knock", "knock", None),
    ("knock_restricted", None, None),
    ("knock", "ban", "4.7.4"),
    ("knock", "invite", "4.7.4"),
    ("knock", "join", "4.7.4"),
    (None, None, "4.7.1"),
    ("invite", None, "4.7.1"),
    ("restricted", None, "4.7.1"),
    ("public", None, "4.7.1"),
]


@pytest.mark.parametrize(("join_rule", "before", "rule"), KNOCKS)
def test_knock(version: RoomVersion, join_rule: str | None, before: str | None, rule: str | None) -> None:
    room = Room(version)
    if join_rule:
        room.set("m.room.join_rules", {"join_rule": join_rule})
    if before:
        room.member(BOB, before)
    assert room.refuses("m.room.member", BOB, {"membership": "knock"}, BOB) == in_version(version, rule)


def test_nobody_can_knock_for_another(version: RoomVersion) -> None:
    room = Room(version)
    room.set("m.room.join_rules", {"join_rule": "knock"})
    assert room.refuses("m.room.member", ALICE, {"membership": "knock"}, BOB) == in_version(version, "4.7.2")


@pytest.mark.parametrize(
    ("content", "state_key", "rule"),
    [({}, BOB, "4.1"), ({"membership": "join"}, None, "4.1"), ({"membership": "nonsense"}, BOB, "4.8")],
)
def test_shape_of_member_events(
    version: RoomVersion, content: dict[str, Any], state_key: str | None, rule: str
) -> None:
    room = Room(version)
    room.set("m.room.join_rules", {"join_rule": "public"})
    assert room.refuses("m.room.member", BOB, content, state_key) == in_version(version, rule)


# --- 4.4.1: third party invites -----------------------------------------------------------------------------------

IDENTITY_KEY = SigningKey(b"i" * 32)
IDENTITY = pdu.Signer("identity.example", "ed25519:0", IDENTITY_KEY)
PUBLIC_KEY = IDENTITY.verify_keys["ed25519:0"]


def signed(**changes: Any) -> dict[str, Any]:
    return IDENTITY.sign_json({"mxid": BOB, "token": "tok", "sender": ALICE} | changes)


def other_key() -> str:
    return pdu.Signer("x", "ed25519:0", SigningKey(b"o" * 32)).verify_keys["ed25519:0"]


THIRD_PARTY: list[tuple[dict[str, Any], Any, str, str | None]] = [
    # content of m.room.third_party_invite, content.third_party_invite, sender, refused by
    ({"public_key": PUBLIC_KEY}, {"signed": signed()}, ALICE, None),
    ({"public_key": PUBLIC_KEY + "="}, {"signed": signed()}, ALICE, None),
    ({"public_key": other_key(), "public_keys": [{"public_key": PUBLIC_KEY}]}, {"signed": signed()}, ALICE, None),
    ({"public_keys": [{"public_key": "?"}, 7, {"public_key": PUBLIC_KEY}]}, {"signed": signed()}, ALICE, None),
    ({"public_key": PUBLIC_KEY}, {}, ALICE, "4.4.1.2"),
    ({"public_key": PUBLIC_KEY}, "x", ALICE, "4.4.1.2"),
    ({"public_key": PUBLIC_KEY}, {"signed": {"mxid": BOB}}, ALICE, "4.4.1.3"),
    ({"public_key": PUBLIC_KEY}, {"signed": {"token": "tok"}}, ALICE, "4.4.1.3"),
    ({"public_key": PUBLIC_KEY}, {"signed": signed(mxid=CAROL)}, ALICE, "4.4.1.4"),
    ({"public_key": PUBLIC_KEY}, {"signed": signed(token="other")}, ALICE, "4.4.1.5"),
    ({"public_key": PUBLIC_KEY}, {"signed": signed()}, CAROL, "4.4.1.6"),
    ({"public_key": other_key()}, {"signed": signed()}, ALICE, "4.4.1.8"),
    ({"public_key": PUBLIC_KEY}, {"signed": {**signed(), "more": 1}}, ALICE, "4.4.1.8"),
    ({"public_key": PUBLIC_KEY}, {"signed": {**signed(), "signatures": []}}, ALICE, "4.4.1.8"),
    ({}, {"signed": signed()}, ALICE, "4.4.1.8"),
]


@pytest.mark.parametrize(("origin", "invite", "sender", "rule"), THIRD_PARTY)
def test_third_party_invite(
    version: RoomVersion, origin: dict[str, Any], invite: Any, sender: str, rule: str | None
) -> None:
    room = Room(version)
    room.member(CAROL, "join")
    room.set("m.room.third_party_invite", origin, "tok")
    content = {"membership": "invite", "third_party_invite": invite}
    assert room.refuses("m.room.member", sender, content, BOB) == in_version(version, rule)


def test_third_party_invite_does_not_lift_a_ban(version: RoomVersion) -> None:
    room = Room(version)
    room.set("m.room.third_party_invite", {"public_key": PUBLIC_KEY}, "tok")
    room.member(BOB, "ban", ALICE)
    content = {"membership": "invite", "third_party_invite": {"signed": signed()}}
    assert room.refuses("m.room.member", ALICE, content, BOB) == in_version(version, "4.4.1.1")


@pytest.mark.parametrize(("level", "rule"), [(50, None), (49, "6.1")])
def test_making_third_party_invites_needs_the_invite_level(version: RoomVersion, level: int, rule: str | None) -> None:
    room = Room(version)
    room.set("m.room.power_levels", {"invite": 50, "state_default": 100, "users": {BOB: level}})
    room.member(BOB, "join")
    assert room.refuses("m.room.third_party_invite", BOB, {}, "tok") == in_version(version, rule)


# --- 5, 7, 8: everything else -------------------------------------------------------------------------------------


@pytest.mark.parametrize("membership", [None, "invite", "leave", "ban", "knock"])
@pytest.mark.parametrize("type", ["m.room.message", "m.room.topic", "m.room.third_party_invite", "m.room.redaction"])
def test_only_members_send(version: RoomVersion, membership: str | None, type: str) -> None:
    room = Room(version)
    if membership:
        room.member(BOB, membership)
    state_key = None if type in ("m.room.message", "m.room.redaction") else ""
    assert room.refuses(type, BOB, {}, state_key) == in_version(version, "5")


LEVELS: list[tuple[dict[str, Any] | None, str, str | None, int, str | None]] = [
    # power levels, type, state key, level of the sender, refused by
    ({}, "m.room.message", None, 0, None),
    ({}, "m.room.message", None, -1, "7"),
    ({"events_default": 10}, "m.room.message", None, 9, "7"),
    ({"events_default": 10}, "m.room.message", None, 10, None),
    ({}, "m.room.topic", "", 49, "7"),
    ({}, "m.room.topic", "", 50, None),
    ({"state_default": 10}, "m.room.topic", "", 10, None),
    ({"events": {"m.room.topic": 60}}, "m.room.topic", "", 59, "7"),
    ({"events": {"m.room.topic": 60}}, "m.room.topic", "", 60, None),
    ({"events": {"m.room.redaction": 10}, "redact": 0}, "m.room.redaction", None, 9, "7"),
    # A redaction needs no more than any message: whether it takes effect is may_redact's question.
    ({"redact": 100}, "m.room.redaction", None, 0, None),
]


@pytest.mark.parametrize(("content", "type", "state_key", "level", "rule"), LEVELS)
def test_required_level(
    version: RoomVersion,
    content: dict[str, Any],
    type: str,
    state_key: str | None,
    level: int,
    rule: str | None,
) -> None:
    room = Room(version)
    room.member(BOB, "join")
    room.set("m.room.power_levels", {**content, "users": {BOB: level}})
    assert room.refuses(type, BOB, {}, state_key) == in_version(version, rule)


def test_levels_without_power_levels_event(version: RoomVersion) -> None:
    room = Room(version)
    room.member(BOB, "join")
    assert room.refuses("m.room.message", BOB, {}) is None
    assert room.refuses("m.room.topic", BOB, {}, "") == in_version(version, "7")
    assert room.refuses("m.room.topic", ALICE, {}, "") is None


@pytest.mark.parametrize(
    ("state_key", "rule"), [(ALICE, None), (BOB, "8"), ("@", "8"), ("", None), ("x" + BOB, None), (None, None)]
)
def test_state_key_of_others(version: RoomVersion, state_key: str | None, rule: str | None) -> None:
    assert Room(version).refuses("org.example.x", ALICE, {}, state_key) == in_version(version, rule)


# --- 9: m.room.power_levels ---------------------------------------------------------------------------------------

SHAPES: list[tuple[dict[str, Any], str | None]] = [
    *[({key: "50"}, "9.1") for key in ("users_default", "events_default", "state_default", "ban", "redact")],
    ({"kick": None}, "9.1"),
    ({"invite": True}, "9.1"),
    ({"events": []}, "9.2"),
    ({"events": {"m.room.topic": "50"}}, "9.2"),
    ({"events": None}, "9.2"),
    ({"notifications": {"room": None}}, "9.2"),
    ({"notifications": 5}, "9.2"),
    ({"users": []}, "9.3"),
    ({"users": {"bob": 5}}, "9.3"),
    ({"users": {BOB: "5"}}, "9.3"),
    ({"users": {BOB: False}}, "9.3"),
    ({}, None),
    ({"users": {BOB: 100}, "events": {"x": -5}, "notifications": {"room": 0}, "ban": 0, "unknown": "x"}, None),
]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("content", "rule"), SHAPES)
def test_shape_of_power_levels(version: RoomVersion, content: dict[str, Any], rule: str | None, first: bool) -> None:
    room = Room(version)
    if not first:
        room.set("m.room.power_levels", {"users": {} if version is V12 else {ALICE: 100}})
        content = {"users": {} if version is V12 else {ALICE: 100}} | content
    assert room.refuses("m.room.power_levels", ALICE, content, "") == in_version(version, rule)


#: Bob has level 50; "x" events need 60, "y" events 40; Carol has 50, Dave 40.
CURRENT = {
    "ban": 60,
    "kick": 40,
    "events": {"x": 60, "y": 40, "m.room.power_levels": 0},
    "notifications": {"room": 60, "y": 40},
    "users": {BOB: 50, CAROL: 50, DAVE: 40},
}


def changed(**parts: Any) -> dict[str, Any]:
    """CURRENT with changes: None takes a key out, a dict is merged."""
    content: dict[str, Any] = {}
    for key in CURRENT.keys() | parts.keys():
        value: Any = CURRENT.get(key)
        if key in parts:
            new = parts[key]
            value = {**(value or {}), **new} if isinstance(new, dict) else new
        if isinstance(value, dict):
            value = {name: level for name, level in value.items() if level is not None}
        if value is not None:
            content[key] = value
    return content


CHANGES: list[tuple[dict[str, Any], str | None]] = [
    (changed(), None),
    # 9.5: single levels
    (changed(kick=50), None),
    (changed(kick=51), "9.5.2"),
    (changed(kick=None), None),
    (changed(ban=50), "9.5.1"),
    (changed(ban=None), "9.5.1"),
    (changed(redact=50), None),
    (changed(redact=51), "9.5.2"),
    (changed(users_default=51), "9.5.2"),
    (changed(events_default=50), None),
    (changed(state_default=51), "9.5.2"),
    (changed(invite=51), "9.5.2"),
    # 9.6 and 9.7: events and notifications
    (changed(events={"x": 50}), "9.6.1"),
    (changed(events={"x": None}), "9.6.1"),
    (changed(events={"y": 50}), None),
    (changed(events={"y": None}), None),
    (changed(events={"y": 51}), "9.7.1"),
    (changed(events={"z": 50}), None),
    (changed(events={"z": 51}), "9.7.1"),
    (changed(notifications={"room": 50}), "9.6.1"),
    (changed(notifications={"y": 51}), "9.7.1"),
    (changed(notifications={"y": None}), None),
    # 9.8 and 9.9: users
    (changed(users={DAVE: 50}), None),
    (changed(users={DAVE: 51}), "9.9.1"),
    (changed(users={DAVE: None}), None),
    (changed(users={CAROL: 40}), "9.8.1"),
    (changed(users={CAROL: None}), "9.8.1"),
    (changed(users={BOB: 40}), None),
    (changed(users={BOB: None}), None),
    (changed(users={BOB: 51}), "9.9.1"),
    (changed(users={"@new:uni.example": 50}), None),
    (changed(users={"@new:uni.example": 51}), "9.9.1"),
]


@pytest.mark.parametrize(("content", "rule"), CHANGES)
def test_change_of_power_levels(version: RoomVersion, content: dict[str, Any], rule: str | None) -> None:
    room = Room(version)
    room.member(BOB, "join")
    room.set("m.room.power_levels", CURRENT)
    assert room.refuses("m.room.power_levels", BOB, content, "") == in_version(version, rule)


# --- version 12: creators -----------------------------------------------------------------------------------------


def test_creators_are_above_all_only_in_version_12(version: RoomVersion) -> None:
    room = Room(version, {"additional_creators": [BOB]})
    room.member(BOB, "join")
    room.member(CAROL, "join")
    room.set("m.room.power_levels", {"state_default": 100, "ban": 50, "kick": 50, "users": {CAROL: 100}})
    privileged = version is V12
    for creator in (ALICE, BOB):
        assert room.refuses("m.room.topic", creator, {}, "") == (None if privileged else "7")
        assert room.refuses("m.room.member", creator, {"membership": "ban"}, CAROL) == (None if privileged else "4.6.3")
        refused = room.refuses("m.room.member", CAROL, {"membership": "ban"}, creator)
        assert refused == ("5.6.3" if privileged else None)
    # Creators are equals.
    assert room.refuses("m.room.member", ALICE, {"membership": "leave"}, BOB) == in_version(version, "4.5.5")


@pytest.mark.parametrize("user_id", [ALICE, BOB])
def test_creators_have_no_place_in_power_levels_of_version_12(version: RoomVersion, user_id: str) -> None:
    room = Room(version, {"additional_creators": [BOB]})
    refused = room.refuses("m.room.power_levels", ALICE, {"users": {user_id: 100}}, "")
    assert refused == ("10.4" if version is V12 else None)


# --- whether redactions take effect -------------------------------------------------------------------------------


def test_may_redact(version: RoomVersion) -> None:
    room = Room(version)
    room.set("m.room.power_levels", {"redact": 50, "users": {BOB: 50, CAROL: 49}})
    levels = PowerLevels(version, room.create, room.state["m.room.power_levels", ""])
    assert auth.may_redact(version, BOB, DAVE, levels)
    assert auth.may_redact(version, DAVE, DAVE, levels)
    # All are of one domain: the spec's second condition must not count here.
    assert not auth.may_redact(version, CAROL, DAVE, levels)
    assert auth.may_redact(version, ALICE, DAVE, levels) == (version is V12)


def test_given_power_levels_are_used(version: RoomVersion) -> None:
    room = Room(version)
    room.member(BOB, "join")
    strict = Room(version)
    strict.set("m.room.power_levels", {"events_default": 50})
    levels = PowerLevels(version, strict.create, strict.state["m.room.power_levels", ""])
    message = room.event("m.room.message", BOB, {})
    auth.check(version, message, room.state)
    with pytest.raises(auth.AuthError, match=r"you may not send m\.room\.message .* / Sie dürfen"):
        auth.check(version, message, room.state, levels)
