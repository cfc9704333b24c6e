"""The plugins ldap_identity and demo_directory: found by twisted.plugin, built from a configuration."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import pytest_twisted
from twisted.plugin import getPlugins
from zope.interface.verify import verifyObject

import heichat_appliance.plugins
from heichat_appliance.config import ConfigErrors, Section, example, from_values
from heichat_appliance.directory.ldap import LdapDirectory
from heichat_appliance.directory.people_file import from_ldif, from_users
from heichat_appliance.extension import IExtension, IIdentity, Person
from tests.slapd import Slapd, requires_slapd

DEMO, REAL = SimpleNamespace(demo=True), SimpleNamespace(demo=False)
GOOD = {"uri": "ldaps://ldap.example.org", "base": "ou=people,dc=uni,dc=example"}


@pytest.fixture(scope="module")
def extensions():
    """By name, as the service finds them."""
    return {extension.name: extension for extension in getPlugins(IExtension, heichat_appliance.plugins)}


@pytest.fixture
def build(extensions, tmp_path):
    """`build(name, host, **values)`: the object that the configuration gives."""

    def make(name, host=REAL, **values):
        extension = extensions[name]
        section = Section(name, extension.__doc__, extension.options)
        config = from_values({name: values}, [section], source="test", folder=tmp_path)
        return extension.build(config[name], host)

    return make


def errors(build, *args, **values):
    """What the configuration is refused for."""
    with pytest.raises(ConfigErrors) as caught:
        build(*args, **values)
    return caught.value.errors


def test_what_is_found(extensions):
    for name in ("ldap_identity", "demo_directory"):
        verifyObject(IExtension, extensions[name])


def test_the_example_shows_every_key(extensions):
    extension = extensions["ldap_identity"]
    text = example([Section(extension.name, extension.__doc__, extension.options)])
    for option in extension.options:
        assert f"\n{option.key} = " in text or f"\n# {option.key} = " in text or f"\n# {option.key} =\n" in text


def test_ldap_defaults(build):
    verifyObject(IIdentity, build("ldap_identity", **GOOD))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"uri": "http://x"}, "[ldap_identity] uri 'http://x' must look like"),
        ({"base": "people"}, "[ldap_identity] base is not a distinguished name"),
        ({"filter": "(uid=x)"}, "[ldap_identity] filter must hold {uid}"),
        ({"user_dn_template": "{uid}@uni"}, "[ldap_identity] user_dn_template is not a distinguished name"),
        ({"uid_attribute": ""}, "[ldap_identity] uid_attribute must be the name"),
        ({"timeout": "0"}, "[ldap_identity] timeout must be a number"),
        ({"bind_dn": "cn=x,dc=y"}, "[ldap_identity] bind_dn and bind_password"),
        ({"bind_password": "x"}, "[ldap_identity] bind_dn and bind_password"),
        ({"bind_password": "x", "bind_password_file": "pw", "bind_dn": "cn=x"}, "can't both be set"),
        ({"bind_password_file": "absent", "bind_dn": "cn=x,dc=y"}, "[ldap_identity] bind_password_file can't be read"),
        ({"bind_password_file": "empty", "bind_dn": "cn=x,dc=y"}, "[ldap_identity] bind_password_file is empty"),
        ({"ca_file": "absent.pem"}, "[ldap_identity] ca_file"),
    ],
)
def test_ldap_settings_that_are_refused(build, tmp_path, values, message):
    (tmp_path / "empty").write_text("\n")
    assert message in "\n".join(errors(build, "ldap_identity", **{**GOOD, **values}))


def test_a_missing_section(extensions, tmp_path):
    extension = extensions["ldap_identity"]
    section = Section(extension.name, extension.__doc__, extension.options)
    config = from_values({}, [section], source="test", folder=tmp_path)
    with pytest.raises(ConfigErrors) as caught:
        extension.build(config["ldap_identity"], REAL)
    assert [error.split()[1] for error in caught.value.errors] == ["uri", "base"]


@pytest.mark.slapd
@pytest.mark.skipif(requires_slapd[1].args[0], reason=requires_slapd[1].kwargs["reason"])
@pytest_twisted.ensureDeferred
async def test_ldap_from_a_configuration(build, slapd, authority, tmp_path):
    (tmp_path / "secret").write_text(Slapd.service_password + "\n")
    directory = build(
        "ldap_identity",
        uri=f"ldaps://127.0.0.1:1\n{slapd.ldaps_uri}",
        base=Slapd.base,
        ca_file=str(authority.ca_file),
        bind_dn=Slapd.service_dn,
        bind_password_file="secret",
        mail_attribute="",
    )
    assert isinstance(directory, LdapDirectory)
    directory.start()
    try:
        assert await directory.authenticate("Alice", "wonder-land") == Person("alice", "Alice Müller", None)
    finally:
        directory.stop()


# -- demo ------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_demo_people(build):
    directory = build("demo_directory", DEMO)
    verifyObject(IIdentity, directory)
    directory.start()
    assert len(directory.people) >= 6
    assert {"student", "staff", "lecturer", "doctoral candidate", "administrator"} <= {p.role for p in directory.people}
    for one in directory.people:
        assert await directory.authenticate(one.person.uni_id.upper(), one.password) == one.person
        for wrong in ("", one.password + "x", one.password.upper(), "\ud800", "\0"):
            assert await directory.authenticate(one.person.uni_id, wrong) is None
        assert one.password not in repr(one)
    directory.stop()


@pytest_twisted.ensureDeferred
async def test_demo_questions(build):
    directory = build("demo_directory", DEMO)
    alice = Person("alice", "Alice Müller", "alice.mueller@uni.example")
    assert await directory.look_up("ALICE") == alice
    assert await directory.search("müll", 5) == [alice]
    assert await directory.search("alice müller", 5) == [alice]
    assert await directory.authenticate("nobody", "-") is None
    assert await directory.look_up("nobody") is None
    for nothing in ("m", "", "*", "alice schäfer"):
        assert await directory.search(nothing, 5) == []
    assert len(await directory.search("er", 2)) == 2
    assert await directory.search("er", 0) == []
    assert "people" in (await directory.check())[0]


def test_demo_only_when_meant(build):
    assert "for trials only" in errors(build, "demo_directory", REAL)[0]
    assert build("demo_directory", REAL, demo="yes").people


def test_demo_people_of_the_operator(build, tmp_path):
    (tmp_path / "users").write_text("# mine\n\nzoe:s3cret:Zoë Ångström:zoe@uni.example:staff\nmax:pw\n")
    people = build("demo_directory", DEMO, users="users").people
    assert [one.person for one in people] == [
        Person("zoe", "Zoë Ångström", "zoe@uni.example"),
        Person("max", None, None),
    ]
    (tmp_path / "people.ldif").write_text("dn: uid=z\nuid: z\nuserPassword: a\n b\ndisplayName:: Wm/Dqw==\n")
    (one,) = build("demo_directory", DEMO, ldif="people.ldif").people
    assert (one.person, one.password) == (Person("z", "Zoë", None), "ab")
    assert "can't both be set" in errors(build, "demo_directory", DEMO, ldif="people.ldif", users="users")[0]
    assert "can't be used" in errors(build, "demo_directory", DEMO, ldif="absent")[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uid: a\n", "a: the password is missing"),
        ("uid: a\nuserPassword: {SSHA}abc\n", "a: the demo directory needs userPassword in clear"),
        ("uid: a\nuserPassword: x\n\nuid: A\nuserPassword: y\n", "A is there twice"),
        ("uid a\n", "is not a line of LDIF"),
        ("uid:: !!!\n", "is not UTF-8 text in base64"),
        ("uid:: /w==\n", "is not UTF-8 text in base64"),
        ("uid:: AA==\nuserPassword: x\n", "can't be a Uni-ID"),
    ],
)
def test_bad_ldif(text, message):
    with pytest.raises(ValueError, match=message):
        from_ldif(text)


def test_bad_users():
    for bad in ("alone", "a:b:c:d:e:f"):
        with pytest.raises(ValueError, match="line 1 is not"):
            from_users(bad)
    with pytest.raises(ValueError, match="password is missing"):
        from_users("a:")
