"""People from a file, for the demo directory: LDIF (RFC 2849, the part that describes people) or a plain list. Pure."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field

from heichat_appliance.directory.entries import password_bytes, usable_uni_id
from heichat_appliance.extension import Person


@dataclass(frozen=True, slots=True)
class DemoPerson:
    """A person, what they are at the university ("student", "lecturer", ...), and their password in clear."""

    person: Person
    role: str
    password: str = field(repr=False)


def from_ldif(text: str) -> list[DemoPerson]:
    """The entries with a uid: userPassword (in clear) is needed; displayName, mail and employeeType are optional.
    Raises ValueError with a sentence that names the entry."""
    people = []
    for record in _records(text):
        uid, password = record.get("uid"), record.get("userpassword", "")
        if uid is None:
            continue
        if password.startswith("{"):
            raise ValueError(f"{uid}: the demo directory needs userPassword in clear")
        people.append(_person(uid, password, record.get("displayname"), record.get("mail"), record.get("employeetype")))
    return _without_doubles(people)


def from_users(text: str) -> list[DemoPerson]:
    """A person a line, `uni-id:password:name:mail:role`, of which the last three may be left out; `#` begins a comment.
    Raises ValueError with a sentence that names the line."""
    people = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() or None for part in line.split(":")]
        if not 2 <= len(parts) <= 5:
            raise ValueError(f"line {number} is not uni-id:password:name:mail:role")
        uid, password, name, mail, role = parts + [None] * (5 - len(parts))
        people.append(_person(uid or "", password or "", name, mail, role))
    return _without_doubles(people)


def _person(uid: str, password: str, name: str | None, mail: str | None, role: str | None) -> DemoPerson:
    if not usable_uni_id(uid):
        raise ValueError(f"{uid!r} can't be a Uni-ID")
    if password_bytes(password) is None:
        raise ValueError(f"{uid}: the password is missing or can't be used")
    return DemoPerson(Person(uid, name, mail), role or "person", password)


def _without_doubles(people: list[DemoPerson]) -> list[DemoPerson]:
    seen = set()
    for one in people:
        if one.person.uni_id.casefold() in seen:
            raise ValueError(f"{one.person.uni_id} is there twice")
        seen.add(one.person.uni_id.casefold())
    return people


def _records(text: str) -> Iterator[dict[str, str]]:
    """The first value of each attribute, by its name in lower case."""
    unfolded = text.replace("\r\n", "\n").replace("\n ", "")
    for block in unfolded.split("\n\n"):
        record: dict[str, str] = {}
        for line in block.splitlines():
            if not line or line.startswith("#"):
                continue
            name, colon, value = line.partition(":")
            if not colon:
                raise ValueError(f"{line[:40]!r} is not a line of LDIF")
            record.setdefault(name.lower(), _value(value))
        if record:
            yield record


def _value(text: str) -> str:
    if not text.startswith(":"):
        return text.strip()
    try:
        return b64decode(text[1:].strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{text[1:40].strip()!r} is not UTF-8 text in base64: {error}")
