"""What push rules do about events."""

from __future__ import annotations

from typing import Any

import pytest

from heichat_appliance.protocol import pushrules
from heichat_appliance.protocol.powerlevels import PowerLevels
from heichat_appliance.protocol.pusheval import NOTHING, Actions, Evaluator, PushEvent
from heichat_appliance.protocol.roomversions import V11
from tests.protocol.rooms import ALICE, BOB, CAROL, Room

ROOM = Room(V11)
ROOM.set("m.room.power_levels", {"users": {ALICE: 50}, "notifications": {"low": 0}})
LEVELS = PowerLevels(V11, ROOM.create, ROOM.state["m.room.power_levels", ""])
DEFAULT = Evaluator(pushrules.merge({}))


def event(type: str = "m.room.message", sender: str = ALICE, count: int = 10, **fields: Any) -> PushEvent:
    content = fields.pop("content", {"msgtype": "m.text", "body": "hello"})
    return PushEvent(
        type=type,
        sender=sender,
        room_id="!room:uni.example",
        content=content,
        state_key=fields.pop("state_key", None),
        event_id="$e",
        member_count=lambda: count,
        power_levels=lambda: LEVELS,
    )


def result(evaluator: Evaluator, pushed: PushEvent, user_id: str = BOB, name: str | None = None) -> str:
    """ "" for nothing, else the words notify, highlight and the sound."""
    actions = evaluator.actions(pushed, user_id=user_id, display_name=name)
    words = ["notify"] * actions.notify + ["highlight"] * actions.highlight
    return " ".join(words + ([actions.sound] if actions.sound else []))


def mentions(**value: Any) -> dict[str, Any]:
    return {"msgtype": "m.text", "body": "x", "m.mentions": value}


EDIT = {"body": "* x", "msgtype": "m.text", "m.relates_to": {"rel_type": "m.replace", "event_id": "$o"}}
DEFAULTS: list[tuple[PushEvent, str]] = [
    (event(), "notify"),
    (event(count=2), "notify default"),
    (event(count=1), "notify"),
    (event(type="m.room.encrypted", content={}), "notify"),
    (event(type="m.room.encrypted", content={}, count=2), "notify default"),
    (event(content={"msgtype": "m.notice", "body": "x"}), ""),
    (event(content=mentions(user_ids=[CAROL, BOB])), "notify highlight default"),
    (event(content=mentions(user_ids=[CAROL])), "notify"),
    (event(content=mentions(user_ids=BOB)), "notify"),
    (event(content=mentions(user_ids=[[BOB], 5])), "notify"),
    (event(content=mentions(room=True)), "notify highlight"),
    (event(content=mentions(room=1)), "notify"),
    (event(content=mentions(room=True), sender=CAROL), "notify"),
    (event(content=EDIT), ""),
    (event(content={**EDIT, "m.mentions": {"user_ids": [BOB]}}), "notify highlight default"),
    (event(content={"msgtype": "m.notice", "body": "x", "m.mentions": {"user_ids": [BOB]}}), ""),
    (event("m.reaction", content={}), ""),
    (event("m.room.member", content={"membership": "invite"}, state_key=BOB), "notify default"),
    (event("m.room.member", content={"membership": "invite"}, state_key=CAROL), ""),
    (event("m.room.member", content={"membership": "join"}, state_key=CAROL), ""),
    (event("m.room.tombstone", content={}, state_key=""), "notify highlight"),
    (event("m.room.tombstone", content={}), ""),
    (event("m.room.tombstone", content={}, state_key="x"), ""),
    (event("m.room.server_acl", content={}, state_key=""), ""),
    (event("m.call.invite", content={}), "notify ring"),
    (event("m.room.topic", content={"topic": "x"}, state_key=""), ""),
    (event("org.example", content={}), ""),
    # No legacy mentions by name since v1.17.
    (event(content={"msgtype": "m.text", "body": "bob @room"}), "notify"),
]


@pytest.mark.parametrize(("pushed", "expected"), DEFAULTS)
def test_default_rules(pushed: PushEvent, expected: str) -> None:
    assert result(DEFAULT, pushed, BOB, "bob") == expected


def own(kind: str, rule_id: str = "mine", **body: Any) -> Evaluator:
    rule = pushrules.check_rule(kind, rule_id, {"actions": ["notify", {"set_tweak": "sound", "value": "mine"}]} | body)
    return Evaluator(pushrules.merge(pushrules.set_rule({}, kind, rule)))


