"""Room aliases, the room directory, and reports."""

from __future__ import annotations

import pytest
import pytest_twisted

from heichat_appliance.services import aliases as service
from tests.appliance import Appliance, q
from tests.http.writing_kit import OUTSIDE, content, people, refused, user


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",))
    yield running
    await running.stop()


def alias_path(alias):
    return f"/directory/room/{q(alias)}"


@pytest_twisted.ensureDeferred
async def test_an_alias_leads_to_its_room(server):
    alice = await server.login("alice")
    room_id = await alice.create_room()
    alias = "#grüße/%:chat.test"
    refused(await alice.get(alias_path(alias)), 404, "M_NOT_FOUND", alias)
    assert (await alice.put(alias_path(alias), {"room_id": room_id})).json == {}
    expected = {"room_id": room_id, "servers": ["chat.test"]}
    assert (await alice.get(alias_path(alias))).json == expected
    assert (await server.http.get(alias_path(alias))).json == expected
    refused(await alice.put(alias_path(alias), {"room_id": room_id}), 409, "M_UNKNOWN", alias)
    assert (await alice.get(f"/rooms/{q(room_id)}/aliases")).json == {"aliases": [alias]}
    assert (await alice.delete(alias_path(alias))).json == {}
    refused(await alice.delete(alias_path(alias)), 404, "M_NOT_FOUND", alias)
    refused(await alice.get(alias_path(alias)), 404, "M_NOT_FOUND")


@pytest_twisted.ensureDeferred
async def test_only_members_make_aliases_and_see_them(server):
    room_id, actors = await people(server)
    actors["bob"].ok(await actors["bob"].put(alias_path("#bobs:chat.test"), {"room_id": room_id}))
    for name in OUTSIDE:
        actor = actors[name]
        refused(await actor.put(alias_path("#x:chat.test"), {"room_id": room_id}), 403, "M_FORBIDDEN")
        refused(await actor.put(alias_path("#x:chat.test"), {"room_id": "!unknown:chat.test"}), 403, "M_FORBIDDEN")
        refused(await actor.get(f"/rooms/{q(room_id)}/aliases"), 403, "M_FORBIDDEN")
        refused(await actor.get(f"/rooms/{q('!unknown:chat.test')}/aliases"), 403, "M_FORBIDDEN")
        refused(await actor.delete(alias_path("#bobs:chat.test")), 403, "M_FORBIDDEN")
    await actors["alice"].set_state(room_id, "m.room.history_visibility", {"history_visibility": "world_readable"})
    assert (await actors["frieda"].get(f"/rooms/{q(room_id)}/aliases")).json == {"aliases": ["#bobs:chat.test"]}


@pytest_twisted.ensureDeferred
async def test_who_deletes_an_alias(server):
    room_id, actors = await people(server)
    admin, alice, bob = await server.login("admin"), actors["alice"], actors["bob"]

    async def make(actor):
        actor.ok(await actor.put(alias_path("#x:chat.test"), {"room_id": room_id}))

    await make(alice)
    refused(await bob.delete(alias_path("#x:chat.test")), 403, "M_FORBIDDEN")
    await alice.set_state(room_id, "m.room.canonical_alias", {"alias": "#x:chat.test", "alt_aliases": ["#x:chat.test"]})
    alice.ok(await alice.delete(alias_path("#x:chat.test")))
    assert content(server, room_id, "m.room.canonical_alias") == {"alt_aliases": []}
    for maker, remover in ((bob, bob), (bob, alice), (alice, admin)):
        await make(maker)
        await alice.set_state(room_id, "m.room.canonical_alias", {"alias": "#x:chat.test"})
        remover.ok(await remover.delete(alias_path("#x:chat.test")))
        refused(await alice.get(alias_path("#x:chat.test")), 404, "M_NOT_FOUND")


