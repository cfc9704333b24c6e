"""The room sections of a /sync answer, as bytes.

Source: client-server API "Syncing", and the description of `GET /sync`. A section is made for one person, but what does
not depend on the person (the timeline of a gap) is made once and shared (`Gap.shared`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from heichat_appliance.db.engine import Engine
from heichat_appliance.protocol import fieldpaths
from heichat_appliance.protocol.filters import Filter, RoomEventFilter
from heichat_appliance.services.ephemeral import Typing
from heichat_appliance.services.gap import Gap, last_events
from heichat_appliance.services.render import Viewer
from heichat_appliance.services.room_parts import (
    RoomParts,
    by_room,
    event_json,
    heroes_among,
    receipt_content,
    visible_receipts,
)
from heichat_appliance.services.sent_members import SentMembers
from heichat_appliance.services.tokens import Token
from heichat_appliance.services.unread import MAIN, ZERO, Fresh, Unread
from heichat_appliance.services.whole_rooms import Start, Whole, WholeRooms, receipts_event
from heichat_appliance.store import account_data, events, receipts, relations, state
from heichat_appliance.store.account_data import AccountData
from heichat_appliance.store.events import StoredEvent
from heichat_appliance.store.receipts import Receipt

#: Events of a timeline when the filter names no limit, and the most it may ask for.
DEFAULT_LIMIT = 10
MAX_LIMIT = 100
#: With a filter, so many times the limit are looked through.
FILTER_REACH = 10


@dataclass(slots=True)
class Query:
    """What a person asks of /sync. `since`: position, None for an initial sync; `filter_key`: equal for equal filters."""

    viewer: Viewer
    since: int | None
    filter: Filter
    filter_key: str
    full_state: bool = False
    #: b"state", or the name under which the client wants the state after the timeline
    state_section: bytes = b"state"
    ignored: frozenset[str] = frozenset()

    @property
    def use_state_after(self) -> bool:
        """Whether the state after the timeline is asked for, not the state before it."""
        return self.state_section != b"state"


class _Same(NamedTuple):
    """What most people get of a room in a gap: all of the section but for the counts; its events, their senders."""

    json: bytes
    fresh: Fresh
    senders: frozenset[str]


class RoomSections:
    """Makes the sections of joined, left, invited and knocked rooms."""

    def __init__(self, engine: Engine, parts: RoomParts, unread: Unread, typing: Typing) -> None:
        self._engine = engine
        self._parts = parts
        self._unread = unread
        self.typing = typing
        self.sent_members = SentMembers()
        self._whole_rooms = WholeRooms(engine, parts)
        #: `begin(user_id, room_ids, upto)`: what `whole` needs to know of all rooms of an answer.
        self.begin = self._whole_rooms.start

    # -- joined rooms --------------------------------------------------------------------------------------------

    def whole(self, query: Query, room_id: str, start: Start, upto: int, joined_at: int,
              room_account_data: Sequence[AccountData]) -> list[bytes] | None:  # fmt: skip
        """The section of a joined room for a device that knows nothing, mostly out of what is the same for all."""
        room_filter = query.filter.room
        wanted, last = room_filter.timeline, start.events[room_id]
        shareable = (
            wanted.is_default
            and not wanted.asks_for_relations
            and room_filter.state.is_default
            and room_filter.state.lazy_load_members
            and query.filter.event_fields is None
        )
        whole = (
            self._whole_rooms.room(room_id, last, _limit(wanted), state_after=query.use_state_after)
            if shareable
            else None
        )
        if whole is None or whole.first < joined_at or query.viewer in whole.state_devices:
            return self.joined(query, room_id, None, upto, joined_at, room_account_data)
        ephemeral, own_receipt = self._ephemeral(query, room_id, None, upto, start.receipts[room_id])
        extra = self._account_data(query, room_account_data)
        return [
            b'{"timeline":', *self._whole_timeline(query, room_id, whole, last, joined_at),
            b',"', query.state_section, b'":{"events":[', *self._whole_state(query, room_id, whole, start, upto), b"]}",
            b',"ephemeral":{"events":[', b",".join(ephemeral), b']},"account_data":{"events":[', b",".join(extra), b"]}",
            _whole_summary(query, whole),
            self._counts(query, room_id, None, upto, own_receipt, joined_at, last),
            b"}",
        ]  # fmt: skip

    def _whole_timeline(self, query: Query, room_id: str, whole: Whole, last: int, joined_at: int) -> list[bytes]:
        if whole.timeline is None or query.viewer in whole.devices or not query.ignored.isdisjoint(whole.senders):
            found, _ = last_events(self._engine, room_id, whole.first - 1, last, MAX_LIMIT)
            return self._timeline(query, room_id, None, found, whole.limited, last, joined_at)
        return [self._timeline_head(whole.first - 1, whole.limited), self._parts.tell(whole.timeline), b"]}"]

    def _whole_state(self, query: Query, room_id: str, whole: Whole, start: Start, upto: int) -> list[bytes]:
        me = query.viewer.user_id
        pieces = [self._parts.tell(whole.state)]
        if me not in whole.members:  # so it is no event of the timeline either: they would be among its senders
            pieces += (b"," + event for event in self._parts.state(query.viewer, [start.own[room_id]]))
        self.sent_members.note(query.viewer, room_id, (*whole.noted, me), upto)
        return pieces

    def joined(self, query: Query, room_id: str, gap: Gap | None, upto: int, joined_at: int,
               room_account_data: Sequence[AccountData]) -> list[bytes] | None:  # fmt: skip
        """The section of a room the person has joined, None if there is nothing to tell.

        `gap` is None, or begins before `joined_at`, when the room is new to the device: then it is told whole.
        """
        new = gap is None or (query.full_state and not query.since) or gap.after < joined_at
        if gap is not None and not (new or room_account_data or query.full_state):
            same = self._same_for_all(query, room_id, gap, upto)
            if same is not None and self._is_like_others(query, room_id, same):
                return [same.json, self._counts(query, room_id, same.fresh, upto, False, joined_at), b"}"]
        if new and gap is not None:  # what was stored before they joined, e.g. a tag, the device has not been told
            room_account_data = account_data.in_room(self._engine.read, query.viewer.user_id, room_id)
        found, limited = self._tail(query, room_id, None if new else gap, upto, joined_at)
        ephemeral, own_receipt = self._ephemeral(query, room_id, None if new else gap, upto)
        extra = self._account_data(query, room_account_data)
        if not new and not (found or limited or ephemeral or extra or own_receipt or query.full_state):
            return None
        timeline = self._timeline(query, room_id, None if new else gap, found, limited, upto, joined_at)
        changed = self._state(query, room_id, None if new else gap, found, limited, upto)
        fresh = None if limited or new or gap is None else Fresh(gap.after, found)
        return [
            b'{"timeline":', *timeline,
            b',"', query.state_section, b'":{"events":[', changed, b"]}",
            b',"ephemeral":{"events":[', b",".join(ephemeral), b']},"account_data":{"events":[', b",".join(extra), b"]}",
            self._summary(query, room_id, None if new else gap, found, limited, upto),
            self._counts(query, room_id, fresh, upto, own_receipt, joined_at),
            b"}",
        ]  # fmt: skip

    def _same_for_all(self, query: Query, room_id: str, gap: Gap, upto: int) -> _Same | None:
        """The section as nearly everybody gets it when nothing happened in a room but messages; None if more did."""
        key = (room_id, "section", query.filter_key, query.state_section)
        same: _Same | None
        if key in gap.shared:
            same = gap.shared[key]
            return same
        found, limited = self._tail(query, room_id, gap, upto)
        timeline = query.filter.room.timeline
        plain = (
            found
            and not limited
            and timeline.is_default
            and not timeline.asks_for_relations
            and not gap.receipts(room_id)
            and self.typing.in_room(room_id)[0] <= gap.after
            and all(event.state_key is None for event in found)
            and not self._parts.is_personal(_NOBODY, frozenset(), found, newest=True)
        )
        if plain and self._parts.is_personal(query.viewer, query.ignored, found, newest=True):
            return None  # theirs shows transaction IDs, or lacks people they ignore: another one makes what all get
        same = gap.shared[key] = self._make_same(query, room_id, gap, found, upto) if plain else None
        return same

    def _make_same(self, query: Query, room_id: str, gap: Gap, found: list[StoredEvent], upto: int) -> _Same:
        json = b"".join((
            b'{"timeline":', *self._timeline(query, room_id, gap, found, False, upto, gap.after),
            b',"', query.state_section, b'":{"events":[]},"ephemeral":{"events":[]},"account_data":{"events":[]}',
        ))  # fmt: skip
        return _Same(json, Fresh(gap.after, found), frozenset(event.sender for event in found))

    def _is_like_others(self, query: Query, room_id: str, same: _Same) -> bool:
        """Whether the section needs nothing that only this person gets: own transaction IDs, members they lack."""
        if query.viewer.user_id in same.senders or not query.ignored.isdisjoint(same.senders):
            return False
        wanted = query.filter.room.state
        if not wanted.lazy_load_members:
            return True
        if wanted.include_redundant_members:
            return False
        return self.sent_members.has_all(query.viewer, query.since, room_id, same.senders)

    def _tail(
        self, query: Query, room_id: str, gap: Gap | None, upto: int, joined_at: int | None = None
    ) -> tuple[list[StoredEvent], bool]:
        """The last events of a room that the person may see and the filter wants, and whether there are more.

        Without a gap the whole history counts. In a gap the person was joined throughout, so everything is visible.
        """
        wanted = query.filter.room.timeline
        limit = _limit(wanted)
        unfiltered = wanted.is_default and not wanted.asks_for_relations
        reach = limit if unfiltered else limit * FILTER_REACH
        if gap is not None:
            found, limited = gap.events(room_id, reach)
        else:
            found, limited = self._parts.visible_tail(query.viewer.user_id, room_id, upto, reach, joined_at)
        if not unfiltered:
            kept = [event for event in found if _matches(wanted, event) and self._is_related_to(wanted, event)]
            found, limited = kept[-limit:], limited or len(kept) > limit
        return found, limited

    def _is_related_to(self, wanted: RoomEventFilter, event: StoredEvent) -> bool:
        """Whether events relate to this one as the filter wants it."""
        if not wanted.asks_for_relations:
            return True
        kinds, senders = wanted.related_by_rel_types, wanted.related_by_senders
        return relations.has_child(self._engine.read, event.event_id, kinds, senders)

    def _timeline(self, query: Query, room_id: str, gap: Gap | None, found: list[StoredEvent], limited: bool,
                  upto: int, joined_at: int | None = None) -> list[bytes]:  # fmt: skip
        head = self._timeline_head(found[0].pos - 1 if found else upto, limited)
        if gap is None or self._parts.is_personal(query.viewer, query.ignored, found):
            return [head, b",".join(self._render_all(query, room_id, found, joined_at)), b"]}"]
        key = (room_id, "timeline", query.filter_key, len(found), limited)
        body = gap.shared.get(key)
        if body is None:
            body = gap.shared[key] = b",".join(self._render_all(query, room_id, found, joined_at))
        return [head, body, b"]}"]

    def _timeline_head(self, start: int, limited: bool) -> bytes:
        return b'{"limited":%b,"prev_batch":"%b","events":[' % (
            b"true" if limited else b"false",
            str(Token(start, self._engine.epoch)).encode(),
        )

    def _render_all(self, query: Query, room_id: str, found: list[StoredEvent], joined_at: int | None) -> list[bytes]:
        """The JSON of timeline events, filtered."""
        events = self._parts.timeline(query.viewer, query.ignored, room_id, found, joined_at)
        return [self._pick_fields(query, event) for event in events]

    def _pick_fields(self, query: Query, json: bytes) -> bytes:
        if query.filter.event_fields is None:
            return json
        return orjson.dumps(fieldpaths.select(orjson.loads(json), query.filter.event_fields))

    # -- state ---------------------------------------------------------------------------------------------------

    def _state(self, query: Query, room_id: str, gap: Gap | None, found: list[StoredEvent], limited: bool,
               upto: int) -> bytes:  # fmt: skip
        wanted = query.filter.room.state
        lazy = wanted.lazy_load_members
        timeline = query.filter.room.timeline
        filtered = timeline.asks_for_relations or not timeline.is_default
        at = upto if query.use_state_after or filtered or not found else found[0].pos - 1
        needed: set[str] = set()
        if lazy:
            needed = {event.sender for event in found} - query.ignored
        if gap is None or query.full_state:
            rows = self._full_state(query, room_id, at, lazy)
            if lazy:
                needed |= {query.viewer.user_id, *(self._heroes(query.viewer.user_id, room_id, upto) or ())}
        elif limited or filtered or (query.use_state_after and any(event.state_key is not None for event in found)):
            rows = state.changes(self._engine.read, room_id, gap.after, at)
        else:
            rows = []
        if lazy:
            rows = [*rows, *self._members(query, room_id, needed, rows, at)]
            self.sent_members.note(query.viewer, room_id, _members_in(rows, found), upto)
        if not query.use_state_after:
            in_timeline = {event.pos for event in found}
            rows = [row for row in rows if row.pos not in in_timeline]
        rendered = self._parts.state(query.viewer, [row for row in rows if _matches(wanted, row)])
        return b",".join(self._pick_fields(query, event) for event in rendered)

    def _full_state(self, query: Query, room_id: str, at: int, lazy: bool) -> list[StoredEvent]:
        read = state.all_but_members_at if lazy else state.all_at
        return read(self._engine.read, room_id, at)

    def _members(self, query: Query, room_id: str, needed: set[str], rows: list[StoredEvent],
                 at: int) -> list[StoredEvent]:  # fmt: skip
        """The member events of `needed` people that the device lacks."""
        present = {row.state_key for row in rows if row.type == "m.room.member"}
        redundant = query.filter.room.state.include_redundant_members or query.full_state
        missing = [
            member
            for member in sorted(needed - present)
            if redundant or not self.sent_members.has(query.viewer, query.since, room_id, member)
        ]
        return state.members_at(self._engine.read, room_id, missing, at) if missing else []

    # -- summary, counts -----------------------------------------------------------------------------------------

    def _summary(self, query: Query, room_id: str, gap: Gap | None, found: list[StoredEvent], limited: bool,
                 upto: int) -> bytes:  # fmt: skip
        if not query.filter.room.state.lazy_load_members:
            return b""
        if gap is not None and not limited and not any(event.type == "m.room.member" for event in found):
            return b""
        joined, invited = state.members_counted(self._engine.read, room_id)
        return _summary_json(joined, invited, self._heroes(query.viewer.user_id, room_id, upto))

    def _heroes(self, user_id: str, room_id: str, upto: int) -> list[str] | None:
        """None if the room has a name and so needs none."""
        return None if self._parts.has_name(room_id, upto) else self._parts.heroes(user_id, room_id, upto)

    def _counts(self, query: Query, room_id: str, fresh: Fresh | None, upto: int, moved: bool,
                joined_at: int, last: int | None = None) -> bytes:  # fmt: skip
        counts = self._unread.counts(query.viewer.user_id, room_id, upto, fresh, moved, joined_at, last)
        if not query.filter.room.timeline.unread_thread_notifications:
            notify = sum(count.notify for count in counts.values())
            highlight = sum(count.highlight for count in counts.values())
            return b',"unread_notifications":{"notification_count":%d,"highlight_count":%d}' % (notify, highlight)
        main = counts.get(MAIN, ZERO)
        json = b',"unread_notifications":{"notification_count":%d,"highlight_count":%d}' % main
        threads = {
            thread: {"notification_count": count.notify, "highlight_count": count.highlight}
            for thread, count in counts.items()
            if thread != MAIN
        }
        return json + b',"unread_thread_notifications":' + orjson.dumps(threads) if threads else json

    # -- ephemeral and account data ------------------------------------------------------------------------------

    def _ephemeral(self, query: Query, room_id: str, gap: Gap | None, upto: int,
                   last_receipt: int | None = None) -> tuple[list[bytes], bool]:  # fmt: skip
        """The ephemeral events of a room, and whether the person's own receipts are among what changed.

        `last_receipt`: position of the room's last one, where all are asked for and it is known.
        """
        wanted = query.filter.room.ephemeral
        content, own = self._receipts(query, room_id, gap, upto, last_receipt)
        result = []
        if content and wanted.includes_room(room_id) and wanted.events.matches("m.receipt", None):
            result.append(content)
        since, (pos, people) = 0 if gap is None else gap.after, self.typing.in_room(room_id)
        if pos > since and (people or gap is not None) and wanted.includes_room(room_id):
            typing = [person for person in people if person not in query.ignored]
            if wanted.events.matches("m.typing", None):
                result.append(b'{"type":"m.typing","content":{"user_ids":%b}}' % orjson.dumps(typing))
        return result, own

    def _receipts(self, query: Query, room_id: str, gap: Gap | None, upto: int,
                  last: int | None) -> tuple[bytes, bool]:  # fmt: skip
        """The receipts as an event (b"" for none), and whether own ones are among them."""
        me = query.viewer.user_id
        if last is not None:
            same = self._whole_rooms.receipts(room_id, last)
            if me not in same.private and query.ignored.isdisjoint(same.people):
                return same.json, me in same.people
        changed: Sequence[Receipt]
        changed = receipts.in_room(self._engine.read, room_id, upto) if gap is None else gap.receipts(room_id)
        visible = visible_receipts(changed, me, query.ignored)
        own = any(receipt.user_id == me for receipt in changed)
        return receipts_event(receipt_content(visible)) if visible else b"", own

    @staticmethod
    def _account_data(query: Query, rows: Sequence[AccountData]) -> list[bytes]:
        wanted = query.filter.room.account_data
        return [event_json(row) for row in rows if wanted.matches(row.type, None, {}, row.room_id)]

    # -- other rooms ---------------------------------------------------------------------------------------------

    def left(self, query: Query, room_id: str, gap: Gap | None, left_at: int) -> list[bytes]:
        """The section of a room the person has left: what they could still see, up to the leaving at `left_at`."""
        after = 0 if gap is None else gap.after
        kept, limited = self._tail(query, room_id, None, left_at)
        limited = limited and not any(event.pos <= after for event in kept)
        kept = [event for event in kept if event.pos > after]
        timeline = self._timeline(query, room_id, None, kept, limited, left_at)
        was_member = any(
            m.membership == "join" and m.to_pos > after
            for m in state.membership_intervals(self._engine.read, query.viewer.user_id, room_id)
        )
        changed = b""
        if was_member:
            changed = self._state(query, room_id, gap, kept, limited, left_at)
        return [b'{"timeline":', *timeline, b',"', query.state_section, b'":{"events":[', changed, b"]}}"]

    def stripped(self, room_id: str, member: StoredEvent, kind: str) -> bytes:
        """The section of an invitation (`kind` invite_state) or a knock (knock_state)."""
        return orjson.dumps({kind: {"events": self._parts.stripped(room_id, member)}})

    def membership_event(self, pos: int) -> StoredEvent | None:
        """The member event at a position."""
        return events.by_position(self._engine.read, pos)

    def all_account_data(self, user_id: str) -> dict[str, list[AccountData]]:
        """All of a person's account data by room ('' is the global one)."""
        return by_room(account_data.all(self._engine.read, user_id))


_NOBODY = Viewer("", "")


def _limit(wanted: RoomEventFilter) -> int:
    return min(wanted.limit or DEFAULT_LIMIT, MAX_LIMIT)


def _whole_summary(query: Query, whole: Whole) -> bytes:
    heroes = None if whole.heroes is None else heroes_among(whole.heroes, query.viewer.user_id)
    return _summary_json(whole.joined, whole.invited, heroes)


def _summary_json(joined: int, invited: int, heroes: list[str] | None) -> bytes:
    summary: dict[str, Any] = {"m.joined_member_count": joined, "m.invited_member_count": invited}
    if heroes is not None:
        summary["m.heroes"] = heroes
    return b',"summary":' + orjson.dumps(summary)


def _matches(wanted: RoomEventFilter, event: StoredEvent) -> bool:
    if wanted.is_default:
        return True
    return wanted.matches(event.type, event.sender, orjson.loads(event.pdu)["content"], event.room_id)


def _members_in(rows: Iterable[StoredEvent], found: Iterable[StoredEvent]) -> list[str]:
    return [
        event.state_key for event in (*rows, *found) if event.type == "m.room.member" and event.state_key is not None
    ]
