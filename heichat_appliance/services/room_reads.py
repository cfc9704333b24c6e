"""Reading a room's state and members.

Source: client-server API "Getting events for a room". Members read the present state, those who left that of their leaving.
"""

from __future__ import annotations

from typing import Any

import orjson

from heichat_appliance.errors import forbidden, not_found
from heichat_appliance.services.reading import Reading, look_through
from heichat_appliance.services.render import Viewer
from heichat_appliance.services.tokens import Token
from heichat_appliance.store import account_data, aliases, state


class RoomReads:
    """GET /rooms/{roomId}/state, /members, /joined_members and /initialSync."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._engine = reading.engine

    def state(self, viewer: Viewer, room_id: str) -> list[bytes]:
        """All state events; 403 M_FORBIDDEN."""
        reach = self._reading.reach(viewer.user_id, room_id)
        rows = state.all_at(self._engine.read, room_id, reach.upto)
        return [b"[", b",".join(self._reading.render_state(viewer, reach, rows)), b"]"]

    def one_state(
        self, viewer: Viewer, room_id: str, type: str, state_key: str, *, whole_event: bool = False
    ) -> list[bytes]:
        """The content of one piece of state, or its whole event; 403 M_FORBIDDEN, 404 M_NOT_FOUND."""
        reach = self._reading.reach(viewer.user_id, room_id)
        event = state.at(self._engine.read, room_id, type, state_key, reach.upto)
        if event is None:
            raise not_found(f"the room has no state of type {type} with this key / Diesen Zustand hat der Raum nicht")
        if whole_event:
            return self._reading.render_state(viewer, reach, [event])
        return [orjson.dumps(orjson.loads(event.pdu)["content"])]

    def members(
        self, viewer: Viewer, room_id: str, at: int | None, wanted: str | None, unwanted: str | None
    ) -> list[bytes]:
        """The member events at a token position (None: now), those whose membership is `wanted` or is not `unwanted`.

        403 M_FORBIDDEN. A position at which the person could not see the room counts as the nearest at which they could.
        """
        reach = self._reading.reach(viewer.user_id, room_id)
        pos = reach.upto if at is None else reach.state_position(at)
        rows = [
            event
            for membership, event in state.member_events_at(self._engine.read, room_id, pos)
            if (wanted is None and unwanted is None)
            or membership == wanted
            or (unwanted is not None and membership != unwanted)
        ]
        return [b'{"chunk":[', b",".join(self._reading.render_state(viewer, reach, rows)), b"]}"]

    def joined_members(self, user_id: str, room_id: str) -> dict[str, Any]:
        """Names and avatars of who is joined, for those who are joined; 403 M_FORBIDDEN."""
        now = state.membership_now(self._engine.read, user_id, room_id)
        if now is None or now.membership != "join":
            raise forbidden("you are not in this room / Sie sind nicht in diesem Raum")
        joined: dict[str, dict[str, str]] = {}
        for membership, event in state.member_events_at(self._engine.read, room_id, self._engine.position):
            if membership == "join" and event.state_key is not None:
                joined[event.state_key] = _profile(orjson.loads(event.pdu)["content"])
        return {"joined": joined}

    def initial_sync(self, viewer: Viewer, room_id: str, limit: int) -> list[bytes]:
        """The room as one answer: newest messages, state, account data; 403 M_FORBIDDEN."""
        reach = self._reading.reach(viewer.user_id, room_id)
        read, position = self._engine.read, self._engine.position
        wanted = self._reading.unless_ignored(viewer.user_id, None)
        found, start = look_through(read, reach, position, limit, backwards=True, position=position, wanted=wanted)
        found.reverse()
        rows = state.all_at(read, room_id, reach.upto)
        own = account_data.in_room(read, viewer.user_id, room_id)
        head = {
            "room_id": room_id,
            "membership": reach.membership_at(position),
            "visibility": "public" if aliases.is_published(read, room_id) else "private",
            "account_data": [{"type": row.type, "content": orjson.Fragment(row.content)} for row in own],
        }
        epoch = self._engine.epoch
        tokens = b'"end":"%b"' % str(Token(position, epoch)).encode()
        if start is not None:
            tokens += b',"start":"%b"' % str(Token(start, epoch)).encode()
        return [
            orjson.dumps(head)[:-1],
            b',"messages":{', tokens, b',"chunk":[', b",".join(self._reading.render(viewer, reach, found)),
            b']},"state":[', b",".join(self._reading.render_state(viewer, reach, rows)), b"]}",
        ]  # fmt: skip


def _profile(content: dict[str, Any]) -> dict[str, str]:
    names = (("display_name", "displayname"), ("avatar_url", "avatar_url"))
    return {key: content[name] for key, name in names if isinstance(content.get(name), str)}
