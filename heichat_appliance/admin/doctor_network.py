"""doctor: the directory, certificates, and what clients see at the public address."""

from __future__ import annotations

import json
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ldap3  # type: ignore[import-untyped]
from cryptography import x509

from heichat_appliance.admin.findings import EXPIRY_DAYS, FAIL, OK, PATIENCE, WARN, Finding, Patient, ms
from heichat_appliance.admin.language import t
from heichat_appliance.directory.server import Connector, Endpoint, ServerFailed
from heichat_appliance.directory.threads import Job
from heichat_appliance.plugins.ldap_identity import bind_password
from heichat_appliance.tls import CertificateFiles, TLSError, parse

#: Seconds for connecting, binding and searching, beyond which logins feel slow.
SLOW_DIRECTORY = 1.0


# -- the directory -----------------------------------------------------------------------------------------------


def directory(patient: Patient) -> Iterator[Finding]:
    """Connect, bind and search, at each server."""
    if "ldap_identity" not in patient.config["plugins"].enabled:
        yield Finding(
            OK, "directory", t("people come from no LDAP directory", "Personen kommen aus keinem LDAP-Verzeichnis")
        )
        return
    settings = patient.config["ldap_identity"]
    errors: list[str] = []
    password = bind_password(settings, errors)
    for error in errors:
        yield Finding(FAIL, "directory", error, t("correct the configuration", "die Konfiguration berichtigen"))
    if errors or not settings.uri:
        return
    found = [_ask(uri, settings, password) for uri in settings.uri]
    works = any(one.level != FAIL for one in found)
    for one in found:
        # While another server answers people can log in.
        level = WARN if one.level == FAIL and works else one.level
        yield Finding(level, one.check, one.text, one.step)
    for uri in settings.uri:
        yield from _directory_certificate(uri, settings)


def _ask(uri: str, settings: Any, password: str | None) -> Finding:
    endpoint = Endpoint.parse(uri)
    start = time.monotonic()
    steps: list[str] = []
    step = t(
        "see that the server runs, its name and port, and the firewall",
        "Läuft der Server? Name, Port und Firewall prüfen",
    )
    try:
        connector = Connector(start_tls=settings.start_tls, ca_file=settings.ca_file)
        job = Job(lambda _: None, settings.timeout)
        with connector.open(endpoint, job, settings.timeout) as session:
            steps.append(t(f"connected in {ms(start)}", f"verbunden in {ms(start)}"))
            step = t("[ldap_identity] bind_dn, bind_password", "[ldap_identity] bind_dn, bind_password")
            then = time.monotonic()
            if settings.bind_dn and not session.bind(settings.bind_dn, (password or "").encode()):
                raise ServerFailed(
                    t("bind_dn and bind_password were refused", "bind_dn und bind_password wurden abgelehnt")
                )
            steps.append(t(f"bound in {ms(then)}", f"angemeldet in {ms(then)}"))
            step, then = t("[ldap_identity] base, filter", "[ldap_identity] base, filter"), time.monotonic()
            query = settings.filter.replace("{uid}", "*")
            entries = session.search(settings.base, query, ldap3.SUBTREE, [settings.uid_attribute], 1, some=True)
            steps.append(t(f"searched in {ms(then)}", f"gesucht in {ms(then)}"))
    except (ServerFailed, ValueError, OSError) as error:
        failed = t(f"failed after {ms(start)}: {error}", f"nach {ms(start)} gescheitert: {error}")
        return Finding(FAIL, "directory", f"{uri}: " + ", ".join((*steps, failed)), step)
    text = f"{uri}: {', '.join(steps)}"
    if not entries and settings.bind_dn:
        nobody = t(", but found nobody", ", aber niemanden gefunden")
        return Finding(
            FAIL,
            "directory",
            text + nobody,
            t(
                "[ldap_identity] base, filter, and the rights of bind_dn",
                "[ldap_identity] base, filter und die Rechte von bind_dn",
            ),
        )
    if not connector.is_private(endpoint):
        return Finding(
            FAIL,
            "directory",
            text + t(", but not encrypted", ", aber unverschlüsselt"),
            t("ldaps:// or start_tls = yes", "ldaps:// oder start_tls = yes"),
        )
    if time.monotonic() - start > SLOW_DIRECTORY:
        return Finding(
            WARN,
            "directory",
            text,
            t(
                "logins are slow: ask the directory's people",
                "Anmeldungen sind langsam: beim Verzeichnisdienst nachfragen",
            ),
        )
    return Finding(OK, "directory", text)


