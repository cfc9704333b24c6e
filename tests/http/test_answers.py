"""What every operation answers, against small schemas of the specification (answer_schemas.py).

A route without a row fails: whoever adds an operation says what it answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.api_docs import CONFIG, PLUGINS
from tests.appliance import Actor, Answer, Appliance, q
from tests.encryption_kit import DeviceKit, PersonKit
from tests.http.answer_matcher import ABSENT, problems
from tests.http.answer_schemas import ROWS, Row
from tests.http.test_thumbnails import encoded, halves

CONSENT = "/_heichat/consent"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class World:
    """Some people, and what rows call by name."""

    def __init__(self, server: Appliance) -> None:
        self.server = server
        self.actors: dict[str, Actor] = {}
        self.known: dict[str, Any] = {}

    def fill(self, value: Any) -> Any:
        """`value` with each `"<name>"` replaced by what is known by that name."""
        if isinstance(value, dict):
            return {self.fill(key): self.fill(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.fill(inner) for inner in value]
        if isinstance(value, str) and value.startswith("<"):
            return self.known[value[1:-1]]
        return value

    def url(self, row: Row) -> str:
        """The path with its parameters, and the query."""
        params = self.fill(row.params)
        segments = [
            q(params.get(segment[1:-1], self.known.get(segment[1:-1], ""))) if segment.startswith("{") else segment
            for segment in row.path.split("/")
        ]
        return "/".join(segments) + ("?" + urlencode(self.fill(row.query)) if row.query else "")

    async def do(self, row: Row) -> Answer:
        """The answer to a row's request."""
        client = self.server.http if row.by is None else self.actors[row.by]
        raw = None if row.raw is None else self.known[row.raw]
        headers = {"Content-Type": row.content_type}
        return await client.request(row.method, self.url(row), self.fill(row.body), raw=raw, headers=headers)


async def enter(world: World, name: str, uni_id: str, **device: Any) -> Actor:
    """Log in, and agree to the terms."""
    actor = world.actors[name] = await world.server.login(uni_id, **device)
    refusal = await actor.post("/createRoom", {})
    if refusal.status == 403:
        query = dict(parse_qsl(urlsplit(refusal.json["consent_uri"]).query))
        form = urlencode(query).encode()
        if name == "alice":
            world.known.update(signature=query["h"], consent=form)
        assert (await world.server.http.request("POST", CONSENT, raw=form, headers=FORM)).status == 200
    world.known.setdefault(uni_id, actor.user_id)
    return actor


async def make_world(server: Appliance) -> World:
    world = World(server)
    alice = await enter(world, "alice", "alice", device_id="PHONE")
    bob = await enter(world, "bob", "bob", device_id="BOB")
    await enter(world, "admin", "admin")
    await enter(world, "leaver", "alice")
    for device_id in ("SECOND", "THIRD"):
        await server.login("alice", device_id=device_id)
    login = await server.login("alice", refresh_token=True)
    world.known["refresh_token"] = login.login["refresh_token"]
    await make_rooms(world, alice, bob)
    await make_keys(world, alice, bob)
    await make_rest(world, alice)
    return world


async def make_rooms(world: World, alice: Actor, bob: Actor) -> None:
    """A room with both, with a thread; an encrypted one; rooms to go in and out of; a space."""
    both = {"preset": "private_chat", "invite": [bob.user_id]}
    room = await alice.create_room(name="Room", topic="Talk", room_alias_name="room", **both)
    encryption = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    for room_id in (room, await alice.create_room(initial_state=[encryption], **both)):
        await bob.join(room_id)
    event = await alice.send(room, "hello")
    thread = {"m.relates_to": {"rel_type": "m.thread", "event_id": event}, "msgtype": "m.text", "body": "reply"}
    await bob.send(room, thread)
    victim = await alice.send(room, "hello and goodbye")
    side = await alice.create_room(name="Side")
    second = await alice.create_room(name="Second", room_version="10", **both)
    door = await alice.create_room(initial_state=[{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}])
    space = await alice.create_room(name="Space", creation_content={"type": "m.space"})
    await alice.set_state(space, "m.space.child", {"via": ["chat.test"]}, room)
    world.known.update(
        room=room, roomId=room, roomIdOrAlias="#room:chat.test", roomAlias="#room:chat.test", event=event,
        eventId=event, victim=victim, side=side, second=second, door=door, space=space,
        since=(await bob.sync())["next_batch"],
    )  # fmt: skip


