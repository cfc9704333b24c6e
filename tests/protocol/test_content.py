"""Shape checks of the content of state events."""

from __future__ import annotations

from typing import Any

import pytest

from heichat_appliance.protocol.auth import ContentError, check_client_content

USER = "@a:x.example"

GOOD: list[tuple[str, str, dict[str, Any]]] = [
    ("m.room.member", USER, {"membership": "join", "displayname": None, "avatar_url": "mxc://x/y"}),
    ("m.room.join_rules", "", {"join_rule": "public"}),
    (
        "m.room.join_rules",
        "",
        {
            "join_rule": "restricted",
            "allow": [{"type": "m.room_membership", "room_id": "!r:x"}, {"type": "org.example", "y": 1}],
        },
    ),
    ("m.room.power_levels", "", {}),
    ("m.room.power_levels", "", {"users": {USER: 2**53 - 1}, "events": {"x": -1}, "ban": 0, "other": "x"}),
    ("m.room.history_visibility", "", {"history_visibility": "invited"}),
    ("m.room.guest_access", "", {"guest_access": "can_join"}),
    ("m.room.canonical_alias", "", {}),
    ("m.room.canonical_alias", "", {"alias": None, "alt_aliases": ["#b:x.example"]}),
    ("m.room.canonical_alias", "", {"alias": ""}),
    ("m.room.canonical_alias", "", {"alias": "#ä b:x.example"}),
    ("m.room.create", "", {"room_version": "11", "m.federate": False, "predecessor": {"room_id": "!o:x"}}),
    ("m.room.encryption", "", {"algorithm": "m.megolm.v1.aes-sha2", "rotation_period_ms": 1}),
    ("m.room.server_acl", "", {"allow": ["*"], "deny": []}),
    ("m.room.name", "anything", {"name": None}),
    ("m.room.topic", "", {}),
    ("m.space.child", "!r:x", {"via": ["x"], "order": 7}),
    ("org.example.own", "x", {"membership": 7}),
]


@pytest.mark.parametrize(("type", "state_key", "content"), GOOD)
def test_good_content(type: str, state_key: str, content: dict[str, Any]) -> None:
    check_client_content(type, state_key, content)


BAD: list[tuple[str, str, dict[str, Any], str, str]] = [
    # type, state key, content, path, a part of the sentence
    ("m.room.member", USER, {}, "content.membership", "is missing"),
    ("m.room.member", USER, {"membership": "joined"}, "content.membership", "invite, join, knock, leave or ban"),
    ("m.room.member", USER, {"membership": ["join"]}, "content.membership", "must be"),
    ("m.room.member", USER, {"membership": "join", "displayname": 7}, "content.displayname", "a string or null"),
    ("m.room.member", "bob", {"membership": "join"}, "state_key", "a user ID"),
    ("m.room.member", "", {"membership": "join"}, "state_key", "a user ID"),
    ("m.room.join_rules", "", {}, "content.join_rule", "is missing"),
    ("m.room.join_rules", "", {"join_rule": "Public"}, "content.join_rule", "must be public,"),
    ("m.room.join_rules", "x", {"join_rule": "public"}, "state_key", "must be empty"),
    ("m.room.join_rules", "", {"join_rule": "restricted", "allow": {}}, "content.allow", "a list"),
    (
        "m.room.join_rules",
        "",
        {"join_rule": "restricted", "allow": [{"type": "m.room_membership"}]},
        "content.allow",
        "room_id",
    ),
    ("m.room.power_levels", "", {"ban": "50"}, "content.ban", "an integer"),
    ("m.room.power_levels", "", {"kick": True}, "content.kick", "an integer"),
    ("m.room.power_levels", "", {"invite": 2**53}, "content.invite", "an integer"),
    ("m.room.power_levels", "", {"users": {"bob": 1}}, "content.users", "user IDs"),
    ("m.room.power_levels", "", {"events": {"x": None}}, "content.events", "integers"),
    ("m.room.power_levels", "", {"notifications": []}, "content.notifications", "integers"),
    ("m.room.history_visibility", "", {"history_visibility": "all"}, "content.history_visibility", "world_readable"),
    ("m.room.history_visibility", "", {"history_visibility": None}, "content.history_visibility", "must be"),
    ("m.room.guest_access", "", {"guest_access": True}, "content.guest_access", "can_join or forbidden"),
    ("m.room.canonical_alias", "", {"alias": "room:x"}, "content.alias", "a room alias"),
    ("m.room.canonical_alias", "", {"alias": 5}, "content.alias", "a room alias"),
    ("m.room.canonical_alias", "", {"alt_aliases": ["x"]}, "content.alt_aliases", "a list of room aliases"),
    ("m.room.create", "", {"room_version": 11}, "content.room_version", "a string"),
    ("m.room.create", "", {"m.federate": 1}, "content.m.federate", "true or false"),
    ("m.room.create", "", {"additional_creators": ["x"]}, "content.additional_creators", "user IDs"),
    ("m.room.create", "", {"predecessor": {}}, "content.predecessor", "room_id"),
    ("m.room.encryption", "", {}, "content.algorithm", "is missing"),
    ("m.room.encryption", "", {"algorithm": ""}, "content.algorithm", "a string"),
    (
        "m.room.encryption",
        "",
        {"algorithm": "x", "rotation_period_msgs": 0},
        "content.rotation_period_msgs",
        "positive",
    ),
    ("m.room.server_acl", "", {"allow": "*"}, "content.allow", "a list of strings"),
    ("m.room.name", "", {"name": {}}, "content.name", "a string or null"),
    ("m.room.pinned_events", "", {"pinned": [1]}, "content.pinned", "a list of strings"),
]


@pytest.mark.parametrize(("type", "state_key", "content", "path", "text"), BAD)
def test_bad_content_is_named(type: str, state_key: str, content: dict[str, Any], path: str, text: str) -> None:
    with pytest.raises(ContentError) as caught:
        check_client_content(type, state_key, content)
    assert caught.value.path == path
    assert str(caught.value).startswith(path + " ")
    assert text in str(caught.value)
