"""What is asked of the directory and how its answers are read: names, filters, entries. Pure.

Sources: RFC 4514 (DN strings), RFC 4515 (filters), RFC 4511 4.2 (passwords are UTF-8).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from ldap3.core.exceptions import LDAPExceptionError
from ldap3.operation.search import parse_filter
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import escape_rdn, parse_dn

from heichat_appliance.extension import Person

MAX_UNI_ID = 255  # bytes of UTF-8; also what a Matrix user ID may have at most
MAX_PASSWORD = 1024  # bytes of UTF-8
MAX_TEXT = 255  # characters of a name or mail address
MAX_WORDS = 4  # of a people search

ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")


def usable_uni_id(uni_id: str) -> bool:
    """Whether it can be a Uni-ID at all: 1 to 255 bytes of printable text without blanks around it."""
    return uni_id.isprintable() and uni_id == uni_id.strip() and 0 < len(uni_id.encode()) <= MAX_UNI_ID


def password_bytes(password: str) -> bytes | None:
    """The bytes to bind with, or None for a password that no bind may be tried with.

    Empty ones: a bind with a name and an empty password is "unauthenticated" and may succeed (RFC 4513 5.1.2).
    NUL: some servers would cut there. The text is composed (NFC) as keyboards and directories have it; SASLprep,
    which RFC 4513 recommends and ldap3 would apply to text, is not used since it can alter a right password (ª, ½)
    or turn one of invisible characters into an empty one."""
    try:
        raw = unicodedata.normalize("NFC", password).encode()
    except UnicodeEncodeError:
        return None
    return raw if 0 < len(raw) <= MAX_PASSWORD and b"\0" not in raw else None


def filter_template(value: str) -> str:
    """`value` when it is an LDAP filter with `{uid}` in it; raises ValueError with a sentence."""
    if "{uid}" not in value:
        raise ValueError("must hold {uid}, e.g. (&(objectClass=person)(uid={uid}))")
    try:
        for uid in ("x", "*"):  # one person; all people
            parse_filter(value.replace("{uid}", uid), None, False, False, None, False)
    except (LDAPExceptionError, ValueError, IndexError) as error:
        raise ValueError(f"is not an LDAP filter: {error}")
    return value


def dn_template(value: str) -> str:
    """`value` when it is a distinguished name with `{uid}` in it; raises ValueError with a sentence."""
    if "{uid}" not in value:
        raise ValueError("must hold {uid}, e.g. uid={uid},ou=people,dc=example,dc=org")
    distinguished_name(value.replace("{uid}", "x"))
    return value


def distinguished_name(value: str) -> str:
    """`value` when it is a distinguished name that is not empty; raises ValueError with a sentence."""
    try:
        if not parse_dn(value):
            raise ValueError("must not be empty")
    except LDAPExceptionError as error:
        raise ValueError(f"is not a distinguished name such as ou=people,dc=example,dc=org: {error}")
    return value


def attribute_name(value: str) -> str:
    """`value` when it names an attribute; raises ValueError with a sentence."""
    if not ATTRIBUTE.fullmatch(value):
        raise ValueError(f"must be the name of an attribute such as uid, not {value!r}")
    return value


def fill_dn(template: str, uni_id: str) -> str:
    """The distinguished name of a person, by the template."""
    return template.replace("{uid}", escape_rdn(uni_id))


def fill_filter(template: str, uni_id: str) -> str:
    """The filter for exactly this Uni-ID."""
    return template.replace("{uid}", escape_filter_chars(uni_id))


@dataclass(frozen=True, slots=True)
class PeopleAttributes:
    """Which attributes hold what; `name` and `mail` may be None. Names are compared without regard to case."""

    uid: str
    name: str | None
    mail: str | None

    def wanted(self) -> list[str]:
        """The attributes to ask for."""
        return [attribute for attribute in (self.uid, self.name, self.mail) if attribute]

    def person(self, attributes: dict[str, list[bytes]], typed: str) -> Person | None:
        """The person of an entry found by the Uni-ID `typed`: of several uid values the one that equals it without
        regard to case. None when none does (the directory's matching is looser than ours: blanks, width of letters)."""
        for uid in _texts(attributes, self.uid):
            if uid.casefold() == typed.casefold():
                return self._with_uid(attributes, uid)
        return None

    def found(self, attributes: dict[str, list[bytes]], term: str) -> Person | None:
        """The person of an entry found by a people search; of several uid values the one that begins with `term`, or
        the first. None for an entry without a usable uid."""
        uids = [uid for uid in _texts(attributes, self.uid) if usable_uni_id(uid)]
        uids.sort(key=lambda uid: not uid.casefold().startswith(term))
        return self._with_uid(attributes, uids[0]) if uids else None

    def _with_uid(self, attributes: dict[str, list[bytes]], uid: str) -> Person:
        name = next(iter(_texts(attributes, self.name)), None)
        mail = next(iter(_texts(attributes, self.mail)), None)
        return Person(uid, name, mail)

    def people_filter(self, template: str, term: str) -> str:
        """Those of the people that the filter template admits whose Uni-ID begins with, or whose name contains, each
        word of `term`."""
        words = [escape_filter_chars(word) for word in term.split()[:MAX_WORDS]]
        if self.name:
            tests = "".join(f"(|({self.uid}={word}*)({self.name}=*{word}*))" for word in words)
        else:
            tests = "".join(f"({self.uid}={word}*)" for word in words)
        return f"(&{template.replace('{uid}', '*')}{tests})"


def best_first(people: list[Person], term: str) -> list[Person]:
    """Uni-IDs that equal the term, then those that begin with it, then names that begin with it, then the others."""
    term = term.casefold()

    def rank(person: Person) -> tuple[bool, bool, bool, str, str]:
        uid, name = person.uni_id.casefold(), (person.display_name or "").casefold()
        return uid != term, not uid.startswith(term), not name.startswith(term), name, uid

    return sorted(people, key=rank)


def _texts(attributes: dict[str, list[bytes]], attribute: str | None) -> list[str]:
    """The values that are valid UTF-8 with something to show, without control characters, of bounded length."""
    found = []
    for raw in attributes.get(attribute.lower(), []) if attribute else []:
        try:
            value = "".join(" " if unicodedata.category(c) == "Cc" else c for c in raw.decode("utf-8")).strip()
        except UnicodeDecodeError:
            continue
        if value:
            found.append(value[:MAX_TEXT])
    return found
