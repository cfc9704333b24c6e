"""Device keys, one-time keys and fallback keys: upload, query, claim (spec, "Key management API")."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson
from twisted.internet.defer import Deferred

from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import MatrixError, bad_json, invalid_param
from heichat_appliance.protocol import devicekeys
from heichat_appliance.protocol.devicekeys import Json, KeyObject
from heichat_appliance.store import cross_signing, keys
from heichat_appliance.store.events import Execute

#: The most unclaimed one-time keys that a device may have of one algorithm.
MAX_ONE_TIME_KEYS = 200
#: The most algorithms of which a device may have one-time and fallback keys.
MAX_ALGORITHMS = 10
#: The most people of one query, and the most devices of one claim.
MAX_QUERIED = 5_000
MAX_CLAIMED = 5_000
#: A query for more people than this is answered in a reader thread.
INLINE_QUERY = 20
#: How many devices one write job claims for.
CLAIMS_PER_JOB = 50


class CheckedUpload(NamedTuple):
    """Keys that were checked: of the device, one-time and fallback ones as (algorithm, key ID, canonical JSON)."""

    device: KeyObject | None
    one_time: list[tuple[str, str, str]]
    fallback: list[tuple[str, str, str]]


class Keys:
    """Use cases over the keys of devices. `engine` stores them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # -- upload --------------------------------------------------------------------------------------------------

    def upload(self, user_id: str, device_id: str, body: Json) -> Deferred[Json]:
        """Store `device_keys`, `one_time_keys` and `fallback_keys` of a device, all or nothing.

        Returns {"one_time_key_counts": {algorithm: number}}. Raises 400 (shape, M_INVALID_SIGNATURE; identity keys that
        differ from those that the device has; a one-time key of a known name with other content), 413 M_TOO_LARGE.
        """
        checked = check_upload(self._engine.read, user_id, device_id, body)
        return self._engine.write(_upload, user_id, device_id, checked)

    # -- query ---------------------------------------------------------------------------------------------------

    def query(self, user_id: str, body: Json) -> Json | Deferred[Json]:
        """The devices and cross-signing keys of people, as `user_id` may see them; the answer of /keys/query.

        Users of other servers and unknown ones are left out. Raises 400 for a wrong shape, 413 M_TOO_LARGE.
        """
        asked = _asked_devices(body)
        if len(asked) <= INLINE_QUERY:
            return _query(self._engine.read, user_id, asked)
        return self._engine.read_in_thread(_query, user_id, asked)

    # -- claim ---------------------------------------------------------------------------------------------------

    def claim(self, body: Json) -> Deferred[Json]:
        """Hand out one key for each device asked for; the answer of /keys/claim.

        Devices without a key, unknown ones and those of other servers are left out. Raises 400, 413 M_TOO_LARGE; then no
        key was handed out.
        """
        wanted = _wanted_keys(body)
        parts = [wanted[start : start + CLAIMS_PER_JOB] for start in range(0, len(wanted), CLAIMS_PER_JOB)]
        return Deferred.fromCoroutine(self._claim_parts(parts))

    async def _claim_parts(self, parts: list[list[tuple[str, str, str]]]) -> Json:
        found: dict[str, dict[str, Json]] = {}
        for part in parts:
            for user_id, device_id, name, key in await self._engine.write(_claim, part):
                found.setdefault(user_id, {})[device_id] = {name: orjson.Fragment(key)}
        return {"one_time_keys": found, "failures": {}}


def check_upload(execute: Execute, user_id: str, device_id: str, body: Json) -> CheckedUpload:
    """Check `device_keys`, `one_time_keys` and `fallback_keys` of an upload with all signatures; for errors see
    `Keys.upload`."""
    device = None
    if body.get("device_keys") is not None:
        device = devicekeys.device_keys(body["device_keys"], user_id, device_id)
    public = device.public if device else _public_key(keys.device_keys(execute, user_id, device_id), device_id)
    found = []
    for field in ("one_time_keys", "fallback_keys"):
        value = body.get(field)
        if isinstance(value, dict) and len(value) > MAX_ONE_TIME_KEYS:
            raise MatrixError(413, "M_TOO_LARGE", f"{field}: at most {MAX_ONE_TIME_KEYS} keys at a time")
        found.append([] if value is None else devicekeys.one_time_keys(value, user_id, device_id, public, field))
    algorithms = [algorithm for algorithm, _, _ in found[1]]
    if len(algorithms) != len(set(algorithms)):
        raise invalid_param("fallback_keys: at most one key of each algorithm")
    return CheckedUpload(device, *found)


