"""Unread counts: how many events since a person's read receipt their push rules notify of, in all and per thread.

Counts live in memory and move forward with the events that a sync looks at; nothing is written when a message is sent, so a
message in a room of a thousand costs no thousand rows. A count that is not in memory is made from the events after the
receipt.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import orjson

from heichat_appliance.db.engine import Engine
from heichat_appliance.protocol import pdu, pushrules
from heichat_appliance.protocol.powerlevels import PowerLevels
from heichat_appliance.protocol.pusheval import Actions, Evaluator, Outcome, PushEvent
from heichat_appliance.protocol.roomversions import ROOM_VERSIONS
from heichat_appliance.services.members import Members
from heichat_appliance.store import account_data, events, receipts, state
from heichat_appliance.store import unread as store
from heichat_appliance.store.events import Execute, StoredEvent

#: Events after the receipt that are looked at; more unread ones than that are not told apart.
MAX_LOOKED_AT = 1_000
MAX_COUNTS = 100_000
MAX_OUTCOMES = 5_000
MAX_TALLIES = 1_000
#: Events of which the fields are kept: those that many people's rules are asked about just now. Large ones are not.
MAX_PUSH_EVENTS = 1_000
LARGE_EVENT = 4_096
#: The stored changes of somebody who has the default push rules.
NO_CHANGES = "{}"
#: What is in no thread.
MAIN = receipts.MAIN


class Count(NamedTuple):
    """Events that notify, and those among them that highlight."""

    notify: int
    highlight: int


ZERO = Count(0, 0)


class _Counter:
    """The counts of a person in a room up to position `upto`; `by_thread[MAIN]` is what is in no thread."""

    __slots__ = ("by_thread", "marks", "upto")

    def __init__(self, upto: int, marks: dict[str, int]) -> None:
        self.upto = upto
        #: position of the read receipt, by thread ('' is for all threads)
        self.marks = marks
        self.by_thread: dict[str, Count] = {}

    def is_read(self, pos: int, thread: str) -> bool:
        return pos <= max(self.marks.get("", 0), self.marks.get(thread, 0))

    def sent(self, thread: str, pos: int) -> None:
        """The person sent a message in a thread, and so has read it (spec "Marking notifications as read")."""
        self.marks[thread] = pos
        self.by_thread.pop(thread, None)

    def add(self, thread: str, actions: Actions) -> None:
        old = self.by_thread.get(thread, ZERO)
        self.by_thread[thread] = Count(old.notify + actions.notify, old.highlight + actions.highlight)


class Fresh:
    """A room's events at after < pos <= upto, for all who have counted up to `after`; judged once for each ruleset."""

    __slots__ = ("after", "events", "has_redactions", "judged")

    def __init__(self, after: int, events: Sequence[StoredEvent]) -> None:
        self.after = after
        self.events = events
        #: Then what was counted before may count no more.
        self.has_redactions = any(event.redacted_by or event.type == "m.room.redaction" for event in events)
        #: by fingerprint of the ruleset: position, sender, thread and outcome of each event
        self.judged: dict[str, list[tuple[int, str, str, Outcome]]] = {}


class _Tally:
    """The notifying events of a room, as far as they are looked at, for all members with the default rules.

    `_positions`: of those that notify everybody; `_threaded`: of the last one in a thread; `_sent`: of each person's last
    one; `_mentioned`: for whom any highlights."""

    __slots__ = ("_horizon", "_mentioned", "_positions", "_sent", "_threaded")

    def __init__(self, read: Execute, room_id: str, last: int) -> None:
        rows = store.newest(read, room_id, last, MAX_LOOKED_AT + 1)
        self._horizon = rows.pop().pos if len(rows) > MAX_LOOKED_AT else 0
        rows.reverse()
        self._positions = array("q", [row.pos for row in rows if row.everybody])
        self._threaded = max((row.pos for row in rows if row.thread_id != MAIN), default=0)
        self._sent = {row.sender: row.pos for row in rows}
        self._mentioned = store.who_is_mentioned(read, room_id, self._horizon, last)

    def count(self, counter: _Counter, user_id: str, room_id: str, read: Execute) -> bool:
        """Fill in a person's counter; False if it takes a look at each thread."""
        after = max(counter.marks.get("", 0), self._horizon)
        if self._threaded > after:
            return False
        counter.marks[MAIN] = max(counter.marks.get(MAIN, 0), self._sent.get(user_id, 0))
        after = max(after, counter.marks[MAIN])
        notify, highlight = len(self._positions) - bisect_right(self._positions, after), 0
        if user_id in self._mentioned or store.EVERYBODY in self._mentioned:
            mentions = store.mentioned(read, user_id, room_id, after, counter.upto)
            notify, highlight = notify + mentions.count(False), len(mentions)
        if notify:
            counter.by_thread[MAIN] = Count(notify, highlight)
        return True