@pytest_twisted.ensureDeferred
async def test_bad_aliases(server, monkeypatch):
    alice = await server.login("alice")
    room_id = await alice.create_room()
    for bad in ("x", "#x", "#:chat.test", "#x:", "#x:a b", "!x:chat.test", "#" + "x" * 250 + ":chat.test"):
        refused(await alice.get(alias_path(bad)), 400, "M_INVALID_PARAM", "roomAlias")
        refused(await alice.put(alias_path(bad), {"room_id": room_id}), 400, "M_INVALID_PARAM", "roomAlias")
        refused(await alice.delete(alias_path(bad)), 400, "M_INVALID_PARAM", "roomAlias")
    refused(await alice.put(alias_path("#x:other.test"), {"room_id": room_id}), 400, "M_INVALID_PARAM", "chat.test")
    refused(await alice.get(alias_path("#x:other.test")), 404, "M_NOT_FOUND")
    refused(await alice.put(alias_path("#x:chat.test"), {}), 400, "M_MISSING_PARAM", "room_id")
    refused(await alice.put(alias_path("#x:chat.test"), {"room_id": 1}), 400, "M_BAD_JSON", "room_id")
    refused(await alice.put(alias_path("#x:chat.test"), {"room_id": "x"}), 400, "M_INVALID_PARAM", "room_id")
    refused(await server.http.put(alias_path("#x:chat.test"), {"room_id": room_id}), 401, "M_MISSING_TOKEN")
    monkeypatch.setattr(service, "MAX_ALIASES", 1)
    alice.ok(await alice.put(alias_path("#x:chat.test"), {"room_id": room_id}))
    refused(await alice.put(alias_path("#y:chat.test"), {"room_id": room_id}), 403, "M_FORBIDDEN", "1 room aliases")


# -- the room directory ------------------------------------------------------------------------------------------


async def visibility(actor, room_id):
    return actor.ok(await actor.get(f"/directory/list/room/{q(room_id)}"))["visibility"]


@pytest_twisted.ensureDeferred
async def test_publishing(server):
    room_id, actors = await people(server)
    alice, path = actors["alice"], f"/directory/list/room/{q(room_id)}"
    assert await visibility(alice, room_id) == "private"
    for name in ("bob", *OUTSIDE):
        for wish in ("public", "private"):
            refused(await actors[name].put(path, {"visibility": wish}), 403, "M_FORBIDDEN")
    assert (await alice.put(path, {})).json == {}
    assert await visibility(actors["frieda"], room_id) == "public"
    assert (await server.http.get(path)).json == {"visibility": "public"}
    alice.ok(await alice.put(path, {"visibility": "private"}))
    assert await visibility(alice, room_id) == "private"
    refused(await alice.put(path, {"visibility": "open"}), 400, "M_BAD_JSON", "visibility")
    for method in ("GET", "PUT"):
        refused(await alice.request(method, "/directory/list/room/%21no:chat.test", {}), 404, "M_NOT_FOUND")
        refused(await alice.request(method, "/directory/list/room/x", {}), 400, "M_INVALID_PARAM", "roomId")


