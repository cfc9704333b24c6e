"""Credentials that end with the time in the username, and nonces that are not remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heichat_appliance.calls.credentials import Nonces, credentials, long_term_key, parse_username, password


def test_credentials_are_those_of_coturn() -> None:
    # openssl: printf '1800086400:@alice:test' | openssl dgst -sha1 -hmac sesame -binary | base64
    username, secret = credentials("sesame", "@alice:test", 1_800_000_000.9, 86400)
    assert username == "1800086400:@alice:test"
    assert secret == password("sesame", username) == "m6aOoAmZ3TRSQUArGD3s3zXw1tA="
    assert parse_username(username) == (1_800_086_400, "@alice:test")


@pytest.mark.parametrize(
    "username", ["", "1", ":", "1:", ":a", "x:a", "-1:a", "1.5:a", "+1:a", " 1:a", "٣:a", "1" * 13 + ":a"]
)
def test_other_usernames(username: str) -> None:
    assert parse_username(username) is None


@given(st.text(min_size=1, max_size=50), st.integers(0, 10**11))
def test_usernames_round_trip(person: str, expiry: int) -> None:
    assert parse_username(f"{expiry}:{person}") == (expiry, person)


def test_long_term_key() -> None:
    assert long_term_key("user", "realm", "pass").hex() == "8493fbc53ba582fb4c044c456bdc40eb"  # RFC 8489 9.2.2


def test_nonces() -> None:
    nonces, now = Nonces(b"k" * 32, lifetime=600), 1_800_000_000
    nonce = nonces.make(now, b"alice")
    assert len(nonce) == 12
    assert nonces.check(nonce, now, b"alice") and nonces.check(nonce, now + 600, b"alice")
    assert not nonces.check(nonce, now + 661, b"alice")
    assert not nonces.check(nonce, now - 61, b"alice")
    assert not nonces.check(nonce, now, b"bob")
    assert not Nonces(b"l" * 32).check(nonce, now, b"alice")


@given(st.binary(max_size=40))
def test_made_up_nonces(nonce: bytes) -> None:
    assert not Nonces(b"k" * 32).check(nonce, 1_800_000_000, b"alice")
