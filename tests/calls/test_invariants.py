"""Whatever people do in whatever order, what the server holds fits together, and nothing outlives its time."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from heichat_appliance.calls import stun
from heichat_appliance.calls.allocations import CHANNEL_SECONDS, PERMISSION_SECONDS, Limits
from heichat_appliance.calls.stun import Address
from tests.calls.kit import PEER, PEER6, UDP_TRANSPORT, Person, World, lifetime

LIMITS = Limits(allocations=5, allocations_per_person=3, permissions=3, channels=3)
PEERS: list[Address] = [PEER, ("129.0.0.7", 5001), ("129.0.0.8", 5000), ("129.0.0.9", 5000), PEER6, ("10.0.0.1", 5000)]
WISHES = [
    [],
    [(stun.EVEN_PORT, b"\x80")],
    [(stun.REQUESTED_ADDRESS_FAMILY, b"\2\0\0\0")],
    [(stun.ADDITIONAL_ADDRESS_FAMILY, b"\2\0\0\0")],
]


class Relaying(RuleBasedStateMachine):
    """Six clients of three people do what TURN clients do."""

    clients = st.integers(0, 5)

    def __init__(self) -> None:
        super().__init__()
        self.world = World(LIMITS)
        self.people = [self.world.person(f"@{number % 3}:test", ("129.0.0.1", number)) for number in range(6)]
        self.tokens: list[bytes] = []

    def fresh(self, client: int) -> Person:
        """A client whose nonce is good, with the credentials that it began with."""
        self.people[client].nonce = b""
        return self.people[client]

    @rule(client=clients, wish=st.sampled_from(WISHES), seconds=st.sampled_from([600, 3600]))
    def allocate(self, client: int, wish: list[tuple[int, bytes]], seconds: int) -> None:
        answer = self.fresh(client).ask(stun.ALLOCATE, UDP_TRANSPORT, lifetime(seconds), *wish)
        self.tokens += answer.all(stun.RESERVATION_TOKEN)

    @rule(client=clients)
    def claim(self, client: int) -> None:
        if self.tokens:
            token = (stun.RESERVATION_TOKEN, self.tokens[-1])
            self.fresh(client).ask(stun.ALLOCATE, UDP_TRANSPORT, token)

    @rule(client=clients, seconds=st.sampled_from([0, 600]), family=st.sampled_from([None, 1, 2]))
    def refresh(self, client: int, seconds: int, family: int | None) -> None:
        wish = [(stun.REQUESTED_ADDRESS_FAMILY, bytes((family, 0, 0, 0)))] if family else []
        self.fresh(client).ask(stun.REFRESH, lifetime(seconds), *wish)

    @rule(client=clients, peers=st.lists(st.sampled_from(PEERS), max_size=4))
    def permit(self, client: int, peers: list[Address]) -> None:
        self.fresh(client).permit(*peers)

    @rule(client=clients, number=st.integers(0x4000, 0x4004), peer=st.sampled_from(PEERS))
    def bind(self, client: int, number: int, peer: Address) -> None:
        self.fresh(client).bind(number, peer)

    @rule(seconds=st.sampled_from([1, 20, 40, 200, 400, 700]))
    def wait(self, seconds: int) -> None:
        self.world.pass_time(seconds)

    @rule(number=st.integers(0, 7))
    def exhaust(self, number: int) -> None:
        self.world.opener.exhausted = number == 0

    @invariant()
    def relays_belong_to_allocations(self) -> None:
        held = self.world.allocations
        of_clients = {relay.address: each for each in held.by_client.values() for relay in each.relays()}
        assert held.by_relay == of_clients and all(list(each.relays()) for each in held.by_client.values())
        reserved = {relay.address for _, _, relay in held._reserved.values()}
        opened = {relay.address for relay in self.world.opener.opened if not relay.closed}
        assert opened == held.by_relay.keys() | reserved

    @invariant()
    def people_are_counted_and_limited(self) -> None:
        held = self.world.allocations
        people = [each.person for each in held.by_client.values()] + [owner for _, owner, _ in held._reserved.values()]
        assert held._of_person == Counter(people)
        assert len(people) <= LIMITS.allocations and max(held._of_person.values(), default=0) <= 3

    @invariant()
    def channels_and_permissions_fit(self) -> None:
        now = self.world.now
        for allocation in self.world.allocations.by_client.values():
            assert {number: peer for peer, number in allocation.numbers.items()} == allocation.channels
            assert allocation.channels.keys() == allocation.until.keys()
            ends = [expires for expires, _ in allocation.permissions.values()]
            assert all(now < expires <= now + PERMISSION_SECONDS for expires in ends)
            assert all(now < expires <= now + CHANNEL_SECONDS for expires in allocation.until.values())
            assert allocation.due <= min([*ends, *allocation.until.values()], default=float("inf"))
            assert len(ends) <= LIMITS.permissions and len(allocation.channels) <= LIMITS.channels
            assert "10.0.0.1" not in allocation.permissions
            families = {":" in relay.address[0] for relay in allocation.relays()}
            assert {":" in host for host in allocation.permissions} <= families

    def teardown(self) -> None:
        self.world.pass_time(3601)
        held = self.world.allocations
        assert not (held.by_client or held.by_relay or held._reserved or held._of_person)
        assert all(relay.closed for relay in self.world.opener.opened)


TestRelaying = Relaying.TestCase
TestRelaying.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)