def matches(condition: dict[str, Any], pushed: PushEvent, name: str | None = None) -> bool:
    return result(own("override", conditions=[condition]), pushed, BOB, name).endswith("mine")


EVENT_MATCH: list[tuple[str, str, dict[str, Any], bool]] = [
    ("content.topic", "lunc?*", {"topic": "Lunch plans"}, True),
    ("content.topic", "lunc?*", {"topic": "LUNCH"}, True),
    ("content.topic", "lunc?*", {"topic": " lunch"}, False),
    ("content.topic", "lunc?*", {"topic": "lunc"}, False),
    ("content.topic", "*", {"topic": None}, False),
    ("content.topic", "*", {}, False),
    ("content.topic", "*", {"topic": 5}, False),
    ("content.topic", "", {"topic": ""}, True),
    ("content.topic", "GRÜN", {"topic": "grün"}, True),
    ("content.topic", "a.c", {"topic": "abc"}, False),
    (r"content.a\.b.c", "x", {"a.b": {"c": "x"}}, True),
    ("content.a.b.c", "x", {"a.b": {"c": "x"}}, False),
    ("content.body", "ex*ple", {"body": "An example event."}, True),
    ("content.body", "ex*ple", {"body": "exple"}, True),
    ("content.body", "ex*ple", {"body": "An exciting triple-whammy"}, True),
    ("content.body", "ex*ple", {"body": "An examples"}, False),
    ("content.body", "cake", {"body": "I like CAKE, really"}, True),
    ("content.body", "cake", {"body": "cupcake"}, False),
    ("content.body", "cake", {"body": "cake_s"}, False),
    ("content.body", "cake", {"body": "cakeä"}, True),
    ("content.body", "cake", {"body": "line\ncake\nline"}, True),
    ("room_id", "!room:uni.example", {}, True),
    ("sender", "@alice:*", {}, True),
    ("event_id", "$e", {}, True),
    ("state_key", "*", {}, False),
]


@pytest.mark.parametrize(("key", "pattern", "content", "expected"), EVENT_MATCH)
def test_event_match(key: str, pattern: str, content: dict[str, Any], expected: bool) -> None:
    assert matches({"kind": "event_match", "key": key, "pattern": pattern}, event(content=content)) == expected


VALUES: list[tuple[object, object, bool]] = [
    (True, True, True),
    (True, 1, False),
    (1, True, False),
    (1, 1, True),
    ("x", "x", True),
    ("x", "X", False),
    (None, None, True),
    (None, "", False),
    ("true", True, False),
]


@pytest.mark.parametrize(("wanted", "found", "expected"), VALUES)
def test_event_property_is_and_contains(wanted: object, found: object, expected: bool) -> None:
    condition = {"kind": "event_property_is", "key": "content.x", "value": wanted}
    assert matches(condition, event(content={"x": found})) == expected
    assert not matches(condition, event(content={}))
    assert not matches(condition, event(content={"x": [found]}))
    condition = {"kind": "event_property_contains", "key": "content.x", "value": wanted}
    assert matches(condition, event(content={"x": [{}, [], found]})) == expected
    assert not matches(condition, event(content={"x": found}))
    assert not matches(condition, event(content={}))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("Bob", "hi bob!", True),
        ("Bob", "bobby", False),
        ("B.b", "hi bob", False),
        ("Bob B*", "hi bob b* there", True),
        ("Jörg Müller", "hallo jörg müller", True),
        ("", "hi", False),
        (None, "hi", False),
        ("Bob", 5, False),
    ],
)
def test_contains_display_name(name: str | None, text: object, expected: bool) -> None:
    assert matches({"kind": "contains_display_name"}, event(content={"body": text}), name) == expected


@pytest.mark.parametrize(
    ("bound", "counts"),
    [("2", [2]), ("==2", [2]), ("<2", [0, 1]), (">2", [3, 4]), ("<=2", [0, 1, 2]), (">=2", [2, 3, 4]), ("02", [2])],
)
def test_room_member_count(bound: str, counts: list[int]) -> None:
    condition = {"kind": "room_member_count", "is": bound}
    assert [count for count in range(5) if matches(condition, event(count=count))] == counts


@pytest.mark.parametrize(
    ("key", "sender", "expected"),
    [("room", ALICE, True), ("room", BOB, False), ("low", BOB, True), ("other", ALICE, True), ("other", BOB, False)],
)
def test_sender_notification_permission(key: str, sender: str, expected: bool) -> None:
    assert matches({"kind": "sender_notification_permission", "key": key}, event(sender=sender)) == expected


