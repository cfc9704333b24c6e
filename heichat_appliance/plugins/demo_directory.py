"""Plugin `demo_directory`: a few named people from a file, for trying heiCHAT out without a university around it."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.plugin import IPlugin
from zope.interface import implementer

from heichat_appliance.config import ConfigErrors, Option, Settings, boolean, path
from heichat_appliance.directory.entries import best_first, password_bytes
from heichat_appliance.directory.people_file import DemoPerson, from_ldif, from_users
from heichat_appliance.extension import IExtension, IIdentity, Person

MIN_TERM = 2  # characters of a people search


@implementer(IIdentity)
class DemoDirectory:
    """Answers from memory. `people` stays readable for the text that tells a newcomer whom to log in as."""

    def __init__(self, people: Iterable[DemoPerson]) -> None:
        self.people = tuple(people)
        self._by_id = {one.person.uni_id.casefold(): one for one in self.people}

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""

    def authenticate(self, uni_id: str, password: str) -> Deferred[Person | None]:
        """See IIdentity. Passwords are compared in constant time."""
        one = self._by_id.get(uni_id.casefold())
        known, given = password_bytes(one.password if one else "-"), password_bytes(password)
        same = hmac.compare_digest(known or b"", given or b"")
        return succeed(one.person if one and given and same else None)

    def look_up(self, uni_id: str) -> Deferred[Person | None]:
        """See IIdentity."""
        one = self._by_id.get(uni_id.casefold())
        return succeed(one.person if one else None)

    def search(self, term: str, limit: int) -> Deferred[list[Person]]:
        """See IIdentity."""
        words = term.casefold().split()
        if len(" ".join(words)) < MIN_TERM or limit < 1:
            return succeed([])
        people = [one.person for one in self.people if all(_matches(one.person, word) for word in words)]
        return succeed(best_first(people, term.strip())[:limit])

    def check(self) -> Deferred[list[str]]:
        """See IIdentity."""
        return succeed([f"demo directory: {len(self.people)} people, with public passwords"])


def _matches(person: Person, word: str) -> bool:
    return person.uni_id.casefold().startswith(word) or word in (person.display_name or "").casefold()


@implementer(IPlugin, IExtension)
class _DemoDirectoryExtension:
    """A few people from a file instead of the university's directory, with public passwords: for trials only."""

    name = "demo_directory"
    options = (
        Option("demo", boolean, False, "Must be yes to use this plugin outside of --demo."),
        Option(
            "ldif", path, None, "An LDIF file with other people (uid, userPassword, displayName, mail, employeeType)."
        ),
        Option("users", path, None, "A file with other people, one a line: uni-id:password:name:mail:role."),
    )

    def build(self, settings: Settings, host: Any) -> DemoDirectory:
        """A DemoDirectory; `host.demo` tells whether this is --demo. Raises ConfigErrors."""
        if not (settings.demo or host.demo):
            raise ConfigErrors(
                ["[plugins] demo_directory is for trials only (hint: --demo, or demo = yes in [demo_directory])"]
            )
        if settings.ldif and settings.users:
            raise ConfigErrors(["[demo_directory] ldif and users can't both be set (hint: keep one of them)"])
        source = settings.ldif or settings.users or files(__package__) / "demo_people.ldif"
        try:
            text = source.read_text("utf-8")
            return DemoDirectory(from_users(text) if settings.users else from_ldif(text))
        except (OSError, ValueError) as error:
            raise ConfigErrors([f"[demo_directory] {source} can't be used: {error}"]) from None


demo_directory = _DemoDirectoryExtension()
