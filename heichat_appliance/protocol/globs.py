"""Glob patterns (spec appendices, "Glob-style matching") as regular expressions that take linear time.

Patterns come from clients and are matched against text from other clients, so nothing may backtrack: each piece of a
pattern between two `*` is looked for from the left in an atomic group. Its first place is always as good as a later
one, for a `*` can take up what lies between.
"""

from __future__ import annotations

import re
from functools import lru_cache

# A word boundary is the start or the end of the text, or any character but these (client-server API "Push Rules").
_WORD = "[A-Za-z0-9_]"


def whole(pattern: str, *, question_mark: bool = True) -> re.Pattern[str]:
    """For .match: the whole text must match. `question_mark` False takes `?` literally. Case counts."""
    pieces = _pieces(pattern, question_mark)
    middle = "".join(rf"(?>.*?{piece})" for piece in pieces[1:-1])
    # The last piece has only one place, at the end.
    last = rf".*{pieces[-1]}" if len(pieces) > 1 else ""
    return re.compile(rf"{pieces[0]}{middle}{last}\Z", re.DOTALL)


def words(pattern: str) -> re.Pattern[str]:
    """For .match: some part of the text that begins and ends at word boundaries must match."""
    pieces = _pieces(pattern, True)
    pieces[0] = rf"(?<!{_WORD}){pieces[0]}"
    pieces[-1] = rf"{pieces[-1]}(?!{_WORD})"
    return re.compile("".join(rf"(?>.*?{piece})" for piece in pieces), re.DOTALL)


@lru_cache(maxsize=1024)
def literal_words(text: str) -> re.Pattern[str]:
    """For .match: `text` itself must occur between word boundaries. Cached for display names."""
    return re.compile(rf".*?(?<!{_WORD}){re.escape(text)}(?!{_WORD})", re.DOTALL)


def _pieces(pattern: str, question_mark: bool) -> list[str]:
    """The regular expressions of what stands between the asterisks; a run of asterisks counts as one."""
    pieces = re.split(r"\*+", pattern)
    if not question_mark:
        return [re.escape(piece) for piece in pieces]
    return [".".join(re.escape(part) for part in piece.split("?")) for piece in pieces]
