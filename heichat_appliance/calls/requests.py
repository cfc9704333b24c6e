"""Answers STUN and TURN requests (RFC 8489, RFC 8656): who asks, is it allowed, what changes. No sockets, no clock.

The order of the checks and the error codes are the RFC's; each refusal names its section.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple, Protocol

from heichat_appliance.calls import stun
from heichat_appliance.calls.allocations import Allocation, Allocations, Client, Relay
from heichat_appliance.calls.authentication import Authenticator, Refused, Who
from heichat_appliance.calls.budgets import Bucket
from heichat_appliance.calls.forwarding import Forwarder
from heichat_appliance.calls.policy import PeerPolicy, Verdict, is_service
from heichat_appliance.calls.stun import IPV4, IPV6, Address, Builder, Malformed, Message

UDP = 17
#: RFC 8656 ends at 0x4FFF; RFC 5766 went on to 0x7FFF, and its clients (coturn's among them) use all of it.
MIN_CHANNEL, MAX_CHANNEL = 0x4000, 0x7FFF
SOFTWARE = b"heiCHAT"

_LOGIN = frozenset({stun.USERNAME, stun.REALM, stun.NONCE})
_ALLOCATE = frozenset(
    {
        stun.REQUESTED_TRANSPORT, stun.LIFETIME, stun.REQUESTED_ADDRESS_FAMILY, stun.EVEN_PORT, stun.RESERVATION_TOKEN,
        stun.DONT_FRAGMENT,
    }
)  # fmt: skip
#: What each method understands of the attributes that must be understood.
KNOWN = {
    stun.BINDING: _LOGIN,
    stun.ALLOCATE: _LOGIN | _ALLOCATE,
    stun.REFRESH: _LOGIN | {stun.LIFETIME, stun.REQUESTED_ADDRESS_FAMILY},
    stun.CREATE_PERMISSION: _LOGIN | {stun.XOR_PEER_ADDRESS},
    stun.CHANNEL_BIND: _LOGIN | {stun.CHANNEL_NUMBER, stun.XOR_PEER_ADDRESS},
    stun.SEND: frozenset({stun.XOR_PEER_ADDRESS, stun.DATA, stun.DONT_FRAGMENT}),
}


class Opener(Protocol):
    """Opens relayed transport addresses."""

    dont_fragment: bool

    def supports(self, family: int, client: Client) -> bool:
        """Whether relays of this family exist for this client."""

    def open(self, family: int, client: Client, *, even: bool) -> Relay | None:
        """A relay, with an even port if asked for; None when no port is free."""

    def open_pair(self, family: int, client: Client) -> tuple[Relay, Relay] | None:
        """Relays with an even port and the next one."""


class Answer(NamedTuple):
    """What to send. `proven` says that the request had a valid password and a nonce made for its address."""

    data: bytes
    proven: bool


class Wish(NamedTuple):
    """Which relays an Allocate asks for."""

    family: int = IPV4
    additional: bool = False
    even: bool = False
    pair: bool = False
    token: bytes | None = None

    @staticmethod
    def read(message: Message) -> Wish:
        """The attributes that choose relays, RFC 8656 section 7.2 items 5 to 8. Raises Refused."""
        token, even = message.get(stun.RESERVATION_TOKEN), message.get(stun.EVEN_PORT)
        family, additional = message.get(stun.REQUESTED_ADDRESS_FAMILY), message.get(stun.ADDITIONAL_ADDRESS_FAMILY)
        if token is not None:
            if len(token) != 8 or even is not None or family is not None or additional is not None:
                raise Refused(400, "RESERVATION-TOKEN stands alone")
            return Wish(token=token)
        if even is not None and len(even) != 1:
            raise Refused(400, "EVEN-PORT is malformed")
        pair = even is not None and bool(even[0] & 0x80)
        if additional is not None and (family is not None or pair or len(additional) != 4 or additional[0] != IPV6):
            raise Refused(400, "ADDITIONAL-ADDRESS-FAMILY does not fit")
        return Wish(
            family=IPV4 if family is None else _family(family),
            additional=additional is not None,
            even=even is not None,
            pair=pair,
        )


class Requests:
    """The server's side of all requests and indications."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        policy: PeerPolicy,
        allocations: Allocations,
        forwarder: Forwarder,
        opener: Opener,
        bucket: Callable[[], Bucket],
    ) -> None:
        """`bucket` makes the bandwidth of one allocation's direction."""
        self._authenticator, self._policy = authenticator, policy
        self._allocations, self._forwarder, self._opener, self._bucket = allocations, forwarder, opener, bucket
        self._handlers = {
            stun.REFRESH: self._refresh,
            stun.CREATE_PERMISSION: self._create_permission,
            stun.CHANNEL_BIND: self._channel_bind,
        }

    def handle(self, data: bytes, client: Client, now: float, wall: float) -> Answer | None:
        """One message from `client`: the answer, or None. `now` is monotonic, `wall` seconds since 1970. Never raises."""
        try:
            message = stun.parse(data)
        except Malformed:
            return None
        if message.kind == stun.INDICATION and message.method == stun.SEND:
            self._send(message, client)
        if message.kind != stun.REQUEST:
            return None
        if message.method == stun.BINDING:
            return self._binding(data, message, client)
        if message.method not in KNOWN or message.method == stun.SEND:
            return None
        return self._authenticated(data, message, client, now, wall)

    # -- without a password --------------------------------------------------------------------------------------

    def _binding(self, data: bytes, message: Message, client: Client) -> Answer:
        """RFC 8489 section 6.3.1. SOFTWARE is said over connections, and where the request pays for it (see `Ledger`)."""
        unknown = message.unknown(KNOWN[stun.BINDING])
        if unknown:
            return Answer(self._error(message, _unknown(unknown)).build(), proven=False)
        answer = Builder(stun.BINDING, stun.SUCCESS, message.transaction)
        answer.address(stun.XOR_MAPPED_ADDRESS, client.address)
        if client.connection or len(data) >= len(answer) + 20:
            answer.add(stun.SOFTWARE, SOFTWARE)
        if message.has_fingerprint:
            answer.fingerprint()
        return Answer(answer.build(), proven=False)

    def _send(self, message: Message, client: Client) -> None:
        """A Send indication, RFC 8656 section 11.2: whatever is wrong, it is dropped."""
        allocation = self._allocations.by_client.get(client.key)
        data, peer = message.get(stun.DATA), message.get(stun.XOR_PEER_ADDRESS)
        if allocation is None or data is None or peer is None or message.unknown(KNOWN[stun.SEND]):
            return
        dont_fragment = message.get(stun.DONT_FRAGMENT) is not None
        if dont_fragment and not self._opener.dont_fragment:
            return
        try:
            address = stun.parse_xor_address(peer, message.transaction)
        except Malformed:
            return
        frame = memoryview(bytearray(b"\0\0\0\0" + data))
        self._forwarder.to_peer(allocation, address, frame, dont_fragment=dont_fragment)

    # -- who asks ------------------------------------------------------------------------------------------------

    def _authenticated(self, data: bytes, message: Message, client: Client, now: float, wall: float) -> Answer:
        allocation = self._allocations.by_client.get(client.key)
        try:
            who = self._authenticator.authenticate(data, message, client.address, allocation is not None, wall)
        except Refused as refused:
            return Answer(self._error(message, refused).build(), proven=False)
        try:
            answer = self._perform(message, client, allocation, who, now)
        except Refused as refused:
            answer = self._error(message, refused)
        except Malformed:
            answer = self._error(message, Refused(400, "Bad Request"))
        sealed = self._sealed(answer, message, who.key)
        if message.method == stun.ALLOCATE and allocation is None:
            self._remember(message, client, sealed)
        return Answer(sealed, proven=True)

    # -- what is asked -------------------------------------------------------------------------------------------

    def _perform(
        self, message: Message, client: Client, allocation: Allocation | None, who: Who, now: float
    ) -> Builder | bytes:
        """What the request of a known person changes, and the answer. Raises Refused, Malformed."""
        unknown = message.unknown(KNOWN[message.method])
        if unknown:
            raise _unknown(unknown)
        if allocation is not None and allocation.username != who.username:
            raise Refused(441, "Wrong Credentials")  # RFC 8656 section 5
        if message.method == stun.ALLOCATE:
            if allocation is None:
                return self._allocate(message, client, who, now)
            if allocation.transaction == message.transaction:  # it comes again, as its answer got lost: section 7.2
                return allocation.answer
            raise Refused(437, "Allocation Mismatch")
        if allocation is None:
            raise Refused(437, "Allocation Mismatch")
        return self._handlers[message.method](message, allocation, now)

    def _allocate(self, message: Message, client: Client, who: Who, now: float) -> Builder:
        """RFC 8656 section 7.2."""
        transport = message.get(stun.REQUESTED_TRANSPORT)
        if transport is None or len(transport) != 4:
            raise Refused(400, "REQUESTED-TRANSPORT is needed")
        if transport[0] != UDP:
            raise Refused(442, "Unsupported Transport Protocol")
        if message.get(stun.DONT_FRAGMENT) is not None and not self._opener.dont_fragment:
            raise _unknown([stun.DONT_FRAGMENT])
        wish = Wish.read(message)
        lifetime = self._lifetime(message) or self._allocations.limits.lifetime
        if not self._allocations.room_for(who.person, 1 + wish.pair - (wish.token is not None)):
            raise Refused(486, "Allocation Quota Reached")
        allocation = Allocation(client, who.username, who.person, self._bucket)
        token = self._open_relays(allocation, wish, now)
        allocation.expires = now + lifetime
        self._allocations.add(allocation)
        answer = Builder(stun.ALLOCATE, stun.SUCCESS, message.transaction)
        for relay in allocation.relays():
            answer.address(stun.XOR_RELAYED_ADDRESS, relay.address)
        if wish.additional and allocation.relay6 is None:
            answer.add(stun.ADDRESS_ERROR_CODE, bytes((IPV6, 0, 4, 40)))
        answer.add(stun.LIFETIME, lifetime.to_bytes(4, "big"))
        if token:
            answer.add(stun.RESERVATION_TOKEN, token)
        return answer.address(stun.XOR_MAPPED_ADDRESS, client.address).add(stun.SOFTWARE, SOFTWARE)

    def _open_relays(self, allocation: Allocation, wish: Wish, now: float) -> bytes | None:
        """Gives an allocation its relays; returns the token of a reserved port. Raises Refused, with nothing left open."""
        client, token = allocation.client, None
        if wish.token is not None:
            relay = self._allocations.reserved(wish.token, allocation.person, now)
        elif not self._opener.supports(wish.family, client):
            raise Refused(440, "Address Family not Supported")
        elif wish.pair:
            relay, token = self._open_pair(allocation, wish.family, now)
        else:
            relay = self._opener.open(wish.family, client, even=wish.even)
        if relay is None:
            raise Refused(508, "Insufficient Capacity")
        if len(relay.address) == 2:
            allocation.relay4 = relay
        else:
            allocation.relay6 = relay
        if wish.additional and self._opener.supports(IPV6, client):
            allocation.relay6 = self._opener.open(IPV6, client, even=False)
        return token

    def _open_pair(self, allocation: Allocation, family: int, now: float) -> tuple[Relay | None, bytes | None]:
        pair = self._opener.open_pair(family, allocation.client)
        if pair is None:
            return None, None
        token = os.urandom(8)
        self._allocations.reserve(token, allocation.person, pair[1], now)
        return pair[0], token

    def _remember(self, message: Message, client: Client, answer: bytes) -> None:
        allocation = self._allocations.by_client.get(client.key)
        if allocation is not None:
            allocation.transaction, allocation.answer = message.transaction, answer

    def _refresh(self, message: Message, allocation: Allocation, now: float) -> Builder:
        """RFC 8656 section 8.2."""
        family = message.get(stun.REQUESTED_ADDRESS_FAMILY)
        if family is not None:
            self._check_family(allocation, _family(family))
        lifetime = self._lifetime(message)
        if lifetime == 0 and family is not None:
            self._allocations.remove_family(allocation, family[0])
        elif lifetime == 0:
            self._allocations.remove(allocation)
        else:
            lifetime = lifetime or self._allocations.limits.lifetime
            allocation.expires = now + lifetime
        answer = Builder(stun.REFRESH, stun.SUCCESS, message.transaction)
        return answer.add(stun.LIFETIME, lifetime.to_bytes(4, "big"))

    def _create_permission(self, message: Message, allocation: Allocation, now: float) -> Builder:
        """RFC 8656 section 10.2: all of the peers, or none."""
        peers = [stun.parse_xor_address(value, message.transaction) for value in message.all(stun.XOR_PEER_ADDRESS)]
        if not peers:
            raise Refused(400, "XOR-PEER-ADDRESS is needed")
        self._permit(allocation, peers, now)
        return Builder(stun.CREATE_PERMISSION, stun.SUCCESS, message.transaction)

    def _channel_bind(self, message: Message, allocation: Allocation, now: float) -> Builder:
        """RFC 8656 section 12.2."""
        number, address = message.get(stun.CHANNEL_NUMBER), message.get(stun.XOR_PEER_ADDRESS)
        if number is None or len(number) != 4 or address is None:
            raise Refused(400, "CHANNEL-NUMBER and XOR-PEER-ADDRESS are needed")
        channel = int.from_bytes(number[:2], "big")
        if not MIN_CHANNEL <= channel <= MAX_CHANNEL:
            raise Refused(400, "CHANNEL-NUMBER is out of range")
        peer = stun.parse_xor_address(address, message.transaction)
        if is_service(peer[1]):
            raise Refused(403, "Forbidden")
        if allocation.channels.get(channel, peer) != peer or allocation.numbers.get(peer, channel) != channel:
            raise Refused(400, "Bound to another")
        if channel not in allocation.channels and len(allocation.channels) >= self._allocations.limits.channels:
            raise Refused(508, "Insufficient Capacity")
        self._permit(allocation, [peer], now)
        allocation.bind(channel, peer, now)
        return Builder(stun.CHANNEL_BIND, stun.SUCCESS, message.transaction)

    def _permit(self, allocation: Allocation, peers: list[Address], now: float) -> None:
        """Install permissions for all of these peers, or raise Refused."""
        verdicts = {}
        for peer in peers:
            self._check_family(allocation, IPV4 if len(peer) == 2 else IPV6)
            verdicts[peer[0]] = self._policy.judge(peer[0])
            if verdicts[peer[0]] is Verdict.FORBIDDEN:
                raise Refused(403, "Forbidden")
        if len(allocation.permissions.keys() | verdicts.keys()) > self._allocations.limits.permissions:
            raise Refused(508, "Insufficient Capacity")
        for host, verdict in verdicts.items():
            allocation.permit(host, verdict is Verdict.OWN, now)

    @staticmethod
    def _check_family(allocation: Allocation, family: int) -> None:
        if (allocation.relay4 if family == IPV4 else allocation.relay6) is None:
            raise Refused(443, "Peer Address Family Mismatch")

    def _lifetime(self, message: Message) -> int | None:
        """The seconds that a request is granted: what it asks for, between the default and the maximum; None without, 0 for 0."""
        value = message.get(stun.LIFETIME)
        if value is None:
            return None
        if len(value) != 4:
            raise Refused(400, "LIFETIME is not a number of seconds")
        wanted, limits = int.from_bytes(value, "big"), self._allocations.limits
        return wanted and min(max(wanted, limits.lifetime), limits.max_lifetime)

    # -- answers -------------------------------------------------------------------------------------------------

    @staticmethod
    def _error(message: Message, refused: Refused) -> Builder:
        answer = Builder(message.method, stun.ERROR, message.transaction).error(refused.code, refused.reason)
        for attribute, value in refused.attributes:
            answer.add(attribute, value)
        return answer

    @staticmethod
    def _sealed(answer: Builder | bytes, message: Message, key: bytes) -> bytes:
        """With the kind of integrity that the request had."""
        if isinstance(answer, bytes):
            return answer
        if message.integrity256_at:
            answer.integrity256(key)
        else:
            answer.integrity(key)
        if message.has_fingerprint:
            answer.fingerprint()
        return answer.build()


def _unknown(types: list[int]) -> Refused:
    return Refused(420, "", ((stun.UNKNOWN_ATTRIBUTES, stun.unknown_attributes(types)),))


def _family(value: bytes) -> int:
    """The family in REQUESTED-ADDRESS-FAMILY or ADDITIONAL-ADDRESS-FAMILY. Raises Refused."""
    if len(value) != 4:
        raise Refused(400, "The address family is malformed")
    if value[0] not in (IPV4, IPV6):
        raise Refused(440, "Address Family not Supported")
    return value[0]
