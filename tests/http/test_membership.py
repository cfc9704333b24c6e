"""Joining, inviting, leaving, removing, banning, knocking, forgetting: for people of every standing."""

from __future__ import annotations

import pytest
import pytest_twisted

from tests.appliance import SERVER_NAME, Appliance, q
from tests.http.writing_kit import (
    OUTSIDE,
    VERSIONS,
    content,
    member,
    membership,
    people,
    refused,
    timeline,
    total,
    user,
)


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",))
    yield running
    await running.stop()


def path(room_id, action):
    return f"/rooms/{q(room_id)}/{action}"


async def knockable(alice, join_rule="knock", **options):
    rules = {"type": "m.room.join_rules", "content": {"join_rule": join_rule, **options.pop("rules", {})}}
    return await alice.create_room(initial_state=[rules], **options)


# -- join --------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_invited_join_by_id_and_alias_and_joining_again_changes_nothing(server):
    alice, bob, emine = [await server.login(name) for name in ("alice", "bob", "emine")]
    room_id = await alice.create_room(room_alias_name="ours", invite=[bob.user_id, emine.user_id])
    answer = await bob.post(path(room_id, "join"), {"reason": "curious"})
    assert answer.json == {"room_id": room_id}
    assert member(server, room_id, "bob") == {"membership": "join", "displayname": "Bob Schäfer", "reason": "curious"}
    before = total(server)
    assert (await bob.post(path(room_id, "join"))).json == {"room_id": room_id}
    assert await bob.join(f"#ours:{SERVER_NAME}") == room_id
    assert total(server) == before
    answer = await emine.post(f"/join/{q(f'#ours:{SERVER_NAME}')}?via=a&via=b", {"third_party_signed": {"x": 1}})
    assert answer.json == {"room_id": room_id}
    assert membership(server, room_id, "emine") == "join"


@pytest_twisted.ensureDeferred
async def test_only_the_invited_join(server):
    room_id, actors = await people(server)
    for name in ("david", "emine", "frieda"):
        before = membership(server, room_id, name)
        refused(await actors[name].post(path(room_id, "join")), 403, "M_FORBIDDEN")
        refused(await actors[name].post(f"/join/{q(room_id)}"), 403, "M_FORBIDDEN")
        assert membership(server, room_id, name) == before
    await actors["charlotte"].join(room_id)


@pytest_twisted.ensureDeferred
async def test_bad_joins(server):
    alice = await server.login("alice")
    for room in ("!unknown:chat.test", f"#unknown:{SERVER_NAME}", "#unknown:other.test"):
        refused(await alice.post(f"/join/{q(room)}"), 404, "M_NOT_FOUND")
    for room in ("x", "@alice:chat.test", "#x", "!x:", "!" + "x" * 300 + ":chat.test", "!a\x01:x y"):
        refused(await alice.post(f"/join/{q(room)}"), 400, "M_INVALID_PARAM", "roomIdOrAlias")
        refused(await alice.post(path(room, "join")), 400, "M_INVALID_PARAM", "roomId")
    refused(await alice.request("POST", "/join/%21a%ff:chat.test", {}), 400, "M_INVALID_PARAM", "UTF-8")
    refused(await alice.request("POST", "/join/%21a%zz:chat.test", {}), 400, "M_INVALID_PARAM", "percent")
    room_id = await alice.create_room()
    refused(await alice.post(path(room_id, "join"), {"reason": 1}), 400, "M_BAD_JSON", "reason")
    refused(await alice.post(path(room_id, "join"), raw=b"{"), 400, "M_NOT_JSON")
    refused(await server.http.post(path(room_id, "join")), 401, "M_MISSING_TOKEN")


