"""The university's LDAP directory as IIdentity."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import ldap3
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from heichat_appliance.directory.entries import (
    PeopleAttributes,
    attribute_name,
    best_first,
    distinguished_name,
    dn_template,
    fill_dn,
    fill_filter,
    filter_template,
    password_bytes,
    usable_uni_id,
)
from heichat_appliance.directory.server import Connector, Endpoint, Entry, ServerFailed, Session
from heichat_appliance.directory.threads import BlockingCalls, Job
from heichat_appliance.extension import DirectoryUnavailable, IIdentity, Person

RETRY_AFTER = 30.0  # seconds for which a server that failed is asked last
SEARCH_TERM = range(2, 256)  # characters of a people search
SEARCH_LIMIT = 100  # people of one search at most

T = TypeVar("T")
log = Logger()


@implementer(IIdentity)
class LdapDirectory:
    """Finds people and checks their passwords.

    With `user_dn_template` a login binds directly as that DN and reads its own entry. Otherwise it searches below
    `base` as `bind_dn` (anonymously without one), needs exactly one match, and binds as what it found. Either way the
    entry must match `filter`, and its uid value, not what was typed, is the Uni-ID. Looking up and searching people
    uses `bind_dn`, too. `start_tls` is about ldap:// URIs. `timeout` is in seconds and spans everything, all servers
    included; `pool` is the number of threads.

    How fast the answer comes may tell whether a Uni-ID exists (if not, there is nothing to bind as).

    Raises ValueError with a sentence when the arguments contradict each other."""

    def __init__(
        self,
        uris: Sequence[str],
        base: str,
        filter: str = "(&(objectClass=person)(uid={uid}))",
        *,
        uid_attribute: str = "uid",
        name_attribute: str | None = "displayName",
        mail_attribute: str | None = "mail",
        bind_dn: str | None = None,
        bind_password: str | None = None,
        user_dn_template: str | None = None,
        start_tls: bool = True,
        ca_file: Path | None = None,
        timeout: float = 5.0,
        pool: int = 8,
    ) -> None:
        if not uris:
            raise ValueError("uri must name at least one server")
        if bool(bind_dn) != bool(bind_password):
            raise ValueError("bind_dn and bind_password belong together")
        self._base = distinguished_name(base)
        self._filter = filter_template(filter)
        self._template = dn_template(user_dn_template) if user_dn_template else None
        self._attributes = PeopleAttributes(
            attribute_name(uid_attribute),
            attribute_name(name_attribute) if name_attribute else None,
            attribute_name(mail_attribute) if mail_attribute else None,
        )
        self._bind_dn = bind_dn
        self._bind_password = bind_password.encode() if bind_password else b""
        self._servers = _Servers([Endpoint.parse(uri) for uri in uris])
        self._connector = Connector(start_tls=start_tls, ca_file=ca_file)
        self._calls = BlockingCalls(pool, timeout)

    # -- IIdentity ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the threads; no server is asked yet."""
        for endpoint in self._servers.all:
            if not self._connector.is_private(endpoint):
                log.warn(
                    "{uri}: passwords cross the network in clear text (hint: ldaps:// or start_tls = yes)",
                    uri=endpoint.uri,
                )
        self._calls.start()

    def stop(self) -> None:
        """Calls under way fail."""
        self._calls.stop()

    def authenticate(self, uni_id: str, password: str) -> Deferred[Person | None]:
        """See IIdentity."""
        secret = password_bytes(password)
        if secret is None or not usable_uni_id(uni_id):
            return succeed(None)
        login = self._login_directly if self._template else self._login_by_search
        return self._ask(lambda session: login(session, uni_id, secret))

    def look_up(self, uni_id: str) -> Deferred[Person | None]:
        """See IIdentity."""
        if not usable_uni_id(uni_id):
            return succeed(None)
        return self._ask(lambda session: self._look_up(session, uni_id))

    def search(self, term: str, limit: int) -> Deferred[list[Person]]:
        """See IIdentity. Terms of fewer than two characters find nobody."""
        term = unicodedata.normalize("NFC", " ".join(term.split()))
        if len(term) not in SEARCH_TERM or not term.isprintable() or limit < 1:
            return succeed([])
        return self._ask(lambda session: self._search(session, term, min(limit, SEARCH_LIMIT)))

    def check(self) -> Deferred[list[str]]:
        """See IIdentity. Asks every server."""
        return self._calls.call(self._check)

    # -- in a thread -------------------------------------------------------------------------------------------

    def _ask(self, question: Callable[[Session], T]) -> Deferred[T]:
        return self._calls.call(lambda job: self._ask_in_order(job, question))

    def _ask_in_order(self, job: Job, question: Callable[[Session], T]) -> T:
        """The answer of the first server that gives one. Each gets its equal part of the time that is left, so that a
        silent one leaves time for the others."""
        failures: list[str] = []
        order = self._servers.in_order()
        for position, endpoint in enumerate(order):
            if job.left() <= 0:
                failures.append("no time left")
                break
            try:
                with self._connector.open(endpoint, job, job.left() / (len(order) - position)) as session:
                    answer = question(session)
            except ServerFailed as failure:
                self._servers.failed(endpoint, str(failure))
                failures.append(f"{endpoint.uri}: {failure}")
            else:
                self._servers.answered(endpoint)
                return answer
        raise DirectoryUnavailable("; ".join(failures))

    def _login_directly(self, session: Session, uni_id: str, secret: bytes) -> Person | None:
        dn = fill_dn(self._template or "", uni_id)
        if not session.bind(dn, secret):
            return None
        entry = self._only_match(session, dn, ldap3.BASE, uni_id)
        if entry is None:
            log.info("a login was refused: the person's own entry can't be read or does not match the filter")
        return entry and self._attributes.person(entry.attributes, uni_id)

    def _login_by_search(self, session: Session, uni_id: str, secret: bytes) -> Person | None:
        self._bind_as_service(session)
        entry = self._only_match(session, self._base, ldap3.SUBTREE, uni_id)
        person = entry and self._attributes.person(entry.attributes, uni_id)
        return person if entry and person and session.bind(entry.dn, secret) else None

    def _look_up(self, session: Session, uni_id: str) -> Person | None:
        self._bind_as_service(session)
        if self._template and not self._bind_dn:
            entry = self._only_match(session, fill_dn(self._template, uni_id), ldap3.BASE, uni_id)
        else:
            entry = self._only_match(session, self._base, ldap3.SUBTREE, uni_id)
        return entry and self._attributes.person(entry.attributes, uni_id)

    def _search(self, session: Session, term: str, limit: int) -> list[Person]:
        self._bind_as_service(session)
        query = self._attributes.people_filter(self._filter, term)
        fetch = max(limit, 20)  # a few more than asked for, so that "best first" means something
        entries = session.search(self._base, query, ldap3.SUBTREE, self._attributes.wanted(), fetch, some=True)
        people = [self._attributes.found(entry.attributes, term.casefold()) for entry in entries]
        return best_first([person for person in people if person], term)[:limit]

    def _bind_as_service(self, session: Session) -> None:
        """A new connection is anonymous already (RFC 4513 5)."""
        if self._bind_dn and not session.bind(self._bind_dn, self._bind_password):
            raise ServerFailed("bind_dn and bind_password were refused")

    def _only_match(self, session: Session, base: str, scope: str, uni_id: str) -> Entry | None:
        query = fill_filter(self._filter, uni_id)
        entries = session.search(base, query, scope, self._attributes.wanted(), 2)
        if len(entries) > 1:
            log.warn("a login or look-up was refused: several entries match one Uni-ID (hint: narrow base or filter)")
        return entries[0] if len(entries) == 1 else None

    def _check(self, job: Job) -> list[str]:
        lines: list[str] = []
        works = False
        for position, endpoint in enumerate(self._servers.all):
            start = time.monotonic()
            try:
                seconds = job.left() / (len(self._servers.all) - position)
                with self._connector.open(endpoint, job, seconds) as session:
                    self._check_one(session, endpoint, start, lines)
                works = True
            except ServerFailed as failure:
                lines.append(f"{endpoint.uri}: FAILED after {_ms(start)}: {failure}")
        if not works:
            raise DirectoryUnavailable("\n".join(lines))
        return lines

    def _check_one(self, session: Session, endpoint: Endpoint, start: float, lines: list[str]) -> None:
        private = "" if self._connector.is_private(endpoint) else " WITHOUT ENCRYPTION"
        lines.append(f"{endpoint.uri}: connected{private} in {_ms(start)}")
        start = time.monotonic()
        self._bind_as_service(session)
        if self._bind_dn:
            lines.append(f"{endpoint.uri}: bound as {self._bind_dn} in {_ms(start)}")
        start = time.monotonic()
        query = self._filter.replace("{uid}", "*")
        some = session.search(self._base, query, ldap3.SUBTREE, self._attributes.wanted(), 1, some=True)
        found = "at least one person" if some else "NOBODY (hint: check base, filter and the rights of bind_dn)"
        lines.append(f"{endpoint.uri}: found {found} below {self._base} in {_ms(start)}")


