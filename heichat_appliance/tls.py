"""TLS from files that are read again on SIGHUP: new connections get the new certificate, those that exist go on.

`Certificates` makes listening endpoints from Twisted's strings, with a parser of its own for `ssl:`. Twisted's would read the
files once, and of certKey only the first certificate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.endpoints import SSL4ServerEndpoint, serverFromString
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import AcceptableCiphers, CertificateOptions, TLSVersion
from twisted.logger import Logger
from zope.interface import implementer

log = Logger()

#: A listener's queue of connections: with Twisted's 50 people wait when all reconnect after a restart.
BACKLOG = 1024

#: Of TLS 1.2 only what has forward secrecy and authenticated encryption (RFC 9325 section 4.2); TLS 1.3 has nothing else.
_CIPHERS = AcceptableCiphers.fromOpenSSLCipherString("ECDHE+AESGCM:ECDHE+CHACHA20")
_ARGUMENTS = {"port", "privateKey", "certKey", "extraCertChain", "interface", "backlog"}
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class TLSError(ValueError):
    """The files can't be used, or an endpoint is wrong; the text says which and why."""


def parse(endpoint: str) -> dict[str, str]:
    """The arguments of `ssl:443:privateKey=FILE:certKey=FILE…` by name; raises TLSError. A backslash makes the next
    character a plain one, as in Twisted's other endpoint strings (an IPv6 address: `interface=\\:\\:`)."""
    found: dict[str, str] = {}
    for number, part in enumerate(re.findall(r"(?:^|:)((?:\\.|[^\\:])*)", endpoint)[1:]):
        key, equals, value = part.partition("=")
        if not equals and number == 0:
            key, value = "port", part
        if key not in _ARGUMENTS:
            raise TLSError(f"{endpoint!r}: {key!r} is not known for ssl (known are {', '.join(sorted(_ARGUMENTS))})")
        found[key] = re.sub(r"\\(.)", r"\1", value)
    for key in ("port", "backlog"):
        if not re.fullmatch(r"[0-9]{1,5}", found.setdefault(key, str(BACKLOG) if key == "backlog" else "")):
            raise TLSError(f"{endpoint!r}: the {key} must be a number, as in ssl:443:privateKey=…:certKey=…")
    if not found.get("privateKey"):
        raise TLSError(f"{endpoint!r}: privateKey is missing (hint: ssl:443:privateKey=key.pem:certKey=chain.pem)")
    return found


@implementer(IOpenSSLServerConnectionCreator)
class CertificateFiles:
    """The server's side of TLS with a certificate from files; Twisted takes it wherever it takes a context factory."""

    def __init__(self, private_key: Path, certificates: Iterable[Path], protocols: Iterable[bytes]) -> None:
        """Reads the files; raises TLSError. `certificates` hold the server's own first, then its chain, all in PEM;
        `protocols` are offered by ALPN (RFC 7301)."""
        self._private_key = private_key
        self._files = tuple(certificates)
        self._protocols = list(protocols)
        self._context, self.certificate = self._read()

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """For Twisted: the connection's side of TLS."""
        return SSL.Connection(self._context, None)

    def reload(self) -> None:
        """Read the files again. Raises TLSError, and then goes on with what it has."""
        self._context, self.certificate = self._read()

    def describe(self) -> str:
        """One line: the certificate's names, its end, and its serial number."""
        certificate, names = self.certificate, ""
        try:
            extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            names = ", ".join(str(name.value) for name in extension.value)
        except (x509.ExtensionNotFound, ValueError):
            pass
        end = certificate.not_valid_after_utc
        expired = ", EXPIRED" if end <= datetime.now(UTC) else ""
        return f"{names or 'no name'}, valid until {end:%Y-%m-%d}{expired}, serial {certificate.serial_number:x}"

    def _read(self) -> tuple[SSL.Context, x509.Certificate]:
        """Key and certificates must fit each other. A key is never half a file: whoever replaces two files should
        send the signal after both; what was read between them doesn't fit, and is refused here."""
        try:
            key = load_pem_private_key(self._private_key.read_bytes(), None)
            pems = [pem for file in self._files for pem in _PEM.findall(file.read_bytes())]
            if not pems:
                raise TLSError(f"{self._files[0]} holds no certificate in PEM")
            own, *chain = [x509.load_pem_x509_certificate(pem) for pem in pems]
            options = CertificateOptions(
                privateKey=key,
                certificate=own,
                extraCertChain=chain,
                raiseMinimumTo=TLSVersion.TLSv1_2,
                acceptableCiphers=_CIPHERS,
                acceptableProtocols=self._protocols,
            )
            return options.getContext(), own
        except TLSError:
            raise
        except OSError as error:
            raise TLSError(f"{error.filename} can't be read: {error.strerror}") from None
        except TypeError:  # a passphrase is needed
            raise TLSError(f"{self._private_key} has a passphrase, and nobody is there to type it") from None
        except (SSL.Error, ValueError, UnsupportedAlgorithm) as error:
            files = ", ".join(str(file) for file in dict.fromkeys(self._files))
            raise TLSError(f"{self._private_key}, {files}: {_reason(error)}") from None


class Certificates:
    """All certificates of the daemon."""

    def __init__(self) -> None:
        self._files: list[CertificateFiles] = []

    def files(
        self, private_key: Path, certificate: Path, chain: Path | None = None, *, protocols: Iterable[bytes] = ()
    ) -> CertificateFiles:
        """A context factory for a listener, read again by `reload`; raises TLSError."""
        files = CertificateFiles(private_key, [certificate, *([chain] if chain else [])], protocols)
        self._files.append(files)
        return files

    def endpoint(self, reactor: Any, description: str) -> Any:
        """The listening endpoint for HTTP of Twisted's string `description`; raises TLSError."""
        if description.startswith("ssl:"):
            found = parse(description)
            key, chain = Path(found["privateKey"]), found.get("extraCertChain")
            certificate = Path(found.get("certKey") or key)
            context = self.files(key, certificate, Path(chain) if chain else None, protocols=[b"http/1.1"])
            return SSL4ServerEndpoint(
                reactor, int(found["port"]), context, int(found["backlog"]), found.get("interface", "")
            )
        if "backlog=" not in description and description.startswith(("tcp:", "tcp6:")):
            description += f":backlog={BACKLOG}"
        return serverFromString(reactor, description)

    def reload(self) -> list[str]:
        """Read all files again; what can't be used is logged and returned as sentences, and its old certificate stays."""
        errors = []
        for files in self._files:
            try:
                files.reload()
            except TLSError as error:
                errors.append(str(error))
                log.error("TLS: {error} (the certificate in use stays: {old})", error=str(error), old=files.describe())
            else:
                log.info("TLS: certificate for {certificate}", certificate=files.describe())
        return errors

    def describe(self) -> list[str]:
        """A line for each certificate."""
        return list(dict.fromkeys(files.describe() for files in self._files))


def _reason(error: Exception) -> str:
    """OpenSSL's errors are lists of (library, function, reason); other texts go on with advice for programmers."""
    if error.args and isinstance(error.args[0], list):
        return "; ".join(str(entry[-1]) for entry in error.args[0]) or "not PEM"
    return str(error).split(". ")[0] or "not PEM"
