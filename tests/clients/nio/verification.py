"""Alice and later Bob with matrix-nio, in an encrypted room with Bob's matrix-js-sdk (js/partner.mjs, beside this).

Devices compare numbers, a new device asks for keys, takes them out of the backup that the other implementation made, and
out of a file. nio knows no cross-signing and no key backup: it trusts devices one by one, and the backup is read here with
its HTTP session and vodozemac.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import vodozemac
from encryption import encrypted_room, joined, reads
from kit import Person, good, step
from nio import (
    Event,
    ForwardedRoomKeyEvent,
    KeyVerificationCancel,
    KeyVerificationKey,
    KeyVerificationMac,
    KeyVerificationStart,
    MegolmEvent,
    RoomMessageText,
    ToDeviceEvent,
    UnknownToDeviceEvent,
)
from nio.crypto.sas import Sas
from nio.crypto.sessions import InboundGroupSession
from nio.event_builders import ToDeviceMessage

SAID = [f"Geheim {n}" for n in range(5)]

# nio 0.26 names the older MAC, for which the specification wants a wrong base64 of old, but makes the newer one.
Sas._mac_normal = "hkdf-hmac-sha256.v2"
Sas._mac_v1 = [Sas._mac_normal]


class Inbox:
    """What comes to a device. It answers, and waits for the next message of a kind."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.seen: list[ToDeviceEvent] = []
        person.client.add_to_device_callback(self._on_event, ToDeviceEvent)

    async def _on_event(self, event: ToDeviceEvent) -> None:
        self.seen.append(event)

    async def next(self, kind: type, **wanted: str) -> Any:
        """Wait for a message of a class, and take it out."""

        def find() -> ToDeviceEvent | None:
            assert not any(isinstance(one, KeyVerificationCancel) for one in self.seen), self.seen
            for event in self.seen:
                if isinstance(event, kind) and all(getattr(event, name) == value for name, value in wanted.items()):
                    self.seen.remove(event)
                    return event
            return None

        return await self.person.until(find, f"{kind.__name__} {wanted}")

    async def answer(self, to: ToDeviceEvent, type: str, device: str, transaction: str, **more: Any) -> None:
        message = ToDeviceMessage(type, to.sender, device, {"transaction_id": transaction, **more})
        good(await self.person.client.to_device(message))


async def compare_numbers(person: Person, room_id: str) -> None:
    """Bob's matrix-js-sdk compares the three numbers with this device; it says in the room which ones it shows.

    Numbers, for nio 0.26 makes its emojis from bytes that are the emojis already.
    """
    step(f"bob compares numbers with the device of {person.uni_id}")
    client, inbox = person.client, Inbox(person)
    await person.say(room_id, f"!prüfe {client.user_id} {client.device_id}")
    asked = await inbox.next(UnknownToDeviceEvent, type="m.key.verification.request")
    content = asked.source["content"]
    device, transaction = content["from_device"], content["transaction_id"]
    assert "m.sas.v1" in content["methods"]
    await inbox.answer(
        asked, "m.key.verification.ready", device, transaction, methods=["m.sas.v1"], from_device=client.device_id
    )
    await inbox.next(KeyVerificationStart, transaction_id=transaction)
    sas = client.key_verifications[transaction]
    # nio 0.26 writes this hash in hexadecimal, the specification wants unpadded base64.
    sas.commitment = base64.b64encode(bytes.fromhex(sas.commitment)).decode().rstrip("=")
    good(await client.accept_key_verification(transaction))
    await inbox.next(KeyVerificationKey, transaction_id=transaction)
    await client.send_to_device_messages()  # its own key; sync_forever does it after the next sync
    await reads(person, room_id, f"Zahlen: {' '.join(map(str, sas.get_decimals()))}")
    good(await client.confirm_short_auth_string(transaction))
    await inbox.next(KeyVerificationMac, transaction_id=transaction)
    await person.until(lambda: sas.verified, "bob's device has the same keys")
    await inbox.answer(asked, "m.key.verification.done", device, transaction)
    await reads(person, room_id, f"Geprüft: {client.device_id}")
    assert client.device_store[asked.sender][device].verified


async def history(person: Person, room_id: str) -> dict[str, Event]:
    """The messages of the room, by ID, as this device can read them now."""
    page = good(await person.client.room_messages(room_id, person.client.next_batch, limit=100))
    return {event.event_id: event for event in page.chunk if isinstance(event, MegolmEvent | RoomMessageText)}


