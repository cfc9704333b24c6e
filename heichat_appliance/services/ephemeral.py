"""Who is typing, in memory only (client-server API "Typing Notifications")."""

from __future__ import annotations

from collections import OrderedDict

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import forbidden, invalid_param
from heichat_appliance.services.wakeups import Wakeups, run_volatile
from heichat_appliance.store import state

#: How long somebody counts as typing if the client does not say, and at most, in milliseconds.
DEFAULT_TIMEOUT = 30_000
MAX_TIMEOUT = 120_000
#: Rooms whose last change is remembered, so that "nobody types any more" reaches those who come back later.
MAX_ROOMS = 10_000


class _Room:
    __slots__ = ("pos", "typing")

    def __init__(self) -> None:
        self.pos = 0
        self.typing: dict[str, IDelayedCall] = {}


class Typing:
    """Who is typing where. Changes take positions of the one counter, in volatile jobs."""

    def __init__(self, engine: Engine, reactor: IReactorTime, wakeups: Wakeups) -> None:
        self._engine = engine
        self._reactor = reactor
        self._wakeups = wakeups
        #: in the order of the last change
        self._rooms: OrderedDict[str, _Room] = OrderedDict()

    # -- for sync ------------------------------------------------------------------------------------------------

    def in_room(self, room_id: str) -> tuple[int, list[str]]:
        """The position of the last change, 0 if there was none, and the user IDs of those who are typing."""
        room = self._rooms.get(room_id)
        return (0, []) if room is None else (room.pos, sorted(room.typing))

    def changed_since(self, pos: int) -> list[str]:
        """The rooms with a change after `pos`."""
        found = []
        for room_id in reversed(self._rooms):
            if self._rooms[room_id].pos <= pos:
                break
            found.append(room_id)
        return found

    # -- changing ------------------------------------------------------------------------------------------------

    def set(self, user_id: str, room_id: str, typing: bool, timeout: int | None = None) -> Deferred[None]:
        """The person types for `timeout` milliseconds from now, or no longer.

        Raises 403 M_FORBIDDEN unless they are joined, 400 M_INVALID_PARAM for a negative time.
        """
        if timeout is not None and timeout < 0:
            raise invalid_param("timeout must not be negative")
        now = state.membership_now(self._engine.read, user_id, room_id)
        if now is None or now.membership != "join":
            raise forbidden("you are not in this room / Sie sind nicht in diesem Raum")
        seconds = min(DEFAULT_TIMEOUT if timeout is None else timeout, MAX_TIMEOUT) / 1000
        return self._engine.write(self._set, user_id, room_id, seconds if typing else 0, volatile=True)

    def committed(self, position: int, rooms: set[str], users: set[str]) -> None:
        """Listens to the notifier: something happened in `rooms` and to `users`. Whoever left types no longer."""
        for room_id in rooms:
            for user_id in users & self._typing(room_id).keys():
                now = state.membership_now(self._engine.read, user_id, room_id)
                if now is None or now.membership != "join":
                    self.stopped(user_id, room_id)

    def stopped(self, user_id: str, room_id: str) -> None:
        """The person does not type any more."""
        if user_id in self._typing(room_id):
            run_volatile(self._engine, self._set, user_id, room_id, 0)

    def stop(self) -> None:
        """Forget everything."""
        for room in self._rooms.values():
            for call in room.typing.values():
                call.cancel()
        self._rooms.clear()

    def _typing(self, room_id: str) -> dict[str, IDelayedCall]:
        room = self._rooms.get(room_id)
        return {} if room is None else room.typing

    def _set(self, tx: Transaction, user_id: str, room_id: str, seconds: float) -> None:
        """If the group of this job is lost, somebody is shown as typing for a while longer: nothing to undo."""
        call = self._typing(room_id).pop(user_id, None)
        if call is not None and call.active():
            call.cancel()
        if seconds:
            room = self._rooms.setdefault(room_id, _Room())
            room.typing[user_id] = self._reactor.callLater(seconds, self.stopped, user_id, room_id)
        if (call is not None) == bool(seconds):
            return  # typing goes on, or had ended already: nobody needs to hear of it
        self._rooms[room_id].pos = tx.next_position()
        self._rooms.move_to_end(room_id)
        if len(self._rooms) > MAX_ROOMS:
            self._forget_oldest()
        self._wakeups.announce(tx, room_id)

    def _forget_oldest(self) -> None:
        _, room = self._rooms.popitem(last=False)
        for call in room.typing.values():
            call.cancel()
