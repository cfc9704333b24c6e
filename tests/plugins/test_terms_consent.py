"""Nobody chats before agreeing to the terms; the room of notices, the link and the page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from heichat_appliance.config import ConfigErrors
from tests.appliance import Actor, Answer, Appliance, q

PLUGINS = ("demo_directory", "terms_consent", "closed_rooms")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def start(tmp_path: Path, **terms: str) -> Appliance:
    return await Appliance.start(tmp_path, plugins=PLUGINS, config={"terms_consent": terms})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Appliance]:
    server = pytest_twisted.blockon(Deferred.fromCoroutine(start(tmp_path)))
    yield server
    pytest_twisted.blockon(Deferred.fromCoroutine(server.stop()))


async def invitation(actor: Actor) -> str:
    """The room of notices that the person is invited to."""
    (room_id,) = (await actor.sync(since=None))["rooms"]["invite"]
    return room_id


async def notice(actor: Actor, room_id: str) -> dict[str, Any]:
    await actor.join(room_id)
    section = (await actor.sync(since=None))["rooms"]["join"][room_id]
    return [e for e in section["timeline"]["events"] if e["type"] == "m.room.message"][-1]


def link_in(event: dict[str, Any]) -> str:
    found = re.search(r"https://chat\.test(/_heichat/consent\?\S+)", event["content"]["body"])
    assert found
    return found[1]


async def read(server: Appliance, link: str, lang: str = "de") -> Answer:
    return await server.http.request("GET", link, headers={"Accept-Language": lang})


def form_of(page: Answer) -> dict[str, str]:
    text = page.body.decode()
    return {name: unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', text)}


async def agree(server: Appliance, form: dict[str, str], **headers: str) -> Answer:
    return await server.http.request(
        "POST", "/_heichat/consent", raw=urlencode(form).encode(), headers={**FORM, **headers}
    )


async def agreed(server: Appliance, name: str) -> Actor:
    actor = await server.login(name)
    event = await notice(actor, await invitation(actor))
    assert (await agree(server, form_of(await read(server, link_in(event))))).status == 200
    return actor


@pytest_twisted.ensureDeferred
async def test_the_whole_way_from_the_first_login_to_chatting(server: Appliance) -> None:
    alice = await server.login("alice")
    room_id = await invitation(alice)
    state = {e["type"]: e for e in (await alice.sync(since=None))["rooms"]["invite"][room_id]["invite_state"]["events"]}
    assert state["m.room.name"]["content"] == {"name": "Server Notices"}
    assert state["m.room.create"]["sender"] == "@administrator:chat.test"
    event = await notice(alice, room_id)
    assert event["sender"] == "@administrator:chat.test"
    assert "Einverstanden" in event["content"]["body"] and "terms of use" in event["content"]["body"]
    section = (await alice.sync(since=None))["rooms"]["join"][room_id]
    assert {"type": "m.tag", "content": {"tags": {"m.server_notice": {}}}} in section["account_data"]["events"]

    refused = await alice.post("/createRoom")
    assert (refused.status, refused.errcode) == (403, "M_CONSENT_NOT_GIVEN")
    assert refused.json["consent_uri"].endswith(link_in(event))
    page = await read(server, link_in(event))
    assert page.status == 200 and "Einverstanden" in page.body.decode() and "@alice:chat.test" in page.body.decode()
    done = await agree(server, form_of(page))
    assert done.status == 200 and "zugestimmt" in done.body.decode()
    await alice.create_room(name="Arbeitsgruppe")
    assert (await server.daemon.engine.read_in_thread(_consents)) == [("@alice:chat.test", "1")]


def _consents(execute: Any) -> list[tuple[str, str]]:
    return execute("SELECT user_id, version FROM consents WHERE ts > 1700000000000").fetchall()


@pytest_twisted.ensureDeferred
async def test_what_works_before_agreeing_and_what_does_not(server: Appliance) -> None:
    alice, bob = await agreed(server, "alice"), await server.login("bob")
    shared = await alice.create_room(invite=[bob.user_id])
    notices = next(r for r in (await bob.sync())["rooms"]["invite"] if r != shared)
    await bob.join(notices)
    for answer in (
        await bob.get("/sync"),
        await bob.get("/joined_rooms"),
        await bob.get("/devices"),
        await bob.get("/account/whoami"),
        await bob.get(f"/rooms/{q(notices)}/state"),
        await bob.get(f"/profile/{q(bob.user_id)}"),
    ):
        assert answer.status == 200, answer.json
    room, me = q(notices), q(bob.user_id)
    message = {"msgtype": "m.text", "body": "x"}
    for refused in (
        await bob.post("/createRoom"),
        await bob.post(f"/join/{q(shared)}"),
        await bob.post(f"/rooms/{q(shared)}/join"),
        await bob.post(f"/rooms/{room}/invite", {"user_id": alice.user_id}),
        await bob.put(f"/rooms/{room}/send/m.room.message/1", message),
        await bob.put(f"/rooms/{room}/state/m.room.topic/", {"topic": "x"}),
        await bob.put(f"/profile/{me}/displayname", {"displayname": "x"}),
        await bob.post(f"/knock/{q(shared)}"),
        await bob.put(f"/directory/room/{q('#x:chat.test')}", {"room_id": shared}),
        await bob.put("/sendToDevice/m.test/1", {"messages": {}}),
    ):
        assert (refused.status, refused.errcode) == (403, "M_CONSENT_NOT_GIVEN"), refused.json
        assert refused.json["consent_uri"].startswith("https://chat.test/_heichat/consent?")
    assert (await bob.post(f"/rooms/{q(shared)}/leave")).status == 200
    assert (await bob.post("/logout")).status == 200


@pytest_twisted.ensureDeferred
async def test_nobody_but_the_administrator_writes_notices(server: Appliance) -> None:
    alice = await agreed(server, "alice")
    (room_id,) = (await alice.get("/joined_rooms")).json["joined_rooms"]
    for refused in (
        await alice.put(f"/rooms/{q(room_id)}/send/m.room.message/1", {"msgtype": "m.text", "body": "x"}),
        await alice.post(f"/rooms/{q(room_id)}/invite", {"user_id": "@bob:chat.test"}),
        await alice.put(f"/rooms/{q(room_id)}/state/m.room.name/", {"name": "x"}),
    ):
        assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")


@pytest_twisted.ensureDeferred
async def test_nobody_logs_in_as_the_administrator(tmp_path: Path) -> None:
    (tmp_path / "people").write_text("hausmeister:pw:Somebody\nadministrator:pw:Somebody else\n", "utf-8")
    config = {"demo_directory": {"users": str(tmp_path / "people")}, "terms_consent": {"administrator": "hausmeister"}}
    server = await Appliance.start(tmp_path, plugins=PLUGINS, config=config)
    try:
        for uni_id in ("hausmeister", "Hausmeister"):
            body = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": uni_id}, "password": "pw"}
            answer = await server.http.post("/login", body)
            assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
            assert "reserved" in answer.json["error"] and "reserviert" in answer.json["error"]
        await server.login("administrator", "pw")
    finally:
        await server.stop()
    config["terms_consent"] = {}
    with pytest.raises(ConfigErrors, match=r"\[terms_consent\] administrator: somebody has the account"):
        await Appliance.start(tmp_path, plugins=PLUGINS, config=config)


@pytest_twisted.ensureDeferred
async def test_a_login_asks_once(server: Appliance) -> None:
    await server.login("alice")
    alice = await server.login("alice")
    room_id = await invitation(alice)
    await alice.join(room_id)
    events = (await alice.sync(since=None))["rooms"]["join"][room_id]["timeline"]["events"]
    assert len([e for e in events if e["type"] == "m.room.message"]) == 1


@pytest_twisted.ensureDeferred
async def test_a_new_version_asks_again_in_the_same_room(tmp_path: Path) -> None:
    server = await start(tmp_path, version="1")
    alice = await agreed(server, "alice")
    (old_room,) = (await alice.get("/joined_rooms")).json["joined_rooms"]
    old_link = server.daemon.plugins["terms_consent"]._consent.link(alice.user_id)
    await server.stop()
    server = await start(tmp_path, version="2")
    try:
        alice = await server.login("alice")
        assert (await alice.post("/createRoom")).errcode == "M_CONSENT_NOT_GIVEN"
        assert (await read(server, old_link.removeprefix("https://chat.test"))).status == 403
        events = (await alice.sync(since=None))["rooms"]["join"][old_room]["timeline"]["events"]
        await agree(server, form_of(await read(server, link_in(events[-1]))))
        await alice.create_room()
        assert await server.daemon.engine.read_in_thread(_consents) == [
            ("@alice:chat.test", "1"),
            ("@alice:chat.test", "2"),
        ]
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_who_left_the_notices_is_invited_again_for_a_new_version(tmp_path: Path) -> None:
    server = await start(tmp_path, version="1")
    alice = await agreed(server, "alice")
    (room_id,) = (await alice.get("/joined_rooms")).json["joined_rooms"]
    await alice.leave(room_id)
    await server.stop()
    server = await start(tmp_path, version="2")
    try:
        alice = await server.login("alice")
        assert await invitation(alice) == room_id
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_forged_links_and_links_of_others_are_refused(server: Appliance) -> None:
    alice, bob = await server.login("alice"), await server.login("bob")
    event = await notice(alice, await invitation(alice))
    link = link_in(event)
    query = {key: values[0] for key, values in parse_qs(urlsplit(link).query).items()}
    for u, h in (
        (bob.user_id, query["h"]),
        (query["u"], "x" * len(query["h"])),
        (query["u"], ""),
        ("", query["h"]),
        (query["u"].upper(), query["h"]),
    ):
        forged = {"u": u, "h": h}
        assert (await read(server, f"/_heichat/consent?{urlencode(forged)}")).status == 403
        assert (await agree(server, forged)).status == 403
    assert (await bob.post("/createRoom")).errcode == "M_CONSENT_NOT_GIVEN"
    assert (await alice.post("/createRoom")).errcode == "M_CONSENT_NOT_GIVEN"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.test"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.test"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://other.chat.test"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://chat.test"}, 200),
        ({"Origin": "https://chat.test"}, 200),
    ],
)
@pytest_twisted.ensureDeferred
async def test_posts_from_other_sites_are_refused(server: Appliance, headers: dict[str, str], status: int) -> None:
    alice = await server.login("alice")
    event = await notice(alice, await invitation(alice))
    answer = await agree(server, form_of(await read(server, link_in(event))), **headers)
    assert answer.status == status
    assert ((await alice.post("/createRoom")).status == 200) == (status == 200)


@pytest_twisted.ensureDeferred
async def test_the_page_in_both_languages_without_script_and_with_strict_headers(server: Appliance) -> None:
    alice = await server.login("alice")
    link = link_in(await notice(alice, await invitation(alice)))
    german, english = await read(server, link), await read(server, link, "en-GB,en;q=0.9,de;q=0.5")
    assert 'lang="de"' in german.body.decode() and "Einverstanden" in german.body.decode()
    assert 'lang="en"' in english.body.decode() and "I agree" in english.body.decode()
    assert "Einverstanden" in (await read(server, link + "&lang=de", "en")).body.decode()
    for page in (german, english):
        assert "<script" not in page.body.decode()
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "form-action 'self'" in policy
        assert page.headers["cache-control"] == "no-store" and page.headers["referrer-policy"] == "no-referrer"
    without_link = await read(server, "/_heichat/consent")
    assert without_link.status == 200 and "<form" not in without_link.body.decode()


@pytest_twisted.ensureDeferred
async def test_own_documents(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "de.md").write_text("# Eigene Regeln <b>fett</b>", "utf-8")
    (folder / "en.md").write_text("# Own rules", "utf-8")
    server = await start(tmp_path, documents=str(folder))
    try:
        page = await read(server, "/_heichat/consent")
        assert "<h1>Eigene Regeln &lt;b&gt;fett&lt;/b&gt;</h1>" in page.body.decode()
    finally:
        await server.stop()
