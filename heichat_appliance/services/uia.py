"""User-interactive authentication by the directory's password (spec, "User-Interactive Authentication API")."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson
from twisted.internet.defer import Deferred

from heichat_appliance.clock import Clock
from heichat_appliance.errors import MatrixError, bad_json, missing_param
from heichat_appliance.ids import new_token
from heichat_appliance.services.accounts import Accounts, normal_uni_id
from heichat_appliance.services.passwords import Passwords, user_of
from heichat_appliance.services.sessions import Session

#: How long a dialogue may take.
LIFETIME_MS = 10 * 60 * 1000
#: Dialogues in memory; beyond that the oldest ends.
MAX_DIALOGUES = 10_000

STAGE = "m.login.password"
NOT_YOURS = "Please log in with your own Uni-ID. / Bitte mit der eigenen Uni-ID anmelden."
OVER = (
    "This dialogue is over or was about something else; please enter the password again. / "
    "Dieser Vorgang ist abgelaufen oder betraf etwas anderes; bitte das Passwort erneut eingeben."
)


class AuthenticationNeeded(MatrixError):
    """401 with the flows. The first answer of a dialogue is no error and has no errcode; later ones say what failed."""

    def __init__(self, dialogue: str, errcode: str = "", message: str = "") -> None:
        super().__init__(401, errcode, message or "this needs the user's password")
        self.dialogue = dialogue

    def body(self) -> dict[str, object]:
        """The JSON object of the answer (spec definition auth_response)."""
        problem = super().body() if self.errcode else {}
        return {**problem, "flows": [{"stages": [STAGE]}], "params": {}, "completed": [], "session": self.dialogue}


@dataclass(frozen=True, slots=True)
class _Dialogue:
    subject: bytes
    until: int


class Uia:
    """Demands the password of the person who asks before an operation is done. Dialogues are kept in memory."""

    def __init__(self, passwords: Passwords, accounts: Accounts, clock: Clock) -> None:
        self._passwords = passwords
        self._accounts = accounts
        self._clock = clock
        self._dialogues: OrderedDict[str, _Dialogue] = OrderedDict()

    def require(self, session: Session, operation: str, body: dict[str, Any], peer: str) -> Deferred[None]:
        """Fires when the person has proved who they are with `body["auth"]`; each proof is good for one operation.

        `operation` names what is asked for, with everything of the path that matters, e.g. "DELETE /devices/ABC"; the
        dialogue is bound to it, to the session and to the rest of the body. Fails with AuthenticationNeeded (401), with
        400 for an `auth` of wrong form, with 403, 429 and 503 as `Passwords.check`.
        """
        return Deferred.fromCoroutine(self._require(session, operation, body, peer))

    async def _require(self, session: Session, operation: str, body: dict[str, Any], peer: str) -> None:
        auth = body.get("auth")
        subject = _subject(session, operation, body)
        if auth is None:
            raise AuthenticationNeeded(self._open(subject))
        if not isinstance(auth, dict):
            raise bad_json("auth must be an object")
        dialogue = _text(auth, "session")
        if dialogue is None:
            dialogue = self._open(subject)  # some clients send the password at once
        elif not self._is_open(dialogue, subject):
            raise AuthenticationNeeded(self._open(subject), "M_FORBIDDEN", OVER)
        stage = _text(auth, "type")
        if stage is None:
            raise AuthenticationNeeded(dialogue)
        if stage != STAGE:
            raise AuthenticationNeeded(dialogue, "M_UNRECOGNIZED", f"auth.type must be {STAGE}")
        await self._check_password(session.user_id, auth, dialogue, peer)
        self._dialogues.pop(dialogue, None)

    async def _check_password(self, user_id: str, auth: dict[str, Any], dialogue: str, peer: str) -> None:
        user, password = user_of(auth.get("identifier"), auth.get("user"), "auth."), _text(auth, "password")
        if password is None:
            raise missing_param("auth.password is missing")
        account = self._accounts.get(user_id)
        if account is None or self._passwords.uni_id(user) != account.uni_id:
            raise AuthenticationNeeded(dialogue, "M_FORBIDDEN", NOT_YOURS)
        try:
            person = await self._passwords.check(account.uni_id, password, peer)
        except MatrixError as error:
            if error.status != 403:
                raise
            raise AuthenticationNeeded(dialogue, error.errcode, error.message)
        if normal_uni_id(person.uni_id) != account.uni_id:
            raise AuthenticationNeeded(dialogue, "M_FORBIDDEN", NOT_YOURS)

    # -- dialogues -----------------------------------------------------------------------------------------------

    def _open(self, subject: bytes) -> str:
        now = self._clock.now_ms()
        while self._dialogues:
            oldest = next(iter(self._dialogues))
            if len(self._dialogues) < MAX_DIALOGUES and now < self._dialogues[oldest].until:
                break
            del self._dialogues[oldest]
        dialogue = new_token(24)
        self._dialogues[dialogue] = _Dialogue(subject, now + LIFETIME_MS)
        return dialogue

    def _is_open(self, dialogue: str, subject: bytes) -> bool:
        known = self._dialogues.get(dialogue)
        return known is not None and known.subject == subject and self._clock.now_ms() < known.until


def _subject(session: Session, operation: str, body: dict[str, Any]) -> bytes:
    rest = {key: value for key, value in body.items() if key != "auth"}
    about = [session.user_id, session.device_id, operation, rest]
    return sha256(orjson.dumps(about, option=orjson.OPT_SORT_KEYS)).digest()


def _text(auth: dict[str, Any], key: str) -> str | None:
    value = auth.get(key)
    if value is not None and not isinstance(value, str):
        raise bad_json(f"auth.{key} must be a string")
    return value
