"""Applying push rules to events (client-server API "Push Rules", "Conditions").

In a room of a thousand nearly everybody has the same rules, and hardly a rule depends on who is asking. So an Evaluator
is made of a ruleset in which USER stands for the user's ID (pushrules.merge), once for all users with the same changes.
`Evaluator.outcome(event)` does the work that is the same for all of them, `Outcome.for_user` is but a look-up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from heichat_appliance.protocol import fieldpaths, globs
from heichat_appliance.protocol.fieldpaths import FieldPath
from heichat_appliance.protocol.powerlevels import PowerLevels


class _User(str):
    """The type of USER, so that no string that a client sends can be taken for it."""

    __slots__ = ()


#: Stands for the ID of the user whose rules they are in the conditions of default rules. Compare with `is`.
USER = _User("[the user's Matrix ID]")

_BODY: FieldPath = ("content", "body")
_TYPE: FieldPath = ("type",)
_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "==": lambda count, bound: count == bound,
    "<": lambda count, bound: count < bound,
    ">": lambda count, bound: count > bound,
    "<=": lambda count, bound: count <= bound,
    ">=": lambda count, bound: count >= bound,
}
_MEMBER_COUNT = re.compile(r"(==|<=|>=|<|>|)([0-9]+)")


@dataclass(frozen=True, slots=True)
class Actions:
    """What a rule does. `raw` are its actions as clients see them."""

    notify: bool
    highlight: bool
    raw: tuple[Any, ...]

    @property
    def sound(self) -> str | None:
        """The sound to be played, None for none."""
        for action in self.raw:
            if isinstance(action, dict) and action.get("set_tweak") == "sound":
                value = action.get("value")
                return value if isinstance(value, str) else None
        return None


#: What happens if no rule matches, and for the sender.
NOTHING = Actions(False, False, ())


class PushEvent:
    """An event and what conditions ask about its room. Made once per event, used for all rulesets."""

    __slots__ = ("_lowered", "fields", "member_count", "power_levels", "sender")

    #: Asked only by the few rules that need them, so they are found out only then.
    member_count: Callable[[], int]
    power_levels: Callable[[], PowerLevels]

    def __init__(
        self,
        *,
        type: str,
        sender: str,
        room_id: str,
        content: Mapping[str, Any],
        state_key: str | None,
        event_id: str,
        member_count: Callable[[], int],
        power_levels: Callable[[], PowerLevels],
    ) -> None:
        self.fields: dict[str, Any] = {
            "type": type,
            "sender": sender,
            "room_id": room_id,
            "content": content,
            "event_id": event_id,
        }
        if state_key is not None:
            self.fields["state_key"] = state_key
        self.sender = sender
        #: Number of joined members of the room.
        self.member_count = member_count
        self.power_levels = power_levels
        self._lowered: dict[FieldPath, str | None] = {}

    def lowered(self, path: FieldPath) -> str | None:
        """The string at `path` in lower case, None if there is none."""
        try:
            return self._lowered[path]
        except KeyError:
            value = fieldpaths.lookup(self.fields, path)
            found = self._lowered[path] = value.lower() if isinstance(value, str) else None
            return found


#: A condition: False, True, or what remains to be asked for a user (user ID, display name in the room or None).
_Remaining = Callable[[str, str | None], bool]
_Condition = Callable[[PushEvent], "bool | _Remaining"]


class Outcome:
    """What one ruleset does about one event, for whichever user has that ruleset."""

    __slots__ = ("_candidates", "otherwise")

    def __init__(self, candidates: list[tuple[list[_Remaining], Actions]], otherwise: Actions) -> None:
        self._candidates = candidates
        #: For every user whom no rule about the user (mention, display name, invite) matches.
        self.otherwise = otherwise

    @property
    def is_same_for_all(self) -> bool:
        """Whether for_user would give `otherwise` for everybody."""
        return not self._candidates

    def for_user(self, user_id: str, display_name: str | None) -> Actions:
        """The actions for a user. The sender's own rules must not be asked: nobody is notified of their own events."""
        for remaining, actions in self._candidates:
            if all(ask(user_id, display_name) for ask in remaining):
                return actions
        return self.otherwise


@dataclass(frozen=True, slots=True)
class _Rule:
    conditions: tuple[_Condition, ...]
    actions: Actions
    #: The only event type (in lower case) that the rule can match, None if it can match several.
    only_type: str | None