@pytest.mark.parametrize("rule", ["restricted", "knock_restricted"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_restricted_rooms_let_members_of_the_named_rooms_in(server, version, rule):
    alice, bob, emine = [await server.login(name) for name in ("alice", "bob", "emine")]
    space = await alice.create_room(creation_content={"type": "m.space"}, invite=[bob.user_id, emine.user_id])
    await bob.join(space)
    allow = [{"type": "org.example.other", "room_id": space}, {"type": "m.room_membership", "room_id": space}]
    room_id = await knockable(alice, rule, rules={"allow": allow}, room_version=version)
    await bob.join(room_id)
    assert member(server, room_id, "bob")["join_authorised_via_users_server"] == alice.user_id
    # Emine is only invited to the space, so she is not its member.
    refused(await emine.post(path(room_id, "join")), 403, "M_FORBIDDEN")
    await emine.join(space)
    await emine.join(room_id)
    # Who leaves the space stays in the room, but doesn't come back.
    await emine.leave(space)
    assert membership(server, room_id, "emine") == "join"
    await emine.leave(room_id)
    refused(await emine.post(path(room_id, "join")), 403, "M_FORBIDDEN")
    # An invitation is good without the space, and the banned stay outside with it.
    await alice.invite(room_id, emine.user_id)
    await emine.join(room_id)
    assert "join_authorised_via_users_server" not in member(server, room_id, "emine")
    alice.ok(await alice.post(path(room_id, "ban"), {"user_id": bob.user_id}))
    refused(await bob.post(path(room_id, "join")), 403, "M_FORBIDDEN")


@pytest_twisted.ensureDeferred
async def test_a_restricted_room_needs_somebody_who_may_invite(server):
    alice, bob, david = [await server.login(name) for name in ("alice", "bob", "david")]
    space = await alice.create_room(invite=[bob.user_id, david.user_id])
    for actor in (bob, david):
        await actor.join(space)
    room_id = await knockable(
        alice, "restricted", rules={"allow": [{"type": "m.room_membership", "room_id": space}]}, invite=[david.user_id],
        power_level_content_override={"invite": 50, "users": {alice.user_id: 100, david.user_id: 50}},
    )  # fmt: skip
    await david.join(room_id)
    await alice.leave(room_id)
    await bob.join(room_id)
    assert member(server, room_id, "bob")["join_authorised_via_users_server"] == david.user_id
    await bob.leave(room_id)
    await david.leave(room_id)
    refused(await bob.post(path(room_id, "join")), 403, "M_FORBIDDEN")


# -- invite ------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_an_invitation_says_who_and_why_and_comes_once(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    bob.ok(await bob.put(f"/profile/{q(bob.user_id)}/avatar_url", {"avatar_url": "mxc://chat.test/bob"}))
    room_id = await alice.create_room()
    for _ in range(2):
        answer = await alice.post(path(room_id, "invite"), {"user_id": bob.user_id, "reason": "join us"})
        assert (answer.status, answer.json) == (200, {})
    expected = {
        "membership": "invite", "displayname": "Bob Schäfer", "avatar_url": "mxc://chat.test/bob", "reason": "join us"
    }  # fmt: skip
    invites = [event.content for event in timeline(server, room_id) if event.state_key == bob.user_id]
    assert invites == [expected]


@pytest_twisted.ensureDeferred
async def test_who_may_be_invited(server):
    alice = await server.login("alice")
    room_id = await alice.create_room()

    async def invite(body):
        return await alice.post(path(room_id, "invite"), body)

    refused(await invite({"user_id": "@bob:other.test"}), 403, "M_FORBIDDEN", "another server", "anderen Server")
    refused(await invite({"user_id": "@nobody:chat.test"}), 404, "M_NOT_FOUND", "@nobody:chat.test")
    # Uni-IDs in upper case make the same user ID; no other spelling of it is a person.
    refused(await invite({"user_id": "@=62ob:chat.test"}), 404, "M_NOT_FOUND")
    for bad in (
        "bob",
        "@Bob:chat.test",
        "@b ob:chat.test",
        "@:chat.test",
        "@bob",
        "!bob:chat.test",
        "@" + "b" * 300 + ":chat.test",
    ):
        refused(await invite({"user_id": bad}), 400, "M_INVALID_PARAM", "user_id")
    for bad in (1, [], None, {}):
        answer = await invite({"user_id": bad})
        refused(answer, 400, "M_MISSING_PARAM" if bad is None else "M_BAD_JSON", "user_id")
    refused(await invite({"user_id": user("bob"), "reason": []}), 400, "M_BAD_JSON", "reason")
    refused(await invite({"medium": "email", "address": "bob@x.y", "id_server": "x"}), 403, "M_FORBIDDEN", "E-Mail")
    refused(await invite({"user_id": user("bob"), "reason": "x" * 70_000}), 413, "M_TOO_LARGE")
    assert total(server) == len(timeline(server, room_id)) and membership(server, room_id, "bob") is None
    await alice.invite(room_id, user("bob"))
    refused(await invite({"user_id": user("alice")}), 403, "M_FORBIDDEN")


@pytest_twisted.ensureDeferred
async def test_outsiders_do_not_invite_and_learn_nothing(server):
    room_id, actors = await people(server)
    for name in OUTSIDE:
        for target in ("@gurpreet:chat.test", "@nobody:chat.test", user("bob"), user("charlotte")):
            answer = await actors[name].post(path(room_id, "invite"), {"user_id": target})
            refused(answer, 403, "M_FORBIDDEN", "nicht in diesem Raum")
        answer = await actors[name].post(path("!unknown:chat.test", "invite"), {"user_id": user("bob")})
        refused(answer, 403, "M_FORBIDDEN", "nicht in diesem Raum")
    for target in ("bob", "emine"):  # joined, banned
        refused(
            await actors["alice"].post(path(room_id, "invite"), {"user_id": user(target)}), 403, "M_FORBIDDEN", target
        )
    await actors["bob"].invite(room_id, user("gurpreet"))
    await actors["alice"].invite(room_id, user("david"))
    assert membership(server, room_id, "david") == "invite"


@pytest_twisted.ensureDeferred
async def test_blocked_invitations_and_missing_power(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    room_id = await alice.create_room(invite=[bob.user_id], power_level_content_override={"invite": 50})
    await bob.join(room_id)
    refused(await bob.post(path(room_id, "invite"), {"user_id": user("emine")}), 403, "M_FORBIDDEN")
    emine = await server.login("emine")
    setting = f"/user/{q(emine.user_id)}/account_data/m.invite_permission_config"
    emine.ok(await emine.put(setting, {"default_action": "block"}))
    refused(
        await alice.post(path(room_id, "invite"), {"user_id": emine.user_id}), 403, "M_INVITE_BLOCKED", emine.user_id
    )
    state = f"/rooms/{q(room_id)}/state/m.room.member/{q(emine.user_id)}"
    refused(await alice.put(state, {"membership": "invite"}), 403, "M_INVITE_BLOCKED")
    assert membership(server, room_id, "emine") is None
    emine.ok(await emine.put(setting, {}))
    await alice.invite(room_id, emine.user_id)


# -- leave and forget --------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_leaving_rejecting_and_being_gone(server):
    room_id, actors = await people(server)
    answer = await actors["bob"].post(path(room_id, "leave"), {"reason": "bye"})
    assert (answer.status, answer.json) == (200, {})
    assert member(server, room_id, "bob") == {"membership": "leave", "reason": "bye"}
    await actors["charlotte"].leave(room_id)
    assert membership(server, room_id, "charlotte") == "leave"
    before = total(server)
    await actors["david"].leave(room_id)
    assert total(server) == before
    refused(await actors["emine"].post(path(room_id, "leave")), 403, "M_FORBIDDEN")
    assert membership(server, room_id, "emine") == "ban"
    refused(await actors["frieda"].post(path(room_id, "leave")), 403, "M_FORBIDDEN")
    refused(await actors["frieda"].post(path("!unknown:chat.test", "leave")), 403, "M_FORBIDDEN")
    refused(await actors["alice"].post(path(room_id, "leave"), {"reason": {}}), 400, "M_BAD_JSON", "reason")


@pytest_twisted.ensureDeferred
async def test_forgetting(server):
    room_id, actors = await people(server)

    async def forget(name):
        return await actors[name].post(path(room_id, "forget"))

    def forgotten(name):
        rows = server.daemon.engine.read("SELECT 1 FROM forgotten_rooms WHERE user_id = ?", (user(name),))
        return rows.fetchone() is not None

    for name in ("alice", "charlotte"):
        refused(await forget(name), 400, "M_UNKNOWN")
    refused(await forget("frieda"), 404, "M_NOT_FOUND")
    refused(await actors["alice"].post(path("!unknown:chat.test", "forget")), 404, "M_NOT_FOUND")
    for name in ("david", "emine"):
        assert (await forget(name)).json == {} and (await forget(name)).json == {}
        assert forgotten(name)
    await actors["alice"].invite(room_id, user("david"))
    assert not forgotten("david")


# -- kick, ban, unban --------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_kicking(server):
    room_id, actors = await people(server)
    alice = actors["alice"]

    async def kick(actor, name, **body):
        return await actor.post(path(room_id, "kick"), {"user_id": user(name), **body})

    assert (await kick(alice, "bob", reason="spam")).json == {}
    assert member(server, room_id, "bob") == {"membership": "leave", "reason": "spam"}
    assert (await kick(alice, "charlotte")).status == 200
    assert membership(server, room_id, "charlotte") == "leave"
    for name in ("bob", "david", "emine", "frieda"):  # not in the room; kicking must not lift a ban
        refused(await kick(alice, name), 403, "M_FORBIDDEN", user(name))
    assert membership(server, room_id, "emine") == "ban"


@pytest.mark.parametrize("action", ["kick", "ban", "unban"])
@pytest_twisted.ensureDeferred
async def test_power_is_for_members_with_the_level(server, action):
    room_id, actors = await people(server)
    before = total(server)
    for name in ("bob", *OUTSIDE):
        for target in ("alice", "bob", "charlotte", "emine", "frieda"):
            if name != target:
                answer = await actors[name].post(path(room_id, action), {"user_id": user(target)})
                refused(answer, 403, "M_FORBIDDEN")
    alice = actors["alice"]
    refused(await alice.post(path("!unknown:chat.test", action), {"user_id": user("bob")}), 403, "M_FORBIDDEN")
    refused(await alice.post(path("x", action), {"user_id": user("bob")}), 400, "M_INVALID_PARAM", "roomId")
    refused(await alice.post(path(room_id, action), {}), 400, "M_MISSING_PARAM", "user_id")
    refused(await alice.post(path(room_id, action), {"user_id": 1}), 400, "M_BAD_JSON", "user_id")
    refused(await alice.post(path(room_id, action), {"user_id": "bob"}), 400, "M_INVALID_PARAM", "user_id")
    refused(await alice.post(path(room_id, action), {"user_id": user("bob"), "reason": 1}), 400, "M_BAD_JSON", "reason")
    assert total(server) == before


@pytest_twisted.ensureDeferred
async def test_banning_and_lifting_it(server):
    room_id, actors = await people(server)
    alice = actors["alice"]

    async def act(action, name, **body):
        return await alice.post(path(room_id, action), {"user_id": user(name), **body})

    for name in ("bob", "charlotte", "david", "frieda", "gurpreet"):
        assert (await act("ban", name, reason="enough")).json == {}
        assert member(server, room_id, name) == {"membership": "ban", "reason": "enough"}
    before = total(server)
    assert (await act("ban", "bob", reason="enough")).json == {}
    assert total(server) == before
    refused(await actors["bob"].post(path(room_id, "join")), 403, "M_FORBIDDEN")
    refused(await act("invite", "bob"), 403, "M_FORBIDDEN", user("bob"))
    assert (await act("unban", "bob", reason="sorry")).json == {}
    assert member(server, room_id, "bob") == {"membership": "leave", "reason": "sorry"}
    refused(await act("unban", "bob"), 403, "M_FORBIDDEN", user("bob"))
    await alice.invite(room_id, user("bob"))
    await actors["bob"].join(room_id)


# -- knock -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["knock", "knock_restricted"])
@pytest_twisted.ensureDeferred
async def test_knocking_until_somebody_opens(server, rule):
    alice, bob = await server.login("alice"), await server.login("bob")
    room_id = await knockable(alice, rule, room_alias_name="door")
    answer = await bob.post(f"/knock/{q('#door:chat.test')}?via=x", {"reason": "me?"})
    assert answer.json == {"room_id": room_id}
    assert member(server, room_id, "bob") == {"membership": "knock", "displayname": "Bob Schäfer", "reason": "me?"}
    before = total(server)
    assert (await bob.post(f"/knock/{q(room_id)}")).json == {"room_id": room_id}
    assert total(server) == before
    refused(await bob.post(path(room_id, "join")), 403, "M_FORBIDDEN")
    await bob.leave(room_id)
    assert membership(server, room_id, "bob") == "leave"
    bob.ok(await bob.post(f"/knock/{q(room_id)}"))
    alice.ok(await alice.post(path(room_id, "kick"), {"user_id": bob.user_id}))
    bob.ok(await bob.post(f"/knock/{q(room_id)}"))
    await alice.invite(room_id, bob.user_id)
    refused(await bob.post(f"/knock/{q(room_id)}"), 403, "M_FORBIDDEN")
    await bob.join(room_id)
    refused(await bob.post(f"/knock/{q(room_id)}"), 403, "M_FORBIDDEN")


@pytest_twisted.ensureDeferred
async def test_where_knocking_is_not_possible(server):
    room_id, actors = await people(server)
    frieda, emine = actors["frieda"], actors["emine"]
    refused(await frieda.post(f"/knock/{q(room_id)}"), 403, "M_FORBIDDEN")
    await actors["alice"].set_state(room_id, "m.room.join_rules", {"join_rule": "knock"})
    refused(await emine.post(f"/knock/{q(room_id)}"), 403, "M_FORBIDDEN")
    refused(await actors["charlotte"].post(f"/knock/{q(room_id)}"), 403, "M_FORBIDDEN")
    refused(await frieda.post(f"/knock/{q('!unknown:chat.test')}"), 404, "M_NOT_FOUND")
    refused(await frieda.post(f"/knock/{q('#unknown:chat.test')}"), 404, "M_NOT_FOUND")
    refused(await frieda.post("/knock/x"), 400, "M_INVALID_PARAM", "roomIdOrAlias")
    refused(await frieda.post(f"/knock/{q(room_id)}", {"reason": 1}), 400, "M_BAD_JSON", "reason")
    assert membership(server, room_id, "frieda") is None
    frieda.ok(await frieda.post(f"/knock/{q(room_id)}"))


# -- by m.room.member itself -------------------------------------------------------------------------------------


def state_path(room_id, name):
    return f"/rooms/{q(room_id)}/state/m.room.member/{q(user(name))}"


@pytest_twisted.ensureDeferred
async def test_every_change_works_through_the_state_as_well(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    room_id = await alice.create_room()

    async def put(actor, name, **body):
        answer = await actor.put(state_path(room_id, name), body)
        return actor.ok(answer)["event_id"]

    first = await put(alice, "bob", membership="invite", reason="come")
    assert await put(alice, "bob", membership="invite") == first
    await put(bob, "bob", membership="join", displayname="Bobby", **{"org.example.x": 1})
    assert member(server, room_id, "bob") == {"membership": "join", "displayname": "Bobby", "org.example.x": 1}
    again = await put(bob, "bob", membership="join", displayname="Bob")
    assert await put(bob, "bob", membership="join", displayname="Bob") == again
    await put(alice, "bob", membership="ban")
    await put(alice, "bob", membership="leave")
    assert membership(server, room_id, "bob") == "leave"
    await alice.set_state(room_id, "m.room.join_rules", {"join_rule": "knock"})
    await put(bob, "bob", membership="knock")
    await put(bob, "bob", membership="leave")
    assert membership(server, room_id, "bob") == "leave"


@pytest_twisted.ensureDeferred
async def test_the_state_opens_no_side_door(server):
    room_id, actors = await people(server)
    alice, frieda = actors["alice"], actors["frieda"]
    before = total(server)
    refused(
        await alice.put(f"/rooms/{q(room_id)}/state/m.room.member/{q('@x:other.test')}", {"membership": "invite"}),
        403,
        "M_FORBIDDEN",
        "another server",
    )
    refused(
        await alice.put(f"/rooms/{q(room_id)}/state/m.room.member/{q('@nobody:chat.test')}", {"membership": "invite"}),
        404,
        "M_NOT_FOUND",
    )
    signed = {"membership": "invite", "third_party_invite": {"signed": {"mxid": user("frieda"), "token": "x"}}}
    refused(await alice.put(state_path(room_id, "frieda"), signed), 403, "M_FORBIDDEN", "third_party_invite")
    for name in ("david", "emine", "frieda"):
        for wish in ("join", "knock"):
            refused(await actors[name].put(state_path(room_id, name), {"membership": wish}), 403, "M_FORBIDDEN")
    for name in OUTSIDE:
        for wish in ("invite", "leave", "ban", "join"):
            refused(await actors[name].put(state_path(room_id, "bob"), {"membership": wish}), 403, "M_FORBIDDEN")
    refused(await frieda.put(state_path(room_id, "frieda"), {"membership": "leave"}), 403, "M_FORBIDDEN")
    refused(await alice.put(state_path(room_id, "frieda"), {"membership": "join"}), 403, "M_FORBIDDEN")
    for body, word in [
        ({}, "content.membership"),
        ({"membership": "x"}, "content.membership"),
        ({"membership": "leave", "reason": 1}, "content.reason"),
    ]:
        refused(await alice.put(state_path(room_id, "bob"), body), 400, "M_BAD_JSON", word)
    refused(
        await alice.put(f"/rooms/{q(room_id)}/state/m.room.member/bob", {"membership": "ban"}),
        400,
        "M_BAD_JSON",
        "state_key",
    )
    refused(
        await alice.put(f"/rooms/{q(room_id)}/state/m.room.member", {"membership": "ban"}),
        400,
        "M_BAD_JSON",
        "state_key",
    )
    assert total(server) == before


@pytest_twisted.ensureDeferred
async def test_nobody_chooses_who_authorises_a_restricted_join(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    room_id = await knockable(alice, "restricted", rules={"allow": []})
    body = {"membership": "join", "join_authorised_via_users_server": alice.user_id}
    refused(await bob.put(state_path(room_id, "bob"), body), 403, "M_FORBIDDEN")
    assert membership(server, room_id, "bob") is None


# -- the rest ----------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_joined_rooms(server):
    room_id, actors = await people(server)
    expected = {"alice": [room_id], "bob": [room_id], **{name: [] for name in OUTSIDE}}
    for name, found in expected.items():
        assert (await actors[name].get("/joined_rooms")).json == {"joined_rooms": found}
    refused(await server.http.get("/joined_rooms"), 401, "M_MISSING_TOKEN")


@pytest_twisted.ensureDeferred
async def test_who_is_suspended_may_leave_but_not_join_or_invite(server):
    admin, alice, bob = [await server.login(name) for name in ("admin", "alice", "bob")]
    room_id = await alice.create_room(invite=[bob.user_id])
    mine = await bob.create_room()
    admin.ok(await admin.put(f"/_matrix/client/v1/admin/suspend/{q(bob.user_id)}", {"suspended": True}))
    refused(await bob.post(path(room_id, "join")), 403, "M_USER_SUSPENDED")
    refused(await bob.post(path(mine, "invite"), {"user_id": alice.user_id}), 403, "M_USER_SUSPENDED")
    refused(await bob.post("/createRoom"), 403, "M_USER_SUSPENDED")
    assert (await bob.get("/joined_rooms")).json == {"joined_rooms": [mine]}
    await bob.leave(room_id)
    bob.ok(await bob.post(path(room_id, "forget")))
    assert content(server, room_id, "m.room.member", bob.user_id)["membership"] == "leave"


@pytest_twisted.ensureDeferred
async def test_before_the_terms_are_agreed_to_only_leaving_works(tmp_path):
    plugins = ("demo_directory", "terms_consent", "closed_rooms")
    server = await Appliance.start(tmp_path, plugins=plugins)
    bob, room = await server.login("bob"), q("!x:chat.test")
    writes = [
        ("POST", "/createRoom"),
        ("POST", f"/join/{room}"),
        ("POST", f"/rooms/{room}/join"),
        ("POST", f"/knock/{room}"),
        ("POST", f"/rooms/{room}/invite"),
        ("POST", f"/rooms/{room}/kick"),
        ("POST", f"/rooms/{room}/ban"),
        ("POST", f"/rooms/{room}/unban"),
        ("POST", f"/rooms/{room}/upgrade"),
        ("POST", f"/rooms/{room}/report"),
        ("PUT", f"/rooms/{room}/send/m.room.message/1"),
        ("PUT", f"/rooms/{room}/redact/x/1"),
        ("PUT", f"/rooms/{room}/state/m.room.name"),
        ("PUT", f"/rooms/{room}/state/m.room.member/{q(bob.user_id)}"),
        ("PUT", f"/directory/room/{q('#x:chat.test')}"),
        ("DELETE", f"/directory/room/{q('#x:chat.test')}"),
        ("PUT", f"/directory/list/room/{room}"),
    ]
    for method, where in writes:
        answer = await bob.request(method, where, {"user_id": user("alice"), "membership": "join"})
        refused(answer, 403, "M_CONSENT_NOT_GIVEN")
        assert answer.json["consent_uri"].startswith("https://")
    # By now the room of notices is there, and bob may turn it down.
    notices = [row[0] for row in server.daemon.engine.read("SELECT room_id FROM rooms")]
    assert (await bob.get("/joined_rooms")).json == {"joined_rooms": []}
    await bob.leave(notices[0])
    bob.ok(await bob.post(path(notices[0], "forget")))
    await server.stop()
