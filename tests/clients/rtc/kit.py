"""What the journeys with aiortc share: people, the relay as the daemon tells of it, and one side of a call."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
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

MESSAGES = 500
#: 20 ms of sound each: one second.
FRAMES = 50
_PREFIX = {"udp": ("turn:", "?transport=udp"), "tcp": ("turn:", "?transport=tcp"), "tls": ("turns:", "?transport=tcp")}


class Person:
    """A demo person who has logged in. Calls block."""

    def __init__(self, url: str, uni_id: str) -> None:
        self.url = url + "/_matrix/client/v3"
        identifier = {"type": "m.id.user", "user": uni_id}
        login = {"type": "m.login.password", "identifier": identifier, "password": f"{uni_id}-demo"}
        self.token = ""
        answer = self.ask("/login", login)
        self.token, self.user_id = answer["access_token"], answer["user_id"]

    def ask(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """The JSON of an answer of the daemon."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers, method=method)) as answer:
            return json.load(answer)

    def send(self, room_id: str, type_: str, **content: Any) -> None:
        """Send an event of a call."""
        room, whole = urllib.parse.quote(room_id, safe=""), {"call_id": "1", "version": "1", "party_id": "P", **content}
        self.ask(f"/rooms/{room}/send/{type_}/{type_}", whole, "PUT")

    def wait_for(self, room_id: str, type_: str) -> Any:
        """The content of the first event of this type that somebody else sent to the room."""
        since = ""
        while True:
            answer = self.ask(f"/sync?timeout=30000{since}")
            since = f"&since={answer['next_batch']}"
            events = answer.get("rooms", {}).get("join", {}).get(room_id, {}).get("timeline", {}).get("events", ())
            for event in events:
                if event["type"] == type_ and event["sender"] != self.user_id:
                    return event["content"]

    def relay(self, transport: str) -> RTCIceServer:
        """The relay over one transport."""
        told = self.ask("/voip/turnServer")
        begin, end = _PREFIX[transport]
        uris = [uri for uri in told["uris"] if uri.startswith(begin) and uri.endswith(end)]
        assert len(uris) == 1, told["uris"]
        return RTCIceServer(urls=uris, username=told["username"], credential=told["password"])

    def reflection(self) -> RTCIceServer:
        """The same server for STUN alone, which relays nothing."""
        (uri,) = self.relay("udp").urls
        return RTCIceServer(urls=[uri.replace("turn:", "stun:").partition("?")[0]])


class Tone(AudioStreamTrack):
    """A square wave; silence would be heard where nothing came through, too."""

    async def recv(self) -> AudioFrame:
        frame = await super().recv()
        frame.planes[0].update((b"\x00\x20" * 20 + b"\x00\xe0" * 20) * (frame.samples // 40))
        return frame


class Caller:
    """One side of a call."""

    def __init__(self, relay: RTCIceServer, policy: RTCIceTransportPolicy = RTCIceTransportPolicy.RELAY) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[relay], iceTransportPolicy=policy))
        self.connection.addTrack(Tone())
        loop = asyncio.get_running_loop()
        self.channel: asyncio.Future[Any] = loop.create_future()
        self.heard: asyncio.Future[int] = loop.create_future()
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

    async def offer(self) -> str:
        """The description to send to the other side."""
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return str(self.connection.localDescription.sdp)

    async def answer(self, offer: str) -> str:
        """The description to send back."""
        await self.connection.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
        await self.connection.setLocalDescription(await self.connection.createAnswer())
        return str(self.connection.localDescription.sdp)

    async def answered(self, answer: str) -> None:
        """Take the other side's answer."""
        await self.connection.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))

    def candidates(self) -> list[str]:
        """Types of the candidates that the other side was told."""
        lines = self.connection.localDescription.sdp.splitlines()
        return [line.split(" typ ")[1].split()[0] for line in lines if line.startswith("a=candidate")]

    def way(self) -> tuple[str, str]:
        """Types of the candidates in use, (own, other's)."""
        pair = self.connection.sctp.transport.transport._connection._nominated[1]
        return pair.local_candidate.type, pair.remote_candidate.type


async def is_open(channel: Any) -> None:
    """Wait until a channel is open."""
    opened = asyncio.Event()
    channel.on("open", opened.set)
    if channel.readyState != "open":
        await opened.wait()


async def talk(channel: Any) -> None:
    """Everything that is sent comes back, in order and whole. The other side echoes."""
    sent = [f"message {number} " + "x" * (number * 37 % 15_000) for number in range(MESSAGES)]
    back: list[str] = []
    done = asyncio.Event()

    def returned(text: str) -> None:
        back.append(text)
        if len(back) == MESSAGES:
            done.set()

    channel.on("message", returned)
    for text in sent:
        channel.send(text)
    await done.wait()
    assert back == sent


def echo(channel: Any) -> None:
    """Send everything back."""
    channel.on("message", channel.send)
