"""Keys as a client has them: devices that sign, and people with cross-signing keys."""

from __future__ import annotations

import base64
from typing import Any

from nacl.signing import SigningKey

from heichat_appliance.protocol import canonicaljson

ALGORITHMS = ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"]


def b64(data: bytes) -> str:
    """Unpadded base64."""
    return base64.b64encode(data).rstrip(b"=").decode()


class Signer:
    """An Ed25519 key pair of a user, called `name` after the colon of its key ID (default: its public key)."""

    def __init__(self, user_id: str, name: str | None = None) -> None:
        self.user_id = user_id
        self.key = SigningKey.generate()
        self.public = b64(bytes(self.key.verify_key))
        self.key_id = f"ed25519:{name or self.public}"

    def sign(self, value: dict[str, Any]) -> dict[str, Any]:
        """A copy of `value` with this key's signature added."""
        bare = {k: v for k, v in value.items() if k not in ("signatures", "unsigned")}
        signatures = {user: dict(found) for user, found in value.get("signatures", {}).items()}
        signature = b64(self.key.sign(canonicaljson.encode(bare)).signature)
        signatures.setdefault(self.user_id, {})[self.key_id] = signature
        return {**value, "signatures": signatures}


class DeviceKit(Signer):
    """The keys of a device."""

    def __init__(self, user_id: str, device_id: str) -> None:
        super().__init__(user_id, device_id)
        self.device_id = device_id
        self.curve = b64(bytes(SigningKey.generate().verify_key))
        self._made = 0

    def device_keys(self, **extra: Any) -> dict[str, Any]:
        """The signed identity keys."""
        keys = {self.key_id: self.public, f"curve25519:{self.device_id}": self.curve}
        value = {"user_id": self.user_id, "device_id": self.device_id, "algorithms": ALGORITHMS, "keys": keys}
        return self.sign({**value, **extra})

    def one_time_key(self, **extra: Any) -> dict[str, Any]:
        """A new signed Curve25519 key."""
        return self.sign({"key": b64(bytes(SigningKey.generate().verify_key)), **extra})

    def one_time_keys(self, number: int) -> dict[str, Any]:
        """New one-time keys with growing names, as one upload."""
        start, self._made = self._made, self._made + number
        return {f"signed_curve25519:K{index:05}": self.one_time_key() for index in range(start, self._made)}

    def fallback_key(self, name: str = "F1") -> dict[str, Any]:
        """A new fallback key, as one upload."""
        return {f"signed_curve25519:{name}": self.one_time_key(fallback=True)}


class PersonKit:
    """The cross-signing keys of a person."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.master, self.self_signing, self.user_signing = Signer(user_id), Signer(user_id), Signer(user_id)

    def key(self, usage: str, signer: Signer | None = None) -> dict[str, Any]:
        """A cross-signing key, signed by the master key or by `signer`."""
        pair: Signer = getattr(self, usage)
        value = {"user_id": self.user_id, "usage": [usage], "keys": {pair.key_id: pair.public}}
        if usage == "master" and signer is None:
            return value
        return (signer or self.master).sign(value)

    def upload(self) -> dict[str, Any]:
        """The body of /keys/device_signing/upload."""
        return {f"{usage}_key": self.key(usage) for usage in ("master", "self_signing", "user_signing")}
