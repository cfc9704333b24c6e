"""A real OpenLDAP server on loopback for tests: `with Slapd(tmp_path, people=[...]) as server: server.uri`.

Everything lives in a folder of the test; nothing of the system's own slapd is touched, and no root is needed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet.protocol import Factory
from twisted.protocols.portforward import ProxyFactory, ProxyServer

SLAPD = shutil.which("slapd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/lib/openldap:/usr/libexec")
SLAPADD = shutil.which("slapadd", path=os.environ.get("PATH", "") + ":/usr/sbin")
SKIP_REASON = "slapd is not installed (Debian: apt-get install slapd)"
requires_slapd = [pytest.mark.slapd, pytest.mark.skipif(not SLAPD, reason=SKIP_REASON)]  # for `pytestmark`
BASE = "dc=uni,dc=example"
PEOPLE_BASE = f"ou=people,{BASE}"

CONFIG = """\
include {schema}/core.schema
include {schema}/cosine.schema
include {schema}/inetorgperson.schema
{modules}
pidfile {folder}/slapd.pid
{allow}
{tls}
database mdb
suffix "{base}"
rootdn "{admin_dn}"
rootpw {admin_password}
directory {folder}/db
maxsize 16777216
dbnosync
index objectClass eq
index uid eq,sub
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{service_dn}" read by self read by anonymous {anonymous} by * none
"""

LDIF_HEAD = """\
dn: {base}
objectClass: dcObject
objectClass: organization
dc: uni
o: Universität Beispiel

dn: {people_base}
objectClass: organizationalUnit
ou: people

