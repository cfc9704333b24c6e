"""Every route of the table, driven with wrong types, missing fields, identifiers of others, and other people's tokens.

Whatever comes, the answer is never a 500, an error is one of the protocol's form, and nothing of Alice's reaches Mallory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_twisted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread

from heichat_appliance.http.routing import Route
from tests.api_docs import PLUGINS
from tests.appliance import CLIENT, Actor, Answer, Appliance, q

#: What would end the session that the tests go on with.
ENDS_SESSION = {f"{CLIENT}/logout", f"{CLIENT}/logout/all"}
MARK = "SECRET"


def wait(coroutine: Any) -> Any:
    return pytest_twisted.blockon(Deferred.fromCoroutine(coroutine))


class World:
    """Alice, who has secrets, and Mallory, who has nothing to do with her."""

    def __init__(self, server: Appliance, alice: Actor, mallory: Actor, known: dict[str, str]) -> None:
        self.server = server
        self.alice = alice
        self.mallory = mallory
        #: identifiers of Alice's by path parameter
        self.known = known


async def make_world(server: Appliance) -> World:
    alice = await server.login("alice", initial_device_display_name=f"{MARK} phone")
    mallory = await server.login("bob")
    room_id = await alice.create_room(name=f"{MARK} room", topic=f"{MARK} topic")
    event_id = await alice.send(room_id, f"{MARK} message")
    me = q(alice.user_id)
    alice.ok(await alice.put(f"/user/{me}/account_data/org.test", {"x": f"{MARK} data"}))
    alice.ok(await alice.put(f"/user/{me}/rooms/{q(room_id)}/account_data/org.test", {"x": f"{MARK} data"}))
    alice.ok(await alice.put(f"/user/{me}/rooms/{q(room_id)}/tags/u.{MARK}", {}))
    wanted = {"room": {"timeline": {"types": [f"{MARK}.type"]}}}
    filter_id = alice.ok(await alice.post(f"/user/{me}/filter", wanted))["filter_id"]
    alice.ok(await alice.put("/pushrules/global/content/mine", {"actions": ["notify"], "pattern": f"{MARK}word"}))
    alias = "#known:chat.test"
    alice.ok(await alice.put(f"/directory/room/{q(alias)}", {"room_id": room_id}))
    upload = await alice.request(
        "POST",
        "/_matrix/media/v3/upload",
        raw=b"who knows its URI may read it",
        headers={"Content-Type": "text/plain"},
    )
    known = {
        "roomId": room_id,
        "roomIdOrAlias": alias,
        "roomAlias": alias,
        "eventId": event_id,
        "userId": alice.user_id,
        "deviceId": alice.device_id,
        "device_id": alice.device_id,
        "filterId": filter_id,
        "eventType": "m.room.message",
        "type": "org.test",
        "stateKey": "",
        "tag": f"u.{MARK}",
        "txnId": "t",
        "kind": "content",
        "ruleId": "mine",
        "serverName": "chat.test",
        "relType": "m.thread",
        "receiptType": "m.read",
        "keyName": "displayname",
        "version": "1",
        "sessionId": "s",
        "mediaId": alice.ok(upload)["content_uri"].rsplit("/", 1)[-1],
    }
    return World(server, alice, mallory, known)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    plugins = [name for name in PLUGINS if name != "terms_consent"]
    server = wait(Appliance.start(tmp_path_factory.mktemp("world"), plugins=plugins))
    yield wait(make_world(server))
    wait(server.stop())


# -- what is sent ------------------------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text(max_size=12)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
#: fields that bodies of the API have, so that what is sent gets past the first check
FIELDS = (
    "user_id", "room_id", "membership", "reason", "msgtype", "body", "m.relates_to", "type", "identifier", "password",
    "device_id", "devices", "auth", "name", "topic", "invite", "preset", "visibility", "room_version", "initial_state",
    "creation_content", "power_level_content_override", "timeout", "typing", "presence", "status_msg", "displayname",
    "avatar_url", "one_time_keys", "device_keys", "fallback_keys", "messages", "rooms", "sessions", "algorithm",
    "auth_data", "version", "search_term", "limit", "search_categories", "filter", "from", "to", "actions", "conditions",
    "pattern", "enabled", "m.fully_read", "m.read", "thread_id", "lists", "room_subscriptions", "extensions", "conn_id",
    "new_version", "refresh_token", "order", "score", "kind", "app_id", "pushkey", "data", "lang", "locked", "suspended",
)  # fmt: skip
bodies = st.one_of(
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=6).map(lambda value: json.dumps(value).encode()),
    values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=20),
    st.sampled_from([b"", b"{", b'{"x": NaN}', b'"\\ud800"', b'{"body": "\\ud800"}', b"[" * 5000, b'{"a": 1e999}']),
)
strange = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["!x:chat.test", "@x:other.test", "$x", "#x:chat.test", "..", "%", "\x00", "a" * 300]),
)
queries = st.dictionaries(
    st.sampled_from(
        ["from", "to", "dir", "limit", "filter", "since", "full_state", "at", "membership", "via", "format", "ts", "user_id",
         "include", "recurse", "room_id", "width", "height", "method", "version", "redirectUrl", "username"]
    ),
    st.one_of(st.text(max_size=8), st.sampled_from(["s1.1", "b", "f", "0", "-1", "9" * 40, "{}", '{"limit": "x"}', "true"])),
    max_size=4,
)  # fmt: skip


@st.composite
def requests(draw: st.DrawFn, route: Route, known: dict[str, str]) -> tuple[str, bytes | None]:
    """(URL, body) of a request to a route: identifiers of Alice's or strange ones, any query, any body."""
    segments = []
    for segment in route.path.split("/"):
        if segment.startswith("{"):
            own = known.get(segment[1:-1])
            value = draw(strange if own is None else st.just(own) | strange)
            segment = "%GG" if value == "%" else q(value.encode("utf-8", "replace").decode())
        segments.append(segment)
    query = draw(queries)
    url = "/".join(segments) + ("?" + urlencode(query, errors="replace") if query else "")
    return url, draw(bodies) if route.method in ("POST", "PUT", "DELETE") else None


