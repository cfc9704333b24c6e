"""Cross-signing keys, and the signatures of people on devices and on each other (spec, "Cross-signing")."""

from __future__ import annotations

from typing import Any

import orjson
from twisted.internet.defer import Deferred

from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import MatrixError, bad_json, forbidden, invalid_param, missing_param, not_found
from heichat_appliance.protocol import devicekeys
from heichat_appliance.protocol.devicekeys import Json, KeyObject, invalid_signature
from heichat_appliance.services.sessions import Session
from heichat_appliance.services.uia import Uia
from heichat_appliance.store import cross_signing as store
from heichat_appliance.store import keys
from heichat_appliance.store.cross_signing import CrossSigningKey
from heichat_appliance.store.events import Execute

USAGES = ("master", "self_signing", "user_signing")
#: The most signed objects of one request.
MAX_SIGNED = 200


class _ProofNeeded(Exception):
    """Keys would be replaced, and the person has not proved who they are."""


class CrossSigning:
    """Use cases over cross-signing keys. `uia` is asked when keys are replaced."""

    def __init__(self, engine: Engine, uia: Uia) -> None:
        self._engine = engine
        self._uia = uia

    # -- keys ----------------------------------------------------------------------------------------------------

    def upload(self, session: Session, body: Json, peer: str) -> Deferred[Json]:
        """Store the cross-signing keys of a person, all or nothing; returns {}.

        Needs user-interactive authentication (401) if there is a master key and the request has any new key. Raises 400
        M_INVALID_SIGNATURE, M_MISSING_PARAM (no master key), M_INVALID_PARAM; 403 if a key's name is a device ID.
        """
        new = {}
        for usage in USAGES:
            value = body.get(f"{usage}_key")
            if value is not None:
                new[usage] = devicekeys.cross_signing_key(value, session.user_id, usage, f"{usage}_key")
        if len({key.public for key in new.values()}) < len(new):
            raise invalid_param("master_key, self_signing_key and user_signing_key must be different keys")
        return Deferred.fromCoroutine(self._upload(session, new, body, peer))

    async def _upload(self, session: Session, new: dict[str, KeyObject], body: Json, peer: str) -> Json:
        try:
            await self._engine.write(_store_keys, session.user_id, new, False)
        except _ProofNeeded:
            await self._uia.require(session, "POST /keys/device_signing/upload", body, peer)
            await self._engine.write(_store_keys, session.user_id, new, True)
        return {}

    # -- signatures ----------------------------------------------------------------------------------------------

    def upload_signatures(self, user_id: str, body: Json) -> Deferred[Json]:
        """Store signatures that a person made on their devices, their master key or other people's master keys.

        Returns {"failures": {user ID: {key: error}}}: each signed object is stored or refused on its own. Raises 400
        for a wrong shape, 413 M_TOO_LARGE.
        """
        signed = []
        for owner, objects in body.items():
            if not isinstance(objects, dict) or not all(isinstance(each, dict) for each in objects.values()):
                raise bad_json(f"{owner[:255]} must be an object of signed objects")
            signed += [(owner, name, each) for name, each in objects.items()]
        if len(signed) > MAX_SIGNED:
            raise MatrixError(413, "M_TOO_LARGE", f"at most {MAX_SIGNED} signed objects at a time")
        return self._engine.write(_store_signatures, user_id, signed)


def _store_keys(tx: Transaction, user_id: str, new: dict[str, KeyObject], proved: bool) -> None:
    known = store.keys_of(tx.execute, user_id)
    master = new["master"].public if "master" in new else None
    if master is None:
        if "master" not in known:
            raise missing_param("master_key is missing, and there is none from before")
        master = known["master"].key_id
    for usage, key in new.items():
        if keys.device_exists(tx.execute, user_id, key.public):
            raise forbidden(f"{usage}_key: this key is the ID of one of your devices")
        if usage != "master" and not devicekeys.is_signed_by(
            master, key.bare, key.signatures.get(f"ed25519:{master}", "")
        ):
            raise invalid_signature(f"{usage}_key is not signed by the master key")
    changed = {usage for usage, key in new.items() if usage not in known or known[usage].key != key.bare.decode()}
    if changed and "master" in known and not proved:
        raise _ProofNeeded
    if "master" in changed:
        for usage in USAGES:  # what the old master key signed is worth nothing under a new one
            store.delete_key(tx, user_id, usage)
    for usage in changed:
        store.put_key(tx, user_id, CrossSigningKey(usage, new[usage].public, new[usage].bare.decode()))
    for usage, key in new.items():
        signers = _signers_of_key(tx.execute, user_id, usage, master)
        if _add_signatures(tx, user_id, key, signers, f"{usage}_key"):
            changed.add(usage)
    if changed:
        keys.note_device_change(tx, user_id)


