"""Sessions: an access token says who asks, and from which device.

Tokens are random; the database has them as SHA-256 only, memory has the Session they stand for. With refresh tokens an
access token expires, and a refresh token stays good until what it was traded for is used (spec, "Refreshing access
tokens").
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from heichat_appliance.clock import Clock
from heichat_appliance.db.engine import FOREVER, Engine, EngineStopped, Transaction
from heichat_appliance.errors import MatrixError, forbidden, not_found
from heichat_appliance.ids import new_device_id, new_token
from heichat_appliance.services.accounts import Accounts
from heichat_appliance.store import devices, keys

log = Logger()

#: Sessions kept in memory; the one that was used longest ago goes first.
MAX_CACHED = 50_000
#: Devices of one person; the one that was seen longest ago goes first.
MAX_DEVICES = 200
#: How exactly `last_seen_ts` is known, and how often it is written.
SEEN_STEP_MS = 60_000
FLUSH_SECONDS = 60.0
_FLUSH_AT_ONCE = 100


@dataclass(slots=True, eq=False)
class Session:
    """Who asks. `ended` becomes True at logout, for those who hold a session for long (a waiting sync)."""

    user_id: str
    device_id: str
    token_hash: bytes
    expires_ts: int = FOREVER
    seen_ts: int = 0
    peer: str = ""
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a login or a refresh hands out; without `refresh_token` the access token does not expire."""

    user_id: str
    device_id: str
    access_token: str
    refresh_token: str | None
    expires_in_ms: int | None


