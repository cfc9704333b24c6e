"""Who can be invited: everybody with an account, and everybody whom the university's directory knows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from heichat_appliance import ids
from heichat_appliance.db.engine import Engine
from heichat_appliance.errors import MatrixError, forbidden, invalid_param, not_found
from heichat_appliance.extension import DirectoryUnavailable
from heichat_appliance.store import accounts

log = Logger()

#: user ID to display name of people who have no account yet
Names = dict[str, str | None]

_ESCAPED = re.compile(rb"=([0-9a-f]{2})")


class Invitees:
    """Finds out whether people exist."""

    def __init__(self, engine: Engine, server_name: str, identity: Any) -> None:
        """`identity`: the provider of extension.IIdentity."""
        self._engine = engine
        self._server_name = server_name
        self._identity = identity

    def check(self, user_id: str, field: str = "user_id") -> None:
        """Raises 400 M_INVALID_PARAM if this is no user ID, 403 M_FORBIDDEN for users of other servers."""
        try:
            domain = ids.parse_user_id(user_id)[1]
        except ValueError as error:
            raise invalid_param(f"{field}: {error}")
        if domain != self._server_name:
            raise forbidden(
                f"{user_id} belongs to another server; this server is connected to no other. / "
                f"{user_id} gehört zu einem anderen Server; dieser Server ist mit keinem anderen verbunden."
            )

    async def require(self, user_ids: Iterable[str], field: str = "user_id") -> Names:
        """Make sure that all of these people exist; the names of those without an account.

        Raises as `check`, and 404 M_NOT_FOUND for somebody unknown, 503 if the directory would have to be asked and
        does not answer.
        """
        unknown = []
        for user_id in user_ids:
            self.check(user_id, field)
            if accounts.by_user_id(self._engine.read, user_id) is None:
                unknown.append(user_id)
        if not unknown:
            return {}
        found = await gatherResults([self._look_up(user_id) for user_id in unknown], consumeErrors=True).addErrback(
            _unwrap
        )
        return dict(zip(unknown, found, strict=True))

    def _look_up(self, user_id: str) -> Any:
        uni_id = uni_id_of(ids.parse_user_id(user_id)[0])
        if uni_id is None:
            raise _nobody(user_id)

        def found(person: Any) -> str | None:
            # The directory may know other spellings of a Uni-ID than the one that makes this very user ID.
            if person is None or ids.user_id_of(person.uni_id, self._server_name) != user_id:
                raise _nobody(user_id)
            return person.display_name

        return self._identity.look_up(uni_id).addCallback(found)


def uni_id_of(localpart: str) -> str | None:
    """The Uni-ID (in lower case) that ids.localpart_of maps onto a localpart, None if there can't be one."""
    try:
        uni_id = _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), localpart.encode()).decode()
        return uni_id if ids.localpart_of(uni_id) == localpart else None
    except ValueError:
        return None


def _nobody(user_id: str) -> MatrixError:
    return not_found(f"{user_id} is nobody of this university. / {user_id} ist an dieser Universität nicht bekannt.")


def _unwrap(failure: Failure) -> None:
    """The first error of several look-ups, in terms of the protocol."""
    error = getattr(failure.value, "subFailure", failure).value
    if isinstance(error, DirectoryUnavailable):
        log.warn("somebody without an account can't be invited: {error}", error=error)
        raise MatrixError(
            503,
            "M_UNKNOWN",
            "The university's directory does not answer, so people who were never here can't be invited now. / "
            "Das Verzeichnis der Universität antwortet nicht; wer noch nie hier war, kann gerade nicht eingeladen werden.",
        )
    raise error
