"""Alice with matrix-nio on two devices in an encrypted room with Bob, who uses matrix-js-sdk (js/echo.mjs, beside this).

Bob answers every message with an echo of it: both implementations read each other, on every device.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from kit import Person, good, step
from nio import MegolmEvent, RoomMessageText

MESSAGES = 20
ENCRYPTION = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}


async def encrypted_room(alice: Person) -> str:
    step("alice creates an encrypted room and invites bob, who joins")
    bob = alice.client.user_id.replace("@alice:", "@bob:")
    room_id: str = good(await alice.client.room_create(invite=[bob], initial_state=[ENCRYPTION])).room_id
    await alice.until(lambda: bob in joined(alice, room_id), "bob joins")
    store = alice.client.device_store
    await alice.until(lambda: list(store.active_user_devices(bob)), "bob's device is known")
    return room_id


def joined(person: Person, room_id: str) -> set[str]:
    room = person.client.rooms.get(room_id)
    return set() if room is None else set(room.users) - set(room.invited_users)


async def reads(person: Person, room_id: str, text: str) -> None:
    """Wait for a message that came encrypted and can be read."""
    found = await person.until(
        lambda: person.find(room_id, RoomMessageText, lambda event: event.body == text), f"the message {text}"
    )
    assert found.decrypted


async def chat(writer: Person, reader: Person, room_id: str, first: int) -> None:
    step(f"a device of {writer.uni_id} writes; the other one and bob read")
    for n in range(first, first + MESSAGES):
        await writer.say(room_id, f"Frage {n}")
        for device in (writer, reader):
            await reads(device, room_id, f"Frage {n}")
            await reads(device, room_id, f"Echo: Frage {n}")


async def leave_device(laptop: Person, phone: Person, room_id: str) -> None:
    step("the phone logs out, and nobody writes to it any more")
    gone, me = phone.client.device_id, laptop.client.user_id
    assert gone in [device.id for device in laptop.client.device_store.active_user_devices(me)]
    good(await phone.client.logout())
    await laptop.until(
        lambda: gone not in [device.id for device in laptop.client.device_store.active_user_devices(me)],
        "the phone is gone",
    )
    await laptop.say(room_id, "Ende")
    await reads(laptop, room_id, "Echo: Ende")


async def main(url: str, folder: Path) -> None:
    devices = []
    for name in ("laptop", "phone"):
        (folder / name).mkdir()
        devices.append(Person(url, "alice", str(folder / name)))
    laptop, phone = devices
    try:
        for device in devices:
            await device.log_in()
            device.start()
        for device in devices:
            await device.until(lambda device=device: device.first, "the first sync")
        room_id = await encrypted_room(laptop)
        await phone.until(lambda: len(joined(phone, room_id)) == 2, "the phone knows the room")
        await chat(laptop, phone, room_id, 0)
        await chat(phone, laptop, room_id, MESSAGES)
        for device in devices:
            assert device.find(room_id, MegolmEvent) is None, "nothing came that could not be read"
        await leave_device(laptop, phone, room_id)
    finally:
        for device in devices:
            await device.close()
    step("@done")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as stores:
        asyncio.run(main(sys.argv[1], Path(stores)))
