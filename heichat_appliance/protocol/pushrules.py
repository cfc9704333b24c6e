"""Push rules as data: the server's defaults, a user's changes to them, and checks of what clients send.

Source: client-server API "Push Rules" (v1.19: without the legacy mention rules that v1.17 took out). Of a user only the
changes are kept, as JSON:

    {"own": {kind: [rule, ...]}, "enabled": {kind: {rule ID: bool}}, "actions": {kind: {rule ID: [...]}}}

"own" are the rules that the user made, the most important first, as clients get them; "enabled" and "actions" are
changes to the default rules. How rules are applied to events is in pusheval.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeGuard

from heichat_appliance import ids
from heichat_appliance.protocol.pusheval import USER, Actions, Evaluator, Outcome, PushEvent

__all__ = [
    "KINDS",
    "MAX_OWN_RULES",
    "Actions",
    "Evaluator",
    "Outcome",
    "PushEvent",
    "RuleError",
    "RuleNotFound",
    "check_actions",
    "check_rule",
    "delete_rule",
    "find_rule",
    "merge",
    "ruleset",
    "set_actions",
    "set_enabled",
    "set_rule",
]

Rule = dict[str, Any]
Ruleset = dict[str, list[Rule]]
Changes = Mapping[str, Any]

#: The kinds of rules in the order in which they are tried.
KINDS = ("override", "content", "room", "sender", "underride")
MAX_OWN_RULES = 1000
#: Content rules and conditions of a user that look through a text: each costs up to half a millisecond per message.
MAX_SEARCHES = 200
MAX_CONDITIONS = 50
MAX_ACTIONS = 20
MAX_PATTERN = 1000

_MASTER = ".m.rule.master"
_MEMBER_COUNT = re.compile(r"(==|<=|>=|<|>)?[0-9]{1,15}")
#: Actions of old versions of the spec: they do nothing ("Historical Actions"), but stay where a client has set them.
#: matrix-js-sdk marks a muted room by "dont_notify", and takes the rule away only when it finds that again.
_HISTORICAL = ("dont_notify", "coalesce")


class RuleError(ValueError):
    """A rule, or a change of one, is not acceptable (400): str() is a sentence that names the field."""


class RuleNotFound(LookupError):
    """There is no such rule (404 M_NOT_FOUND)."""


def _match(key: str, pattern: str) -> Rule:
    return {"kind": "event_match", "key": key, "pattern": pattern}


def _default(name: str, conditions: list[Rule], actions: list[Any], enabled: bool = True) -> Rule:
    rule_id = f".m.rule.{name}"
    return {"rule_id": rule_id, "default": True, "enabled": enabled, "conditions": conditions, "actions": actions}


_SOUND = {"set_tweak": "sound", "value": "default"}
_RING = {"set_tweak": "sound", "value": "ring"}
_HIGHLIGHT = {"set_tweak": "highlight"}

#: "Predefined Rules"; USER stands where the spec says "[the user's Matrix ID]".
DEFAULTS: Ruleset = {
    "override": [
        _default("master", [], [], enabled=False),
        _default("suppress_notices", [_match("content.msgtype", "m.notice")], []),
        _default(
            "invite_for_me",
            [_match("type", "m.room.member"), _match("content.membership", "invite"), _match("state_key", USER)],
            ["notify", _SOUND],
        ),
        _default("member_event", [_match("type", "m.room.member")], []),
        _default(
            "is_user_mention",
            [{"kind": "event_property_contains", "key": r"content.m\.mentions.user_ids", "value": USER}],
            ["notify", _SOUND, _HIGHLIGHT],
        ),
        _default(
            "is_room_mention",
            [
                {"kind": "event_property_is", "key": r"content.m\.mentions.room", "value": True},
                {"kind": "sender_notification_permission", "key": "room"},
            ],
            ["notify", _HIGHLIGHT],
        ),
        _default("tombstone", [_match("type", "m.room.tombstone"), _match("state_key", "")], ["notify", _HIGHLIGHT]),
        _default("reaction", [_match("type", "m.reaction")], []),
        _default("room.server_acl", [_match("type", "m.room.server_acl"), _match("state_key", "")], []),
        _default(
            "suppress_edits",
            [{"kind": "event_property_is", "key": r"content.m\.relates_to.rel_type", "value": "m.replace"}],
            [],
        ),
    ],
    "content": [],
    "room": [],
    "sender": [],
    "underride": [
        _default("call", [_match("type", "m.call.invite")], ["notify", _RING]),
        _default(
            "encrypted_room_one_to_one",
            [{"kind": "room_member_count", "is": "2"}, _match("type", "m.room.encrypted")],
            ["notify", _SOUND],
        ),
        _default(
            "room_one_to_one",
            [{"kind": "room_member_count", "is": "2"}, _match("type", "m.room.message")],
            ["notify", _SOUND],
        ),
        _default("message", [_match("type", "m.room.message")], ["notify"]),
        _default("encrypted", [_match("type", "m.room.encrypted")], ["notify"]),
    ],
}
_DEFAULT_IDS = {kind: {rule["rule_id"] for rule in rules} for kind, rules in DEFAULTS.items()}


def merge(changes: Changes) -> Ruleset:
    """The whole ruleset of a user in the order of importance, with USER where the user's ID belongs: for Evaluator.

    Users whose changes are equal have the same merged ruleset, and may share one Evaluator.
    """
    merged: Ruleset = {}
    for kind in KINDS:
        enabled, actions = _of(changes, "enabled", kind), _of(changes, "actions", kind)
        rules = [
            {
                **rule,
                "enabled": enabled.get(rule["rule_id"], rule["enabled"]),
                "actions": actions.get(rule["rule_id"], rule["actions"]),
            }
            for rule in DEFAULTS[kind]
        ]
        # The master rule comes before the user's own rules, all other default rules after them.
        first = 1 if rules and rules[0]["rule_id"] == _MASTER else 0
        merged[kind] = [*rules[:first], *own_rules(changes, kind), *rules[first:]]
    return merged


def ruleset(user_id: str, changes: Changes) -> Ruleset:
    """The whole ruleset of a user as clients get it, i.e. the value of "global"."""
    filled = merge(changes)
    for rules in filled.values():
        for index, rule in enumerate(rules):
            if rule["default"]:
                rules[index] = {**rule, "conditions": [_fill(one, user_id) for one in rule["conditions"]]}
    return filled


def own_rules(changes: Changes, kind: str) -> list[Rule]:
    """The rules of one kind that the user made, the most important first."""
    rules: list[Rule] = changes.get("own", {}).get(kind, [])
    return rules


def find_rule(rules: Ruleset, kind: str, rule_id: str) -> Rule:
    """A rule of a ruleset; RuleNotFound if there is none."""
    for rule in rules.get(kind, ()):
        if rule["rule_id"] == rule_id:
            return rule
    raise RuleNotFound("There is no such push rule")


def set_rule(
    changes: Changes, kind: str, rule: Rule, *, before: str | None = None, after: str | None = None
) -> dict[str, Any]:
    """New changes with a rule (from check_rule) added, or put in place of the user's one with the same ID.

    It goes right before the user's rule `before` or right after `after`, else where the old one was, else to the front.
    RuleError if that rule does not exist or the user has too many rules.
    """
    rules = list(own_rules(changes, kind))
    position = 0
    for index, old in enumerate(rules):
        if old["rule_id"] == rule["rule_id"]:
            position = index
            rule = {**rule, "enabled": old["enabled"]}
            del rules[index]
            break
    neighbour = before if before is not None else after
    if neighbour is not None:
        places = [index for index, other in enumerate(rules) if other["rule_id"] == neighbour]
        if not places:
            raise RuleError(f"before/after rule not found: {neighbour}")
        position = places[0] if before is not None else places[0] + 1
    rules.insert(position, rule)
    changed = _with(changes, "own", kind, rules)
    everything = [one for each in KINDS for one in own_rules(changed, each)]
    if len(everything) > MAX_OWN_RULES or sum(map(_searches, everything)) > MAX_SEARCHES:
        raise RuleError("You have too many push rules: delete some first")
    return changed


def _searches(rule: Rule) -> int:
    """How many texts of a message a rule looks through."""
    return int("pattern" in rule) + sum(map(_is_search, rule.get("conditions", ())))


def _is_search(condition: Rule) -> bool:
    if condition["kind"] == "event_match":
        return condition["key"] == "content.body" or "*" in condition["pattern"]
    return bool(condition["kind"] == "contains_display_name")


def delete_rule(changes: Changes, kind: str, rule_id: str) -> dict[str, Any]:
    """New changes without one of the user's rules; RuleNotFound if there is none, RuleError for a default rule."""
    if rule_id in _DEFAULT_IDS.get(kind, ()):
        raise RuleError("Default push rules cannot be deleted, only disabled")
    rules = own_rules(changes, kind)
    kept = [rule for rule in rules if rule["rule_id"] != rule_id]
    if len(kept) == len(rules):
        raise RuleNotFound("There is no such push rule")
    return _with(changes, "own", kind, kept)


