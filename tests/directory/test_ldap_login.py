"""Logins, look-ups and people searches against a real slapd."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.logger import capturedLogs

from heichat_appliance.extension import Person
from tests.slapd import Slapd, requires_slapd

pytestmark = requires_slapd

ALICE = Person("alice", "Alice Müller", "alice@uni.example")
MODES = {"search": {}, "direct": {"user_dn_template": Slapd.user_dn_template}}


@pytest.fixture(params=MODES)
def directory(request, make_directory, slapd):
    """Each way to log in."""
    return make_directory(slapd, **MODES[request.param])


@pytest_twisted.ensureDeferred
async def test_right_password(directory):
    assert await directory.authenticate("alice", "wonder-land") == ALICE
    assert await directory.authenticate("bob", "pässwört-ß") == Person("bob", "Bob Builder", None)


@pytest_twisted.ensureDeferred
async def test_the_directory_spells_the_uni_id(directory):
    assert await directory.authenticate("ALICE", "wonder-land") == ALICE
    assert await directory.authenticate("jb007", "licence") == Person("JB007", "Jürgen Bäcker", "jb@uni.example")


@pytest.mark.parametrize(
    ("uni_id", "password"),
    [
        ("alice", "Wonder-land"),
        ("alice", "wonder-land "),
        ("alice", "licence"),
        ("nobody", "wonder-land"),
        ("nopass", "anything"),
        ("alice", ""),
        ("alice", "\0"),
        ("alice", "wonder-land\0"),
        ("alice", "\u00ad"),  # a soft hyphen: SASLprep would make it empty
        ("alice", "\ud800"),
        ("alice", "x" * 5000),
        ("nobody", ""),
        ("", ""),
        ("", "wonder-land"),
        ("*", "wonder-land"),
        ("ali*", "wonder-land"),
        ("alice)(uid=*", "wonder-land"),
        ("*)(uid=alice", "wonder-land"),
        ("*)(|(uid=*", "wonder-land"),
        ("alice)(objectClass=*))(&(uid=alice", "wonder-land"),
        ("\\61lice", "wonder-land"),
        ("\\2a", "wonder-land"),
        ("alice,ou=people", "wonder-land"),
        ("alice,ou=people,dc=uni,dc=example", "wonder-land"),
        ("alice+uid=alice", "wonder-land"),
        ("bob,ou=people,dc=uni,dc=example\0", "pässwört-ß"),
        (" alice", "wonder-land"),
        ("alice ", "wonder-land"),
        (" ", "wonder-land"),
        ("#alice", "wonder-land"),
        ("ａｌｉｃｅ", "wonder-land"),  # full-width letters, which slapd takes for the same
        ("alice\n", "wonder-land"),
        ("al\0ice", "wonder-land"),
        ("\ud800", "wonder-land"),
        ("ä" * 128, "wonder-land"),
        ("x" * 256, "wonder-land"),
        ("twin", "same"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_refused(directory, uni_id, password):
    assert await directory.authenticate(uni_id, password) is None


@pytest_twisted.ensureDeferred
async def test_an_unauthenticated_bind_would_succeed_here(slapd):
    """The server of test_refused says yes to an empty password, so that refusing it is ours."""
    import ldap3

    connection = ldap3.Connection(ldap3.Server(slapd.uri, get_info=ldap3.NONE), version=3)
    connection.open()
    connection.user = f"uid=alice,{slapd.people_base}"
    request = ldap3.operation.bind.BindRequest()
    request["version"], request["name"] = 3, connection.user
    request["authentication"] = ldap3.operation.bind.AuthenticationChoice().setComponentByName("simple", b"")
    connection.post_send_single_response(connection.send("bindRequest", request))
    assert connection.result["description"] == "success"
    connection.unbind()


@pytest_twisted.ensureDeferred
async def test_special_characters_are_just_characters(directory):
    assert (await directory.authenticate("a,b", "escaped")).uni_id == "a,b"
    assert (await directory.authenticate("star*", "starry")).uni_id == "star*"


@pytest_twisted.ensureDeferred
async def test_binds_as_the_name_that_was_found(make_directory, slapd):
    person = await make_directory(slapd).authenticate("comma", "punctuation")
    assert person == Person("comma", "Doe, J", None)


@pytest_twisted.ensureDeferred
async def test_several_uids_the_typed_one_counts(make_directory, slapd):
    directory = make_directory(slapd)
    assert (await directory.authenticate("ZWEI", "both")).uni_id == "zwei"
    assert (await directory.authenticate("two", "both")).uni_id == "two"


@pytest_twisted.ensureDeferred
async def test_two_matches_are_refused_and_logged_without_names(make_directory, slapd):
    with capturedLogs() as events:
        assert await make_directory(slapd).authenticate("twin", "same") is None
        assert await make_directory(slapd).look_up("twin") is None
    assert sum("several entries" in event["log_format"] for event in events) == 2
    assert "twin" not in str(events).lower()


@pytest_twisted.ensureDeferred
async def test_no_password_is_logged(directory):
    with capturedLogs() as events:
        await directory.authenticate("alice", "wonder-land")
        await directory.authenticate("nopass", "seekrit-1")
        await directory.authenticate("alice", "seekrit-2")
    for secret in ("wonder-land", "seekrit", Slapd.service_password):
        assert secret not in str(events)


@pytest_twisted.ensureDeferred
async def test_the_filter_decides_who_may_log_in(make_directory, slapd):
    for mode in MODES.values():
        directory = make_directory(slapd, filter="(&(objectClass=person)(uid={uid})(!(employeeType=guest)))", **mode)
        assert await directory.authenticate("latin1", "latin") is None
        assert await directory.authenticate("alice", "wonder-land") == ALICE
        assert await directory.look_up("latin1") is None
        assert [person.uni_id for person in await directory.search("plain", 9)] == []


@pytest_twisted.ensureDeferred
async def test_other_attributes(make_directory, slapd):
    directory = make_directory(
        slapd, filter="(mail={uid}@uni.example)", uid_attribute="UID", name_attribute="CN", mail_attribute=None
    )
    assert await directory.authenticate("Alice", "wonder-land") == Person("alice", "Alice Müller", None)
    nameless = make_directory(slapd, name_attribute=None)
    assert await nameless.look_up("alice") == Person("alice", None, "alice@uni.example")
    assert await nameless.search("ALI", 5) == [Person("alice", None, "alice@uni.example")]


@pytest_twisted.ensureDeferred
async def test_a_value_that_is_no_text_is_left_out(make_directory, slapd):
    directory = make_directory(slapd, name_attribute="jpegPhoto")
    assert await directory.look_up("latin1") == Person("latin1", None, "latin1@uni.example")


@pytest_twisted.ensureDeferred
async def test_anonymous_search(make_directory, tmp_path):
    person = {"uid": "alice", "displayName": "Alice", "userPassword": "wonder-land"}
    with Slapd(tmp_path, [person], anonymous_read=True) as server:
        directory = make_directory(server, anonymous=True)
        assert await directory.authenticate("alice", "wonder-land") == Person("alice", "Alice", None)
        assert await directory.authenticate("alice", "wrong") is None
        direct = make_directory(server, anonymous=True, user_dn_template=Slapd.user_dn_template)
        assert await direct.look_up("alice") == Person("alice", "Alice", None)
        assert await direct.look_up("nobody") is None


@pytest_twisted.ensureDeferred
async def test_look_up(directory):
    assert await directory.look_up("Alice") == ALICE
    for nobody in ("nobody", "*", "", "alice)(uid=*", "x" * 256, "ali\0ce"):
        assert await directory.look_up(nobody) is None


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("ali", ["alice"]),
        ("müller", ["alice"]),
        ("MÜLL", ["alice"]),
        ("mu\u0308ller", ["alice"]),  # decomposed, as some keyboards send it
        ("bäcker jürgen", ["JB007"]),
        ("alice bäcker", []),
        ("bui", ["bob"]),
        ("a", []),
        ("", []),
        ("*", []),
        ("**", []),
        ("al*e", []),
        ("star*", ["star*"]),
        ("al)(uid=*", []),
        ("a\0b", []),
        ("x" * 300, []),
        ("zwe", ["zwei"]),
        ("doe,", ["comma"]),
    ],
)
@pytest_twisted.ensureDeferred
async def test_people_search(directory, term, found):
    assert [person.uni_id for person in await directory.search(term, 10)] == found


@pytest_twisted.ensureDeferred
async def test_people_search_best_first_and_limited(make_directory, tmp_path):
    people = [{"uid": f"x{n:03}", "displayName": f"Person {n:03} Anna", "userPassword": "x"} for n in range(40)]
    people += [{"uid": "anna", "displayName": "Zoe"}, {"uid": "annabell", "displayName": "A"}]
    people += [{"uid": "q1", "displayName": "Anna Q"}]
    with Slapd(tmp_path, people) as server:
        directory = make_directory(server)
        assert [person.uni_id for person in await directory.search("anna", 50)][:4] == [
            "anna",
            "annabell",
            "q1",
            "x000",
        ]
        assert len(await directory.search("anna", 50)) == 43
        assert len(await directory.search("person", 3)) == 3
        assert await directory.search("person", 0) == []
        assert len(await directory.search("person", 10**9)) == 40


@pytest_twisted.ensureDeferred
async def test_check_says_what_it_tried(make_directory, slapd):
    lines = await make_directory(slapd).check()
    assert any("connected" in line for line in lines)
    assert any(f"bound as {Slapd.service_dn}" in line for line in lines)
    assert any("at least one person" in line for line in lines)
    assert Slapd.service_password not in str(lines)
    empty = await make_directory(slapd, filter="(&(uid={uid})(employeeType=wizard))").check()
    assert any("NOBODY" in line for line in empty)
