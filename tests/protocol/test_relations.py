"""Relations: reading them, which edits count, aggregations."""

from __future__ import annotations

from typing import Any

import pytest

from heichat_appliance.protocol import relations
from heichat_appliance.protocol.pdu import Pdu
from heichat_appliance.protocol.relations import Relation
from heichat_appliance.protocol.roomversions import V11
from tests.protocol.rooms import ALICE, BOB, Room

READ: list[tuple[object, Relation | None]] = [
    ({"rel_type": "m.thread", "event_id": "$p"}, Relation("m.thread", "$p", None)),
    ({"rel_type": "m.annotation", "event_id": "$p", "key": "👍"}, Relation("m.annotation", "$p", "👍")),
    ({"rel_type": "m.annotation", "event_id": "$p"}, None),
    ({"rel_type": "m.replace", "event_id": "$p", "key": "x"}, Relation("m.replace", "$p", None)),
    ({"rel_type": "org.example", "event_id": "$p"}, Relation("org.example", "$p", None)),
    ({"m.in_reply_to": {"event_id": "$p"}}, None),
    ({"rel_type": "m.thread"}, None),
    ({"rel_type": "m.thread", "event_id": 5}, None),
    ({"rel_type": "", "event_id": "$p"}, None),
    ({"rel_type": ["m.thread"], "event_id": "$p"}, None),
    ("x", None),
    (None, None),
]


@pytest.mark.parametrize(("relates_to", "relation"), READ)
def test_relation_of(relates_to: object, relation: Relation | None) -> None:
    assert relations.relation_of({"m.relates_to": relates_to}) == relation


def test_content_without_relation() -> None:
    assert relations.relation_of({}) is None
    assert relations.reply_target({}) is None
    assert relations.thread_root({}) is None


def test_thread_root_and_reply_target() -> None:
    content = {"m.relates_to": {"rel_type": "m.thread", "event_id": "$root", "m.in_reply_to": {"event_id": "$last"}}}
    assert relations.thread_root(content) == "$root"
    assert relations.reply_target(content) == "$last"
    assert relations.thread_root({"m.relates_to": {"rel_type": "m.reference", "event_id": "$root"}}) is None
    assert relations.reply_target({"m.relates_to": {"m.in_reply_to": "$last"}}) is None


def message(room: Room, sender: str = ALICE, type: str = "m.room.message", **content: Any) -> Pdu:
    return room.event(type, sender, {"msgtype": "m.text", "body": "x", **content}, None)


def edit(room: Room, original: Pdu, **changes: Any) -> Pdu:
    content = {
        "body": "* y",
        "m.new_content": {"body": "y"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": original.event_id},
    }
    fields: dict[str, Any] = {"type": original.type, "sender": original.sender, "content": content, "state_key": None}
    return room.event(**(fields | changes))


def test_valid_edit() -> None:
    room = Room(V11)
    original = message(room)
    assert relations.is_valid_replacement(original, edit(room, original))


def test_edits_that_do_not_count() -> None:
    room = Room(V11)
    original = message(room)
    first = edit(room, original)
    state = room.event("m.room.topic", ALICE, {"topic": "x"}, "")
    elsewhere = edit(Room(V11), original, room_id="!other:uni.example")
    without_content = {"m.relates_to": {"rel_type": "m.replace", "event_id": original.event_id}}
    for parent, child in [
        (original, edit(room, original, sender=BOB)),
        (original, edit(room, original, type="m.sticker")),
        (original, edit(room, original, state_key="")),
        (original, edit(room, original, content=without_content)),
        (original, edit(room, original, content=without_content | {"m.new_content": "x"})),
        (original, edit(room, first)),
        (original, message(room)),
        (original, elsewhere),
        (first, edit(room, first)),
        (state, edit(room, state)),
    ]:
        assert not relations.is_valid_replacement(parent, child)


def test_encrypted_edit_has_its_new_content_inside() -> None:
    room = Room(V11)
    original = message(room, type="m.room.encrypted")
    content = {"ciphertext": "x", "m.relates_to": {"rel_type": "m.replace", "event_id": original.event_id}}
    assert relations.is_valid_replacement(original, edit(room, original, content=content))


def test_latest_edit_is_by_time_then_by_id() -> None:
    room = Room(V11)
    original = message(room)
    early, late = edit(room, original, origin_server_ts=5), edit(room, original, origin_server_ts=9)
    also_late = edit(room, original, origin_server_ts=9, depth=99)
    forged = edit(room, original, origin_server_ts=99, sender=BOB)
    latest = relations.latest_replacement(original, [late, early, forged, also_late])
    assert latest is max(late, also_late, key=lambda one: one.event_id)
    assert relations.latest_replacement(original, [forged]) is None


def test_replaced_content_keeps_only_the_own_relation() -> None:
    original = {"body": "a", "formatted_body": "b", "m.relates_to": {"rel_type": "m.thread", "event_id": "$r"}}
    replacement = {"body": "* c", "m.new_content": {"body": "c", "m.relates_to": {"x": 1}}}
    assert relations.replaced_content(original, replacement) == {
        "body": "c",
        "m.relates_to": {"rel_type": "m.thread", "event_id": "$r"},
    }
    assert relations.replaced_content({"body": "a"}, replacement) == {"body": "c"}


def test_what_cannot_be_a_parent() -> None:
    room = Room(V11)
    plain = message(room)
    reply = message(room, **{"m.relates_to": {"m.in_reply_to": {"event_id": "$x"}}})
    threaded = message(room, **{"m.relates_to": {"rel_type": "m.thread", "event_id": "$x"}})
    reaction = room.event(
        "m.reaction", ALICE, {"m.relates_to": {"rel_type": "m.annotation", "event_id": "$x", "key": "k"}}
    )
    assert relations.thread_problem(plain) is None
    assert relations.thread_problem(reply) is None
    assert "m.relates_to" in (relations.thread_problem(threaded) or "")
    assert relations.annotation_problem(threaded) is None
    assert "m.relates_to" in (relations.annotation_problem(reaction) or "")
    assert "m.relates_to" in (relations.annotation_problem(edit(room, plain)) or "")


def test_bundle() -> None:
    assert relations.bundle() == {}
    assert relations.bundle(replacement={"e": 1}, thread=({"e": 2}, 7, True), references=["$a", "$b"]) == {
        "m.replace": {"e": 1},
        "m.thread": {"latest_event": {"e": 2}, "count": 7, "current_user_participated": True},
        "m.reference": {"chunk": [{"event_id": "$a"}, {"event_id": "$b"}]},
    }