class Evaluator:
    """A compiled ruleset (pushrules.merge): immutable, to be shared by all users with the same changes."""

    __slots__ = ("_by_type", "_others", "_rules")

    def __init__(self, ruleset: Mapping[str, list[dict[str, Any]]]) -> None:
        self._rules = [
            compiled
            for kind in ("override", "content", "room", "sender", "underride")
            for rule in ruleset.get(kind, ())
            if rule["enabled"] and (compiled := _compile(kind, rule)) is not None
        ]
        known = {rule.only_type for rule in self._rules if rule.only_type is not None}
        self._by_type = {type: [rule for rule in self._rules if rule.only_type in (None, type)] for type in known}
        self._others = [rule for rule in self._rules if rule.only_type is None]

    def outcome(self, event: PushEvent) -> Outcome:
        """What the ruleset does about an event; evaluated as far as it is the same for all users."""
        candidates: list[tuple[list[_Remaining], Actions]] = []
        for rule in self._by_type.get(event.lowered(_TYPE) or "", self._others):
            remaining: list[_Remaining] = []
            for condition in rule.conditions:
                found = condition(event)
                if found is False:
                    break
                if found is not True:
                    remaining.append(found)
            else:
                if not remaining:
                    return Outcome(candidates, rule.actions)
                candidates.append((remaining, rule.actions))
        return Outcome(candidates, NOTHING)

    def actions(self, event: PushEvent, *, user_id: str, display_name: str | None) -> Actions:
        """The actions for one user; for many users with the same ruleset take outcome once."""
        return self.outcome(event).for_user(user_id, display_name)


def _compile(kind: str, rule: dict[str, Any]) -> _Rule | None:
    """The compiled rule, None if it can never match."""
    if kind == "content":
        conditions = [{"kind": "event_match", "key": "content.body", "pattern": rule["pattern"]}]
    elif kind in ("room", "sender"):
        key = "room_id" if kind == "room" else "sender"
        conditions = [{"kind": "event_property_is", "key": key, "value": rule["rule_id"]}]
    else:
        conditions = rule["conditions"]
    compiled = []
    only_type = None
    for condition in conditions:
        made = _CONDITIONS.get(condition["kind"], _unknown)(condition)
        if made is None:
            return None
        compiled.append(made)
        pattern = condition.get("pattern", "*")
        if condition["kind"] == "event_match" and condition["key"] == "type" and not _is_glob(pattern):
            only_type = pattern.lower()
    return _Rule(tuple(compiled), _actions(rule["actions"]), only_type)


def _actions(raw: list[Any]) -> Actions:
    highlight = any(
        isinstance(action, dict) and action.get("set_tweak") == "highlight" and action.get("value", True) is not False
        for action in raw
    )
    return Actions("notify" in raw, highlight, tuple(raw))


def _is_glob(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern


def _event_match(condition: dict[str, Any]) -> _Condition:
    path, pattern = fieldpaths.split(condition["key"]), condition["pattern"]
    if pattern is USER:
        return _user_match(path)
    lowered = pattern.lower()
    if path == _BODY:
        match = globs.words(lowered).match
    elif _is_glob(lowered):
        match = globs.whole(lowered).match
    else:
        return lambda event: event.lowered(path) == lowered

    def matches(event: PushEvent) -> bool:
        value = event.lowered(path)
        return value is not None and match(value) is not None

    return matches


def _user_match(path: FieldPath) -> _Condition:
    def matches(event: PushEvent) -> bool | _Remaining:
        value = event.lowered(path)
        return False if value is None else lambda user_id, _: user_id.lower() == value

    return matches


def _event_property_is(condition: dict[str, Any]) -> _Condition:
    path, wanted = fieldpaths.split(condition["key"]), condition["value"]

    def matches(event: PushEvent) -> bool:
        value = fieldpaths.lookup(event.fields, path)
        # 1 == True in Python, but not in JSON.
        return type(value) is type(wanted) and value == wanted

    return matches


def _event_property_contains(condition: dict[str, Any]) -> _Condition:
    path, wanted = fieldpaths.split(condition["key"]), condition["value"]

    def matches(event: PushEvent) -> bool | _Remaining:
        value = fieldpaths.lookup(event.fields, path)
        if not isinstance(value, list):
            return False
        if wanted is not USER:
            return any(type(item) is type(wanted) and item == wanted for item in value)
        users = frozenset(item for item in value if isinstance(item, str))
        return bool(users) and (lambda user_id, _: user_id in users)

    return matches


def _contains_display_name(condition: dict[str, Any]) -> _Condition:
    def matches(event: PushEvent) -> bool | _Remaining:
        body = event.lowered(_BODY)
        return bool(body) and (lambda _, display_name: _mentions(body or "", display_name))

    return matches


def _mentions(body: str, display_name: str | None) -> bool:
    return bool(display_name) and globs.literal_words((display_name or "").lower()).match(body) is not None


def _room_member_count(condition: dict[str, Any]) -> _Condition | None:
    parsed = _MEMBER_COUNT.fullmatch(condition["is"])
    if parsed is None:
        return None
    compare, bound = _COMPARISONS[parsed[1] or "=="], int(parsed[2])
    return lambda event: compare(event.member_count(), bound)


def _sender_notification_permission(condition: dict[str, Any]) -> _Condition:
    key = condition["key"]

    def matches(event: PushEvent) -> bool:
        levels = event.power_levels()
        return levels.user(event.sender) >= levels.notification(key)

    return matches


def _unknown(condition: dict[str, Any]) -> None:
    """Conditions that are not known never match."""


_CONDITIONS: dict[str, Callable[[dict[str, Any]], _Condition | None]] = {
    "event_match": _event_match,
    "event_property_is": _event_property_is,
    "event_property_contains": _event_property_contains,
    "contains_display_name": _contains_display_name,
    "room_member_count": _room_member_count,
    "sender_notification_permission": _sender_notification_permission,
}
