"""Reports of events, rooms and people, for an administrator to read (client-server API "Reporting Content")."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from heichat_appliance import ids
from heichat_appliance.clock import Clock
from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import MatrixError, invalid_param, limit_exceeded, not_found
from heichat_appliance.store import accounts, events, reports, state

#: Bytes of a reason.
MAX_REASON = 8_000
#: Reports of one person in a day.
MAX_A_DAY = 100
DAY_MS = 24 * 3600 * 1000


class Reports:
    """Takes reports."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def event(self, reporter: str, room_id: str, event_id: str, reason: str) -> Deferred[None]:
        """Report an event of a room that the reporter is in; 404 M_NOT_FOUND otherwise."""

        def job(tx: Transaction) -> None:
            now = state.membership_now(tx.execute, reporter, room_id)
            if now is None or now.membership != "join" or not events.is_in_room(tx.execute, event_id, room_id):
                raise not_found(
                    "there is no such event, or you are not in the room / "
                    "Dieses Ereignis gibt es nicht, oder Sie sind nicht im Raum"
                )
            self._keep(tx, reporter, reason, room_id=room_id, event_id=event_id)

        return self._engine.write(job)

    def room(self, reporter: str, room_id: str, reason: str) -> Deferred[None]:
        """Report a room, in it or not; 404 M_NOT_FOUND for one that does not exist."""

        def job(tx: Transaction) -> None:
            if state.room_version(tx.execute, room_id) is None:
                raise not_found("there is no such room / diesen Raum gibt es nicht")
            self._keep(tx, reporter, reason, room_id=room_id)

        return self._engine.write(job)

    def user(self, reporter: str, user_id: str, reason: str) -> Deferred[None]:
        """Report a person; 404 M_NOT_FOUND for one without an account, 400 M_INVALID_PARAM if it is no user ID."""
        if not ids.is_user_id(user_id):
            raise invalid_param("userId is not a user ID")

        def job(tx: Transaction) -> None:
            if accounts.by_user_id(tx.execute, user_id) is None:
                raise not_found("nobody of this user ID is known here / Diese Nutzerkennung ist hier nicht bekannt")
            self._keep(tx, reporter, reason, user_id=user_id)

        return self._engine.write(job)

    def _keep(self, tx: Transaction, reporter: str, reason: str, **subject: str) -> None:
        if len(reason.encode()) > MAX_REASON:
            raise MatrixError(413, "M_TOO_LARGE", f"reason must not have more than {MAX_REASON} bytes")
        now = self._clock.now_ms()
        if reports.count_since(tx.execute, reporter, now - DAY_MS) >= MAX_A_DAY:
            raise limit_exceeded(DAY_MS // 24)
        reports.insert(tx, reporter, reason, now, **subject)
