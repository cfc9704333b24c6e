"""Two demo people with matrix-nio: media, room administration, aliases, profiles, devices, tags, paging, redactions.

python tests/clients/nio/features.py http://127.0.0.1:8008     (see tests/clients/driver.py)
"""

from __future__ import annotations

import asyncio
import io
import sys
from typing import Any

from kit import Person, good, step
from nio import (
    DeleteDevicesAuthResponse,
    DeleteDevicesResponse,
    ErrorResponse,
    MessageDirection,
    PushRuleKind,
    RedactedEvent,
    RedactionEvent,
    ResizingMethod,
    RoomMemberEvent,
    RoomMessageText,
    RoomTopicEvent,
    TypingNoticeEvent,
)
from PIL import Image

JOINED, INVITED, LEFT, BANNED = "join", "invite", "leave", "ban"


def refused(response: Any, errcode: str) -> None:
    """A response that must be this error."""
    assert isinstance(response, ErrorResponse), response
    assert response.status_code == errcode, response


def status(response: Any) -> int:
    """The HTTP status of a response, where nio takes any answer for a success."""
    return int(response.transport_response.status)


async def shared_room(alice: Person, bob: Person, **options: Any) -> str:
    room_id: str = good(await alice.client.room_create(invite=[bob.client.user_id], **options)).room_id
    await bob.until(lambda: room_id in bob.client.invited_rooms, "the invitation")
    good(await bob.client.join(room_id))
    await bob.until(lambda: room_id in bob.client.rooms, "the room")
    await becomes(alice, room_id, bob, JOINED)
    return room_id


async def becomes(watcher: Person, room_id: str, person: Person, membership: str) -> RoomMemberEvent:
    """Wait until the last thing heard of a person in a room is this membership."""

    def last() -> RoomMemberEvent | None:
        for room, event in reversed(watcher.seen):
            if room == room_id and isinstance(event, RoomMemberEvent) and event.state_key == person.client.user_id:
                return event if event.membership == membership else None
        return None

    return await watcher.until(last, f"{person.uni_id}: {membership}")


async def media(alice: Person, bob: Person) -> str:
    step("a picture goes up, and comes down whole and small; so does a file with a strange name")
    file = io.BytesIO()
    Image.new("RGB", (400, 200), "teal").save(file, "PNG")
    data = file.getvalue()
    sent, _ = await alice.client.upload(io.BytesIO(data), "image/png", "Tafelbild.png", filesize=len(data))
    uri: str = good(sent).content_uri
    whole = good(await bob.client.download(uri))
    assert (whole.body, whole.content_type, whole.filename) == (data, "image/png", "Tafelbild.png")
    server, media_id = uri.removeprefix("mxc://").split("/")
    for method, size in ((ResizingMethod.scale, (100, 50)), (ResizingMethod.crop, (96, 96))):
        small = good(await bob.client.thumbnail(server, media_id, size[0], size[1], method))
        with Image.open(io.BytesIO(small.body)) as picture:
            ratio = picture.width / picture.height
            assert ratio == size[0] / size[1] and size[0] <= picture.width < 400, picture.size
    text = "Übung".encode()
    sent, _ = await alice.client.upload(io.BytesIO(text), "text/plain", 'Blatt 1 "neu" ü.txt', filesize=len(text))
    back = good(await bob.client.download(good(sent).content_uri))
    assert (back.body, back.filename) == (text, 'Blatt 1 "neu" ü.txt')
    secret, keys = await alice.client.upload(io.BytesIO(data), "image/png", encrypt=True, filesize=len(data))
    assert keys and keys["v"] == "v2"
    assert good(await bob.client.download(good(secret).content_uri)).body != data
    assert good(await alice.client.content_repository_config()).upload_size > len(data)
    refused(await bob.client.download(f"mxc://{server}/unknown"), "M_NOT_FOUND")
    return uri


async def state(alice: Person, bob: Person) -> None:
    step("the state of a room")
    room_id = await shared_room(alice, bob, name="Zustand", topic="erst")
    good(await alice.client.room_put_state(room_id, "m.room.topic", {"topic": "dann"}))
    await bob.until(lambda: bob.find(room_id, RoomTopicEvent, lambda e: e.topic == "dann"), "the topic")
    assert bob.client.rooms[room_id].topic == "dann"
    assert good(await bob.client.room_get_state_event(room_id, "m.room.topic")).content["topic"] == "dann"
    refused(await bob.client.room_get_state_event(room_id, "m.room.avatar"), "M_NOT_FOUND")
    refused(await bob.client.room_put_state(room_id, "m.room.name", {"name": "bobs"}), "M_FORBIDDEN")
    found = {(e["type"], e["state_key"]) for e in good(await bob.client.room_get_state(room_id)).events}
    members = {("m.room.member", person.client.user_id) for person in (alice, bob)}
    assert members | {("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.name", "")} <= found
    joined = {member.user_id: member.display_name for member in good(await bob.client.joined_members(room_id)).members}
    assert joined == {alice.client.user_id: "Alice Müller", bob.client.user_id: joined[bob.client.user_id]}
    assert room_id in good(await bob.client.joined_rooms()).rooms
    assert good(await bob.client.room_get_visibility(room_id)).visibility == "private"


