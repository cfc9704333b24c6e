"""Checking a person's password with the directory, and how often it may fail."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from twisted.logger import Logger

from heichat_appliance.errors import MatrixError, bad_json, forbidden, missing_param
from heichat_appliance.extension import DirectoryUnavailable, IIdentity, Person
from heichat_appliance.ratelimit import RateLimiter, address_key

log = Logger()

WRONG = "Uni-ID or password is wrong. / Uni-ID oder Passwort ist falsch."
UNAVAILABLE = (
    "The university's directory can't be reached at the moment, so nobody can log in; try again in a few minutes. / "
    "Das Verzeichnis der Universität ist gerade nicht erreichbar, eine Anmeldung ist daher nicht möglich; "
    "bitte in einigen Minuten erneut versuchen."
)
UNI_ID_ONLY = "Please log in with your Uni-ID. / Bitte mit der Uni-ID anmelden."
_ESCAPED = re.compile(r"(=[0-9a-f]{2})+")


class Passwords:
    """Asks the directory."""

    def __init__(
        self, identity: IIdentity, server_name: str, per_person: RateLimiter, per_address: RateLimiter
    ) -> None:
        """The limiters count failures: by Uni-ID and by address."""
        self._identity = identity
        self._server_name = server_name
        self._per_person = per_person
        self._per_address = per_address

    def uni_id(self, user: str) -> str:
        """The Uni-ID that somebody means who types a Uni-ID, a localpart or a full user ID, in any case.

        403 M_FORBIDDEN for a user ID of another server.
        """
        user = user.strip().lower()
        if user.startswith("@") and ":" in user:
            user, _, domain = user[1:].partition(":")
            if domain != self._server_name:
                raise forbidden(
                    f"user: only people of {self._server_name} can log in here. / "
                    f"Hier können sich nur Personen von {self._server_name} anmelden."
                )
        try:
            return _ESCAPED.sub(lambda found: bytes.fromhex(found[0].replace("=", "")).decode(), user)
        except UnicodeDecodeError:
            return user

    async def check(self, uni_id: str, password: str, peer: str) -> Person:
        """The person with this Uni-ID and password, who asks from the address `peer`.

        403 M_FORBIDDEN if there is none, whatever the reason; 429 M_LIMIT_EXCEEDED after too many failures;
        503 M_UNKNOWN if the directory does not answer, which counts as no failure.
        """
        key, address = _without_variants(uni_id), address_key(peer)
        self._per_address.check(address)
        self._per_person.take(key)  # given back unless it fails: many tries at once must not get past the limit
        try:
            person: Person | None = await self._identity.authenticate(uni_id, password)
        except DirectoryUnavailable as error:
            self._per_person.give_back(key)
            log.warn("no login: the directory is unavailable: {error}", error=str(error))
            raise MatrixError(503, "M_UNKNOWN", UNAVAILABLE)
        except BaseException:
            self._per_person.give_back(key)
            raise
        if person is None:
            self._per_address.count(address)
            raise forbidden(WRONG)
        self._per_person.give_back(key)
        return person


def _without_variants(uni_id: str) -> str:
    """One key for all spellings that a directory may take for the same: case, width, accents, blanks."""
    letters = unicodedata.normalize("NFKD", uni_id.casefold())
    return "".join(c for c in letters if not c.isspace() and not unicodedata.combining(c))


def user_of(identifier: Any, user: Any, where: str = "") -> str:
    """The user whom a login names: by an `identifier` of type m.id.user, or the deprecated `user`, both as in the JSON.

    Errors name the fields with `where` in front: 400 M_MISSING_PARAM or M_BAD_JSON, 403 M_FORBIDDEN for identifiers of
    another type (spec, "Identifier types"): mail addresses and telephone numbers are not known here.
    """
    if identifier is not None:
        if not isinstance(identifier, dict) or not isinstance(identifier.get("type"), str):
            raise bad_json(f"{where}identifier must be an object with a string type")
        if identifier["type"] != "m.id.user":
            raise forbidden(f"{where}identifier: {UNI_ID_ONLY}")
        user, where = identifier.get("user"), f"{where}identifier."
    if user is None:
        raise missing_param(f"{where}user is missing")
    if not isinstance(user, str):
        raise bad_json(f"{where}user must be a string")
    return user
