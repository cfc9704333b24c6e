"""OpenID tokens: with one, a person proves to a third service (a widget, a call service) who they are.

Source: client-server API, "OpenID"; server-server API, "OpenID" (`/openid/userinfo`). They live an hour, in memory only.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256

from heichat_appliance import ids
from heichat_appliance.clock import Clock
from heichat_appliance.errors import MatrixError

LIFETIME_MS = 3_600_000
MAX_TOKENS = 50_000


class OpenId:
    """Hands tokens out and tells whose they are."""

    def __init__(self, clock: Clock, server_name: str) -> None:
        self._clock = clock
        self._server_name = server_name
        self._tokens: OrderedDict[bytes, tuple[str, int]] = OrderedDict()

    def issue(self, user_id: str) -> dict[str, object]:
        """A new token for the person: the answer of request_token."""
        token = ids.new_token(32)
        now = self._clock.now_ms()
        self._tokens[_hash(token)] = (user_id, now + LIFETIME_MS)
        while self._tokens and (len(self._tokens) > MAX_TOKENS or next(iter(self._tokens.values()))[1] < now):
            self._tokens.popitem(last=False)
        return {
            "access_token": token,
            "token_type": "Bearer",
            "matrix_server_name": self._server_name,
            "expires_in": LIFETIME_MS // 1000,
        }

    def whose(self, token: str) -> str:
        """The user ID that a token belongs to; 401 M_UNKNOWN_TOKEN if it is none, or too old."""
        user_id, until = self._tokens.get(_hash(token), ("", 0))
        if until < self._clock.now_ms():
            raise MatrixError(401, "M_UNKNOWN_TOKEN", "access_token is unknown or has expired")
        return user_id


def _hash(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()
