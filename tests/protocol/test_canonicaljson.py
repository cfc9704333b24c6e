"""Canonical JSON: the spec's examples, what is refused and where, and properties."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heichat_appliance.protocol.canonicaljson import MAX_DEPTH, CanonicalJSONError, check, encode, parse

EXAMPLES = [
    ("{}", "{}"),
    ('{"one": 1, "two": "Two"}', '{"one":1,"two":"Two"}'),
    ('{"b": "2", "a": "1"}', '{"a":"1","b":"2"}'),
    ('{"b":"2","a":"1"}', '{"a":"1","b":"2"}'),
    (
        '{"auth": {"success": true, "mxid": "@john.doe:example.com", "profile": {"display_name": "John Doe",'
        '"three_pids": [{"medium": "email", "address": "john.doe@example.org"},'
        '{"medium": "msisdn", "address": "123456789"}]}}}',
        '{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":'
        '[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},'
        '"success":true}}',
    ),
    ('{"a": "日本語"}', '{"a":"日本語"}'),
    ('{"本": 2, "日": 1}', '{"日":1,"本":2}'),
    ('{"a": "\\u65E5"}', '{"a":"日"}'),
    ('{"a": null}', '{"a":null}'),
    ('{"a": -0}', '{"a":0}'),
]


@pytest.mark.parametrize(("source", "canonical"), EXAMPLES)
def test_examples_of_the_spec(source: str, canonical: str) -> None:
    assert encode(parse(source.encode())) == canonical.encode()


def test_control_characters_use_the_short_escapes() -> None:
    assert encode('\x00\x07\b\t\n\v\f\r\x1f"\\/\x7f\u2028') == (
        rb'"\u0000\u0007\b\t\n\u000b\f\r\u001f\"\\/' + "\x7f\u2028".encode() + b'"'
    )


def test_keys_are_sorted_by_code_point_not_by_utf16() -> None:
    assert encode({"\U00010000": 1, "\uffff": 2}) == '{"\uffff":2,"\U00010000":1}'.encode()


def nested(depth: int) -> Any:
    value: Any = {}
    for level in range(depth - 1):
        value = [value] if level % 2 else {"a": value}
    return value


REFUSED: list[tuple[Any, str]] = [
    ({"content": {"body": {"x": 1.0}}}, "content.body.x: floats are not allowed"),
    ({"a": [0, {"b": float("nan")}]}, "a.1.b: floats are not allowed"),
    ({"a": 2**53}, "a: integers beyond"),
    ({"a": -(2**53)}, "a: integers beyond"),
    ({"a": 10**400}, "a: integers beyond"),
    ({"a": {1: 2}}, "a.1: keys must be strings"),
    ({"a": ["x", "\ud800"]}, "a.1: lone surrogates"),
    ({"a": {"\udfff": 1}}, "a.\\udfff: lone surrogates"),
    ({"a": (1, 2)}, "a: values of type tuple"),
    ({"a": b"x"}, "a: values of type bytes"),
    ("\ud800", "lone surrogates"),
]


@pytest.mark.parametrize(("value", "text"), REFUSED, ids=lambda value: ascii(value)[:30])
@pytest.mark.parametrize("function", [encode, check])
def test_refused_values_are_named(function: Any, value: Any, text: str) -> None:
    with pytest.raises(CanonicalJSONError) as caught:
        function(value)
    assert str(caught.value).startswith(text)


def test_path_of_the_value_comes_first() -> None:
    with pytest.raises(CanonicalJSONError, match=r"^content\.x: floats"):
        encode({"x": 0.5}, "content")


@pytest.mark.parametrize("function", [encode, check])
def test_depth_limit(function: Any) -> None:
    function(nested(MAX_DEPTH))
    with pytest.raises(CanonicalJSONError, match="nested more than 100 levels"):
        function(nested(MAX_DEPTH + 1))


@pytest.mark.parametrize("value", [2**53 - 1, -(2**53) + 1, 0, True, None, "", [], {}])
def test_limits_are_allowed(value: Any) -> None:
    assert json.loads(encode(value)) == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"NaN",
        b"Infinity",
        b"1e999",
        b'"\\ud800"',
        b'"\xff"',
        b"{'a':1}",
        b'{"a":1,}',
        b"\xef\xbb\xbf{}",
        b"{}{}",
        b"[" * 5000 + b"]" * 5000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"[" * 1000 + b"]" * 1000,
        b"[" * 101 + b"]" * 101,
    ],
    ids=lambda body: ascii(body)[:20],
)
def test_parse_refuses_with_a_sentence(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"^The body is "):
        parse(body)


def test_parse_takes_deep_enough_and_wide_documents() -> None:
    assert parse(b"[" * 100 + b"]" * 100)
    assert parse(b"[" + b"[]," * 500 + b"[]]") == [[]] * 501
    assert parse(b'{"a":1.5}') == {"a": 1.5}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_agrees_with_the_reference_implementation(value: Any) -> None:
    # json.dumps writes U+007F as it is with ensure_ascii=False; this is the function printed in the spec.
    reference = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    assert encode(value) == reference
    assert encode(parse(encode(value))) == reference


@given(st.dictionaries(st.text(), st.integers(0, 9)))
def test_order_of_insertion_does_not_matter(value: dict[str, int]) -> None:
    assert encode(value) == encode(dict(reversed(value.items())))


@given(st.binary(max_size=40))
def test_parse_raises_nothing_but_value_error(body: bytes) -> None:
    try:
        parse(body)
    except ValueError:
        pass
