"""One LDAP server and one connection to it, by ldap3's synchronous strategy. All of it blocks: call it in a thread.

Sources: RFC 4511 (operations, result codes in appendix A), RFC 4513 (binding, TLS), RFC 2818 3.1 (host names).
"""

from __future__ import annotations

import socket
import ssl
import time
from ast import literal_eval
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import ldap3
from ldap3.core import results
from ldap3.core.exceptions import LDAPExceptionError
from twisted.logger import Logger

from heichat_appliance.directory.threads import Job

# A bind with one of these was refused for what was presented; anything else but success is a fault of the server.
REFUSALS = {
    results.RESULT_INVALID_CREDENTIALS,
    results.RESULT_NO_SUCH_OBJECT,  # a DN by template that does not exist
    results.RESULT_INVALID_DN_SYNTAX,
    results.RESULT_INAPPROPRIATE_AUTHENTICATION,  # the entry has no password
    results.RESULT_CONSTRAINT_VIOLATION,  # locked after too many tries
    results.RESULT_INSUFFICIENT_ACCESS_RIGHTS,
    results.RESULT_UNWILLING_TO_PERFORM,  # the account is switched off
}
FOUND = {results.RESULT_SUCCESS, results.RESULT_SIZE_LIMIT_EXCEEDED}
FOUND_SOME = FOUND | {results.RESULT_TIME_LIMIT_EXCEEDED, results.RESULT_ADMIN_LIMIT_EXCEEDED}

log = Logger()


class ServerFailed(Exception):
    """This server could not do it; the next one may. The text names no person."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server is. `tls` means LDAPS."""

    uri: str
    host: str
    port: int
    tls: bool

    @classmethod
    def parse(cls, uri: str) -> Endpoint:
        """From ldap://host[:port] or ldaps://host[:port]; raises ValueError with a sentence."""
        try:
            parts = urlsplit(uri)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{uri!r} is not a URI: {error}")
        bare = not (parts.username or parts.password or parts.query or parts.fragment or parts.path.strip("/"))
        if parts.scheme not in {"ldap", "ldaps"} or not parts.hostname or not bare or port == 0:
            raise ValueError(f"{uri!r} must look like ldaps://ldap.example.org or ldap://ldap.example.org:389")
        tls = parts.scheme == "ldaps"
        return cls(uri, parts.hostname, port or (636 if tls else 389), tls)

    def is_loopback(self) -> bool:
        """Whether nothing leaves this machine."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that was found; attribute names in lower case."""

    dn: str
    attributes: dict[str, list[bytes]]


def verifying_context(ca_file: Path | None) -> ssl.SSLContext:
    """A context that demands a valid certificate for the host's name, from the authorities of `ca_file` or, without
    one, those that the system trusts. Raises ValueError with a sentence."""
    try:
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"ca_file {ca_file} holds no certificates that can be read: {error}")


