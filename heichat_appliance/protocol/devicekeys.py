"""Key objects of end-to-end encryption: their shape, and their signatures (really verified).

Sources: client-server API, "Key algorithms", "Uploading keys", "Cross-signing"; appendices, "Signing JSON". Everything
raises MatrixError 400: M_BAD_JSON for a wrong type, M_INVALID_PARAM for an impossible value, M_INVALID_SIGNATURE.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from heichat_appliance.errors import MatrixError, bad_json, invalid_param
from heichat_appliance.protocol import canonicaljson
from heichat_appliance.protocol.pdu import decode_base64

#: The most bytes of one key object in canonical JSON.
MAX_KEY_BYTES = 8 * 1024
#: The most characters of an algorithm or of the name of a key.
MAX_NAME = 255

_ALGORITHM = re.compile(r"[a-z][a-z0-9_.\-]*")
_UNPADDED = re.compile(r"[A-Za-z0-9+/]+")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class KeyObject:
    """A checked device key or cross-signing key: `bare` is its canonical JSON without signatures and unsigned;
    `public` the unpadded base64 of its Ed25519 key; `signatures` those by its owner, {"ed25519:ABC": signature},
    not verified yet."""

    bare: bytes
    public: str
    signatures: Mapping[str, str]


def is_algorithm(name: str) -> bool:
    """Whether this can be the name of an algorithm (appendices, "Common Namespaced Identifier Grammar")."""
    return len(name) <= MAX_NAME and _ALGORITHM.fullmatch(name) is not None


def invalid_signature(message: str) -> MatrixError:
    """400 `M_INVALID_SIGNATURE`."""
    return MatrixError(400, "M_INVALID_SIGNATURE", message)


def bare(value: Json, where: str) -> bytes:
    """The bytes that get signed: canonical JSON without `signatures` and `unsigned`; `where` names it in errors."""
    try:
        encoded = canonicaljson.encode({k: v for k, v in value.items() if k not in ("signatures", "unsigned")}, where)
    except canonicaljson.CanonicalJSONError as error:
        raise bad_json(str(error))
    if len(encoded) > MAX_KEY_BYTES:
        raise MatrixError(413, "M_TOO_LARGE", f"{where} has more than {MAX_KEY_BYTES} bytes")
    return encoded


def is_signed_by(public: str, message: bytes, signature: str) -> bool:
    """Whether `signature` (base64) is that of the Ed25519 key `public` (base64) over `message`."""
    try:
        VerifyKey(decode_base64(public)).verify(message, decode_base64(signature))
    except (CryptoError, ValueError, TypeError):
        return False
    return True


def signatures_by(value: Json, user_id: str, where: str) -> dict[str, str]:
    """The signatures of `user_id` on a key object, by key ID such as ed25519:ABC; other people's are left out."""
    found = value.get("signatures", {})
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise bad_json(f"{where}.signatures must be an object of objects")
    own: dict[str, str] = found.get(user_id, {})
    for key_id, signature in own.items():
        if not isinstance(signature, str) or len(signature) > MAX_NAME or len(key_id) > MAX_NAME:
            raise bad_json(f"{where}.signatures: every signature must be a string of base64")
    return own


def device_keys(value: object, user_id: str, device_id: str, where: str = "device_keys") -> KeyObject:
    """Check the identity keys of a device, and that its own Ed25519 key has signed them."""
    if not isinstance(value, dict):
        raise bad_json(f"{where} must be an object")
    if value.get("user_id") != user_id:
        raise invalid_param(f"{where}.user_id must be {user_id}")
    if value.get("device_id") != device_id:
        raise invalid_param(f"{where}.device_id must be {device_id}, the device of this session")
    algorithms, keys = value.get("algorithms"), value.get("keys")
    if not isinstance(algorithms, list) or not all(isinstance(each, str) for each in algorithms):
        raise bad_json(f"{where}.algorithms must be a list of strings")
    for algorithm in algorithms:
        if not is_algorithm(algorithm):
            raise invalid_param(f"{where}.algorithms: {algorithm[:MAX_NAME]!r} is not the name of an algorithm")
    if not isinstance(keys, dict) or not all(isinstance(each, str) for each in keys.values()):
        raise bad_json(f"{where}.keys must be an object of strings")
    for name, key in keys.items():
        algorithm, _, target = name.partition(":")
        if not is_algorithm(algorithm) or target != device_id:
            raise invalid_param(f"{where}.keys: {name[:MAX_NAME]!r} is not an algorithm, a colon and the device ID")
        if algorithm in ("ed25519", "curve25519"):
            _public_key(key, f"{where}.keys.{algorithm}")
    own_key = f"ed25519:{device_id}"
    if own_key not in keys:
        raise invalid_param(f"{where}.keys has no {own_key}")
    result = KeyObject(bare(value, where), keys[own_key], signatures_by(value, user_id, where))
    if not is_signed_by(result.public, result.bare, result.signatures.get(own_key, "")):
        raise invalid_signature(f"{where} is not signed by {own_key}")
    return result