class Unread:
    """Counts for sync; `forget_user` is told whose push rules may have changed."""

    def __init__(self, engine: Engine, members: Members) -> None:
        self._engine = engine
        self._members = members
        self._counters: OrderedDict[tuple[str, str], _Counter] = OrderedDict()
        #: by room: a position, and where counting begins there
        self._horizons: dict[str, tuple[int, int]] = {}
        #: by room: the position of its last event, and its tally if it was asked for twice
        self._tallies: OrderedDict[str, tuple[int, _Tally | None]] = OrderedDict()
        self._evaluators: dict[str, Evaluator] = {}
        self._of_user: dict[str, tuple[str, Evaluator]] = {}
        self._push_events: OrderedDict[str, tuple[PushEvent, str]] = OrderedDict()
        #: by event ID and fingerprint of the rules: what they do about the event, and the thread that it is in
        self._outcomes: OrderedDict[tuple[str, str], tuple[Outcome, str]] = OrderedDict()

    # -- rules ---------------------------------------------------------------------------------------------------

    def forget_user(self, user_id: str) -> None:
        """The person's push rules may have changed."""
        self._of_user.pop(user_id, None)

    def rules(self, user_id: str) -> tuple[str, Evaluator]:
        """The person's compiled push rules and a fingerprint of them; people with the same changes share one."""
        found = self._of_user.get(user_id)
        if found is None:
            stored = account_data.push_rule_changes(self._engine.read, user_id)
            changes = stored[0] if stored else NO_CHANGES
            evaluator = self._evaluators.get(changes)
            if evaluator is None:
                if len(self._evaluators) > 10_000:
                    self._evaluators.clear()
                evaluator = self._evaluators[changes] = Evaluator(pushrules.merge(orjson.loads(changes)))
            if len(self._of_user) > 50_000:
                self._of_user.clear()
            found = self._of_user[user_id] = (changes, evaluator)
        return found

    def actions(self, user_id: str, event: StoredEvent) -> tuple[Actions, str]:
        """What the person's rules do about an event of somebody else, and the thread that the event is in."""
        outcome, thread = self._outcome(event, *self.rules(user_id))
        return outcome.for_user(user_id, None), thread

    def _outcome(self, event: StoredEvent, fingerprint: str, evaluator: Evaluator) -> tuple[Outcome, str]:
        key = (event.event_id, fingerprint)
        found = self._outcomes.get(key)
        if found is None:
            push_event, thread = self._push_event(event)
            found = self._outcomes[key] = (evaluator.outcome(push_event), thread)
            if len(self._outcomes) > MAX_OUTCOMES:
                self._outcomes.popitem(last=False)
        return found

    def _push_event(self, event: StoredEvent) -> tuple[PushEvent, str]:
        found = self._push_events.get(event.event_id)
        if found is None:
            found = self._make_push_event(event)
            if len(event.pdu) <= LARGE_EVENT:
                self._push_events[event.event_id] = found
                if len(self._push_events) > MAX_PUSH_EVENTS:
                    self._push_events.popitem(last=False)
        return found

    def _make_push_event(self, event: StoredEvent) -> tuple[PushEvent, str]:
        read = self._engine.read
        content = orjson.loads(event.pdu)["content"]
        push_event = PushEvent(
            type=event.type,
            sender=event.sender,
            room_id=event.room_id,
            content=content,
            state_key=event.state_key,
            event_id=event.event_id,
            member_count=lambda: len(self._members.of(event.room_id)),
            power_levels=lambda: self._power_levels(event),
        )
        thread = receipts.thread_of(read, event.pos)[0] if "m.relates_to" in content else MAIN
        return push_event, thread

    def _power_levels(self, event: StoredEvent) -> PowerLevels:
        read = self._engine.read
        version = ROOM_VERSIONS[state.room_version(read, event.room_id) or ""]
        rows = [state.at(read, event.room_id, type, "", event.pos) for type in ("m.room.create", "m.room.power_levels")]
        create, levels = (row and pdu.load(version, row.event_id, row.pdu, row.room_id) for row in rows)
        assert create is not None
        return PowerLevels(version, create, levels)

    # -- counts --------------------------------------------------------------------------------------------------

    def counts(
        self,
        user_id: str,
        room_id: str,
        upto: int,
        fresh: Fresh | None = None,
        receipts_moved: bool = False,
        joined_at: int | None = None,
        last: int | None = None,
    ) -> dict[str, Count]:
        """The counts at `upto` by thread (MAIN: in no thread).

        `fresh`: the newest events, where the caller has them at hand; `receipts_moved`: the person's own receipts in the
        room have changed since the last call; `joined_at`: where their present stay in it began, `last`: the room's last
        event, if they are known and many may ask for the same.
        """
        key = (user_id, room_id)
        counter = self._counters.get(key)
        if counter is None or receipts_moved or counter.upto > upto:
            counter = self._counters[key] = self._from_receipt(user_id, room_id, upto, joined_at, last)
            if len(self._counters) > MAX_COUNTS:
                self._counters.popitem(last=False)
        elif counter.upto < upto:
            if fresh is not None and fresh.after != counter.upto:
                fresh = None
            if fresh is None and self.rules(user_id)[0] != NO_CHANGES:
                newest = events.in_room(self._engine.read, room_id, counter.upto, upto, MAX_LOOKED_AT)
                fresh = Fresh(counter.upto, newest)
            if fresh is None or fresh.has_redactions:
                counter = self._counters[key] = self._from_receipt(user_id, room_id, upto, joined_at, last)
            else:
                self._count(counter, user_id, fresh)
                counter.upto = upto
        return counter.by_thread

    def _from_receipt(self, user_id: str, room_id: str, upto: int, joined_at: int | None, last: int | None) -> _Counter:
        read = self._engine.read
        marks: dict[str, int] = {}
        for receipt in receipts.of_user(read, room_id, user_id):
            marks[receipt.thread_id] = max(marks.get(receipt.thread_id, 0), receipt.event_pos)
        if joined_at is None:
            membership = state.membership_now(read, user_id, room_id)
            if membership is not None and membership.membership == "join":
                joined_at = self._joined_at(user_id, room_id)
        marks[""] = max(marks.get("", 0), joined_at or 0)
        counter = _Counter(upto, marks)
        if self.rules(user_id)[0] == NO_CHANGES:
            tally = None if last is None else self._tally(room_id, last)
            if tally is None or not tally.count(counter, user_id, room_id, read):
                self._count_stored(counter, user_id, room_id)
        else:
            newest = events.in_room(read, room_id, marks.get("", 0), upto, MAX_LOOKED_AT, backwards=True)
            self._count(counter, user_id, Fresh(marks.get("", 0), newest[::-1]))
        return counter

    def _count_stored(self, counter: _Counter, user_id: str, room_id: str) -> None:
        """For the default rules everything was judged when it was sent (services.notifying)."""
        read = self._engine.read
        after = max(counter.marks.get("", 0), self._horizon(room_id, counter.upto))
        notify, threaded, own = store.tally(read, user_id, room_id, after, counter.upto)
        if not threaded:
            counter.marks[MAIN] = max(counter.marks.get(MAIN, 0), own)
            if counter.marks[MAIN] > after:
                after = counter.marks[MAIN]
                notify = store.tally(read, user_id, room_id, after, counter.upto)[0]
            mentions = store.mentioned(read, user_id, room_id, after, counter.upto)
            notify += mentions.count(False)
            if notify:
                counter.by_thread[MAIN] = Count(notify, len(mentions))
            return
        for thread, pos in store.last_sent(read, user_id, room_id, after, counter.upto):
            counter.marks[thread] = max(counter.marks.get(thread, 0), pos)
        for thread, notify, highlight in store.counts(read, user_id, room_id, after, counter.upto):
            mark = counter.marks.get(thread, 0)
            if mark > after:
                notify, highlight = store.count_in_thread(read, user_id, room_id, thread, mark, counter.upto)
            if notify:
                counter.by_thread[thread] = Count(notify, highlight)

    def _tally(self, room_id: str, last: int) -> _Tally | None:
        """The tally of a room whose last event is at `last`: made when somebody asks for it for the second time."""
        known = self._tallies.get(room_id)
        if known is None or known[0] != last:
            self._tallies[room_id] = (last, None)
            self._tallies.move_to_end(room_id)
            if len(self._tallies) > MAX_TALLIES:
                self._tallies.popitem(last=False)
            return None
        if known[1] is None:
            known = self._tallies[room_id] = (last, _Tally(self._engine.read, room_id, last))
        return known[1]

    def _horizon(self, room_id: str, upto: int) -> int:
        """Where counting begins at the earliest, so that what nobody read in a year costs nobody anything. The same for
        everybody in the room, so it is looked up once for all who wake together."""
        known = self._horizons.get(room_id)
        if known is None or known[0] != upto:
            if len(self._horizons) > MAX_OUTCOMES:
                self._horizons.clear()
            known = self._horizons[room_id] = (upto, store.horizon(self._engine.read, room_id, upto, MAX_LOOKED_AT))
        return known[1]

    def _joined_at(self, user_id: str, room_id: str) -> int:
        """Where the person's present stay in the room began (changes of their profile do not begin a new one)."""
        start = 0
        for interval in state.membership_intervals(self._engine.read, user_id, room_id):
            if interval.membership != "join":
                start = interval.to_pos
            elif not start:
                start = interval.from_pos
        return start

    def _count(self, counter: _Counter, user_id: str, fresh: Fresh) -> None:
        fingerprint, evaluator = self.rules(user_id)
        judged = fresh.judged.get(fingerprint)
        if judged is None:
            judged = fresh.judged[fingerprint] = self._judge(fresh.events, fingerprint, evaluator)
        for pos, sender, thread, outcome in judged:
            actions = outcome.for_user(user_id, None)
            if not (actions.notify or actions.highlight) or counter.is_read(pos, thread):
                continue
            if sender == user_id:
                counter.sent(thread, pos)
            else:
                counter.add(thread, actions)

    def _judge(
        self, found: Iterable[StoredEvent], fingerprint: str, evaluator: Evaluator
    ) -> list[tuple[int, str, str, Outcome]]:
        judged = []
        for event in found:
            if event.redacted_by is None:
                outcome, thread = self._outcome(event, fingerprint, evaluator)
                judged.append((event.pos, event.sender, thread, outcome))
        return judged