class _VerifyingTls(ldap3.Tls):
    """ldap3's own wrapping makes a context for each connection (15 ms of CPU), sends no server name and leaves the
    check of the host name to old code that knows no IP addresses. Here OpenSSL does all of it in the handshake."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context = context

    def wrap_socket(self, connection: ldap3.Connection, do_handshake: bool = False) -> None:
        """Called by ldap3 for LDAPS and after StartTLS was answered."""
        # Without this the bind after the handshake waits 40 ms for a delayed acknowledgement.
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.socket = self._context.wrap_socket(
            connection.socket, server_hostname=connection.server.host, do_handshake_on_connect=False
        )
        connection.socket.do_handshake()


class Connector:
    """Opens connections: over TLS as configured, each for one call and closed after it.

    A connection for each call costs 0.2 ms of our CPU more than a kept one (plain; about 1 ms more over TLS), and
    spares us connections that a firewall dropped silently and identities left over from the call before."""

    def __init__(self, *, start_tls: bool, ca_file: Path | None) -> None:
        self._start_tls = start_tls
        self._tls = _VerifyingTls(verifying_context(ca_file))

    def is_private(self, endpoint: Endpoint) -> bool:
        """Whether nobody on the way can read passwords."""
        return endpoint.tls or self._start_tls or endpoint.is_loopback()

    @contextmanager
    def open(self, endpoint: Endpoint, job: Job, seconds: float) -> Iterator[Session]:
        """A connection that is anonymous so far, for at most `seconds`. Whatever goes wrong with it, also inside the
        `with`, becomes ServerFailed."""
        session = None
        try:
            session = Session(endpoint, job, time.monotonic() + seconds, self._tls)
            session.open(self._start_tls and not endpoint.tls)
            yield session
        except ServerFailed:
            raise
        except (LDAPExceptionError, OSError) as error:
            raise ServerFailed(_reason(error)) from None
        except Exception as error:  # ldap3 on bytes that are no LDAP: ValueError, IndexError, KeyError, pyasn1's ...
            raise ServerFailed(f"an answer that can't be understood ({type(error).__name__})") from None
        finally:
            if session is not None:
                session.close()


class Session:
    """One open connection. Each step has what is left of the time."""

    def __init__(self, endpoint: Endpoint, job: Job, until: float, tls: ldap3.Tls) -> None:
        self._job = job
        self._until = until
        # A Server object for each connection, since ldap3 keeps the state of the connection attempt in it. No DSE or
        # schema is read (get_info), no referral followed (to whom would we give the password?), nothing of ours is
        # re-escaped or normalised.
        server = ldap3.Server(endpoint.host, endpoint.port, endpoint.tls, tls=tls, get_info=ldap3.NONE)
        self._connection = ldap3.Connection(
            server,
            auto_referrals=False,
            auto_range=False,
            check_names=False,
            auto_escape=False,
            return_empty_attributes=False,
            read_only=True,
        )

    def open(self, start_tls: bool) -> None:
        """Connect, with TLS if it is LDAPS or `start_tls`."""
        server = self._connection.server
        addresses = len(server.candidate_addresses())  # looks the name up
        if not addresses:
            raise ServerFailed("its host name is not known")
        server.connect_timeout = self._left() / addresses
        self._job.connection = self._connection
        self._connection.open(read_server_info=False)
        if start_tls:
            self._step()
            self._connection.start_tls(read_server_info=False)

    def bind(self, dn: str, password: bytes) -> bool:
        """Whether the server accepts this password, which must not be empty, for `dn`, which must not be either."""
        if not dn or not password:
            return False
        self._step()
        connection = self._connection
        connection.user, connection.password, connection.authentication = dn, password, ldap3.SIMPLE
        connection.bind(read_server_info=False)
        connection.password = None
        code = connection.result["result"]
        if code == results.RESULT_SUCCESS:
            return True
        if code not in REFUSALS:
            raise ServerFailed(f"the bind was answered by {connection.result['description']}")
        if code != results.RESULT_INVALID_CREDENTIALS:
            log.info("the directory refused a bind: {reason}", reason=connection.result["description"])
        return False

    def search(
        self, base: str, ldap_filter: str, scope: str, attributes: list[str], limit: int, *, some: bool = False
    ) -> list[Entry]:
        """At most `limit` entries; with `some`, those that were found before a limit of the server was reached will do.
        A base that does not exist is a fault of the server, but an empty result when `scope` is BASE."""
        left = self._step()
        connection = self._connection
        connection.search(
            base,
            ldap_filter,
            scope,
            dereference_aliases=ldap3.DEREF_NEVER,
            attributes=attributes,
            size_limit=limit,
            time_limit=max(1, int(left)),
        )
        code = connection.result["result"]
        if scope == ldap3.BASE and code == results.RESULT_NO_SUCH_OBJECT:
            return []
        if code not in (FOUND_SOME if some else FOUND):
            raise ServerFailed(f"the search was answered by {connection.result['description']}")
        rows = [row for row in connection.response if row["type"] == "searchResEntry"]
        return [
            Entry(row["dn"], {name.lower(): values or [] for name, values in row["raw_attributes"].items()})
            for row in rows
        ]

    def close(self) -> None:
        """Say good-bye if possible and close."""
        sock = self._connection.socket
        with suppress(Exception):
            self._connection.unbind()
        if sock is not None:
            with suppress(OSError):
                sock.close()

    def _step(self) -> float:
        left = self._left()
        if self._connection.socket is not None:
            self._connection.socket.settimeout(left)
        return left

    def _left(self) -> float:
        left = min(self._job.left(), self._until - time.monotonic())
        if left <= 0:
            raise ServerFailed("no answer in time")
        return left


def _reason(error: Exception) -> str:
    """ldap3 lists what happened at each address of a host (the last will do) and makes texts of tuples of texts."""
    if len(error.args) == 2 and isinstance(error.args[1], list):
        error = error.args[1][-1][0]
    text = str(error.args[0]) if len(error.args) == 1 else str(error)
    with suppress(ValueError, SyntaxError):
        text = str(literal_eval(text)[0]) if text.startswith("(") else text
    return text[:300] or type(error).__name__
