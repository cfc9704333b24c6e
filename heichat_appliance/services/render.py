"""Events as clients see them: the JSON is made once per event and spliced into every answer as bytes.

Source: client-server API, "Room event format" and `unsigned`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from heichat_appliance.db.engine import Engine
from heichat_appliance.store import events
from heichat_appliance.store.events import StoredEvent

#: Events whose JSON is kept in memory.
MAX_CACHED = 10_000
#: Bytes of an event that is too large to be kept.
LARGE_EVENT = 4_096


class Viewer(NamedTuple):
    """Whose answer it is: `transaction_id` is shown to the device that sent the event."""

    user_id: str
    device_id: str


class _Parts(NamedTuple):
    redacted_by: str | None
    head: bytes  # '{"content":...,...,"type":"..."' without room_id and the closing brace
    room: bytes  # ',"room_id":"..."'
    unsigned: bytes  # ',"redacted_because":...,"replaces_state":...' or b""
    prev_content: bytes  # ',"prev_content":...,"prev_sender":...' or b""
    prev_pos: int


class Piece:
    """JSON of several events, the same for many people, to be kept: only the events' ages are put in when it is told."""

    __slots__ = ("_format", "_times", "size")

    def __init__(self, templates: Sequence[bytes], events: Sequence[StoredEvent]) -> None:
        """`templates`: `Renderer.template` of the events."""
        self._format = b",".join(templates)
        self._times = [event.ts for event in events]
        self.size = len(self._format)

    def at(self, now_ms: int) -> bytes:
        """The JSON objects, with commas between them."""
        return self._format % tuple([now_ms - ts if ts < now_ms else 0 for ts in self._times])


