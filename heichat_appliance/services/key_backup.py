"""Server-side key backups (spec section of that name).

Sessions are written and deleted in parts, each a short job of its own: they do not depend on each other, so a crash in
between leaves a correct backup, and a client that got no answer sends the same again.
"""

from __future__ import annotations

from typing import Any

import orjson
from twisted.internet.defer import Deferred

from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import MatrixError, bad_json, invalid_param, not_found
from heichat_appliance.protocol.canonicaljson import MAX_INT
from heichat_appliance.protocol.devicekeys import Json
from heichat_appliance.store import key_backup as store
from heichat_appliance.store.events import Execute
from heichat_appliance.store.key_backup import Backup, StoredSession

#: The algorithms of the spec.
ALGORITHMS = frozenset(["m.megolm_backup.v1.curve25519-aes-sha2"])
#: The most backups of a person that are not deleted, and the most sessions of one.
MAX_BACKUPS = 50
MAX_SESSIONS = 500_000
#: The most bytes of auth_data and of session_data, as JSON.
MAX_DATA = 16 * 1024
#: Sessions written, and deleted, by one job.
PART = 200


class KeyBackup:
    """Use cases over the key backups of people. Versions go in and out as strings."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def start(self) -> None:
        """Finish deletions that a stop of the server interrupted."""
        for user_id, version in store.left_overs(self._engine.read):
            await self._delete_parts(user_id, version, None, None)

    # -- versions ------------------------------------------------------------------------------------------------

    def create(self, user_id: str, body: Json) -> Deferred[Json]:
        """Begin a new backup with `algorithm` and `auth_data`; returns {"version"}. Raises 400, 403 (too many)."""
        algorithm, auth_data = _description(body)
        return self._engine.write(_create, user_id, algorithm, auth_data)

    def describe(self, user_id: str, version: str | None) -> Json:
        """What GET /room_keys/version[/{version}] answers; None: the current one. Raises 404 M_NOT_FOUND."""
        backup = self._backup(user_id, version)
        return {
            "version": str(backup.version),
            "algorithm": backup.algorithm,
            "auth_data": orjson.Fragment(backup.auth_data),
            **_state(backup),
        }

    def update(self, user_id: str, version: str, body: Json) -> Deferred[Json]:
        """Replace the auth_data of a backup; returns {}. Raises 400 M_INVALID_PARAM (other algorithm or version), 404."""
        algorithm, auth_data = _description(body)
        if body.get("version", version) != version:
            raise invalid_param("version in the body is not the version in the path")
        return self._engine.write(_update, user_id, _number(version), algorithm, auth_data)

    def delete(self, user_id: str, version: str) -> Deferred[Json]:
        """Delete a backup with all its sessions; returns {}, also when it was deleted before. Raises 404."""
        return Deferred.fromCoroutine(self._delete(user_id, _number(version)))

    async def _delete(self, user_id: str, version: int) -> Json:
        await self._engine.write(_mark_deleted, user_id, version)
        await self._delete_parts(user_id, version, None, None)
        return {}

    # -- sessions ------------------------------------------------------------------------------------------------

    def put(self, user_id: str, version: str, rooms: Json) -> Deferred[Json]:
        """Store sessions, {room ID: {"sessions": {session ID: key data}}}, in the current backup.

        Where there is one already, the better one stays (see `is_better`). Returns {"etag", "count"}. Raises 400 (then
        nothing is stored), 403 M_WRONG_ROOM_KEYS_VERSION, 404, 413 M_TOO_LARGE.
        """
        new = [
            _session(room_id, session_id, value)
            for room_id, room in rooms.items()
            for session_id, value in _sessions_of(room_id, room).items()
        ]
        return Deferred.fromCoroutine(self._put(user_id, _number(version), new))

    async def _put(self, user_id: str, version: int, new: list[StoredSession]) -> Json:
        answer: Json = await self._engine.write(_put_part, user_id, version, new[:PART])
        for start in range(PART, len(new), PART):
            answer = await self._engine.write(_put_part, user_id, version, new[start : start + PART])
        return answer

    def get(self, user_id: str, version: str) -> Deferred[bytes]:
        """All sessions of a backup, as the JSON {"rooms": {room ID: {"sessions": ...}}}. Raises 404."""
        number = self._backup(user_id, version).version
        return self._engine.read_in_thread(_all_rooms, user_id, number)

    def get_room(self, user_id: str, version: str, room_id: str) -> Deferred[bytes]:
        """The sessions of one room, as the JSON {"sessions": {session ID: key data}}. Raises 404."""
        number = self._backup(user_id, version).version
        return self._engine.read_in_thread(_one_room, user_id, number, room_id)

    def get_session(self, user_id: str, version: str, room_id: str, session_id: str) -> Json:
        """One session's key data. Raises 404 for an unknown backup or session."""
        number = self._backup(user_id, version).version
        found = store.session(self._engine.read, user_id, number, room_id, session_id)
        if found is None:
            raise not_found("this backup has no such key")
        return _key_data(found)

    def remove(
        self, user_id: str, version: str, room_id: str | None = None, session_id: str | None = None
    ) -> Deferred[Json]:
        """Delete one session, those of a room, or all; returns {"etag", "count"}. Raises 404 for an unknown backup."""
        number = self._backup(user_id, version).version
        return Deferred.fromCoroutine(self._remove(user_id, number, room_id, session_id))

    async def _remove(self, user_id: str, version: int, room_id: str | None, session_id: str | None) -> Json:
        await self._delete_parts(user_id, version, room_id, session_id)
        return _state(_known(self._engine.read, user_id, version))

    async def _delete_parts(self, user_id: str, version: int, room_id: str | None, session_id: str | None) -> None:
        while await self._engine.write(_delete_part, user_id, version, room_id, session_id) == PART:
            pass

    def _backup(self, user_id: str, version: str | None) -> Backup:
        if version is not None:
            return _known(self._engine.read, user_id, _number(version))
        found = store.current(self._engine.read, user_id)
        if found is None:
            raise not_found("there is no backup")
        return found