async def membership(alice: Person, bob: Person) -> None:
    step("kick, ban, unban, leave, forget")
    room_id = await shared_room(alice, bob, name="Tür")
    bob_id = bob.client.user_id
    refused(await bob.client.room_kick(room_id, alice.client.user_id), "M_FORBIDDEN")
    good(await alice.client.room_kick(room_id, bob_id, "Pause"))
    assert (await becomes(alice, room_id, bob, LEFT)).content["reason"] == "Pause"
    refused(await bob.client.room_send(room_id, "m.room.message", {"msgtype": "m.text", "body": "?"}), "M_FORBIDDEN")
    good(await alice.client.room_ban(room_id, bob_id, "Genug"))
    assert (await becomes(alice, room_id, bob, BANNED)).content["reason"] == "Genug"
    refused(await alice.client.room_invite(room_id, bob_id), "M_FORBIDDEN")
    refused(await bob.client.join(room_id), "M_FORBIDDEN")
    good(await alice.client.room_unban(room_id, bob_id))
    await becomes(alice, room_id, bob, LEFT)
    good(await alice.client.room_invite(room_id, bob_id))
    await becomes(alice, room_id, bob, INVITED)
    good(await bob.client.join(room_id))
    await becomes(alice, room_id, bob, JOINED)
    good(await bob.client.room_leave(room_id))
    await becomes(alice, room_id, bob, LEFT)
    good(await bob.client.room_forget(room_id))
    refused(await bob.client.room_messages(room_id, limit=1), "M_FORBIDDEN")


async def knock(alice: Person, bob: Person) -> None:
    step("a knock")
    room_id = good(await alice.client.room_create(name="Sprechstunde")).room_id
    await alice.until(lambda: room_id in alice.client.rooms, "the room")
    refused(await bob.client.room_knock(room_id), "M_FORBIDDEN")
    good(await alice.client.room_enable_knocking(room_id))
    good(await bob.client.room_knock(room_id, "Eine Frage"))
    assert (await becomes(alice, room_id, bob, "knock")).content["reason"] == "Eine Frage"
    good(await alice.client.room_invite(room_id, bob.client.user_id))
    await bob.until(lambda: room_id in bob.client.invited_rooms, "the invitation")


async def aliases(alice: Person, bob: Person) -> None:
    step("addresses of a room")
    room_id = await shared_room(alice, bob, name="Adresse", alias="seminar")
    server = alice.client.user_id.split(":", 1)[1]
    first, second = f"#seminar:{server}", f"#übung:{server}"
    assert bob.client.rooms[room_id].canonical_alias == first
    good(await alice.client.room_put_alias(second, room_id))
    found = good(await bob.client.room_resolve_alias(second))
    assert (found.room_id, found.servers) == (room_id, [server])
    assert status(await bob.client.room_put_alias(first, room_id)) == 409
    assert status(await bob.client.room_delete_alias(second)) == 403
    good(await alice.client.room_delete_alias(second))
    refused(await bob.client.room_resolve_alias(second), "M_NOT_FOUND")
    good(await alice.client.room_update_aliases(room_id, f"#neu:{server}"))
    await bob.until(lambda: bob.client.rooms[room_id].canonical_alias == f"#neu:{server}", "the new address")
    refused(await bob.client.room_resolve_alias(first), "M_NOT_FOUND")


async def profiles(alice: Person, bob: Person, picture: str) -> None:
    step("profiles")
    room_id = await shared_room(alice, bob, name="Profil")
    good(await alice.client.set_avatar(picture))
    profile = good(await bob.client.get_profile(alice.client.user_id))
    assert (profile.displayname, profile.avatar_url) == ("Alice Müller", picture)
    assert good(await bob.client.get_avatar(alice.client.user_id)).avatar_url == picture
    assert good(await bob.client.get_displayname(alice.client.user_id)).displayname == "Alice Müller"
    await bob.until(lambda: bob.client.rooms[room_id].avatar_url(alice.client.user_id) == picture, "the new picture")
    assert status(await alice.client.set_displayname("Alice (Tutorin)")) == 200
    shown = bob.client.rooms[room_id]
    await bob.until(lambda: shown.user_name(alice.client.user_id) == "Alice (Tutorin)", "the new name")
    refused(await bob.client.get_profile("@nobody:" + alice.client.user_id.split(":", 1)[1]), "M_NOT_FOUND")


