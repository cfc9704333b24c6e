"""/sync: what a device does not know yet, or waiting until there is something.

An answer covers the positions after `since` up to the newest one that is on disk; `next_batch` is that one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import orjson
from twisted.internet.defer import Deferred

from heichat_appliance.clock import Clock
from heichat_appliance.db.engine import Engine
from heichat_appliance.notify import Notifier
from heichat_appliance.services import device_lists
from heichat_appliance.services.gap import Gap, Gaps
from heichat_appliance.services.people import Standing, Standings
from heichat_appliance.services.room_parts import by_room, event_json
from heichat_appliance.services.sync_devices import DeviceNews
from heichat_appliance.services.sync_rooms import Query, RoomSections
from heichat_appliance.services.tokens import Token
from heichat_appliance.services.waiting import Body, Waiting, in_slices
from heichat_appliance.store import account_data, to_device
from heichat_appliance.store.account_data import AccountData

#: The most presence events of one answer.
MAX_PRESENCE = 50


class Sync:
    """Answers /sync."""

    def __init__(
        self,
        engine: Engine,
        reactor: Any,
        clock: Clock,
        notifier: Notifier,
        gaps: Gaps,
        rooms: RoomSections,
        standings: Standings,
        push_rules: Callable[[str], dict[str, Any]],
        presence: Any,
    ) -> None:
        """`push_rules(user_id)`: the content of m.push_rules; `presence`: services.ephemeral.Presence."""
        self._engine = engine
        self._reactor = reactor
        self._clock = clock
        self._notifier = notifier
        self._rooms = rooms
        self._standings = standings
        self._push_rules = push_rules
        self._presence = presence
        self._gaps = gaps
        self._devices = DeviceNews(engine, notifier)
        self._waiting = Waiting(reactor, notifier)
        #: the newest position that was told, and how
        self._last_batch = (-1, b"")

    # -- asking and waiting --------------------------------------------------------------------------------------

    def answer(self, query: Query, since: Token | None, timeout_ms: int, set_presence: str | None) -> Deferred[Body]:
        """The answer's JSON in pieces, at once if there is anything to tell, else when there is or after the time-out."""
        self._presence.seen(query.viewer.user_id, set_presence)
        if since is None or since.epoch != self._engine.epoch or since.position > self._engine.position:
            query.since = None
            self._rooms.sent_members.forget(query.viewer)
            return self._initial(query, begins_anew=since is not None)
        query.since = since.position
        acknowledged = since.position if since.to_device is None else since.to_device
        if not self._devices.must_delete(query.viewer, acknowledged):
            return self._look(query, acknowledged, timeout_ms)
        # Deleted before the answer, so that nothing which was acknowledged is ever given again.
        deleted = self._engine.write(to_device.acknowledge, *query.viewer, acknowledged)
        return deleted.addCallback(lambda _: self._look(query, acknowledged, timeout_ms))

    def _look(self, query: Query, acknowledged: int, timeout_ms: int) -> Deferred[Body]:
        wait = 0 if query.full_state else timeout_ms
        return self._waiting.answer(query.viewer.user_id, wait, partial(self._news, query, acknowledged))

    def stop(self) -> None:
        """Answer everybody who waits; nobody waits from now on."""
        self._waiting.stop()

    # -- answers -------------------------------------------------------------------------------------------------

    def _news(self, query: Query, to_device_since: int, may_wait: bool) -> Body | None:
        found = self._incremental(query, to_device_since, may_wait=may_wait)
        return found if found is not None or may_wait else self._empty(query)

    def _empty(self, query: Query) -> Body:
        upto = self._engine.position
        return [b"{", *self._device_part(query, upto, set(), set()), self._next_batch(upto, None), b"}"]

    def _next_batch(self, upto: int, to_device_upto: int | None) -> bytes:
        known = self._last_batch
        if to_device_upto is not None or known[0] != upto:  # else everybody who wakes together gets the same
            token = Token(upto, self._engine.epoch, to_device_upto)
            known = (upto, b'"next_batch":"%b"' % str(token).encode())
            if to_device_upto is None:
                self._last_batch = known
        return known[1]

    def _initial(self, query: Query, *, begins_anew: bool) -> Deferred[Body]:
        """`begins_anew`: the device has a token that means nothing any more, and maybe device lists from then."""
        upto = self._engine.position
        viewer = query.viewer
        standing = self._standings.at(viewer.user_id, upto)
        query.ignored = standing.ignored
        data = self._rooms.all_account_data(viewer.user_id)
        messages, left_over = self._devices.messages(viewer, -1, upto)
        changed = device_lists.everybody(self._engine.read, viewer.user_id, upto) if begins_anew else set()

        def finish(rooms: Body) -> Body:
            return self._assemble(
                query, upto, rooms, self._global_data(query, data.get("", []), True), messages,
                left_over, changed, set(), self._presence_events(query, 0, standing),
            )  # fmt: skip

        rooms = in_slices(self._reactor, self._all_rooms(query, standing, data, upto))
        return rooms.addCallback(finish)

    def _all_rooms(
        self, query: Query, standing: Standing, data: dict[str, list[AccountData]], upto: int
    ) -> Iterator[bytes]:
        wanted = query.filter.room
        yield b'{"join":{'
        first = True
        joined = [room_id for room_id in standing.joined if wanted.includes_room(room_id)]
        start = self._rooms.begin(query.viewer.user_id, joined, upto)
        for room_id in joined:
            joined_at = standing.joined[room_id]
            section = self._rooms.whole(query, room_id, start, upto, joined_at, data.get(room_id, ()))
            if section is not None:
                yield _entry(room_id, section, first)
                first = False
        yield b"},"
        yield self._stripped_rooms(query, standing, 0)
        if wanted.include_leave:
            yield b',"leave":{'
            sections = (
                (room_id, self._rooms.left(query, room_id, None, pos))
                for room_id, pos in standing.left.items()
                if wanted.includes_room(room_id)
            )
            for index, (room_id, section) in enumerate(sections):
                yield _entry(room_id, section, not index)
            yield b"}"
        yield b"}"

    def _incremental(self, query: Query, to_device_since: int, *, may_wait: bool = False) -> Body | None:
        """What happened after `since`; None if there is nothing to tell.

        With `may_wait` presence alone is not worth an answer: it rides along with the next one (see services.presence).
        """
        since, upto = query.since or 0, self._engine.position
        if may_wait and since == upto and to_device_since >= upto:
            return None
        viewer = query.viewer
        standing = self._standings.at(viewer.user_id, upto)
        query.ignored = standing.ignored
        gap = self._gaps.get(since, upto)
        messages, left_over = self._devices.messages(viewer, to_device_since, upto)
        is_touched = self._notifier.touched(viewer.user_id) > since
        data = by_room(account_data.changed(self._engine.read, viewer.user_id, since, upto)) if is_touched else {}
        rooms = self._changed_rooms(query, standing, gap, data, upto)
        global_data = self._global_data(query, data.get("", []), False) if is_touched else []
        changed: set[str] = set()
        left: set[str] = set()
        if gap.may_change_device_lists:
            changed, left = device_lists.changed_and_left(self._engine.read, viewer.user_id, since, upto)
        something = rooms or messages or global_data or changed or left or query.full_state
        if may_wait and not something:
            return None
        presence = self._presence_events(query, since, standing)
        if not (something or presence):
            return None
        return self._assemble(query, upto, rooms, global_data, messages, left_over, changed, left, presence)

    def _changed_rooms(
        self, query: Query, standing: Standing, gap: Gap, data: dict[str, list[AccountData]], upto: int
    ) -> Body:
        wanted = query.filter.room
        if query.full_state:
            candidates = set(standing.joined)
        else:
            candidates = gap.touched_among(standing.joined)
            for others in (self._rooms.typing.changed_since(gap.after), data):
                if others:
                    candidates |= standing.joined.keys() & others
        joined: Body = []
        for room_id in candidates:
            if wanted.includes_room(room_id):
                section = self._rooms.joined(query, room_id, gap, upto, standing.joined[room_id], data.get(room_id, ()))
                if section is not None:
                    joined.append(_entry(room_id, section, not joined))
        other = self._other_rooms(query, standing, gap)
        if not joined and not other:
            return []
        return [b'{"join":{', *joined, b"}", *other, b"}"]

    def _other_rooms(self, query: Query, standing: Standing, gap: Gap) -> Body:
        if standing.changed_at <= gap.after:
            return []
        left: Body = []
        for room_id, pos in standing.left.items():
            if pos <= gap.after or not query.filter.room.includes_room(room_id):
                continue
            if query.filter.room.include_leave or standing.was_in(self._engine.read, room_id, gap.after):
                left.append(_entry(room_id, self._rooms.left(query, room_id, gap, pos), not left))
        stripped = self._stripped_rooms(query, standing, gap.after)
        if not left and stripped == _NO_STRIPPED:
            return []
        return [b",", stripped, b',"leave":{', *left, b"}"]

    def _stripped_rooms(self, query: Query, standing: Standing, after: int) -> bytes:
        parts = []
        for name, kind, rooms in (
            (b"invite", "invite_state", standing.invited),
            (b"knock", "knock_state", standing.knocking),
        ):
            entries: Body = []
            for room_id, pos in rooms.items():
                if pos > after and query.filter.room.includes_room(room_id):
                    member = self._rooms.membership_event(pos)
                    if member is not None and member.sender not in query.ignored:
                        section = self._rooms.stripped(room_id, member, kind)
                        entries.append(_entry(room_id, [section], not entries))
            parts.append(b'"%b":{%b}' % (name, b"".join(entries)))
        return b",".join(parts)

    def _global_data(self, query: Query, rows: Sequence[AccountData], initial: bool) -> list[bytes]:
        wanted = query.filter.account_data
        result = [event_json(row) for row in rows if wanted.matches(row.type, None)]
        if wanted.matches("m.push_rules", None):
            stored = account_data.push_rule_changes(self._engine.read, query.viewer.user_id)
            if initial or (stored is not None and stored[1] > (query.since or 0)):
                rules = self._push_rules(query.viewer.user_id)
                result.append(b'{"type":"m.push_rules","content":%b}' % orjson.dumps(rules))
        return result

    def _presence_events(self, query: Query, since: int, standing: Standing) -> list[dict[str, Any]]:
        """What changed after `since` (0: who is there) among people who share a room; at most MAX_PRESENCE."""
        if since and not self._presence.changed_after(since):
            return []
        wanted = query.filter.presence
        if not wanted.matches("m.presence", None) or not standing.joined:
            return []
        changed = self._presence.changed(standing.acquaintances(), since)
        known = (one for one in changed if one not in query.ignored and wanted.matches("m.presence", one))
        return [self._presence.event(user_id) for user_id in islice(known, MAX_PRESENCE)]

    def _assemble(
        self,
        query: Query,
        upto: int,
        rooms: Body,
        global_data: list[bytes],
        messages: list[dict[str, Any]],
        to_device_upto: int | None,
        changed: set[str],
        left: set[str],
        presence: list[dict[str, Any]],
    ) -> Body:
        body: Body = [b"{"]
        if rooms:
            body += [b'"rooms":', *rooms, b","]
        if global_data:
            body += [b'"account_data":{"events":[', b",".join(global_data), b"]},"]
        if messages:
            body += [b'"to_device":', orjson.dumps({"events": messages}), b","]
        if presence:
            body += [b'"presence":', orjson.dumps({"events": presence}), b","]
        return [*body, *self._device_part(query, upto, changed, left), self._next_batch(upto, to_device_upto), b"}"]

    def _device_part(self, query: Query, upto: int, changed: set[str], left: set[str]) -> Body:
        body: Body = [self._devices.counts(query.viewer), b","]
        if changed or left:
            lists = {"device_lists": {"changed": sorted(changed), "left": sorted(left)}}
            body += [orjson.dumps(lists)[1:-1], b","]
        return body


_NO_STRIPPED = b'"invite":{},"knock":{}'


def _entry(room_id: str, section: Sequence[bytes], first: bool) -> bytes:
    return b"".join((b"" if first else b",", orjson.dumps(room_id), b":", *section))
