"""Two demo people with matrix-nio: from the first login over the terms of use to a chat that outlives a restart.

python tests/clients/nio/journey.py http://127.0.0.1:8008     (see tests/clients/driver.py)
"""

from __future__ import annotations

import asyncio
import re
import sys

from kit import Person, agree_in_browser, good, restart_server, step
from nio import (
    MessageDirection,
    ReactionEvent,
    ReceiptEvent,
    RedactedEvent,
    RedactionEvent,
    RoomCreateError,
    RoomMemberEvent,
    RoomMessageText,
    RoomPreset,
    RoomSendError,
    TypingNoticeEvent,
)

MESSAGES = 500
LINK = re.compile(r"https?://\S+/_heichat/consent\?\S+")


async def refused_before_agreeing(person: Person) -> None:
    step(f"{person.uni_id} may not create a room before agreeing")
    refused = await person.client.room_create(name="Too early")
    assert isinstance(refused, RoomCreateError), refused
    assert refused.status_code == "M_CONSENT_NOT_GIVEN", refused
    assert refused.transport_response is not None
    assert LINK.fullmatch((await refused.transport_response.json())["consent_uri"])


async def go_through_terms(person: Person) -> None:
    step(f"{person.uni_id} is invited to the notices room and agrees to the terms")
    client = person.client
    invited = await person.until(lambda: list(client.invited_rooms.values()), "the invitation to Server Notices")
    assert [room.name for room in invited] == ["Server Notices"]
    assert str(invited[0].inviter).startswith("@administrator:")
    await refused_before_agreeing(person)
    room_id = good(await client.join(invited[0].room_id)).room_id
    notice = await person.until(lambda: person.find(room_id, RoomMessageText), "the message with the link")
    assert notice.sender == invited[0].inviter
    assert "m.server_notice" in client.rooms[room_id].tags
    link = LINK.search(notice.body)
    assert link, notice.body
    unwelcome = await client.room_send(room_id, "m.room.message", {"msgtype": "m.text", "body": "Hallo?"})
    assert isinstance(unwelcome, RoomSendError)
    assert "zugestimmt" in await agree_in_browser(link[0])


async def closed_room(alice: Person, bob: Person) -> str:
    step("alice creates a closed room and invites bob, who joins")
    public = await alice.client.room_create(preset=RoomPreset.public_chat, name="Für alle")
    assert isinstance(public, RoomCreateError) and public.status_code == "M_FORBIDDEN", public
    assert "geschlossene" in public.message and "closed" in public.message, public
    room_id = good(await alice.client.room_create(name="Seminar", topic="Lineare Algebra")).room_id
    good(await alice.client.room_invite(room_id, bob.client.user_id))
    invited = await bob.until(lambda: bob.client.invited_rooms.get(room_id), "the invitation")
    assert invited.name == "Seminar" and invited.inviter == alice.client.user_id
    good(await bob.client.join(room_id))
    room = await bob.until(lambda: bob.client.rooms.get(room_id), "the room")
    assert room.name == "Seminar" and room.topic == "Lineare Algebra" and room.join_rule == "invite"
    assert room.user_name(alice.client.user_id) == "Alice Müller"
    await alice.until(
        lambda: alice.find(
            room_id, RoomMemberEvent, lambda e: e.state_key == bob.client.user_id and e.membership == "join"
        ),
        "bob joins",
    )
    return room_id


async def chat(alice: Person, bob: Person, room_id: str) -> str:
    step("they chat both ways, see typing and receipts")
    good(await alice.client.room_typing(room_id, True))
    typing = [alice.client.user_id]
    await bob.until(lambda: bob.find_ephemeral(room_id, TypingNoticeEvent, lambda e: e.users == typing), "typing")
    question = await alice.say(room_id, "Wann treffen wir uns? 🕐")
    good(await alice.client.room_typing(room_id, False))
    await bob.until(lambda: bob.find_ephemeral(room_id, TypingNoticeEvent, lambda e: e.users == []), "no typing")
    heard = await bob.until(
        lambda: bob.find(room_id, RoomMessageText, lambda e: e.event_id == question), "the question"
    )
    assert heard.body == "Wann treffen wir uns? 🕐" and heard.sender == alice.client.user_id
    good(await bob.client.room_read_markers(room_id, question, question))
    expected = (question, bob.client.user_id, "m.read")
    await alice.until(
        lambda: alice.find_ephemeral(
            room_id, ReceiptEvent, lambda e: expected in [(r.event_id, r.user_id, r.receipt_type) for r in e.receipts]
        ),
        "bob's receipt",
    )
    answer = await bob.say(room_id, "Um elf.")
    await alice.until(lambda: alice.find(room_id, RoomMessageText, lambda e: e.event_id == answer), "the answer")
    return answer


