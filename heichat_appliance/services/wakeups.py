"""Who is woken for what hardly matters: typing and receipts.

In a small room everybody hears at once. In a lecture of a thousand, a message would bring a thousand receipts, and each
of them would wake a thousand syncs: there everybody is woken once in some seconds for all that came together meanwhile.
Whoever syncs for another reason gets it at once anyway.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from heichat_appliance.db.engine import Engine, EngineStopped, Transaction
from heichat_appliance.store import state

#: Rooms with more joined people than this are woken once in a while only.
SMALL_ROOM = 100
DELAY_SECONDS = 5.0


class Wakeups:
    """Announces what happened in rooms, bundled for large ones."""

    def __init__(self, engine: Engine, reactor: IReactorTime) -> None:
        self._engine = engine
        self._reactor = reactor
        self._waiting: dict[str, IDelayedCall] = {}

    def announce(self, tx: Transaction, room_id: str) -> None:
        """Something small happened in a room."""
        if room_id in self._waiting:
            return
        if state.has_more_joined(self._engine.read, room_id, SMALL_ROOM):
            self._waiting[room_id] = self._reactor.callLater(DELAY_SECONDS, self._wake, room_id)
        else:
            tx.rooms.add(room_id)

    def stop(self) -> None:
        """Wake nobody any more."""
        for call in self._waiting.values():
            call.cancel()
        self._waiting.clear()

    def _wake(self, room_id: str) -> None:
        del self._waiting[room_id]
        run_volatile(self._engine, lambda tx: tx.rooms.add(room_id))


def run_volatile(engine: Engine, job: Any, *args: Any) -> None:
    """Queue a volatile job for whose result nobody waits; at the stop it is not needed any more."""
    engine.write(job, *args, volatile=True).addErrback(lambda failure: failure.trap(EngineStopped))