async def devices(alice: Person) -> None:
    step("devices: rename one, delete one")
    other = Person(alice.url, "alice")
    await other.log_in()
    try:
        gone = other.client.device_id
        good(await alice.client.update_device(gone, {"display_name": "altes Telefon"}))
        known = {device.id: device.display_name for device in good(await alice.client.devices()).devices}
        assert known == {alice.client.device_id: "journey of nio", gone: "altes Telefon"}
        assert good(await other.client.whoami()).device_id == gone
        asked = await alice.client.delete_devices([gone])
        assert isinstance(asked, DeleteDevicesAuthResponse), asked
        user = {"type": "m.id.user", "user": "alice"}
        auth = {"type": "m.login.password", "identifier": user, "session": asked.session}
        refused_again = await alice.client.delete_devices([gone], {**auth, "password": "wrong"})
        assert not isinstance(refused_again, DeleteDevicesResponse), refused_again
        assert isinstance(
            await alice.client.delete_devices([gone], {**auth, "password": "alice-demo"}), DeleteDevicesResponse
        )
        assert [device.id for device in good(await alice.client.devices()).devices] == [alice.client.device_id]
        refused(await other.client.whoami(), "M_UNKNOWN_TOKEN")
    finally:
        await other.close()


async def paging(alice: Person, bob: Person) -> None:
    step("typing, paging both ways, context, a redaction")
    room_id = await shared_room(alice, bob, name="Verlauf")
    me = [alice.client.user_id]
    good(await alice.client.room_typing(room_id, True))
    await bob.until(lambda: bob.find_ephemeral(room_id, TypingNoticeEvent, lambda e: e.users == me), "typing")
    sent = [await alice.say(room_id, f"Satz {n}") for n in range(25)]
    good(await alice.client.room_typing(room_id, False))
    await bob.until(lambda: bob.find_ephemeral(room_id, TypingNoticeEvent, lambda e: e.users == []), "no typing")
    only_text = {"types": ["m.room.message"]}
    back = good(await bob.client.room_messages(room_id, limit=10, message_filter=only_text))
    assert [event.event_id for event in back.chunk] == sent[:-11:-1]
    more = good(await bob.client.room_messages(room_id, start=back.end, limit=10, message_filter=only_text))
    assert [event.event_id for event in more.chunk] == sent[-11:-21:-1]
    forth = good(
        await bob.client.room_messages(
            room_id, start=more.end, direction=MessageDirection.front, limit=20, message_filter=only_text
        )
    )
    assert [event.event_id for event in forth.chunk] == sent[5:]
    around = good(await bob.client.room_context(room_id, sent[12], limit=4))
    assert around.event.event_id == sent[12]
    assert [event.event_id for event in around.events_before] == [sent[11], sent[10]]
    assert [event.event_id for event in around.events_after] == [sent[13], sent[14]]
    removal = good(await alice.client.room_redact(room_id, sent[12], "Vertippt")).event_id
    await bob.until(lambda: bob.find(room_id, RedactionEvent, lambda e: e.event_id == removal), "the redaction")
    redacted = good(await bob.client.room_context(room_id, sent[12], limit=0)).event
    assert isinstance(redacted, RedactedEvent) and redacted.reason == "Vertippt"
    reply = {"m.relates_to": {"rel_type": "m.thread", "event_id": sent[0]}}
    answer = await bob.say(room_id, "Dazu", **reply)
    assert [event.event_id async for event in alice.client.room_get_threads(room_id)] == [sent[0]]
    related = [event async for event in alice.client.room_get_event_relations(room_id, sent[0])]
    assert [event.event_id for event in related if isinstance(event, RoomMessageText)] == [answer]


async def settings(alice: Person, bob: Person) -> None:
    step("presence, a muted room, an upgrade")
    good(await alice.client.set_presence("unavailable", "in der Mensa"))
    room_id = await shared_room(alice, bob, name="Alt")
    seen = good(await bob.client.get_presence(alice.client.user_id))
    assert seen.status_msg == "in der Mensa", seen
    good(await bob.client.set_pushrule("global", PushRuleKind.room, room_id, actions=[]))
    await alice.say(room_id, "leise")
    end = await alice.say(room_id, "Ende")
    await bob.until(lambda: bob.find(room_id, RoomMessageText, lambda e: e.event_id == end), "the last message")
    assert bob.client.rooms[room_id].unread_notifications == 0
    good(await bob.client.delete_pushrule("global", PushRuleKind.room, room_id))
    upgraded = await alice.client.room_upgrade(room_id, "11")
    fresh = getattr(upgraded, "room_id", None)
    assert fresh, upgraded
    await alice.until(lambda: fresh in alice.client.rooms, "the new room")
    assert alice.client.rooms[fresh].name == "Alt"
    content = good(await bob.client.room_get_state_event(room_id, "m.room.tombstone")).content
    assert content["replacement_room"] == fresh


async def main(url: str) -> None:
    alice, bob = Person(url, "alice"), Person(url, "bob")
    try:
        for person in (alice, bob):
            await person.log_in()
            person.start()
        picture = await media(alice, bob)
        await state(alice, bob)
        await membership(alice, bob)
        await knock(alice, bob)
        await aliases(alice, bob)
        await profiles(alice, bob, picture)
        await devices(alice)
        await paging(alice, bob)
        await settings(alice, bob)
        step("@done")
    finally:
        await alice.close()
        await bob.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
