"""Simplified sliding sync (MSC4186): what a client sees through the windows that it opens on its rooms, and no more.

The rooms of a request are those in the windows of its lists, and those that it subscribes to. For each the connection
remembers up to where the client knows it (services.sliding_memory); an answer tells the rest, up to one position. A room
that falls out of the windows is remembered as known up to there, and comes back with what happened since.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any, NamedTuple

import orjson
from twisted.internet.defer import Deferred

from heichat_appliance.clock import Clock
from heichat_appliance.db.engine import Engine
from heichat_appliance.notify import Notifier
from heichat_appliance.services.ephemeral import Typing
from heichat_appliance.services.gap import Gap, Gaps
from heichat_appliance.services.people import Standings
from heichat_appliance.services.presence import Presence
from heichat_appliance.services.render import Viewer
from heichat_appliance.services.room_parts import RoomParts
from heichat_appliance.services.sliding_extensions import Answer, SlidingExtensions
from heichat_appliance.services.sliding_lists import Ask, Lists, RoomIndex, Windows, Wish
from heichat_appliance.services.sliding_memory import LIVE, NEVER, Connection, Connections, Pos, parse_pos
from heichat_appliance.services.sliding_request import SlidingRequest
from heichat_appliance.services.sliding_rooms import SlidingRooms
from heichat_appliance.services.unread import Unread
from heichat_appliance.services.waiting import Body, Waiting, in_slices
from heichat_appliance.store import state, to_device

#: Up to so many rooms are told at a stretch; more in slices of time.
FEW = 25


class _Call(NamedTuple):
    """A request. `connection` and `pos` are None for a new connection; `turn`: of the connection at this request."""

    viewer: Viewer
    request: SlidingRequest
    connection: Connection | None
    pos: Pos | None
    turn: int

    @property
    def conn_id(self) -> str:
        return self.request.conn_id or ""

    @property
    def is_outdated(self) -> bool:
        """Whether the client has made another request since."""
        return self.connection is not None and self.connection.turn != self.turn


class SlidingSync:
    """Answers sliding sync."""

    def __init__(
        self,
        engine: Engine,
        reactor: Any,
        clock: Clock,
        notifier: Notifier,
        gaps: Gaps,
        parts: RoomParts,
        unread: Unread,
        standings: Standings,
        typing: Typing,
        presence: Presence,
        push_rules: Callable[[str], dict[str, Any]],
    ) -> None:
        """`push_rules(user_id)`: the content of m.push_rules."""
        self._engine = engine
        self._reactor = reactor
        self._notifier = notifier
        self._standings = standings
        self._presence = presence
        self._connections = Connections(engine, clock)
        self._index = RoomIndex(engine)
        notifier.listeners.append(self._index.committed)
        self._lists = Lists(engine, self._index)
        self._rooms = SlidingRooms(engine, self._index, parts, unread)
        self._extensions = SlidingExtensions(engine, notifier, typing, push_rules)
        self._gaps = gaps
        self._waiting = Waiting(reactor, notifier)

    def answer(
        self, viewer: Viewer, request: SlidingRequest, pos: str | None, timeout_ms: int, set_presence: str | None
    ) -> Deferred[Body]:
        """The answer's JSON in pieces: at once without `pos` or if there is anything to tell, else when there is or after
        the time-out. Raises, or fails with, 400: M_UNKNOWN_POS, M_INVALID_PARAM for a bad to_device token."""
        self._presence.seen(viewer.user_id, set_presence)
        acknowledged = self._extensions.acknowledged(viewer, request)
        if pos is None:
            call, wait = _Call(viewer, request, None, None, 0), 0
        else:
            token = parse_pos(pos)
            connection = self._connections.use(viewer, request.conn_id or "", token)
            call, wait = _Call(viewer, request, connection, token, connection.turn), timeout_ms
        look = partial(self._look, call)
        if acknowledged is None:
            return self._waiting.answer(viewer.user_id, wait, look)
        # Deleted before the answer, so that nothing which was acknowledged is ever given again.
        deleted = self._engine.write(to_device.acknowledge, *viewer, acknowledged)
        return deleted.addCallback(lambda _: self._waiting.answer(viewer.user_id, wait, look))

    def stop(self) -> None:
        """Answer everybody who waits; nobody waits from now on."""
        self._waiting.stop()

    # -- one look ------------------------------------------------------------------------------------------------

    def _look(self, call: _Call, may_wait: bool) -> Any:
        """The answer (Body) as of now or a Deferred of it; None if there is nothing to tell and it may wait."""
        if call.is_outdated:
            return _nothing(call)
        ask = self._ask(call)
        gap = None if ask.since is None else self._gaps.get(ask.since, ask.upto)
        windows = self._lists.windows(ask)
        answer = Answer(call.connection.rooms if call.connection is not None else {})
        self._add_left(ask, windows, answer)
        wishes = list(self._candidates(ask, gap, windows, answer))
        sections = self._sections(ask, gap, wishes, answer)
        finish = partial(self._finish, call, ask, gap, windows, answer)
        if len(wishes) <= FEW:
            return finish(may_wait, list(sections))
        return in_slices(self._reactor, sections).addCallback(partial(finish, False))

    def _ask(self, call: _Call) -> Ask:
        upto = self._engine.position
        user_id = call.viewer.user_id
        since = None if call.pos is None else call.pos.position
        standing = self._standings.at(user_id, upto)
        ask = Ask(self._engine, call.viewer, call.request, since, upto, standing)
        if since is not None and standing.changed_at > since:
            for one in state.membership_changes_of_user(self._engine.read, user_id, since, upto):
                if one.to_pos > upto and one.membership in ("leave", "ban"):
                    ask.newly_left[one.room_id] = one.from_pos
        return ask

    @staticmethod
    def _add_left(ask: Ask, windows: Windows, answer: Answer) -> None:
        """Whoever knows a room must hear that they are out of it, wherever it stands in the list."""
        for room_id in ask.newly_left:
            memory = answer.memory(room_id)
            if memory.sent != NEVER:
                windows.wishes.setdefault(room_id, Wish(memory.limit, memory.required))

    def _candidates(self, ask: Ask, gap: Gap | None, windows: Windows, answer: Answer) -> Iterator[tuple[str, Wish]]:
        """The rooms of which there may be something to tell."""
        touched = None if gap is None else self._touched(gap, ask.viewer.user_id, windows.wishes)
        for room_id, wish in windows.wishes.items():
            if touched is not None and room_id not in touched:
                memory = answer.memory(room_id)
                if memory.sent == LIVE and memory.limit == wish.limit and memory.required == wish.required:
                    continue
            yield room_id, wish

    def _touched(self, gap: Gap, user_id: str, rooms: Collection[str]) -> Collection[str]:
        """Those of the rooms in which something happened that is told in them, and maybe others."""
        found = gap.touched_rooms()
        if found is not None:
            return found
        if self._notifier.touched(user_id) > gap.after:
            return rooms
        last = self._index.last_positions(rooms)
        return {room_id for room_id in rooms if last[room_id] > gap.after}

    def _sections(self, ask: Ask, gap: Gap | None, wishes: list[tuple[str, Wish]], answer: Answer) -> Iterator[bytes]:
        first = True
        for room_id, wish in wishes:
            section = self._rooms.section(ask, gap, room_id, wish, answer.memory(room_id))
            answer.remember(room_id, section.memory)
            if section.whole is not None:
                answer.whole[room_id] = section.whole
            if section.body is not None:
                yield b"".join((b"" if first else b",", orjson.dumps(room_id), b":", section.body))
                first = False

    def _finish(
        self, call: _Call, ask: Ask, gap: Gap | None, windows: Windows, answer: Answer, may_wait: bool, rooms: Body
    ) -> Any:
        if call.is_outdated:
            return _nothing(call)
        if gap is not None:
            self._demote(gap, windows, answer)
        extensions = self._extensions.all(ask, gap, windows, answer)
        if may_wait and not (rooms or answer.has_news):
            return None
        body = [b',"rooms":{', *rooms, b'},"extensions":', extensions, b"}"]
        if windows.lists:
            body[:0] = [b',"lists":', _lists_json(windows)]
        connection, viewer, changes = call.connection, call.viewer, answer.changes
        if connection is None:
            stored = self._connections.create(viewer, call.conn_id, changes, ask.upto)
        elif changes:
            stored = self._connections.advance(viewer, call.conn_id, connection, changes, ask.upto)
        else:
            return [_pos_json(Pos(connection.id, connection.used, ask.upto, self._engine.epoch)), *body]
        return stored.addCallback(lambda pos: [_pos_json(pos), *body])

    def _demote(self, gap: Gap, windows: Windows, answer: Answer) -> None:
        """Rooms with news that are in no window are known up to the gap only."""
        touched = gap.touched_rooms()
        if touched is None:
            live = answer.live("sent")
            last = self._index.last_positions(live)
            touched = {room_id for room_id in live if last[room_id] > gap.after}
        for room_id in touched - windows.wishes.keys():
            memory = answer.memory(room_id)
            if memory.sent == LIVE:
                answer.remember(room_id, memory._replace(sent=gap.after))


def _lists_json(windows: Windows) -> bytes:
    return orjson.dumps(
        {
            name: {
                "count": count,
                "ops": [{"op": "SYNC", "range": [start, end], "room_ids": rooms} for start, end, rooms in ranges],
            }
            for name, (count, ranges) in windows.lists.items()
        }
    )


def _pos_json(pos: Pos) -> bytes:
    return b'{"pos":"%b"' % str(pos).encode()


def _nothing(call: _Call) -> Body:
    """For a request that was overtaken by another one: nothing new, and the same token."""
    assert call.pos is not None
    return [_pos_json(call.pos), b',"rooms":{},"extensions":{}}']
