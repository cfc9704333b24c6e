"""Accounts: made at the first login, locked and suspended by administrators (spec, "Account moderation").

The flags are kept in memory, since every request asks for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from heichat_appliance.clock import Clock
from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import MatrixError, forbidden, invalid_param, not_found
from heichat_appliance.extension import Person
from heichat_appliance.ids import parse_user_id, user_id_of
from heichat_appliance.protocol import canonicaljson
from heichat_appliance.store import accounts, profiles
from heichat_appliance.store.accounts import Account, Flag

if TYPE_CHECKING:
    from heichat_appliance.services.sessions import Sessions

LOCKED = "This account has been locked by an administrator. / Dieses Konto wurde von der Administration gesperrt."
SUSPENDED = (
    "This account is suspended: it can read, but not write. / "
    "Dieses Konto ist vorläufig stillgelegt: Es kann lesen, aber nicht schreiben."
)


class Accounts:
    """Who has an account, who administers, who is locked or suspended."""

    def __init__(self, engine: Engine, clock: Clock, server_name: str, admins: Iterable[str] = ()) -> None:
        """`admins`: Uni-IDs."""
        self._engine = engine
        self._clock = clock
        self._server_name = server_name
        self._admins = frozenset(user_id_of(uni_id, server_name) for uni_id in admins)
        self._reserved: set[str] = set()
        self._flagged: dict[Flag, set[str]] = {"locked": set(), "suspended": set()}
        for user_id, locked, suspended in accounts.flagged(engine.read):
            self._remember(user_id, "locked", locked)
            self._remember(user_id, "suspended", suspended)

    # -- flags ---------------------------------------------------------------------------------------------------

    def refuse_locked(self, user_id: str) -> None:
        """Raises 401 M_USER_LOCKED for a locked account. Its sessions live on and work again when it is unlocked."""
        if user_id in self._flagged["locked"]:
            raise MatrixError(401, "M_USER_LOCKED", LOCKED, soft_logout=True)

    def refuse_suspended(self, user_id: str) -> None:
        """Raises 403 M_USER_SUSPENDED for a suspended account."""
        if user_id in self._flagged["suspended"]:
            raise MatrixError(403, "M_USER_SUSPENDED", SUSPENDED)

    def _remember(self, user_id: str, flag: Flag, value: bool) -> None:
        (self._flagged[flag].add if value else self._flagged[flag].discard)(user_id)

    # -- finding and making --------------------------------------------------------------------------------------

    def get(self, user_id: str) -> Account | None:
        """The account with this user ID."""
        return accounts.by_user_id(self._engine.read, user_id)

    def reserve(self, user_id: str) -> None:
        """From now on this is the server itself, and nobody can log in as it. ValueError if somebody has this account."""
        if self.get(user_id) is not None:
            raise ValueError(f"somebody has the account {user_id}")
        self._reserved.add(user_id)

    def ensure(self, person: Person) -> Deferred[tuple[str, bool]]:
        """(user ID, whether it is new) of a person whom the directory has just confirmed; made at the first login.

        403 M_FORBIDDEN if their Uni-ID cannot have an account here.
        """
        return self._engine.write(self._ensure_job, person, self._clock.now_ms())

    def _ensure_job(self, tx: Transaction, person: Person, now: int) -> tuple[str, bool]:
        uni_id = normal_uni_id(person.uni_id)
        known = accounts.by_uni_id(tx.execute, uni_id)
        if known is not None:
            return known.user_id, False
        try:
            user_id = user_id_of(uni_id, self._server_name)
        except ValueError as error:
            raise forbidden(f"This Uni-ID can't be used here. / Diese Uni-ID kann hier nicht benutzt werden. ({error})")
        if user_id in self._reserved or accounts.by_user_id(tx.execute, user_id) is not None:
            raise forbidden(
                "This Uni-ID is reserved for the server itself. / Diese Uni-ID ist für den Server selbst reserviert."
            )
        accounts.create(tx.execute, user_id, uni_id, person.mail, now)
        if person.display_name:
            profiles.put(tx, user_id, "displayname", canonicaljson.encode(person.display_name).decode())
        return user_id, True

    # -- administration ------------------------------------------------------------------------------------------

    def is_admin(self, user_id: str) -> bool:
        """Whether this person may use the admin API."""
        return user_id in self._admins

    def flag(self, admin: str, user_id: str, flag: Flag) -> bool:
        """Whether an account is locked or suspended, as an administrator asks.

        Errors: 403 M_FORBIDDEN, 400 M_INVALID_PARAM for a user of another server, 404 M_NOT_FOUND.
        """
        self._admit_admin(admin, user_id, may_be_self=True)
        if self.get(user_id) is None:
            raise _no_account()
        return user_id in self._flagged[flag]

    def set_flag(self, admin: str, user_id: str, flag: Flag, value: bool) -> Deferred[None]:
        """Lock or suspend an account, or undo it. Errors as `flag`; 403 for one's own account, too."""
        self._admit_admin(admin, user_id, may_be_self=False)
        return self.put_flag(user_id, flag, value)

    def put_flag(self, user_id: str, flag: Flag, value: bool) -> Deferred[None]:
        """Lock or suspend an account, or undo it, for the operator, who may do it to everybody. 404 M_NOT_FOUND."""

        def job(tx: Transaction) -> None:
            if not accounts.set_flag(tx.execute, user_id, flag, value):
                raise _no_account()

        return self._engine.write(job).addCallback(lambda _: self._remember(user_id, flag, value))

    def _admit_admin(self, admin: str, user_id: str, *, may_be_self: bool) -> None:
        # Authorisation first, so that nobody else learns which accounts exist (spec, admin.yaml).
        if not self.is_admin(admin):
            raise forbidden("only an administrator of this server may do this")
        self._refuse_foreign(user_id)
        if self.is_admin(user_id) and not (may_be_self and user_id == admin):
            raise forbidden("userId: administrators cannot be locked or suspended here")

    def _refuse_foreign(self, user_id: str) -> None:
        try:
            domain = parse_user_id(user_id)[1]
        except ValueError as error:
            raise invalid_param(f"userId: {error}")
        if domain != self._server_name:
            raise invalid_param("userId: this user does not belong to this server")

    def whois(self, asker: str, user_id: str, sessions: Sessions) -> dict[str, Any]:
        """The devices of a person with where and when they were seen, for the person and for administrators."""
        if asker != user_id:
            if not self.is_admin(asker):
                raise forbidden("only the person and administrators of this server may see this")
            self._refuse_foreign(user_id)
            if self.get(user_id) is None:
                raise _no_account()
        connections = {
            device.device_id: [{"ip": device.last_seen_ip, "last_seen": device.last_seen_ts}]
            if device.last_seen_ts is not None
            else []
            for device in sessions.devices(user_id)
        }
        return {
            "user_id": user_id,
            "devices": {device_id: {"sessions": [{"connections": found}]} for device_id, found in connections.items()},
        }


def normal_uni_id(uni_id: str) -> str:
    """A Uni-ID as accounts are found by it: without regard to case."""
    return uni_id.strip().lower()


def _no_account() -> MatrixError:
    return not_found("there is no account with this user ID")