def _directory_certificate(uri: str, settings: Any) -> Iterator[Finding]:
    """When it ends, if it is good today: that it is not was told above."""
    endpoint = Endpoint.parse(uri)
    if not endpoint.tls:
        return
    try:
        end = certificate_end(endpoint.host, endpoint.port, _context(settings.ca_file), settings.timeout)
    except (OSError, ValueError):
        return
    yield from _end(end, "directory", uri)


# -- certificates ------------------------------------------------------------------------------------------------


def tls(patient: Patient) -> Iterator[Finding]:
    """The certificates in files, for the public name; then what is served at the public address, with its chain."""
    server, calls = patient.config["server"], patient.config["calls"]
    host = urlsplit(server.public_url).hostname or ""
    for endpoint in server.listen:
        if endpoint.startswith("ssl:"):
            yield from _listener(endpoint, host)
    if calls.enabled and not calls.uris and any(one.transport == "tls" for one in calls.listen):
        yield from _files(calls.private_key, [calls.certificate], calls.public_host or host, "[calls] certificate")
    yield from _served(patient, server.public_url, host)


def _listener(endpoint: str, host: str) -> Iterator[Finding]:
    try:
        found = parse(endpoint)
    except TLSError as error:
        yield Finding(FAIL, "tls", str(error), "[server] listen")
        return
    key = Path(found["privateKey"])
    chain = [Path(found[name]) for name in ("certKey", "extraCertChain") if found.get(name)]
    yield from _files(key, chain or [key], host, str(chain[0] if chain else key))


def _files(key: Path, certificates: list[Path], host: str, where: str) -> Iterator[Finding]:
    try:
        certificate = CertificateFiles(key, certificates, []).certificate
    except (TLSError, TypeError) as error:
        yield Finding(
            FAIL,
            "tls",
            str(error),
            t(
                "get a certificate, and send the daemon SIGHUP",
                "ein Zertifikat besorgen und dem Dienst SIGHUP schicken",
            ),
        )
        return
    names = _names(certificate)
    if not any(_fits(name, host) for name in names):
        yield Finding(
            FAIL,
            "tls",
            t(
                f"{where} is for {', '.join(names) or 'nobody'}, not for {host}",
                f"{where} gilt für {', '.join(names) or 'niemanden'}, nicht für {host}",
            ),
            t(
                "a certificate for the name in [server] public_url",
                "ein Zertifikat für den Namen in [server] public_url",
            ),
        )
    yield from _end(certificate.not_valid_after_utc, "tls", where)


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [str(name.value) for name in found.value]


def _fits(name: str, host: str) -> bool:
    name, host = name.lower(), host.lower()
    return name == host or (name.startswith("*.") and host.partition(".")[2] == name[2:])


def _end(end: datetime, check: str, where: str) -> Iterator[Finding]:
    days = (end - datetime.now(UTC)).days
    day = f"{end:%Y-%m-%d}"
    renew = t("renew the certificate now", "das Zertifikat jetzt erneuern")
    if end <= datetime.now(UTC):
        yield Finding(
            FAIL,
            check,
            t(f"{where}: the certificate ended on {day}", f"{where}: das Zertifikat lief am {day} ab"),
            renew,
        )
    elif days < EXPIRY_DAYS:
        yield Finding(
            WARN,
            check,
            t(
                f"{where}: the certificate ends in {days} days, on {day}",
                f"{where}: das Zertifikat läuft in {days} Tagen ab, am {day}",
            ),
            renew,
        )
    else:
        yield Finding(
            OK, check, t(f"{where}: the certificate is good until {day}", f"{where}: das Zertifikat gilt bis {day}")
        )


def _served(patient: Patient, public_url: str, host: str) -> Iterator[Finding]:
    parts = urlsplit(public_url)
    if parts.scheme != "https":
        near = host in ("localhost", "127.0.0.1", "::1")
        yield Finding(
            OK if near else FAIL,
            "tls",
            t(f"{public_url} is not encrypted", f"{public_url} ist unverschlüsselt"),
            "" if near else t("[server] public_url with https://", "[server] public_url mit https://"),
        )
        return
    try:
        end = certificate_end(host, parts.port or 443, _context(patient.ca_file), PATIENCE)
    except ssl.SSLCertVerificationError as error:
        yield Finding(
            FAIL,
            "tls",
            t(
                f"{public_url}: clients refuse the certificate: {error.verify_message}",
                f"{public_url}: Clients lehnen das Zertifikat ab: {error.verify_message}",
            ),
            t(
                "renew it; a chain that is not whole needs the authority's certificates behind the server's own",
                "erneuern; ist die Kette nicht ganz, gehören die Zertifikate der CA hinter das eigene",
            ),
        )
    except (OSError, ValueError) as error:
        yield Finding(
            FAIL,
            "tls",
            t(
                f"{public_url} can't be reached from this machine: {error}",
                f"{public_url} ist von diesem Rechner aus nicht zu erreichen: {error}",
            ),
            t("DNS, firewall, reverse proxy", "DNS, Firewall, Reverse Proxy"),
        )
    else:
        yield from _end(end, "tls", public_url)


