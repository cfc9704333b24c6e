"""A light TURN client for load: it blocks while it sets up, and then a packet is one `send` and one `recv`."""

import os
import socket
from dataclasses import dataclass

from heichat_appliance.calls import stun
from heichat_appliance.calls.credentials import credentials, long_term_key
from heichat_appliance.calls.stun import Address, Builder

CHANNEL = 0x4000
_UDP_TRANSPORT = b"\x11\0\0\0"
#: Linux' SO_TIMESTAMPNS: the kernel notes when a datagram came, so that our own delay in reading it does not count.
TIMESTAMPS = 35


def udp() -> socket.socket:
    """A socket on 127.0.0.1 with room for bursts, whose datagrams carry the time of their arrival."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 2**20)
    opened.setsockopt(socket.SOL_SOCKET, TIMESTAMPS, 1)
    opened.bind(("127.0.0.1", 0))
    opened.settimeout(5)
    return opened


@dataclass(frozen=True)
class Relay:
    """A TURN server under measurement: its port on 127.0.0.1, its secret, its process."""

    name: str
    port: int
    secret: str
    pid: int


class Client:
    """An allocation over UDP; `relayed` is its address. After `bind`, `socket` carries ChannelData of the peer alone."""

    def __init__(self, relay: Relay, user_id: str, now: float) -> None:
        self.socket = udp()
        self.socket.connect(("127.0.0.1", relay.port))
        self._username, self._password = credentials(relay.secret, user_id, now, 86400)
        self._realm = self._nonce = b""
        transport = (stun.REQUESTED_TRANSPORT, _UDP_TRANSPORT)
        refusal = self._ask(Builder(stun.ALLOCATE, stun.REQUEST, os.urandom(12)).add(*transport))
        self._realm, self._nonce = refusal.get(stun.REALM) or b"", refusal.get(stun.NONCE) or b""
        answer = self._signed(stun.ALLOCATE, transport)
        value = answer.get(stun.XOR_RELAYED_ADDRESS) or b""
        self.relayed: Address = stun.parse_xor_address(value, answer.transaction)

    def bind(self, peer: Address) -> None:
        """Bind the channel to a peer."""
        self._signed(stun.CHANNEL_BIND, (stun.CHANNEL_NUMBER, CHANNEL.to_bytes(2, "big") + b"\0\0"), peer=peer)

    def close(self) -> None:
        """End the allocation: another client may get the same port."""
        self.drain()
        self._signed(stun.REFRESH, (stun.LIFETIME, bytes(4)))
        self.socket.close()

    def drain(self) -> None:
        """Forget what has come."""
        self.socket.setblocking(False)
        try:
            while True:
                self.socket.recv(2048)
        except BlockingIOError:
            self.socket.settimeout(5)

    def _signed(self, method: int, *attributes: tuple[int, bytes], peer: Address | None = None) -> stun.Message:
        builder = Builder(method, stun.REQUEST, os.urandom(12))
        for attribute in attributes:
            builder.add(*attribute)
        if peer is not None:
            builder.address(stun.XOR_PEER_ADDRESS, peer)
        builder.add(stun.USERNAME, self._username.encode()).add(stun.REALM, self._realm).add(stun.NONCE, self._nonce)
        key = long_term_key(self._username, self._realm.decode(), self._password)
        message = self._ask(builder.integrity(key))
        if message.kind != stun.SUCCESS:
            raise SystemExit(f"refused: {stun.parse_error(message.get(stun.ERROR_CODE) or b'')}")
        return message

    def _ask(self, builder: Builder) -> stun.Message:
        self.socket.send(builder.build())
        return stun.parse(self.socket.recv(2048))


def frame(data: bytes) -> bytes:
    """A ChannelData frame."""
    return CHANNEL.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data
