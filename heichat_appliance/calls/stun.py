"""Messages of STUN (RFC 8489) and the attributes of TURN (RFC 8656): bytes in, bytes out, nothing else.

Strict: what is not a well-formed message is `Malformed`, and nothing else is ever raised on bytes from outside.
Addresses are what sockets take and give: ("192.0.2.1", port) or ("2001:db8::1", port, 0, 0).
"""

from __future__ import annotations

import hmac
import zlib
from dataclasses import dataclass
from hashlib import sha1, sha256
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from struct import Struct

Address = tuple[str, int] | tuple[str, int, int, int]

COOKIE = 0x2112A442
HEADER_BYTES = 20
#: A message with more attributes than any client sends is refused: what a stranger can make us do is bounded.
MAX_ATTRIBUTES = 32

REQUEST, INDICATION, SUCCESS, ERROR = range(4)
BINDING, ALLOCATE, REFRESH, SEND, DATA_METHOD, CREATE_PERMISSION, CHANNEL_BIND = 1, 3, 4, 6, 7, 8, 9

USERNAME, MESSAGE_INTEGRITY, ERROR_CODE, UNKNOWN_ATTRIBUTES = 0x0006, 0x0008, 0x0009, 0x000A
CHANNEL_NUMBER, LIFETIME, XOR_PEER_ADDRESS, DATA, REALM, NONCE = 0x000C, 0x000D, 0x0012, 0x0013, 0x0014, 0x0015
XOR_RELAYED_ADDRESS, REQUESTED_ADDRESS_FAMILY, EVEN_PORT, REQUESTED_TRANSPORT = 0x0016, 0x0017, 0x0018, 0x0019
DONT_FRAGMENT, MESSAGE_INTEGRITY_SHA256, XOR_MAPPED_ADDRESS, RESERVATION_TOKEN = 0x001A, 0x001C, 0x0020, 0x0022
ADDITIONAL_ADDRESS_FAMILY, ADDRESS_ERROR_CODE, SOFTWARE, FINGERPRINT = 0x8000, 0x8001, 0x8022, 0x8028

#: Values of the family fields in addresses and in REQUESTED-ADDRESS-FAMILY.
IPV4, IPV6 = 1, 2

_HEADER = Struct("!HHI12s")
_ATTRIBUTE = Struct("!HH")
_COOKIE_BYTES = COOKIE.to_bytes(4, "big")
_FINGERPRINT_XOR = 0x5354554E


class Malformed(ValueError):
    """These bytes are no STUN message, or an attribute is not what its type says."""


@dataclass(frozen=True, slots=True)
class Message:
    """A parsed message.

    `attributes` are (type, value) in order; those behind the integrity are left out, as RFC 8489 section 14.5 says.
    """

    method: int
    kind: int
    transaction: bytes
    attributes: tuple[tuple[int, bytes], ...]
    #: Where MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256 begin in the datagram; 0 without.
    integrity_at: int = 0
    integrity256_at: int = 0
    has_fingerprint: bool = False

    def get(self, attribute: int) -> bytes | None:
        """The first value of an attribute; None without."""
        for found, value in self.attributes:
            if found == attribute:
                return value
        return None

    def all(self, attribute: int) -> list[bytes]:
        """Every value of an attribute, in order."""
        return [value for found, value in self.attributes if found == attribute]

    def unknown(self, known: frozenset[int]) -> list[int]:
        """Attributes that must be understood (types below 0x8000) and are not in `known`."""
        return list(dict.fromkeys(found for found, _ in self.attributes if found < 0x8000 and found not in known))


def parse(data: bytes) -> Message:
    """The message in one datagram or frame. Raises Malformed; a wrong FINGERPRINT is malformed too (RFC 8489 7.3)."""
    if len(data) < HEADER_BYTES:
        raise Malformed("shorter than a header")
    first, length, cookie, transaction = _HEADER.unpack_from(data)
    if first & 0xC000 or cookie != COOKIE or length & 3 or length != len(data) - HEADER_BYTES:
        raise Malformed("not a STUN header")
    attributes: list[tuple[int, bytes]] = []
    integrity_at = integrity256_at = 0
    has_fingerprint = False
    at, end, count = HEADER_BYTES, len(data), 0
    while at < end:
        attribute, size = _ATTRIBUTE.unpack_from(data, at)
        after = at + 4 + (size + 3 & ~3)
        count += 1
        if after > end or has_fingerprint or count > MAX_ATTRIBUTES:
            raise Malformed("attributes do not fit")
        if attribute == FINGERPRINT:
            _check_fingerprint(data, at, size)
            has_fingerprint = True
        elif attribute == MESSAGE_INTEGRITY_SHA256:
            if not integrity256_at:
                if not 16 <= size <= 32 or size & 3:
                    raise Malformed("MESSAGE-INTEGRITY-SHA256 has a wrong length")
                integrity256_at = at
        elif integrity_at or integrity256_at:
            pass  # behind the integrity: anybody may have put it there
        elif attribute == MESSAGE_INTEGRITY:
            if size != 20:
                raise Malformed("MESSAGE-INTEGRITY has a wrong length")
            integrity_at = at
        else:
            attributes.append((attribute, data[at + 4 : at + 4 + size]))
        at = after
    return Message(
        method=(first & 0xF) | (first >> 1 & 0x70) | (first >> 2 & 0xF80),
        kind=(first >> 7 & 2) | (first >> 4 & 1),
        transaction=transaction,
        attributes=tuple(attributes),
        integrity_at=integrity_at,
        integrity256_at=integrity256_at,
        has_fingerprint=has_fingerprint,
    )


