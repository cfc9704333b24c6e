"""A slapd for many tests, and a factory for directories that are stopped at the end."""

from __future__ import annotations

import pytest

from heichat_appliance.directory.ldap import LdapDirectory
from tests.slapd import PEOPLE_BASE, Authority, Slapd

PEOPLE = [
    {"uid": "alice", "displayName": "Alice Müller", "mail": "alice@uni.example", "userPassword": "wonder-land"},
    {"uid": "bob", "displayName": "Bob Builder", "userPassword": "pässwört-ß"},
    {"uid": "JB007", "displayName": "Jürgen Bäcker", "mail": "jb@uni.example", "userPassword": "licence"},
    {"uid": ["two", "zwei"], "displayName": "Two Names", "userPassword": "both"},
    {
        "uid": "twin",
        "displayName": "Twin One",
        "userPassword": "same",
        "dn": f"cn=Twin 1,{PEOPLE_BASE}",
        "cn": "Twin 1",
    },
    {
        "uid": "TWIN",
        "displayName": "Twin Two",
        "userPassword": "same",
        "dn": f"cn=Twin 2,{PEOPLE_BASE}",
        "cn": "Twin 2",
    },
    {
        "uid": "comma",
        "cn": 'Doe, "J" + <Co>',
        "displayName": "Doe, J",
        "userPassword": "punctuation",
        "dn": rf"cn=Doe\, \"J\" \+ \<Co\>,{PEOPLE_BASE}",
    },
    {"uid": "star*", "displayName": "Star", "userPassword": "starry"},
    {"uid": "a,b", "displayName": "Comma In Uid", "userPassword": "escaped", "dn": rf"uid=a\,b,{PEOPLE_BASE}"},
    {"uid": "nopass", "displayName": "No Password"},
    {
        "uid": "latin1",
        "displayName": "Plain",
        "mail": "latin1@uni.example",
        "jpegPhoto": b"\xff\xd8\xff\xe0M\xfcller",
        "userPassword": "latin",
        "employeeType": "guest",
    },
]


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """The certificate authority that the university trusts."""
    return Authority.make(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def slapd(tmp_path_factory, authority):
    """A slapd with TLS for 127.0.0.1 (not for localhost) which no test may stop."""
    folder = tmp_path_factory.mktemp("slapd")
    with Slapd(folder, PEOPLE, tls=authority.issue(["127.0.0.1"]), unauthenticated_bind=True) as server:
        yield server


@pytest.fixture
def make_directory():
    """`make_directory(server, **settings)`: a started LdapDirectory that searches with the service account."""
    made = []

    def make(server=Slapd, **settings):
        settings.setdefault("uris", [getattr(server, "uri", None)])
        settings.setdefault("start_tls", False)
        if not settings.pop("anonymous", False):
            settings = {"bind_dn": Slapd.service_dn, "bind_password": Slapd.service_password, **settings}
        directory = LdapDirectory(base=Slapd.base, **settings)
        directory.start()
        made.append(directory)
        return directory

    yield make
    for directory in made:
        directory.stop()
