"""The way of relayed data: permissions, channels, indications, bandwidth, and from relay to relay on this server."""

from __future__ import annotations

import pytest

from heichat_appliance.calls import stun
from heichat_appliance.calls.allocations import Allocation, Limits
from heichat_appliance.calls.stun import Address
from tests.calls.kit import PEER, PEER6, RELAY4, FakeRelay, Person, World, error_code, frame, lifetime

CHANNEL = 0x4000


class Call:
    """A person with an allocation, and data in both directions."""

    def __init__(self, world: World, person: Person, *attributes: tuple[int, bytes]) -> None:
        self.world, self.person = world, person
        self.allocation: Allocation = person.allocate(lifetime(3600), *attributes)
        relay = self.allocation.relay4
        assert isinstance(relay, FakeRelay)
        self.relay = relay

    def to_peer(self, data: bytes, peer: Address = PEER) -> None:
        self.world.forwarder.to_peer(self.allocation, peer, frame(data))

    def from_peer(self, data: bytes, peer: Address = PEER) -> None:
        self.world.forwarder.from_peer(self.allocation, peer, frame(data))


@pytest.fixture
def call() -> Call:
    world = World()
    return Call(world, world.person())


def test_a_channel_works_both_ways(call: Call) -> None:
    call.person.bind(CHANNEL, PEER)
    call.to_peer(b"hello")
    call.from_peer(b"world!")
    assert call.relay.sent == [(b"hello", PEER, False)]
    assert call.person.received == [b"\x40\x00\x00\x06world!"]
    assert (call.world.forwarder.relayed, call.world.forwarder.dropped) == (2, 0)


def test_indications_work_both_ways(call: Call) -> None:
    call.person.permit(PEER)
    call.person.send(PEER, b"hello")
    call.person.send(PEER, b"whole", (stun.DONT_FRAGMENT, b""))
    call.person.send(PEER, b"")
    call.from_peer(b"world")
    call.from_peer(b"")
    assert call.relay.sent == [(b"hello", PEER, False), (b"whole", PEER, True), (b"", PEER, False)]
    messages = [stun.parse(each) for each in call.person.received]
    assert [(each.kind, each.method) for each in messages] == [(stun.INDICATION, stun.DATA_METHOD)] * 2
    assert [each.get(stun.DATA) for each in messages] == [b"world", b""]
    assert stun.parse_xor_address(messages[0].get(stun.XOR_PEER_ADDRESS) or b"", messages[0].transaction) == PEER


def test_nothing_passes_without_a_permission(call: Call) -> None:
    call.person.permit(("129.0.0.8", 1))
    call.person.send(PEER, b"hello")
    call.from_peer(b"world")
    assert not call.relay.sent and not call.person.received
    assert call.world.forwarder.dropped == 2


def test_a_permission_is_for_all_ports_of_a_host(call: Call) -> None:
    call.person.permit(PEER)
    call.from_peer(b"world", (PEER[0], 1))
    assert len(call.person.received) == 1


def test_nothing_passes_when_the_permission_has_ended(call: Call) -> None:
    call.person.bind(CHANNEL, PEER)
    call.world.pass_time(300)
    call.to_peer(b"hello")
    call.from_peer(b"world")
    assert not call.relay.sent and not call.person.received


@pytest.mark.parametrize(
    "attributes",
    [
        [(stun.DATA, b"x")],
        [(stun.XOR_PEER_ADDRESS, stun.xor_address(PEER, b"t" * 12))],
        [(stun.XOR_PEER_ADDRESS, b"bad"), (stun.DATA, b"x")],
        [(stun.XOR_PEER_ADDRESS, stun.xor_address(PEER, b"t" * 12)), (stun.DATA, b"x"), (0x7001, b"")],
        [(stun.XOR_PEER_ADDRESS, stun.xor_address(PEER6, b"t" * 12)), (stun.DATA, b"x")],
    ],
)
def test_wrong_indications_are_dropped(call: Call, attributes: list[tuple[int, bytes]]) -> None:
    call.person.permit(PEER)
    builder = stun.Builder(stun.SEND, stun.INDICATION, b"t" * 12)
    for each in attributes:
        builder.add(*each)
    assert call.world.handle(builder.build(), call.person.client) is None
    assert not call.relay.sent


