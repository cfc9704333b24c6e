"""Small schemas for JSON, and what an answer has against one.

A schema is a type (`int` is no boolean), a set of allowed values, a pattern for the whole string, a tuple of
alternatives, `[schema]` for a list, or a dictionary: `"key"` must be there, `"key?"` may be, and `"*"` stands for every
other key. Lists and `"*"` must hold something, else the answer would prove nothing; `[schema, ...]` and `"*?"` may be
empty; `{}` is an empty object. Keys that the schema does not name are allowed, but not with the value null: what is
absent is left out. `ABSENT` is the schema of a key that must not be there.
"""

from __future__ import annotations

import re
from typing import Any

ABSENT = object()


def problems(schema: Any, value: Any, where: str = "") -> list[str]:
    """What is wrong with `value`, each with its place; nothing if it is as the schema says."""
    if isinstance(schema, dict):
        return _object(schema, value, where)
    if isinstance(schema, list):
        if not isinstance(value, list) or (not value and schema[1:] != [...]):
            return [f"{where}: not a list that holds something"]
        return [problem for i, item in enumerate(value) for problem in problems(schema[0], item, f"{where}[{i}]")]
    if isinstance(schema, tuple):
        found = [problems(alternative, value, where) for alternative in schema]
        return [] if not all(found) else [problem for of_one in found for problem in of_one]
    return [] if _is_plain(schema, value) else [f"{where}: {str(value)[:80]!r} is not {schema}"]


def _is_plain(schema: Any, value: Any) -> bool:
    if isinstance(schema, re.Pattern):
        return isinstance(value, str) and schema.fullmatch(value) is not None
    if isinstance(schema, set):
        return type(value) in {type(allowed) for allowed in schema} and value in schema
    return isinstance(value, schema) and (schema is bool or not isinstance(value, bool))


def _object(schema: dict[str, Any], value: Any, where: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where}: not an object"]
    if not schema:
        return [f"{where}: not empty"] if value else []
    named = {key.removesuffix("?"): wanted for key, wanted in schema.items() if key not in ("*", "*?")}
    others = [key for key in value if key not in named]
    found = []
    for key, wanted in named.items():
        if wanted is ABSENT:
            found += [f"{where}.{key}: is there"] if key in value else []
        elif key in value:
            found += problems(wanted, value[key], f"{where}.{key}")
        elif key in schema:
            found.append(f"{where}.{key}: is missing")
    any_other = schema.get("*", schema.get("*?"))
    if any_other is None:
        return found + [f"{where}.{key}: is null" for key in others if value[key] is None]
    if not others and "*" in schema:
        found.append(f"{where}: holds nothing")
    return found + [problem for key in others for problem in problems(any_other, value[key], f"{where}.{key}")]