def store_upload(tx: Transaction, user_id: str, device_id: str, upload: CheckedUpload) -> None:
    """Store what `check_upload` gave, in a job; for errors see `Keys.upload`."""
    if upload.device is not None and _store_device_keys(tx, user_id, device_id, upload.device):
        keys.note_device_change(tx, user_id)
    for algorithm, key_id, key in upload.one_time:
        known = keys.one_time_key(tx.execute, user_id, device_id, algorithm, key_id)
        if known is None:
            keys.add_one_time_key(tx, user_id, device_id, algorithm, key_id, key)
        elif known != key:
            raise invalid_param(f"one_time_keys: another key was uploaded as {algorithm}:{key_id} already")
    for algorithm, key_id, key in upload.fallback:
        keys.put_fallback_key(tx, user_id, device_id, algorithm, key_id, key)
    for algorithm in {algorithm for algorithm, _, _ in upload.one_time}:
        keys.forget_old_claims(tx, user_id, device_id, algorithm)
        if keys.counts(tx.execute, user_id, device_id)[0].get(algorithm, 0) > MAX_ONE_TIME_KEYS:
            raise invalid_param(f"one_time_keys: the server keeps at most {MAX_ONE_TIME_KEYS} of {algorithm}")
    if keys.number_of_algorithms(tx.execute, user_id, device_id) > MAX_ALGORITHMS:
        raise invalid_param(f"one_time_keys, fallback_keys: a device has keys of at most {MAX_ALGORITHMS} algorithms")


def _upload(tx: Transaction, user_id: str, device_id: str, upload: CheckedUpload) -> Json:
    if not keys.device_exists(tx.execute, user_id, device_id):
        raise MatrixError(401, "M_UNKNOWN_TOKEN", "this device was logged out")
    store_upload(tx, user_id, device_id, upload)
    _count_changed(tx, user_id)
    return {"one_time_key_counts": keys.counts(tx.execute, user_id, device_id)[0]}


def _count_changed(tx: Transaction, user_id: str) -> None:
    """The person's next sync has other counts of keys."""
    tx.next_position()
    tx.users.add(user_id)


def _claim(tx: Transaction, wanted: list[tuple[str, str, str]]) -> list[tuple[str, str, str, str]]:
    found = []
    for user_id, device_id, algorithm in wanted:
        key = keys.claim(tx, user_id, device_id, algorithm)
        if key is not None:
            found.append((user_id, device_id, f"{algorithm}:{key[0]}", key[1]))
            _count_changed(tx, user_id)
    return found


def _wanted_keys(body: Json) -> list[tuple[str, str, str]]:
    asked = body.get("one_time_keys")
    if not isinstance(asked, dict):
        raise bad_json("one_time_keys must be an object")
    wanted = []
    for user_id, devices in asked.items():
        if not isinstance(devices, dict):
            raise bad_json(f"one_time_keys: {user_id[:255]} must be an object of device IDs")
        for device_id, algorithm in devices.items():
            if not isinstance(algorithm, str):
                raise bad_json(f"one_time_keys: {user_id[:255]}: every value must be the name of an algorithm")
            if not devicekeys.is_algorithm(algorithm):
                raise invalid_param(f"one_time_keys: {algorithm[:255]!r} is not the name of an algorithm")
            wanted.append((user_id, device_id, algorithm))
    if len(wanted) > MAX_CLAIMED:
        raise MatrixError(413, "M_TOO_LARGE", f"one_time_keys: at most {MAX_CLAIMED} devices at a time")
    return wanted