@pytest_twisted.ensureDeferred
async def test_public_rooms_page_by_page(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    space = await alice.create_room(
        visibility="public", name="Fakultät", topic="Everything", room_alias_name="fak",
        creation_content={"type": "m.space"},
        initial_state=[{"type": "m.room.avatar", "content": {"url": "mxc://chat.test/a"}}],
    )  # fmt: skip
    readable = {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}
    small = [await alice.create_room(visibility="public", name=f"R{n}", initial_state=[readable]) for n in range(3)]
    await alice.create_room(name="hidden")
    await bob.join(space)
    everything = (await server.http.get("/publicRooms")).json
    assert everything["chunk"][0] == {
        "room_id": space, "num_joined_members": 2, "world_readable": False, "guest_can_join": False,
        "join_rule": "public", "name": "Fakultät", "topic": "Everything", "canonical_alias": "#fak:chat.test",
        "avatar_url": "mxc://chat.test/a", "room_type": "m.space",
    }  # fmt: skip
    assert everything["total_room_count_estimate"] == 4 and "next_batch" not in everything
    assert all(room["world_readable"] for room in everything["chunk"][1:])

    pages, since = [], {}
    while True:
        page = (await bob.get("/publicRooms", limit=3, **since)).json
        pages.append([room["room_id"] for room in page["chunk"]])
        if "next_batch" not in page:
            break
        since = {"since": page["next_batch"]}
    assert [len(page) for page in pages] == [3, 1] and {room for page in pages for room in page} == {space, *small}
    assert (await bob.get("/publicRooms", limit=3, since=page["prev_batch"])).json["chunk"] == everything["chunk"][:3]

    async def search(**body):
        return {room["room_id"] for room in bob.ok(await bob.post("/publicRooms", body))["chunk"]}

    assert await search() == {space, *small}
    assert await search(filter={"generic_search_term": "fakULTät every"}) == {space}
    assert await search(filter={"generic_search_term": "#fak:"}) == {space}
    assert await search(filter={"room_types": [None]}) == set(small)
    assert await search(filter={"room_types": ["m.space"]}) == {space}
    assert await search(filter={"room_types": ["m.space", None]}, limit=2) <= {space, *small}
    assert await search(filter={"generic_search_term": "hidden"}, include_all_networks=True) == set()


@pytest.mark.parametrize(
    ("query", "status", "errcode"),
    [
        ("limit=x", 400, "M_INVALID_PARAM"),
        ("since=%21", 400, "M_INVALID_PARAM"),
        ("since=" + "x" * 500, 400, "M_INVALID_PARAM"),
        ("since=LTE", 400, "M_INVALID_PARAM"),
        ("server=other.test", 404, "M_NOT_FOUND"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_questions_to_the_directory(server, query, status, errcode):
    refused(await server.http.get(f"/publicRooms?{query}"), status, errcode)


@pytest_twisted.ensureDeferred
async def test_bad_searches_of_the_directory(server):
    alice = await server.login("alice")
    for body in (
        {"limit": "x"},
        {"filter": []},
        {"filter": {"room_types": "x"}},
        {"filter": {"generic_search_term": 1}},
    ):
        refused(await alice.post("/publicRooms", body), 400, "M_BAD_JSON")
    refused(await alice.post("/publicRooms", {"since": "!"}), 400, "M_INVALID_PARAM", "since")
    refused(await server.http.post("/publicRooms", {}), 401, "M_MISSING_TOKEN")
    assert alice.ok(await alice.post("/publicRooms?server=chat.test", {"limit": -5}))["chunk"] == []


# -- reports -----------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_reports_are_kept(server):
    room_id, actors = await people(server)
    bob, frieda = actors["bob"], actors["frieda"]
    event_id = await actors["alice"].send(room_id, "rude")

    def kept():
        return server.daemon.engine.read(
            "SELECT reporter, room_id, event_id, user_id, reason FROM reports ORDER BY id"
        ).fetchall()

    def event_path(room=room_id, event=event_id):
        return f"/rooms/{q(room)}/report/{q(event)}"

    assert (await bob.post(event_path(), {"reason": "rude", "score": -100})).json == {}
    assert (await bob.post(event_path())).json == {}
    assert (await frieda.post(f"/rooms/{q(room_id)}/report", {"reason": ""})).json == {}
    assert (await frieda.post(f"/users/{q(user('alice'))}/report", {"reason": "spam"})).json == {}
    expected = [
        (user("bob"), room_id, event_id, None, "rude"),
        (user("bob"), room_id, event_id, None, ""),
        (user("frieda"), room_id, None, None, ""),
        (user("frieda"), None, None, user("alice"), "spam"),
    ]
    assert kept() == expected
    for name in OUTSIDE:
        refused(await actors[name].post(event_path(), {"reason": "x"}), 404, "M_NOT_FOUND")
    other = await bob.create_room()
    refused(await bob.post(event_path(other), {"reason": "x"}), 404, "M_NOT_FOUND")
    refused(await bob.post(event_path(event="$unknown"), {"reason": "x"}), 404, "M_NOT_FOUND")
    refused(await bob.post(event_path(), {"reason": 5}), 400, "M_BAD_JSON", "reason")
    refused(await bob.post(event_path(), {"reason": "x" * 9000}), 413, "M_TOO_LARGE", "reason")
    refused(await bob.post(f"/rooms/{q('!no:chat.test')}/report", {"reason": "x"}), 404, "M_NOT_FOUND")
    refused(await bob.post(f"/rooms/{q(room_id)}/report", {}), 400, "M_MISSING_PARAM", "reason")
    refused(await bob.post(f"/users/{q('@nobody:chat.test')}/report", {"reason": "x"}), 404, "M_NOT_FOUND")
    refused(await bob.post("/users/bob/report", {"reason": "x"}), 400, "M_INVALID_PARAM", "userId")
    assert kept() == expected


@pytest_twisted.ensureDeferred
async def test_reports_do_not_pile_up(server, monkeypatch):
    from heichat_appliance.services import reports

    monkeypatch.setattr(reports, "MAX_A_DAY", 2)
    alice = await server.login("alice")
    path = f"/users/{q(alice.user_id)}/report"
    for _ in range(2):
        alice.ok(await alice.post(path, {"reason": "x"}))
    refused(await alice.post(path, {"reason": "x"}), 429, "M_LIMIT_EXCEEDED")


@pytest_twisted.ensureDeferred
async def test_there_are_no_application_services(server):
    alice = await server.login("alice")
    answer = await alice.put("/directory/list/appservice/irc/%21x:chat.test", {"visibility": "public"})
    refused(answer, 403, "M_FORBIDDEN")
