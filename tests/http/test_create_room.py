"""createRoom: what a room begins with, in which order, and that a refused one does not exist."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from heichat_appliance.store import accounts, aliases
from tests.appliance import SERVER_NAME, Appliance
from tests.http.writing_kit import VERSIONS, content, member, membership, refused, rooms, timeline, total, user


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",))
    yield running
    await running.stop()


def types(server, room_id):
    return [event.type.removeprefix("m.room.") for event in timeline(server, room_id)]


@pytest_twisted.ensureDeferred
async def test_the_events_come_in_the_order_of_the_specification(server):
    alice = await server.login("alice")
    room_id = await alice.create_room(
        name="Seminar", topic="Thursdays", room_alias_name="seminar", invite=[user("bob")],
        initial_state=[{"type": "org.example.colour", "state_key": "x", "content": {"a": 1}}],
    )  # fmt: skip
    assert types(server, room_id) == [
        "create", "member", "power_levels", "canonical_alias", "join_rules", "history_visibility", "guest_access",
        "org.example.colour", "name", "topic", "member",
    ]  # fmt: skip
    assert content(server, room_id, "m.room.create") == {"room_version": "11"}
    assert content(server, room_id, "m.room.canonical_alias") == {"alias": f"#seminar:{SERVER_NAME}"}
    assert content(server, room_id, "m.room.topic") == {
        "topic": "Thursdays",
        "m.topic": {"m.text": [{"body": "Thursdays", "mimetype": "text/plain"}]},
    }
    assert content(server, room_id, "org.example.colour", "x") == {"a": 1}
    assert member(server, room_id, "alice") == {"membership": "join", "displayname": "Alice Müller"}
    assert member(server, room_id, "bob") == {"membership": "invite", "displayname": "Bob Schäfer"}


@pytest.mark.parametrize(
    ("options", "join_rule", "guests"),
    [
        ({}, "invite", "can_join"),
        ({"preset": "private_chat"}, "invite", "can_join"),
        ({"preset": "trusted_private_chat"}, "invite", "can_join"),
        ({"preset": "public_chat"}, "public", "forbidden"),
        ({"visibility": "public"}, "public", "forbidden"),
        ({"visibility": "public", "preset": "private_chat"}, "invite", "can_join"),
        ({"visibility": "private"}, "invite", "can_join"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_presets(server, options, join_rule, guests):
    alice = await server.login("alice")
    room_id = await alice.create_room(**options)
    assert content(server, room_id, "m.room.join_rules") == {"join_rule": join_rule}
    assert content(server, room_id, "m.room.history_visibility") == {"history_visibility": "shared"}
    assert content(server, room_id, "m.room.guest_access") == {"guest_access": guests}
    published = aliases.is_published(server.daemon.engine.read, room_id)
    assert published == (options.get("visibility") == "public")


@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_in_a_trusted_chat_all_are_equal(server, version):
    alice = await server.login("alice")
    room_id = await alice.create_room(
        room_version=version, preset="trusted_private_chat", invite=[user("bob"), user("bob")], is_direct=True
    )
    create, levels = content(server, room_id, "m.room.create"), content(server, room_id, "m.room.power_levels")
    assert create["room_version"] == version
    if version == "12":
        assert room_id == f"!{timeline(server, room_id)[0].event_id[1:]}"
        assert create["additional_creators"] == [user("bob")]
        assert levels["users"] == {}
        assert levels["events"]["m.room.tombstone"] == 150
    else:
        assert levels["users"] == {user("alice"): 100, user("bob"): 100}
    assert create.get("creator") == (user("alice") if version == "10" else None)
    assert member(server, room_id, "bob")["is_direct"] is True
    # Bob may do what only the highest level may.
    bob = await server.login("bob")
    await bob.join(room_id)
    await bob.set_state(room_id, "m.room.history_visibility", {"history_visibility": "joined"})


@pytest_twisted.ensureDeferred
async def test_additional_creators_and_the_levels_of_version_12(server):
    alice = await server.login("alice")
    room_id = await alice.create_room(
        room_version="12", preset="trusted_private_chat", invite=[user("bob")],
        creation_content={"additional_creators": [user("emine"), user("bob"), user("alice")], "type": "m.space"},
        power_level_content_override={"events": {"m.room.name": 0}, "state_default": 160},
    )  # fmt: skip
    create = content(server, room_id, "m.room.create")
    assert create == {
        "room_version": "12", "type": "m.space", "additional_creators": [user("emine"), user("bob")]
    }  # fmt: skip
    levels = content(server, room_id, "m.room.power_levels")
    assert levels["events"] == {"m.room.name": 0, "m.room.tombstone": 161}


@pytest_twisted.ensureDeferred
async def test_overrides(server):
    alice = await server.login("alice")
    room_id = await alice.create_room(
        name="B", topic="new", preset="private_chat",
        creation_content={"m.federate": False, "creator": "@x:y", "room_version": "1"},
        initial_state=[
            {"type": "m.room.name", "content": {"name": "A"}},
            {"type": "m.room.topic", "content": {"topic": "old"}},
            {"type": "m.room.join_rules", "content": {"join_rule": "knock"}},
            {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}},
        ],
        power_level_content_override={"invite": 50, "users": {user("alice"): 100, user("bob"): 60}},
    )  # fmt: skip
    assert content(server, room_id, "m.room.create") == {"m.federate": False, "room_version": "11"}
    assert types(server, room_id).count("name") == types(server, room_id).count("topic") == 1
    assert content(server, room_id, "m.room.name") == {"name": "B"}
    assert content(server, room_id, "m.room.topic")["topic"] == "new"
    assert types(server, room_id).count("join_rules") == 1
    assert content(server, room_id, "m.room.join_rules") == {"join_rule": "knock"}
    levels = content(server, room_id, "m.room.power_levels")
    assert (levels["invite"], levels["kick"], levels["users"][user("bob")]) == (50, 50, 60)
    assert content(server, room_id, "m.room.encryption") == {"algorithm": "m.megolm.v1.aes-sha2"}


@pytest_twisted.ensureDeferred
async def test_people_who_were_never_here_are_invited_by_the_directory(server):
    alice = await server.login("alice")
    room_id = await alice.create_room(invite=[user("gurpreet")])
    assert member(server, room_id, "gurpreet") == {"membership": "invite", "displayname": "Dr. Gurpreet Singh"}
    gurpreet = await server.login("gurpreet")
    await gurpreet.join(room_id)
    assert membership(server, room_id, "gurpreet") == "join"


REFUSED = [
    ({"room_version": "9"}, 400, "M_UNSUPPORTED_ROOM_VERSION", "room_version"),
    ({"room_version": 11}, 400, "M_BAD_JSON", "room_version"),
    ({"preset": "open"}, 400, "M_BAD_JSON", "preset"),
    ({"visibility": 1}, 400, "M_BAD_JSON", "visibility"),
    ({"name": ["x"]}, 400, "M_BAD_JSON", "name"),
    ({"topic": {}}, 400, "M_BAD_JSON", "topic"),
    ({"invite": "@bob:chat.test"}, 400, "M_BAD_JSON", "invite"),
    ({"invite": [1]}, 400, "M_BAD_JSON", "invite"),
    ({"invite": ["bob"]}, 400, "M_INVALID_PARAM", "invite"),
    ({"invite": ["@bob:other.test"]}, 403, "M_FORBIDDEN", "anderen Server"),
    ({"invite": ["@nobody:chat.test"]}, 404, "M_NOT_FOUND", "@nobody:chat.test"),
    ({"invite": [f"@p{n}:chat.test" for n in range(201)]}, 400, "M_INVALID_PARAM", "invite"),
    ({"invite": ["@alice:chat.test"]}, 400, "M_INVALID_ROOM_STATE", "already"),
    ({"invite_3pid": [{"medium": "email", "address": "a@b.c"}]}, 403, "M_FORBIDDEN", "invite_3pid"),
    ({"room_alias_name": "a:b"}, 400, "M_INVALID_PARAM", "room_alias_name"),
    ({"room_alias_name": ""}, 400, "M_INVALID_PARAM", "room_alias_name"),
    ({"room_alias_name": "x" * 255}, 400, "M_INVALID_PARAM", "room_alias_name"),
    ({"room_alias_name": "taken"}, 400, "M_ROOM_IN_USE", "#taken:chat.test"),
    ({"is_direct": "yes"}, 400, "M_BAD_JSON", "is_direct"),
    ({"creation_content": []}, 400, "M_BAD_JSON", "creation_content"),
    ({"creation_content": {"type": 5}}, 400, "M_BAD_JSON", "creation_content.type"),
    ({"creation_content": {"x": 1.5}}, 400, "M_BAD_JSON", "content.x"),
    ({"room_version": "12", "creation_content": {"additional_creators": "@bob:chat.test"}}, 400, "M_BAD_JSON", "creators"),
    ({"initial_state": {}}, 400, "M_BAD_JSON", "initial_state"),
    ({"initial_state": [{"type": "a"}]}, 400, "M_MISSING_PARAM", "content"),
    ({"initial_state": [{"type": "a", "content": 1}]}, 400, "M_BAD_JSON", "content"),
    ({"initial_state": [{"type": "a", "content": {}, "state_key": 1}]}, 400, "M_BAD_JSON", "state_key"),
    ({"initial_state": [{"type": "m.room.create", "content": {}}]}, 400, "M_BAD_JSON", "initial_state.0"),
    (
        {"initial_state": [{"type": "m.room.member", "state_key": "@alice:chat.test", "content": {"membership": "leave"}}]},
        400, "M_BAD_JSON", "initial_state.0",
    ),
    ({"initial_state": [{"type": "a", "content": {}}] * 101}, 400, "M_INVALID_PARAM", "initial_state"),
    ({"initial_state": [{"type": "m.room.redaction", "content": {"redacts": "$x"}}]}, 400, "M_BAD_JSON", "redact"),
    ({"initial_state": [{"type": "m.room.join_rules", "content": {"join_rule": 5}}]}, 400, "M_BAD_JSON", "content.join_rule"),
    ({"initial_state": [{"type": "m.room.join_rules", "content": {}}]}, 400, "M_BAD_JSON", "content.join_rule"),
    (
        {"initial_state": [{"type": "m.room.canonical_alias", "content": {"alias": "#taken:chat.test"}}]},
        400, "M_BAD_ALIAS", "#taken",
    ),
    ({"initial_state": [{"type": "x" * 256, "content": {}}]}, 413, "M_TOO_LARGE", "type"),
    ({"name": "x" * 70_000}, 413, "M_TOO_LARGE", "m.room.name"),
    ({"power_level_content_override": {"ban": "50"}}, 400, "M_BAD_JSON", "content.ban"),
    ({"power_level_content_override": {"users": []}}, 400, "M_BAD_JSON", "content.users"),
    ({"power_level_content_override": {"ban": 2**60}}, 400, "M_BAD_JSON", "content.ban"),
    ({"power_level_content_override": {"events": {"a": 1.5}}}, 400, "M_BAD_JSON", "content.events"),
    ({"name": "x", "power_level_content_override": {"users": {}}}, 400, "M_INVALID_ROOM_STATE", "m.room.join_rules"),
    ({"invite": ["@bob:chat.test"], "power_level_content_override": {"invite": 101}}, 400, "M_INVALID_ROOM_STATE", "invite"),
    (
        {"room_version": "12", "power_level_content_override": {"users": {"@alice:chat.test": 100}}},
        400, "M_INVALID_ROOM_STATE", "creator",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "errcode", "word"), REFUSED, ids=lambda value: str(value)[:60])
@pytest_twisted.ensureDeferred
async def test_a_refused_room_does_not_exist(server, body, status, errcode, word):
    alice = await server.login("alice")
    await server.login("bob")
    await alice.create_room(room_alias_name="taken")
    before = rooms(server), total(server)
    refused(await alice.post("/createRoom", {"name": "never", **body}), status, errcode, word)
    assert (rooms(server), total(server)) == before
    # Nothing is left behind that would trouble the next one.
    await alice.create_room(name="next")


@pytest.mark.parametrize(
    ("raw", "errcode"),
    [
        (b"{", "M_NOT_JSON"),
        (b"[]", "M_BAD_JSON"),
        (b'"x"', "M_BAD_JSON"),
        (b'{"name": NaN}', "M_NOT_JSON"),
        (b'{"name": "\xff"}', "M_NOT_JSON"),
        (b'{"name": "\\ud800"}', "M_NOT_JSON"),
        (b'{"creation_content": {"x": 1e400}}', "M_BAD_JSON"),
        (b'{"creation_content": {"x": ' + b"9" * 5000 + b"}}", "M_BAD_JSON"),
        (b'{"creation_content": ' + b'{"x":' * 120 + b"1" + b"}" * 120 + b"}", "M_BAD_JSON"),
        (b'{"creation_content": ' + b'{"x":' * 20000 + b"1" + b"}" * 20000 + b"}", "M_NOT_JSON"),
        (b'{"initial_state": [{"type": "a\\u0000b", "content": {}}]}', None),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest_twisted.ensureDeferred
async def test_bad_json(server, raw, errcode):
    alice = await server.login("alice")
    answer = await alice.post("/createRoom", raw=raw)
    assert answer.errcode == errcode, answer.json
    assert answer.status == (200 if errcode is None else 400)
    assert rooms(server) == (errcode is None)


@pytest_twisted.ensureDeferred
async def test_invitations_may_be_blocked(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    bob.ok(await bob.put(f"/user/{user('bob')}/account_data/m.invite_permission_config", {"default_action": "block"}))
    refused(await alice.post("/createRoom", {"invite": [user("bob")]}), 403, "M_INVITE_BLOCKED", "bob")
    assert rooms(server) == 0
    room_id = await alice.create_room(invite=[user("bob"), user("emine")], preset="trusted_private_chat")
    assert member(server, room_id, "bob") is None
    assert member(server, room_id, "emine")["membership"] == "invite"
    assert content(server, room_id, "m.room.power_levels")["users"] == {user("alice"): 100, user("emine"): 100}


@pytest_twisted.ensureDeferred
async def test_needs_a_login_and_has_a_limit(tmp_path):
    limits = {"limits": {"enabled": "yes", "create_burst": "2"}}
    server = await Appliance.start(tmp_path, plugins=("demo_directory",), config=limits)
    assert (await server.http.post("/createRoom")).errcode == "M_MISSING_TOKEN"
    alice = await server.login("alice")
    for _ in range(2):
        await alice.create_room()
    answer = await alice.post("/createRoom")
    refused(answer, 429, "M_LIMIT_EXCEEDED")
    assert answer.json["retry_after_ms"] > 0
    assert rooms(server) == 2
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_two_rooms_at_once_do_not_get_one_alias(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    wishes = [Deferred.fromCoroutine(one.post("/createRoom", {"room_alias_name": "x"})) for one in (alice, bob)]
    answers = await gatherResults(wishes)
    assert sorted(answer.status for answer in answers) == [200, 400]
    assert {answer.errcode for answer in answers} == {None, "M_ROOM_IN_USE"}
    assert rooms(server) == 1


@pytest_twisted.ensureDeferred
async def test_the_largest_room_that_can_be_made_at_once(server):
    alice = await server.login("alice")
    names = [f"p{n}" for n in range(200)]
    await server.daemon.engine.write(
        lambda tx: [accounts.create(tx.execute, user(name), name, None, 0) for name in names]
    )
    state = [{"type": "org.example.x", "state_key": str(n), "content": {}} for n in range(100)]
    room_id = await alice.create_room(invite=[user(name) for name in names], initial_state=state)
    assert len(timeline(server, room_id)) == 306
