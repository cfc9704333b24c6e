"""Matrix identifiers: grammar, mapping of Uni-IDs, new ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heichat_appliance import ids

HASH = "a-_Z" * 10 + "abc"


@pytest.mark.parametrize(
    ("user_id", "parts"),
    [
        ("@ab123:uni.example", ("ab123", "uni.example")),
        ("@a.b_c=d-e/f+g:uni.example:8448", ("a.b_c=d-e/f+g", "uni.example:8448")),
        ("@x:[2001:db8::1]:80", ("x", "[2001:db8::1]:80")),
        ("@x:127.0.0.1", ("x", "127.0.0.1")),
        ("@x:localhost", ("x", "localhost")),
    ],
)
def test_user_ids(user_id: str, parts: tuple[str, str]) -> None:
    assert ids.parse_user_id(user_id) == parts
    assert ids.is_user_id(user_id)


@pytest.mark.parametrize(
    "user_id",
    [
        "",
        "@",
        "@:",
        "@a",
        "@a:",
        "@:x",
        "a:x",
        "@A:x",
        "@ä:x",
        "@a b:x",
        "@a\n:x",
        "@a:x y",
        "@a:x:y",
        "@a:-x",
        "@a:x..y",
        "@a:x:123456",
        "@a:x:",
        "@a:[::1",
        "@a:[::1]x",
        "@a:[zz]",
        "@a:x\n",
        "@a\0:x",
        "@" + "a" * 254 + ":x",
        "@\ud800:x",
    ],
)
def test_no_user_ids(user_id: str) -> None:
    with pytest.raises(ValueError, match=r"^The "):
        ids.parse_user_id(user_id)
    assert not ids.is_user_id(user_id)


@pytest.mark.parametrize("value", [None, 7, ["@a:x"], b"@a:x"])
def test_other_types_are_no_user_ids(value: object) -> None:
    assert not ids.is_user_id(value)


def test_255_bytes_are_the_limit() -> None:
    assert ids.parse_user_id("@" + "a" * 252 + ":x")
    with pytest.raises(ValueError, match="255 bytes"):
        ids.parse_user_id("@" + "a" * 253 + ":x")
    assert ids.parse_room_alias("#" + "ä" * 126 + ":x")
    with pytest.raises(ValueError, match="255 bytes"):
        ids.parse_room_alias("#" + "ä" * 127 + ":x")


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (ids.check_room_id, ["!abc:x", "!a/b ä:x", "!" + HASH], ["!abc", "abc:x", "!:x", "#a:x", "!" + HASH + "a"]),
        (ids.check_event_id, ["$" + HASH], ["$" + HASH[:-1], HASH, "$" + HASH[:-1] + "/", "$abc:x", "", "$"]),
        (ids.parse_room_alias, ["#a:x", "#Größe/1:x"], ["a:x", "#:x", "#a", "!a:x", "#a:x y"]),
        (ids.check_server_name, ["x", "uni.example:443", "[::1]"], ["", "x:", "x/y", "x:port", "x_y", "ä.example"]),
    ],
)
def test_other_identifiers(check: Callable[[str], object], good: list[str], bad: list[str]) -> None:
    for value in good:
        check(value)
    for value in bad:
        with pytest.raises(ValueError, match=r"^The "):
            check(value)


def test_lengths() -> None:
    assert ids.check_length("ä" * 127, "device ID") == "ä" * 127
    for bad in ("", "ä" * 128, "a\0"):
        with pytest.raises(ValueError, match=r"^The device ID must not"):
            ids.check_length(bad, "device ID")
    assert ids.check_opaque_id("aZ0-._~", "key") == "aZ0-._~"
    for bad in ("", "a b", "a/b", "ä", "a" * 256):
        with pytest.raises(ValueError, match=r"^The key "):
            ids.check_opaque_id(bad, "key")


@pytest.mark.parametrize(
    ("login", "localpart"),
    [
        ("ab123", "ab123"),
        ("AB123", "ab123"),
        (" ab123 ", "ab123"),
        ("max.mustermann", "max.mustermann"),
        ("a#b", "a=23b"),
        ("a=b", "a=3db"),
        ("á", "=c3=a1"),
        ("Á", "=c3=a1"),
        ("a@b", "a=40b"),
        ("a:b", "a=3ab"),
        ("straße", "stra=c3=9fe"),
    ],
)
def test_localparts(login: str, localpart: str) -> None:
    assert ids.localpart_of(login) == localpart
    assert ids.user_id_of(login, "uni.example") == f"@{localpart}:uni.example"


@pytest.mark.parametrize("login", ["", "  ", "\ud800"])
def test_no_localparts(login: str) -> None:
    with pytest.raises(ValueError, match="Uni-ID"):
        ids.localpart_of(login)


def test_too_long_uni_id() -> None:
    with pytest.raises(ValueError, match="255 bytes"):
        ids.user_id_of("ä" * 50, "uni.example")


@settings(deadline=None, database=None)
@given(st.text(max_size=20).filter(lambda text: text.strip()), st.text(max_size=20).filter(lambda text: text.strip()))
def test_localparts_are_valid_and_differ(one: str, other: str) -> None:
    first, second = ids.localpart_of(one), ids.localpart_of(other)
    assert (first == second) == (one.strip().lower() == other.strip().lower())
    assert ids.parse_user_id(f"@{first}:x") == (first, "x")


def test_new_identifiers_are_valid_and_new() -> None:
    rooms = {ids.new_room_id("uni.example") for _ in range(100)}
    devices = {ids.new_device_id() for _ in range(100)}
    tokens = {ids.new_token(43) for _ in range(100)}
    assert len(rooms) == len(devices) == len(tokens) == 100
    assert all(ids.check_room_id(room) for room in rooms)
    assert all(device.isupper() and len(device) == 10 for device in devices)
    assert all(len(ids.check_opaque_id(token, "token")) == 43 for token in tokens)