async def make_keys(world: World, alice: Actor, bob: Actor) -> None:
    """Alice's device has keys, and more are ready to be uploaded."""
    device, person, dry = DeviceKit(alice.user_id, "PHONE"), PersonKit(alice.user_id), DeviceKit(alice.user_id, "DRY")
    keys = device.device_keys()
    alice.ok(await alice.post("/keys/upload", {"device_keys": keys, "one_time_keys": device.one_time_keys(2)}))
    alice.ok(await alice.put("/sendToDevice/org.test/first", {"messages": {bob.user_id: {"*": {"x": 1}}}}))
    await alice.send(world.known["room"], "hello again")
    dehydrated = {
        "device_id": "DRY",
        "device_data": {"algorithm": "org.matrix.msc3814.v1.olm", "account": "…"},
        "device_keys": dry.device_keys(dehydrated=True),
    }
    session_data = {"ephemeral": "e", "ciphertext": "c", "mac": "m"}
    world.known.update(
        until=(await bob.sync())["next_batch"],
        one_time_keys=device.one_time_keys(3),
        cross_signing=person.upload(),
        signed_device=person.self_signing.sign(keys),
        dehydrated=dehydrated,
        backup_key={"first_message_index": 0, "forwarded_count": 0, "is_verified": False, "session_data": session_data},
    )


async def make_rest(world: World, alice: Actor) -> None:
    """Files, a filter, an OpenID token, and the names of what rows make themselves."""
    me, picture = q(alice.user_id), encoded(halves(64, 64), "PNG")
    upload = await alice.request("POST", "/_matrix/media/v3/upload", raw=picture, headers={"Content-Type": "image/png"})
    announced = alice.ok(await alice.post("/_matrix/media/v1/create"))["content_uri"]
    wanted = {"room": {"timeline": {"limit": 7}}}
    openid = alice.ok(await alice.post(f"/user/{me}/openid/request_token"))
    world.known.update(
        png=picture, mediaId=alice.ok(upload)["content_uri"].rsplit("/", 1)[-1], announced=announced.rsplit("/", 1)[-1],
        filterId=alice.ok(await alice.post(f"/user/{me}/filter", wanted))["filter_id"], openid=openid["access_token"],
        userId=alice.user_id, deviceId="PHONE", serverName="chat.test", fileName="picture.png",
        eventType="m.room.message",
        stateKey="", txnId="t", type="org.test", tag="u.work", kind="content", ruleId="mine", relType="m.thread",
        receiptType="m.read", keyName="avatar_url", version="1", sessionId="s",
    )  # fmt: skip


def wait(coroutine: Any) -> Any:
    return pytest_twisted.blockon(Deferred.fromCoroutine(coroutine))


async def do_all(world: World) -> list[Answer]:
    return [await world.do(row) for row in ROWS]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    config = {"server": {"support_email": "help@chat.test"}, **CONFIG}
    server = wait(Appliance.start(tmp_path_factory.mktemp("answers"), plugins=PLUGINS, config=config))
    yield wait(make_world(server))
    wait(server.stop())


@pytest.fixture(scope="module")
def answers(world: World) -> list[Answer]:
    """The answers to all rows, in their order."""
    return wait(do_all(world))


def test_every_route_has_a_row_and_every_row_a_route(world: World) -> None:
    table = {(route.method, route.path) for route in world.server.daemon.site.router.routes}
    rows = {(row.method, row.path) for row in ROWS}
    assert table - rows == set(), "routes without a row in answer_schemas.py"
    assert rows - table == set(), "rows without a route"


@pytest.mark.parametrize("index", range(len(ROWS)), ids=[row.route for row in ROWS])
def test_the_answer_is_as_its_schema_says(answers: list[Answer], index: int) -> None:
    row, answer = ROWS[index], answers[index]
    assert answer.status == row.status, answer.body[:500]
    kind = answer.headers["content-type"]
    if isinstance(row.schema, str):
        assert kind.startswith(row.schema) and answer.body
    else:
        assert kind == "application/json"
        assert problems(row.schema, answer.json) == []


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (int, 1, True),
        ({"a": int}, {"a": 1, "more": "x"}, {}),
        ({"a": int}, {"a": 1}, {"a": 1, "more": None}),
        ({"a?": int}, {"b": 1}, {"a": "1"}),
        ({"a": ABSENT}, {"b": 1}, {"a": 1}),
        ({"*": [str]}, {"x": ["y"]}, {"x": []}),
        ([str, ...], [], [1]),
        ({"*": str}, {"x": "y"}, {}),
        ({"*?": str}, {}, {"x": 1}),
        ({}, {}, {"x": 1}),
        ({"a": {False}}, {"a": False}, {"a": 0}),
        ((int, {"b": str}), {"b": "x"}, {"b": 1}),
    ],
)
def test_the_matcher_tells_good_from_bad(schema: Any, good: Any, bad: Any) -> None:
    assert problems(schema, good) == []
    assert problems(schema, bad) != []
