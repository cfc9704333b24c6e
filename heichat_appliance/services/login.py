"""Logging in with Uni-ID and password (spec, "Login")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from heichat_appliance.services.accounts import Accounts
from heichat_appliance.services.passwords import Passwords
from heichat_appliance.services.sessions import Sessions, Tokens

log = Logger()

#: Called with a user ID; what it does (it may return a Deferred) is finished before the login is answered. Its errors
#: are logged, and the login goes on. Two logins of one person may run at the same time.
Hook = Callable[[str], Any]


class Login:
    """Makes a session, and at the first login an account, of what a person types.

    `first_login` hooks run after the account was made, `every_login` hooks at every login and after those.
    """

    def __init__(self, passwords: Passwords, accounts: Accounts, sessions: Sessions) -> None:
        self._passwords = passwords
        self._accounts = accounts
        self._sessions = sessions
        self.first_login: list[Hook] = []
        self.every_login: list[Hook] = []

    async def log_in(
        self,
        user: str,
        password: str,
        peer: str,
        *,
        device_id: str | None = None,
        device_name: str | None = None,
        with_refresh_token: bool = False,
    ) -> Tokens:
        """The tokens of a new session. `user`: a Uni-ID or a user ID as typed; `device_id`: of this person, or None.

        Errors: those of `Passwords.check` and `Sessions.begin`; 401 M_USER_LOCKED for a locked account.
        """
        person = await self._passwords.check(self._passwords.uni_id(user), password, peer)
        user_id, is_new = await self._accounts.ensure(person)
        self._accounts.refuse_locked(user_id)
        tokens = await self._sessions.begin(user_id, device_id, device_name, with_refresh_token, peer)
        for hook in [*(self.first_login if is_new else ()), *self.every_login]:
            await self._run(hook, user_id)
        return tokens

    @staticmethod
    async def _run(hook: Callable[[str], Any], user_id: str) -> None:
        try:
            waiting = hook(user_id)
            if waiting is not None:
                await waiting
        except Exception:
            log.failure("what follows a login of {user_id} failed", user_id=user_id)