async def change_messages(alice: Person, bob: Person, room_id: str, answer: str) -> None:
    step("an edit, a reaction, a redaction")
    new = {"msgtype": "m.text", "body": "Um zwölf."}
    relation = {"rel_type": "m.replace", "event_id": answer}
    edit = await bob.say(room_id, "* Um zwölf.", **{"m.new_content": new, "m.relates_to": relation})
    seen = await alice.until(lambda: alice.find(room_id, RoomMessageText, lambda e: e.event_id == edit), "the edit")
    assert seen.source["content"]["m.new_content"] == new
    found = good(await alice.client.room_get_event(room_id, answer)).event
    assert found.source["unsigned"]["m.relations"]["m.replace"]["event_id"] == edit
    content = {"m.relates_to": {"rel_type": "m.annotation", "event_id": answer, "key": "👍"}}
    reaction = good(await alice.client.room_send(room_id, "m.reaction", content)).event_id
    liked = await bob.until(lambda: bob.find(room_id, ReactionEvent, lambda e: e.event_id == reaction), "the reaction")
    assert liked.reacts_to == answer and liked.key == "👍"
    slip = await alice.say(room_id, "Das war falsch.")
    await bob.until(lambda: bob.find(room_id, RoomMessageText, lambda e: e.event_id == slip), "the slip")
    good(await alice.client.room_redact(room_id, slip, reason="Vertippt"))
    gone = await bob.until(lambda: bob.find(room_id, RedactionEvent, lambda e: e.redacts == slip), "the redaction")
    assert gone.reason == "Vertippt"
    redacted = good(await bob.client.room_get_event(room_id, slip)).event
    assert isinstance(redacted, RedactedEvent) and redacted.source["content"] == {}
    foreign = await bob.client.room_redact(room_id, (await alice.say(room_id, "Meins")))
    assert getattr(foreign, "status_code", "") == "M_FORBIDDEN", "bob must not redact what alice said"


async def page_back(alice: Person, bob: Person, room_id: str) -> None:
    step(f"{MESSAGES} messages, and a new device of bob pages back through all of them")
    sent = [await (alice, bob)[n % 2].say(room_id, f"Nachricht {n}") for n in range(MESSAGES)]
    tablet = Person(bob.url, "bob")
    await tablet.log_in()
    tablet.start()
    try:
        first = await tablet.until(lambda: tablet.first, "the first sync")
        timeline = first.rooms.join[room_id].timeline
        assert timeline.limited and len(timeline.events) < 100
        events, token, pages = list(reversed(timeline.events)), timeline.prev_batch, 0
        while token:
            page = good(
                await tablet.client.room_messages(room_id, start=token, direction=MessageDirection.back, limit=50)
            )
            events += page.chunk
            token = page.end
            pages += 1
            assert pages < 40, "paging back comes to no end"
        assert pages >= MESSAGES // 50
        ids = [event.event_id for event in events]
        assert len(set(ids)) == len(ids), "no event comes twice"
        numbered = [e.event_id for e in events if isinstance(e, RoomMessageText) and e.body.startswith("Nachricht ")]
        assert list(reversed(numbered)) == sent
        assert events[-1].source["type"] == "m.room.create"
    finally:
        good(await tablet.client.logout())
        await tablet.close()


async def outlive_restart(alice: Person, bob: Person, room_id: str) -> None:
    step("the server restarts, and their syncs go on")
    last = await alice.say(room_id, "Vor dem Neustart")
    await bob.until(lambda: bob.find(room_id, RoomMessageText, lambda e: e.event_id == last), "the last message")
    before = len(bob.seen)
    await restart_server()
    text = await alice.say(room_id, "Nach dem Neustart")
    await bob.until(lambda: bob.find(room_id, RoomMessageText, lambda e: e.event_id == text), "a message after it")
    assert [event.event_id for _, event in bob.seen[before:]] == [text], "nothing is repeated, nothing is missed"
    reply = await bob.say(room_id, "Weiter geht's")
    await alice.until(lambda: alice.find(room_id, RoomMessageText, lambda e: e.event_id == reply), "the reply")
    for person in (alice, bob):
        ids = [event.event_id for _, event in person.seen]
        assert len(ids) == len(set(ids)), "no event was given twice"


async def main(url: str) -> None:
    alice, bob = Person(url, "alice"), Person(url, "bob")
    try:
        for person in (alice, bob):
            await person.log_in()
            person.start()
            await go_through_terms(person)
        room_id = await closed_room(alice, bob)
        answer = await chat(alice, bob, room_id)
        await change_messages(alice, bob, room_id, answer)
        await page_back(alice, bob, room_id)
        await outlive_restart(alice, bob, room_id)
        for person in (alice, bob):
            good(await person.client.logout())
        step("@done")
    finally:
        await alice.close()
        await bob.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
