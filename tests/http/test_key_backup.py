"""Key backups over real HTTP."""

from __future__ import annotations

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st

from heichat_appliance.services import key_backup as service
from tests.appliance import SERVER_NAME, Actor, Appliance, q

ALGORITHM = "m.megolm_backup.v1.curve25519-aes-sha2"
AUTH = {"public_key": "abc", "signatures": {f"@alice:{SERVER_NAME}": {"ed25519:A": "x"}}}
ROOM, OTHER = f"!one:{SERVER_NAME}", "!" + "A" * 43


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, plugins=("demo_directory",))
    yield running
    await running.stop()


def key(index: int = 0, forwarded: int = 0, verified: bool = False, data: str = "x") -> dict:
    session = {"ephemeral": "e", "ciphertext": data, "mac": "m"}
    return {
        "first_message_index": index,
        "forwarded_count": forwarded,
        "is_verified": verified,
        "session_data": session,
    }


async def create(actor: Actor) -> str:
    answer = await actor.post("/room_keys/version", {"algorithm": ALGORITHM, "auth_data": AUTH})
    return actor.ok(answer)["version"]


async def put(actor: Actor, version: str, rooms: dict):
    body = {"rooms": {room_id: {"sessions": sessions} for room_id, sessions in rooms.items()}}
    return await actor.put(f"/room_keys/keys?version={version}", body)


async def get(actor: Actor, version: str) -> dict:
    rooms = actor.ok(await actor.get("/room_keys/keys", version=version))["rooms"]
    return {room_id: room["sessions"] for room_id, room in rooms.items()}


async def state(actor: Actor, version: str = "") -> tuple[str, int]:
    found = actor.ok(await actor.get("/room_keys/version" + (f"/{version}" if version else "")))
    return found["etag"], found["count"]


def assert_refused(answer, status: int, errcode: str) -> None:
    assert (answer.status, answer.errcode) == (status, errcode), answer.json


