"""Canonical JSON (spec appendices, "Canonical JSON") and strict reading of JSON from clients.

`encode` gives the shortest UTF-8 encoding with keys sorted by code point, the form that is hashed and signed. Floats,
integers beyond +-(2^53-1), keys that are not strings, lone surrogates and nesting deeper than MAX_DEPTH are refused.
"""

from __future__ import annotations

import orjson

MAX_DEPTH = 100
MAX_INT = 2**53 - 1

_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
_SCALARS = frozenset((str, bool, type(None)))


class CanonicalJSONError(ValueError):
    """The value has no canonical JSON; the text names the place, e.g. "content.body.x: floats are not allowed"."""


def encode(value: object, path: str = "") -> bytes:
    """The canonical JSON of `value` (dicts, lists, strings, ints, bools, None).

    `path` is how error texts name the value itself, e.g. "content". Raises CanonicalJSONError.
    """
    problem = _problem(value, 0)
    if problem is not None:
        raise _error(path, problem)
    try:
        return orjson.dumps(value, option=_OPTIONS)
    except TypeError:
        # _problem leaves lone surrogates to orjson, which finds them at no extra cost but cannot say where they are.
        check(value, path)
        raise


def check(value: object, path: str = "") -> None:
    """Raise CanonicalJSONError if `value` has no canonical JSON, else nothing. `path` as for encode."""
    problem = _problem(value, 0) or _surrogate(value)
    if problem is not None:
        raise _error(path, problem)


def parse(body: bytes) -> object:
    """Read one JSON document from a client's request body.

    Floats are allowed here (account data may hold them). Raises ValueError with a sentence for anything that is not
    strict JSON (NaN, lone surrogates, invalid UTF-8, an infinite number) and for nesting deeper than MAX_DEPTH.
    """
    try:
        value: object = orjson.loads(body)
    except (orjson.JSONDecodeError, RecursionError) as error:
        text = str(error) if isinstance(error, orjson.JSONDecodeError) else "it is nested too deeply"
        raise ValueError(f"The body is not valid JSON: {text}") from None
    # A document cannot be deeper than half its brackets; counting them in C spares the walk for ordinary bodies.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _too_deep(value, 0):
        raise ValueError(f"The body is nested more than {MAX_DEPTH} levels deep")
    return value


def _problem(value: object, depth: int) -> tuple[list[str], str] | None:
    """The first thing in `value` that canonical JSON forbids: (path from the inside out, sentence)."""
    kind = type(value)
    if kind in _SCALARS:
        return None
    if kind is dict:
        if depth >= MAX_DEPTH:
            return [], f"nested more than {MAX_DEPTH} levels deep"
        return _dict_problem(value, depth + 1)  # type: ignore[arg-type]
    if kind is list:
        if depth >= MAX_DEPTH:
            return [], f"nested more than {MAX_DEPTH} levels deep"
        for index, item in enumerate(value):  # type: ignore[arg-type, var-annotated]
            if type(item) is not str and (found := _problem(item, depth + 1)) is not None:
                found[0].append(str(index))
                return found
        return None
    if kind is int:
        return None if -MAX_INT <= value <= MAX_INT else ([], "integers beyond 2^53-1 are not allowed")  # type: ignore[operator]
    if kind is float:
        return [], "floats are not allowed"
    return [], f"values of type {kind.__name__} are not allowed"


def _dict_problem(value: dict[object, object], depth: int) -> tuple[list[str], str] | None:
    for key, item in value.items():
        if type(key) is not str:
            return [repr(key)], "keys must be strings"
        if type(item) is not str and (found := _problem(item, depth)) is not None:
            found[0].append(key)
            return found
    return None


def _surrogate(value: object) -> tuple[list[str], str] | None:
    """Where a string with a lone surrogate is. `value` has passed _problem, so its depth is bounded."""
    if isinstance(value, str):
        return None if _is_utf8(value) else ([], "lone surrogates are not allowed")
    if isinstance(value, dict):
        for key, item in value.items():
            if not _is_utf8(key):
                return [key.encode("utf-8", "backslashreplace").decode()], "lone surrogates are not allowed"
            if (found := _surrogate(item)) is not None:
                found[0].append(key)
                return found
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if (found := _surrogate(item)) is not None:
                found[0].append(str(index))
                return found
    return None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _too_deep(value: object, depth: int) -> bool:
    if isinstance(value, dict):
        return depth >= MAX_DEPTH or any(_too_deep(item, depth + 1) for item in value.values())
    if isinstance(value, list):
        return depth >= MAX_DEPTH or any(_too_deep(item, depth + 1) for item in value)
    return False


def _error(path: str, problem: tuple[list[str], str]) -> CanonicalJSONError:
    parts = [path] if path else []
    parts.extend(reversed(problem[0]))
    where = ".".join(parts)
    return CanonicalJSONError(f"{where}: {problem[1]}" if where else problem[1])
