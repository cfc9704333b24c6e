"""A small room made of real PDUs, for the tests of the rules."""

from __future__ import annotations

import hashlib
from typing import Any

from nacl.signing import SigningKey

from heichat_appliance.protocol import auth, pdu
from heichat_appliance.protocol.roomversions import RoomVersion

SERVER = "uni.example"
SIGNER = pdu.Signer(SERVER, "ed25519:1", SigningKey(hashlib.sha256(b"test").digest()))

ALICE, BOB, CAROL, DAVE = (f"@{name}:{SERVER}" for name in ("alice", "bob", "carol", "dave"))


class Room:
    """The state of a room. Alice made it and is in it; `event` makes events that would come next, `apply` adds them."""

    def __init__(self, version: RoomVersion, create_content: dict[str, Any] | None = None) -> None:
        self.version = version
        self.state: dict[tuple[str, str], pdu.Pdu] = {}
        self.room_id: str | None = None if version.room_id_is_create_hash else f"!room:{SERVER}"
        self.last: pdu.Pdu | None = None
        content = {"room_version": version.identifier, **({"creator": ALICE} if version.creator_in_content else {})}
        self.apply(self.event("m.room.create", ALICE, content | (create_content or {}), ""))
        assert self.last is not None
        self.create = self.last
        self.room_id = self.create.room_id
        self.member(ALICE, "join")

    def event(
        self, type: str, sender: str, content: dict[str, Any], state_key: str | None = None, **changes: Any
    ) -> pdu.Pdu:
        """An event that follows the last one, with the auth_events it should have unless `changes` say otherwise."""
        fields: dict[str, Any] = {
            "room_id": self.room_id,
            "prev_events": [self.last.event_id] if self.last else [],
            "auth_events": auth.select_auth_events(self.version, type, sender, state_key, content, self.state),
            "depth": self.last.depth + 1 if self.last else 1,
            "origin_server_ts": 1,
        }
        return pdu.build(
            self.version,
            type=type,
            sender=sender,
            content=content,
            state_key=state_key,
            signer=SIGNER,
            **(fields | changes),
        )

    def apply(self, event: pdu.Pdu) -> None:
        """Put an event into the room, allowed or not."""
        self.last = event
        if event.state_key is not None:
            self.state[event.type, event.state_key] = event

    def set(self, type: str, content: dict[str, Any], state_key: str = "", sender: str = ALICE) -> None:
        """Put a state event into the room without asking the rules."""
        self.apply(self.event(type, sender, content, state_key))

    def member(self, user_id: str, membership: str, sender: str | None = None) -> None:
        """Put a membership into the room without asking the rules."""
        self.set("m.room.member", {"membership": membership}, user_id, sender or user_id)

    def refusal(self, event: pdu.Pdu) -> str | None:
        """The number of the rule that refuses the event, None if it is allowed."""
        try:
            auth.check(self.version, event, self.state)
        except auth.AuthError as error:
            name, _, number = error.rule.partition(" ")
            assert name == f"rooms/v{self.version.identifier}"
            assert " / " in str(error)
            return number
        return None

    def refuses(self, type: str, sender: str, content: dict[str, Any], state_key: str | None = None) -> str | None:
        """refusal of an event made by event()."""
        return self.refusal(self.event(type, sender, content, state_key))