def is_better(new: tuple[bool, int, int], old: tuple[bool, int, int]) -> bool:
    """Whether a session replaces one that is stored; both as (is_verified, first_message_index, forwarded_count).

    Verified beats unverified, then the lower index, then the lower count; the stored one stays if they are equal.
    Source: spec, "Server-side key backups".
    """
    return (not new[0], *new[1:]) < (not old[0], *old[1:])


# -- jobs --------------------------------------------------------------------------------------------------------


def _create(tx: Transaction, user_id: str, algorithm: str, auth_data: str) -> Json:
    if store.number_of_versions(tx.execute, user_id) >= MAX_BACKUPS:
        raise MatrixError(403, "M_RESOURCE_LIMIT_EXCEEDED", f"at most {MAX_BACKUPS} backups; delete one first")
    return {"version": str(store.create(tx, user_id, algorithm, auth_data))}


def _update(tx: Transaction, user_id: str, version: int, algorithm: str, auth_data: str) -> Json:
    if _known(tx.execute, user_id, version).algorithm != algorithm:
        raise invalid_param("algorithm is not the algorithm of this backup")
    store.put_auth_data(tx, user_id, version, auth_data)
    return {}


def _mark_deleted(tx: Transaction, user_id: str, version: int) -> None:
    if store.get(tx.execute, user_id, version) is None:
        raise _unknown()
    store.mark_deleted(tx, user_id, version)


def _put_part(tx: Transaction, user_id: str, version: int, new: list[StoredSession]) -> Json:
    backup, current = _known(tx.execute, user_id, version), store.current(tx.execute, user_id)
    if current is not None and current.version != version:
        raise MatrixError(
            403,
            "M_WRONG_ROOM_KEYS_VERSION",
            f"version must be the current backup, {current.version}",
            current_version=str(current.version),
        )
    added = replaced = 0
    for session in new:
        known = store.rank(tx.execute, user_id, version, session.room_id, session.session_id)
        if known is None:
            store.add_session(tx, user_id, version, session)
            added += 1
        elif is_better((session.is_verified, session.first_message_index, session.forwarded_count), known[1]):
            store.replace_session(tx, known[0], session)
            replaced += 1
    if backup.count + added > MAX_SESSIONS:
        raise MatrixError(413, "M_TOO_LARGE", f"a backup has at most {MAX_SESSIONS} keys")
    if added or replaced:
        store.note_change(tx, user_id, version, added)
    return _state(_known(tx.execute, user_id, version))


