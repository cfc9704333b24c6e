"""Whom to notify of what: looks at the events of each commit for those members who have pushers.

The work is done after the senders have their answers. A room without anybody who has a pusher costs one look-up. What is
not delivered when the server stops, or when it is killed, is found again at the next start from stored positions; then a
notification may come twice, which gateways and clients tell by its event ID (Push Gateway API).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from heichat_appliance.clock import Clock
from heichat_appliance.db.engine import Engine, EngineStopped, Transaction
from heichat_appliance.errors import MatrixError
from heichat_appliance.outgoing import Outgoing
from heichat_appliance.protocol.pusheval import Actions
from heichat_appliance.services.accounts import Accounts
from heichat_appliance.services.people import ignored_users
from heichat_appliance.services.push_content import Badges, Composer
from heichat_appliance.services.push_gateways import MAX_WAITING, Gateways, Target, Waiting
from heichat_appliance.services.unread import Unread
from heichat_appliance.store import events, receipts, state
from heichat_appliance.store import pushers as store
from heichat_appliance.store.events import StoredEvent

log = Logger()

#: Events of a room looked at after one commit, and at the start; what is older is not told.
MAX_EVENTS = 500
MAX_EVENTS_AT_START = 5_000
#: Rooms whose members with pushers are kept in memory.
MAX_AUDIENCES = 20_000
#: Seconds between two times that positions are stored.
SAVE_SECONDS = 30.0
#: Seconds in which what a person reads comes together before their devices are told the new counts.
READ_SECONDS = 2.0


class Push:
    """Notifies people's devices. `committed` listens to the notifier; `changed` hears whose pushers were changed."""

    def __init__(
        self, engine: Engine, clock: Clock, reactor: IReactorTime, unread: Unread, accounts: Accounts,
        outgoing: Outgoing,
    ) -> None:  # fmt: skip
        self._engine = engine
        self._clock = clock
        self._reactor = reactor
        self._unread = unread
        self._outgoing = outgoing
        self._badges = Badges(engine, unread, reactor)
        composer = Composer(engine, accounts, self._badges)
        self._gateways = Gateways(reactor, clock, outgoing, composer.compose, self._rejected)
        self._targets: dict[str, list[Target]] = {}
        self._audiences: OrderedDict[str, set[str]] = OrderedDict()
        self._ignored: dict[str, frozenset[str]] = {}
        self._looked = self._saved = 0
        self._rooms: set[str] = set()
        self._concerned: set[str] = set()
        self._readers: set[str] = set()
        self._look_call: IDelayedCall | None = None
        self._read_call: IDelayedCall | None = None
        self._saving = LoopingCall(self._save)
        self._saving.clock = reactor

    # -- running -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read the pushers, and go on where the last run ended."""
        read, position = self._engine.read, self._engine.position
        for pusher in store.all(read):
            self._targets.setdefault(pusher.user_id, []).append(Target(pusher))
        self._looked = self._saved = store.position(read) or position
        for targets in list(self._targets.values()):
            for target in targets:
                if target.stored_resume is not None:
                    self._resume(target, target.stored_resume)
                    await deferLater(self._reactor, 0)
        missed = events.after(read, self._looked, MAX_EVENTS_AT_START) if self._targets else []
        self._note({event.room_id for event in missed}, self._targets.keys() & {event.state_key for event in missed})
        self._saving.start(SAVE_SECONDS, now=False)

    def _resume(self, target: Target, after: int) -> None:
        """Take up again what waited for a target."""
        user_id, found, now = target.pusher.user_id, [], self._clock.now_ms()
        for room_id in state.rooms_of_user_now(self._engine.read, user_id):
            found += events.in_room(self._engine.read, room_id, after, self._looked, MAX_WAITING, backwards=True)
        for event in sorted(found):
            actions = self._actions(user_id, event, known_joined=False)
            if actions is not None:
                target.waiting.append(Waiting(event.pos, actions, now))
        self._gateways.ready(target)

    async def stop(self) -> None:
        """Look at nothing more, let go of what is being sent, and store what waits."""
        for call in (self._look_call, self._read_call):
            if call is not None:
                call.cancel()
        self._look_call = self._read_call = None
        if self._saving.running:
            self._saving.stop()
            await self._gateways.stop()
            await self._save()
        await self._outgoing.stop()

    async def _save(self) -> None:
        changed = [
            (target, target.resume_after)
            for targets in self._targets.values()
            for target in targets
            if target.resume_after != target.stored_resume
        ]
        if not changed and self._looked == self._saved:
            return
        looked = self._looked
        try:
            await self._engine.write(_store_positions, looked, [(t.pusher.id, after) for t, after in changed])
        except (MatrixError, EngineStopped):
            log.warn("how far notifications have come could not be stored; some may come twice after a restart")
            return
        self._saved = looked
        for target, after in changed:
            target.stored_resume = after

    # -- pushers -------------------------------------------------------------------------------------------------

    def changed(self, user_ids: Iterable[str]) -> None:
        """The pushers of these people may have changed."""
        for user_id in user_ids:
            had = user_id in self._targets
            known = {target.pusher.id: target for target in self._targets.pop(user_id, ())}
            for pusher in store.of_user(self._engine.read, user_id):
                target = known.pop(pusher.id, None) or Target(pusher)
                target.update(pusher)
                self._targets.setdefault(user_id, []).append(target)
            for target in known.values():
                target.gone = True
            if user_id not in self._targets:
                self._badges.forget(user_id)
                self._ignored.pop(user_id, None)
            if had != (user_id in self._targets):
                self._audiences.clear()

    def _rejected(self, target: Target) -> None:
        pusher = target.pusher
        log.info("a push gateway rejected the pushkey of pusher {id}; it is removed", id=pusher.id)
        target.gone = True
        done = self._engine.write(store.delete, pusher.user_id, pusher.app_id, pusher.pushkey)
        done.addCallback(lambda _: self.changed([pusher.user_id]))
        done.addErrback(lambda failure: failure.trap(MatrixError, EngineStopped) and None)

    # -- looking -------------------------------------------------------------------------------------------------

    def committed(self, position: int, rooms: set[str], users: set[str]) -> None:
        """Something happened in these rooms and to these people: look at it when everybody has their answer."""
        if self._targets:
            self._note(rooms, users & self._targets.keys())
        elif self._look_call is None:
            self._looked = position

    def _note(self, rooms: set[str], users: set[str]) -> None:
        self._rooms |= rooms
        self._concerned |= users
        if self._look_call is None and (rooms or users):
            self._look_call = self._reactor.callLater(0, self._look)

    def _look(self) -> None:
        self._look_call = None
        after, self._looked = self._looked, self._engine.position
        rooms, self._rooms = self._rooms, set()
        concerned, self._concerned = self._concerned, set()
        if concerned:
            self._look_at_people(concerned, rooms, after)
        for room_id in rooms:
            self._look_at_room(room_id, concerned, after)

    def _look_at_people(self, concerned: set[str], rooms: set[str], after: int) -> None:
        """Their devices, their memberships of these rooms, their receipts may have changed."""
        read = self._engine.read
        self.changed(concerned)
        for user_id in concerned & self._targets.keys():
            self._ignored.pop(user_id, None)
            for room_id in rooms:
                self._badges.touch(user_id, room_id)
                if room_id in self._audiences:
                    now = state.membership_now(read, user_id, room_id)
                    joined = now is not None and now.membership == "join"
                    (self._audiences[room_id].add if joined else self._audiences[room_id].discard)(user_id)
        for receipt in receipts.by_position(read, after, self._looked):
            if receipt.user_id in self._targets:
                self._badges.touch(receipt.user_id, receipt.room_id, moved=True)
                self._has_read(receipt.user_id)

    def _look_at_room(self, room_id: str, concerned: set[str], after: int) -> None:
        audience = self._audience(room_id)
        if not audience and not concerned:
            return
        for user_id in audience:
            self._badges.touch(user_id, room_id)
        newest = events.in_room(self._engine.read, room_id, after, self._looked, MAX_EVENTS, backwards=True)
        # Whoever is joined was so at each of these events, except those who came or went among them.
        moved = {event.state_key for event in newest if event.type == "m.room.member"}
        now = self._clock.now_ms()
        for event in reversed(newest):
            invited = event.state_key if event.type == "m.room.member" else None
            people = audience | {invited} if invited in self._targets else audience
            for user_id in people:
                actions = self._actions(user_id, event, known_joined=user_id not in moved)
                if actions is not None:
                    self._tell(user_id, Waiting(event.pos, actions, now))

    def _audience(self, room_id: str) -> set[str]:
        """Who is joined and has pushers."""
        audience = self._audiences.get(room_id)
        if audience is None:
            members = state.members_now(self._engine.read, room_id)
            audience = self._audiences[room_id] = set(self._targets.keys() & members)
            if len(self._audiences) > MAX_AUDIENCES:
                self._audiences.popitem(last=False)
        return audience

    def _actions(self, user_id: str, event: StoredEvent, *, known_joined: bool) -> Actions | None:
        """What the person's rules do if they notify of this event; None if not, or if it is not for them to see.

        `known_joined`: the person is known to have been joined at the event.
        """
        if event.sender == user_id or event.redacted_by is not None:
            return None
        actions, _ = self._unread.actions(user_id, event)
        if not actions.notify or event.sender in self._ignored_by(user_id):
            return None
        if known_joined:
            return actions
        membership = state.membership_at(self._engine.read, user_id, event.room_id, event.pos)
        invited = event.type == "m.room.member" and event.state_key == user_id and membership == "invite"
        return actions if membership == "join" or invited else None

    def _ignored_by(self, user_id: str) -> frozenset[str]:
        found = self._ignored.get(user_id)
        if found is None:
            found = self._ignored[user_id] = ignored_users(self._engine.read, user_id)
        return found

    def _tell(self, user_id: str, waiting: Waiting) -> None:
        for target in self._targets[user_id]:
            target.waiting.append(waiting)
            self._gateways.ready(target)

    # -- reading -------------------------------------------------------------------------------------------------

    def _has_read(self, user_id: str) -> None:
        self._readers.add(user_id)
        if self._read_call is None:
            self._read_call = self._reactor.callLater(READ_SECONDS, self._tell_counts)

    def _tell_counts(self) -> None:
        self._read_call = None
        readers, self._readers = self._readers, set()
        for user_id in readers & self._targets.keys():
            for target in self._targets[user_id]:
                target.add_counts(self._clock.now_ms())
                self._gateways.ready(target)


def _store_positions(tx: Transaction, looked: int, resume: list[tuple[int, int | None]]) -> None:
    store.set_position(tx, looked)
    for id, after in resume:
        store.set_resume_after(tx, id, after)
