"""Reading a room's history: pages of it, one event, the surroundings of an event, the event nearest to a time.

Source: client-server API "Getting events for a room", "Event Context".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import orjson

from heichat_appliance.errors import not_found
from heichat_appliance.protocol.filters import RoomEventFilter
from heichat_appliance.services.reading import Reading, Wanted, look_through
from heichat_appliance.services.recent_pages import RecentPages
from heichat_appliance.services.render import Viewer
from heichat_appliance.services.tokens import Token
from heichat_appliance.services.visibility import Reach
from heichat_appliance.store import events, relations, state
from heichat_appliance.store.events import StoredEvent


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a room's history: token positions `start` and `to` (None: the end), direction, at most `limit`."""

    start: int | None
    to: int | None
    backwards: bool
    limit: int
    filter: RoomEventFilter = field(default_factory=RoomEventFilter)


class History:
    """GET /rooms/{roomId}/messages, /event, /context and /timestamp_to_event. The answers are pieces of JSON."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._engine = reading.engine
        self._pages = RecentPages()

    # -- pages ---------------------------------------------------------------------------------------------------

    def messages(self, viewer: Viewer, room_id: str, page: Page) -> list[bytes]:
        """A page; 403 M_FORBIDDEN if the person may not read the room."""
        reach = self._reading.reach(viewer.user_id, room_id)
        position = self._engine.position
        start = page.start
        if start is None:
            start = position if page.backwards else 0
        wanted = self._wanted(viewer.user_id, room_id, page.filter)
        found, end = look_through(
            self._engine.read, reach, start, page.limit,
            backwards=page.backwards, position=position, wanted=wanted, fetch=self._pages.in_room,
        )  # fmt: skip
        if page.to is not None:
            found, end = _cut(found, end, page)
        parts = [b'{"start":', self._token(start), b',"chunk":[']
        parts.append(b",".join(self._reading.render(viewer, reach, found)))
        if page.filter.lazy_load_members:
            ascending = reversed(found) if page.backwards else found
            members = self._reading.render_state(viewer, reach, self._members(room_id, ascending))
            parts += [b'],"state":[', b",".join(members)]
        parts += [b'],"end":', self._token(end), b"}"] if end is not None else [b"]}"]
        return parts

    def _token(self, position: int) -> bytes:
        return b'"%b"' % str(Token(position, self._engine.epoch)).encode()

    def _wanted(self, user_id: str, room_id: str, filter: RoomEventFilter) -> Wanted | None:
        """What the filter and the list of ignored people let through, None if everything."""
        if filter.is_default and not filter.asks_for_relations:
            return self._reading.unless_ignored(user_id, None)

        def wanted(event: StoredEvent) -> bool:
            return matches(filter, event) and (
                not filter.asks_for_relations
                or relations.has_child(
                    self._engine.read, event.event_id, filter.related_by_rel_types, filter.related_by_senders
                )
            )

        return self._reading.unless_ignored(user_id, wanted)

    def _members(self, room_id: str, ascending: Iterable[StoredEvent]) -> list[StoredEvent]:
        """The member events of the senders of events in order, each as of the newest event of theirs."""
        newest = {event.sender: event.pos for event in ascending}
        return state.members_as_of(self._engine.read, room_id, newest)

    # -- one event, and what is around it ------------------------------------------------------------------------

    def event(self, viewer: Viewer, room_id: str, event_id: str) -> list[bytes]:
        """One event; 404 M_NOT_FOUND."""
        reach, event = self._reading.event(viewer.user_id, room_id, event_id)
        return self._reading.render(viewer, reach, [event])

    def context(self, viewer: Viewer, room_id: str, event_id: str, limit: int, filter: RoomEventFilter) -> list[bytes]:
        """An event, `limit` events around it, and the state at the last of them; 404 M_NOT_FOUND."""
        reach, event = self._reading.event(viewer.user_id, room_id, event_id)
        wanted = self._wanted(viewer.user_id, room_id, filter)
        before, after = self.around(reach, event, limit // 2, limit - limit // 2, wanted)
        ordered = [*reversed(before), event, *after]
        rows = self._state(reach, ordered, filter)
        rendered = self._reading.render(viewer, reach, ordered)
        count = len(before)
        return [
            b'{"start":', self._token(ordered[0].pos - 1),
            b',"end":', self._token(ordered[-1].pos),
            b',"events_before":[', b",".join(reversed(rendered[:count])),
            b'],"event":', rendered[count],
            b',"events_after":[', b",".join(rendered[count + 1 :]),
            b'],"state":[', b",".join(self._reading.render_state(viewer, reach, rows)), b"]}",
        ]  # fmt: skip

    def around(
        self, reach: Reach, event: StoredEvent, before: int, after: int, wanted: Wanted | None
    ) -> tuple[list[StoredEvent], list[StoredEvent]]:
        """The visible events before (newest first) and after an event."""
        read, position = self._engine.read, self._engine.position
        older: list[StoredEvent] = []
        newer: list[StoredEvent] = []
        if before:
            older, _ = look_through(
                read, reach, event.pos - 1, before, backwards=True, position=position, wanted=wanted
            )
        if after:
            newer, _ = look_through(read, reach, event.pos, after, backwards=False, position=position, wanted=wanted)
        return older, newer

    def _state(self, reach: Reach, ordered: Sequence[StoredEvent], filter: RoomEventFilter) -> list[StoredEvent]:
        at = min(ordered[-1].pos, reach.upto)
        if filter.lazy_load_members:
            rows = state.all_but_members_at(self._engine.read, reach.room_id, at)
            rows += self._members(reach.room_id, ordered)
        else:
            rows = state.all_at(self._engine.read, reach.room_id, at)
        return [row for row in rows if matches(filter, row)]

    # -- times ---------------------------------------------------------------------------------------------------

    def nearest(self, user_id: str, room_id: str, ts: int, backwards: bool) -> dict[str, object]:
        """The event nearest to a time (ms since 1970), not after it if `backwards`, else not before it.

        403 M_FORBIDDEN, 404 M_NOT_FOUND. Events are taken to be in the order of their times, which the server's own
        clock gave them.
        """
        reach = self._reading.reach(user_id, room_id)
        read, position = self._engine.read, self._engine.position
        boundary = events.last_before_time(read, room_id, ts + 1 if backwards else ts, position)
        wanted = self._reading.unless_ignored(user_id, None)
        found, _ = look_through(read, reach, boundary, 1, backwards=backwards, position=position, wanted=wanted)
        if not found:
            raise not_found(f"ts: there is no event {'before' if backwards else 'after'} this time that you may see")
        return {"event_id": found[0].event_id, "origin_server_ts": found[0].ts}


def matches(filter: RoomEventFilter, event: StoredEvent) -> bool:
    """Whether the filter lets an event through, as far as the event itself tells."""
    if filter.is_default:
        return True
    content = orjson.loads(event.pdu)["content"] if filter.contains_url is not None else {}
    return filter.matches(event.type, event.sender, content, event.room_id)


def _cut(found: list[StoredEvent], end: int | None, page: Page) -> tuple[list[StoredEvent], int | None]:
    """Leave out what lies beyond the token position `page.to`."""
    to = page.to or 0
    kept = [event for event in found if (event.pos > to if page.backwards else event.pos <= to)]
    if len(kept) < len(found):
        return kept, to
    if end is not None and (end < to if page.backwards else end > to):
        return kept, to
    return kept, end