class _Servers:
    """The order in which servers are asked, with a short memory of which failed. Used by several threads: each step is
    one assignment or look-up, and the worst of a race is one try too many."""

    def __init__(self, endpoints: list[Endpoint]) -> None:
        self.all = endpoints
        self._retry_at: dict[Endpoint, float] = {}

    def in_order(self) -> list[Endpoint]:
        """As configured, but those that failed in the last 30 seconds at the end. When that time is over, one caller
        tries while others still avoid it."""
        now = time.monotonic()
        good = []
        for endpoint in self.all:
            retry_at = self._retry_at.get(endpoint)
            if retry_at is None:
                good.append(endpoint)
            elif retry_at <= now:
                self._retry_at[endpoint] = now + RETRY_AFTER
                good.append(endpoint)
        return good + [endpoint for endpoint in self.all if endpoint not in good]

    def failed(self, endpoint: Endpoint, reason: str) -> None:
        """Ask it last for a while."""
        if endpoint not in self._retry_at:
            log.warn("directory server {uri} failed: {reason}", uri=endpoint.uri, reason=reason)
        self._retry_at[endpoint] = time.monotonic() + RETRY_AFTER

    def answered(self, endpoint: Endpoint) -> None:
        """It works."""
        if self._retry_at.pop(endpoint, None) is not None:
            log.info("directory server {uri} answers again", uri=endpoint.uri)


def _ms(start: float) -> str:
    return f"{(time.monotonic() - start) * 1000:.0f} ms"
