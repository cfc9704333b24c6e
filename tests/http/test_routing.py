"""Paths and queries of requests."""

from __future__ import annotations

from types import SimpleNamespace
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heichat_appliance.errors import MatrixError
from heichat_appliance.http.routing import MAX_QUERY_FIELDS, Auth, Request, Route, Router


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


@pytest.mark.parametrize(
    ("path", "name", "params"),
    [
        ("/files", None, 404),
        ("/files/", "one", {"name": ""}),
        ("/files/a", "one", {"name": "a"}),
        ("/files/a/b//c", "rest", {"path": "a/b//c"}),
        ("/files/a%2Fb/%C3%A4", "rest", {"path": "a/b/ä"}),
        ("/files/about", "about", {}),
        ("/files/about/more", "rest", {"path": "about/more"}),
    ],
)
def test_the_rest_of_a_path_is_taken_by_whom_nobody_fits_better(path: str, name: str | None, params: object) -> None:
    common = {"method": "GET", "auth": Auth.NONE, "limit": "none", "anchor": ""}
    routes = [
        Route(path="/files/{path*}", handler=lambda _: "rest", **common),
        Route(path="/files/{name}", handler=lambda _: "one", **common),
        Route(path="/files/about", handler=lambda _: "about", **common),
    ]
    found = Router(routes).match("GET", path)
    if name is None:
        assert found == params
    else:
        assert (found[0].handler(None), found[1]) == (name, params)  # type: ignore[index]
    assert Router(routes).match("POST", "/files/a/b") == 405
