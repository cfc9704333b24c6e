"""Names, filters and entries, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldap3.operation.search import MATCH_EQUAL, parse_filter
from ldap3.utils.dn import parse_dn

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
from heichat_appliance.directory.server import Endpoint
from heichat_appliance.extension import Person

ATTRIBUTES = PeopleAttributes("uid", "displayName", "mail")
UNI_IDS = st.text(min_size=1, max_size=40).filter(usable_uni_id)


@given(UNI_IDS)
def test_a_uni_id_stays_one_value_of_a_filter(uni_id):
    tree = parse_filter(fill_filter("(&(objectClass=person)(uid={uid}))", uni_id), None, False, False, None, False)
    (conjunction,) = tree.elements
    person, uid = conjunction.elements
    assert uid.tag == MATCH_EQUAL
    assert uid.elements == []
    assert person.assertion["attr"] == "objectClass"


@given(UNI_IDS)
def test_a_uni_id_stays_one_value_of_a_name(uni_id):
    uni_id = uni_id[0] + uni_id[1:].replace("#", "")  # ldap3's parser, unlike RFC 4514 2.4, wants any # escaped
    if not usable_uni_id(uni_id):
        return
    parts = parse_dn(fill_dn("uid={uid},ou=people,dc=uni", uni_id))
    assert [name for name, _, _ in parts] == ["uid", "ou", "dc"]
    assert [separator for _, _, separator in parts] == [",", ",", ""]


@given(st.text(max_size=40))
def test_no_term_breaks_the_people_filter(term):
    term = " ".join(term.split())
    if term.isprintable() and term:
        query = ATTRIBUTES.people_filter("(&(objectClass=person)(uid={uid}))", term)
        assert parse_filter(query, None, False, False, None, False).elements


def test_people_filter_keeps_the_operators_conditions():
    query = ATTRIBUTES.people_filter("(&(memberOf=cn=chat)(uid={uid}))", "ann (x")
    expected = "(&(&(memberOf=cn=chat)(uid=*))(|(uid=ann*)(displayName=*ann*))(|(uid=\\28x*)(displayName=*\\28x*)))"
    assert query == expected


@pytest.mark.parametrize("bad", ["", " a", "a ", "a\n", "a\0", "a\u200b", "a\ud800", "x" * 256, "ß" * 128])
def test_unusable_uni_ids(bad):
    assert not usable_uni_id(bad)


@pytest.mark.parametrize("bad", ["", "\0", "a\0", "\ud800", "x" * 1025])
def test_unusable_passwords(bad):
    assert password_bytes(bad) is None


def test_passwords_are_composed_but_not_altered():
    assert password_bytes("u\u0308") == "ü".encode()
    assert password_bytes("ª½\u00ad ") == "ª½\u00ad ".encode()


@pytest.mark.parametrize("bad", ["(uid=*)", "uid={uid}", "(uid={uid}", "(&(uid={uid})", "({uid})", ""])
def test_bad_filters(bad):
    with pytest.raises(ValueError, match=r"must hold|is not an LDAP filter"):
        filter_template(bad)


@pytest.mark.parametrize("bad", ["uid=x,dc=uni", "{uid}", "{uid}@uni.example", ""])
def test_bad_dn_templates(bad):
    with pytest.raises(ValueError, match=r"must hold|is not a distinguished name"):
        dn_template(bad)


def test_bad_names():
    for bad in ("", "people", "ou=people,,dc=uni"):
        with pytest.raises(ValueError, match=r"must not be empty|is not a distinguished name"):
            distinguished_name(bad)
    for bad in ("", "u id", "uid=", "uid)(a", "1uid", "*"):
        with pytest.raises(ValueError, match="must be the name of an attribute"):
            attribute_name(bad)


@pytest.mark.parametrize(
    ("uri", "host", "port", "tls", "loopback"),
    [
        ("ldap://ldap.example.org", "ldap.example.org", 389, False, False),
        ("ldaps://LDAP.example.org/", "ldap.example.org", 636, True, False),
        ("ldaps://[::1]:1636", "::1", 1636, True, True),
        ("ldap://127.0.0.1:3890", "127.0.0.1", 3890, False, True),
        ("ldap://localhost", "localhost", 389, False, True),
    ],
)
def test_uris(uri, host, port, tls, loopback):
    endpoint = Endpoint.parse(uri)
    assert (endpoint.host, endpoint.port, endpoint.tls) == (host, port, tls)
    assert endpoint.is_loopback() == loopback


@pytest.mark.parametrize(
    "bad",
    [
        "ldap.example.org",
        "http://ldap.example.org",
        "ldap://",
        "ldap://x:0",
        "ldap://x:99999",
        "ldap://x:y",
        "ldap://user:pw@x",
        "ldap://x/dc=uni",
        "ldap://x?uid",
        "ldapi:///run/ldap",
        "ldap://[::1",
    ],
)
def test_bad_uris(bad):
    with pytest.raises(ValueError, match=r"must look like|is not a URI"):
        Endpoint.parse(bad)


def test_the_uid_that_was_typed_counts():
    entry = {
        "uid": [b"\xff", b"first", b"Second"],
        "displayname": [b"\xff\xfe", b" ", "Zoë\x07\n".encode()],
        "mail": [],
    }
    assert ATTRIBUTES.person(entry, "SECOND") == Person("Second", "Zoë", None)
    assert ATTRIBUTES.person(entry, "third") is None
    assert ATTRIBUTES.person({}, "first") is None


def test_texts_are_bounded():
    person = ATTRIBUTES.person({"uid": [b"a"], "displayname": [b"x" * 9999]}, "a")
    assert person.display_name == "x" * 255


def test_best_first():
    people = [
        Person("z1", "Old Anna", None),
        Person("anna2", "B", None),
        Person("z2", "Anna", None),
        Person("ANNA", None, None),
    ]
    assert [person.uni_id for person in best_first(people, "Anna")] == ["ANNA", "anna2", "z2", "z1"]
