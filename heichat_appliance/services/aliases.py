"""Room aliases and the room directory (client-server API "Room aliases", "Published room directory")."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from heichat_appliance import ids
from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import MatrixError, forbidden, invalid_param, not_found
from heichat_appliance.services import summaries
from heichat_appliance.services.accounts import Accounts
from heichat_appliance.services.timeline import NotAllowed, RoomView, Timeline, not_in_room
from heichat_appliance.store import aliases, state
from heichat_appliance.store.events import Execute

CANONICAL = "m.room.canonical_alias"
#: Aliases that one person may have made.
MAX_ALIASES = 200
#: Rooms in one answer of /publicRooms.
MAX_PAGE = 100


class Aliases:
    """Names of rooms, and which rooms are published."""

    def __init__(
        self, engine: Engine, timeline: Timeline, accounts: Accounts, policies: Sequence[Any], server_name: str
    ) -> None:
        """`policies`: the providers of extension.IRoomPolicy."""
        self._engine = engine
        self._timeline = timeline
        self._accounts = accounts
        self._policies = tuple(policies)
        self._server_name = server_name

    # -- aliases -------------------------------------------------------------------------------------------------

    def get(self, alias: str) -> dict[str, Any]:
        """Where an alias leads: `room_id` and `servers`. 400 M_INVALID_PARAM, 404 M_NOT_FOUND."""
        _parsed(alias)
        found = aliases.get(self._engine.read, alias)
        if found is None:
            raise _no_alias(alias)
        return {"room_id": found.room_id, "servers": [self._server_name]}

    def put(self, user_id: str, alias: str, room_id: str) -> Deferred[None]:
        """Make an alias for a room that the person is in. 400 M_INVALID_PARAM, 403 M_FORBIDDEN, 409 M_UNKNOWN (taken)."""
        if _parsed(alias)[1] != self._server_name:
            raise invalid_param(f"roomAlias: the alias must end in :{self._server_name}")

        def job(tx: Transaction) -> None:
            view = self._timeline.member_view(tx, room_id, user_id)
            self.add(tx, alias, view.room_id, user_id)

        return self._engine.write(job)

    def add(
        self, tx: Transaction, alias: str, room_id: str, creator: str, taken: tuple[int, str] = (409, "M_UNKNOWN")
    ) -> None:
        """Make an alias within a job; `taken` is the answer if there is one of this name."""
        if aliases.get(tx.execute, alias) is not None:
            raise MatrixError(*taken, f"the room alias {alias} exists already / Den Raumalias {alias} gibt es schon")
        if aliases.count_of(tx.execute, creator) >= MAX_ALIASES:
            raise forbidden(
                f"you have made {MAX_ALIASES} room aliases; delete one first / "
                f"Sie haben schon {MAX_ALIASES} Raumaliase angelegt; löschen Sie zuerst einen"
            )
        aliases.insert(tx, alias, room_id, creator)

    def delete(self, user_id: str, alias: str) -> Deferred[None]:
        """Delete an alias: by who made it, by who may set the room's canonical alias, or by a server administrator.

        400 M_INVALID_PARAM, 403 M_FORBIDDEN, 404 M_NOT_FOUND.
        """
        _parsed(alias)
        return self._engine.write(self._delete_job, user_id, alias)

    def _delete_job(self, tx: Transaction, user_id: str, alias: str) -> None:
        found = aliases.get(tx.execute, alias)
        if found is None:
            raise _no_alias(alias)
        view = self._timeline.view(tx, found.room_id)
        if user_id != found.creator and not self._accounts.is_admin(user_id) and not _may_name(view, user_id):
            raise forbidden(
                "only who made this alias, an administrator of its room, or one of the server may delete it / "
                "Löschen darf diesen Alias nur, wer ihn angelegt hat, den Raum oder den Server verwaltet"
            )
        aliases.delete(tx, alias)
        self._take_out_of_canonical(tx, view, user_id, alias)

    def _take_out_of_canonical(self, tx: Transaction, view: RoomView, user_id: str, alias: str) -> None:
        current = view.get((CANONICAL, ""))
        content = dict(current.content) if current is not None else {}
        others = content.get("alt_aliases", [])
        if alias != content.get("alias") and alias not in others:
            return
        if content.get("alias") == alias:
            del content["alias"]
        if alias in others:
            content["alt_aliases"] = [other for other in others if other != alias]
        try:
            self._timeline.append(tx, view, type=CANONICAL, sender=user_id, state_key="", content=content)
        except NotAllowed:
            pass  # the alias goes all the same (spec, "DELETE /directory/room/{roomAlias}")

    def of_room(self, user_id: str, room_id: str) -> list[str]:
        """A room's aliases, for those who are in it and, if it is world readable, for everybody. 403 M_FORBIDDEN."""
        now = state.membership_now(self._engine.read, user_id, room_id)
        if (now is None or now.membership != "join") and not summaries.is_world_readable(self._engine.read, room_id):
            raise not_in_room()
        return aliases.of_room(self._engine.read, room_id)

    # -- the room directory --------------------------------------------------------------------------------------

    def check_publish(self, user_id: str, room_id: str | None) -> None:
        """Raise MatrixError if a policy does not let this person publish this room (None: a new one)."""
        for policy in self._policies:
            policy.check_publish(user_id, room_id)

    def may_be_listed(self, user_id: str, room_id: str) -> bool:
        """Whether a room that was published may be shown as such: policies come and go with the configuration."""
        try:
            self.check_publish(user_id, room_id)
        except MatrixError:
            return False
        return True

    def is_published(self, room_id: str) -> bool:
        """Whether the room directory shows the room; 404 M_NOT_FOUND for an unknown room."""
        checked_room_id(room_id)
        if state.room_version(self._engine.read, room_id) is None:
            raise not_found("there is no such room / diesen Raum gibt es nicht")
        return aliases.is_published(self._engine.read, room_id) and self.may_be_listed("", room_id)

    def publish(self, user_id: str, room_id: str, public: bool) -> Deferred[None]:
        """Put a room into the directory, or take it out: for who may set its canonical alias, and administrators of the
        server. 403 M_FORBIDDEN, 404 M_NOT_FOUND."""
        checked_room_id(room_id)

        def job(tx: Transaction) -> None:
            view = self._timeline.view(tx, room_id)
            if not self._accounts.is_admin(user_id) and not _may_name(view, user_id):
                raise forbidden("only administrators of the room may do this / Das dürfen nur, die den Raum verwalten")
            if public:
                self.check_publish(user_id, room_id)
            aliases.set_published(tx, room_id, public)

        return self._engine.write(job)

    def search(
        self, *, limit: int | None, since: str | None, term: str | None = None, types: list[str | None] | None = None
    ) -> Deferred[dict[str, Any]]:
        """A page of the room directory, largest rooms first. `term` is looked for in name, topic and alias; `types` are
        the room types wanted (None in it: rooms without). 400 M_INVALID_PARAM for a bad `since`."""
        start = _offset(since)
        size = MAX_PAGE if limit is None else max(1, min(limit, MAX_PAGE))
        words = (term or "").casefold().split()
        return self._engine.read_in_thread(self._page, start, size, words, types)

    def _page(
        self, execute: Execute, start: int, size: int, words: list[str], types: list[str | None] | None
    ) -> dict[str, Any]:
        found = []
        for room_id, joined in aliases.published(execute):
            if self.may_be_listed("", room_id):
                chunk = summaries.of_room(execute, room_id, joined)
                if (types is None or chunk.get("room_type") in types) and _matches(chunk, words):
                    found.append(chunk)
        page: dict[str, Any] = {"chunk": found[start : start + size], "total_room_count_estimate": len(found)}
        if start + size < len(found):
            page["next_batch"] = _token(start + size)
        if start > 0:
            page["prev_batch"] = _token(max(0, start - size))
        return page


