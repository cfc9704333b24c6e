"""Push rules as data: defaults, a user's changes, checks of what clients send."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from heichat_appliance.protocol import pushrules
from heichat_appliance.protocol.pushrules import RuleError, RuleNotFound

USER = "@alice:uni.example"


def ids_of(rules: list[dict[str, Any]]) -> list[str]:
    return [rule["rule_id"] for rule in rules]


def content_rule(rule_id: str, **body: Any) -> dict[str, Any]:
    return pushrules.check_rule("content", rule_id, {"pattern": "cake", "actions": ["notify"]} | body)


def test_default_rules_are_those_of_the_spec() -> None:
    rules = pushrules.ruleset(USER, {})
    assert ids_of(rules["override"]) == [
        ".m.rule.master",
        ".m.rule.suppress_notices",
        ".m.rule.invite_for_me",
        ".m.rule.member_event",
        ".m.rule.is_user_mention",
        ".m.rule.is_room_mention",
        ".m.rule.tombstone",
        ".m.rule.reaction",
        ".m.rule.room.server_acl",
        ".m.rule.suppress_edits",
    ]
    assert ids_of(rules["underride"]) == [
        ".m.rule.call",
        ".m.rule.encrypted_room_one_to_one",
        ".m.rule.room_one_to_one",
        ".m.rule.message",
        ".m.rule.encrypted",
    ]
    assert rules["content"] == rules["room"] == rules["sender"] == []
    enabled = {rule["rule_id"] for kind in rules.values() for rule in kind if rule["enabled"]}
    assert len(enabled) == 14 and ".m.rule.master" not in enabled


def test_ruleset_names_the_user_and_is_json() -> None:
    rules = orjson.loads(orjson.dumps(pushrules.ruleset(USER, {})))
    assert pushrules.find_rule(rules, "override", ".m.rule.is_user_mention") == {
        "rule_id": ".m.rule.is_user_mention",
        "default": True,
        "enabled": True,
        "conditions": [{"kind": "event_property_contains", "key": "content.m\\.mentions.user_ids", "value": USER}],
        "actions": ["notify", {"set_tweak": "sound", "value": "default"}, {"set_tweak": "highlight"}],
    }
    invite = pushrules.find_rule(rules, "override", ".m.rule.invite_for_me")
    assert invite["conditions"][2] == {"kind": "event_match", "key": "state_key", "pattern": USER}
    # Nothing of it stuck to the defaults.
    other = pushrules.ruleset("@bob:uni.example", {})
    assert pushrules.find_rule(other, "override", ".m.rule.invite_for_me")["conditions"][2]["pattern"][1:4] == "bob"


def test_master_comes_first_then_own_rules_then_defaults() -> None:
    rule = pushrules.check_rule("override", "mine", {"actions": []})
    assert rule == {"rule_id": "mine", "default": False, "enabled": True, "conditions": [], "actions": []}
    rules = pushrules.ruleset(USER, pushrules.set_rule({}, "override", rule))
    assert ids_of(rules["override"])[:3] == [".m.rule.master", "mine", ".m.rule.suppress_notices"]
    rule = pushrules.check_rule("underride", "mine", {"actions": []})
    rules = pushrules.ruleset(USER, pushrules.set_rule({}, "underride", rule))
    assert ids_of(rules["underride"])[:2] == ["mine", ".m.rule.call"]


def test_order_of_own_rules() -> None:
    changes: dict[str, Any] = {}

    def put(rule_id: str, **place: str) -> list[str]:
        nonlocal changes
        changes = pushrules.set_rule(changes, "content", content_rule(rule_id), **place)
        return ids_of(pushrules.ruleset(USER, changes)["content"])

    assert put("a") == ["a"]
    assert put("b") == ["b", "a"]
    assert put("c", after="b") == ["b", "c", "a"]
    assert put("d", before="a") == ["b", "c", "d", "a"]
    assert put("c") == ["b", "c", "d", "a"]
    assert put("b", after="a") == ["c", "d", "a", "b"]
    assert put("b", before="c", after="a") == ["b", "c", "d", "a"]
    for place in ({"before": "nothing"}, {"after": "nothing"}, {"before": ".m.rule.master"}, {"before": "a"}):
        with pytest.raises(RuleError, match="before/after rule not found"):
            put("a", **place)


def test_changing_a_rule_keeps_it_disabled() -> None:
    changes = pushrules.set_rule({}, "content", content_rule("a"))
    changes = pushrules.set_enabled(changes, "content", "a", False)
    changes = pushrules.set_rule(changes, "content", content_rule("a", pattern="tea"))
    assert pushrules.find_rule(pushrules.ruleset(USER, changes), "content", "a") == {
        "rule_id": "a",
        "default": False,
        "enabled": False,
        "pattern": "tea",
        "actions": ["notify"],
    }


def test_enabled_and_actions_of_default_rules() -> None:
    changes = pushrules.set_enabled({}, "override", ".m.rule.master", True)
    changes = pushrules.set_actions(changes, "underride", ".m.rule.message", ["dont_notify"])
    rules = pushrules.ruleset(USER, changes)
    assert pushrules.find_rule(rules, "override", ".m.rule.master")["enabled"] is True
    assert pushrules.find_rule(rules, "underride", ".m.rule.message")["actions"] == ["dont_notify"]
    assert pushrules.ruleset(USER, {}) != rules


def test_changes_survive_storage_and_are_not_shared() -> None:
    first = pushrules.set_rule({}, "room", pushrules.check_rule("room", "!r:x", {"actions": []}))
    second = pushrules.set_actions(first, "room", "!r:x", ["notify"])
    second = pushrules.set_enabled(second, "override", ".m.rule.reaction", False)
    assert pushrules.find_rule(pushrules.ruleset(USER, first), "room", "!r:x")["actions"] == []
    stored = orjson.loads(orjson.dumps(second))
    assert pushrules.ruleset(USER, stored) == pushrules.ruleset(USER, second)
    assert pushrules.delete_rule(second, "room", "!r:x")["own"] == {"room": []}


def test_unknown_rules() -> None:
    for change in (
        lambda: pushrules.set_enabled({}, "content", "a", True),
        lambda: pushrules.set_actions({}, "override", ".m.rule.message", []),
        lambda: pushrules.set_enabled({}, "nonsense", ".m.rule.master", True),
        lambda: pushrules.delete_rule({}, "content", "a"),
        lambda: pushrules.find_rule(pushrules.ruleset(USER, {}), "nonsense", "a"),
        lambda: pushrules.find_rule(pushrules.ruleset(USER, {}), "override", ".m.rule.contains_display_name"),
    ):
        with pytest.raises(RuleNotFound):
            change()
    with pytest.raises(RuleError, match="only disabled"):
        pushrules.delete_rule({}, "override", ".m.rule.master")
    with pytest.raises(RuleError, match="enabled must be"):
        pushrules.set_enabled({}, "override", ".m.rule.master", 1)


CONDITION = {"kind": "event_match", "key": "content.body", "pattern": "x"}
BAD_RULES: list[tuple[str, str, dict[str, Any], str]] = [
    ("nonsense", "a", {"actions": []}, "kind must be one of"),
    ("content", ".m.rule.mine", {"actions": [], "pattern": "x"}, "The rule ID must not begin with a dot"),
    ("content", "a/b", {"actions": [], "pattern": "x"}, "The rule ID must not have a slash"),
    ("content", "a\\b", {"actions": [], "pattern": "x"}, "The rule ID must not have a slash"),
    ("content", "", {"actions": [], "pattern": "x"}, "The rule ID must not be empty"),
    ("content", "a" * 256, {"actions": [], "pattern": "x"}, "The rule ID must not be longer"),
    ("content", "a", {"pattern": "x"}, "actions is missing"),
    ("content", "a", {"actions": "notify", "pattern": "x"}, "actions must be a list"),
    ("content", "a", {"actions": ["notify"] * 21, "pattern": "x"}, "actions must be a list of at most 20"),
    ("content", "a", {"actions": ["notify", "shout"], "pattern": "x"}, "actions.1 must be"),
    ("content", "a", {"actions": [{"sound": "x"}], "pattern": "x"}, "actions.0 must be"),
    ("content", "a", {"actions": [["notify"]], "pattern": "x"}, "actions.0 must be"),
    ("content", "a", {"actions": []}, "pattern must be a string"),
    ("content", "a", {"actions": [], "pattern": 5}, "pattern must be a string"),
    ("content", "a", {"actions": [], "pattern": "x" * 1001}, "pattern must be a string of at most 1000"),
    ("override", "a", {"actions": [], "conditions": {}}, "conditions must be a list"),
    ("override", "a", {"actions": [], "conditions": [CONDITION] * 51}, "conditions must be a list of at most 50"),
    ("override", "a", {"actions": [], "conditions": [CONDITION, 5]}, "conditions.1 must be an object"),
    ("override", "a", {"actions": [], "conditions": [{"key": "x"}]}, "conditions.0 must be an object with kind"),
    ("underride", "a", {"actions": [], "conditions": [{"kind": "event_match", "pattern": ""}]}, "conditions.0.key"),
    ("underride", "a", {"actions": [], "conditions": [{"kind": "event_match", "key": "x"}]}, "conditions.0.pattern"),
    (
        "underride",
        "a",
        {"actions": [], "conditions": [{"kind": "event_property_is", "key": "x"}]},
        "conditions.0.value",
    ),
    (
        "underride",
        "a",
        {"actions": [], "conditions": [{"kind": "event_property_contains", "key": "x", "value": []}]},
        "conditions.0.value",
    ),
    (
        "underride",
        "a",
        {"actions": [], "conditions": [{"kind": "event_property_is", "key": "x", "value": 1.5}]},
        "conditions.0.value",
    ),
    ("underride", "a", {"actions": [], "conditions": [{"kind": "room_member_count", "is": 2}]}, "conditions.0.is"),
    ("underride", "a", {"actions": [], "conditions": [{"kind": "room_member_count", "is": "=2"}]}, "conditions.0.is"),
    (
        "underride",
        "a",
        {"actions": [], "conditions": [{"kind": "sender_notification_permission"}]},
        "conditions.0.key",
    ),
]


@pytest.mark.parametrize(("kind", "rule_id", "body", "text"), BAD_RULES)
def test_bad_rules_are_refused_with_the_field(kind: str, rule_id: str, body: dict[str, Any], text: str) -> None:
    with pytest.raises(RuleError) as caught:
        pushrules.check_rule(kind, rule_id, body)
    assert str(caught.value).startswith(text)


def test_historical_actions_and_unknown_conditions_are_kept() -> None:
    body = {"actions": ["coalesce", "notify", "dont_notify"], "conditions": [{"kind": "org.example", "x": 1}]}
    rule = pushrules.check_rule("override", "a", body)
    assert rule["actions"] == ["coalesce", "notify", "dont_notify"]
    assert rule["conditions"] == [{"kind": "org.example", "x": 1}]


def test_rules_of_room_and_sender_have_nothing_else() -> None:
    body = {"actions": [], "pattern": "x", "conditions": [], "more": 1}
    for kind in ("room", "sender"):
        assert pushrules.check_rule(kind, "!r:x", body).keys() == {"rule_id", "default", "enabled", "actions"}


def test_number_of_rules_is_limited() -> None:
    rules = [pushrules.check_rule("room", f"!{number}:x", {"actions": []}) for number in range(1001)]
    full = {"own": {"room": rules[:1000]}}
    assert len(pushrules.set_rule(full, "room", rules[0])["own"]["room"]) == 1000
    with pytest.raises(RuleError, match="too many"):
        pushrules.set_rule(full, "room", rules[1000])
    with pytest.raises(RuleError, match="too many"):
        pushrules.set_rule(full, "content", content_rule("a"))


def test_number_of_text_searches_is_limited() -> None:
    body = {"actions": [], "conditions": [CONDITION] * 50}
    changes: dict[str, Any] = {}
    for number in range(4):
        changes = pushrules.set_rule(changes, "override", pushrules.check_rule("override", f"{number}", body))
    with pytest.raises(RuleError, match="too many"):
        pushrules.set_rule(changes, "content", content_rule("a"))
    # Muted rooms are rules that search nothing.
    muted = {"actions": [], "conditions": [{"kind": "event_match", "key": "room_id", "pattern": "!r:x"}]}
    assert pushrules.set_rule(changes, "override", pushrules.check_rule("override", "!r:x", muted))
