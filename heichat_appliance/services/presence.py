"""Who is online, in memory only (client-server API "Presence").

Two times of a person decide: when a client last synced, and when one last said that the person is there. Both stop
counting after some time, and a sweep finds those for whom that changes the answer. A change takes a position, but wakes
nobody: in a lecture a thousand people come and go, and a thousand syncs answering each of these would be a million
answers. Changes ride along with the next answer that a person's sync gets for another reason, or at its time-out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from heichat_appliance.clock import Clock
from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import forbidden, invalid_param
from heichat_appliance.services.wakeups import run_volatile
from heichat_appliance.store import profiles, state

ONLINE, UNAVAILABLE, OFFLINE = STATES = ("online", "unavailable", "offline")

#: After the last sync a person is offline in so many milliseconds; as long does it count that a client said "online".
LASTING = 120_000
#: A client that does not say how its person is counts as "online" so long after the last action (spec "Idle timeout").
IDLE_AFTER = 300_000
SWEEP_SECONDS = 15.0
MAX_STATUS = 512

#: So few people are looked at one by one, rather than everybody whose presence changed.
FEW = 50


class _Person:
    __slots__ = ("active_ms", "online_ms", "pos", "profile", "seen_ms", "state", "status")

    def __init__(self) -> None:
        self.active_ms = self.online_ms = self.seen_ms = 0
        self.state = OFFLINE
        self.status: str | None = None
        self.pos = 0
        self.profile: profiles.Display | None = None

    def state_at(self, now: int) -> str:
        if now - self.seen_ms > LASTING:
            return OFFLINE
        return ONLINE if now - self.online_ms <= LASTING else UNAVAILABLE


class Presence:
    """States of people; with `enabled` False nobody is ever seen as anything but offline."""

    def __init__(self, engine: Engine, clock: Clock, reactor: IReactorTime, enabled: bool = True) -> None:
        self._engine = engine
        self._clock = clock
        self._enabled = enabled
        #: in the order of the last change
        self._people: OrderedDict[str, _Person] = OrderedDict()
        #: those who are not offline
        self._present: set[str] = set()
        #: the newest position of all
        self._changed_at = 0
        self._sweeping = LoopingCall(self.sweep)
        self._sweeping.clock = reactor

    def start(self) -> None:
        """From now on people become idle and offline."""
        if self._enabled:
            self._sweeping.start(SWEEP_SECONDS, now=False)

    def stop(self) -> None:
        """No longer."""
        if self._sweeping.running:
            self._sweeping.stop()

    # -- for sync ------------------------------------------------------------------------------------------------

    def changed_after(self, pos: int) -> bool:
        """Whether anybody's presence changed after a position."""
        return self._changed_at > pos

    def changed(self, people: frozenset[str], after: int) -> Iterator[str]:
        """Those of `people` whose presence changed after the position `after`; for 0 those of them who are there."""
        if after == 0:
            yield from people & self._present
        elif after >= self._changed_at:
            return
        elif len(people) <= FEW:
            yield from (one for one in people if one in self._people and self._people[one].pos > after)
        else:
            for user_id in reversed(self._people):
                if self._people[user_id].pos <= after:
                    return
                if user_id in people:
                    yield user_id

    def event(self, user_id: str) -> dict[str, Any]:
        """The m.presence event of a person."""
        content = self.content(user_id)
        person = self._people.get(user_id)
        if person is not None:
            if person.profile is None:
                person.profile = profiles.display(self._engine.read, user_id)
            if person.profile.display_name is not None:
                content["displayname"] = person.profile.display_name
            if person.profile.avatar_url is not None:
                content["avatar_url"] = person.profile.avatar_url
        return {"type": "m.presence", "sender": user_id, "content": content}

    def seen(self, user_id: str, set_presence: str | None = None) -> None:
        """A client syncs, and says with the query parameter set_presence how its person is (None: it does not say).

        Costs nothing unless this changes the person's state.
        """
        if not self._enabled or set_presence == OFFLINE:
            return
        now = self._clock.now_ms()
        person = self._person(user_id)
        was_offline = now - person.seen_ms > LASTING
        person.seen_ms = now
        if set_presence == ONLINE or (set_presence is None and was_offline):
            person.active_ms = person.online_ms = now
        elif set_presence is None and now - person.active_ms <= IDLE_AFTER:
            person.online_ms = now
        if person.state_at(now) != person.state:
            run_volatile(self._engine, self._settle, [user_id])

    def acted(self, user_id: str) -> None:
        """The person did something themselves, such as sending a message. As cheap as `seen`.

        Whoever is offline stays so: their client may be told not to show them.
        """
        person, now = self._people.get(user_id), self._clock.now_ms()
        if person is not None and person.state_at(now) != OFFLINE:
            person.active_ms = person.online_ms = now
            if person.state != ONLINE:
                run_volatile(self._engine, self._settle, [user_id])

    def profile_changed(self, user_id: str) -> None:
        """Display name or avatar changed, which the presence event repeats (client-server API "Profiles")."""
        person = self._people.get(user_id)
        if person is not None:
            person.profile = None
            run_volatile(self._engine, self._repeat, user_id)

    # -- for the API ---------------------------------------------------------------------------------------------

    def get(self, asker: str, user_id: str) -> dict[str, Any]:
        """The presence of somebody; 403 M_FORBIDDEN unless asker and they share a room (or are the same)."""
        if asker != user_id and not state.share_room(self._engine.read, asker, user_id):
            raise forbidden(
                "you are not allowed to see their presence / Sie dürfen nicht sehen, ob diese Person da ist"
            )
        return self.content(user_id)

    def set(self, user_id: str, presence: str, status: str | None) -> Deferred[None]:
        """The person's client says how they are. Raises 400 M_INVALID_PARAM for an unknown state or a long status."""
        if presence not in STATES:
            raise invalid_param(f"presence must be one of {', '.join(STATES)}")
        if status is not None and len(status) > MAX_STATUS:
            raise invalid_param(f"status_msg must not be longer than {MAX_STATUS} characters")
        if not self._enabled:
            return succeed(None)
        return self._engine.write(self._set, user_id, presence, status or None, volatile=True)

    def content(self, user_id: str) -> dict[str, Any]:
        """The content of a person's m.presence event without name and avatar."""
        person = self._people.get(user_id)
        if person is None:
            return {"presence": OFFLINE}
        # Whoever is online counts as active until told otherwise, which saves updates of the time.
        content: dict[str, Any] = {"presence": person.state, "currently_active": person.state == ONLINE}
        if person.active_ms:
            content["last_active_ago"] = max(0, self._clock.now_ms() - person.active_ms)
        if person.status is not None:
            content["status_msg"] = person.status
        return content

    # -- changing (volatile jobs; if their group is lost, presence is merely early: nothing to undo) -------------

    def sweep(self) -> None:
        """Find those who became idle or offline because time went by."""
        now = self._clock.now_ms()
        changed = [one for one in self._present if self._people[one].state_at(now) != self._people[one].state]
        if changed:
            run_volatile(self._engine, self._settle, changed)

    def _settle(self, tx: Transaction, user_ids: list[str]) -> None:
        now = self._clock.now_ms()
        pos = 0
        for user_id in user_ids:
            person = self._people[user_id]
            if person.state_at(now) != person.state:
                pos = pos or tx.next_position()
                self._change(user_id, person, person.state_at(now), pos)

    def _set(self, tx: Transaction, user_id: str, presence: str, status: str | None) -> None:
        now = self._clock.now_ms()
        person = self._person(user_id)
        person.seen_ms = 0 if presence == OFFLINE else now
        person.online_ms = now if presence == ONLINE else 0
        if presence == ONLINE:
            person.active_ms = now
        if person.state != presence or person.status != status:
            person.status = status
            self._change(user_id, person, presence, tx.next_position())

    def _repeat(self, tx: Transaction, user_id: str) -> None:
        person = self._people[user_id]
        self._change(user_id, person, person.state, tx.next_position())

    def _person(self, user_id: str) -> _Person:
        person = self._people.get(user_id)
        if person is None:
            person = self._people[user_id] = _Person()
            self._people.move_to_end(user_id, last=False)  # nothing has changed yet
        return person

    def _change(self, user_id: str, person: _Person, new_state: str, pos: int) -> None:
        person.state = new_state
        person.pos = self._changed_at = pos
        self._people.move_to_end(user_id)
        (self._present.discard if new_state == OFFLINE else self._present.add)(user_id)
