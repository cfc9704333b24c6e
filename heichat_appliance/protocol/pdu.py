"""Events as PDUs: making, reading, hashing, signing and verifying them.

Sources: spec rooms/v11 "Event format", server-server API "Signing Events", "Auth events selection" and "Size limits".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from heichat_appliance import ids
from heichat_appliance.protocol import canonicaljson
from heichat_appliance.protocol.redaction import redact, redact_content
from heichat_appliance.protocol.roomversions import RoomVersion

#: An event's canonical JSON with hashes and signatures has at most this many bytes (client-server API "Size limits").
MAX_EVENT_BYTES = 65536

StateKey = tuple[str, str]


class EventTooLarge(ValueError):
    """The event, or one of its identifiers, is beyond the size limits of the specification (M_TOO_LARGE)."""


class Signer:
    """This server's Ed25519 signing key. `key_id` is the whole identifier, e.g. "ed25519:a1b2"."""

    __slots__ = ("_seed_key", "key_id", "server_name", "verify_keys")

    def __init__(self, server_name: str, key_id: str, key: SigningKey) -> None:
        self.server_name = server_name
        self.key_id = key_id
        self._seed_key = key
        #: Public keys as the key API shows them: {key_id: unpadded Base64}.
        self.verify_keys: dict[str, str] = {key_id: _base64(bytes(key.verify_key))}

    def sign(self, message: bytes) -> str:
        """The signature of `message` in unpadded Base64."""
        return _base64(self._seed_key.sign(message).signature)

    def sign_json(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of a JSON object with this server's signature added (spec appendices, "Signing Details")."""
        bare = {key: item for key, item in value.items() if key not in ("signatures", "unsigned")}
        signatures = {name: dict(keys) for name, keys in value.get("signatures", {}).items()}
        signatures.setdefault(self.server_name, {})[self.key_id] = self.sign(canonicaljson.encode(bare))
        return {**value, "signatures": signatures}


class Pdu:
    """One event. `json` is what is stored: canonical JSON with hashes and signatures, without `unsigned`.

    `raw` is the same as a dict: treat it, and `content`, as read only. `state_key` is None for a message event;
    `redacts` is the target's event ID wherever the room version keeps it, for anything but a redaction None.
    """

    __slots__ = (
        "auth_events",
        "content",
        "depth",
        "event_id",
        "json",
        "origin_server_ts",
        "prev_events",
        "raw",
        "redacts",
        "room_id",
        "sender",
        "state_key",
        "type",
    )

    event_id: str
    room_id: str
    type: str
    state_key: str | None
    sender: str
    content: dict[str, Any]
    origin_server_ts: int
    depth: int
    prev_events: list[str]
    auth_events: list[str]
    redacts: str | None
    raw: dict[str, Any]
    json: bytes

    def __init__(self, version: RoomVersion, event_id: str, room_id: str, raw: dict[str, Any], json: bytes) -> None:
        self.event_id = event_id
        self.room_id = room_id
        self.type = raw["type"]
        self.state_key = raw.get("state_key")
        self.sender = raw["sender"]
        self.content = raw["content"]
        self.origin_server_ts = raw["origin_server_ts"]
        self.depth = raw["depth"]
        self.prev_events = raw["prev_events"]
        self.auth_events = raw["auth_events"]
        self.redacts = _redacts(version, raw) if self.type == "m.room.redaction" else None
        self.raw = raw
        self.json = json

    def __repr__(self) -> str:
        return f"<Pdu {self.type} {self.event_id} in {self.room_id}>"


def build(
    version: RoomVersion,
    *,
    room_id: str | None,
    type: str,
    sender: str,
    content: dict[str, Any],
    state_key: str | None,
    redacts: str | None = None,
    prev_events: list[str],
    auth_events: list[str],
    depth: int,
    origin_server_ts: int,
    signer: Signer,
) -> Pdu:
    """Make, hash and sign an event.

    `room_id` is None only for the create event of a version whose room ID is that event's hash. `redacts` is put where
    the version keeps it; `content` itself is not changed. Raises CanonicalJSONError (path beginning with "content"),
    EventTooLarge, or ValueError if `room_id` and the version do not go together.
    """
    if (room_id is None) != (version.room_id_is_create_hash and type == "m.room.create"):
        raise ValueError("Only the create event of a version 12 room goes without a room ID")
    _check_sizes(type=type, state_key=state_key, sender=sender, room_id=room_id)
    raw: dict[str, Any] = {
        "auth_events": auth_events,
        "content": content,
        "depth": depth,
        "hashes": None,
        "origin_server_ts": origin_server_ts,
        "prev_events": prev_events,
        "sender": sender,
        "signatures": None,
        "type": type,
    }
    if room_id is not None:
        raw["room_id"] = room_id
    if state_key is not None:
        raw["state_key"] = state_key
    if redacts is not None:
        if version.redacts_in_content:
            raw["content"] = {**content, "redacts": redacts}
        else:
            raw["redacts"] = redacts
    return _seal(version, raw, signer)


def _seal(version: RoomVersion, raw: dict[str, Any], signer: Signer) -> Pdu:
    """Fill in hashes and signatures of `raw`.

    The canonical JSON is put together from pieces in the order of the keys (auth_events, content, depth, hashes,
    origin_server_ts, prev_events, redacts, room_id, sender, signatures, state_key, type), so that a content is
    encoded once for the content hash, the signature and the stored bytes. The signed bytes are also those of the
    reference hash. Nothing but `content` and `redacts` of these keys is lost in a redaction, in any version.
    """
    content = canonicaljson.encode(raw["content"], "content")
    kept = redact_content(version, raw["type"], raw["content"])
    kept_content = b"{}" if not kept else canonicaljson.encode(kept, "content")
    head = b'{"auth_events":%b,"content":' % _dumps(raw["auth_events"])
    depth = b',"depth":%d' % raw["depth"]
    times = b',"origin_server_ts":%d,"prev_events":%b' % (raw["origin_server_ts"], _dumps(raw["prev_events"]))
    redacts = b',"redacts":%b' % _dumps(raw["redacts"]) if "redacts" in raw else b""
    room = b',"room_id":%b' % _dumps(raw["room_id"]) if "room_id" in raw else b""
    people = b'%b,"sender":%b' % (room, _dumps(raw["sender"]))
    state = b',"state_key":%b' % _dumps(raw["state_key"]) if "state_key" in raw else b""
    tail = b'%b,"type":%b}' % (state, _dumps(raw["type"]))

    digest = _base64(hashlib.sha256(b"".join((head, content, depth, times, redacts, people, tail))).digest())
    hashes = b',"hashes":{"sha256":"%b"}' % digest.encode()
    signed = b"".join((head, kept_content, depth, hashes, times, people, tail))
    raw["hashes"] = {"sha256": digest}
    raw["signatures"] = {signer.server_name: {signer.key_id: signer.sign(signed)}}
    signatures = b',"signatures":%b' % _dumps(raw["signatures"])
    json = b"".join((head, content, depth, hashes, times, redacts, people, signatures, tail))
    if len(json) > MAX_EVENT_BYTES:
        raise EventTooLarge(f"The event has {len(json)} bytes, more than the {MAX_EVENT_BYTES} that are allowed")
    event_id = _event_id(signed)
    return Pdu(version, event_id, raw["room_id"] if "room_id" in raw else "!" + event_id[1:], raw, json)


def load(version: RoomVersion, event_id: str, json: bytes | str, room_id: str) -> Pdu:
    """Read an event that this server stored. Nothing is verified; see verify."""
    raw = orjson.loads(json)
    return Pdu(version, event_id, room_id, raw, json.encode() if isinstance(json, str) else json)


def content_hash(raw: Mapping[str, Any]) -> str:
    """The content hash (unpadded Base64) of a PDU (server-server API, "Calculating the content hash")."""
    bare = {key: value for key, value in raw.items() if key not in ("unsigned", "signatures", "hashes")}
    return _base64(hashlib.sha256(canonicaljson.encode(bare)).digest())


def reference_hash(version: RoomVersion, raw: dict[str, Any]) -> bytes:
    """The reference hash (32 bytes) of a PDU (server-server API, "Calculating the reference hash")."""
    return hashlib.sha256(signed_bytes(version, raw)).digest()


def event_id_for(version: RoomVersion, raw: dict[str, Any]) -> str:
    """The event ID of a PDU: "$" and the reference hash in URL-safe unpadded Base64 (rooms/v4 "Event IDs")."""
    return _event_id(signed_bytes(version, raw))


def signed_bytes(version: RoomVersion, raw: dict[str, Any]) -> bytes:
    """What an event's signature and its reference hash cover: its redacted form without signatures and unsigned."""
    bare = redact(version, raw)
    bare.pop("signatures", None)
    bare.pop("unsigned", None)
    return canonicaljson.encode(bare)


def verify(
    version: RoomVersion,
    raw: dict[str, Any],
    verify_key: VerifyKey,
    *,
    server_name: str,
    key_id: str,
    event_id: str | None = None,
    redacted: bool = False,
) -> list[str]:
    """What is wrong with a stored PDU: a list of sentences, empty if it is whole.

    Checks the signature of `server_name` with `key_id`, the event ID if one is given, and the content hash unless
    the event was `redacted` (then its content is gone on purpose).
    """
    try:
        signed = signed_bytes(version, raw)
        expected_hash = None if redacted else content_hash(raw)
    except ValueError as error:
        return [f"The event has no canonical JSON: {error}"]
    problems = []
    if event_id is not None and event_id != _event_id(signed):
        problems.append(f"The event ID should be {_event_id(signed)}, not {event_id}")
    if expected_hash is not None and _lookup(raw, "hashes", "sha256") != expected_hash:
        problems.append("The content hash does not match the event")
    signature = _lookup(raw, "signatures", server_name, key_id)
    if not isinstance(signature, str):
        problems.append(f"The signature of {server_name} with key {key_id} is missing")
    elif not signature_is_valid(verify_key, signed, signature):
        problems.append(f"The signature of {server_name} with key {key_id} is wrong")
    return problems


def signature_is_valid(verify_key: VerifyKey, message: bytes, signature: str) -> bool:
    """Whether `signature` (Base64 with or without padding) is that of `message`."""
    try:
        verify_key.verify(message, decode_base64(signature))
    except (BadSignatureError, ValueError, TypeError):
        return False
    return True


def decode_base64(text: str) -> bytes:
    """Decode standard Base64, padded or not; ValueError if it is neither."""
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def auth_event_keys(
    version: RoomVersion, type: str, sender: str, state_key: str | None, content: Mapping[str, Any]
) -> list[StateKey]:
    """The (type, state key) pairs of the state that belongs into an event's auth_events.

    Server-server API, "Auth events selection". Pairs that the room's state does not have are left out by the caller.
    """
    if type == "m.room.create":
        return []
    keys = [("m.room.create", "")] if version.create_in_auth_events else []
    keys += [("m.room.power_levels", ""), ("m.room.member", sender)]
    if type == "m.room.member" and state_key is not None:
        keys += _member_auth_keys(sender, state_key, content)
    return keys


def _member_auth_keys(sender: str, target: str, content: Mapping[str, Any]) -> list[StateKey]:
    keys = [("m.room.member", target)] if target != sender else []
    membership = content.get("membership")
    if membership in ("join", "invite", "knock"):
        keys.append(("m.room.join_rules", ""))
    if membership == "invite":
        token = _lookup(content, "third_party_invite", "signed", "token")
        if isinstance(token, str):
            keys.append(("m.room.third_party_invite", token))
    authoriser = content.get("join_authorised_via_users_server")
    if membership == "join" and isinstance(authoriser, str) and authoriser not in (sender, target):
        keys.append(("m.room.member", authoriser))
    return keys


def _lookup(value: object, *path: str) -> object:
    """The value at a path of keys, None where one is missing or something on the way is not an object."""
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _redacts(version: RoomVersion, raw: dict[str, Any]) -> str | None:
    target = raw["content"].get("redacts") if version.redacts_in_content else raw.get("redacts")
    return target if isinstance(target, str) else None


def _check_sizes(*, type: str, state_key: str | None, sender: str, room_id: str | None) -> None:
    for name, value in (("type", type), ("state_key", state_key), ("sender", sender), ("room_id", room_id)):
        # Most are short ASCII: 63 characters of any kind are at most 252 bytes.
        if value is not None and len(value) > 63 and ids.utf8_length(value, name) > ids.MAX_BYTES:
            raise EventTooLarge(f"{name}: must not be longer than {ids.MAX_BYTES} bytes")


def _event_id(signed: bytes) -> str:
    return "$" + base64.urlsafe_b64encode(hashlib.sha256(signed).digest())[:43].decode()


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").decode()


def _dumps(value: str | Sequence[str] | Mapping[str, Any]) -> bytes:
    """Canonical JSON of strings, for which orjson's own check (no lone surrogates) is enough."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise canonicaljson.CanonicalJSONError(f"an identifier is not valid Unicode: {error}") from None
