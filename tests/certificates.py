"""Certificates for tests: `make(folder)` writes a self-signed one and its key, `chain(folder)` one with an authority between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_PEM = serialization.Encoding.PEM


def make(folder: Path, *, days: float = 1) -> tuple[Path, Path]:
    """Key and self-signed certificate of 127.0.0.1 and localhost, valid for `days`; new ones replace old files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("127.0.0.1")
    made = _build(name, name, key.public_key(), key, days=days, authority=True)
    return _write(folder, key, [made])


def chain(folder: Path, *, name: str = "localhost") -> tuple[Path, Path, Path]:
    """Key, certificate of `name` with its chain in one file, and the root's certificate."""
    root_key, middle_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    root = _build(_name("root"), _name("root"), root_key.public_key(), root_key, authority=True)
    middle = _build(_name("middle"), _name("root"), middle_key.public_key(), root_key, authority=True)
    own = _build(_name(name), _name("middle"), key.public_key(), middle_key, days=90, host=name)
    root_path = folder / "root.pem"
    root_path.write_bytes(root.public_bytes(_PEM))
    return *_write(folder, key, [own, middle]), root_path


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _build(
    name: x509.Name,
    issuer: x509.Name,
    key: Any,
    signer: Any,
    *,
    days: float = 100,
    authority: bool = False,
    host: str = "localhost",
) -> x509.Certificate:
    now = datetime.now(UTC)
    names = [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName(host)]
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )


def _write(folder: Path, key: Any, certificates: list[x509.Certificate]) -> tuple[Path, Path]:
    key_path, certificate_path = folder / "key.pem", folder / "certificate.pem"
    form = serialization.PrivateFormat.PKCS8
    key_path.write_bytes(key.private_bytes(_PEM, form, serialization.NoEncryption()))
    certificate_path.write_bytes(b"".join(certificate.public_bytes(_PEM) for certificate in certificates))
    return key_path, certificate_path
