"""The codec: the vectors of RFC 5769 and RFC 8489, what is refused, and the round trip."""

from __future__ import annotations

import hmac
import ipaddress
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heichat_appliance.calls import stun
from heichat_appliance.calls.credentials import long_term_key
from heichat_appliance.calls.stun import Builder, Malformed

SHORT_TERM = b"VOkJxbRl1RmTxUk/WvJxBt"
TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
#: RFC 5769 section 2.1.
REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff"
    "80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
    "80280004e57a3bcf"
)
#: Sections 2.2 and 2.3.
ANSWER4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f722000200008 0001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
ANSWER6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f722000200014 0002a147"
    "0113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)
#: Section 2.4.
LONG_TERM = bytes.fromhex(
    "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b90000"
    "0015001c662f2f3439396b39353464364f4c33346f4c39465354767936347341"
    "0014000b6578616d706c652e6f72670000080014f67024656dd64a3e02b8e0712e85c9a28ca89666"
)
#: RFC 8489 appendix B.1, with erratum 6268.
LONG_TERM_SHA256 = bytes.fromhex(
    "000100902112a44278ad3433c6ad72c029da412e001e00204a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704"
    "001500296f624d61744a6f733241414143662f2f3439396b39353464364f4c33346f4c394653547679363473410000 00"
    "0014000b6578616d706c652e6f726700001d000400020000"
    "001c0020b5c7bf005b6c52a21c51c5e892f819241362 96cb927c43149309278cc6518e65"
)
MATRIX, REALM = "マトリックス", "example.org"


def test_request_of_rfc_5769() -> None:
    message = stun.parse(REQUEST)
    assert (message.method, message.kind, message.transaction) == (stun.BINDING, stun.REQUEST, TRANSACTION)
    assert message.get(stun.SOFTWARE) == b"STUN test client"
    assert message.get(stun.USERNAME) == b"evtj:h6vY"
    assert message.has_fingerprint
    assert stun.integrity_holds(REQUEST, message, SHORT_TERM)
    assert not stun.integrity_holds(REQUEST, message, b"another")


@pytest.mark.parametrize(
    ("data", "address"),
    [(ANSWER4, ("192.0.2.1", 32853)), (ANSWER6, ("2001:db8:1234:5678:11:2233:4455:6677", 32853, 0, 0))],
)
def test_answers_of_rfc_5769(data: bytes, address: stun.Address) -> None:
    message = stun.parse(data)
    assert (message.method, message.kind) == (stun.BINDING, stun.SUCCESS)
    value = message.get(stun.XOR_MAPPED_ADDRESS)
    assert value is not None
    assert stun.parse_xor_address(value, message.transaction) == address
    assert stun.integrity_holds(data, message, SHORT_TERM)


@pytest.mark.parametrize(
    ("data", "address"),
    [(ANSWER4, ("192.0.2.1", 32853)), (ANSWER6, ("2001:db8:1234:5678:11:2233:4455:6677", 32853, 0, 0))],
)
def test_builder_makes_the_answers_of_rfc_5769_but_for_their_padding(data: bytes, address: stun.Address) -> None:
    builder = Builder(stun.BINDING, stun.SUCCESS, TRANSACTION).add(stun.SOFTWARE, b"test vector")
    built = builder.address(stun.XOR_MAPPED_ADDRESS, address).integrity(SHORT_TERM).fingerprint().build()
    at = data.index(b"\x00\x08\x00\x14")  # the vectors pad with spaces, which the integrity covers
    assert built[:at].replace(b"vector\0", b"vector ") == data[:at]
    assert stun.parse(built).attributes == stun.parse(data).attributes
    assert stun.integrity_holds(built, stun.parse(built), SHORT_TERM)


def test_long_term_request_of_rfc_5769() -> None:
    message = stun.parse(LONG_TERM)
    assert message.get(stun.USERNAME) == MATRIX.encode()
    assert message.get(stun.REALM) == REALM.encode()
    assert stun.integrity_holds(LONG_TERM, message, long_term_key(MATRIX, REALM, "TheMatrIX"))
    assert not stun.integrity_holds(LONG_TERM, message, long_term_key(MATRIX, REALM, "TheMatrix"))


def test_long_term_request_of_rfc_8489() -> None:
    message = stun.parse(LONG_TERM_SHA256)
    key = sha256(f"{MATRIX}:{REALM}:TheMatrIX".encode()).digest()
    assert message.integrity256_at and not message.integrity_at
    assert stun.integrity_holds(LONG_TERM_SHA256, message, key)
    assert message.unknown(frozenset({stun.REALM, stun.NONCE})) == [0x001E, 0x001D]


def test_without_integrity_none_holds() -> None:
    data = Builder(stun.BINDING, stun.REQUEST, TRANSACTION).build()
    assert not stun.integrity_holds(data, stun.parse(data), b"")


def test_a_shortened_sha256_counts_down_to_sixteen_bytes() -> None:
    body = Builder(stun.BINDING, stun.REQUEST, TRANSACTION).build()
    for size, fine in ((32, True), (16, True), (12, False)):
        builder = Builder(stun.BINDING, stun.REQUEST, TRANSACTION)
        covered = body[:2] + (4 + size).to_bytes(2, "big") + body[4:]
        builder.add(stun.MESSAGE_INTEGRITY_SHA256, hmac.digest(b"key", covered, "sha256")[:size])
        data = builder.build()
        if fine:
            assert stun.integrity_holds(data, stun.parse(data), b"key")
        else:
            with pytest.raises(Malformed):
                stun.parse(data)