def cross_signing_key(value: object, user_id: str, usage: str, where: str) -> KeyObject:
    """Check the shape of a cross-signing key of `usage` (master, self_signing or user_signing)."""
    if not isinstance(value, dict):
        raise bad_json(f"{where} must be an object")
    if value.get("user_id") != user_id:
        raise invalid_param(f"{where}.user_id must be {user_id}")
    usages, keys = value.get("usage"), value.get("keys")
    if not isinstance(usages, list) or usage not in usages:
        raise invalid_param(f"{where}.usage must be a list with {usage}")
    if not isinstance(keys, dict) or len(keys) != 1:
        raise invalid_param(f"{where}.keys must have exactly one key")
    ((name, key),) = keys.items()
    if not isinstance(key, str) or name != f"ed25519:{key}":
        raise invalid_param(f"{where}.keys must be an object with ed25519:<public key> and that public key")
    _public_key(key, f"{where}.keys")
    return KeyObject(bare(value, where), key, signatures_by(value, user_id, where))


def one_time_keys(
    value: object, user_id: str, device_id: str, public: str | None, where: str
) -> list[tuple[str, str, str]]:
    """Check one-time or fallback keys; returns (algorithm, key ID, key as canonical JSON) of each.

    An object must be signed by the device's Ed25519 key `public`; a plain string is only allowed for algorithms whose
    name does not begin with "signed_".
    """
    if not isinstance(value, dict):
        raise bad_json(f"{where} must be an object")
    found = []
    for name, key in value.items():
        algorithm, colon, key_id = name.partition(":")
        if len(name) > MAX_NAME or not _ALGORITHM.fullmatch(algorithm) or not colon or not key_id or "\0" in key_id:
            raise invalid_param(f"{where}: {name[:MAX_NAME]!r} is not an algorithm, a colon and the name of a key")
        place = f"{where}.{name}"
        if isinstance(key, dict):
            _check_signed_key(key, user_id, device_id, public, place)
        elif not isinstance(key, str) or algorithm.startswith("signed_"):
            raise bad_json(f"{place} must be an object with key and signatures")
        if algorithm in ("curve25519", "signed_curve25519"):
            _public_key(key if isinstance(key, str) else key["key"], place)
        found.append((algorithm, key_id, _encode(key, place)))
    return found


def _check_signed_key(key: Json, user_id: str, device_id: str, public: str | None, place: str) -> None:
    if not isinstance(key.get("key"), str):
        raise bad_json(f"{place}.key must be a string")
    if not isinstance(key.get("fallback", False), bool):
        raise bad_json(f"{place}.fallback must be true or false")
    if public is None:
        raise invalid_param(f"{place}: this device has not uploaded its device_keys, which must come first")
    signature = signatures_by(key, user_id, place).get(f"ed25519:{device_id}", "")
    if not is_signed_by(public, bare(key, place), signature):
        raise invalid_signature(f"{place} is not signed by ed25519:{device_id}")


def _encode(key: object, place: str) -> str:
    try:
        encoded = canonicaljson.encode(key, place)
    except canonicaljson.CanonicalJSONError as error:
        raise bad_json(str(error))
    if len(encoded) > MAX_KEY_BYTES:
        raise MatrixError(413, "M_TOO_LARGE", f"{place} has more than {MAX_KEY_BYTES} bytes")
    return encoded.decode()


def _public_key(key: str, where: str) -> None:
    if len(key) != 43 or not _UNPADDED.fullmatch(key):
        raise invalid_param(f"{where} must be 32 bytes in unpadded base64")
