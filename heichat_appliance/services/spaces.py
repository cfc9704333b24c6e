"""What rooms look like from outside: summaries, the tree of a space, rooms shared with somebody.

Source: client-server API "Room Summaries", "Spaces", "Mutual Rooms".
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, NamedTuple

import orjson
from twisted.internet.defer import Deferred

from heichat_appliance import ids
from heichat_appliance.db.engine import Engine
from heichat_appliance.errors import forbidden, invalid_param, not_found
from heichat_appliance.services import summaries
from heichat_appliance.services.summaries import content
from heichat_appliance.store import aliases, state
from heichat_appliance.store.events import Execute, StoredEvent

#: Rooms of a tree that one request visits.
MAX_VISITED = 1_000
MAX_MUTUAL = 200
#: Join rules that let people knock.
_KNOCK = ("knock", "knock_restricted")
_RESTRICTED = ("restricted", "knock_restricted")
_ORDER = re.compile(r"[\x20-\x7e]{1,50}")


class Walk(NamedTuple):
    """A walk through a space: down to `max_depth`, past the first `offset` rooms, at most `limit`."""

    suggested_only: bool
    max_depth: int
    limit: int
    offset: int


class Spaces:
    """GET /room_summary, /rooms/{roomId}/hierarchy and /mutual_rooms."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def summary(self, user_id: str | None, room: str) -> dict[str, Any]:
        """The summary of a room (ID or alias) for somebody who may know of it; 404 M_NOT_FOUND for others.

        `user_id` is None for somebody without login, who may know of public and world-readable rooms only.
        """
        read = self._engine.read
        room_id = room
        if room.startswith("#"):
            found = aliases.get(read, room)
            room_id = found.room_id if found is not None else ""
        if state.room_version(read, room_id) is None or not may_know(read, user_id, room_id):
            raise not_found(
                "there is no such room that you may see / Es gibt keinen solchen Raum, den Sie sehen dürfen"
            )
        result = describe(read, room_id)
        own = state.membership_now(read, user_id, room_id) if user_id is not None else None
        if user_id is not None:
            result["membership"] = own.membership if own is not None else "leave"
        return result

    def hierarchy(self, user_id: str, room_id: str, walk: Walk) -> Deferred[dict[str, Any]]:
        """A page of the tree below a space, depth first; fails with 403 M_FORBIDDEN."""
        return self._engine.read_in_thread(_hierarchy, user_id, room_id, walk)

    def mutual_rooms(self, user_id: str, other: str, offset: int) -> dict[str, Any]:
        """The rooms that both are joined to; 400 M_INVALID_PARAM for oneself and for what is no user ID."""
        if not ids.is_user_id(other):
            raise invalid_param("query parameter user_id is not a user ID")
        if other == user_id:
            raise invalid_param("query parameter user_id must be of somebody else")
        rooms = state.rooms_in_common(self._engine.read, user_id, other)
        result: dict[str, Any] = {"joined": rooms[offset : offset + MAX_MUTUAL], "count": len(rooms)}
        if offset + MAX_MUTUAL < len(rooms):
            result["next_batch"] = f"m{offset + MAX_MUTUAL}"
        return result


def may_know(execute: Execute, user_id: str | None, room_id: str) -> bool:
    """Whether somebody may see a room's summary: they are in it, may join or knock, or everybody may read it
    (client-server API, `GET /rooms/{roomId}/hierarchy`)."""
    own = state.membership_now(execute, user_id, room_id) if user_id is not None else None
    if own is not None and own.membership in ("join", "invite", "knock"):
        return True
    if summaries.is_world_readable(execute, room_id):
        return True
    rules = content(execute, room_id, "m.room.join_rules")
    rule = rules.get("join_rule")
    if rule == "public":
        return own is None or own.membership != "ban"
    if user_id is None or (own is not None and own.membership == "ban"):
        return False
    return rule in _KNOCK or (rule in _RESTRICTED and _is_in_one_of(execute, user_id, _allowed_rooms(rules)))


def describe(execute: Execute, room_id: str) -> dict[str, Any]:
    """A room's summary (spec "RoomSummary")."""
    result = summaries.of_room(execute, room_id, state.count_now(execute, room_id, "join"))
    result["room_version"] = state.room_version(execute, room_id)
    algorithm = content(execute, room_id, "m.room.encryption").get("algorithm")
    if isinstance(algorithm, str):
        result["encryption"] = algorithm
    allowed = _allowed_rooms(content(execute, room_id, "m.room.join_rules"))
    if allowed and result.get("join_rule") in _RESTRICTED:
        result["allowed_room_ids"] = allowed
    return result


def _hierarchy(execute: Execute, user_id: str, root: str, walk: Walk) -> dict[str, Any]:
    if state.room_version(execute, root) is None or not may_know(execute, user_id, root):
        raise forbidden("you may not see this room / Sie dürfen diesen Raum nicht sehen")
    rooms: list[dict[str, Any]] = []
    result: dict[str, Any] = {"rooms": rooms}
    stack, seen, count = [(root, 0)], set(), 0
    while stack and count < MAX_VISITED:
        room_id, depth = stack.pop()
        if room_id in seen:
            continue
        seen.add(room_id)
        if state.room_version(execute, room_id) is None or not may_know(execute, user_id, room_id):
            continue
        children = _children(execute, room_id, walk.suggested_only)
        if count >= walk.offset:
            if len(rooms) == walk.limit:
                result["next_batch"] = f"h{count}.{walk.max_depth}.{walk.suggested_only:d}"
                break
            rooms.append({**describe(execute, room_id), "children_state": [_stripped(child) for child in children]})
        count += 1
        if depth < walk.max_depth:
            stack += [(child.state_key or "", depth + 1) for child in reversed(children)]
    return result


def _children(execute: Execute, room_id: str, suggested_only: bool) -> list[StoredEvent]:
    """The valid m.space.child events of a space in the order of the spec ("Ordering of children within a space")."""
    if content(execute, room_id, "m.room.create").get("type") != "m.space":
        return []
    found = []
    for event in state.current_of_type(execute, room_id, "m.space.child"):
        child = orjson.loads(event.pdu)["content"]
        via, order = child.get("via"), child.get("order")
        if not isinstance(via, list) or not via or (suggested_only and child.get("suggested") is not True):
            continue
        key = order if isinstance(order, str) and _ORDER.fullmatch(order) else None
        found.append(((key is None, key or "", event.ts, event.state_key or ""), event))
    return [event for _, event in sorted(found, key=lambda pair: pair[0])]


def _stripped(child: StoredEvent) -> dict[str, Any]:
    return {
        "type": child.type,
        "state_key": child.state_key,
        "content": orjson.loads(child.pdu)["content"],
        "sender": child.sender,
        "origin_server_ts": child.ts,
    }


def _allowed_rooms(rules: dict[str, Any]) -> list[str]:
    allow = rules.get("allow")
    return [
        entry["room_id"]
        for entry in (allow if isinstance(allow, list) else [])
        if isinstance(entry, dict)
        and entry.get("type") == "m.room_membership"
        and isinstance(entry.get("room_id"), str)
    ]


def _is_in_one_of(execute: Execute, user_id: str, rooms: Collection[str]) -> bool:
    found = (state.membership_now(execute, user_id, room_id) for room_id in rooms)
    return any(one is not None and one.membership == "join" for one in found)
