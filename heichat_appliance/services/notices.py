"""Server notices: the room in which the administrator account writes to one person.

Source: client-server API, "Server Notices" (tag `m.server_notice`, one room per person, nobody else writes in it).
"""

from __future__ import annotations

from typing import Any

import orjson

from heichat_appliance import ids
from heichat_appliance.db.engine import Transaction
from heichat_appliance.protocol.roomversions import DEFAULT, ROOM_VERSIONS
from heichat_appliance.services.timeline import RoomView, Timeline
from heichat_appliance.store import account_data, consent, events, profiles

ROOM_NAME = "Server Notices"
TOPIC = "Mitteilungen des Dienstes / Messages from the service"
#: In the place of the device that an event was sent from: the administrator has none.
_NO_DEVICE = ""


class Notices:
    """Writes notices as `administrator` (a user ID), inside the write jobs of others."""

    def __init__(self, timeline: Timeline, server_name: str, administrator: str) -> None:
        self._timeline = timeline
        self._server_name = server_name
        self.administrator = administrator

    def post(
        self,
        tx: Transaction,
        user_id: str,
        content: dict[str, Any],
        asked_version: str | None = None,
        once: str | None = None,
    ) -> bool:
        """Send a message to the person, in their room of notices; the room is made, or they are invited again, if need
        be. `asked_version`: the version of the terms that this message asks for; `once`: a name of this notice, which
        nobody gets twice. Whether it was sent now."""
        known = consent.notice_room(tx.execute, user_id)
        if once is not None and known is not None and self._has(tx, known[0], once):
            return False
        view = self._create(tx, user_id) if known is None else self._timeline.view(tx, known[0])
        if view.membership(user_id) not in ("join", "invite"):
            self._add(tx, view, "m.room.member", self._member(tx, user_id, "invite"), user_id)
        self._timeline.append(
            tx, view, type="m.room.message", sender=self.administrator, content={"msgtype": "m.text", **content},
            device_id=None if once is None else _NO_DEVICE, txn_id=once,
        )  # fmt: skip
        asked = asked_version if asked_version is not None or known is None else known[1]
        consent.put_notice_room(tx, user_id, view.room_id, asked)
        return True

    def _has(self, tx: Transaction, room_id: str, once: str) -> bool:
        known = events.by_transaction(tx.execute, self.administrator, _NO_DEVICE, once, room_id, "m.room.message")
        return known is not None

    def _create(self, tx: Transaction, user_id: str) -> RoomView:
        version = ROOM_VERSIONS[DEFAULT]
        room_id = ids.new_room_id(self._server_name)
        view = self._timeline.create_room(tx, version, room_id, self.administrator, {"room_version": DEFAULT})
        self._add(tx, view, "m.room.member", {"membership": "join", "displayname": ROOM_NAME}, self.administrator)
        levels = {
            "users": {self.administrator: 100},
            "users_default": -10,  # so that only the administrator writes
            "events_default": 0,
            "state_default": 100,
            "invite": 100,
        }
        self._add(tx, view, "m.room.power_levels", levels)
        self._add(tx, view, "m.room.join_rules", {"join_rule": "invite"})
        self._add(tx, view, "m.room.history_visibility", {"history_visibility": "shared"})
        self._add(tx, view, "m.room.guest_access", {"guest_access": "forbidden"})
        self._add(tx, view, "m.room.name", {"name": ROOM_NAME})
        self._add(tx, view, "m.room.topic", {"topic": TOPIC})
        tags = orjson.dumps({"tags": {"m.server_notice": {}}}).decode()
        account_data.put(tx, user_id, view.room_id, "m.tag", tags)
        return view

    def _add(self, tx: Transaction, view: RoomView, type: str, content: dict[str, Any], state_key: str = "") -> None:
        self._timeline.append(tx, view, type=type, sender=self.administrator, content=content, state_key=state_key)

    @staticmethod
    def _member(tx: Transaction, user_id: str, membership: str) -> dict[str, Any]:
        shown = profiles.display(tx.execute, user_id)
        content: dict[str, Any] = {"membership": membership}
        if shown.display_name is not None:
            content["displayname"] = shown.display_name
        return content