def set_enabled(changes: Changes, kind: str, rule_id: str, enabled: object) -> dict[str, Any]:
    """New changes with a rule enabled or disabled; RuleNotFound if there is none, RuleError if it is not a boolean."""
    if not isinstance(enabled, bool):
        raise RuleError("enabled must be true or false")
    return _set(changes, kind, rule_id, "enabled", enabled)


def set_actions(changes: Changes, kind: str, rule_id: str, actions: object) -> dict[str, Any]:
    """New changes with other actions of a rule; RuleNotFound if there is none, RuleError for bad actions."""
    return _set(changes, kind, rule_id, "actions", check_actions(actions))


def check_rule(kind: str, rule_id: str, body: Mapping[str, Any]) -> Rule:
    """The rule that a client's PUT makes, as it is kept and shown; RuleError with a sentence if it cannot be one."""
    if kind not in KINDS:
        raise RuleError(f"kind must be one of {', '.join(KINDS)}")
    try:
        ids.check_length(rule_id, "rule ID")
    except ValueError as error:
        raise RuleError(str(error)) from None
    if rule_id.startswith("."):
        raise RuleError("The rule ID must not begin with a dot: such rules are the server's")
    if "/" in rule_id or "\\" in rule_id:
        raise RuleError("The rule ID must not have a slash or a backslash")
    if "actions" not in body:
        raise RuleError("actions is missing")
    rule: Rule = {"rule_id": rule_id, "default": False, "enabled": True, "actions": check_actions(body["actions"])}
    if kind == "content":
        rule["pattern"] = _checked_pattern(body.get("pattern"), "pattern")
    elif kind in ("override", "underride"):
        rule["conditions"] = _checked_conditions(body.get("conditions", []))
    return rule


