"""`kill -9` in the midst of sending: what was acknowledged is there, under the same ID, once, in a history that is whole."""

from __future__ import annotations

import http.client
import random
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.daemon import Daemon, Person, wait_until

ROUNDS = 20
SENDERS = 8
PEOPLE = ("alice", "bob", "charlotte", "david")


class Sender(threading.Thread):
    """Sends one message after another until the server is gone. `acknowledged`: text to event ID; `unanswered`: the
    text whose request got no answer; `wrong`: what must not happen."""

    def __init__(self, person: Person, room_id: str, name: str) -> None:
        super().__init__()
        self.person = person
        self.room_id = room_id
        self.prefix = name
        self.acknowledged: dict[str, str] = {}
        self.unanswered = ""
        self.wrong: Exception | None = None

    def run(self) -> None:
        """The thread's work."""
        number = 0
        try:
            while True:
                number += 1
                self.unanswered = f"{self.prefix}.{number}"
                self.acknowledged[self.unanswered] = self.person.send(self.room_id, self.unanswered, self.unanswered)
        except (OSError, http.client.HTTPException):
            return  # the server is gone
        except Exception as error:
            self.wrong = error


def send_until_killed(daemon: Daemon, people: list[Person], rooms: list[str], round: int, after: int) -> list[Sender]:
    """Eight senders, in two rooms, and a kill -9 once `after` messages are acknowledged."""
    senders = [
        Sender(people[n % len(people)].again(), rooms[n // len(people)], f"round{round}.sender{n}")
        for n in range(SENDERS)
    ]
    for sender in senders:
        sender.start()
    try:
        wait_until(lambda: sum(len(sender.acknowledged) for sender in senders) >= after, 30, f"{after} messages")
    finally:
        daemon.kill()
        for sender in senders:
            sender.join(10)
    assert [sender.wrong for sender in senders if sender.wrong] == []
    return senders


def history(person: Person, room_id: str) -> dict[str, list[str]]:
    """Text to event IDs of all messages of a room, read page by page."""
    found: dict[str, list[str]] = {}
    params: dict[str, Any] = {"dir": "b", "limit": 200}
    while True:
        page = person.ok("GET", f"/rooms/{quote(room_id)}/messages", **params)
        for event in page["chunk"]:
            if event["type"] == "m.room.message":
                found.setdefault(event["content"]["body"], []).append(event["event_id"])
        if "end" not in page:
            return found
        params["from"] = page["end"]


@pytest.mark.slow
def test_every_acknowledged_event_is_there_after_kill(tmp_path: Path) -> None:
    chance = random.Random(20)
    expected: dict[str, dict[str, str]] = {}
    with Daemon(tmp_path) as daemon:
        people = [daemon.login(name) for name in PEOPLE]
        rooms = [people[0].create_room(invite=[person.user_id for person in people[1:]]) for _ in range(2)]
        expected = {room_id: {} for room_id in rooms}
        for person in people[1:]:
            for room_id in rooms:
                person.ok("POST", f"/join/{quote(room_id)}", {})
        since = people[0].sync()["next_batch"]
        for round in range(ROUNDS):
            senders = send_until_killed(daemon, people, rooms, round, after=chance.randint(SENDERS, 120))
            daemon.start()
            assert "whole" in daemon.verify()
            for sender in senders:
                check_round(sender)
                expected[sender.room_id] |= sender.acknowledged
        for room_id in rooms:
            found = history(people[-1].again(), room_id)
            assert {text: ids for text, ids in found.items() if len(ids) != 1} == {}, "each message is there once"
            assert {text: ids[0] for text, ids in found.items()} == expected[room_id]
        alice = people[0].again()
        texts = [
            event["content"]["body"]
            for event in alice.sync(since=since)["rooms"]["join"][rooms[0]]["timeline"]["events"]
        ]
        assert texts and set(texts) <= set(expected[rooms[0]]), "a sync token outlives all of it"


def check_round(sender: Sender) -> None:
    """What this sender was told is so; what it was not told it can repeat, and it happens once."""
    person = sender.person.again()
    for text, event_id in sender.acknowledged.items():
        event = person.ok("GET", f"/rooms/{quote(sender.room_id)}/event/{quote(event_id)}")
        assert event["content"]["body"] == text and event["sender"] == person.user_id
    for text, event_id in list(sender.acknowledged.items())[-2:]:
        assert person.send(sender.room_id, text, txn=text) == event_id, "the same transaction is the same event"
    sender.acknowledged[sender.unanswered] = person.send(sender.room_id, sender.unanswered, txn=sender.unanswered)
