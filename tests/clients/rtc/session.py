"""Two people with aiortc, who reach each other through the relay only: a data channel and sound, both ways.

python tests/clients/rtc/session.py udp|tcp|tls http://127.0.0.1:8008     (see tests/clients/driver.py)
"""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request
from typing import Any

from aiortc import (
    MediaStreamError,
    RTCConfiguration,
    RTCIceServer,
    RTCIceTransportPolicy,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import AudioStreamTrack
from av import AudioFrame

CLIENT = "/_matrix/client/v3"
SECONDS = 30
MESSAGES = 500
#: 20 ms of sound each: one second.
FRAMES = 50
PREFIX = {"udp": ("turn:", "?transport=udp"), "tcp": ("turn:", "?transport=tcp"), "tls": ("turns:", "?transport=tcp")}


def ask(url: str, path: str, body: Any = None, token: str = "") -> Any:
    """The JSON of an answer of the daemon."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url + CLIENT + path, data, headers)) as answer:
        return json.load(answer)


def relay_of(url: str, uni_id: str, transport: str) -> RTCIceServer:
    """The relay over one transport, as the daemon tells a person who has logged in."""
    identifier = {"type": "m.id.user", "user": uni_id}
    login = {"type": "m.login.password", "identifier": identifier, "password": f"{uni_id}-demo"}
    told = ask(url, "/voip/turnServer", token=ask(url, "/login", login)["access_token"])
    begin, end = PREFIX[transport]
    uris = [uri for uri in told["uris"] if uri.startswith(begin) and uri.endswith(end)]
    assert len(uris) == 1, told["uris"]
    return RTCIceServer(urls=uris, username=told["username"], credential=told["password"])


class Tone(AudioStreamTrack):
    """A square wave; silence would be heard where nothing came through, too."""

    async def recv(self) -> AudioFrame:
        frame = await super().recv()
        wave = (b"\x00\x20" * 20 + b"\x00\xe0" * 20) * (frame.samples // 40)
        frame.planes[0].update(wave)
        return frame


class Caller:
    """One side."""

    def __init__(self, relay: RTCIceServer) -> None:
        policy = RTCIceTransportPolicy.RELAY
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[relay], iceTransportPolicy=policy))
        self.connection.addTrack(Tone())
        self.channel: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.heard: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self.connection.on("datachannel", self.channel.set_result)
        self.connection.on("track", lambda track: self._tasks.append(asyncio.ensure_future(self._listen(track))))

    async def _listen(self, track: Any) -> None:
        loud = 0
        try:
            while True:
                frame = await track.recv()
                loud += max(bytes(frame.planes[0])[1::2]) > 8
                if loud == FRAMES:
                    self.heard.set_result(loud)
        except MediaStreamError:
            pass  # the other one has hung up

    def only_relayed(self) -> None:
        """Every candidate is a relayed one, and so is the pair in use."""
        description = self.connection.localDescription.sdp
        candidates = [line for line in description.splitlines() if line.startswith("a=candidate")]
        assert candidates and all(" typ relay" in line for line in candidates), candidates
        pairs = self.connection.sctp.transport.transport._connection._nominated.values()
        kinds = [(pair.local_candidate.type, pair.remote_candidate.type) for pair in pairs]
        assert kinds == [("relay", "relay")], kinds


async def connect(alice: Caller, bob: Caller) -> Any:
    """Offer and answer; alice's channel when it is open."""
    channel = alice.connection.createDataChannel("chat")
    opened = asyncio.Event()
    channel.on("open", opened.set)
    await alice.connection.setLocalDescription(await alice.connection.createOffer())
    await bob.connection.setRemoteDescription(as_sent(alice))
    await bob.connection.setLocalDescription(await bob.connection.createAnswer())
    await alice.connection.setRemoteDescription(as_sent(bob))
    await opened.wait()
    return channel


def as_sent(caller: Caller) -> RTCSessionDescription:
    """The description as the other side gets it."""
    local = caller.connection.localDescription
    return RTCSessionDescription(sdp=local.sdp, type=local.type)


async def talk(channel: Any, other: Any) -> None:
    """Everything that alice sends comes back, in order and whole."""
    sent = [f"message {number} " + "x" * (number * 37 % 15_000) for number in range(MESSAGES)]
    back: list[str] = []
    done = asyncio.Event()

    def returned(text: str) -> None:
        back.append(text)
        if len(back) == MESSAGES:
            done.set()

    other.on("message", other.send)
    channel.on("message", returned)
    for text in sent:
        channel.send(text)
    await done.wait()
    assert back == sent


async def main(transport: str, url: str) -> None:
    alice, bob = Caller(relay_of(url, "alice", transport)), Caller(relay_of(url, "bob", transport))
    print(f"over {transport}")
    channel = await connect(alice, bob)
    alice.only_relayed()
    bob.only_relayed()
    print("connected through the relay only")
    await talk(channel, await bob.channel)
    print(f"{MESSAGES} messages came back whole")
    await asyncio.gather(alice.heard, bob.heard)
    print("both heard a second of sound")
    await alice.connection.close()
    await bob.connection.close()
    print("@done")


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), SECONDS))
