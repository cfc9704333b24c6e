"""Profiles, and how a new name or avatar reaches the rooms (client-server API "Profiles").

A change is stored together with the list of rooms that still show the old profile; then it is answered. The list is
worked off in small jobs, so that a person in hundreds of rooms holds up nobody, and what a stop leaves of it is done
after the next start.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from heichat_appliance import ids
from heichat_appliance.db.engine import Engine, EngineStopped, Transaction
from heichat_appliance.errors import MatrixError, bad_json, forbidden, invalid_param, not_found
from heichat_appliance.extension import DirectoryUnavailable
from heichat_appliance.services.timeline import Timeline
from heichat_appliance.store import accounts
from heichat_appliance.store import profiles as store

log = Logger()

NAME, AVATAR = SHOWN_IN_ROOMS = ("displayname", "avatar_url")
TIME_ZONE = "m.tz"
#: The most bytes of a whole profile and of a field's name (spec).
MAX_PROFILE = 64 * 1024
MAX_KEY = 255
#: The most characters.
MAX_NAME = 256
MAX_TIME_ZONE = 100
MAX_AVATAR = 512
#: Rooms told in one job.
ROOMS_AT_ONCE = 3

_KEY = re.compile(r"displayname|avatar_url|[a-z][a-z0-9_\-]*(\.[a-z0-9_\-]+)+")
_MXC = re.compile(r"mxc://[A-Za-z0-9.:\[\]\-]+/[A-Za-z0-9_\-]+")


class Profiles:
    """Reads and changes profiles."""

    def __init__(
        self, engine: Engine, timeline: Timeline, *, directory: Any | None, changed: Callable[[str], None]
    ) -> None:
        """`directory`: the provider of extension.IIdentity if display names come from there, None if people choose them.

        `changed(user_id)` is called after a new display name or avatar was stored.
        """
        self._engine = engine
        self._timeline = timeline
        self._directory = directory
        self._changed = changed
        self._working: set[str] = set()

    def start(self) -> None:
        """Go on with what the last stop interrupted."""
        for user_id in store.outdated_users(self._engine.read):
            self._tell_rooms(user_id)

    # -- reading -------------------------------------------------------------------------------------------------

    def get(self, user_id: str) -> dict[str, Any]:
        """All fields; 404 M_NOT_FOUND for somebody who is not known here, 400 M_INVALID_PARAM if it is no user ID."""
        _check_user_id(user_id)
        found = store.fields(self._engine.read, user_id)
        if not found and accounts.by_user_id(self._engine.read, user_id) is None:
            raise not_found("nobody of this user ID is known here / Diese Nutzerkennung ist hier nicht bekannt")
        return {name: orjson.loads(value) for name, value in found.items()}

    def field(self, user_id: str, name: str) -> dict[str, Any]:
        """One field as {name: value}; 404 M_NOT_FOUND if it is not set."""
        _check_user_id(user_id)
        _check_key(name)
        value = store.field(self._engine.read, user_id, name)
        if value is None:
            raise not_found(f"this person has no profile field {name}")
        return {name: orjson.loads(value)}

    # -- changing ------------------------------------------------------------------------------------------------

    def put(self, user_id: str, name: str, value: Any) -> Deferred[None]:
        """Set a field; an empty display name or avatar takes it away, as clients mean it.

        Raises 400 M_KEY_TOO_LARGE, M_INVALID_PARAM or M_BAD_JSON, 403 M_FORBIDDEN for a name that the directory gives;
        fails with 400 M_PROFILE_TOO_LARGE.
        """
        self._check_may_change(name)
        if name in (*SHOWN_IN_ROOMS, TIME_ZONE):
            value = _checked_text(name, value)
            if not value:
                return self.delete(user_id, name)
        return self._write(user_id, name, orjson.dumps(value).decode())

    def delete(self, user_id: str, name: str) -> Deferred[None]:
        """Take a field away; nothing happens if it is not set. Raises as `put`."""
        self._check_may_change(name)
        return self._write(user_id, name, None)

    def logged_in(self, user_id: str) -> None:
        """After a login, where display names come from the directory: look whether it has a new one by now."""
        if self._directory is not None:
            Deferred.fromCoroutine(self._take_over_name(self._directory, user_id)).addErrback(
                lambda failure: log.failure("a name of the directory could not be taken over", failure)
            )

    async def _take_over_name(self, directory: Any, user_id: str) -> None:
        account = accounts.by_user_id(self._engine.read, user_id)
        try:
            person = None if account is None else await directory.look_up(account.uni_id)
            name = ((person and person.display_name) or "").strip()[:MAX_NAME]
            if name:
                await self._write(user_id, NAME, orjson.dumps(name).decode())
        except (DirectoryUnavailable, EngineStopped):
            pass  # at the next login then

    def _check_may_change(self, name: str) -> None:
        _check_key(name)
        if name == NAME and self._directory is not None:
            raise forbidden(
                "your name comes from the university's directory and can't be changed here / "
                "Ihr Name kommt aus dem Verzeichnis der Universität und kann hier nicht geändert werden"
            )

    def _write(self, user_id: str, name: str, value: str | None) -> Deferred[None]:
        return self._engine.write(self._write_job, user_id, name, value).addCallback(self._written, user_id, name)

    @staticmethod
    def _write_job(tx: Transaction, user_id: str, name: str, value: str | None) -> bool:
        fields = store.fields(tx.execute, user_id)
        if fields.get(name) == value:
            return False
        if value is None:
            store.delete(tx, user_id, name)
        else:
            others = sum(len(key.encode()) + len(text.encode()) + 6 for key, text in fields.items() if key != name)
            if others + len(name) + len(value.encode()) + 6 > MAX_PROFILE:
                raise MatrixError(400, "M_PROFILE_TOO_LARGE", f"a profile must not have more than {MAX_PROFILE} bytes")
            store.put(tx, user_id, name, value)
        if name in SHOWN_IN_ROOMS:
            store.add_outdated(tx, user_id)
        return True

    def _written(self, changed: bool, user_id: str, name: str) -> None:
        if changed and name in SHOWN_IN_ROOMS:
            self._changed(user_id)
            self._tell_rooms(user_id)

    # -- telling the rooms ---------------------------------------------------------------------------------------

    def _tell_rooms(self, user_id: str) -> None:
        if user_id not in self._working:
            self._working.add(user_id)
            Deferred.fromCoroutine(self._work_off(user_id)).addErrback(
                lambda failure: log.failure("a profile could not be brought to all rooms", failure)
            )

    async def _work_off(self, user_id: str) -> None:
        try:
            while await self._engine.write(self._bring_up_to_date, user_id):
                pass
        except EngineStopped:
            pass  # goes on after the next start
        finally:
            self._working.discard(user_id)

    def _bring_up_to_date(self, tx: Transaction, user_id: str) -> bool:
        """Tell some rooms; whether there may be more. The profile is read here: it may have changed again."""
        rooms = store.outdated_rooms(tx.execute, user_id, ROOMS_AT_ONCE)
        shown = store.display(tx.execute, user_id)
        for room_id in rooms:
            store.remove_outdated(tx, user_id, room_id)
            view = self._timeline.view(tx, room_id)
            member = view.get(("m.room.member", user_id))
            content = member_content(shown)
            if member is None or member.content["membership"] != "join" or _shows(member.content, shown):
                continue
            try:
                self._timeline.append(
                    tx, view, type="m.room.member", sender=user_id, state_key=user_id, content=content
                )
            except MatrixError as error:
                log.info("a profile is not brought to {room_id}: {error}", room_id=room_id, error=error.message)
        return len(rooms) == ROOMS_AT_ONCE


def member_content(shown: store.Display, membership: str = "join") -> dict[str, Any]:
    """The content of an m.room.member event with a person's name and avatar, as far as they are set."""
    content: dict[str, Any] = {"membership": membership}
    if shown.display_name is not None:
        content["displayname"] = shown.display_name
    if shown.avatar_url is not None:
        content["avatar_url"] = shown.avatar_url
    return content


def _shows(content: Any, shown: store.Display) -> bool:
    return (content.get(NAME), content.get(AVATAR)) == tuple(shown)


def _check_user_id(user_id: str) -> None:
    if not ids.is_user_id(user_id):
        raise invalid_param("userId is not a user ID")


def _check_key(name: str) -> None:
    if len(name.encode()) > MAX_KEY:
        raise MatrixError(400, "M_KEY_TOO_LARGE", f"keyName must not be longer than {MAX_KEY} bytes")
    if not _KEY.fullmatch(name):
        raise invalid_param("keyName must be displayname, avatar_url, m.tz or a name such as org.example.field")


def _checked_text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise bad_json(f"{name} must be a string")
    limit = {NAME: MAX_NAME, AVATAR: MAX_AVATAR, TIME_ZONE: MAX_TIME_ZONE}[name]
    text = value.strip()
    if len(text) > limit or any(ord(character) < 32 or character == "\x7f" for character in text):
        raise invalid_param(f"{name} must not be longer than {limit} characters or have control characters")
    if name == AVATAR and text and not _MXC.fullmatch(text):
        raise invalid_param("avatar_url must be an mxc:// URI")
    return text
