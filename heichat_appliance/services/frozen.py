"""Rooms that the operator has frozen: nobody can write or join there, everybody may leave."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from heichat_appliance.clock import Clock
from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import forbidden
from heichat_appliance.services.timeline import Draft
from heichat_appliance.store import administration

WHY = "The administration of this server has closed this room. / Die Administration dieses Servers hat diesen Raum geschlossen."
_LEAVING = ("leave", "ban")


class FrozenRooms:
    """Knows them, and is asked about every event (an event policy)."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._frozen = administration.frozen_rooms(engine.read)

    def __contains__(self, room_id: str) -> bool:
        return room_id in self._frozen

    def check_event(self, draft: Draft) -> None:
        """403 M_FORBIDDEN for what would add something to a frozen room."""
        if draft.room is None or draft.room.room_id not in self._frozen:
            return
        content: dict[str, Any] = draft.content
        leaves = draft.type == "m.room.member" and content.get("membership") in _LEAVING
        if not leaves and draft.type != "m.room.redaction":
            raise forbidden(WHY)

    def freeze(self, room_id: str, frozen: bool) -> Deferred[None]:
        """Freeze a room, or give it free again. The caller knows that it exists."""
        return self._engine.write(self._job, room_id, frozen)

    def _job(self, tx: Transaction, room_id: str, frozen: bool) -> None:
        administration.set_frozen(tx, room_id, frozen, self._clock.now_ms())
        before = self._frozen
        tx.on_rollback(lambda: setattr(self, "_frozen", before))
        # At once and not after the commit: the jobs that follow in the same group must hold to it.
        self._frozen = before | {room_id} if frozen else before - {room_id}
