"""Messages to devices: sent once, kept in order until acknowledged (spec, "Send-to-Device messaging")."""

from __future__ import annotations

import orjson
from twisted.internet.defer import Deferred

from heichat_appliance.clock import Clock
from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import MatrixError, bad_json
from heichat_appliance.protocol.devicekeys import Json
from heichat_appliance.ratelimit import RateLimiter
from heichat_appliance.store import to_device as store

#: The most bytes of one message (its content as JSON), and the most messages of one request.
MAX_CONTENT = 64 * 1024
MAX_MESSAGES = 1_000
#: The most messages of one sender that wait for one device. More are refused, never dropped; so nobody can fill the
#: queue of a device that is off for others. Honest people do not come near: a lost telephone that nobody logs out gets
#: some thousand keys a year from those who write most, and must not keep them from writing.
MAX_WAITING = 20_000
#: A message counts once, and once more for each so many bytes of it.
CHARGED_BYTES = 8 * 1024
#: How long transaction IDs are remembered, and how often old ones are looked for.
REMEMBER_MS = 24 * 3600 * 1000
PRUNE_MS = 10 * 60 * 1000

#: user ID, device ID or "*", content as JSON
Message = tuple[str, str, str]


class ToDevice:
    """Sends messages to devices. `limiter` counts messages, and large ones several times, per sender."""

    def __init__(self, engine: Engine, clock: Clock, limiter: RateLimiter) -> None:
        self._engine = engine
        self._clock = clock
        self._limiter = limiter
        self._pruned = 0

    def send(self, user_id: str, device_id: str, type: str, txn_id: str, body: Json) -> Deferred[Json]:
        """Queue `body["messages"]`, {user ID: {device ID or "*": content}}, for their devices; returns {}.

        The same request again (same device, type and txn_id) does nothing. Unknown people and devices, and those of
        other servers, are passed over. All or nothing: raises 400, 413 M_TOO_LARGE (a message, or too many), 429
        M_LIMIT_EXCEEDED (too much from this person, or a device has too many waiting from them).
        """
        messages = _messages(body)
        charged = sum(len(content) // CHARGED_BYTES for _, _, content in messages)
        self._limiter.take(user_id, max(1, len(messages) + charged))
        return self._engine.write(self._send, user_id, device_id, type, txn_id, messages)

    def _send(
        self, tx: Transaction, user_id: str, device_id: str, type: str, txn_id: str, messages: list[Message]
    ) -> Json:
        now = self._clock.now_ms()
        self._prune(tx, now)
        if not store.note_transaction(tx, user_id, device_id, type, txn_id, now):
            return {}
        sent: dict[str, set[str]] = {}
        for target, device, content in messages:
            known = store.device_ids(tx.execute, target)
            for each in known if device == "*" else known & {device}:
                if each in sent.setdefault(target, set()):
                    continue  # named, and meant by * too
                sent[target].add(each)
                if store.has_waiting(tx.execute, target, each, user_id, MAX_WAITING):
                    raise _full(target, each)
                store.add(tx, target, each, user_id, type, content)
        tx.users.update(target for target, devices in sent.items() if devices)
        return {}

    def _prune(self, tx: Transaction, now: int) -> None:
        if now - self._pruned >= PRUNE_MS:
            self._pruned = now
            store.forget_transactions(tx, now - REMEMBER_MS)


def _full(user_id: str, device_id: str) -> MatrixError:
    return MatrixError(
        429,
        "M_LIMIT_EXCEEDED",
        f"messages: the device {device_id} of {user_id} has {MAX_WAITING} messages of yours waiting already",
        headers={"Retry-After": "3600"},
        retry_after_ms=3_600_000,
    )


def _messages(body: Json) -> list[Message]:
    """The messages of a request; those for a named device before those for all, so that the named one wins."""
    asked = body.get("messages")
    if not isinstance(asked, dict):
        raise bad_json("messages must be an object")
    found: list[Message] = []
    for user_id, devices in asked.items():
        if not isinstance(devices, dict):
            raise bad_json(f"messages: {user_id[:255]} must be an object of device IDs")
        for device_id, content in devices.items():
            if not isinstance(content, dict):
                raise bad_json(f"messages: {user_id[:255]}: every message must be an object")
            encoded = orjson.dumps(content)
            if len(encoded) > MAX_CONTENT:
                raise MatrixError(413, "M_TOO_LARGE", f"messages: one has more than {MAX_CONTENT} bytes")
            found.append((user_id, device_id, encoded.decode()))
    if len(found) > MAX_MESSAGES:
        raise MatrixError(413, "M_TOO_LARGE", f"messages: at most {MAX_MESSAGES} at a time")
    return sorted(found, key=lambda message: message[1] == "*")
