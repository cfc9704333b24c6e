"""Filling the search index, a little behind the timeline.

Sending does not pay for it: events are indexed in batches, when enough of them wait or when somebody searches. The index says
how far it is in the same commit, so nothing is lost or done twice, and a search catches up before it looks.
"""

from __future__ import annotations

from typing import Any

import orjson
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from heichat_appliance.db.engine import Engine, EngineStopped, Transaction
from heichat_appliance.protocol import relations
from heichat_appliance.services.bundles import latest_edit
from heichat_appliance.store import events, search
from heichat_appliance.store import relations as stored
from heichat_appliance.store.events import StoredEvent

log = Logger()

#: Events of one write job.
BATCH = 128
#: Positions that may wait before they are indexed without a search.
BACKLOG = 512
MESSAGE = "m.room.message"


class SearchIndex:
    """Keeps the index; `committed` is a listener of the notifier."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._done = search.position(engine.read)
        self._working = False

    def committed(self, position: int, rooms: set[str], users: set[str]) -> None:
        """Something was written: begin to index if much is waiting."""
        if rooms and not self._working and position - self._done >= BACKLOG:
            self._working = True
            Deferred.fromCoroutine(self.catch_up()).addErrback(self._failed).addBoth(self._stopped)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(EngineStopped):
            log.error("the search index could not be filled: {reason}", reason=failure.getErrorMessage())

    def _stopped(self, _: Any) -> None:
        self._working = False

    async def catch_up(self) -> None:
        """Index everything that is committed now."""
        target = self._engine.position
        while self._done < target:
            self._done = max(self._done, await self._engine.write(_index_batch, target))


def _index_batch(tx: Transaction, target: int) -> int:
    """Index the next events; up to which position the index is whole then."""
    batch = events.after(tx.execute, search.position(tx.execute), BATCH)
    for event in batch:
        _take(tx, event)
    if not batch:
        return target
    search.set_position(tx, batch[-1].pos)
    return batch[-1].pos if len(batch) == BATCH else max(target, batch[-1].pos)


def _take(tx: Transaction, event: StoredEvent) -> None:
    """What an event means for the index."""
    if event.type == "m.room.redaction":
        _redacted(tx, event)
    elif event.type == MESSAGE and event.state_key is None:
        content = _content(event)
        relation = relations.relation_of(content)
        if relation is None or relation.rel_type != relations.REPLACE:
            _put(tx, event, event, content)
        else:
            original = events.by_id(tx.execute, relation.parent)
            if original is not None and original.room_id == event.room_id:
                _refresh(tx, original)
    elif event.type in ("m.room.name", "m.room.topic") and event.state_key == "":
        _put(tx, event, event, _content(event))


def _redacted(tx: Transaction, redaction: StoredEvent) -> None:
    raw = orjson.loads(redaction.pdu)
    target_id = raw.get("redacts") or raw["content"].get("redacts")
    target = events.by_id(tx.execute, target_id) if isinstance(target_id, str) else None
    if target is None or target.redacted_by is None:
        return
    search.remove(tx, target.pos)
    original_pos = search.edited_by(tx.execute, target.pos)
    original = events.by_position(tx.execute, original_pos) if original_pos is not None else None
    if original is not None:
        _refresh(tx, original)


def _refresh(tx: Transaction, original: StoredEvent) -> None:
    """Index a message as of its latest edit; edits that are redacted relate to nothing any more."""
    edit = latest_edit(tx.execute, original, stored.edits(tx.execute, original))
    if original.redacted_by is None and original.type == MESSAGE:
        _put(tx, original, edit or original, _content(edit)["m.new_content"] if edit else _content(original))


def _put(tx: Transaction, event: StoredEvent, source: StoredEvent, content: dict[str, Any]) -> None:
    texts = _texts(event.type, content)
    if texts:
        search.put(tx, event.pos, source.pos, event.room_id, texts)
    else:
        search.remove(tx, event.pos)


def _texts(type: str, content: dict[str, Any]) -> dict[str, str]:
    """The texts to index (client-server API "Server Side Search", `room_events`)."""
    if type == "m.room.topic":
        both = [content.get("topic"), *_plain_topics(content.get("m.topic"))]
        topics = [text for text in both if isinstance(text, str)]
        return {"topic": "\n".join(dict.fromkeys(topics))} if any(topics) else {}
    key = "name" if type == "m.room.name" else "body"
    text = content.get(key)
    return {key: text} if isinstance(text, str) and text else {}


def _plain_topics(block: Any) -> list[Any]:
    """The text/plain representations in `m.topic`."""
    texts = block.get("m.text") if isinstance(block, dict) else None
    entries = [entry for entry in texts if isinstance(entry, dict)] if isinstance(texts, list) else []
    return [entry.get("body") for entry in entries if entry.get("mimetype", "text/plain") == "text/plain"]


def _content(event: StoredEvent) -> dict[str, Any]:
    content: dict[str, Any] = orjson.loads(event.pdu)["content"]
    return content