class Sessions:
    """Begins, knows, refreshes and ends sessions, and looks after devices."""

    def __init__(
        self, engine: Engine, clock: Clock, accounts: Accounts, reactor: IReactorTime, access_token_lifetime: int
    ) -> None:
        """`access_token_lifetime`: seconds, for clients that use refresh tokens; others get one until logout."""
        self._engine = engine
        self._clock = clock
        self._accounts = accounts
        self._lifetime_ms = access_token_lifetime * 1000
        self._cache: OrderedDict[bytes, Session] = OrderedDict()
        self._seen: dict[tuple[str, str], tuple[int, str]] = {}
        self._flushing = LoopingCall(self._flush)
        self._flushing.clock = reactor

    def start(self) -> None:
        """From now on `last_seen` is written once in a while."""
        self._flushing.start(FLUSH_SECONDS, now=False)

    async def stop(self) -> None:
        """Write what is not written yet."""
        if self._flushing.running:
            self._flushing.stop()
        await self._flush()

    # -- who asks ------------------------------------------------------------------------------------------------

    def authenticate(self, token: str, peer: str) -> Session:
        """The Session of an access token, used from the address `peer`; 401 M_UNKNOWN_TOKEN for any other."""
        digest = _digest(token)
        session = self._cache.get(digest)
        if session is None:
            session = self._load(digest)
        else:
            self._cache.move_to_end(digest)
        now = self._clock.now_ms()
        if now >= session.expires_ts:
            raise _unknown_token("this access token has expired", soft_logout=True)
        if now - session.seen_ts >= SEEN_STEP_MS or peer != session.peer:
            session.seen_ts = now
            session.peer = peer
            self._seen[session.user_id, session.device_id] = (now, peer)
        return session

    def _load(self, digest: bytes) -> Session:
        row = devices.access_token(self._engine.read, digest)
        if row is None:
            raise _unknown_token("this access token is not known")
        session = Session(row.user_id, row.device_id, digest, FOREVER if row.expires_ts is None else row.expires_ts)
        self._cache[digest] = session
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        if row.expires_ts is not None and devices.awaits_first_use(self._engine.read, digest):
            retired = self._engine.write(lambda tx: devices.retire_predecessor(tx.execute, digest))
            retired.addErrback(self._not_retired, digest)
        return session

    def _not_retired(self, failure: object, digest: bytes) -> None:
        self._cache.pop(digest, None)  # the next use tries again

    def _forget(self, hashes: Iterable[bytes]) -> None:
        for digest in hashes:
            session = self._cache.pop(digest, None)
            if session is not None:
                session.ended = True

    # -- begin and refresh ---------------------------------------------------------------------------------------

    def begin(
        self, user_id: str, device_id: str | None, display_name: str | None, with_refresh_token: bool, peer: str
    ) -> Deferred[Tokens]:
        """Begin a session of an account on a device, known or new (None: with a new ID), at the address `peer`.

        The device counts as seen. Tokens that it had end. 403 M_FORBIDDEN if the device ID is one of the person's
        cross-signing keys.
        """
        now = self._clock.now_ms()
        tokens = self._new_tokens(user_id, device_id or new_device_id(), with_refresh_token)
        begun = self._engine.write(self._begin_job, tokens, display_name, now, peer)
        return begun.addCallback(self._ended, tokens)

    def _begin_job(self, tx: Transaction, tokens: Tokens, display_name: str | None, now: int, peer: str) -> list[bytes]:
        user_id, device_id, execute = tokens.user_id, tokens.device_id, tx.execute
        ended = devices.access_hashes(execute, user_id, device_id)
        devices.delete_access_tokens(execute, ended)
        devices.delete_refresh_tokens(execute, user_id, device_id)
        if devices.get(execute, user_id, device_id) is None:
            if devices.is_cross_signing_key(execute, user_id, device_id):
                raise forbidden("device_id: this is the ID of a cross-signing key")
            for unseen in devices.longest_unseen(execute, user_id, MAX_DEVICES - 1):
                ended += self._delete_job(tx, user_id, [unseen])
            devices.add(execute, user_id, device_id, display_name, now)
        devices.seen(execute, user_id, device_id, now, peer)
        self._seen.pop((user_id, device_id), None)
        self._store(tx, tokens, now)
        return ended

    def refresh(self, refresh_token: str) -> Deferred[Tokens]:
        """Trade a refresh token for new tokens. The old one stays good until one of the new ones is used.

        401 M_UNKNOWN_TOKEN if it is not known or was used up, 401 M_USER_LOCKED for a locked account.
        """
        now = self._clock.now_ms()
        return self._engine.write(self._refresh_job, _digest(refresh_token), now).addCallback(self._refreshed)

    def _refresh_job(self, tx: Transaction, digest: bytes, now: int) -> tuple[list[bytes], Tokens]:
        old = devices.refresh_token(tx.execute, digest)
        if old is None:
            raise _unknown_token("this refresh token is not known or was used before")
        self._accounts.refuse_locked(old.user_id)
        tokens = self._new_tokens(old.user_id, old.device_id, True)
        # What was handed out for this token before was never used, or this token would be gone. Of the access tokens
        # only the current one stays until it expires, for requests under way.
        hashes = devices.access_hashes(tx.execute, old.user_id, old.device_id)
        if old.successor is not None:
            ended = [old.successor]
        else:
            current = devices.newest_access_hash(tx.execute, old.user_id, old.device_id)
            ended = [found for found in hashes if found != current]
        devices.delete_access_tokens(tx.execute, ended)
        devices.delete_refresh_tokens(tx.execute, old.user_id, old.device_id, keep=digest)
        self._store(tx, tokens, now)
        devices.set_successor(tx.execute, digest, _digest(tokens.access_token))
        return ended, tokens

    def _refreshed(self, result: tuple[list[bytes], Tokens]) -> Tokens:
        return self._ended(*result)

    def _ended(self, hashes: list[bytes], tokens: Tokens) -> Tokens:
        self._forget(hashes)
        return tokens

    def _new_tokens(self, user_id: str, device_id: str, with_refresh_token: bool) -> Tokens:
        access_token = "hct_" + new_token()
        if not with_refresh_token:
            return Tokens(user_id, device_id, access_token, None, None)
        return Tokens(user_id, device_id, access_token, "hcr_" + new_token(), self._lifetime_ms)

    @staticmethod
    def _store(tx: Transaction, tokens: Tokens, now: int) -> None:
        owner = (tokens.user_id, tokens.device_id)
        expires = None if tokens.expires_in_ms is None else now + tokens.expires_in_ms
        devices.add_access_token(tx.execute, _digest(tokens.access_token), *owner, now, expires)
        if tokens.refresh_token is not None:
            devices.add_refresh_token(tx.execute, _digest(tokens.refresh_token), *owner, now)

    # -- devices -------------------------------------------------------------------------------------------------

    def devices(self, user_id: str) -> list[devices.Device]:
        """All devices of a person."""
        return [self._with_last_seen(user_id, device) for device in devices.of_user(self._engine.read, user_id)]

    def device(self, user_id: str, device_id: str) -> devices.Device:
        """One device of a person; 404 M_NOT_FOUND if there is none."""
        device = devices.get(self._engine.read, user_id, device_id)
        if device is None:
            raise _no_device()
        return self._with_last_seen(user_id, device)

    def _with_last_seen(self, user_id: str, device: devices.Device) -> devices.Device:
        ts, ip = self._seen.get((user_id, device.device_id), (device.last_seen_ts, device.last_seen_ip))
        return device._replace(last_seen_ts=ts, last_seen_ip=ip)

    def rename(self, user_id: str, device_id: str, display_name: str) -> Deferred[None]:
        """Set a device's display name, which others see beside its keys; 404 M_NOT_FOUND if there is no such device."""
        return self._engine.write(self._rename_job, user_id, device_id, display_name)

    @staticmethod
    def _rename_job(tx: Transaction, user_id: str, device_id: str, display_name: str) -> None:
        if not devices.rename(tx.execute, user_id, device_id, display_name):
            raise _no_device()
        if devices.has_keys(tx.execute, user_id, device_id):
            keys.note_device_change(tx, user_id)

    def delete(self, user_id: str, device_ids: Iterable[str]) -> Deferred[None]:
        """End the sessions of some devices and delete these with their keys; those that do not exist are skipped."""
        return self._engine.write(self._delete_job, user_id, list(device_ids)).addCallback(self._forget)

    def delete_all(self, user_id: str) -> Deferred[None]:
        """Delete all devices of a person, and so end all sessions."""

        def job(tx: Transaction) -> list[bytes]:
            return self._delete_job(tx, user_id, [device.device_id for device in devices.of_user(tx.execute, user_id)])

        return self._engine.write(job).addCallback(self._forget)

    @staticmethod
    def _delete_job(tx: Transaction, user_id: str, device_ids: list[str]) -> list[bytes]:
        ended: list[bytes] = []
        had_keys = False
        known = {device.device_id for device in devices.of_user(tx.execute, user_id)}
        for device_id in known.intersection(device_ids):
            ended += devices.access_hashes(tx.execute, user_id, device_id)
            had_keys |= devices.delete(tx.execute, user_id, device_id)
        if had_keys:
            keys.note_device_change(tx, user_id)
        if ended:
            tx.users.add(user_id)  # a waiting sync of such a session looks up and finds it ended
        return ended

    async def _flush(self) -> None:
        seen, self._seen = self._seen, {}
        batch = [(user_id, device_id, ts, ip) for (user_id, device_id), (ts, ip) in seen.items()]
        try:
            for start in range(0, len(batch), _FLUSH_AT_ONCE):
                await self._engine.write(_write_seen, batch[start : start + _FLUSH_AT_ONCE])
        except (MatrixError, EngineStopped):
            log.warn("when devices were last seen could not be stored; it will be known again at their next request")


def _write_seen(tx: Transaction, batch: list[tuple[str, str, int, str]]) -> None:
    for user_id, device_id, ts, ip in batch:
        devices.seen(tx.execute, user_id, device_id, ts, ip)


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def _unknown_token(sentence: str, **extra: object) -> MatrixError:
    return MatrixError(401, "M_UNKNOWN_TOKEN", sentence, **extra)


def _no_device() -> MatrixError:
    return not_found("you have no device with this ID")
