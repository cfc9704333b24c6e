"""The server's signing key."""

from __future__ import annotations

import secrets
from pathlib import Path

from nacl.signing import SigningKey

from heichat_appliance.protocol.pdu import Signer


def load_signer(data_dir: Path, server_name: str) -> Signer:
    """The server's Ed25519 key from `signing.key` (key ID and seed in hexadecimal, one line), made at the first start."""
    path = data_dir / "signing.key"
    if not path.exists():
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(f"ed25519:{secrets.token_hex(3)} {SigningKey.generate().encode().hex()}\n")
        new.rename(path)
    key_id, seed = path.read_text().split()
    return Signer(server_name, key_id, SigningKey(bytes.fromhex(seed)))