def test_unknown_conditions_never_match() -> None:
    assert not matches({"kind": "org.example.always"}, event())


def test_all_conditions_must_match() -> None:
    yes = {"kind": "event_match", "key": "type", "pattern": "m.room.message"}
    no = {"kind": "event_match", "key": "content.msgtype", "pattern": "m.image"}
    assert result(own("override", conditions=[yes, no]), event()) == "notify"
    assert result(own("override", conditions=[yes, yes]), event()) == "notify mine"
    assert result(own("override", conditions=[]), event()) == "notify mine"


def test_kinds_in_their_order() -> None:
    changes: dict[str, Any] = {}
    expected = []
    for kind, rule_id, more in [
        ("underride", "u", {}),
        ("sender", ALICE, {}),
        ("room", "!room:uni.example", {}),
        ("content", "c", {"pattern": "hello"}),
        ("override", "o", {}),
    ]:
        body = {"actions": ["notify", {"set_tweak": "sound", "value": kind}], **more}
        changes = pushrules.set_rule(changes, kind, pushrules.check_rule(kind, rule_id, body))
        expected.append(kind)
        assert result(Evaluator(pushrules.merge(changes)), event()) == f"notify {kind}"


def test_rules_of_room_and_sender_ask_for_exactly_theirs() -> None:
    assert result(own("room", "!ROOM:uni.example"), event()) == "notify"
    assert result(own("sender", BOB), event()) == "notify"
    assert result(own("sender", BOB), event(sender=BOB)) == "notify mine"


def test_disabled_rules_do_nothing() -> None:
    changes = pushrules.set_enabled({}, "underride", ".m.rule.message", False)
    assert result(Evaluator(pushrules.merge(changes)), event()) == ""
    assert result(Evaluator(pushrules.merge(changes)), event(count=2)) == "notify default"


def test_master_rule_silences_everything() -> None:
    rule = pushrules.check_rule("override", "mine", {"actions": ["notify"]})
    changes = pushrules.set_enabled(pushrules.set_rule({}, "override", rule), "override", ".m.rule.master", True)
    evaluator = Evaluator(pushrules.merge(changes))
    assert result(evaluator, event(content=mentions(user_ids=[BOB]))) == ""
    assert evaluator.outcome(event()).is_same_for_all


@pytest.mark.parametrize(("value", "highlight"), [({}, True), ({"value": True}, True), ({"value": False}, False)])
def test_highlight_tweak(value: dict[str, Any], highlight: bool) -> None:
    evaluator = own("override", actions=["notify", {"set_tweak": "highlight", **value}])
    actions = evaluator.actions(event(), user_id=BOB, display_name=None)
    assert (actions.notify, actions.highlight, actions.sound) == (True, highlight, None)
    assert actions.raw == ("notify", {"set_tweak": "highlight", **value})


def test_one_outcome_serves_a_whole_room() -> None:
    outcome = DEFAULT.outcome(event(content=mentions(user_ids=[BOB])))
    assert not outcome.is_same_for_all
    assert outcome.for_user(BOB, None).highlight
    assert outcome.for_user(CAROL, None) is outcome.otherwise
    assert outcome.otherwise == Actions(True, False, ("notify",))
    assert DEFAULT.outcome(event()).is_same_for_all
    assert DEFAULT.outcome(event("m.room.topic")).otherwise is NOTHING


def test_nobody_can_make_a_rule_with_the_placeholder() -> None:
    text = "[the user's Matrix ID]"
    condition = {"kind": "event_match", "key": "sender", "pattern": text}
    assert not matches(condition, event(sender=BOB))


@pytest.mark.parametrize("user_id", [BOB, CAROL])
@pytest.mark.parametrize(("pushed", "_"), DEFAULTS)
def test_agrees_with_trying_one_rule_after_another(pushed: PushEvent, _: str, user_id: str) -> None:
    """The selection by event type and the sharing among users, against evaluators of one rule each."""

    def hits(kind: str, rule: dict[str, Any]) -> bool:
        probe = Evaluator({kind: [{**rule, "actions": ["notify"]}]})
        return probe.actions(pushed, user_id=user_id, display_name=None).notify

    every = [(kind, rule) for kind, rules in pushrules.merge({}).items() for rule in rules]
    actions = next((rule["actions"] for kind, rule in every if hits(kind, rule)), [])
    expected = Actions("notify" in actions, {"set_tweak": "highlight"} in actions, tuple(actions))
    assert DEFAULT.actions(pushed, user_id=user_id, display_name=None) == expected
