"""Searching for people: those known here and those of the university's directory (client-server API "User Directory").

Colleagues who never logged in are found too. Their user ID is the one that they will get at their first login.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from twisted.internet.defer import CancelledError, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from heichat_appliance.db.engine import Engine
from heichat_appliance.extension import DirectoryUnavailable, Person
from heichat_appliance.ids import user_id_of
from heichat_appliance.store import accounts, profiles
from heichat_appliance.store.profiles import Display, Found

log = Logger()

MAX_RESULTS = 50
MAX_TERM = 200
MAX_WORDS = 8
#: The directory is asked for terms from this length on, and waited for so many seconds.
MIN_DIRECTORY_TERM = 2
DIRECTORY_SECONDS = 1.5

_EXPANDED = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})


class UserDirectory:
    """Finds people."""

    def __init__(self, engine: Engine, reactor: IReactorTime, server_name: str, identity: Any) -> None:
        """`identity`: provides extension.IIdentity."""
        self._engine = engine
        self._reactor = reactor
        self._server_name = server_name
        self._identity = identity

    async def search(self, searcher: str, term: str, limit: int) -> dict[str, Any]:
        """The answer of POST /user_directory/search: at most `limit` other people, those sharing a room first.

        A directory that fails or does not answer in time leaves the people known here.
        """
        term = self._normal(term)
        limit = max(1, min(limit, MAX_RESULTS))
        words = [_spellings(word) for word in re.findall(r"\w+", term)][:MAX_WORDS]
        found: list[Found] = []
        if words:
            found = await self._engine.read_in_thread(profiles.search, searcher, words, limit + 1)
        known = {one.user_id for one in found}
        if len(term) >= MIN_DIRECTORY_TERM and len(found) <= limit:
            for person in await self._ask_directory(term, limit + 1):
                one = self._as_found(person)
                if one is not None and one.user_id not in known and one.user_id != searcher:
                    known.add(one.user_id)
                    found.append(one)
        return {"results": [_result(one) for one in found[:limit]], "limited": len(found) > limit}

    def _normal(self, term: str) -> str:
        """The term without what makes a Uni-ID a user ID."""
        term = unicodedata.normalize("NFC", term.replace("\0", " ")).strip()[:MAX_TERM]
        return term.removeprefix("@").removesuffix(f":{self._server_name}").strip()

    async def _ask_directory(self, term: str, limit: int) -> list[Person]:
        try:
            people: list[Person] = await self._identity.search(term, limit).addTimeout(DIRECTORY_SECONDS, self._reactor)
        except (DirectoryUnavailable, TimeoutError, CancelledError) as error:
            log.warn("people are searched without the directory: {error}", error=error)
            return []
        return people

    def _as_found(self, person: Person) -> Found | None:
        """A person of the directory with the profile that they have here; None for a locked account."""
        try:
            user_id = user_id_of(person.uni_id, self._server_name)
        except ValueError:
            return None
        account = accounts.by_user_id(self._engine.read, user_id)
        if account is not None and account.locked:
            return None
        shown = Display(person.display_name, None) if account is None else profiles.display(self._engine.read, user_id)
        return Found(user_id, shown.display_name or person.display_name, shown.avatar_url, False)


def _spellings(word: str) -> list[str]:
    """A word as it may also be spelt: Müller, Mueller; Weiß, Weiss. The index ignores case and diacritics itself."""
    word = word.lower()
    contracted = word.replace("ae", "ä").replace("oe", "ö").replace("ue", "ü")
    spellings = [word, word.translate(_EXPANDED), contracted, word.replace("ss", "ß"), contracted.replace("ss", "ß")]
    return list(dict.fromkeys(spellings))


def _result(one: Found) -> dict[str, str]:
    result = {"user_id": one.user_id}
    if one.display_name is not None:
        result["display_name"] = one.display_name
    if one.avatar_url is not None:
        result["avatar_url"] = one.avatar_url
    return result