class Renderer:
    """Makes client JSON of stored events."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cache: OrderedDict[str, _Parts] = OrderedDict()
        self._redacted_quoted: set[str] = set()

    def redacting_quoted(self, event_id: str) -> None:
        """An event that others quote is being redacted: `prev_content` of the event that took a state event's place, or
        `redacted_because` of what a redaction redacted, is not to be kept any more."""
        self._redacted_quoted.add(event_id)

    def render(
        self,
        event: StoredEvent,
        now_ms: int,
        *,
        viewer: Viewer | None = None,
        membership: str | None = None,
        with_room_id: bool = True,
        visible_from: int = 0,
        relations: bytes | None = None,
    ) -> bytes:
        """The client event as JSON.

        `membership`: of the viewer at the event (`unsigned.membership`); `visible_from`: the viewer may see events from
        this position on, so an earlier `prev_content` is left out; `relations`: JSON for `unsigned."m.relations"`.
        """
        parts = self._parts(event)
        unsigned = [b'{"age":%d' % max(0, now_ms - event.ts), parts.unsigned, _membership(membership)]
        if parts.prev_content and parts.prev_pos >= visible_from:
            unsigned.append(parts.prev_content)
        if relations is not None:
            unsigned.append(b',"m.relations":' + relations)
        if viewer is not None and event.sender == viewer.user_id and event.device_id == viewer.device_id:
            unsigned.append(_transaction(event))
        room = parts.room if with_room_id else b""
        return b"".join((parts.head, room, b',"unsigned":', *unsigned, b"}}"))

    def render_all(
        self,
        found: Sequence[StoredEvent],
        now_ms: int,
        viewer: Viewer,
        memberships: Iterable[str],
        relations: Mapping[str, bytes],
    ) -> list[bytes]:
        """What `render` gives of several events. `memberships`: of the viewer at each; `relations`: by event ID."""
        user_id, device_id = viewer
        rendered = []
        for event, membership in zip(found, memberships, strict=True):
            parts = self._parts(event)
            bundle = relations.get(event.event_id)
            transaction = _transaction(event) if event.sender == user_id and event.device_id == device_id else b""
            rendered.append(
                b'%b%b,"unsigned":{"age":%d%b%b%b%b%b}}' % (
                    parts.head, parts.room, now_ms - event.ts if event.ts < now_ms else 0, parts.unsigned,
                    _MEMBERSHIPS[membership], parts.prev_content,
                    b"" if bundle is None else b',"m.relations":' + bundle, transaction,
                )
            )  # fmt: skip
        return rendered

    def template(self, event: StoredEvent, membership: str | None = None) -> bytes:
        """What `render` gives to a member who did not send the event, without room_id, as a format with `%d` for the age:
        for what is kept longer than a moment (`Piece`)."""
        parts = self._parts(event)
        rest = b"".join((parts.unsigned, _membership(membership), parts.prev_content, b"}}"))
        return b'%b,"unsigned":{"age":%%d%b' % (parts.head.replace(b"%", b"%%"), rest.replace(b"%", b"%%"))

    def as_dict(self, event: StoredEvent, now_ms: int, **options: Any) -> dict[str, Any]:
        """The same as an object, for the rare places that go on working with it."""
        value: dict[str, Any] = orjson.loads(self.render(event, now_ms, **options))
        return value

    @staticmethod
    def stripped(event: StoredEvent) -> dict[str, Any]:
        """Stripped state (spec "Stripped state"): content, sender, state_key, type."""
        return {
            "content": orjson.loads(event.pdu)["content"],
            "sender": event.sender,
            "state_key": event.state_key,
            "type": event.type,
        }

    def _parts(self, event: StoredEvent) -> _Parts:
        parts = self._cache.get(event.event_id)
        usable = event.replaces not in self._redacted_quoted and event.redacted_by not in self._redacted_quoted
        if usable and parts is not None and parts.redacted_by == event.redacted_by:
            self._cache.move_to_end(event.event_id)
            return parts
        parts = self._make(event)
        if len(parts.head) + len(parts.prev_content) + len(parts.unsigned) <= LARGE_EVENT:
            self._cache[event.event_id] = parts
            if len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)
        return parts

    def _make(self, event: StoredEvent) -> _Parts:
        content = events.content_json(event.pdu)
        rest = b"" if event.state_key is None else b',"state_key":' + orjson.dumps(event.state_key)
        if event.type == "m.room.redaction":
            content, redacts = _with_redacts(content, event.pdu)
            rest += redacts
        head = b'{"content":%b,"event_id":%b,"origin_server_ts":%d,"sender":%b,"type":%b%b' % (
            content, orjson.dumps(event.event_id), event.ts, orjson.dumps(event.sender), orjson.dumps(event.type), rest,
        )  # fmt: skip
        unsigned = b""
        if event.redacted_by is not None:
            because = events.by_id(self._engine.read, event.redacted_by)
            if because is not None:
                unsigned += b',"redacted_because":' + self.render(because, because.ts)
        prev_content, prev_pos = b"", 0
        if event.replaces is not None:
            unsigned += b',"replaces_state":' + orjson.dumps(event.replaces)
            before = events.by_id(self._engine.read, event.replaces)
            if before is not None:
                prev_pos = before.pos
                prev_content = b',"prev_content":%b,"prev_sender":%b' % (
                    events.content_json(before.pdu),
                    orjson.dumps(before.sender),
                )
        room = b',"room_id":' + orjson.dumps(event.room_id)
        return _Parts(event.redacted_by, head, room, unsigned, prev_content, prev_pos)


def _transaction(event: StoredEvent) -> bytes:
    return b"" if event.txn_id is None else b',"transaction_id":' + orjson.dumps(event.txn_id)


def _membership(membership: str | None) -> bytes:
    return b"" if membership is None else _MEMBERSHIPS[membership]


_MEMBERSHIPS = {one: b',"membership":"%b"' % one.encode() for one in ("join", "invite", "leave", "ban", "knock")}


def _with_redacts(content: bytes, pdu: str) -> tuple[bytes, bytes]:
    """A redaction's content, and what follows: `redacts` is at both places, whichever the room version has (rooms/v11,
    "Moving the redacts property")."""
    raw = orjson.loads(pdu)
    target = raw.get("redacts") or raw["content"].get("redacts")
    if target is None:
        return content, b""
    return orjson.dumps({**raw["content"], "redacts": target}), b',"redacts":' + orjson.dumps(target)
