"""Dot-separated property paths (spec appendices): splitting them, and looking up and picking what they name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

FieldPath = tuple[str, ...]
#: Property names; None instead of an inner tree means all of the property.
FieldTree = dict[str, "FieldTree | None"]

_PART = re.compile(r"(?:[^.\\]|\\.?)*", re.DOTALL)
_ESCAPED = re.compile(r"\\([.\\])")

#: What .get gives for a missing key, where None is a value.
MISSING = object()


def split(path: str) -> FieldPath:
    """The property names of a path: `content.m\\.relates_to` is ("content", "m.relates_to")."""
    parts = []
    position = 0
    while True:
        match = _PART.match(path, position)
        assert match is not None  # the pattern matches the empty string everywhere
        parts.append(_ESCAPED.sub(r"\1", match.group()))
        if match.end() == len(path):
            return tuple(parts)
        position = match.end() + 1


def lookup(value: object, path: FieldPath) -> object:
    """The property at `path` of parsed JSON, or MISSING."""
    for name in path:
        if not isinstance(value, dict):
            return MISSING
        value = value.get(name, MISSING)
    return value


def tree(paths: Iterable[FieldPath]) -> FieldTree:
    """The paths as a tree for select; a path takes in all longer ones that begin with it."""
    root: FieldTree = {}
    for path in sorted(paths, key=len):
        node = root
        for name in path[:-1]:
            inner = node.setdefault(name, {})
            if inner is None:
                break
            node = inner
        else:
            node[path[-1]] = None
    return root


def select(value: Mapping[str, Any], fields: FieldTree) -> dict[str, Any]:
    """A copy of an event with only the properties that `fields` names (`event_fields` of a filter)."""
    picked: dict[str, Any] = {}
    for name, inner in fields.items():
        if name not in value:
            continue
        if inner is None:
            picked[name] = value[name]
        elif isinstance(value[name], Mapping):
            picked[name] = select(value[name], inner)
    return picked
