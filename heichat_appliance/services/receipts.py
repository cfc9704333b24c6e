"""Receipts and read markers (client-server API "Receipts", "Read and unread markers").

A public and a private receipt are independent of each other; whichever is further ahead counts for what is unread.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from twisted.internet.defer import Deferred

from heichat_appliance.clock import Clock
from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import forbidden, invalid_param, not_found
from heichat_appliance.protocol.visibility import is_visible
from heichat_appliance.services import visibility
from heichat_appliance.services.wakeups import Wakeups
from heichat_appliance.store import account_data, events, receipts, state
from heichat_appliance.store.events import StoredEvent

FULLY_READ = "m.fully_read"
TYPES = (receipts.READ, receipts.PRIVATE, FULLY_READ)


class Receipts:
    """Moves the markers of what a person has read; none ever goes backwards."""

    def __init__(self, engine: Engine, clock: Clock, wakeups: Wakeups) -> None:
        self._engine = engine
        self._clock = clock
        self._wakeups = wakeups

    def mark(
        self, user_id: str, room_id: str, markers: Mapping[str, str], thread_id: str | None = None
    ) -> Deferred[None]:
        """Move markers: `markers` has event IDs by type. `thread_id`: a root's event ID, 'main', None for unthreaded.

        All move or none. Raises 400 M_INVALID_PARAM for other types and for a thread that does not fit; fails with 403
        M_FORBIDDEN if the person is not joined, 404 M_NOT_FOUND for an event that is not in the room or not visible.
        """
        for type in markers:
            if type not in TYPES:
                raise invalid_param(f"the receipt type must be one of {', '.join(TYPES)}")
        if thread_id is not None and (not thread_id or FULLY_READ in markers):
            raise invalid_param("thread_id must not be empty, and can't be given for m.fully_read")
        return self._engine.write(self._mark, user_id, room_id, dict(markers), thread_id)

    def _mark(
        self, tx: Transaction, user_id: str, room_id: str, markers: dict[str, str], thread_id: str | None
    ) -> None:
        now = state.membership_now(tx.execute, user_id, room_id)
        if now is None or now.membership != "join":
            raise forbidden("you are not in this room / Sie sind nicht in diesem Raum")
        for type, event_id in markers.items():
            event = events.by_id(tx.execute, event_id)
            if event is None or event.room_id != room_id or not _may_see(tx, user_id, event, now.from_pos):
                raise not_found(f"there is no event {event_id} in this room that you may see")
            if thread_id is not None and not _fits(tx, event, thread_id):
                raise invalid_param("thread_id: the event does not belong to this thread")
            if type == FULLY_READ:
                _move_fully_read(tx, user_id, event)
            else:
                self._move(tx, user_id, type, event, thread_id or "")

    def _move(self, tx: Transaction, user_id: str, type: str, event: StoredEvent, thread_id: str) -> None:
        moved = receipts.advance(
            tx, event.room_id, user_id, type, thread_id, event.event_id, event.pos, self._clock.now_ms()
        )
        if moved:
            tx.users.add(user_id)
            if type == receipts.READ:
                self._wakeups.announce(tx, event.room_id)


def _move_fully_read(tx: Transaction, user_id: str, event: StoredEvent) -> None:
    """The marker lives in the room's account data, and is changed here alone."""
    before = account_data.get(tx.execute, user_id, event.room_id, FULLY_READ)
    if before is not None:
        old = events.by_id(tx.execute, orjson.loads(before)["event_id"])
        if old is not None and old.pos >= event.pos:
            return
    content = orjson.dumps({"event_id": event.event_id}).decode()
    account_data.put(tx, user_id, event.room_id, FULLY_READ, content)


def _may_see(tx: Transaction, user_id: str, event: StoredEvent, joined_from: int) -> bool:
    if event.pos >= joined_from:  # since then the person is joined
        return True
    return is_visible(visibility.ranges(tx.execute, user_id, event.room_id), event.pos)


def _fits(tx: Transaction, event: StoredEvent, thread_id: str) -> bool:
    """Whether a receipt for the event may be of this thread.

    A root, and what relates to it (an edit, a reaction), are in the main timeline, but clients also mark a thread as
    read up to its root. A redacted event has lost its relation: the thread only has to be one of this room.
    """
    thread, target = receipts.thread_of(tx.execute, event.pos)
    if thread_id in (thread, event.event_id, target):
        return True
    if event.redacted_by is None:
        return False
    root = events.by_id(tx.execute, thread_id)
    return root is not None and root.room_id == event.room_id
