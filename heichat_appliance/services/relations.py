"""Events that relate to an event, and the threads of a room.

Source: client-server API "Relationships API", "Querying threads in a room".
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from heichat_appliance.protocol import redaction
from heichat_appliance.protocol.canonicaljson import encode
from heichat_appliance.protocol.roomversions import ROOM_VERSIONS
from heichat_appliance.services.reading import Reading, look_through
from heichat_appliance.services.render import Viewer
from heichat_appliance.services.tokens import Token
from heichat_appliance.services.visibility import Reach
from heichat_appliance.store import events, state
from heichat_appliance.store import relations as stored
from heichat_appliance.store.events import Execute, StoredEvent

#: How many steps `recurse` goes: the event itself to children of children of children.
DEPTH = 3
#: Events of threads that one request looks through for thread roots.
MAX_LOOKED_THROUGH = 2_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which relations: token positions `start` and `to` (None: the end), direction, at most `limit`, kinds."""

    start: int | None
    to: int | None
    backwards: bool
    limit: int
    recurse: bool | None = None
    rel_type: str | None = None
    type: str | None = None


class Relations:
    """GET /rooms/{roomId}/relations/{eventId} and /threads. The answers are pieces of JSON."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._engine = reading.engine

    # -- relations -----------------------------------------------------------------------------------------------

    async def children(self, viewer: Viewer, room_id: str, event_id: str, wanted: Wanted) -> list[bytes]:
        """The events that relate to an event; 404 M_NOT_FOUND if the person may not see that."""
        reach, _ = self._reading.event(viewer.user_id, room_id, event_id)
        position = self._engine.position
        start = wanted.start if wanted.start is not None else (position if wanted.backwards else 0)
        # The other end is a bound of the positions that are looked at.
        low, high = (wanted.to or 0, position) if wanted.backwards else (0, _least(wanted.to, position))
        depth = DEPTH if wanted.recurse else 1

        def fetch(execute: Execute, _: str, after: int, upto: int, limit: int, *, backwards: bool) -> list[StoredEvent]:
            span = max(after, low), min(upto, high)
            return stored.children(
                execute, event_id, span, limit, backwards=backwards, depth=depth,
                rel_type=wanted.rel_type, type=wanted.type,
            )  # fmt: skip

        kept = self._reading.unless_ignored(viewer.user_id, None)

        def find(execute: Execute) -> tuple[list[StoredEvent], int | None]:
            return look_through(
                execute, reach, start, wanted.limit, backwards=wanted.backwards, position=position, wanted=kept,
                fetch=fetch,
            )  # fmt: skip

        found, more = await self._engine.read_in_thread(find) if wanted.recurse else find(self._engine.read)
        parts = [b'{"chunk":[', b",".join(self._reading.render(viewer, reach, found)), b"]"]
        if more is not None:
            parts.append(b',"next_batch":"%b"' % self._token(more))
        if wanted.start is not None:
            parts.append(b',"prev_batch":"%b"' % self._token(start))
        if wanted.recurse is not None:
            parts.append(b',"recursion_depth":%d' % depth)
        return [*parts, b"}"]

    def _token(self, position: int) -> bytes:
        return str(Token(position, self._engine.epoch)).encode()

    # -- threads -------------------------------------------------------------------------------------------------

    def threads(self, viewer: Viewer, room_id: str, start: int | None, limit: int, participated: bool) -> list[bytes]:
        """The roots of threads, those with the newest events first; 403 M_FORBIDDEN. `participated`: only threads of
        which the person sent the root or an event."""
        reach = self._reading.reach(viewer.user_id, room_id)
        ignored = self._reading.ignored(viewer.user_id)
        found, more = self._roots(reach, start, limit, participated, ignored)
        shown = [self._redacted(root) if root.sender in ignored else root for root in found]
        parts = [b'{"chunk":[', b",".join(self._reading.render(viewer, reach, shown)), b"]"]
        if more is not None:
            parts.append(b',"next_batch":"%b"' % self._token(more))
        return [*parts, b"}"]

    def _roots(
        self, reach: Reach, start: int | None, limit: int, participated: bool, ignored: frozenset[str]
    ) -> tuple[list[StoredEvent], int | None]:
        """Thread roots by their newest events, and the token position from which to go on."""
        read, position = self._engine.read, self._engine.position
        upto = position if start is None else min(start, position)
        found: list[StoredEvent] = []
        seen: set[str] = set()
        left = MAX_LOOKED_THROUGH
        for span in reversed([*stored.clip(reach.ranges, 0, upto)]):
            rows = stored.thread_events(read, reach.room_id, span, left)
            for pos, root_id, sender in rows:
                if root_id in seen or sender in ignored:
                    continue
                seen.add(root_id)
                root = events.by_id(read, root_id)
                if root is None or not reach.sees(root.pos) or self._came_before(reach, root_id, upto, ignored):
                    continue
                if participated and root.sender != reach.user_id and not self._took_part(reach, root_id):
                    continue
                if len(found) == limit:
                    return found, pos
                found.append(root)
            left -= len(rows)
            if left <= 0:
                return found, rows[-1][0] - 1
        return found, None

    def _came_before(self, reach: Reach, root_id: str, upto: int, ignored: frozenset[str]) -> bool:
        """Whether the thread has an event after `upto`, so that it was on an earlier page."""
        spans = stored.clip(reach.ranges, upto, self._engine.position)
        return any(stored.thread(self._engine.read, root_id, span, reach.user_id, ignored).count for span in spans)

    def _took_part(self, reach: Reach, root_id: str) -> bool:
        return stored.has_child(self._engine.read, root_id, ("m.thread",), (reach.user_id,))

    def _redacted(self, root: StoredEvent) -> StoredEvent:
        """A root by somebody whom the person ignores, as if it were redacted (spec, "GET .../threads")."""
        version = ROOM_VERSIONS[state.room_version(self._engine.read, root.room_id) or ""]
        bare = encode(redaction.redact(version, orjson.loads(root.pdu))).decode()
        # `redacted_by` names no event, but tells the renderer and the bundles that this is not the event as it is.
        return root._replace(pdu=bare, redacted_by=root.redacted_by or "")


def _least(one: int | None, other: int) -> int:
    return other if one is None else min(one, other)
