"""The list of events that a person was notified of (client-server API "Listing Notifications").

Nothing is stored for it: the newest events of the person's rooms are judged by their push rules as they are now.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

import orjson

from heichat_appliance.services.reading import Reading
from heichat_appliance.services.render import Viewer
from heichat_appliance.services.tokens import Token
from heichat_appliance.services.unread import Unread
from heichat_appliance.store import events, receipts
from heichat_appliance.store.events import StoredEvent

#: Events that one request judges.
MAX_JUDGED = 500
#: Events of a room that are read at once.
STEP = 5


class Notifications:
    """GET /notifications."""

    def __init__(self, reading: Reading, unread: Unread) -> None:
        self._reading = reading
        self._engine = reading.engine
        self._unread = unread

    def page(self, viewer: Viewer, start: int | None, limit: int, only_highlights: bool) -> dict[str, Any]:
        """The newest notifications at or before the token position `start` (None: now), newest first."""
        position = self._engine.position
        upto = position if start is None else min(start, position)
        joined = self._reading.joined(viewer.user_id)
        ignored = self._reading.ignored(viewer.user_id)
        rooms = [self._newest(room_id, since, upto) for room_id, since in joined.items()]
        marks: dict[str, dict[str, int]] = {}
        found: list[dict[str, Any]] = []
        answer: dict[str, Any] = {"notifications": found}
        for judged, event in enumerate(heapq.merge(*rooms, key=lambda event: -event.pos)):
            if len(found) == limit or judged == MAX_JUDGED:
                answer["next_token"] = str(Token(event.pos, self._engine.epoch))
                break
            if event.sender == viewer.user_id or event.sender in ignored or event.redacted_by is not None:
                continue
            actions, thread = self._unread.actions(viewer.user_id, event)
            if actions.highlight or (actions.notify and not only_highlights):
                own = marks.get(event.room_id)
                if own is None:
                    own = marks[event.room_id] = self._marks(viewer.user_id, event.room_id)
                read_upto = max(own.get("", 0), own.get(thread, 0))
                found.append(self._entry(viewer, event, list(actions.raw), event.pos <= read_upto))
        return answer

    def _newest(self, room_id: str, since: int, upto: int) -> Iterator[StoredEvent]:
        """The events of a room after `since`, newest first."""
        while True:
            rows = events.in_room(self._engine.read, room_id, since, upto, STEP, backwards=True)
            yield from rows
            if len(rows) < STEP:
                return
            upto = rows[-1].pos - 1

    def _marks(self, user_id: str, room_id: str) -> dict[str, int]:
        """How far the person has read, by thread ('' for all)."""
        marks: dict[str, int] = {}
        for receipt in receipts.of_user(self._engine.read, room_id, user_id):
            marks[receipt.thread_id] = max(marks.get(receipt.thread_id, 0), receipt.event_pos)
        return marks

    def _entry(self, viewer: Viewer, event: StoredEvent, actions: list[Any], is_read: bool) -> dict[str, Any]:
        json = self._reading.renderer.render(
            event, self._reading.clock.now_ms(), viewer=viewer, membership="join", with_room_id=False
        )
        return {
            "actions": actions,
            "event": orjson.Fragment(json),
            "read": is_read,
            "room_id": event.room_id,
            "ts": event.ts,
        }