def test_dont_fragment_is_dropped_where_the_system_cannot(call: Call) -> None:
    call.world.opener.dont_fragment = False
    call.person.permit(PEER)
    call.person.send(PEER, b"whole", (stun.DONT_FRAGMENT, b""))
    assert not call.relay.sent


def test_indications_of_somebody_without_an_allocation(call: Call) -> None:
    call.person.permit(PEER)
    call.world.person("@bob:test", ("129.0.0.2", 1)).send(PEER, b"hello")
    assert not call.relay.sent


def test_services_are_no_peers(call: Call) -> None:
    for port in (22, 53, 123, 1023, 80, 443, 1024):
        call.person.permit((PEER[0], port))
        call.person.send((PEER[0], port), b"hello")
    assert [peer[1] for _, peer, _ in call.relay.sent] == [80, 443, 1024]
    assert error_code(call.person.bind(CHANNEL, (PEER[0], 53))) == 403


# -- relay to relay ----------------------------------------------------------------------------------------------------


@pytest.fixture
def two() -> tuple[Call, Call]:
    world = World()
    return Call(world, world.person()), Call(world, world.person("@bob:test", ("129.0.0.2", 4000)))


def test_two_relays_of_this_server_reach_each_other_in_memory(two: tuple[Call, Call]) -> None:
    alice, bob = two
    assert alice.person.bind(CHANNEL, bob.relay.address).kind == stun.SUCCESS
    assert bob.person.bind(0x4007, alice.relay.address).kind == stun.SUCCESS
    alice.to_peer(b"hello", bob.relay.address)
    bob.to_peer(b"world", alice.relay.address)
    assert bob.person.received == [b"\x40\x07\x00\x05hello"]
    assert alice.person.received == [b"\x40\x00\x00\x05world"]
    assert not alice.relay.sent and not bob.relay.sent


def test_relay_to_relay_needs_permissions_on_both_sides(two: tuple[Call, Call]) -> None:
    alice, bob = two
    alice.person.permit(bob.relay.address)
    alice.to_peer(b"hello", bob.relay.address)
    assert not bob.person.received
    bob.person.permit(alice.relay.address)
    alice.to_peer(b"hello", bob.relay.address)
    assert stun.parse(bob.person.received[0]).get(stun.DATA) == b"hello"


def test_the_server_itself_is_never_reached(two: tuple[Call, Call]) -> None:
    alice, bob = two
    alice.person.permit((RELAY4, 22))
    alice.person.bind(CHANNEL, (RELAY4, 22))
    alice.to_peer(b"hello", (RELAY4, 22))
    alice.person.send((RELAY4, 3478), b"hello")
    bob.person.ask(stun.REFRESH, lifetime(0))
    alice.person.send(bob.relay.address, b"the allocation has ended")
    assert not alice.relay.sent and not bob.relay.sent
    assert alice.world.forwarder.dropped == 3


# -- bandwidth ---------------------------------------------------------------------------------------------------------


def test_bandwidth_of_an_allocation_and_direction() -> None:
    world = World(Limits(bandwidth=10_000, total_bandwidth=0))
    call, other = Call(world, world.person()), Call(world, world.person("@bob:test", ("129.0.0.2", 1)))
    call.person.bind(CHANNEL, PEER)
    other.person.bind(CHANNEL, PEER)
    for _ in range(20):
        call.to_peer(bytes(1000))
    assert len(call.relay.sent) == 10
    call.from_peer(bytes(1000))
    other.to_peer(bytes(1000))
    assert len(call.person.received) == len(other.relay.sent) == 1, "the other direction, the other person"
    world.now += 0.5
    for _ in range(20):
        call.to_peer(bytes(1000))
    assert len(call.relay.sent) == 15
    world.now += 100
    for _ in range(20):
        call.to_peer(bytes(1000))
    assert len(call.relay.sent) == 25, "a second's worth at most is saved"


def test_bandwidth_of_all() -> None:
    world = World(Limits(bandwidth=0, total_bandwidth=10_000))
    calls = [Call(world, world.person(address=("129.0.0.1", port))) for port in range(4)]
    for call in calls:
        assert error_code(call.person.bind(CHANNEL, PEER)) is None
        for _ in range(5):
            call.to_peer(bytes(1000))
    assert sum(len(call.relay.sent) for call in calls) == 10
