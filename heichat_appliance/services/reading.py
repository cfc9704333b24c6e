"""What all that reads rooms has in common: who may read what, looking through history, and showing events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from heichat_appliance.clock import Clock
from heichat_appliance.db.engine import Engine
from heichat_appliance.errors import MatrixError, not_found
from heichat_appliance.services import visibility
from heichat_appliance.services.people import Standings
from heichat_appliance.services.render import Renderer, Viewer
from heichat_appliance.services.visibility import Reach
from heichat_appliance.store import events
from heichat_appliance.store.events import Execute, StoredEvent

#: Events that one request looks through for some that it wants.
MAX_LOOKED_THROUGH = 2_000
STEP = 500

Wanted = Callable[[StoredEvent], bool]
#: As store.events.in_room: (execute, room ID, after, upto, limit, backwards=...).
Fetch = Callable[..., list[StoredEvent]]


class IBundles(Protocol):
    """Gives `unsigned."m.relations"`: `services.bundles.Bundles`."""

    def of(
        self, found: Sequence[StoredEvent], user_id: str, ignored: frozenset[str], reach: Reach | None = None
    ) -> dict[str, bytes]:
        """The JSON of those events that have any, by event ID."""


class Reading:
    """Collaborator of the services that read rooms."""

    def __init__(
        self, engine: Engine, clock: Clock, renderer: Renderer, standings: Standings, bundles: IBundles
    ) -> None:
        self.engine = engine
        self.clock = clock
        self.renderer = renderer
        self._standings = standings
        self._bundles = bundles

    def reach(self, user_id: str, room_id: str) -> Reach:
        """How much of a room a person may read now; 403 M_FORBIDDEN if nothing."""
        return visibility.reach(self.engine.read, user_id, room_id, self.engine.position)

    def ignored(self, user_id: str) -> frozenset[str]:
        """Whom the person ignores: their messages, but not their state events, are kept from the person."""
        return self._standings.at(user_id, self.engine.position).ignored

    def joined(self, user_id: str) -> dict[str, int]:
        """The rooms that the person is joined to, and where the present stay in each began."""
        return self._standings.at(user_id, self.engine.position).joined

    def event(self, user_id: str, room_id: str, event_id: str) -> tuple[Reach, StoredEvent]:
        """An event that the person may see; 404 M_NOT_FOUND for any other, whatever the reason."""
        missing = not_found(
            "there is no such event that you may see / Es gibt kein solches Ereignis, das Sie sehen dürfen"
        )
        try:
            reach = self.reach(user_id, room_id)
        except MatrixError:
            raise missing from None
        found = events.by_id(self.engine.read, event_id)
        if found is None or found.room_id != room_id or found.pos > self.engine.position or not reach.sees(found.pos):
            raise missing
        if found.state_key is None and found.sender in self.ignored(user_id):
            raise missing
        return reach, found

    def unless_ignored(self, user_id: str, wanted: Wanted | None) -> Wanted | None:
        """`wanted`, and not of somebody whom the person ignores; None if everything is wanted."""
        ignored = self.ignored(user_id)
        if not ignored:
            return wanted

        def check(event: StoredEvent) -> bool:
            return (event.state_key is not None or event.sender not in ignored) and (wanted is None or wanted(event))

        return check

    def render(self, viewer: Viewer, reach: Reach, found: Sequence[StoredEvent]) -> list[bytes]:
        """The JSON of events of one room as the person sees them, with bundled aggregations."""
        now = self.clock.now_ms()
        relations = self._bundles.of(found, viewer.user_id, self.ignored(viewer.user_id), reach)
        return self.renderer.render_all(found, now, viewer, _memberships(reach, found), relations)

    def render_state(self, viewer: Viewer, reach: Reach, found: Sequence[StoredEvent]) -> list[bytes]:
        """The JSON of state events of one room (they have no bundled aggregations)."""
        return self.renderer.render_all(found, self.clock.now_ms(), viewer, _memberships(reach, found), {})


def _memberships(reach: Reach, found: Sequence[StoredEvent]) -> Iterable[str]:
    return reach.memberships_at([event.pos for event in found])


def look_through(
    execute: Execute,
    reach: Reach,
    start: int,
    limit: int,
    *,
    backwards: bool,
    position: int,
    wanted: Wanted | None = None,
    fetch: Fetch = events.in_room,
) -> tuple[list[StoredEvent], int | None]:
    """At most `limit` events that the person may see, from the token position `start` on, and the token position from
    which to go on, None at the end of what they may see. `position`: the newest one that counts; `fetch`: which events
    of the room.

    Looks at a bounded number of events, so that fewer than `limit` may be found before the end.
    """
    found: list[StoredEvent] = []
    looked_at = 0
    for after, upto in _spans(reach, start, position, backwards):
        while after < upto:
            size = limit + 1 - len(found) if wanted is None else STEP
            rows = fetch(execute, reach.room_id, after, upto, size, backwards=backwards)
            for row in rows:
                if wanted is None or wanted(row):
                    if len(found) == limit:
                        return found, _beyond(found[-1], backwards)
                    found.append(row)
            if len(rows) < size:
                break
            after, upto = (after, rows[-1].pos - 1) if backwards else (rows[-1].pos, upto)
            looked_at += len(rows)
            if looked_at >= MAX_LOOKED_THROUGH:
                return found, _beyond(rows[-1], backwards)
    return found, None


def _spans(reach: Reach, start: int, position: int, backwards: bool) -> Iterator[tuple[int, int]]:
    """The visible positions on this side of `start` as after < pos <= upto, in the order of reading."""
    for first, end in reversed(reach.ranges) if backwards else reach.ranges:
        if backwards:
            yield first - 1, min(end - 1, start, position)
        else:
            yield max(first - 1, start), min(end - 1, position)


def _beyond(event: StoredEvent, backwards: bool) -> int:
    """The token position behind an event."""
    return event.pos - 1 if backwards else event.pos
