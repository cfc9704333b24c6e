"""Shape of the content of state events that clients send (event schemas in the spec, client-server API "Room Events").

Only what this server, its auth rules or its members' clients rely on; other event types and unknown fields pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from heichat_appliance import ids
from heichat_appliance.protocol.authlevels import LEVELS
from heichat_appliance.protocol.canonicaljson import MAX_INT


class ContentError(ValueError):
    """Content of the wrong shape. `path` names the field, e.g. "content.join_rule", and the sentence begins with it."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path} {problem}")
        self.path = path


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of a content: `test` says whether a value will do, `must` ends the sentence "content.x must be ..."."""

    test: Callable[[Any], bool]
    must: str
    required: bool = False


def check_client_content(type: str, state_key: str, content: Mapping[str, Any]) -> None:
    """Raise ContentError if the content, or the state key, of a known type of state event has the wrong shape."""
    if type in _EMPTY_STATE_KEY and state_key != "":
        raise ContentError("state_key", f"must be empty for {type}")
    if type == "m.room.member" and not ids.is_user_id(state_key):
        raise ContentError("state_key", "must be a user ID for m.room.member")
    for name, field in _FIELDS.get(type, {}).items():
        if name not in content:
            if field.required:
                raise ContentError(f"content.{name}", f"is missing: it must be {field.must}")
        elif not field.test(content[name]):
            raise ContentError(f"content.{name}", f"must be {field.must}")


def _is_string(value: Any) -> bool:
    return isinstance(value, str)


def _is_text_or_null(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_level(value: Any) -> bool:
    return type(value) is int and -MAX_INT <= value <= MAX_INT


def _is_positive(value: Any) -> bool:
    return type(value) is int and 0 < value <= MAX_INT


def _is_level_map(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_level, value.values()))


def _is_user_level_map(value: Any) -> bool:
    return _is_level_map(value) and all(map(ids.is_user_id, value))


def _is_string_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_user_list(value: Any) -> bool:
    return isinstance(value, list) and all(map(ids.is_user_id, value))


def _is_alias(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        ids.parse_room_alias(value)
    except ValueError:
        return False
    return True


def _is_allow_list(value: Any) -> bool:
    """The conditions of a restricted room; those of unknown types are for others to understand."""
    if not isinstance(value, list):
        return False
    return all(
        isinstance(item, dict)
        and isinstance(item.get("type"), str)
        and (item["type"] != "m.room_membership" or isinstance(item.get("room_id"), str))
        for item in value
    )


def _is_predecessor(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("room_id"), str)


def _one_of(*allowed: str, required: bool = True) -> _Field:
    names = f"{', '.join(allowed[:-1])} or {allowed[-1]}"
    return _Field(lambda value: isinstance(value, str) and value in allowed, names, required)


_TEXT = _Field(_is_text_or_null, "a string or null")
_STRING = _Field(_is_string, "a string")
_BOOL = _Field(_is_bool, "true or false")
_LEVEL = _Field(_is_level, "an integer")
_STRINGS = _Field(_is_string_list, "a list of strings")
_USER = _Field(ids.is_user_id, "a user ID")

_FIELDS: dict[str, dict[str, _Field]] = {
    "m.room.create": {
        "creator": _USER,
        "room_version": _STRING,
        "type": _STRING,
        "m.federate": _BOOL,
        "predecessor": _Field(_is_predecessor, "an object with room_id"),
        "additional_creators": _Field(_is_user_list, "a list of user IDs"),
    },
    "m.room.member": {
        "membership": _one_of("invite", "join", "knock", "leave", "ban"),
        "displayname": _TEXT,
        "avatar_url": _TEXT,
        "reason": _TEXT,
        "is_direct": _BOOL,
        "join_authorised_via_users_server": _USER,
        "third_party_invite": _Field(lambda value: isinstance(value, dict), "an object"),
    },
    "m.room.join_rules": {
        "join_rule": _one_of("public", "knock", "invite", "private", "restricted", "knock_restricted"),
        "allow": _Field(_is_allow_list, "a list of objects with type and, for m.room_membership, room_id"),
    },
    "m.room.power_levels": {
        **dict.fromkeys(LEVELS, _LEVEL),
        "events": _Field(_is_level_map, "an object with integers"),
        "notifications": _Field(_is_level_map, "an object with integers"),
        "users": _Field(_is_user_level_map, "an object of user IDs with integers"),
    },
    "m.room.history_visibility": {
        "history_visibility": _one_of("invited", "joined", "shared", "world_readable"),
    },
    "m.room.guest_access": {"guest_access": _one_of("can_join", "forbidden")},
    "m.room.canonical_alias": {
        "alias": _Field(lambda value: value in (None, "") or _is_alias(value), "a room alias"),
        "alt_aliases": _Field(
            lambda value: isinstance(value, list) and all(map(_is_alias, value)), "a list of room aliases"
        ),
    },
    "m.room.encryption": {
        "algorithm": _Field(lambda value: isinstance(value, str) and value != "", "a string", required=True),
        "rotation_period_ms": _Field(_is_positive, "a positive integer"),
        "rotation_period_msgs": _Field(_is_positive, "a positive integer"),
    },
    "m.room.server_acl": {"allow": _STRINGS, "deny": _STRINGS, "allow_ip_literals": _BOOL},
    "m.room.tombstone": {"replacement_room": _STRING, "body": _STRING},
    "m.room.third_party_invite": {"public_key": _STRING, "display_name": _STRING, "key_validity_url": _STRING},
    "m.room.name": {"name": _TEXT},
    "m.room.topic": {"topic": _TEXT},
    "m.room.avatar": {"url": _TEXT},
    "m.room.pinned_events": {"pinned": _STRINGS},
    "m.space.child": {"via": _STRINGS},
    "m.space.parent": {"via": _STRINGS},
}

#: Events that only count with an empty state key; with another one they could only mislead.
_EMPTY_STATE_KEY = frozenset(
    (
        "m.room.create",
        "m.room.join_rules",
        "m.room.power_levels",
        "m.room.history_visibility",
        "m.room.guest_access",
        "m.room.canonical_alias",
        "m.room.encryption",
        "m.room.server_acl",
        "m.room.tombstone",
    )
)
