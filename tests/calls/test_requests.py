"""What requests change and how they are answered (RFC 8656), on a server without sockets."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from heichat_appliance.calls import stun
from heichat_appliance.calls.allocations import Limits
from heichat_appliance.calls.stun import IPV4, IPV6, Builder
from tests.calls.kit import (
    NOW,
    PEER,
    PEER6,
    REALM,
    RELAY4,
    RELAY6,
    UDP_TRANSPORT,
    Person,
    World,
    addresses,
    channel_number,
    error_code,
    lifetime,
    signed,
)

FAMILY4, FAMILY6 = (stun.REQUESTED_ADDRESS_FAMILY, b"\1\0\0\0"), (stun.REQUESTED_ADDRESS_FAMILY, b"\2\0\0\0")
BOTH_FAMILIES = (stun.ADDITIONAL_ADDRESS_FAMILY, b"\2\0\0\0")
EVEN, PAIR = (stun.EVEN_PORT, b"\0"), (stun.EVEN_PORT, b"\x80")


# -- Binding -----------------------------------------------------------------------------------------------------------


def test_binding_tells_the_address() -> None:
    alice = World().person(address=("129.0.0.1", 4000))
    answer = alice.raw(Builder(stun.BINDING, stun.REQUEST, b"t" * 12).build())
    assert (answer.kind, answer.transaction) == (stun.SUCCESS, b"t" * 12)
    assert addresses(answer, stun.XOR_MAPPED_ADDRESS) == [("129.0.0.1", 4000)]
    assert not answer.has_fingerprint


def test_binding_over_ipv6_with_a_fingerprint_and_room_for_software() -> None:
    alice = World().person(address=("2a00::1", 4000, 0, 0))
    request = Builder(stun.BINDING, stun.REQUEST, b"t" * 12).add(stun.SOFTWARE, b"x" * 60).fingerprint().build()
    answer = alice.raw(request)
    assert addresses(answer, stun.XOR_MAPPED_ADDRESS) == [("2a00::1", 4000, 0, 0)]
    assert answer.has_fingerprint
    assert answer.get(stun.SOFTWARE) == b"heiCHAT"


def test_binding_with_unknown_attributes() -> None:
    alice = World().person()
    request = Builder(stun.BINDING, stun.REQUEST, b"t" * 12).add(0x7001, b"").add(0x9001, b"").add(0x7001, b"").build()
    answer = alice.raw(request)
    assert error_code(answer) == 420
    assert answer.get(stun.UNKNOWN_ATTRIBUTES) == b"\x70\x01"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        Builder(stun.BINDING, stun.INDICATION, b"t" * 12).build(),
        Builder(stun.BINDING, stun.SUCCESS, b"t" * 12).build(),
        Builder(stun.BINDING, stun.ERROR, b"t" * 12).build(),
        Builder(stun.SEND, stun.REQUEST, b"t" * 12).build(),
        Builder(stun.DATA_METHOD, stun.INDICATION, b"t" * 12).build(),
        Builder(0xABC, stun.REQUEST, b"t" * 12).build(),
    ],
)
def test_no_answer(data: bytes) -> None:
    world = World()
    assert world.handle(data, world.person().client) is None


# -- who asks ----------------------------------------------------------------------------------------------------------


def test_strangers_are_asked_for_the_password() -> None:
    alice = World().person()
    answer = alice.raw(Builder(stun.ALLOCATE, stun.REQUEST, os.urandom(12)).add(*UDP_TRANSPORT).build())
    assert error_code(answer) == 401
    assert answer.get(stun.REALM) == REALM.encode()
    assert answer.get(stun.NONCE)
    assert not answer.integrity_at


def spoiled(alice: Person, **changes: object) -> bytes:
    parts = {"username": alice.username, "realm": REALM, "nonce": alice.nonce, "key": alice.key, **changes}
    return signed(stun.ALLOCATE, UDP_TRANSPORT, **parts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda alice: {"key": b"wrong"}, 401),
        (lambda alice: {"realm": "other"}, 401),
        (lambda alice: {"username": "nobody"}, 401),
        (lambda alice: {"username": alice.username + "x"}, 401),
        (lambda alice: {"username": "9" * 300 + ":" + "x" * 300}, 401),
        (lambda alice: {"nonce": b"made up"}, 438),
        (lambda alice: {"nonce": b"AAAAAAAAAAAA"}, 438),
        (lambda alice: {"nonce": b"\xff\xfe"}, 438),
    ],
)
def test_wrong_credentials(change: Callable[[Person], dict[str, object]], code: int) -> None:
    world = World()
    alice = world.person()
    assert error_code(alice.ask(stun.REFRESH)) == 437
    answer = alice.raw(spoiled(alice, **change(alice)))
    assert error_code(answer) == code
    assert answer.get(stun.NONCE)
    assert not world.allocations.by_client


@pytest.mark.parametrize("left_out", [stun.USERNAME, stun.REALM, stun.NONCE])
def test_half_a_credential(left_out: int) -> None:
    alice = World().person()
    builder = Builder(stun.ALLOCATE, stun.REQUEST, os.urandom(12))
    for attribute in (stun.USERNAME, stun.REALM, stun.NONCE):
        if attribute != left_out:
            builder.add(attribute, b"x")
    assert error_code(alice.raw(builder.integrity(b"key").build())) == 400


def test_a_username_that_is_no_text() -> None:
    alice = World().person()
    builder = Builder(stun.ALLOCATE, stun.REQUEST, os.urandom(12)).add(stun.USERNAME, b"\xff").add(stun.REALM, b"x")
    assert error_code(alice.raw(builder.add(stun.NONCE, b"x").integrity(b"key").build())) == 401


def test_credentials_end() -> None:
    world = World()
    alice = world.person(ttl=100)
    alice.allocate()
    world.pass_time(101)
    late = world.person(ttl=-1)
    late.username, late.password, late.nonce = alice.username, alice.password, b""
    late.client = type(late.client)("other", ("129.0.0.9", 1), late.client.send)
    assert error_code(late.ask(stun.ALLOCATE, UDP_TRANSPORT)) == 401
    assert alice.ask(stun.REFRESH, lifetime(600)).kind == stun.SUCCESS, "a call that goes on is not cut off"
    codes = []
    for _ in range(25):
        world.pass_time(599)
        alice.nonce = b""
        codes.append(error_code(alice.ask(stun.REFRESH, lifetime(600))))
    assert codes == [None] * 24 + [401], "but not for ever either: four hours"


def test_nonces_belong_to_an_address_and_end() -> None:
    world = World()
    alice, bob = world.person(), world.person("@bob:test", ("129.0.0.2", 4000))
    alice.allocate()
    bob.nonce = alice.nonce
    assert error_code(bob.ask(stun.ALLOCATE, UDP_TRANSPORT)) == 438
    world.wall += 3700
    answer = alice.ask(stun.REFRESH)
    assert error_code(answer) == 438
    alice.nonce = answer.get(stun.NONCE) or b""
    assert alice.ask(stun.REFRESH).kind == stun.SUCCESS


def test_sha256_is_answered_with_sha256() -> None:
    alice = World().person()
    alice.sha256 = True
    answer = alice.ask(stun.ALLOCATE, UDP_TRANSPORT)
    assert answer.kind == stun.SUCCESS
    assert answer.integrity256_at and not answer.integrity_at and answer.has_fingerprint


def test_another_person_at_the_same_5_tuple() -> None:
    world = World()
    world.person().allocate()
    bob = world.person("@bob:test")
    assert error_code(bob.ask(stun.REFRESH)) == 441
    assert error_code(bob.ask(stun.ALLOCATE, UDP_TRANSPORT)) == 441
    assert error_code(bob.permit(PEER)) == 441


# -- Allocate ----------------------------------------------------------------------------------------------------------


def test_allocate() -> None:
    world = World()
    alice = world.person()
    answer = alice.ask(stun.ALLOCATE, UDP_TRANSPORT)
    assert addresses(answer, stun.XOR_RELAYED_ADDRESS) == [(RELAY4, 50000)]
    assert addresses(answer, stun.XOR_MAPPED_ADDRESS) == [("129.0.0.1", 4000)]
    assert answer.get(stun.LIFETIME) == (600).to_bytes(4, "big")
    allocation = world.allocations.by_client[alice.client.key]
    assert world.allocations.by_relay == {(RELAY4, 50000): allocation}
    assert world.opener.opened[0].allocation is allocation


def test_a_repeated_allocate_is_answered_the_same() -> None:
    world = World()
    alice = world.person()
    alice.ask(stun.REFRESH)
    request = alice.signed(stun.ALLOCATE, UDP_TRANSPORT, transaction=b"t" * 12)
    first, second = world.handle(request, alice.client), world.handle(request, alice.client)
    assert first is not None and first == second
    assert len(world.opener.opened) == 1
    assert error_code(alice.ask(stun.ALLOCATE, UDP_TRANSPORT)) == 437, "another transaction"


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ([], 400),
        ([(stun.REQUESTED_TRANSPORT, b"\x11")], 400),
        ([(stun.REQUESTED_TRANSPORT, b"\x06\0\0\0")], 442),
        ([UDP_TRANSPORT, (0x7001, b"")], 420),
        ([UDP_TRANSPORT, (0x001E, b"h" * 32)], 420),
        ([UDP_TRANSPORT, (stun.LIFETIME, b"\0")], 400),
        ([UDP_TRANSPORT, (stun.REQUESTED_ADDRESS_FAMILY, b"\3\0\0\0")], 440),
        ([UDP_TRANSPORT, (stun.REQUESTED_ADDRESS_FAMILY, b"\1")], 400),
        ([UDP_TRANSPORT, (stun.ADDITIONAL_ADDRESS_FAMILY, b"\1\0\0\0")], 400),
        ([UDP_TRANSPORT, (stun.ADDITIONAL_ADDRESS_FAMILY, b"")], 400),
        ([UDP_TRANSPORT, BOTH_FAMILIES, FAMILY4], 400),
        ([UDP_TRANSPORT, BOTH_FAMILIES, PAIR], 400),
        ([UDP_TRANSPORT, (stun.EVEN_PORT, b"")], 400),
        ([UDP_TRANSPORT, (stun.RESERVATION_TOKEN, b"short")], 400),
        ([UDP_TRANSPORT, (stun.RESERVATION_TOKEN, b"8 bytes!"), EVEN], 400),
        ([UDP_TRANSPORT, (stun.RESERVATION_TOKEN, b"8 bytes!"), FAMILY4], 400),
        ([UDP_TRANSPORT, (stun.RESERVATION_TOKEN, b"8 bytes!"), BOTH_FAMILIES], 400),
        ([UDP_TRANSPORT, (stun.RESERVATION_TOKEN, b"8 bytes!")], 508),
    ],
)
def test_allocate_refused(attributes: list[tuple[int, bytes]], code: int) -> None:
    world = World()
    answer = world.person().ask(stun.ALLOCATE, *attributes)
    assert error_code(answer) == code
    assert not world.allocations.by_client and not world.opener.opened
    assert not world.allocations._of_person


@pytest.mark.parametrize(
    ("asked", "granted"), [(None, 600), (0, 600), (1, 600), (600, 600), (1800, 1800), (3600, 3600), (2**32 - 1, 3600)]
)
def test_lifetimes(asked: int | None, granted: int) -> None:
    world = World()
    alice = world.person()
    allocation = alice.allocate(*([] if asked is None else [lifetime(asked)]))
    assert allocation.expires == NOW + granted
    if asked != 0:
        world.pass_time(100)
        answer = alice.ask(stun.REFRESH, *([] if asked is None else [lifetime(asked)]))
        assert answer.get(stun.LIFETIME) == granted.to_bytes(4, "big")
        assert allocation.expires == world.now + granted


def test_an_allocation_ends_by_itself() -> None:
    world = World()
    alice = world.person()
    alice.allocate()
    world.pass_time(599)
    assert world.allocations.by_client
    world.pass_time(1)
    assert not world.allocations.by_client and not world.allocations.by_relay and not world.allocations._of_person
    assert world.opener.opened[0].closed
    assert error_code(alice.ask(stun.REFRESH)) == 437
    alice.allocate()


def test_refresh_with_zero_ends_it() -> None:
    world = World()
    alice = world.person()
    alice.allocate()
    answer = alice.ask(stun.REFRESH, lifetime(0))
    assert answer.kind == stun.SUCCESS and answer.get(stun.LIFETIME) == bytes(4)
    assert not world.allocations.by_client and world.opener.opened[0].closed


def test_ipv6_alone() -> None:
    world = World()
    alice = world.person()
    answer = alice.ask(stun.ALLOCATE, UDP_TRANSPORT, FAMILY6)
    assert addresses(answer, stun.XOR_RELAYED_ADDRESS) == [(RELAY6, 50000, 0, 0)]
    assert error_code(alice.permit(PEER)) == 443
    assert alice.permit(PEER6).kind == stun.SUCCESS
    assert error_code(alice.ask(stun.REFRESH, FAMILY4)) == 443
    assert alice.ask(stun.REFRESH, FAMILY6).kind == stun.SUCCESS


def test_a_family_that_the_server_has_not() -> None:
    world = World()
    world.opener.families = (IPV4,)
    alice = world.person()
    assert error_code(alice.ask(stun.ALLOCATE, UDP_TRANSPORT, FAMILY6)) == 440
    answer = alice.ask(stun.ALLOCATE, UDP_TRANSPORT, BOTH_FAMILIES)
    assert addresses(answer, stun.XOR_RELAYED_ADDRESS) == [(RELAY4, 50000)]
    assert answer.get(stun.ADDRESS_ERROR_CODE) == bytes((IPV6, 0, 4, 40))


def test_both_families_and_one_given_up() -> None:
    world = World()
    alice = world.person()
    answer = alice.ask(stun.ALLOCATE, UDP_TRANSPORT, BOTH_FAMILIES)
    assert addresses(answer, stun.XOR_RELAYED_ADDRESS) == [(RELAY4, 50000), (RELAY6, 50001, 0, 0)]
    allocation = world.allocations.by_client[alice.client.key]
    assert alice.bind(0x4000, PEER).kind == alice.bind(0x4001, PEER6).kind == stun.SUCCESS
    assert alice.ask(stun.REFRESH, lifetime(0), FAMILY6).kind == stun.SUCCESS
    assert allocation.channels == {0x4000: PEER} and list(allocation.permissions) == [PEER[0]]
    assert [relay.closed for relay in world.opener.opened] == [False, True]
    assert list(world.allocations.by_relay) == [(RELAY4, 50000)]
    assert alice.ask(stun.REFRESH, lifetime(0), FAMILY4).kind == stun.SUCCESS
    assert not world.allocations.by_client and world.opener.opened[0].closed


def test_even_ports_and_a_reserved_one() -> None:
    world = World()
    world.opener.port = 50000
    alice, second = world.person(), world.person(address=("129.0.0.1", 4001))
    answer = alice.ask(stun.ALLOCATE, UDP_TRANSPORT, PAIR)
    assert addresses(answer, stun.XOR_RELAYED_ADDRESS) == [(RELAY4, 50002)]
    token = answer.get(stun.RESERVATION_TOKEN)
    assert token is not None and len(token) == 8
    thief = world.person("@mallory:test", ("129.0.0.3", 4000))
    assert error_code(thief.ask(stun.ALLOCATE, UDP_TRANSPORT, (stun.RESERVATION_TOKEN, token))) == 508
    answer = second.ask(stun.ALLOCATE, UDP_TRANSPORT, (stun.RESERVATION_TOKEN, token))
    assert addresses(answer, stun.XOR_RELAYED_ADDRESS) == [(RELAY4, 50003)]
    third = world.person(address=("129.0.0.1", 4002))
    assert error_code(third.ask(stun.ALLOCATE, UDP_TRANSPORT, (stun.RESERVATION_TOKEN, token))) == 508
    assert third.ask(stun.ALLOCATE, UDP_TRANSPORT, EVEN).get(stun.RESERVATION_TOKEN) is None
    assert world.allocations._of_person == {"@alice:test": 3}


def test_a_reservation_ends() -> None:
    world = World()
    alice = world.person()
    token = alice.ask(stun.ALLOCATE, UDP_TRANSPORT, PAIR).get(stun.RESERVATION_TOKEN)
    assert token is not None
    world.pass_time(30)
    assert world.opener.opened[1].closed and world.allocations._of_person == {"@alice:test": 1}
    second = world.person(address=("129.0.0.1", 4001))
    assert error_code(second.ask(stun.ALLOCATE, UDP_TRANSPORT, (stun.RESERVATION_TOKEN, token))) == 508


def test_no_port_is_free() -> None:
    world = World()
    world.opener.exhausted = True
    alice = world.person()
    for attributes in ([], [EVEN], [PAIR]):
        assert error_code(alice.ask(stun.ALLOCATE, UDP_TRANSPORT, *attributes)) == 508
    assert not world.allocations._of_person


def test_quotas() -> None:
    world = World(Limits(allocations=4, allocations_per_person=3))
    for port in range(2):
        world.person(address=("129.0.0.1", port)).allocate()
    third = world.person(address=("129.0.0.1", 3))
    assert error_code(third.ask(stun.ALLOCATE, UDP_TRANSPORT, PAIR)) == 486, "a pair is two"
    third.allocate()
    fourth = world.person(address=("129.0.0.1", 4))
    assert error_code(fourth.ask(stun.ALLOCATE, UDP_TRANSPORT)) == 486
    later = world.person(address=("129.0.0.1", 5), ttl=90000)
    assert error_code(later.ask(stun.ALLOCATE, UDP_TRANSPORT)) == 486, "other credentials of the same person"
    bob = world.person("@bob:test", ("129.0.0.2", 1))
    bob.allocate()
    carol = world.person("@carol:test", ("129.0.0.3", 1))
    assert error_code(carol.ask(stun.ALLOCATE, UDP_TRANSPORT)) == 486, "all together"
    bob.ask(stun.REFRESH, lifetime(0))
    carol.allocate()


def test_dont_fragment_where_the_system_cannot() -> None:
    world = World()
    alice = world.person()
    world.opener.dont_fragment = False
    answer = alice.ask(stun.ALLOCATE, UDP_TRANSPORT, (stun.DONT_FRAGMENT, b""))
    assert error_code(answer) == 420
    assert answer.get(stun.UNKNOWN_ATTRIBUTES) == stun.DONT_FRAGMENT.to_bytes(2, "big")
    world.opener.dont_fragment = True
    alice.allocate((stun.DONT_FRAGMENT, b""))


# -- permissions and channels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [stun.REFRESH, stun.CREATE_PERMISSION, stun.CHANNEL_BIND])
def test_nothing_without_an_allocation(method: int) -> None:
    assert error_code(World().person().ask_with_peers(method)) == 437


def test_permissions_are_given_to_all_or_none() -> None:
    world = World()
    alice = world.person()
    allocation = alice.allocate()
    assert error_code(alice.permit()) == 400
    assert error_code(alice.permit(PEER, ("10.0.0.1", 1))) == 403
    assert error_code(alice.permit(PEER, PEER6)) == 443
    assert error_code(alice.ask(stun.CREATE_PERMISSION, (stun.XOR_PEER_ADDRESS, b"bad"))) == 400
    assert not allocation.permissions
    assert alice.permit(PEER, ("129.0.0.8", 1)).kind == stun.SUCCESS
    assert list(allocation.permissions) == ["129.0.0.7", "129.0.0.8"]


def test_permissions_last_five_minutes() -> None:
    world = World()
    alice = world.person()
    allocation = alice.allocate(lifetime(3600))
    alice.permit(PEER)
    world.pass_time(200)
    alice.permit(PEER)
    world.pass_time(299)
    assert allocation.permissions
    world.pass_time(1)
    assert not allocation.permissions


def test_channels_last_ten_minutes() -> None:
    world = World()
    alice = world.person()
    allocation = alice.allocate(lifetime(3600))
    alice.bind(0x4000, PEER)
    world.pass_time(500)
    assert not allocation.permissions, "a permission lasts no longer for a channel"
    alice.bind(0x4000, PEER)
    assert allocation.permissions
    world.pass_time(599)
    assert allocation.channels == {0x4000: PEER} and allocation.numbers == {PEER: 0x4000}
    world.pass_time(1)
    assert not allocation.channels and not allocation.numbers and not allocation.until
    assert alice.bind(0x4000, ("129.0.0.8", 5000)).kind == stun.SUCCESS


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ([], 400),
        ([channel_number(0x4001)], 400),
        ([(stun.CHANNEL_NUMBER, b"\x40\1"), (stun.XOR_PEER_ADDRESS, bytes(8))], 400),
        ([channel_number(0x4001), (stun.XOR_PEER_ADDRESS, b"")], 400),
    ],
)
def test_channel_bind_incomplete(attributes: list[tuple[int, bytes]], code: int) -> None:
    alice = World().person()
    allocation = alice.allocate()
    assert error_code(alice.ask(stun.CHANNEL_BIND, *attributes)) == code
    assert not allocation.channels


@pytest.mark.parametrize(
    ("number", "peer", "code"),
    [
        (0x3FFF, PEER, 400),
        (0x8000, PEER, 400),
        (0x4000, ("129.0.0.8", 5000), 400),
        (0x4000, ("129.0.0.7", 5001), 400),
        (0x4001, PEER, 400),
        (0x4001, PEER6, 443),
        (0x4001, ("127.0.0.1", 80), 403),
        (0x4000, PEER, None),
        (0x4001, ("129.0.0.7", 5001), None),
        (0x7FFF, ("129.0.0.7", 5001), None),
    ],
)
def test_channel_bind(number: int, peer: stun.Address, code: int | None) -> None:
    alice = World().person()
    alice.allocate()
    assert alice.bind(0x4000, PEER).kind == stun.SUCCESS
    assert error_code(alice.bind(number, peer)) == code


def test_limits_of_one_allocation() -> None:
    alice = World(Limits(permissions=3, channels=2)).person()
    allocation = alice.allocate()
    peers: list[stun.Address] = [(f"129.0.1.{number}", 5000) for number in range(5)]
    assert error_code(alice.permit(*peers[:4])) == 508
    assert alice.bind(0x4000, peers[0]).kind == alice.bind(0x4001, peers[1]).kind == stun.SUCCESS
    assert error_code(alice.bind(0x4002, peers[2])) == 508
    assert alice.permit(peers[2]).kind == alice.permit(peers[2]).kind == stun.SUCCESS
    assert error_code(alice.permit(peers[3])) == 508
    assert alice.bind(0x4001, peers[1]).kind == stun.SUCCESS, "a refresh needs no room"
    assert len(allocation.permissions) == 3 and len(allocation.channels) == 2
