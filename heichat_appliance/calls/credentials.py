"""Credentials of the relay: passwords that end with the time in the username, long-term keys, nonces without a store.

A person gets a username `expiry:user` and the password base64(HMAC-SHA1(secret, username)), as coturn's `use-auth-secret`
and draft-uberti-behave-turn-rest-00 have it: the server that hands them out and the relay share nothing but the secret.
Pure: the time comes in as seconds since 1970.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode

#: RFC 8489 section 14.3: a username has fewer than 509 bytes.
USERNAME_BYTES = 508

_TIME_BYTES, _MAC_BYTES = 3, 6


def credentials(secret: str, user_id: str, now: float, ttl: int) -> tuple[str, str]:
    """Username and password of `user_id` that are good from `now` (seconds since 1970) for `ttl` seconds."""
    username = f"{int(now) + ttl}:{user_id}"
    return username, password(secret, username)


def password(secret: str, username: str) -> str:
    """The password that belongs to a username."""
    return b64encode(hmac.digest(secret.encode(), username.encode(), "sha1")).decode()


def parse_username(username: str) -> tuple[int, str] | None:
    """(expiry in seconds since 1970, person) of a username `expiry:user`; None if it is none."""
    expiry, colon, person = username.partition(":")
    if not colon or not person or not expiry.isascii() or not expiry.isdigit() or len(expiry) > 12:
        return None
    return int(expiry), person


def long_term_key(username: str, realm: str, secret_password: str) -> bytes:
    """RFC 8489 section 9.2.2: the key of MESSAGE-INTEGRITY, MD5(username:realm:password), 16 bytes."""
    joined = f"{username}:{realm}:{secret_password}"
    return hashlib.md5(joined.encode(), usedforsecurity=False).digest()


class Nonces:
    """Nonces that are checked and not remembered: the time in minutes, and a MAC over it and the client's address.

    They are 12 characters, because an answer with a nonce goes to senders that are not known yet: short is safe.
    Nobody gains by guessing one, as a request needs the password too.
    """

    def __init__(self, secret: bytes, lifetime: int = 3600) -> None:
        """`secret` is random and lives as long as the process; `lifetime` in seconds."""
        self._secret, self._minutes = secret, max(1, lifetime // 60)

    def make(self, now: float, client: bytes) -> bytes:
        """A nonce for the client whose address, in whatever form, is `client`."""
        return self._sealed(int(now) // 60, client)

    def check(self, nonce: bytes, now: float, client: bytes) -> bool:
        """Whether this server made `nonce` for `client` in the lifetime before `now`."""
        try:
            minute = int.from_bytes(urlsafe_b64decode(nonce)[:_TIME_BYTES], "big")
        except ValueError:
            return False
        age = ((int(now) // 60) - minute) % 2**24
        return age <= self._minutes and hmac.compare_digest(nonce, self._sealed(minute, client))

    def _sealed(self, minute: int, client: bytes) -> bytes:
        time = (minute % 2**24).to_bytes(_TIME_BYTES, "big")
        return urlsafe_b64encode(time + hmac.digest(self._secret, time + client, "sha256")[:_MAC_BYTES])
