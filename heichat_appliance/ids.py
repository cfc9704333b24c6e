"""Matrix identifiers (spec appendices, "Identifier Grammar"): checking them, and making new ones.

The parse functions raise ValueError with a sentence; they accept what servers may make today, not the historical forms.
"""

from __future__ import annotations

import re
import secrets
import string

#: Every identifier, with its sigil and its domain, is at most this many bytes of UTF-8.
MAX_BYTES = 255

_LOCALPART = re.compile(r"[a-z0-9._=\-/+]+")
_OPAQUE = re.compile(r"[0-9A-Za-z\-._~]+")
_HASH = re.compile(r"[0-9A-Za-z\-_]{43}")
_PORT = re.compile(r"[0-9]{1,5}")
_DNS_NAME = re.compile(r"[0-9A-Za-z]([0-9A-Za-z\-]*[0-9A-Za-z])?(\.[0-9A-Za-z]([0-9A-Za-z\-]*[0-9A-Za-z])?)*\.?")
_IPV6 = re.compile(r"\[[0-9A-Fa-f:.]{2,45}\]")
_KEPT_BYTES = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789._-/+")
_ALPHANUMERIC = string.ascii_letters + string.digits


def check_server_name(name: str) -> str:
    """`name` if it is a host name, IPv4 or bracketed IPv6 address with an optional port, else ValueError."""
    host, colon, port = name, "", ""
    if name.startswith("["):
        host, bracket, rest = name.partition("]")
        host += bracket
        colon, port = rest[:1], rest[1:]
    elif ":" in name:
        host, colon, port = name.partition(":")
    good = _IPV6.fullmatch(host) if host.startswith("[") else len(host) <= MAX_BYTES and _DNS_NAME.fullmatch(host)
    if not good or colon not in ("", ":") or (colon and not _PORT.fullmatch(port)):
        raise ValueError("The server name is not a host name with an optional port")
    return name


def parse_user_id(user_id: str) -> tuple[str, str]:
    """Split "@localpart:domain" into (localpart, domain); ValueError if it is not a user ID of today's grammar."""
    localpart, domain = _split(user_id, "@", "user ID")
    if not _LOCALPART.fullmatch(localpart):
        raise ValueError("The user ID may only have a-z, 0-9 and . _ = - / + between the @ and the colon")
    check_server_name(domain)
    return localpart, domain


def is_user_id(value: object) -> bool:
    """Whether `value` is a string with the grammar of a user ID."""
    if not isinstance(value, str):
        return False
    try:
        parse_user_id(value)
    except ValueError:
        return False
    return True


def parse_room_alias(alias: str) -> tuple[str, str]:
    """Split "#localpart:domain" into (localpart, domain); ValueError if it is not a room alias."""
    localpart, domain = _split(alias, "#", "room alias")
    check_server_name(domain)
    return localpart, domain


def check_room_id(room_id: str) -> str:
    """`room_id` if it is "!opaque:domain" or (room version 12) "!" and a hash of 43 characters; else ValueError."""
    if ":" not in room_id and room_id[:1] == "!" and _HASH.fullmatch(room_id[1:]):
        return room_id
    _, domain = _split(room_id, "!", "room ID")
    check_server_name(domain)
    return room_id


def check_event_id(event_id: str) -> str:
    """`event_id` if it is "$" and a hash of 43 characters (room versions 4 and later); else ValueError."""
    if event_id[:1] != "$" or not _HASH.fullmatch(event_id[1:]):
        raise ValueError("The event ID must be a $ followed by 43 characters of URL-safe Base64")
    return event_id


def check_length(value: str, what: str) -> str:
    """`value` if it has 1 to 255 bytes of UTF-8 and no NUL (device IDs, transaction IDs, keys ...); else ValueError."""
    if not value:
        raise ValueError(f"The {what} must not be empty")
    if utf8_length(value, what) > MAX_BYTES:
        raise ValueError(f"The {what} must not be longer than {MAX_BYTES} bytes")
    if "\0" in value:
        raise ValueError(f"The {what} must not contain NUL")
    return value


def check_opaque_id(value: str, what: str) -> str:
    """`value` if it follows the opaque identifier grammar: 1 to 255 of 0-9 A-Z a-z - . _ ~; else ValueError."""
    check_length(value, what)
    if not _OPAQUE.fullmatch(value):
        raise ValueError(f"The {what} may only have 0-9, A-Z, a-z and - . _ ~")
    return value


def utf8_length(value: str, what: str) -> int:
    """The number of bytes of `value` in UTF-8; ValueError for a lone surrogate."""
    if value.isascii():
        return len(value)
    try:
        return len(value.encode())
    except UnicodeEncodeError:
        raise ValueError(f"The {what} is not valid Unicode") from None


def localpart_of(login: str) -> str:
    """Map a Uni-ID onto a user ID's localpart: the same for upper and lower case, different for different IDs.

    In lower case, bytes outside a-z 0-9 . _ - / + become =xx (spec appendices, "Mapping from other character sets").
    Not case-folded: that would make one account of two directory entries that differ as "ss" and "ß" do.
    ValueError if nothing is left or a character cannot be encoded.
    """
    folded = login.strip().lower()
    utf8_length(folded, "Uni-ID")
    mapped = "".join(chr(byte) if byte in _KEPT_BYTES else f"={byte:02x}" for byte in folded.encode())
    if not mapped:
        raise ValueError("The Uni-ID must not be empty")
    return mapped


def user_id_of(login: str, server_name: str) -> str:
    """The user ID of a Uni-ID on this server; ValueError if it would be longer than 255 bytes."""
    user_id = f"@{localpart_of(login)}:{server_name}"
    parse_user_id(user_id)
    return user_id


def new_room_id(server_name: str) -> str:
    """A new room ID for room versions before 12: 107 random bits."""
    return f"!{_random(18)}:{server_name}"


def new_device_id() -> str:
    """A new device ID: ten capital letters, as clients know them."""
    return "".join(secrets.choice(string.ascii_uppercase) for _ in range(10))


def new_token(length: int = 43) -> str:
    """A random secret of `length` letters and digits, 5.95 bits each (43: more than 255 bits)."""
    return _random(length)


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(length))


def _split(value: str, sigil: str, what: str) -> tuple[str, str]:
    check_length(value, what)
    localpart, colon, domain = value[1:].partition(":")
    if value[0] != sigil or not colon or not localpart:
        raise ValueError(f"The {what} must look like {sigil}name:server")
    return localpart, domain
