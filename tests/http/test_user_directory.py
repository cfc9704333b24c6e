"""Searching for people over real HTTP, with and without a directory that answers."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, fail

from heichat_appliance.extension import DirectoryUnavailable
from tests.appliance import Appliance, q
from tests.http.room_kit import QUIET, make_room, user

PEOPLE = """\
max:secret:Max Müller
anna:secret:Anna-Lena Weiß
joe:secret:Jörg Strauß-Mueller
Änne Ü:secret:Änne Übel
"""


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",), config=QUIET)
    yield running
    await running.stop()


async def search(actor, term, **body):
    answer = await actor.post("/user_directory/search", {"search_term": term, **body})
    assert answer.status == 200, answer.json
    return answer.json


async def found(actor, term, **body):
    return [one["user_id"] for one in (await search(actor, term, **body))["results"]]


def silence(server, monkeypatch, how=None):
    """A directory that fails, or (None) never answers. The terms that it is asked for."""
    asked = []

    def search(term, limit):
        asked.append(term)
        return Deferred() if how is None else fail(how)

    monkeypatch.setattr(server.daemon.identity, "search", search)
    return asked


@pytest_twisted.ensureDeferred
async def test_people_with_an_account(server, monkeypatch):
    silence(server, monkeypatch, DirectoryUnavailable("the directory is down"))
    bob = await server.login("bob")
    await server.login("alice")
    await server.login("charlotte")
    assert await search(bob, "mül") == {
        "results": [{"user_id": user("alice"), "display_name": "Alice Müller"}], "limited": False
    }  # fmt: skip
    for term in ("ALICE", "alice müller", "Müller, A", "muller", "Mueller", "@alice", user("alice"), "ali", " alice "):
        assert await found(bob, term) == [user("alice")], term
    for term in ("gross", "GROẞ", "Groß", "prof. char"):
        assert await found(bob, term) == [user("charlotte")], term
    for term in ("bob", "lice", "alice schäfer", "", "  ", "@", '"', "a*b", "AND", "(", "x" * 5000, "chat.test", "\0"):
        assert await found(bob, term) == [], term


@pytest_twisted.ensureDeferred
async def test_changed_names_are_found(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    path = f"/profile/{q(alice.user_id)}"
    await alice.put(f"{path}/displayname", {"displayname": "Zoë Quux"})
    await alice.put(f"{path}/avatar_url", {"avatar_url": "mxc://chat.test/z"})
    assert (await search(bob, "zoe qu"))["results"] == [
        {"user_id": alice.user_id, "display_name": "Zoë Quux", "avatar_url": "mxc://chat.test/z"}
    ]
    await alice.delete(f"{path}/displayname")
    assert await found(bob, "zoe") == []
    assert await found(bob, "alice") == [alice.user_id]


@pytest_twisted.ensureDeferred
async def test_colleagues_who_never_logged_in(server):
    bob = await server.login("bob")
    results = (await search(bob, "müll"))["results"]
    assert {"user_id": user("alice"), "display_name": "Alice Müller"} in results
    alice = await server.login("alice")
    assert alice.user_id == user("alice")
    assert await found(bob, "m") == [user("alice")]  # too short for the directory, not for those known here
    assert (await search(bob, "müll"))["results"] == results  # and nobody twice


@pytest_twisted.ensureDeferred
async def test_user_ids_of_the_directory_are_those_of_the_first_login(tmp_path):
    (tmp_path / "people").write_text(PEOPLE, "utf-8")
    server = await Appliance.start(
        tmp_path, plugins=("demo_directory",), config={**QUIET, "demo_directory": {"users": str(tmp_path / "people")}}
    )
    try:
        max_ = await server.login("max", "secret")
        (there,) = await found(max_, "übel")
        assert there == "@=c3=a4nne=20=c3=bc:chat.test"
        assert (await server.login("Änne Ü", "secret")).user_id == there
        assert set(await found(max_, "mueller")) >= {user("joe")}
        await server.login("joe", "secret")
        anna = await server.login("anna", "secret")
        assert set(await found(anna, "müller")) == {user("joe"), user("max")}
        assert await found(anna, "strauss") == [user("joe")]
        assert await found(max_, "weiss lena") == [user("anna")]
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_those_who_share_a_room_come_first_and_the_list_has_an_end(server):
    bob = await server.login("bob")
    for name in ("alice", "charlotte", "david"):
        actor = await server.login(name)
        await actor.put(f"/profile/{q(actor.user_id)}/displayname", {"displayname": f"Kollege {name}"})
    await make_room(server, "bob", david="join", charlotte="invite")
    assert await found(bob, "kollege") == [user("david"), user("alice"), user("charlotte")]
    assert await search(bob, "kollege", limit=1) == {
        "results": [{"user_id": user("david"), "display_name": "Kollege david"}], "limited": True
    }  # fmt: skip
    assert len(await found(bob, "kollege", limit=0)) == 1
    assert len(await found(bob, "kollege", limit=10**9)) == 3


@pytest_twisted.ensureDeferred
async def test_locked_people_are_not_found(server):
    bob, admin = await server.login("bob"), await server.login("admin")
    await server.login("alice")
    path = f"/_matrix/client/v1/admin/lock/{q(user('alice'))}"
    assert (await admin.put(path, {"locked": True})).status == 200
    assert await found(bob, "alice") == []


@pytest.mark.parametrize("how", [None, DirectoryUnavailable("the directory is down")])
@pytest_twisted.ensureDeferred
async def test_a_directory_in_trouble_leaves_those_known_here(server, monkeypatch, how):
    monkeypatch.setattr("heichat_appliance.services.user_directory.DIRECTORY_SECONDS", 0.05)
    bob = await server.login("bob")
    await server.login("alice")
    asked = silence(server, monkeypatch, how)
    assert await found(bob, "müller") == [user("alice")]
    assert asked == ["müller"]


@pytest_twisted.ensureDeferred
async def test_bad_searches(server):
    bob = await server.login("bob")
    for body, errcode in (({}, "M_MISSING_PARAM"), ({"search_term": 5}, "M_BAD_JSON"),
                          ({"search_term": "x", "limit": "all"}, "M_BAD_JSON")):  # fmt: skip
        answer = await bob.post("/user_directory/search", body)
        assert (answer.status, answer.errcode) == (400, errcode)
    assert (await server.http.post("/user_directory/search", {"search_term": "bob"})).status == 401


@pytest_twisted.ensureDeferred
async def test_searches_are_limited(tmp_path):
    limits = {"enabled": "yes", "search_rate": "0.01", "search_burst": "2"}
    server = await Appliance.start(tmp_path, plugins=("demo_directory",), config={**QUIET, "limits": limits})
    try:
        bob = await server.login("bob")
        statuses = [(await bob.post("/user_directory/search", {"search_term": "a"})).status for _ in range(3)]
        assert statuses == [200, 200, 429]
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_what_is_absent(server):
    bob = await server.login("bob")
    assert (await bob.get("/thirdparty/protocols")).json == {}
    assert (await bob.get("/pushers")).json == {"pushers": []}
    for path in ("/voip/turnServer", "/thirdparty/protocol/irc", "/thirdparty/user", "/thirdparty/location",
                 "/thirdparty/user/irc", "/thirdparty/location/irc"):  # fmt: skip
        answer = await bob.get(path)
        assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")