async def unreadable(person: Person, room_id: str) -> list[MegolmEvent]:
    return [event for event in (await history(person, room_id)).values() if isinstance(event, MegolmEvent)]


async def texts(person: Person, room_id: str) -> list[str]:
    return [event.body for event in (await history(person, room_id)).values() if isinstance(event, RoomMessageText)]


async def ask_for_key(late: Person, room_id: str) -> None:
    step("the new device asks for a key, and gets it from the one that trusts it")
    inbox = Inbox(late)
    event = (await unreadable(late, room_id))[-1]
    good(await late.client.request_room_key(event))
    given = await inbox.next(ForwardedRoomKeyEvent)
    assert given.session_id == event.session_id
    assert late.client.decrypt_event(event).body in SAID


async def read_backup(late: Person, room_id: str) -> None:
    step("the new device takes all keys out of the backup")
    await late.say(room_id, "!sicherung")
    told = await late.until(
        lambda: late.find(room_id, RoomMessageText, lambda event: event.body.startswith("Schlüssel: ")), "the key"
    )
    secret = vodozemac.PkDecryption.from_key(
        vodozemac.Curve25519SecretKey.from_bytes(base64.b64decode(told.body.split()[1]))
    )
    backup = await _get(late, "version")
    assert backup["auth_data"]["public_key"] == secret.public_key.to_base64()
    rooms = (await _get(late, f"keys?version={backup['version']}"))["rooms"]
    stored = {
        (name, session_id): data["session_data"]
        for name, room in rooms.items()
        for session_id, data in room["sessions"].items()
    }
    assert len(stored) == backup["count"]
    olm = late.client.olm
    for (name, _), data in stored.items():
        opened = json.loads(
            secret.decrypt(vodozemac.Message.from_base64(data["ciphertext"], data["mac"], data["ephemeral"]))
        )
        session = InboundGroupSession.import_session(
            opened["session_key"], opened["sender_claimed_keys"]["ed25519"], opened["sender_key"], name
        )
        olm.inbound_group_store.add(session)
    assert await unreadable(late, room_id) == []
    assert set(SAID) <= set(await texts(late, room_id))


async def _get(person: Person, path: str) -> dict[str, Any]:
    client = person.client
    answer = await client.send(
        "GET", f"/_matrix/client/v3/room_keys/{path}", headers={"Authorization": f"Bearer {client.access_token}"}
    )
    assert answer.status == 200, await answer.text()
    found: dict[str, Any] = await answer.json()
    return found


async def carry_file(laptop: Person, phone: Person, room_id: str, folder: Path) -> None:
    step("alice carries her keys to a new device in a file")
    assert set(SAID).isdisjoint(await texts(phone, room_id))
    file = str(folder / "keys.txt")
    await laptop.client.export_keys(file, "ein Satz, den niemand errät", count=1000)
    await phone.client.import_keys(file, "ein Satz, den niemand errät")
    assert set(SAID) <= set(await texts(phone, room_id))


async def main(url: str, folder: Path) -> None:
    people: list[Person] = []

    async def log_in(uni_id: str) -> Person:
        store = folder / str(len(people))
        store.mkdir()
        people.append(Person(url, uni_id, str(store)))
        await people[-1].log_in()
        people[-1].start()
        await people[-1].until(lambda: people[-1].first, "the first sync")
        return people[-1]

    try:
        alice = await log_in("alice")
        room_id = await encrypted_room(alice)
        for text in SAID:
            await alice.say(room_id, text)
        await compare_numbers(alice, room_id)
        late = await log_in("bob")
        await late.until(lambda: len(joined(late, room_id)) == 2, "bob's new device knows the room")
        assert set(SAID).isdisjoint(await texts(late, room_id))
        await compare_numbers(late, room_id)
        await ask_for_key(late, room_id)
        await read_backup(late, room_id)
        phone = await log_in("alice")
        await phone.until(lambda: len(joined(phone, room_id)) == 2, "alice's new device knows the room")
        await carry_file(alice, phone, room_id, folder)
        await alice.say(room_id, "!ende")
        for person in (alice, late):
            await reads(person, room_id, "!ende")
    finally:
        for person in people:
            await person.close()
    step("@done")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as stores:
        asyncio.run(main(sys.argv[1], Path(stores)))