def check_actions(actions: object) -> list[Any]:
    """A list of actions, as it is; RuleError if it is none."""
    if not isinstance(actions, list) or len(actions) > MAX_ACTIONS:
        raise RuleError(f"actions must be a list of at most {MAX_ACTIONS} actions")
    for index, action in enumerate(actions):
        if action == "notify" or action in _HISTORICAL:
            continue
        if not (isinstance(action, dict) and isinstance(action.get("set_tweak"), str)):
            raise RuleError(f'actions.{index} must be "notify" or an object with set_tweak')
    return actions


def _checked_conditions(conditions: object) -> list[Rule]:
    if not isinstance(conditions, list) or len(conditions) > MAX_CONDITIONS:
        raise RuleError(f"conditions must be a list of at most {MAX_CONDITIONS} conditions")
    for index, condition in enumerate(conditions):
        _check_condition(condition, f"conditions.{index}")
    return conditions


def _check_condition(condition: object, path: str) -> None:
    """Conditions of unknown kinds are kept: they never match."""
    if not isinstance(condition, dict) or not isinstance(condition.get("kind"), str):
        raise RuleError(f"{path} must be an object with kind")
    kind, key = condition["kind"], condition.get("key")
    needs_key = ("event_match", "event_property_is", "event_property_contains", "sender_notification_permission")
    if kind in needs_key and not _is_short(key):
        raise RuleError(f"{path}.key must be a string of at most {MAX_PATTERN} characters")
    if kind == "event_match":
        _checked_pattern(condition.get("pattern"), f"{path}.pattern")
    elif kind in ("event_property_is", "event_property_contains"):
        value = condition.get("value")
        if "value" not in condition or not isinstance(value, str | bool | int | None):
            raise RuleError(f"{path}.value must be a string, an integer, true, false or null")
    elif kind == "room_member_count":
        count = condition.get("is")
        if not isinstance(count, str) or not _MEMBER_COUNT.fullmatch(count):
            raise RuleError(f"{path}.is must be a number that may have == < > >= or <= before it")


def _checked_pattern(pattern: object, path: str) -> str:
    if not _is_short(pattern):
        raise RuleError(f"{path} must be a string of at most {MAX_PATTERN} characters")
    return pattern


def _is_short(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) <= MAX_PATTERN


def _set(changes: Changes, kind: str, rule_id: str, field: str, value: object) -> dict[str, Any]:
    if rule_id in _DEFAULT_IDS.get(kind, ()):
        return _with(changes, field, kind, {**_of(changes, field, kind), rule_id: value})
    rules = list(own_rules(changes, kind))
    for index, rule in enumerate(rules):
        if rule["rule_id"] == rule_id:
            rules[index] = {**rule, field: value}
            return _with(changes, "own", kind, rules)
    raise RuleNotFound("There is no such push rule")


def _of(changes: Changes, field: str, kind: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = changes.get(field, {}).get(kind, {})
    return found


def _with(changes: Changes, field: str, kind: str, value: object) -> dict[str, Any]:
    return {**changes, field: {**changes.get(field, {}), kind: value}}


def _fill(condition: Rule, user_id: str) -> Rule:
    return {key: user_id if value is USER else value for key, value in condition.items()}
