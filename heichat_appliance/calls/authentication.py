"""Long-term credentials (RFC 8489 section 9.2): who sent a message, and what strangers are asked for."""

from __future__ import annotations

from typing import NamedTuple

from heichat_appliance.calls import stun
from heichat_appliance.calls.credentials import USERNAME_BYTES, Nonces, long_term_key, parse_username, password
from heichat_appliance.calls.stun import Address, Message

#: Seconds for which credentials that have ended still keep up an allocation that they made: a call isn't cut off.
GRACE = 4 * 3600


class Who(NamedTuple):
    """Who asks: username and key as in the request, and the person that the username names."""

    username: bytes
    person: str
    key: bytes


class Refused(Exception):
    """A request gets an error."""

    def __init__(self, code: int, reason: str, attributes: tuple[tuple[int, bytes], ...] = ()) -> None:
        super().__init__(code)
        self.code, self.reason, self.attributes = code, reason, attributes


class Authenticator:
    """Checks what `credentials` handed out."""

    def __init__(self, secret: str, realm: str, nonces: Nonces) -> None:
        """`secret` is shared with those who hand out credentials; a short `realm` keeps answers to strangers short."""
        self._secret, self._realm, self._nonces = secret, realm, nonces

    def authenticate(self, data: bytes, message: Message, client: Address, relayed: bool, wall: float) -> Who:
        """Who sent the message in `data` from the address `client`, which has an allocation if `relayed`; `wall` in seconds
        since 1970. Raises Refused."""
        if not message.integrity_at and not message.integrity256_at:
            raise self._challenge(401, client, wall)
        username, realm, nonce = message.get(stun.USERNAME), message.get(stun.REALM), message.get(stun.NONCE)
        if username is None or realm is None or nonce is None:
            raise Refused(400, "")
        try:
            name = username.decode()
        except UnicodeDecodeError:
            raise self._challenge(401, client, wall)
        parsed = parse_username(name) if len(username) <= USERNAME_BYTES else None
        if parsed is None or parsed[0] + (GRACE if relayed else 0) <= wall or realm != self._realm.encode():
            raise self._challenge(401, client, wall)
        key = long_term_key(name, self._realm, password(self._secret, name))
        if not stun.integrity_holds(data, message, key):
            raise self._challenge(401, client, wall)
        if not self._nonces.check(nonce, wall, repr(client).encode()):
            raise self._challenge(438, client, wall)
        return Who(username, parsed[1], key)

    def _challenge(self, code: int, client: Address, wall: float) -> Refused:
        nonce = self._nonces.make(wall, repr(client).encode())
        return Refused(code, "", ((stun.REALM, self._realm.encode()), (stun.NONCE, nonce)))
