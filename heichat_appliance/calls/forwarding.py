"""The way of one relayed packet. Nothing here makes more than a handful of dictionary lookups between two system calls.

A `frame` is a writable memoryview: four bytes of room, then the data. The room becomes the ChannelData header.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from struct import Struct

from heichat_appliance.calls.allocations import Allocation
from heichat_appliance.calls.budgets import Bucket
from heichat_appliance.calls.policy import is_service
from heichat_appliance.calls.stun import DATA, DATA_METHOD, INDICATION, XOR_PEER_ADDRESS, Address, Builder

_CHANNEL_DATA = Struct("!HH")


class Forwarder:
    """Passes data between clients and peers, within the bandwidths. `relayed` and `dropped` count packets."""

    def __init__(self, by_relay: dict[Address, Allocation], bucket: Callable[[], Bucket]) -> None:
        """`by_relay` has the allocation of each relayed address of this server; `bucket` makes the bandwidth of one
        direction of all together."""
        self._by_relay = by_relay
        self._to_peers, self._from_peers = bucket(), bucket()
        self.relayed = self.dropped = 0

    def to_peer(self, allocation: Allocation, peer: Address, frame: memoryview, *, dont_fragment: bool = False) -> None:
        """From a client to a peer. RFC 8656 sections 11.2 and 12.6; without a permission, data is dropped.

        A peer that is itself relayed by this server gets it in memory: so two people who may only use the relay reach each
        other, behind any NAT, and still nothing is ever sent to an address of this machine.
        """
        size = len(frame) - 4
        permission = allocation.permissions.get(peer[0])
        relay = allocation.relay4 if len(peer) == 2 else allocation.relay6
        if permission is None or relay is None or not (allocation.to_peers.take(size) and self._to_peers.take(size)):
            self.dropped += 1
            return
        other = self._by_relay.get(peer)
        if other is not None:
            self.from_peer(other, relay.address, frame)
        elif permission[1] or is_service(peer[1]):
            self.dropped += 1
        else:
            self.relayed += 1
            relay.send(frame[4:], peer, dont_fragment=dont_fragment)

    def from_peer(self, allocation: Allocation, peer: Address, frame: memoryview) -> None:
        """From a peer to the client: as ChannelData, or as a Data indication. RFC 8656 sections 11.3 and 12.7."""
        size = len(frame) - 4
        if peer[0] not in allocation.permissions or not (
            allocation.from_peers.take(size) and self._from_peers.take(size)
        ):
            self.dropped += 1
            return
        self.relayed += 1
        number = allocation.numbers.get(peer)
        if number is not None:
            _CHANNEL_DATA.pack_into(frame, 0, number, size)
            allocation.client.send(frame)
        else:
            indication = Builder(DATA_METHOD, INDICATION, os.urandom(12)).address(XOR_PEER_ADDRESS, peer)
            allocation.client.send(indication.add(DATA, bytes(frame[4:])).build())