def test_of_both_kinds_of_integrity_the_stronger_counts() -> None:
    builder = Builder(stun.BINDING, stun.REQUEST, TRANSACTION).integrity(b"key").integrity256(b"other")
    data = builder.build()
    assert not stun.integrity_holds(data, stun.parse(data), b"key")
    assert stun.integrity_holds(data, stun.parse(data), b"other")


def test_attributes_behind_the_integrity_do_not_count() -> None:
    builder = Builder(stun.ALLOCATE, stun.REQUEST, TRANSACTION).add(stun.USERNAME, b"alice").integrity(b"key")
    data = builder.add(stun.LIFETIME, b"\0\0\0\1").add(0x7777, b"").build()
    message = stun.parse(data)
    assert message.attributes == ((stun.USERNAME, b"alice"),)
    assert stun.integrity_holds(data, message, b"key")


BINDING = Builder(stun.BINDING, stun.REQUEST, TRANSACTION).build()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        BINDING[:19],
        b"\x40" + BINDING[1:],
        b"\x80" + BINDING[1:],
        BINDING[:4] + b"\0\0\0\0" + BINDING[8:],
        BINDING + b"\0",
        BINDING + b"\0\0\0\0",
        BINDING[:2] + b"\0\4" + BINDING[4:],
        BINDING[:2] + b"\0\3" + BINDING[4:] + b"abc",
        BINDING[:2] + b"\0\4" + BINDING[4:] + b"\0\6\0\1",
        BINDING[:2] + b"\0\x08" + BINDING[4:] + b"\0\x08\0\4abcd",
        BINDING[:2] + b"\0\x08" + BINDING[4:] + b"\x80\x28\0\4abcd",
        REQUEST[:-1] + b"\0",
        Builder(1, 0, TRANSACTION).fingerprint().add(stun.SOFTWARE, b"late").build(),
        BINDING[:2] + (33 * 4).to_bytes(2, "big") + BINDING[4:] + b"\x80\x22\0\0" * 33,
    ],
)
def test_malformed_messages(data: bytes) -> None:
    with pytest.raises(Malformed):
        stun.parse(data)


@pytest.mark.parametrize("value", [b"", b"\0\1\0\0abc", b"\0\2\0\0abcd", b"\0\3\0\0abcd", b"\0\1" + bytes(18)])
def test_malformed_addresses(value: bytes) -> None:
    with pytest.raises(Malformed):
        stun.parse_xor_address(value, TRANSACTION)


@pytest.mark.parametrize("value", [b"", b"\0\0\2\0", b"\0\0\7\0", b"\0\0\4\x64", b"\0\0\4\1\xff"])
def test_malformed_errors(value: bytes) -> None:
    with pytest.raises(Malformed):
        stun.parse_error(value)


def test_a_scope_is_not_told() -> None:
    value = stun.xor_address(("fe80::1%eth0", 9, 0, 2), TRANSACTION)
    assert stun.parse_xor_address(value, TRANSACTION) == ("fe80::1", 9, 0, 0)


ORDINARY = st.integers(0, 0xFFFF).filter(
    lambda each: each not in (stun.MESSAGE_INTEGRITY, stun.MESSAGE_INTEGRITY_SHA256, stun.FINGERPRINT)
)


@given(
    method=st.integers(0, 0xFFF),
    kind=st.integers(0, 3),
    transaction=st.binary(min_size=12, max_size=12),
    attributes=st.lists(st.tuples(ORDINARY, st.binary(max_size=80)), max_size=20),
    key=st.binary(min_size=1, max_size=40),
    ending=st.sampled_from(["", "sha1", "sha256", "both"]),
    fingerprint=st.booleans(),
)
def test_round_trip(
    method: int,
    kind: int,
    transaction: bytes,
    attributes: list[tuple[int, bytes]],
    key: bytes,
    ending: str,
    fingerprint: bool,
) -> None:
    builder = Builder(method, kind, transaction)
    for attribute, value in attributes:
        builder.add(attribute, value)
    if ending in ("sha1", "both"):
        builder.integrity(key)
    if ending in ("sha256", "both"):
        builder.integrity256(key)
    if fingerprint:
        builder.fingerprint()
    data = builder.build()
    message = stun.parse(data)
    assert (message.method, message.kind, message.transaction) == (method, kind, transaction)
    assert list(message.attributes) == attributes
    assert message.has_fingerprint == fingerprint
    assert stun.integrity_holds(data, message, key) == bool(ending)
    assert not stun.integrity_holds(data, message, key + b"x")
    for attribute, value in attributes:
        assert message.all(attribute)[0] == message.get(attribute)
        assert value in message.all(attribute)


@given(
    st.one_of(
        st.tuples(st.ip_addresses(v=4).map(str), st.integers(0, 65535)),
        st.tuples(st.ip_addresses(v=6).map(str), st.integers(0, 65535), st.just(0), st.just(0)),
    ),
    st.binary(min_size=12, max_size=12),
)
def test_addresses_round_trip(address: stun.Address, transaction: bytes) -> None:
    found = stun.parse_xor_address(stun.xor_address(address, transaction), transaction)
    assert ipaddress.ip_address(found[0]) == ipaddress.ip_address(address[0])
    assert found[1:] == address[1:]


@given(st.binary(max_size=200))
def test_whatever_comes_is_a_message_or_malformed(data: bytes) -> None:
    try:
        message = stun.parse(data)
    except Malformed:
        return
    assert len(message.attributes) <= stun.MAX_ATTRIBUTES
