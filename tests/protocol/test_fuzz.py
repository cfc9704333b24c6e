"""Whatever JSON a client sends, the rules answer with their own errors and nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from heichat_appliance.protocol import auth, filters, pushrules, redaction, relations
from heichat_appliance.protocol.powerlevels import PowerLevels
from heichat_appliance.protocol.pusheval import Evaluator, PushEvent
from heichat_appliance.protocol.roomversions import V10, V11, V12, RoomVersion
from tests.protocol.rooms import ALICE, BOB, Room

WORDS = [
    *("membership", "join", "invite", "ban", "leave", "knock", "third_party_invite", "signed", "mxid", "token"),
    *("signatures", "public_key", "public_keys", "join_rule", "allow", "users", "events", "kick", "notifications"),
    *("creator", "additional_creators", "room_version", "redacts", "m.relates_to", "rel_type", "event_id", "key"),
    *("m.annotation", "m.new_content", "body", "kind", "pattern", "value", "is", "conditions", "actions", "notify"),
    *("event_match", "event_property_is", "room_member_count", "content.body", "set_tweak", "2", ">=3", "a*b?"),
    *("room", "timeline", "types", "senders", "limit", "rooms", "event_fields", "contains_url", "history_visibility"),
    *("join_authorised_via_users_server", "alias", "algorithm", "ed25519:1", "m.mentions", "user_ids", ALICE, BOB),
]
words = st.sampled_from(WORDS) | st.text(max_size=3)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(words, values, max_size=5)
types = st.sampled_from(
    [
        "m.room.create",
        "m.room.member",
        "m.room.join_rules",
        "m.room.power_levels",
        "m.room.third_party_invite",
        "m.room.history_visibility",
        "m.room.canonical_alias",
        "m.room.encryption",
        "m.room.redaction",
        "m.room.message",
    ]
)
versions = st.sampled_from([V10, V11, V12])
LEVELS = PowerLevels(V11, Room(V11).create, None)


@given(versions, types, st.sampled_from([ALICE, BOB]), st.none() | words, objects, objects, objects)
def test_auth_rules(
    version: RoomVersion,
    type: str,
    sender: str,
    state_key: str | None,
    content: dict[str, Any],
    join_rules: dict[str, Any],
    invite: dict[str, Any],
) -> None:
    room = Room(version)
    room.set("m.room.join_rules", join_rules)
    room.set("m.room.third_party_invite", invite, "token")
    room_id = None if version is V12 and type == "m.room.create" else room.room_id
    event = room.event(type, sender, content, state_key, room_id=room_id)
    room.refusal(event)
    redacted = redaction.redact(version, event.raw)
    assert redaction.redact(version, redacted) == redacted
    relation = relations.relation_of(event.content)
    assert relation is None or all(isinstance(part, str) for part in relation[:2])


@given(types, words, objects)
def test_what_passes_the_content_checks_is_sound(type: str, state_key: str, content: dict[str, Any]) -> None:
    try:
        auth.check_client_content(type, state_key, content)
    except auth.ContentError:
        return
    if type == "m.room.member":
        assert content["membership"] in ("join", "invite", "ban", "leave", "knock")
    if type == "m.room.power_levels":
        assert Room(V11).refuses(type, ALICE, content, state_key) is None


@given(values)
def test_filters(source: object) -> None:
    try:
        parsed = filters.parse_filter(source)
    except ValueError:
        return
    parsed.room.timeline.matches("m.room.message", ALICE, {}, "!r:x")
    parsed.presence.matches("m.presence", ALICE)


@given(st.sampled_from(pushrules.KINDS), words, objects, values, objects)
def test_accepted_push_rules_can_be_applied(
    kind: str, rule_id: str, body: dict[str, Any], conditions: object, content: dict[str, Any]
) -> None:
    try:
        rule = pushrules.check_rule(kind, rule_id, {"actions": ["notify"], "conditions": conditions} | body)
    except pushrules.RuleError:
        return
    evaluator = Evaluator(pushrules.merge(pushrules.set_rule({}, kind, rule)))
    event = PushEvent(
        type="m.room.message",
        sender=ALICE,
        room_id="!r:x",
        content=content,
        state_key=None,
        event_id="$e",
        member_count=lambda: 3,
        power_levels=lambda: LEVELS,
    )
    assert isinstance(evaluator.actions(event, user_id=BOB, display_name="bob").notify, bool)
