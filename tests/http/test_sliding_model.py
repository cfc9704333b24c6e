"""Random days of a person with sliding sync: a client that knows only what it was told must know what is so.

Windows move, rooms are opened and closed, answers get lost, the server forgets what it kept in memory. In the end, and
now and then, the client opens a window over everything and its rooms are compared with the database.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from heichat_appliance.store import state
from tests.appliance import Actor, Appliance, q
from tests.http.sliding_kit import Sliding, a_list, a_subscription
from tests.http.test_sync import people, room_of

STATE = [["m.room.name", ""], ["m.room.member", "$ME"], ["m.room.member", "$LAZY"], ["com.example.note", "*"]]
MORE = [*STATE, ["m.room.topic", ""]]
EXTENSIONS = {name: {"enabled": True} for name in ("account_data", "receipts")}
ROOMS = 5


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Appliance]:
    started = Appliance.start(tmp_path, config={"storage": {"durability": "normal"}})
    server = pytest_twisted.blockon(Deferred.fromCoroutine(started))
    yield server
    pytest_twisted.blockon(Deferred.fromCoroutine(server.stop()))


class Room:
    """What the client knows of a room."""

    def __init__(self) -> None:
        self.state: dict[tuple[str, str], str] = {}
        self.timeline: list[str] = []
        self.senders: set[str] = set()
        self.invited = False


class Client(Sliding):
    """Applies answers as a client does."""

    def __init__(self, actor: Actor) -> None:
        super().__init__(actor, "model")
        self.rooms: dict[str, Room] = {}
        self.data: dict[str, dict[str, Any]] = {}
        self.receipts: dict[tuple[str, str, str], str] = {}

    def apply(self, answer: dict[str, Any]) -> None:
        for room_id, told in answer["rooms"].items():
            if told.get("initial"):
                self.rooms[room_id] = Room()
            room = self.rooms[room_id]
            if "invite_state" in told:
                room.invited = True
                continue
            for event in told.get("required_state", []):
                room.state[event["type"], event["state_key"]] = event["event_id"]
            ids = [event["event_id"] for event in told.get("timeline", [])]
            replaced = told.get("limited") or told.get("unstable_expanded_timeline")
            if replaced:
                room.senders.clear()
            room.timeline = ids if replaced else room.timeline + ids
            room.senders |= {event["sender"] for event in told.get("timeline", [])}
        extensions = answer["extensions"]
        for room_id, events in extensions["account_data"]["rooms"].items():
            self.data.setdefault(room_id, {}).update((event["type"], event["content"]) for event in events)
        for room_id, receipt in extensions["receipts"]["rooms"].items():
            for event_id, types in receipt["content"].items():
                for type, users in types.items():
                    self.receipts.update(((room_id, type, user), event_id) for user in users)

    def check(self, server: Appliance) -> None:
        """Compare with the database, after an answer over all rooms."""
        read, me = server.daemon.engine.read, self.actor.user_id
        for membership in state.memberships_of_user_at(read, me, server.daemon.engine.position):
            if membership.membership == "join":
                self.check_room(read, membership.room_id, self.rooms[membership.room_id], membership)
            elif membership.membership == "invite":
                assert self.rooms[membership.room_id].invited

    def check_room(self, read: Any, room_id: str, room: Room, membership: state.Membership) -> None:
        me = self.actor.user_id
        now = {
            (row[0], row[1]): row[2]
            for row in read(
                "SELECT s.type, s.state_key, event_id FROM room_state AS s JOIN events ON pos = from_pos "
                "WHERE s.room_id = ? AND to_pos = ?",
                (room_id, 2**63 - 1),
            )
        }
        asked = {key for key in now if key[0] in ("m.room.name", "com.example.note", "m.room.topic")}
        asked |= {("m.room.member", who) for who in room.senders | {me}}
        assert {key: room.state.get(key) for key in asked} == {key: now.get(key) for key in asked}
        ids = [row[0] for row in read("SELECT event_id FROM events WHERE room_id = ? ORDER BY pos", (room_id,))]
        assert room.timeline == ids[len(ids) - len(room.timeline) :]
        stored = read("SELECT type, content FROM account_data WHERE user_id = ? AND room_id = ?", (me, room_id))
        assert self.data.get(room_id, {}).keys() == {row[0] for row in stored}
        for type, user, event_id in read(
            "SELECT type, user_id, event_id FROM receipts WHERE room_id = ? AND thread_id = ''", (room_id,)
        ):
            if event_id in room.timeline or user == me:
                assert self.receipts.get((room_id, type, user)) == event_id


async def act(choose: random.Random, alice: Actor, bob: Actor, charlotte: Actor, rooms: list[str], number: int) -> None:
    """Something happens. What is not possible at the moment is refused, and that is fine."""
    room_id = choose.choice(rooms)
    sender = choose.choice((alice, bob, charlotte))
    path = f"/rooms/{q(room_id)}"
    what = choose.randrange(12)
    if what < 4:
        text = {"msgtype": "m.text", "body": f"m{number}"}
        answer = await sender.put(f"{path}/send/m.room.message/n{number}", text)
        if answer.status == 200 and choose.random() < 0.5:
            await choose.choice((bob, charlotte)).post(f"{path}/receipt/m.read/{q(answer.json['event_id'])}")
    elif what == 4:
        await alice.put(f"{path}/state/m.room.name/", {"name": f"name {number}"})
    elif what == 5:
        await alice.put(f"{path}/state/com.example.note/{choose.choice('abc')}", {"n": number})
    elif what == 6:
        await alice.put(f"{path}/state/m.room.topic/", {"topic": f"topic {number}"})
    elif what == 7:
        content = {"membership": "join", "displayname": f"C{number}"}
        await charlotte.put(f"{path}/state/m.room.member/{q(charlotte.user_id)}", content)
    elif what == 8:
        await alice.post(f"{path}/{choose.choice(('kick', 'invite', 'invite'))}", {"user_id": bob.user_id})
    elif what == 9:
        await bob.post(f"{path}/{choose.choice(('leave', 'join', 'join', 'join'))}")
    elif what == 10:
        await bob.put(f"/user/{q(bob.user_id)}{path}/tags/u.{number}", {})
    else:
        await charlotte.post(f"{path}/{choose.choice(('leave', 'join'))}")


async def sync(choose: random.Random, server: Appliance, client: Client, rooms: list[str], *, whole: bool) -> None:
    """The client asks for something."""
    end = ROOMS if whole else choose.randrange(3)
    body: dict[str, Any] = {"lists": {"all": a_list(0, end, limit=2, state=MORE if whole else STATE)}}
    if choose.random() < 0.5:
        opened = choose.sample(rooms, choose.randrange(1, 3))
        body["room_subscriptions"] = {room_id: a_subscription(5, MORE) for room_id in opened}
    body["extensions"] = (
        EXTENSIONS if whole or choose.random() < 0.7 else {"account_data": {"enabled": True, "lists": []}}
    )
    if choose.random() < 0.3:
        lost = a_list(0, choose.choice((end, ROOMS)), limit=choose.choice((2, 5)), state=MORE)
        await client.ask(pos=client.pos, **body | {"lists": {"all": lost}})  # the answer gets lost
    if choose.random() < 0.2:
        server.daemon.sliding_sync._connections._kept.clear()
    body["extensions"].setdefault("receipts", {"enabled": True, "lists": [], "rooms": []})
    client.apply(await client(**body))


@pytest.mark.parametrize("seed", range(6))
@pytest_twisted.ensureDeferred
async def test_a_client_knows_what_is_so(server: Appliance, seed: int) -> None:
    choose = random.Random(seed)
    alice, bob, charlotte = await people(server, "alice", "bob", "charlotte")
    rooms = [await room_of(alice, bob, charlotte, name=f"r{n}") for n in range(ROOMS)]
    client = Client(bob)
    for number in range(120):
        await act(choose, alice, bob, charlotte, rooms, number)
        if choose.random() < 0.3:
            await sync(choose, server, client, rooms, whole=False)
        if number % 20 == 19:
            await sync(choose, server, client, rooms, whole=True)
            client.check(server)
    read = server.daemon.engine.read
    rows = read("SELECT count(*) FROM sliding_rooms GROUP BY connection, room_id").fetchall()
    assert max(row[0] for row in rows) <= 2  # what was used last, and what was given last
    assert read("SELECT count(*) FROM sliding_connections").fetchone() == (1,)