dn: {service_dn}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: heichat
userPassword: {service_password}
"""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority of the test. `ca_file` is what clients trust."""

    ca_file: Path
    _key: ec.EllipticCurvePrivateKey
    _certificate: x509.Certificate

    @classmethod
    def make(cls, folder: Path, name: str = "Test CA") -> Authority:
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _builder(subject, subject, key, datetime.now(UTC) + timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        path = folder / f"{name.replace(' ', '-')}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cls(path, key, certificate)

    def issue(self, names: list[str], *, expired: bool = False) -> tuple[Path, Path]:
        """The paths of a certificate for these host names or addresses, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        until = datetime.now(UTC) + timedelta(days=-1 if expired else 1)
        certificate = (
            _builder(subject, self._certificate.subject, key, until)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        stem = self.ca_file.parent / f"{names[0]}-{certificate.serial_number:x}"
        cert_path, key_path = stem.with_suffix(".crt"), stem.with_suffix(".key")
        cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return cert_path, key_path


def _builder(subject, issuer, key, until) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=3))
        .not_valid_after(until)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Slapd:
    """A slapd with `people`, each a dict of attributes with at least `uid` and usually `userPassword` (a value may be a
    list; `cn` and `sn` are filled in; `dn` overrides the default `uid=...,ou=people,dc=uni,dc=example`).

    `tls` is a (certificate, key) pair of paths and adds `ldaps_uri` and StartTLS. `anonymous_read` lets anonymous
    search; `unauthenticated_bind` lets a DN with an empty password "succeed", as RFC 4513 5.1.2 warns of."""

    base = BASE
    people_base = PEOPLE_BASE
    admin_dn = f"cn=admin,{BASE}"
    admin_password = "admin-secret"
    service_dn = f"cn=heichat,{BASE}"
    service_password = "service-secret"
    user_dn_template = f"uid={{uid}},{PEOPLE_BASE}"

    def __init__(self, folder, people, *, tls=None, anonymous_read=False, unauthenticated_bind=False, host="127.0.0.1"):
        self.folder = Path(folder) / f"slapd-{id(self):x}"
        (self.folder / "db").mkdir(parents=True)
        self._host, self._tls = host, tls
        self.port = _free_port()
        self.tls_port = _free_port() if tls else None
        self.uri = f"ldap://{host}:{self.port}"
        self.ldaps_uri = f"ldaps://{host}:{self.tls_port}" if tls else None
        self._process = None
        self._configure(anonymous_read, unauthenticated_bind)
        self._load(people)

    def __enter__(self) -> Slapd:
        self.start()
        return self

    def __exit__(self, *exc_info) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when it accepts connections (on the same ports each time)."""
        urls = f"{self.uri}/ {self.ldaps_uri}/" if self._tls else f"{self.uri}/"
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [SLAPD, "-d", "0", "-f", self._conf, "-h", urls], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        try:
            for port in filter(None, (self.port, self.tls_port)):
                self._wait_for(port)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Returns when it is gone; its ports then refuse connections."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def _wait_for(self, port: int) -> None:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection((self._host, port), 1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"slapd did not start: {(self.folder / 'log').read_text()}") from None
                time.sleep(0.01)

    def _configure(self, anonymous_read: bool, unauthenticated_bind: bool) -> None:
        schema = next(path for path in ("/etc/ldap/schema", "/etc/openldap/schema") if os.path.isdir(path))
        modules = next((path for path in ("/usr/lib/ldap", "/usr/lib64/openldap") if os.path.isdir(path)), None)
        tls = ""
        if self._tls:
            tls = f"TLSCertificateFile {self._tls[0]}\nTLSCertificateKeyFile {self._tls[1]}"
        self._conf = self.folder / "slapd.conf"
        self._conf.write_text(
            CONFIG.format(
                schema=schema,
                modules=f"modulepath {modules}\nmoduleload back_mdb" if modules else "",
                folder=self.folder,
                allow="allow bind_anon_cred bind_anon_dn" if unauthenticated_bind else "",
                tls=tls,
                base=BASE,
                admin_dn=self.admin_dn,
                admin_password=self.admin_password,
                service_dn=self.service_dn,
                anonymous="read" if anonymous_read else "none",
            )
        )

    def _load(self, people) -> None:
        ldif = [
            LDIF_HEAD.format(
                base=BASE,
                people_base=PEOPLE_BASE,
                service_dn=self.service_dn,
                service_password=self.service_password,
            )
        ]
        ldif += [_person_ldif(person) for person in people]
        subprocess.run(
            [SLAPADD, "-q", "-f", self._conf],
            input="\n".join(ldif).encode(),
            check=True,
            capture_output=True,
            timeout=30,
        )


class Swallower:
    """A listener between a client and a server on loopback. While `swallow` is true it accepts everything and answers
    nothing; otherwise it passes bytes both ways. Without a target port it always swallows. Runs on the test's reactor.
    `connections` counts, `received` holds what clients sent while it swallowed."""

    def __init__(self, target_port: int | None = None, *, swallow: bool = True) -> None:
        from twisted.internet import reactor

        self.swallow = swallow or target_port is None
        self.connections = 0
        self.received = b""
        factory = ProxyFactory("127.0.0.1", target_port) if target_port else Factory()
        factory.protocol = lambda: _SwallowerProtocol(self)
        self._listener = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.port = self._listener.getHost().port
        self.uri = f"ldap://127.0.0.1:{self.port}"

    def __enter__(self) -> Swallower:
        return self

    def __exit__(self, *exc_info) -> None:
        self._listener.stopListening()


class _SwallowerProtocol(ProxyServer):
    def __init__(self, owner: Swallower) -> None:
        self._owner = owner

    def connectionMade(self) -> None:
        self._owner.connections += 1
        if not self._owner.swallow:
            super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        if self._owner.swallow:
            self._owner.received += data
        elif self.peer is not None:
            super().dataReceived(data)


def _person_ldif(person: dict) -> str:
    uids = person["uid"] if isinstance(person["uid"], list) else [person["uid"]]
    name = person.get("displayName", uids[0])
    entry = {"objectClass": "inetOrgPerson", "cn": name, "sn": name, **person}
    lines = [f"dn: {entry.pop('dn', f'uid={uids[0]},{PEOPLE_BASE}')}"]
    for attribute, values in entry.items():
        for value in values if isinstance(values, list) else [values]:
            lines.append(_ldif_line(attribute, value))
    return "\n".join(lines) + "\n"


def _ldif_line(attribute: str, value: str | bytes) -> str:
    raw = value if isinstance(value, bytes) else value.encode()
    return f"{attribute}:: {b64encode(raw).decode()}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
