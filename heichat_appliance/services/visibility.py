"""What a person may see of a room's history."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import repeat

import orjson

from heichat_appliance.errors import forbidden
from heichat_appliance.protocol.visibility import Range, is_visible, visible_ranges
from heichat_appliance.store import state
from heichat_appliance.store.events import Execute
from heichat_appliance.store.state import Membership


class Reach:
    """How much of a room a person may read: the state up to position `upto`, and the events in `ranges` (half open)."""

    __slots__ = ("_memberships", "_starts", "ranges", "room_id", "upto", "user_id")

    def __init__(
        self, user_id: str, room_id: str, upto: int, ranges: list[Range], memberships: Sequence[Membership]
    ) -> None:
        self.user_id = user_id
        self.room_id = room_id
        self.upto = upto
        self.ranges = ranges
        self._memberships = memberships
        self._starts = [interval.from_pos for interval in memberships]

    def sees(self, pos: int) -> bool:
        """Whether the person may see the event at `pos`."""
        return is_visible(self.ranges, pos)

    def membership_at(self, pos: int) -> str:
        """The person's membership at an event (`unsigned.membership`)."""
        index = bisect_right(self._starts, pos) - 1
        return self._memberships[index].membership if index >= 0 else "leave"

    def memberships_at(self, positions: Sequence[int]) -> Iterable[str]:
        """The same at several events, in their order; mostly it is the same at all of them."""
        if not positions:
            return ()
        low, high = min(positions), max(positions)
        if bisect_right(self._starts, low) == bisect_right(self._starts, high):
            return repeat(self.membership_at(low), len(positions))
        return map(self.membership_at, positions)

    def state_position(self, pos: int) -> int:
        """The position nearest to `pos` at which the person may read the room's state."""
        if not self.sees(pos):
            pos = next((start for start, _ in self.ranges if start > pos), self.upto)
        return min(pos, self.upto)


def reach(execute: Execute, user_id: str, room_id: str, position: int) -> Reach:
    """How much of a room a person may read at `position`: members, those who left it (up to then) and, if it is world
    readable, everybody; 403 M_FORBIDDEN for others (strangers, invited people, who forgot it) and for unknown rooms."""
    found, is_world_readable = _reach(execute, user_id, room_id, position)
    if is_world_readable or found.membership_at(position) == "join":
        return found
    if not found.upto or room_id in state.forgotten_rooms(execute, user_id):
        raise forbidden("you are not a member of this room / Sie sind kein Mitglied dieses Raums")
    return found


def reach_of_sync(execute: Execute, user_id: str, room_id: str, position: int) -> Reach:
    """The same for whoever has the room in their sync: invited people too may see events, but ask for nothing."""
    return _reach(execute, user_id, room_id, position)[0]


def _reach(execute: Execute, user_id: str, room_id: str, position: int) -> tuple[Reach, bool]:
    """The reach (`upto` 0: no state), and whether everybody may read the room."""
    memberships = [m for m in state.membership_intervals(execute, user_id, room_id) if m.from_pos <= position]
    visibility = _visibility_intervals(execute, room_id)
    is_world_readable = bool(visibility) and visibility[-1][2] == "world_readable"
    joined = [min(interval.to_pos, position) for interval in memberships if interval.membership == "join"]
    upto = position if is_world_readable else max(joined, default=0)
    spans = [(m.from_pos, m.to_pos, m.membership) for m in memberships]
    return Reach(user_id, room_id, upto, visible_ranges(visibility, spans), memberships), is_world_readable


def ranges(execute: Execute, user_id: str, room_id: str) -> list[Range]:
    """The ranges (half open) of positions whose events the person may see (see protocol.visibility)."""
    membership = [(m.from_pos, m.to_pos, m.membership) for m in state.membership_intervals(execute, user_id, room_id)]
    return visible_ranges(_visibility_intervals(execute, room_id), membership)


def _visibility_intervals(execute: Execute, room_id: str) -> list[tuple[int, int, str]]:
    return [
        (start, end, str(orjson.loads(content).get("history_visibility", "shared")))
        for start, end, content in state.intervals(execute, room_id, "m.room.history_visibility", "")
    ]
