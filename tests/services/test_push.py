"""Notifications as a real push gateway gets them."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet import defer, reactor, task

from tests.appliance import Appliance, q
from tests.push_kit import Gateway, set_pusher

PRIVATE = {"push": {"allow_private": "yes"}}


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path, config=PRIVATE)
    yield running
    await running.stop()


@pytest_twisted.async_yield_fixture
async def gateway():
    running = Gateway()
    yield running
    await running.stop()


async def people(server, *names, **room):
    """A room of the first one with all others; (room ID, actors...)."""
    actors = [await server.login(name) for name in names]
    room_id = await actors[0].create_room(**room)
    for actor in actors[1:]:
        await actors[0].invite(room_id, actor.user_id)
        await actor.join(room_id)
    return room_id, *actors


async def three(server, **room):
    """A room of three, where messages notify without a sound."""
    return await people(server, "alice", "bob", "charlotte", **room)


async def read(actor, room_id, event_id):
    actor.ok(await actor.post(f"/rooms/{q(room_id)}/receipt/m.read/{q(event_id)}"))


async def until(condition) -> None:
    """Wait until a condition holds."""
    for _ in range(2000):
        if condition():
            return
        await task.deferLater(reactor, 0.005)
    raise AssertionError("it did not come")


# -- what is told ----------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_message_in_a_room(server, gateway):
    room_id, alice, bob, _ = await three(server, name="Seminar")
    await set_pusher(bob, gateway.url, "bob's key", brand="Phone")
    event_id = await alice.send(room_id, "hello")
    told = await gateway.next()
    assert isinstance(told["devices"][0].pop("pushkey_ts"), int)
    assert told == {
        "event_id": event_id,
        "room_id": room_id,
        "type": "m.room.message",
        "sender": alice.user_id,
        "sender_display_name": (await alice.get(f"/profile/{q(alice.user_id)}")).json["displayname"],
        "room_name": "Seminar",
        "prio": "low",
        "content": {"msgtype": "m.text", "body": "hello"},
        "counts": {"unread": 1},
        "devices": [{"app_id": "org.example.app", "pushkey": "bob's key", "data": {"brand": "Phone"}}],
    }
    await alice.send(room_id, "again")
    assert (await gateway.next())["counts"] == {"unread": 2}
    assert gateway.unseen == []


@pytest_twisted.ensureDeferred
async def test_a_direct_message_has_a_sound(server, gateway):
    room_id, alice, bob = await people(server, "alice", "bob", is_direct=True)
    await set_pusher(bob, gateway.url)
    await alice.send(room_id, "hello")
    told = await gateway.next()
    assert told["devices"][0]["tweaks"] == {"sound": "default"}
    assert told["prio"] == "high"


@pytest_twisted.ensureDeferred
async def test_a_mention_is_highlighted(server, gateway):
    room_id, alice, bob, charlotte = await three(server)
    await set_pusher(bob, gateway.url, "bob")
    await set_pusher(charlotte, gateway.url, "charlotte")
    content = {"msgtype": "m.text", "body": "Bob?", "m.mentions": {"user_ids": [bob.user_id]}}
    await alice.send(room_id, content)
    by_key = {told["devices"][0]["pushkey"]: told for told in (await gateway.next(), await gateway.next())}
    assert by_key["bob"]["devices"][0]["tweaks"] == {"sound": "default", "highlight": True}
    assert by_key["bob"]["prio"] == "high"
    assert "tweaks" not in by_key["charlotte"]["devices"][0]


@pytest_twisted.ensureDeferred
async def test_a_keyword(server, gateway):
    room_id, alice, bob, _ = await three(server)
    keyword = {"pattern": "exam", "actions": ["notify", {"set_tweak": "highlight"}]}
    bob.ok(await bob.put("/pushrules/global/content/exam", keyword))
    bob.ok(await bob.put(f"/pushrules/global/room/{q(room_id)}", {"actions": []}))
    await set_pusher(bob, gateway.url)
    await alice.send(room_id, "nothing in a muted room")
    event_id = await alice.send(room_id, "the Exam is tomorrow")
    told = await gateway.next()
    assert (told["event_id"], told["devices"][0]["tweaks"]) == (event_id, {"highlight": True})
    assert told["counts"] == {"unread": 1}


@pytest_twisted.ensureDeferred
async def test_an_invitation(server, gateway):
    alice, bob = await server.login("alice"), await server.login("bob")
    await set_pusher(bob, gateway.url)
    room_id = await alice.create_room(name="Seminar")
    await alice.send(room_id, "before")
    await alice.invite(room_id, bob.user_id)
    told = await gateway.next()
    assert (told["type"], told["user_is_target"], told["room_name"]) == ("m.room.member", True, "Seminar")
    assert (told["content"]["membership"], told["counts"]) == ("invite", {"unread": 1})
    await alice.send(room_id, "not for who is but invited")
    await bob.join(room_id)
    event_id = await alice.send(room_id, "welcome")
    assert (await gateway.next())["event_id"] == event_id
    await bob.leave(room_id)
    await alice.send(room_id, "not for who has left")
    await alice.invite(room_id, bob.user_id)
    assert (await gateway.next())["type"] == "m.room.member"


@pytest_twisted.ensureDeferred
async def test_a_format_for_those_who_want_the_ids_only(server, gateway):
    room_id, alice, bob = await people(server, "alice", "bob")
    await set_pusher(bob, gateway.url, format="event_id_only")
    event_id = await alice.send(room_id, "secret")
    told = await gateway.next()
    del told["devices"][0]["pushkey_ts"]
    assert told == {
        "event_id": event_id,
        "room_id": room_id,
        "prio": "high",
        "counts": {"unread": 1},
        "devices": [{"app_id": "org.example.app", "pushkey": "key", "data": {"format": "event_id_only"}}],
    }


@pytest_twisted.ensureDeferred
async def test_encrypted_messages_are_urgent_and_without_content(server, gateway):
    room_id, alice, bob, _ = await three(server)
    await set_pusher(bob, gateway.url)
    await alice.send(room_id, {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "abc"}, type="m.room.encrypted")
    told = await gateway.next()
    assert (told["type"], told["prio"]) == ("m.room.encrypted", "high")
    assert "content" not in told


@pytest_twisted.ensureDeferred
async def test_reading_elsewhere_lowers_the_count(server, gateway):
    room_id, alice, bob, _ = await three(server)
    await set_pusher(bob, gateway.url)
    event_id = await alice.send(room_id, "one")
    assert (await gateway.next())["counts"] == {"unread": 1}
    await read(bob, room_id, event_id)
    told = await gateway.next()
    assert (told["counts"], "event_id" in told) == ({"unread": 0}, False)
    await alice.send(room_id, "two")
    assert (await gateway.next())["counts"] == {"unread": 1}


@pytest_twisted.ensureDeferred
async def test_many_members_are_told_each_once(server, gateway):
    room_id, *actors = await people(server, "alice", "bob", "charlotte", "david", "emine")
    for actor in actors:
        await set_pusher(actor, gateway.url, actor.user_id)
    sent = await defer.gatherResults(
        [defer.ensureDeferred(actors[0].send(room_id, str(number))) for number in range(10)]
    )
    told = [await gateway.next() for _ in range(40)]
    for actor in actors[1:]:
        mine = [one["event_id"] for one in told if one["devices"][0]["pushkey"] == actor.user_id]
        assert sorted(mine) == sorted(sent)
    assert gateway.unseen == []


# -- who is not told ---------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_nobody_hears_of_their_own_messages_or_of_people_they_ignore(server, gateway):
    room_id, alice, bob, charlotte = await three(server)
    await set_pusher(bob, gateway.url)
    ignored = {"ignored_users": {alice.user_id: {}}}
    bob.ok(await bob.put(f"/user/{q(bob.user_id)}/account_data/m.ignored_user_list", ignored))
    await bob.send(room_id, "mine")
    await alice.send(room_id, "ignored")
    event_id = await charlotte.send(room_id, "heard")
    assert (await gateway.next())["event_id"] == event_id


@pytest_twisted.ensureDeferred
async def test_a_logout_ends_notifications(server, gateway):
    room_id, alice, bob, charlotte = await three(server)
    await set_pusher(bob, gateway.url, "bob")
    await set_pusher(charlotte, gateway.url, "charlotte")
    bob.ok(await bob.post("/logout"))
    await alice.send(room_id, "hello")
    assert (await gateway.next())["devices"][0]["pushkey"] == "charlotte"
    gone = {"kind": None, "app_id": "org.example.app", "pushkey": "charlotte"}
    charlotte.ok(await charlotte.post("/pushers/set", gone))
    await alice.send(room_id, "nobody hears this")
    await set_pusher(charlotte, gateway.url, "again")
    event_id = await alice.send(room_id, "hello")
    assert (await gateway.next())["event_id"] == event_id


@pytest_twisted.ensureDeferred
async def test_locked_people_are_not_notified(server, gateway):
    room_id, alice, bob, charlotte = await three(server)
    admin = await server.login("admin")
    await set_pusher(bob, gateway.url, "bob")
    await set_pusher(charlotte, gateway.url, "charlotte")
    lock = f"/_matrix/client/v1/admin/lock/{q(bob.user_id)}"
    admin.ok(await admin.put(lock, {"locked": True}))
    await alice.send(room_id, "hello")
    assert (await gateway.next())["devices"][0]["pushkey"] == "charlotte"
    admin.ok(await admin.put(lock, {"locked": False}))
    await alice.send(room_id, "hello")
    assert {(await gateway.next())["devices"][0]["pushkey"] for _ in range(2)} == {"bob", "charlotte"}


# -- gateways ------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_rejected_pushkey_is_removed(server, gateway):
    room_id, alice, bob, _ = await three(server)
    await set_pusher(bob, gateway.url, "old")
    await set_pusher(bob, gateway.url, "new")
    gateway.rejected = ["old"]
    await alice.send(room_id, "hello")
    for _ in range(2):
        await gateway.next()
    await until(lambda: len(server.daemon.pushers.of_user(bob.user_id)) == 1)
    for _ in range(2):
        await alice.send(room_id, "hello")
        assert (await gateway.next())["devices"][0]["pushkey"] == "new"
    assert gateway.unseen == []


@pytest_twisted.ensureDeferred
async def test_a_gateway_that_was_down_gets_everything_in_order(server, gateway):
    room_id, alice, bob, _ = await three(server)
    await set_pusher(bob, gateway.url)
    await gateway.stop()
    sent = [await alice.send(room_id, str(number)) for number in range(3)]
    gateway.start()
    assert [(await gateway.next())["event_id"] for _ in range(3)] == sent
    assert gateway.unseen == []


@pytest.mark.parametrize("status", [500, 503, 429])
@pytest_twisted.ensureDeferred
async def test_a_failing_gateway_is_asked_again(server, gateway, status):
    room_id, alice, bob, _ = await three(server)
    await set_pusher(bob, gateway.url)
    gateway.status = status
    event_id = await alice.send(room_id, "hello")
    await gateway.asked(1)
    gateway.status = 200
    assert (await gateway.next())["event_id"] == event_id


@pytest.mark.parametrize("status", [302, 400, 404])
@pytest_twisted.ensureDeferred
async def test_what_a_gateway_refuses_is_given_up(server, gateway, status):
    room_id, alice, bob, _ = await three(server)
    await set_pusher(bob, gateway.url)
    gateway.status = status
    await alice.send(room_id, "refused")
    await gateway.asked(1)
    gateway.status = 200
    event_id = await alice.send(room_id, "fine")
    assert (await gateway.next())["event_id"] == event_id


@pytest_twisted.ensureDeferred
async def test_what_was_read_or_redacted_meanwhile_is_not_told(server, gateway):
    room_id, alice, bob, charlotte = await three(server)
    other = await charlotte.create_room(invite=[bob.user_id])
    await bob.join(other)
    await set_pusher(bob, gateway.url)
    gateway.status = 503
    seen = await alice.send(room_id, "read")
    await gateway.asked(1)
    await read(bob, room_id, seen)
    mistake = await charlotte.send(other, "redacted")
    charlotte.ok(await charlotte.put(f"/rooms/{q(other)}/redact/{q(mistake)}/t1"))
    last = await charlotte.send(other, "told")
    gateway.status = 200
    assert (await gateway.next())["event_id"] == last


@pytest_twisted.ensureDeferred
async def test_a_silent_gateway_holds_up_nobody_else(server, gateway):
    room_id, alice, bob, charlotte = await three(server)
    silent = Gateway()
    silent.silent = True
    await set_pusher(bob, silent.url, "bob")
    await set_pusher(charlotte, gateway.url, "charlotte")
    sent = [await alice.send(room_id, str(number)) for number in range(3)]
    assert [(await gateway.next())["event_id"] for _ in range(3)] == sent
    assert silent.requests == 1
    await silent.stop()


# -- stopping and starting ---------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_what_waits_is_sent_after_a_restart(tmp_path, gateway):
    server = await Appliance.start(tmp_path, config=PRIVATE)
    room_id, alice, bob, _ = await three(server)
    await set_pusher(bob, gateway.url)
    await alice.send(room_id, "told")
    await gateway.next()
    gateway.status = 503
    sent = [await alice.send(room_id, str(number)) for number in range(3)]
    await gateway.asked(2)
    await server.stop()
    gateway.status = 200
    server = await Appliance.start(tmp_path, config=PRIVATE)
    assert [(await gateway.next())["event_id"] for _ in range(3)] == sent
    await server.stop()
    server = await Appliance.start(tmp_path, config=PRIVATE)
    alice = await server.login("alice")
    last = await alice.send(room_id, "last")
    assert (await gateway.next())["event_id"] == last
    assert gateway.unseen == []
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_what_a_crash_kept_from_being_told_is_told(tmp_path, gateway):
    server = await Appliance.start(tmp_path, config=PRIVATE)
    room_id, alice, bob, _ = await three(server)
    await set_pusher(bob, gateway.url)
    push, notifier = server.daemon.push, server.daemon.notifier
    await push._save()
    notifier.listeners.remove(push.committed)  # as if it were killed right after the commit
    event_id = await alice.send(room_id, "hello")
    await server.stop()
    assert gateway.unseen == []
    server = await Appliance.start(tmp_path, config=PRIVATE)
    assert (await gateway.next())["event_id"] == event_id
    await server.stop()


# -- private addresses ---------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_no_connection_is_made_to_a_private_address(tmp_path, gateway):
    """A name may mean anything, so it is the address that counts."""
    server = await Appliance.start(tmp_path, config=PRIVATE)
    bob = await server.login("bob")
    await set_pusher(bob, gateway.url.replace("127.0.0.1", "localhost"))
    await set_pusher(bob, gateway.url, "literal")
    await server.stop()
    server = await Appliance.start(tmp_path)  # by default nothing private is allowed
    room_id, alice, bob = await people(server, "alice", "bob")
    await alice.send(room_id, "hello")
    targets = server.daemon.push._targets[bob.user_id]
    await until(lambda: all(target.pause for target in targets))
    assert gateway.requests == 0
    await server.stop()
