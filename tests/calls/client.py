"""A small TURN client on real sockets. It blocks, so tests run it in a thread."""

from __future__ import annotations

import os
import select
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.threads import deferToThread

from heichat_appliance.calls import stun
from heichat_appliance.calls.credentials import credentials, long_term_key
from heichat_appliance.calls.streams import frame_size
from heichat_appliance.calls.stun import Address, Builder, Message
from tests.calls.kit import REALM, SECRET, UDP_TRANSPORT, WALL, addresses, channel_number, signed

TIMEOUT = 10
Result = TypeVar("Result")

#: Seconds between the tries of a request; a tenth of the RFC's, on loopback.
RETRANSMISSIONS = [0.05 * 2**number for number in range(7)]


def in_thread(function: Callable[..., Result], *args: Any) -> Awaitable[Result]:
    """Run what blocks while the reactor serves."""
    return deferToThread(function, *args)  # type: ignore[no-any-return]


class TurnClient:
    """One 5-tuple over udp, tcp or tls, to (host, port)."""

    def __init__(self, transport: str, host: str, port: int, person: str = "@alice:test") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.transport = transport
        self.socket = socket.socket(family, socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect((host, port))
        if transport == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket)
        self.username, self.password = credentials(SECRET, person, WALL, 86400)
        self.nonce = b""
        self._buffer = bytearray()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        padding = b"" if self.transport == "udp" else b"\0" * (-len(data) & 3)
        self.socket.sendall(data + padding)

    def receive(self) -> bytes:
        """The next frame. Raises TimeoutError, and EOFError when the server has closed the connection."""
        if self.transport == "udp":
            return self.socket.recv(65536)
        while True:
            size, padded = frame_size(self._buffer, 0)
            if padded and len(self._buffer) >= padded:
                data = bytes(self._buffer[:size])
                del self._buffer[:padded]
                return data
            more = self.socket.recv(65536)
            if not more:
                raise EOFError
            self._buffer += more

    def binding(self) -> Address:
        """The address at which the server sees this client."""
        answer = self.unproven(Builder(stun.BINDING, stun.REQUEST, os.urandom(12)).build())
        (address,) = addresses(answer, stun.XOR_MAPPED_ADDRESS)
        return address

    def unproven(self, request: bytes) -> Message:
        """The answer to a request without a password, which over UDP is repeated (RFC 8489 section 6.2.1)."""
        if self.transport == "udp":
            for seconds in RETRANSMISSIONS:
                self.send(request)
                if select.select([self.socket], [], [], seconds)[0]:
                    return stun.parse(self.receive())
        else:
            self.send(request)
        return stun.parse(self.receive())

    def ask(self, method: int, *attributes: tuple[int, bytes], transaction: bytes | None = None) -> Message:
        if not self.nonce:
            refusal = self.unproven(Builder(method, stun.REQUEST, os.urandom(12)).build())
            self.nonce = refusal.get(stun.NONCE) or b""
        key = long_term_key(self.username, REALM, self.password)
        self.send(
            signed(
                method,
                *attributes,
                transaction=transaction,
                username=self.username,
                realm=REALM,
                nonce=self.nonce,
                key=key,
            )
        )
        return stun.parse(self.receive())

    def allocate(self, *attributes: tuple[int, bytes]) -> list[Address]:
        """The relayed addresses of a new allocation."""
        answer = self.ask(stun.ALLOCATE, UDP_TRANSPORT, *attributes)
        return addresses(answer, stun.XOR_RELAYED_ADDRESS)

    def bind(self, number: int, peer: Address) -> Message:
        return self.with_peer(stun.CHANNEL_BIND, peer, channel_number(number))

    def permit(self, peer: Address) -> Message:
        return self.with_peer(stun.CREATE_PERMISSION, peer)

    def with_peer(self, method: int, peer: Address, *attributes: tuple[int, bytes]) -> Message:
        transaction = os.urandom(12)
        address = (stun.XOR_PEER_ADDRESS, stun.xor_address(peer, transaction))
        return self.ask(method, *attributes, address, transaction=transaction)

    def send_channel(self, number: int, data: bytes) -> None:
        self.send(number.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data)

    def send_indication(self, peer: Address, data: bytes, *attributes: tuple[int, bytes]) -> None:
        builder = Builder(stun.SEND, stun.INDICATION, os.urandom(12)).address(stun.XOR_PEER_ADDRESS, peer)
        builder.add(stun.DATA, data)
        for each in attributes:
            builder.add(*each)
        self.send(builder.build())