@pytest_twisted.ensureDeferred
async def test_versions_come_change_and_go(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    assert_refused(await alice.get("/room_keys/version"), 404, "M_NOT_FOUND")
    first = await create(alice)
    second = await create(alice)
    assert first != second
    described = {"algorithm": ALGORITHM, "auth_data": AUTH, "count": 0, "etag": "0", "version": second}
    assert (await alice.get("/room_keys/version")).json == described
    assert (await alice.get(f"/room_keys/version/{first}")).json == {**described, "version": first}
    new = {"algorithm": ALGORITHM, "auth_data": {"public_key": "new"}}
    assert (await alice.put(f"/room_keys/version/{second}", new)).json == {}
    assert (await alice.put(f"/room_keys/version/{second}", {**new, "version": second})).json == {}
    assert (await alice.get("/room_keys/version")).json == {**described, "auth_data": {"public_key": "new"}}
    for version in ("7", "x", "9" * 30, "1.5"):
        assert_refused(await alice.get(f"/room_keys/version/{version}"), 404, "M_NOT_FOUND")
        assert_refused(await alice.put(f"/room_keys/version/{version}", new), 404, "M_NOT_FOUND")
        assert_refused(await alice.delete(f"/room_keys/version/{version}"), 404, "M_NOT_FOUND")
    assert_refused(await bob.get(f"/room_keys/version/{first}"), 404, "M_NOT_FOUND")
    for _ in range(2):
        assert (await alice.delete(f"/room_keys/version/{second}")).json == {}
    assert_refused(await alice.get(f"/room_keys/version/{second}"), 404, "M_NOT_FOUND")
    assert_refused(await alice.put(f"/room_keys/version/{second}", new), 404, "M_NOT_FOUND")
    assert (await alice.get("/room_keys/version")).json["version"] == first
    assert await create(alice) not in (first, second)


@pytest.mark.parametrize(
    ("change", "errcode"),
    [
        ({"algorithm": "m.other"}, "M_INVALID_PARAM"),
        ({"algorithm": None}, "M_BAD_JSON"),
        ({"auth_data": "x"}, "M_BAD_JSON"),
        ({"version": "7"}, "M_INVALID_PARAM"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_wrong_descriptions_are_refused(server, change, errcode):
    alice = await server.login("alice")
    good = {"algorithm": ALGORITHM, "auth_data": AUTH}
    if "version" not in change:
        assert_refused(await alice.post("/room_keys/version", {**good, **change}), 400, errcode)
        assert_refused(await alice.get("/room_keys/version"), 404, "M_NOT_FOUND")
    version = await create(alice)
    assert_refused(await alice.put(f"/room_keys/version/{version}", {**good, **change}), 400, errcode)
    assert (await alice.get("/room_keys/version")).json["auth_data"] == AUTH


@pytest_twisted.ensureDeferred
async def test_keys_are_stored_read_and_deleted_one_by_one_by_room_and_all(server):
    alice = await server.login("alice")
    version = await create(alice)
    assert await get(alice, version) == {}
    session = "a/b+c"
    one = f"/room_keys/keys/{q(ROOM)}/{q(session)}?version={version}"
    assert (await alice.put(one, key(data="1"))).json == {"etag": "1", "count": 1}
    room = f"/room_keys/keys/{q(OTHER)}?version={version}"
    assert (await alice.put(room, {"sessions": {"s1": key(), "s2": key()}})).json == {"etag": "2", "count": 3}
    assert (await put(alice, version, {ROOM: {"s3": key()}, OTHER: {"s1": key()}})).json == {"etag": "3", "count": 4}
    everything = {ROOM: {session: key(data="1"), "s3": key()}, OTHER: {"s1": key(), "s2": key()}}
    assert await get(alice, version) == everything
    assert (await alice.get(f"/room_keys/keys/{q(OTHER)}", version=version)).json == {"sessions": everything[OTHER]}
    assert (await alice.get(f"/room_keys/keys/{q('!none:x')}", version=version)).json == {"sessions": {}}
    assert (await alice.get(f"/room_keys/keys/{q(ROOM)}/{q(session)}", version=version)).json == key(data="1")
    assert_refused(await alice.get(f"/room_keys/keys/{q(ROOM)}/none", version=version), 404, "M_NOT_FOUND")
    assert (await alice.delete(one)).json == {"etag": "4", "count": 3}
    assert (await alice.delete(one)).json == {"etag": "4", "count": 3}
    assert (await alice.delete(room)).json == {"etag": "5", "count": 1}
    assert await get(alice, version) == {ROOM: {"s3": key()}}
    assert (await alice.delete(f"/room_keys/keys?version={version}")).json == {"etag": "6", "count": 0}
    assert await get(alice, version) == {}
    assert await state(alice) == ("6", 0)


@pytest_twisted.ensureDeferred
async def test_the_better_key_stays(server):
    alice = await server.login("alice")
    version = await create(alice)
    steps = [
        (key(5, 5, False, "a"), "a", "1"),
        (key(5, 5, False, "b"), "a", "1"),
        (key(5, 4, False, "c"), "c", "2"),
        (key(4, 9, False, "d"), "d", "3"),
        (key(9, 0, False, "e"), "d", "3"),
        (key(9, 9, True, "f"), "f", "4"),
        (key(0, 0, False, "g"), "f", "4"),
        (key(9, 8, True, "h"), "h", "5"),
    ]
    for new, kept, etag in steps:
        assert (await put(alice, version, {ROOM: {"s": new}})).json == {"etag": etag, "count": 1}
        assert (await get(alice, version))[ROOM]["s"]["session_data"]["ciphertext"] == kept


ranks = st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 3))


@given(ranks, ranks, ranks)
def test_being_better_is_an_order(one, two, three):
    assert not service.is_better(one, one)
    assert service.is_better(one, two) + service.is_better(two, one) == (one != two)
    if service.is_better(one, two) and service.is_better(two, three):
        assert service.is_better(one, three)
    if one[0] != two[0]:
        assert service.is_better(one, two) == one[0]
    elif one[1] != two[1]:
        assert service.is_better(one, two) == (one[1] < two[1])


@pytest_twisted.ensureDeferred
async def test_only_the_current_backup_takes_keys(server):
    alice = await server.login("alice")
    first = await create(alice)
    await put(alice, first, {ROOM: {"s": key()}})
    second = await create(alice)
    answer = await put(alice, first, {ROOM: {"s2": key()}})
    assert_refused(answer, 403, "M_WRONG_ROOM_KEYS_VERSION")
    assert answer.json["current_version"] == second
    assert await get(alice, first) == {ROOM: {"s": key()}}
    assert (await alice.delete(f"/room_keys/keys?version={first}")).json["count"] == 0
    for version in ("99", "x"):
        assert_refused(await put(alice, version, {ROOM: {"s": key()}}), 404, "M_NOT_FOUND")
        assert_refused(await alice.get("/room_keys/keys", version=version), 404, "M_NOT_FOUND")
        assert_refused(await alice.delete(f"/room_keys/keys?version={version}"), 404, "M_NOT_FOUND")
    assert_refused(await alice.put("/room_keys/keys", {"rooms": {}}), 400, "M_MISSING_PARAM")
    alice.ok(await alice.delete(f"/room_keys/version/{second}"))
    assert_refused(await put(alice, second, {ROOM: {"s": key()}}), 404, "M_NOT_FOUND")
    bob = await server.login("bob")
    assert_refused(await bob.get("/room_keys/keys", version=first), 404, "M_NOT_FOUND")


@pytest.mark.parametrize(
    "wrong",
    [
        {"first_message_index": -1},
        {"first_message_index": "1"},
        {"first_message_index": True},
        {"first_message_index": 2**63},
        {"forwarded_count": 1.5},
        {"forwarded_count": None},
        {"is_verified": 1},
        {"session_data": "x"},
        {"session_data": None},
    ],
)
@pytest_twisted.ensureDeferred
async def test_one_wrong_key_refuses_the_whole_request(server, wrong):
    alice = await server.login("alice")
    version = await create(alice)
    answer = await put(alice, version, {OTHER: {"good": key()}, ROOM: {"s": {**key(), **wrong}}})
    assert_refused(answer, 400, "M_BAD_JSON")
    assert next(iter(wrong)) in answer.json["error"]
    assert await state(alice) == ("0", 0)


@pytest_twisted.ensureDeferred
async def test_wrong_shapes_and_sizes(server, monkeypatch):
    alice = await server.login("alice")
    version = await create(alice)
    for rooms in ([], {ROOM: []}, {ROOM: {}}, {ROOM: {"sessions": []}}, {ROOM: {"sessions": {"s": "x"}}}):
        assert_refused(await alice.put(f"/room_keys/keys?version={version}", {"rooms": rooms}), 400, "M_BAD_JSON")
    assert_refused(await put(alice, version, {"no room": {"s": key()}}), 400, "M_INVALID_PARAM")
    assert_refused(await put(alice, version, {ROOM: {"": key()}}), 400, "M_INVALID_PARAM")
    assert_refused(await put(alice, version, {ROOM: {"s": key(data="x" * service.MAX_DATA)}}), 413, "M_TOO_LARGE")
    monkeypatch.setattr(service, "MAX_SESSIONS", 2)
    monkeypatch.setattr(service, "MAX_BACKUPS", 1)
    assert_refused(await put(alice, version, {ROOM: {s: key() for s in "abc"}}), 413, "M_TOO_LARGE")
    assert_refused(
        await alice.post("/room_keys/version", {"algorithm": ALGORITHM, "auth_data": AUTH}),
        403,
        "M_RESOURCE_LIMIT_EXCEEDED",
    )
    assert await state(alice) == ("0", 0)


@pytest_twisted.ensureDeferred
async def test_ten_thousand_keys_in_one_request(server):
    alice = await server.login("alice")
    version = await create(alice)
    rooms = {f"!r{r}:{SERVER_NAME}": {f"s{n}": key(n, data="y" * 600) for n in range(100)} for r in range(100)}
    assert alice.ok(await put(alice, version, rooms))["count"] == 10_000
    etag = (await state(alice))[0]
    assert alice.ok(await put(alice, version, rooms)) == {"etag": etag, "count": 10_000}
    assert await get(alice, version) == rooms
    alice.ok(await alice.delete(f"/room_keys/version/{version}"))
    assert server.daemon.engine.read("SELECT count(*) FROM key_backup_sessions").fetchone() == (0,)


@pytest_twisted.ensureDeferred
async def test_a_deletion_that_was_interrupted_is_finished_at_the_next_start(server, tmp_path):
    alice = await server.login("alice")
    version = await create(alice)
    alice.ok(await put(alice, version, {ROOM: {"s": key()}}))
    engine = server.daemon.engine
    await engine.write(lambda tx: tx.execute("UPDATE key_backups SET deleted = 1") and None)
    await server.stop()
    again = await Appliance.start(tmp_path, plugins=("demo_directory",))
    server.daemon, server.pool = again.daemon, again.pool  # the fixture stops this one
    assert again.daemon.engine.read("SELECT count(*) FROM key_backup_sessions").fetchone() == (0,)