def _store_device_keys(tx: Transaction, user_id: str, device_id: str, device: KeyObject) -> bool:
    """Store identity keys with those signatures on them that can be verified; False if all were there already."""
    new, known = device.bare.decode(), keys.device_keys(tx.execute, user_id, device_id)
    changed = known != new
    if changed:
        if known is not None:
            _check_same_identity(known, device.bare, device_id)
        cross_signing.delete_signatures_on(tx, user_id, device_id)
        keys.put_device_keys(tx, user_id, device_id, new)
    signers = {f"ed25519:{device_id}": device.public}
    for key in cross_signing.keys_of(tx.execute, user_id).values():
        if key.usage == "self_signing":
            signers[f"ed25519:{key.key_id}"] = key.key_id
    for signer_key, signature in device.signatures.items():
        if signer_key not in signers:
            continue
        if not devicekeys.is_signed_by(signers[signer_key], device.bare, signature):
            raise devicekeys.invalid_signature(f"device_keys: the signature by {signer_key} is wrong")
        changed |= cross_signing.add_signature(tx, user_id, device_id, user_id, signer_key, signature)
    return changed


def _check_same_identity(known: str, new: bytes, device_id: str) -> None:
    """The Ed25519 and Curve25519 keys of a device never change: other devices rightly take that for an attack."""
    before, after = orjson.loads(known)["keys"], orjson.loads(new)["keys"]
    for algorithm in ("ed25519", "curve25519"):
        name = f"{algorithm}:{device_id}"
        if before.get(name) != after.get(name):
            raise invalid_param(f"device_keys.keys: this device has another {name} already; log in as a new device")


def _public_key(device_keys: str | None, device_id: str) -> str | None:
    if device_keys is None:
        return None
    public: str = orjson.loads(device_keys)["keys"][f"ed25519:{device_id}"]
    return public


def _asked_devices(body: Json) -> dict[str, frozenset[str]]:
    """The people asked for, each with the device IDs asked for (none: all)."""
    asked = body.get("device_keys")
    if not isinstance(asked, dict):
        raise bad_json("device_keys must be an object")
    if len(asked) > MAX_QUERIED:
        raise MatrixError(413, "M_TOO_LARGE", f"device_keys: at most {MAX_QUERIED} people at a time")
    found = {}
    for user_id, devices in asked.items():
        if not isinstance(devices, list) or not all(isinstance(each, str) for each in devices):
            raise bad_json(f"device_keys: {user_id[:255]} must be a list of device IDs")
        found[user_id] = frozenset(devices)
    return found


def _query(execute: Execute, reader: str, asked: dict[str, frozenset[str]]) -> Json:
    people = keys.known_people(execute, asked)
    signatures = cross_signing.signatures_visible_to(execute, reader, people)
    devices: dict[str, dict[str, Any]] = {user_id: {} for user_id in people}
    for user_id, device_id, name, stored in keys.device_keys_of_people(execute, people):
        if not asked[user_id] or device_id in asked[user_id]:
            unsigned = {"device_display_name": name} if name is not None else {}
            extra = {"signatures": signatures.get((user_id, device_id), {}), "unsigned": unsigned}
            devices[user_id][device_id] = _with(stored, extra)
    answer: Json = {"device_keys": devices, "failures": {}}
    for usage in ("master", "self_signing", "user_signing"):
        answer[f"{usage}_keys"] = {}
    for user_id, key in cross_signing.keys_of_people(execute, people):
        if key.usage == "user_signing" and user_id != reader:
            continue
        found = signatures.get((user_id, key.key_id))
        answer[f"{key.usage}_keys"][user_id] = _with(key.key, {"signatures": found} if found else {})
    return answer


def _with(stored: str, extra: Json) -> orjson.Fragment:
    """A stored JSON object (never empty) with more keys, spliced in as bytes."""
    return orjson.Fragment(stored[:-1] + "," + orjson.dumps(extra).decode()[1:] if extra else stored)
