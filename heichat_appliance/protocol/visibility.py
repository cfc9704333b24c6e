"""History visibility: the positions of a room's timeline that a user may see.

Source: client-server API "Room History Visibility", "Server behaviour" 1 to 5 and what follows them.

Works on half-open intervals of positions: the state event that sets a value has the interval's first position, and the
event that ends it has the position `to`. So the rule that "before or after the event" counts for a visibility event,
and for the user's own membership events, only means that each interval also covers the event that ends it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

Range = tuple[int, int]
#: (from position, to position, value)
Interval = tuple[int, int, str]

#: Beyond every position.
END = 2**63 - 1


def visible_ranges(visibility: Sequence[Interval], membership: Sequence[Interval]) -> list[Range]:
    """The ranges (half open, ascending, disjoint) of positions whose events the user may see.

    `visibility` are the intervals of the room's m.room.history_visibility (before the first, and for unknown values, it
    is "shared"), `membership` those of the user's membership in the room; both in the order of positions, the last one
    may reach to END.
    """
    joined = [(start, _after(end)) for start, end, value in membership if value == "join"]
    invited = [(start, _after(end)) for start, end, value in membership if value == "invite"]
    # Rule 3: what is "shared" is seen by who joins later, so up to the last join.
    before_joining = [(0, joined[-1][0])] if joined else []
    # Rule 2: what happens while the user is joined.
    found = list(joined)
    for start, end, value in _with_default(visibility):
        span = (start, _after(end))
        if value == "world_readable":  # rule 1
            found.append(span)
        elif value == "invited":  # rule 4
            found += _clip(invited, span)
        elif value != "joined":  # "shared" and whatever is not understood
            found += _clip(before_joining, span)
    return merge(found)


def is_visible(ranges: Sequence[Range], position: int) -> bool:
    """Whether one of the ranges that visible_ranges gave holds `position`."""
    index = bisect_right(ranges, (position, END)) - 1
    return index >= 0 and position < ranges[index][1]


def merge(ranges: Iterable[Range]) -> list[Range]:
    """The union of half-open ranges: ascending, disjoint, none empty, none touching."""
    merged: list[Range] = []
    for start, end in sorted(ranges):
        if start >= end:
            continue
        if merged and start <= merged[-1][1]:
            if end > merged[-1][1]:
                merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def _with_default(visibility: Sequence[Interval]) -> list[Interval]:
    first = visibility[0][0] if visibility else END
    return [(0, first, "shared"), *visibility]


def _after(end: int) -> int:
    """The end of an interval that is to cover the event ending it too."""
    return min(end, END - 1) + 1


def _clip(ranges: Iterable[Range], span: Range) -> list[Range]:
    return [(max(start, span[0]), min(end, span[1])) for start, end in ranges]
