"""Relations between events: edits, threads, reactions, references.

Source: client-server API "Forming relationships between events", "Event replacements", "Threading". Pure
functions on events; which events relate to which is the database's to know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from heichat_appliance.protocol.pdu import Pdu

REPLACE = "m.replace"
THREAD = "m.thread"
ANNOTATION = "m.annotation"
REFERENCE = "m.reference"

#: How many relations are followed to find out to which thread an event belongs ("Marking notifications as read").
MAX_THREAD_HOPS = 3


class Relation(NamedTuple):
    """The relation of a child event to its parent. `key` only of an annotation."""

    rel_type: str
    parent: str
    key: str | None


def relation_of(content: Mapping[str, Any]) -> Relation | None:
    """The relation in an event's content, None if there is none or it is malformed (it is ignored then)."""
    relates_to = content.get("m.relates_to")
    if not isinstance(relates_to, dict):
        return None
    rel_type, parent = relates_to.get("rel_type"), relates_to.get("event_id")
    if not isinstance(rel_type, str) or not isinstance(parent, str) or not rel_type or not parent:
        return None
    if rel_type != ANNOTATION:
        return Relation(rel_type, parent, None)
    key = relates_to.get("key")
    return Relation(rel_type, parent, key) if isinstance(key, str) else None


def reply_target(content: Mapping[str, Any]) -> str | None:
    """The event that an event replies to ("Rich replies"), None if it is no reply."""
    relates_to = content.get("m.relates_to")
    reply = relates_to.get("m.in_reply_to") if isinstance(relates_to, dict) else None
    target = reply.get("event_id") if isinstance(reply, dict) else None
    return target if isinstance(target, str) else None


def thread_root(content: Mapping[str, Any]) -> str | None:
    """The root of the thread that an event is directly in, None if it is in none by itself."""
    relation = relation_of(content)
    return relation.parent if relation is not None and relation.rel_type == THREAD else None


def thread_problem(parent: Pdu) -> str | None:
    """Why no thread can begin at `parent` (400 M_UNKNOWN), None if one can ("Validation of m.thread relationships")."""
    if relation_of(parent.content) is not None:
        return "content.m.relates_to: no thread can begin at an event that relates to another event itself"
    return None


def annotation_problem(parent: Pdu) -> str | None:
    """Why `parent` cannot be annotated, None if it can ("Event annotations and reactions")."""
    relation = relation_of(parent.content)
    if relation is not None and relation.rel_type in (ANNOTATION, REPLACE):
        return "content.m.relates_to: neither a reaction nor an edit can be reacted to"
    return None


def is_valid_replacement(original: Pdu, replacement: Pdu) -> bool:
    """Whether `replacement` counts as an edit of `original` ("Validity of replacement events").

    Of an encrypted event the new content is in the encrypted payload, so it cannot be asked for here.
    """
    relation = relation_of(replacement.content)
    if relation is None or relation.rel_type != REPLACE or relation.parent != original.event_id:
        return False
    if original.room_id != replacement.room_id or original.sender != replacement.sender:
        return False
    if original.type != replacement.type or original.state_key is not None or replacement.state_key is not None:
        return False
    own = relation_of(original.content)
    if own is not None and own.rel_type == REPLACE:
        return False
    return original.type == "m.room.encrypted" or isinstance(replacement.content.get("m.new_content"), dict)


def latest_replacement(original: Pdu, candidates: Iterable[Pdu]) -> Pdu | None:
    """The most recent valid edit: by origin_server_ts, then by event ID."""
    valid = [one for one in candidates if is_valid_replacement(original, one)]
    return max(valid, key=lambda one: (one.origin_server_ts, one.event_id), default=None)


def replaced_content(original: Mapping[str, Any], replacement: Mapping[str, Any]) -> dict[str, Any]:
    """The content of an event after an edit ("Applying m.new_content"): only its own m.relates_to stays."""
    content = dict(replacement["m.new_content"])
    content.pop("m.relates_to", None)
    if "m.relates_to" in original:
        content["m.relates_to"] = original["m.relates_to"]
    return content


def bundle(
    *,
    replacement: object | None = None,
    thread: tuple[object, int, bool] | None = None,
    references: Iterable[str] = (),
) -> dict[str, Any]:
    """The aggregations for `unsigned.m.relations` of an event, empty if there are none.

    `replacement` is the latest edit, `thread` (latest event, number of events, whether the reader took part), both
    events as the reader is to get them (any object that the serialiser knows); `references` IDs of referring events.
    Annotations are not aggregated (since v1.7).
    """
    relations: dict[str, Any] = {}
    if replacement is not None:
        relations[REPLACE] = replacement
    if thread is not None:
        latest, count, participated = thread
        relations[THREAD] = {"latest_event": latest, "count": count, "current_user_participated": participated}
    chunk = [{"event_id": event_id} for event_id in references]
    if chunk:
        relations[REFERENCE] = {"chunk": chunk}
    return relations