def full_alias(localpart: str, server_name: str) -> str:
    """The alias of a localpart (`room_alias_name` of createRoom); 400 M_INVALID_PARAM if it can't be one."""
    if ":" in localpart:
        raise invalid_param("room_alias_name: only what comes between # and the colon belongs here")
    try:
        ids.parse_room_alias(f"#{localpart}:{server_name}")
    except ValueError as error:
        raise invalid_param(f"room_alias_name: {error}")
    return f"#{localpart}:{server_name}"


def checked_room_id(room_id: str, name: str = "roomId") -> str:
    """`room_id` if it is one, else 400 M_INVALID_PARAM."""
    try:
        return ids.check_room_id(room_id)
    except ValueError as error:
        raise invalid_param(f"{name}: {error}")


def _parsed(alias: str) -> tuple[str, str]:
    try:
        return ids.parse_room_alias(alias)
    except ValueError as error:
        raise invalid_param(f"roomAlias: {error}")


def _no_alias(alias: str) -> MatrixError:
    return not_found(f"there is no room alias {alias} / Den Raumalias {alias} gibt es nicht")


def _may_name(view: RoomView, user_id: str) -> bool:
    return view.membership(user_id) == "join" and view.levels.user(user_id) >= view.levels.event(CANONICAL, True)


def _matches(chunk: dict[str, Any], words: list[str]) -> bool:
    text = " ".join(str(chunk.get(key, "")) for key in ("name", "topic", "canonical_alias")).casefold()
    return all(word in text for word in words)


def _token(offset: int) -> str:
    return base64.urlsafe_b64encode(str(offset).encode()).decode().rstrip("=")


def _offset(token: str | None) -> int:
    if token is None:
        return 0
    try:
        offset = int(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except ValueError:
        offset = -1
    if not 0 <= offset < 10**9:
        raise invalid_param("since is no token of this server")
    return offset
