"""Bundled aggregations: what `unsigned."m.relations"` of an event says of edits, its thread and references.

Source: client-server API "Aggregations of child events", and the server behaviour of m.replace, m.thread and m.reference.
Children that the person may not see, or by somebody whom they ignore, do not count.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from heichat_appliance.clock import Clock
from heichat_appliance.db.engine import Engine
from heichat_appliance.protocol import pdu, relations
from heichat_appliance.protocol.roomversions import ROOM_VERSIONS
from heichat_appliance.services import visibility
from heichat_appliance.services.render import Renderer
from heichat_appliance.services.visibility import Reach
from heichat_appliance.store import events, state
from heichat_appliance.store import relations as stored
from heichat_appliance.store.events import StoredEvent

#: References that a bundle lists; the relations endpoint gives the others.
MAX_REFERENCES = 200


class Bundles:
    """Makes the bundled aggregations of events."""

    def __init__(self, engine: Engine, clock: Clock, renderer: Renderer) -> None:
        self._engine = engine
        self._clock = clock
        self._renderer = renderer
        self._last_asked: tuple[int, ...] = ()
        self._last_answer = False

    def has_any(self, found: Sequence[StoredEvent], newest: bool = False) -> bool:
        """Whether one of the events may have a bundle: at most one cheap query for all of them, and for all people who
        wait for the same events. `newest`: they are the last events of their room and none is left out, so that their
        children, which are later ones, are among them."""
        asked = self._asked(found)
        if asked != self._last_asked:
            self._last_asked = asked
            childless = newest and not any('"m.relates_to"' in event.pdu for event in found)
            self._last_answer = not childless and bool(
                stored.with_children(self._engine.read, [event.event_id for event in found])
            )
        return self._last_answer

    def _asked(self, found: Sequence[StoredEvent]) -> tuple[int, ...]:
        return self._engine.position, *(event.pos for event in found)

    def of(
        self, found: Sequence[StoredEvent], user_id: str, ignored: frozenset[str], reach: Reach | None = None
    ) -> dict[str, bytes]:
        """The bundles as JSON, by event ID, of those events that have one. `reach`: of the person, if the caller has it
        and all events are of its room. State events have none."""
        if not self._last_answer and self._asked(found) == self._last_asked:
            return {}
        ids = [event.event_id for event in found if event.state_key is None]
        parents = stored.with_children(self._engine.read, ids) if ids else set()
        result: dict[str, bytes] = {}
        if not parents:
            return result
        reaches = {reach.room_id: reach} if reach is not None else {}
        for event in found:
            if event.event_id in parents and event.state_key is None:
                if event.room_id not in reaches:
                    read, position = self._engine.read, self._engine.position
                    reaches[event.room_id] = visibility.reach_of_sync(read, user_id, event.room_id, position)
                bundle = self._bundle(event, reaches[event.room_id], ignored)
                if bundle:
                    result[event.event_id] = orjson.dumps(bundle)
        return result

    def _bundle(self, event: StoredEvent, reach: Reach, ignored: frozenset[str]) -> dict[str, object]:
        read, upto = self._engine.read, self._engine.position
        edit = self.latest_edit(event, reach)
        references: list[str] = []
        count, latest, participated = 0, 0, event.sender == reach.user_id
        for span in stored.clip(reach.ranges, event.pos, upto):
            if len(references) < MAX_REFERENCES:
                references += stored.references(read, event.event_id, span, ignored, MAX_REFERENCES - len(references))
            thread = stored.thread(read, event.event_id, span, reach.user_id, ignored)
            if thread.count:
                count, latest = count + thread.count, thread.latest
                participated = participated or thread.participated
        return relations.bundle(
            replacement=self._json(edit, reach) if edit is not None else None,
            thread=(self._latest(latest, reach, ignored), count, participated) if count else None,
            references=references,
        )

    def latest_edit(self, event: StoredEvent, reach: Reach) -> StoredEvent | None:
        """The newest valid edit of an event that the person may see; none of a redacted one."""
        if event.redacted_by is not None:
            return None
        edits = [
            e for e in stored.edits(self._engine.read, event) if reach.sees(e.pos) and e.pos <= self._engine.position
        ]
        return latest_edit(self._engine.read, event, edits) if edits else None

    def _latest(self, pos: int, reach: Reach, ignored: frozenset[str]) -> orjson.Fragment:
        """The newest event of a thread, with its own bundle. A child is no thread's root, so this goes no deeper."""
        event = events.by_position(self._engine.read, pos)
        assert event is not None, pos
        return self._json(event, reach, self.of([event], reach.user_id, ignored, reach).get(event.event_id))

    def _json(self, event: StoredEvent, reach: Reach, bundle: bytes | None = None) -> orjson.Fragment:
        membership = reach.membership_at(event.pos)
        return orjson.Fragment(
            self._renderer.render(event, self._clock.now_ms(), membership=membership, relations=bundle)
        )


def latest_edit(execute: events.Execute, event: StoredEvent, edits: Sequence[StoredEvent]) -> StoredEvent | None:
    """The newest valid edit of an event among `edits`."""
    version = ROOM_VERSIONS[state.room_version(execute, event.room_id) or ""]
    original, *others = (pdu.load(version, one.event_id, one.pdu, one.room_id) for one in (event, *edits))
    latest = relations.latest_replacement(original, others)
    return None if latest is None else next(one for one in edits if one.event_id == latest.event_id)
