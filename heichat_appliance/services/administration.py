"""What the operator does to the running server, through its Unix socket (see http/admin_socket.py).

The operator stands above the rooms: they need no power level. Yet every event is a true event of its room and keeps its
rules, so what they do there is done in the name of somebody who may: people leave by themselves, and a redaction is
that of the sender or of somebody with the power, with a reason that says who wanted it.
"""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.defer import Deferred

from heichat_appliance.db.engine import FOREVER, Engine, Transaction
from heichat_appliance.errors import MatrixError, invalid_param, not_found
from heichat_appliance.ids import parse_user_id
from heichat_appliance.protocol import auth
from heichat_appliance.services.frozen import FrozenRooms
from heichat_appliance.services.media import Media
from heichat_appliance.services.notices import Notices
from heichat_appliance.services.timeline import RoomView, Timeline
from heichat_appliance.store import accounts, administration, aliases, events, state
from heichat_appliance.store import media as media_store

#: Events that one write job makes, so that nobody who writes meanwhile waits for long.
AT_ONCE = 10
MEMBER, LEVELS = "m.room.member", "m.room.power_levels"
#: The power level of a room's administrators.
ADMINISTRATOR = 100


class Administration:
    """Each method's Deferred or coroutine ends after the commit."""

    def __init__(
        self, engine: Engine, timeline: Timeline, frozen: FrozenRooms, media: Media, notices: Notices, server_name: str
    ) -> None:
        self._engine = engine
        self._timeline = timeline
        self._frozen = frozen
        self._media = media
        self._notices = notices
        self._server_name = server_name

    # -- notices -------------------------------------------------------------------------------------------------

    def notify(self, user_id: str, content: dict[str, Any], once: str) -> Deferred[bool]:
        """Send a notice to a person, in their room "Server Notices"; whether it was sent now, or (named `once`) before.

        404 M_NOT_FOUND for somebody without an account.
        """

        def job(tx: Transaction) -> bool:
            if accounts.by_user_id(tx.execute, user_id) is None:
                raise not_found("there is no account with this user ID")
            return self._notices.post(tx, user_id, content, once=once)

        return self._engine.write(job)

    # -- rooms ---------------------------------------------------------------------------------------------------

    def freeze(self, room_id: str, frozen: bool) -> Deferred[None]:
        """Let nothing be added to a room any more but leaving, or give it free. 404 M_NOT_FOUND, 403 M_FORBIDDEN."""
        self._check_closable(room_id)
        return self._frozen.freeze(room_id, frozen)

    async def shut_down(self, room_id: str, reason: str | None) -> int:
        """Freeze a room for good: everybody leaves, its addresses go. How many left. 404 M_NOT_FOUND, 403 M_FORBIDDEN.

        What a crash cuts off is continued by doing it again.
        """
        self._check_closable(room_id)
        await self._frozen.freeze(room_id, True)
        await self._engine.write(self._unlist, room_id)
        content = {"membership": "leave", "reason": _reason(reason)}
        left = 0
        while count := await self._engine.write(self._empty, room_id, content):
            left += count
        return left

    @staticmethod
    def _unlist(tx: Transaction, room_id: str) -> None:
        aliases.set_published(tx, room_id, False)
        for alias in aliases.of_room(tx.execute, room_id):
            aliases.delete(tx, alias)

    def _empty(self, tx: Transaction, room_id: str, content: dict[str, Any]) -> int:
        view = self._timeline.view(tx, room_id)
        present = administration.present(tx.execute, room_id, AT_ONCE)
        for user_id in present:
            self._timeline.append(tx, view, type=MEMBER, sender=user_id, state_key=user_id, content=content)
        return len(present)

    async def redact(self, room_id: str, event_id: str, reason: str | None) -> str:
        """Redact an event; the event ID of the redaction. 404 M_NOT_FOUND, 403 M_FORBIDDEN if nobody in the room may."""
        self._check_room(room_id)
        redaction: str = await self._engine.write(self._redact, room_id, event_id, reason)
        return redaction

    async def redact_all(self, room_id: str, reason: str | None) -> tuple[int, int]:
        """Redact all messages of a room: how many were, and how many could not be. 404 M_NOT_FOUND."""
        self._check_room(room_id)
        done = failed = position = 0
        while found := administration.messages_after(self._engine.read, room_id, position, AT_ONCE):
            for position, event_id in found:  # noqa: B007 (the last one counts)
                try:
                    await self._engine.write(self._redact, room_id, event_id, reason)
                    done += 1
                except MatrixError:
                    failed += 1
        return done, failed

    def _redact(self, tx: Transaction, room_id: str, event_id: str, reason: str | None) -> str:
        view = self._timeline.view(tx, room_id)
        target = events.by_id(tx.execute, event_id)
        if target is None or target.room_id != room_id:
            raise not_found("there is no such event in this room / dieses Ereignis gibt es in diesem Raum nicht")
        if target.redacted_by is not None:
            return target.redacted_by
        sender = self._redacter(tx, view, target.sender)
        content = {"reason": _reason(reason)}
        return self._timeline.append(
            tx, view, type="m.room.redaction", sender=sender, content=content, redacts=event_id
        ).event_id

    @staticmethod
    def _redacter(tx: Transaction, view: RoomView, target_sender: str) -> str:
        """Somebody in the room who may redact the event: its sender, else whoever has the power."""
        levels = view.get(("m.room.power_levels", ""))
        named = levels.content.get("users", {}) if levels is not None else {}
        members = state.first_members_at(tx.execute, view.room_id, ("join",), FOREVER - 1, 1)
        for candidate in (target_sender, *view.levels.creators, *named, *members):
            joined = view.membership(candidate) == "join"
            if joined and auth.may_redact(view.version, candidate, target_sender, view.levels):
                return candidate
        raise MatrixError(
            403, "M_FORBIDDEN",
            "nobody in the room may redact this event / niemand im Raum darf dieses Ereignis löschen",
        )  # fmt: skip

    def promote(self, room_id: str, user_id: str) -> Deferred[int]:
        """Give a member the power of whoever has most in the room, at most 100: for a room whose administrators are
        leaving. The level that they have then. 404 M_NOT_FOUND, 403 M_FORBIDDEN if nobody in the room may."""
        self._check_room(room_id)
        return self._engine.write(self._promote, room_id, user_id)

    def _promote(self, tx: Transaction, room_id: str, user_id: str) -> int:
        view = self._timeline.view(tx, room_id)
        if view.membership(user_id) != "join":
            raise MatrixError(403, "M_FORBIDDEN", f"{user_id} is not in this room / {user_id} ist nicht in diesem Raum")
        event = view.get((LEVELS, ""))
        content: dict[str, Any] = event.content if event is not None else {}
        named = content.get("users", {})
        sender = max(
            (one for one in (*view.levels.creators, *named) if view.membership(one) == "join"),
            key=view.levels.user, default=user_id,
        )  # fmt: skip
        level = min(view.levels.user(sender), ADMINISTRATOR)
        if level > view.levels.user(user_id):
            content = {**content, "users": {**named, user_id: level}}
            self._timeline.append(tx, view, type=LEVELS, sender=sender, state_key="", content=content)
        return view.levels.user(user_id)

    def _check_room(self, room_id: str) -> None:
        if state.room_version(self._engine.read, room_id) is None:
            raise not_found("there is no such room / diesen Raum gibt es nicht")

    def _check_closable(self, room_id: str) -> None:
        """The service itself must always be able to write to people: without that nobody could agree to new terms."""
        self._check_room(room_id)
        if administration.is_notice_room(self._engine.read, room_id):
            raise MatrixError(
                403, "M_FORBIDDEN",
                "this is somebody's room of notices from the service / dies ist der Raum für Mitteilungen des Dienstes",
            )  # fmt: skip

    # -- people --------------------------------------------------------------------------------------------------

    async def leave_all(self, user_id: str, reason: str | None) -> int:
        """A person leaves all rooms and declines all invitations; how many. 404 M_NOT_FOUND."""
        self.check_person(user_id)
        rooms = [
            room_id
            for membership in ("join", "invite", "knock")
            for room_id in state.rooms_of_user_now(self._engine.read, user_id, membership)
        ]
        content = {"membership": "leave", "reason": _reason(reason)}
        for room_id in rooms:
            await self._engine.write(self._leave, room_id, user_id, content)
        return len(rooms)

    def _leave(self, tx: Transaction, room_id: str, user_id: str, content: dict[str, Any]) -> None:
        view = self._timeline.view(tx, room_id)
        if view.membership(user_id) in ("join", "invite", "knock"):
            self._timeline.append(tx, view, type=MEMBER, sender=user_id, state_key=user_id, content=content)

    def check_person(self, user_id: str) -> None:
        """400 M_INVALID_PARAM if it is no user ID of this server, 404 M_NOT_FOUND for somebody without an account."""
        try:
            domain = parse_user_id(user_id)[1]
        except ValueError as error:
            raise invalid_param(f"userId: {error}")
        if domain != self._server_name or accounts.by_user_id(self._engine.read, user_id) is None:
            raise not_found("there is no account with this user ID / Diese Person hat kein Konto")

    # -- files ---------------------------------------------------------------------------------------------------

    async def remove_media(self, media_id: str) -> list[str]:
        """Remove a file, and everybody's uploads of the same content; the IDs of what was removed. 404 M_NOT_FOUND."""
        digest, removed = await self._engine.write(self._remove_media, media_id)
        if digest is not None:
            await self._media.files.in_thread(self._media.files.remove, digest)
        return removed

    @staticmethod
    def _remove_media(tx: Transaction, media_id: str) -> tuple[str | None, list[str]]:
        medium = media_store.get(tx.execute, media_id)
        if medium is None:
            raise not_found("there is no such file here / Diese Datei gibt es hier nicht")
        same = [medium] if medium.sha256 is None else media_store.of_content(tx.execute, medium.sha256)
        for one in same:
            media_store.remove(tx.execute, one)
        return medium.sha256, [one.media_id for one in same]

    # -- the server itself ---------------------------------------------------------------------------------------

    async def measure_commits(self, count: int) -> list[float]:
        """How long `count` writes to the disk take, one after another, in ms each: as people's requests wait for them."""
        taken = []
        for _ in range(count):
            start = time.perf_counter()
            await self._engine.write(administration.touch)
            taken.append((time.perf_counter() - start) * 1000)
        return taken


def _reason(reason: str | None) -> str:
    by = "Administration des Dienstes / administration of the service"
    return f"{by}: {reason}" if reason else by
