"""One of two people with aiortc who call each other with events in a room, each in a network of their own.

python tests/clients/rtc/party.py call|answer relay|all|stun ROOM_ID http://10.0.0.1:8008     (see tests/clients/driver.py)

`relay`: through the relay only. `all`: by any way that there is. `stun`: without a relay of its own. Whichever it is, one of the
two candidates in use must be a relayed one: there is no other way through two symmetric NATs.
"""

from __future__ import annotations

import asyncio
import sys

from aiortc import RTCIceTransportPolicy
from kit import Caller, Person, echo, is_open, talk

SECONDS = 60


async def call(person: Person, caller: Caller, room_id: str) -> None:
    channel = caller.connection.createDataChannel("chat")
    offer = await caller.offer()
    person.send(room_id, "m.call.invite", lifetime=60_000, offer={"type": "offer", "sdp": offer})
    content = await asyncio.to_thread(person.wait_for, room_id, "m.call.answer")
    await caller.answered(content["answer"]["sdp"])
    await is_open(channel)
    await talk(channel)
    await caller.heard
    await asyncio.to_thread(person.wait_for, room_id, "org.test.heard")  # so that both have heard the other
    person.send(room_id, "m.call.hangup", reason="user_hangup")


async def answer(person: Person, caller: Caller, room_id: str) -> None:
    content = await asyncio.to_thread(person.wait_for, room_id, "m.call.invite")
    sdp = await caller.answer(content["offer"]["sdp"])
    person.send(room_id, "m.call.answer", answer={"type": "answer", "sdp": sdp})
    echo(await caller.channel)
    await caller.heard
    person.send(room_id, "org.test.heard")
    await asyncio.to_thread(person.wait_for, room_id, "m.call.hangup")


async def main(role: str, policy: str, room_id: str, url: str) -> None:
    person = Person(url, "alice" if role == "call" else "bob")
    server = person.reflection() if policy == "stun" else person.relay("udp")
    caller = Caller(server, RTCIceTransportPolicy.RELAY if policy == "relay" else RTCIceTransportPolicy.ALL)
    await (call if role == "call" else answer)(person, caller, room_id)
    print(f"candidates: {caller.candidates()}, in use: {caller.way()}")
    assert "relay" in caller.way() and (policy != "stun" or caller.way()[0] != "relay")
    await caller.connection.close()
    print("@done")


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), SECONDS))
