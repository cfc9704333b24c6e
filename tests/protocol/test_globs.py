"""Globs against a naive matcher, and that hostile patterns take no longer than others; dot-separated paths."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heichat_appliance.protocol import fieldpaths, globs


def naive(pattern: str, text: str, question_mark: bool = True) -> bool:
    reachable = {0}
    for char in pattern:
        if char == "*":
            reachable = set(range(min(reachable), len(text) + 1)) if reachable else set()
        else:
            any_char = char == "?" and question_mark
            reachable = {at + 1 for at in reachable if at < len(text) and (any_char or text[at] == char)}
    return len(text) in reachable


def naive_words(pattern: str, text: str) -> bool:
    def word(index: int) -> bool:
        return 0 <= index < len(text) and text[index].isascii() and (text[index].isalnum() or text[index] == "_")

    return any(
        not word(start - 1) and not word(end) and naive(pattern, text[start:end])
        for start in range(len(text) + 1)
        for end in range(start, len(text) + 1)
    )


patterns = st.text("ab*?.\n ", max_size=6)
texts = st.text("ab.? _\nä", max_size=8)


@given(patterns, texts, st.booleans())
def test_whole_agrees_with_the_naive_matcher(pattern: str, text: str, question_mark: bool) -> None:
    found = globs.whole(pattern, question_mark=question_mark).match(text) is not None
    assert found == naive(pattern, text, question_mark)


@given(patterns, texts)
def test_words_agrees_with_the_naive_matcher(pattern: str, text: str) -> None:
    assert (globs.words(pattern).match(text) is not None) == naive_words(pattern, text)


@given(st.text("ab*. ", min_size=1, max_size=3), texts)
def test_literal_words(literal: str, text: str) -> None:
    escaped_free = literal.replace("*", ".")
    found = globs.literal_words(escaped_free).match(text) is not None
    assert found == naive_words(escaped_free, text)


def test_hostile_patterns_end() -> None:
    """With backtracking each of these would take longer than the age of the universe."""
    assert not globs.whole("*a" * 60 + "*b").match("a" * 255)
    assert not globs.words("a*" * 60 + "b").match("a " * 30000)


PATHS = [
    ("content.body", ("content", "body")),
    (r"content.m\.relates_to.rel_type", ("content", "m.relates_to", "rel_type")),
    (r"content.m\\foo", ("content", "m\\foo")),
    (r"a\x.b", (r"a\x", "b")),
    (r"a\\.b", ("a\\", "b")),
    ("", ("",)),
    ("a.", ("a", "")),
    ("a..b", ("a", "", "b")),
    ("a\\", ("a\\",)),
]


@pytest.mark.parametrize(("path", "parts"), PATHS)
def test_split(path: str, parts: tuple[str, ...]) -> None:
    assert fieldpaths.split(path) == parts


@given(st.lists(st.text(r"a.\ä", max_size=4), min_size=1, max_size=4))
def test_split_undoes_escaping(parts: list[str]) -> None:
    path = ".".join(part.replace("\\", "\\\\").replace(".", "\\.") for part in parts)
    assert fieldpaths.split(path) == tuple(parts)


EVENT: dict[str, Any] = {"type": "t", "content": {"body": "b", "m.x": {"y": None}, "list": [1]}, "sender": "@a"}
SELECTIONS = [
    (["type"], {"type": "t"}),
    (["content.body", "sender"], {"content": {"body": "b"}, "sender": "@a"}),
    ([r"content.m\.x.y"], {"content": {"m.x": {"y": None}}}),
    (["content", "content.body"], {"content": EVENT["content"]}),
    (["content.body", "content"], {"content": EVENT["content"]}),
    (["content.body", r"content.m\.x"], {"content": {"body": "b", "m.x": {"y": None}}}),
    (["content.list.0", "type.x", "nothing"], {"content": {}}),
    ([], {}),
]


@pytest.mark.parametrize(("fields", "expected"), SELECTIONS)
def test_select(fields: list[str], expected: dict[str, Any]) -> None:
    assert fieldpaths.select(EVENT, fieldpaths.tree(map(fieldpaths.split, fields))) == expected


def test_lookup_tells_null_from_missing() -> None:
    assert fieldpaths.lookup(EVENT, ("content", "m.x", "y")) is None
    assert fieldpaths.lookup(EVENT, ("content", "nothing")) is fieldpaths.MISSING
    assert fieldpaths.lookup(EVENT, ("content", "body", "x")) is fieldpaths.MISSING