def _context(ca_file: str | Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)


def certificate_end(host: str, port: int, context: ssl.SSLContext, seconds: float) -> datetime:
    """When the certificate ends that a server shows, which must be good for `host`. Raises OSError (ssl.SSLError)."""
    with (
        socket.create_connection((host, port), seconds) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        certificate: Any = secure.getpeercert()
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)


# -- what clients see --------------------------------------------------------------------------------------------


def public(patient: Patient) -> Iterator[Finding]:
    """The versions at the public address, and the file by which clients find that from the server's name."""
    server = patient.config["server"]
    context = _context(patient.ca_file) if server.public_url.startswith("https") else None
    start = time.monotonic()
    said = _fetch(f"{server.public_url}/_matrix/client/versions", context)
    if isinstance(said, str):
        yield Finding(
            FAIL,
            "public",
            said,
            t(
                "the reverse proxy must pass /_matrix, /.well-known and /_heichat on",
                "der Reverse Proxy muss /_matrix, /.well-known und /_heichat weitergeben",
            ),
        )
        return
    value, cors = said
    if not isinstance(value, dict) or "versions" not in value:
        yield Finding(
            FAIL,
            "public",
            t(
                f"{server.public_url} answers, but is no Matrix server",
                f"{server.public_url} antwortet, ist aber kein Matrix-Server",
            ),
            "[server] public_url",
        )
        return
    took = ms(start)
    yield Finding(OK, "public", t(f"{server.public_url} answers in {took}", f"{server.public_url} antwortet in {took}"))
    if cors != "*":
        yield Finding(
            FAIL,
            "public",
            t(
                "Access-Control-Allow-Origin is missing: web clients can't use it",
                "Access-Control-Allow-Origin fehlt: Web-Clients können ihn nicht benutzen",
            ),
            t("the reverse proxy must not change headers", "der Reverse Proxy darf Header nicht ändern"),
        )
    yield from _well_known(patient)


def _well_known(patient: Patient) -> Iterator[Finding]:
    server = patient.config["server"]
    same = server.name == urlsplit(server.public_url).hostname
    base = server.public_url if same else f"https://{server.name}"
    url = f"{base}/.well-known/matrix/client"
    said = _fetch(url, _context(patient.ca_file) if base.startswith("https") else None)
    step = t(
        f"serve {url} as this server does at its public address, with Access-Control-Allow-Origin: *",
        f"{url} so ausliefern, wie dieser Server es tut, mit Access-Control-Allow-Origin: *",
    )
    if isinstance(said, str):
        # Without it people type the address of the server instead of its name.
        yield Finding(FAIL if same else WARN, "well-known", said, step)
        return
    value, cors = said
    named = value.get("m.homeserver") if isinstance(value, dict) else None
    address = named.get("base_url") if isinstance(named, dict) else None
    if not isinstance(address, str) or address.rstrip("/") != server.public_url:
        yield Finding(
            FAIL,
            "well-known",
            t(f"{url} names {address}, not {server.public_url}", f"{url} nennt {address}, nicht {server.public_url}"),
            step,
        )
    elif cors != "*":
        yield Finding(
            WARN,
            "well-known",
            t(f"{url} lacks Access-Control-Allow-Origin", f"bei {url} fehlt Access-Control-Allow-Origin"),
            step,
        )
    else:
        yield Finding(OK, "well-known", t(f"{url} leads here", f"{url} führt hierher"))


def _fetch(url: str, context: ssl.SSLContext | None) -> tuple[Any, str | None] | str:
    """(JSON, Access-Control-Allow-Origin), or why not. Asks directly, whatever proxy the environment names."""
    handlers: list[Any] = [urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    request = urllib.request.Request(url, headers={"Origin": "https://doctor.invalid"})
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read(1 << 20)), answer.headers.get("Access-Control-Allow-Origin")
    except urllib.error.HTTPError as error:
        return t(f"{url} answers {error.code}", f"{url} antwortet {error.code}")
    except urllib.error.URLError as error:
        return t(f"{url} can't be reached: {error.reason}", f"{url} ist nicht zu erreichen: {error.reason}")
    except (OSError, ValueError) as error:
        return t(f"{url} does not answer well: {error}", f"{url} antwortet nicht richtig: {error}")