def check(route: Route, answer: Answer, world: World) -> None:
    assert answer.status < 500 or answer.status == 504, (route.path, answer.status, answer.body[:300])
    if answer.status >= 400 and route.path.startswith("/_matrix"):
        is_dialogue = isinstance(answer.json, dict) and "flows" in answer.json  # user-interactive authentication
        assert is_dialogue or (answer.errcode or "").startswith("M_"), (route.path, answer.body[:300])
    assert MARK.encode() not in answer.body, (route.method, route.path, answer.body[:300])
    assert b"@example" not in answer.body, "a mail address of the directory"


def drive(world: World, token: str | None, examples: int) -> None:
    """So many requests to each route."""
    for route in world.server.daemon.site.router.routes:
        if not (token and route.path in ENDS_SESSION):
            drive_one(world, route, token, examples)


def drive_one(world: World, route: Route, token: str | None, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(requests(route, world.known))
    def one(request: tuple[str, bytes | None]) -> None:
        url, body = request
        client = world.server.http
        client.token = token
        answer = blockingCallFromThread(
            reactor, lambda: Deferred.fromCoroutine(client.request(route.method, url, raw=body))
        )
        check(route, answer, world)

    one()


@pytest_twisted.ensureDeferred
async def test_a_stranger_with_a_login(world: World) -> None:
    await deferToThread(drive, world, world.mallory.token, 15)


@pytest_twisted.ensureDeferred
async def test_somebody_without_a_login(world: World) -> None:
    await deferToThread(drive, world, None, 4)


@pytest_twisted.ensureDeferred
async def test_a_made_up_token(world: World) -> None:
    await deferToThread(drive, world, "hct_made_up", 2)


@pytest_twisted.ensureDeferred
async def test_the_secrets_are_there_for_alice(world: World) -> None:
    """Else the tests above would prove nothing."""
    told = json.dumps(await world.alice.sync(since=None))
    for secret in ("room", "topic", "message", "data"):
        assert f"{MARK} {secret}" in told
