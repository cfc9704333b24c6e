"""History visibility by ranges against the rules of the spec, event by event."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heichat_appliance.protocol.visibility import END, Interval, is_visible, merge, visible_ranges

VISIBILITIES = ["world_readable", "shared", "invited", "joined"]
MEMBERSHIPS = ["invite", "join", "leave", "ban", "knock"]


def naive(events: list[tuple[str, str]], index: int) -> bool:
    """The server behaviour rules 1 to 5 of the spec and its two paragraphs on special events, for one event."""

    def allowed(visibility: str, membership: str) -> bool:
        if visibility == "world_readable" or membership == "join":
            return True
        if visibility not in ("invited", "joined") and joined_later:
            return True
        return membership == "invite" and visibility == "invited"

    joined_later = any(kind == "member" and value == "join" for kind, value in events[index + 1 :])

    def last(wanted: str, upto: int, default: str) -> str:
        return next((value for kind, value in reversed(events[:upto]) if kind == wanted), default)

    kind = events[index][0]
    before = (last("visibility", index, "shared"), last("member", index, "leave"))
    after = (last("visibility", index + 1, "shared"), last("member", index + 1, "leave"))
    if kind in ("visibility", "member"):
        return allowed(*before) or allowed(*after)
    return allowed(*after)


def intervals(events: list[tuple[str, str]], wanted: str) -> list[Interval]:
    starts = [(position + 1, value) for position, (kind, value) in enumerate(events) if kind == wanted]
    return [(start, end, value) for (start, value), (end, _) in pairwise([*starts, (END, "")])]


event = st.one_of(
    st.tuples(st.just("visibility"), st.sampled_from([*VISIBILITIES, "nonsense"])),
    st.tuples(st.just("member"), st.sampled_from(MEMBERSHIPS)),
    st.just(("message", "")),
)


@given(st.lists(event, max_size=14))
def test_ranges_agree_with_the_rules_for_each_event(events: list[tuple[str, str]]) -> None:
    ranges = visible_ranges(intervals(events, "visibility"), intervals(events, "member"))
    assert [is_visible(ranges, index + 1) for index in range(len(events))] == [
        naive(events, index) for index in range(len(events))
    ]
    assert ranges == merge(ranges)


@pytest.mark.parametrize(
    ("visibility", "membership", "expected"),
    [
        ([], [], []),
        # Shared (also by default): the member sees all, and a member who left up to the leave itself.
        ([], [(5, END, "join")], [(0, END)]),
        ([(2, END, "shared")], [(5, 9, "join"), (9, END, "leave")], [(0, 10)]),
        # Kicked and joined again: also what happened in between.
        ([(2, END, "shared")], [(5, 9, "join"), (9, 12, "leave"), (12, END, "join")], [(0, END)]),
        ([(2, END, "shared")], [(5, END, "invite")], []),
        # Joined: only while joined; before its first event the visibility was "shared".
        ([(2, END, "joined")], [(5, 9, "join"), (9, END, "ban")], [(0, 3), (5, 10)]),
        # Invited: from the invite on.
        ([(2, END, "invited")], [(5, 7, "invite"), (7, END, "join")], [(0, 3), (5, END)]),
        ([(2, END, "invited")], [(5, 7, "invite"), (7, END, "leave")], [(5, 8)]),
        # World readable: strangers too, and the event that ends it.
        ([(2, 6, "world_readable"), (6, END, "joined")], [], [(2, 7)]),
        ([(2, END, "world_readable")], [(5, 6, "join"), (6, END, "leave")], [(0, END)]),
    ],
)
def test_examples(visibility: list[Interval], membership: list[Interval], expected: list[tuple[int, int]]) -> None:
    assert visible_ranges(visibility, membership) == expected


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=8))
def test_merge_is_the_union(ranges: list[tuple[int, int]]) -> None:
    merged = merge(ranges)
    covered = {point for start, end in ranges for point in range(start, end)}
    assert {point for start, end in merged for point in range(start, end)} == covered
    assert all(left[1] < right[0] for left, right in pairwise(merged))
    assert all(is_visible(merged, point) == (point in covered) for point in range(32))