def _check_fingerprint(data: bytes, at: int, size: int) -> None:
    if size != 4 or at + 8 != len(data) or int.from_bytes(data[at + 4 :], "big") != _crc(data[:at]):
        raise Malformed("FINGERPRINT is wrong")


def _crc(data: bytes | bytearray) -> int:
    return zlib.crc32(data) ^ _FINGERPRINT_XOR


def _with_length(data: bytes, at: int, attribute_bytes: int) -> bytes:
    """The first `at` bytes of a message, with the length that ends behind the integrity attribute (RFC 8489 14.5)."""
    return data[:2] + (at + attribute_bytes - HEADER_BYTES).to_bytes(2, "big") + data[4:at]


def integrity_holds(data: bytes, message: Message, key: bytes) -> bool:
    """Whether the integrity of `message`, parsed from `data`, was made with `key`; the SHA-256 one counts if both are there."""
    if at := message.integrity256_at:
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        made = hmac.digest(key, _with_length(data, at, 4 + size), sha256)[:size]
        return hmac.compare_digest(made, data[at + 4 : at + 4 + size])
    if at := message.integrity_at:
        return hmac.compare_digest(hmac.digest(key, _with_length(data, at, 24), sha1), data[at + 4 : at + 24])
    return False


class Builder:
    """Makes one message: `add` attributes in order, then `integrity`, then `fingerprint`, then `build`."""

    def __init__(self, method: int, kind: int, transaction: bytes) -> None:
        word = (method & 0xF) | (method & 0x70) << 1 | (method & 0xF80) << 2 | (kind & 2) << 7 | (kind & 1) << 4
        self._transaction = transaction
        self._data = bytearray(_HEADER.pack(word, 0, COOKIE, transaction))

    def __len__(self) -> int:
        return len(self._data)

    def add(self, attribute: int, value: bytes) -> Builder:
        """One attribute, padded with zeros."""
        self._data += _ATTRIBUTE.pack(attribute, len(value)) + value + b"\0" * (-len(value) & 3)
        self._length(0)
        return self

    def address(self, attribute: int, address: Address) -> Builder:
        """One of the XOR-…-ADDRESS attributes."""
        return self.add(attribute, xor_address(address, self._transaction))

    def error(self, code: int, reason: str = "") -> Builder:
        """ERROR-CODE; the reason is for people who debug, and may be empty."""
        return self.add(ERROR_CODE, bytes((0, 0, code // 100, code % 100)) + reason.encode())

    def integrity(self, key: bytes) -> Builder:
        """MESSAGE-INTEGRITY over all that is there so far."""
        self._length(24)
        return self.add(MESSAGE_INTEGRITY, hmac.digest(key, self._data, sha1))

    def integrity256(self, key: bytes) -> Builder:
        """MESSAGE-INTEGRITY-SHA256 over all that is there so far."""
        self._length(36)
        return self.add(MESSAGE_INTEGRITY_SHA256, hmac.digest(key, self._data, sha256))

    def fingerprint(self) -> Builder:
        """FINGERPRINT, which is the last."""
        self._length(8)
        return self.add(FINGERPRINT, _crc(self._data).to_bytes(4, "big"))

    def build(self) -> bytes:
        """The message."""
        return bytes(self._data)

    def _length(self, more: int) -> None:
        self._data[2:4] = (len(self._data) + more - HEADER_BYTES).to_bytes(2, "big")


def xor_address(address: Address, transaction: bytes) -> bytes:
    """The value of XOR-MAPPED-ADDRESS and its kin (RFC 8489 14.2)."""
    host = address[0].partition("%")[0]
    if ":" in host:
        family, packed = IPV6, inet_pton(AF_INET6, host)
    else:
        family, packed = IPV4, inet_pton(AF_INET, host)
    return bytes((0, family)) + (address[1] ^ COOKIE >> 16).to_bytes(2, "big") + _xor(packed, transaction)


def parse_xor_address(value: bytes, transaction: bytes) -> Address:
    """The address in the value of an XOR-…-ADDRESS attribute. Raises Malformed."""
    if len(value) == 8 and value[1] == IPV4:
        return inet_ntop(AF_INET, _xor(value[4:], transaction)), int.from_bytes(value[2:4], "big") ^ COOKIE >> 16
    if len(value) == 20 and value[1] == IPV6:
        port = int.from_bytes(value[2:4], "big") ^ COOKIE >> 16
        return inet_ntop(AF_INET6, _xor(value[4:], transaction)), port, 0, 0
    raise Malformed("not an address")


def _xor(packed: bytes, transaction: bytes) -> bytes:
    size = len(packed)
    mask = (_COOKIE_BYTES + transaction)[:size]
    return (int.from_bytes(packed, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")


def parse_error(value: bytes) -> tuple[int, str]:
    """(code, reason) of an ERROR-CODE. Raises Malformed."""
    if len(value) < 4 or not 3 <= value[2] & 7 <= 6 or value[3] > 99:
        raise Malformed("not an error code")
    try:
        return (value[2] & 7) * 100 + value[3], value[4:].decode()
    except UnicodeDecodeError:
        raise Malformed("the reason is not UTF-8")


def unknown_attributes(types: list[int]) -> bytes:
    """The value of UNKNOWN-ATTRIBUTES."""
    return b"".join(each.to_bytes(2, "big") for each in types)
