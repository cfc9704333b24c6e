"""Which state a sliding sync asks for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heichat_appliance.protocol.requiredstate import LAZY, MEMBER, Required, parse

ME = "@me:x"
TYPES = ("m.room.name", MEMBER, "a")
KEYS = ("", ME, "@you:x")
entry = st.tuples(st.sampled_from((*TYPES, "*")), st.sampled_from((*KEYS, "*", "$ME", LAZY)))
required = st.lists(entry, max_size=5).map(lambda entries: parse(entries, ME))
PAIRS = [(type, key) for type in TYPES for key in KEYS]


def test_what_the_entries_mean() -> None:
    wanted = parse([["m.room.name", ""], [MEMBER, "$ME"], [MEMBER, "$LAZY"], ["a", "*"], ["a", "b"]], ME)
    assert wanted == Required(False, frozenset({"a"}), frozenset({("m.room.name", ""), (MEMBER, ME)}), True)
    assert wanted.matches("m.room.name", "") and wanted.matches(MEMBER, ME) and wanted.matches("a", "anything")
    assert not wanted.matches("m.room.name", "x") and not wanted.matches(MEMBER, "@you:x")


def test_everything_holds_all_members_unless_they_are_loaded_lazily() -> None:
    assert parse([["*", "*"]], ME).matches(MEMBER, "@you:x")
    lazily = parse([["*", ""], [MEMBER, "$LAZY"], [MEMBER, "$ME"]], ME)
    assert lazily.matches("a", "b") and lazily.matches(MEMBER, ME) and not lazily.matches(MEMBER, "@you:x")
    assert parse([[MEMBER, "*"], [MEMBER, "$LAZY"]], ME).lazy is False


@given(required)
def test_entries_say_the_same(one: Required) -> None:
    assert parse(one.entries(), "") == one


@given(required, required)
def test_a_union_matches_what_one_of_both_matches(one: Required, other: Required) -> None:
    union = one.union(other)
    for pair in PAIRS:
        assert union.matches(*pair) == (one.matches(*pair) or other.matches(*pair))
    everybody = any(each.matches(MEMBER, "@nobody:x") for each in (one, other))
    assert union.lazy == ((one.lazy or other.lazy) and not everybody)


@given(required, required)
def test_what_is_beyond_holds_all_that_is_new(one: Required, other: Required) -> None:
    beyond = one.beyond(other)
    for pair in PAIRS:
        if one.matches(*pair) and not other.matches(*pair):
            assert beyond.matches(*pair)
        assert one.matches(*pair) or not beyond.matches(*pair)
