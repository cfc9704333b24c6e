"""What a person may see of a room's history."""

from __future__ import annotations

import orjson

from heichat_appliance.errors import forbidden
from heichat_appliance.protocol.visibility import Range, visible_ranges
from heichat_appliance.store import state
from heichat_appliance.store.events import Execute


def ranges(execute: Execute, user_id: str, room_id: str) -> list[Range]:
    """The ranges (half open) of positions whose events the person may see (see protocol.visibility)."""
    visibility = [
        (start, end, str(orjson.loads(event.pdu)["content"].get("history_visibility", "shared")))
        for start, end, event in state.intervals(execute, room_id, "m.room.history_visibility", "")
    ]
    membership = [(m.from_pos, m.to_pos, m.membership) for m in state.membership_intervals(execute, user_id, room_id)]
    return visible_ranges(visibility, membership)


def readable_upto(execute: Execute, user_id: str, room_id: str, position: int) -> int:
    """Up to which position the person may read the room's state: `position` for a member, that of their leaving for one
    who left; 403 M_FORBIDDEN for others (invited people and strangers), unless the room is world readable."""
    last_end = None
    for interval in state.membership_intervals(execute, user_id, room_id):
        if interval.membership == "join" and interval.from_pos <= position:
            last_end = min(interval.to_pos, position + 1)
    if last_end is not None:
        return min(last_end, position)
    event = state.at(execute, room_id, "m.room.history_visibility", "", position)
    if event is not None and orjson.loads(event.pdu)["content"].get("history_visibility") == "world_readable":
        return position
    raise forbidden("you are not a member of this room / Sie sind kein Mitglied dieses Raums")
