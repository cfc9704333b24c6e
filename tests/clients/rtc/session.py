"""Two people with aiortc, who reach each other through the relay only: a data channel and sound, both ways.

python tests/clients/rtc/session.py udp|tcp|tls http://127.0.0.1:8008     (see tests/clients/driver.py)
"""

from __future__ import annotations

import asyncio
import sys

from kit import FRAMES, MESSAGES, Caller, Person, echo, is_open, talk

SECONDS = 30


async def main(transport: str, url: str) -> None:
    alice, bob = (Caller(Person(url, uni_id).relay(transport)) for uni_id in ("alice", "bob"))
    channel = alice.connection.createDataChannel("chat")
    await alice.answered(await bob.answer(await alice.offer()))
    await is_open(channel)
    for one in (alice, bob):
        assert set(one.candidates()) == {"relay"} and one.way() == ("relay", "relay"), (one.candidates(), one.way())
    print(f"connected over {transport} through the relay only")
    echo(await bob.channel)
    await talk(channel)
    print(f"{MESSAGES} messages came back whole")
    await asyncio.gather(alice.heard, bob.heard)
    print(f"both heard {FRAMES} frames of sound")
    await alice.connection.close()
    await bob.connection.close()
    print("@done")


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), SECONDS))