def _signers_of_key(execute: Execute, user_id: str, usage: str, master: str) -> dict[str, str]:
    """Who may sign a cross-signing key of their own: the master key; the master key itself also one's devices."""
    signers = {f"ed25519:{master}": master}
    if usage == "master":
        for _, device_id, _, stored in keys.device_keys_of_people(execute, [user_id]):
            signers[f"ed25519:{device_id}"] = orjson.loads(stored)["keys"][f"ed25519:{device_id}"]
    return signers


def _add_signatures(tx: Transaction, user_id: str, key: KeyObject, signers: dict[str, str], where: str) -> bool:
    """Store those signatures that came with a key and whose signer is known; whether any was new."""
    added = False
    for signer, signature in key.signatures.items():
        if signer in signers:
            if not devicekeys.is_signed_by(signers[signer], key.bare, signature):
                raise invalid_signature(f"{where}: the signature by {signer} is wrong")
            added |= store.add_signature(tx, user_id, key.public, user_id, signer, signature)
    return added


def _store_signatures(tx: Transaction, user_id: str, signed: list[tuple[str, str, Json]]) -> Json:
    failures: dict[str, dict[str, Any]] = {}
    own_changed, others = False, set()
    for owner, name, value in signed:
        try:
            added = _store_signed(tx, user_id, owner, name, value)
        except MatrixError as error:
            failures.setdefault(owner, {})[name] = error.body()
            continue
        if added and owner == user_id:
            own_changed = True
        elif added:
            others.add(owner)
    if own_changed:
        keys.note_device_change(tx, user_id)
    for owner in others:
        keys.note_signed_person(tx, owner, user_id)
    return {"failures": failures}


def _store_signed(tx: Transaction, user_id: str, owner: str, name: str, value: Json) -> bool:
    """Store the signatures of `user_id` on one object of `owner`; whether any was new."""
    signatures = devicekeys.signatures_by(value, user_id, name)
    if not signatures:
        raise invalid_signature(f"the object has no signature of {user_id}")
    stored, signers = _target(tx.execute, user_id, owner, name)
    if devicekeys.bare(value, name) != stored.encode():
        raise invalid_signature("the object differs from the one that the server has")
    for signer, signature in signatures.items():
        if signer in signers:
            if not devicekeys.is_signed_by(signers[signer], stored.encode(), signature):
                raise invalid_signature(f"the signature by {signer} is wrong")
        elif signer != f"ed25519:{name}":  # a device's signature on itself comes along and is known already
            raise invalid_signature(f"{signer} may not sign this object, or is not known")
    new = [
        store.add_signature(tx, owner, name, user_id, signer, signature)
        for signer, signature in signatures.items()
        if signer in signers
    ]
    return any(new)


def _target(execute: Execute, user_id: str, owner: str, name: str) -> tuple[str, dict[str, str]]:
    """The stored object that gets signed, and the keys of `user_id` that may sign it: {"ed25519:ABC": public key}.

    Own devices: the self-signing key. Own master key: own devices. Another person's master key: the user-signing key.
    Source: spec, "Key and signature security".
    """
    own = store.keys_of(execute, user_id)
    master = (own if owner == user_id else store.keys_of(execute, owner)).get("master")
    if master is not None and master.key_id == name:
        if owner == user_id:
            return master.key, _signers_of_key(execute, user_id, "master", name)
        return master.key, _as_signer(own.get("user_signing"))
    device = keys.device_keys(execute, user_id, name) if owner == user_id else None
    if device is None:
        raise not_found("there is no device of yours and no master key of this name")
    return device, _as_signer(own.get("self_signing"))


def _as_signer(key: CrossSigningKey | None) -> dict[str, str]:
    return {} if key is None else {f"ed25519:{key.key_id}": key.key_id}