def _delete_part(tx: Transaction, user_id: str, version: int, room_id: str | None, session_id: str | None) -> int:
    deleted = store.delete_some(tx, user_id, version, room_id, session_id, PART)
    if deleted:
        store.note_change(tx, user_id, version, -deleted)
    return deleted


# -- shapes ------------------------------------------------------------------------------------------------------


def _unknown() -> MatrixError:
    return not_found("there is no backup of this version")


def _known(execute: Execute, user_id: str, version: int) -> Backup:
    found = store.get(execute, user_id, version)
    if found is None or found.deleted:
        raise _unknown()
    return found


def _number(version: str) -> int:
    if not version.isascii() or not version.isdigit() or len(version) > 15:
        raise _unknown()
    return int(version)


def _state(backup: Backup) -> Json:
    return {"etag": str(backup.etag), "count": backup.count}


def _description(body: Json) -> tuple[str, str]:
    algorithm, auth_data = body.get("algorithm"), body.get("auth_data")
    if not isinstance(algorithm, str):
        raise bad_json("algorithm must be a string")
    if algorithm not in ALGORITHMS:
        raise invalid_param(f"algorithm must be {', '.join(sorted(ALGORITHMS))}")
    return algorithm, _encode(auth_data, "auth_data")


def _encode(value: object, where: str) -> str:
    if not isinstance(value, dict):
        raise bad_json(f"{where} must be an object")
    encoded = orjson.dumps(value)
    if len(encoded) > MAX_DATA:
        raise MatrixError(413, "M_TOO_LARGE", f"{where} has more than {MAX_DATA} bytes")
    return encoded.decode()


def _sessions_of(room_id: str, room: object) -> Json:
    sessions = room.get("sessions") if isinstance(room, dict) else None
    if not isinstance(sessions, dict):
        raise bad_json(f"rooms: {room_id[:255]} must be an object with sessions, an object")
    return sessions


def _session(room_id: str, session_id: str, value: object) -> StoredSession:
    if not (room_id.startswith("!") and len(room_id) <= 255 and 0 < len(session_id) <= 255):
        raise invalid_param("rooms: room IDs begin with !, and room IDs and session IDs have at most 255 characters")
    if not isinstance(value, dict):
        raise bad_json(f"session {session_id} must be an object")
    verified = value.get("is_verified")
    if not isinstance(verified, bool):
        raise bad_json(f"session {session_id}: is_verified must be true or false")
    for name in ("first_message_index", "forwarded_count"):
        number = value.get(name)
        if type(number) is not int or not 0 <= number <= MAX_INT:
            raise bad_json(f"session {session_id}: {name} must be a whole number")
    data = _encode(value.get("session_data"), f"session {session_id}: session_data")
    index, forwarded = value["first_message_index"], value["forwarded_count"]
    return StoredSession(room_id, session_id, index, forwarded, verified, data)


def _key_data(session: StoredSession) -> Json:
    return {
        "first_message_index": session.first_message_index,
        "forwarded_count": session.forwarded_count,
        "is_verified": bool(session.is_verified),
        "session_data": orjson.Fragment(session.session_data),
    }


def _all_rooms(execute: Execute, user_id: str, version: int) -> bytes:
    rooms: dict[str, Any] = {}
    for session in store.sessions(execute, user_id, version, None):
        rooms.setdefault(session.room_id, {"sessions": {}})["sessions"][session.session_id] = _key_data(session)
    return orjson.dumps({"rooms": rooms})


def _one_room(execute: Execute, user_id: str, version: int, room_id: str) -> bytes:
    found = store.sessions(execute, user_id, version, room_id)
    return orjson.dumps({"sessions": {session.session_id: _key_data(session) for session in found}})
