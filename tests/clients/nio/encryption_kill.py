"""Alice writes with matrix-nio on two devices, and Bob with matrix-js-sdk (js/writer.mjs, beside this), all encrypted, while
the server is killed again and again (kill -9). In the end every device reads every message.

Sessions are short, so keys go from device to device all the time: a lost, doubled or reordered to-device message shows as
a message that cannot be read.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

from aiohttp import ClientError
from encryption import encrypted_room, joined, reads
from kit import Person, good, restart_server, step
from nio import EncryptionError, Event, MegolmEvent, RoomMessageText

NUMBERS = {"laptop": 333, "phone": 333, "bob": 334}
KILLS = 5
ROTATION = 10
#: How many messages tell what comes next.
TOLD = 4


def knows(person: Person, other: Person) -> bool:
    """Whether a device knows the person's other one, and bob's."""
    store, me = person.client.device_store, person.client.user_id
    bobs = list(store.active_user_devices(me.replace("@alice:", "@bob:")))
    return len(bobs) == 1 and other.client.device_id in [device.id for device in store.active_user_devices(me)]


async def greet(devices: dict[str, Person], room_id: str) -> None:
    """Each device writes in turn, so that there is one Olm session between each two of them.

    Where two begin at the same time matrix-js-sdk sends its key a second time, from a later message on; and nio 0.26 then
    forgets the first, better one.
    """
    for name in (*devices, "bob"):
        text = json.dumps({name: True})
        if name in devices:
            await devices[name].say(room_id, text)
        for device in devices.values():
            await reads(device, room_id, text)


async def send_surely(person: Person, room_id: str, text: str) -> None:
    """Send until it is sent; always with the same transaction ID, so that it is there once."""
    content = {"msgtype": "m.text", "body": text}
    while True:
        try:
            good(
                await person.client.room_send(
                    room_id, "m.room.message", content, tx_id=text, ignore_unverified_devices=True
                )
            )
            return
        except ClientError:
            continue  # nio itself tries again as long as there is no connection


async def write(person: Person, name: str, room_id: str, sent: list[str]) -> None:
    for n in range(NUMBERS[name]):
        if n % ROTATION == 0:
            person.client.invalidate_outbound_session(room_id)
        await send_surely(person, room_id, f"{name} {n}")
        sent.append(f"{name} {n}")


async def kill_while_writing(sent: list[str]) -> None:
    total = NUMBERS["laptop"] + NUMBERS["phone"]
    for kill in range(1, KILLS + 1):
        while len(sent) < total * kill / (KILLS + 1):
            await asyncio.sleep(0.01)  # between two looks, not for something to happen
        assert len(sent) < total, "there is still something to send when the server is killed"
        await restart_server("kill")


async def all_messages(person: Person, room_id: str) -> list[Event]:
    """All messages of the room, encrypted or as they could be read."""
    found: list[Event] = []
    start = person.client.next_batch
    while start:
        page = good(await person.client.room_messages(room_id, start, limit=100))
        found += [event for event in page.chunk if isinstance(event, MegolmEvent | RoomMessageText)]
        start = page.end
    return found


def read(person: Person, event: Event) -> str | None:
    """The text of a message; None if it can't be read."""
    try:
        opened = person.client.decrypt_event(event) if isinstance(event, MegolmEvent) else event
    except EncryptionError:
        return None
    assert isinstance(opened, RoomMessageText) and opened.decrypted
    return opened.body


async def read_everything(person: Person, room_id: str) -> None:
    messages: list[Event] = []
    number = sum(NUMBERS.values())
    while len(messages) < number + TOLD:
        await person.until(lambda: True, "a look at the room")
        messages = await all_messages(person, room_id)
    texts: list[str | None] = []

    def is_read() -> bool:
        texts[:] = [read(person, event) for event in messages]
        return None not in texts

    await person.until(is_read, f"{len(messages)} messages can be read")
    wanted = [f"{name} {n}" for name, numbers in NUMBERS.items() for n in range(numbers)]
    found = [text for text in texts if text is not None and not text.startswith("{")]
    assert sorted(found) == sorted(wanted), "every message is there once"


async def main(url: str, folder: Path) -> None:
    devices = {}
    for name in ("laptop", "phone"):
        (folder / name).mkdir()
        devices[name] = Person(url, "alice", str(folder / name))
    laptop = devices["laptop"]
    try:
        for device in devices.values():
            await device.log_in()
            device.start()
            await device.until(lambda device=device: device.first, "the first sync")
        room_id = await encrypted_room(laptop)
        await devices["phone"].until(lambda: len(joined(devices["phone"], room_id)) == 2, "the phone knows the room")
        for name, other in (("laptop", "phone"), ("phone", "laptop")):
            await devices[name].until(partial(knows, devices[name], devices[other]), "the other devices are known")
        step(f"three devices write {NUMBERS} messages, and the server is killed {KILLS} times")
        await greet(devices, room_id)
        await laptop.say(room_id, json.dumps({"write": NUMBERS["bob"]}))
        sent: list[str] = []
        await asyncio.gather(
            *(write(device, name, room_id, sent) for name, device in devices.items()), kill_while_writing(sent)
        )
        await asyncio.gather(*(read_everything(device, room_id) for device in devices.values()))
        await laptop.say(room_id, json.dumps({"numbers": NUMBERS}))
    finally:
        for device in devices.values():
            await device.close()
    step("@done")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as stores:
        asyncio.run(main(sys.argv[1], Path(stores)))
