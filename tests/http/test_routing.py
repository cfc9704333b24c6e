"""Paths and queries of requests."""

from __future__ import annotations

from types import SimpleNamespace
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heichat_appliance.errors import MatrixError
from heichat_appliance.http.routing import MAX_QUERY_FIELDS, Request


def request(query: str) -> Request:
    return Request(SimpleNamespace(query=query), None, {})  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=6))
def test_a_query_is_read_as_it_was_written(pairs: list[tuple[str, str]]) -> None:
    text = urlencode(pairs)
    found = request(text)
    for key, _ in pairs:
        if key:
            assert found.query(key) == next(value for name, value in pairs if name == key)
            assert found.query_all(key) == [value for name, value in pairs if name == key]


@given(st.text(alphabet="ab=&+%41;c", max_size=14))
def test_a_query_is_read_as_the_standard_library_reads_it(text: str) -> None:
    try:
        expected = parse_qsl(text, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        with pytest.raises(MatrixError):
            request(text).query("a")
    else:
        assert all(value in request(text).query_all(key) for key, value in expected)


def test_bad_queries() -> None:
    with pytest.raises(MatrixError, match="UTF-8"):
        request("a=%ff").query("a")
    with pytest.raises(MatrixError, match="too many"):
        request("a=1&" * (MAX_QUERY_FIELDS + 1)).query("a")
    assert request("").query("a", "x") == "x"
