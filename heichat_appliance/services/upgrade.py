"""Replacing a room by one of another version (client-server API "Room Upgrades"): one job over both rooms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from twisted.internet.defer import Deferred

from heichat_appliance import ids
from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import MatrixError, invalid_param
from heichat_appliance.protocol import roomdefaults
from heichat_appliance.protocol.powerlevels import creators_of
from heichat_appliance.protocol.roomversions import RoomVersion
from heichat_appliance.services.aliases import CANONICAL, Aliases
from heichat_appliance.services.membership import Membership
from heichat_appliance.services.rooms import supported_version
from heichat_appliance.services.timeline import NotAllowed, RoomView, Timeline
from heichat_appliance.store import aliases as alias_store
from heichat_appliance.store import state

POWER_LEVELS = "m.room.power_levels"
SPACE_CHILD = "m.space.child"
#: Bans and space children that go along: a job must stay short.
MAX_CARRIED = 500


class Upgrade:
    """Replaces rooms."""

    def __init__(
        self, engine: Engine, timeline: Timeline, membership: Membership, aliases: Aliases, policies: Sequence[Any],
        server_name: str,
    ) -> None:  # fmt: skip
        """`policies`: the providers of extension.IRoomPolicy."""
        self._engine = engine
        self._timeline = timeline
        self._membership = membership
        self._aliases = aliases
        self._policies = tuple(policies)
        self._server_name = server_name

    def upgrade(self, user_id: str, room_id: str, new_version: str, additional_creators: list[str]) -> Deferred[str]:
        """Replace a room; the new room's ID.

        The state that the specification names goes along, and besides it the children of a space, and bans. 400
        M_UNSUPPORTED_ROOM_VERSION or M_INVALID_PARAM, 403 M_FORBIDDEN (who may not send m.room.tombstone, policies).
        """
        version = supported_version(new_version, "new_version")
        if not version.additional_creators:
            additional_creators = []
        for creator in additional_creators:
            if not ids.is_user_id(creator):
                raise invalid_param("additional_creators must be a list of user IDs")
        creators = [creator for creator in dict.fromkeys(additional_creators) if creator != user_id]
        return self._engine.write(self._job, user_id, room_id, version, creators)

    def _job(self, tx: Transaction, user_id: str, room_id: str, version: RoomVersion, creators: list[str]) -> str:
        old = self._timeline.member_view(tx, room_id, user_id)
        if old.levels.user(user_id) < old.levels.event("m.room.tombstone", True):
            raise NotAllowed("you may not upgrade this room / Sie dürfen diesen Raum nicht aktualisieren")
        new = self._timeline.create_room(
            tx,
            version,
            None if version.room_id_is_create_hash else ids.new_room_id(self._server_name),
            user_id,
            _create_content(old, version, user_id, creators),
        )
        self._membership.add_creator(tx, new, user_id)
        self._carry_state(tx, old, new, user_id)
        self._carry_bans(tx, old, new, user_id)
        alias_store.move_all(tx, old.room_id, new.room_id)
        canonical = _content(old, CANONICAL)
        if canonical:
            self._set(tx, new, user_id, CANONICAL, canonical)
        self._set(tx, new, user_id, POWER_LEVELS, _power_levels(old, new))
        self._move_publication(tx, old, new, user_id)
        self._close(tx, old, new, user_id, had_alias=bool(canonical))
        return new.room_id

    def _carry_state(self, tx: Transaction, old: RoomView, new: RoomView, user_id: str) -> None:
        for type in roomdefaults.TRANSFERRED:
            content = _content(old, type)
            if content:
                for policy in self._policies:
                    content = policy.preset_content(type, content)
                self._set(tx, new, user_id, type, content)
        if old.create.content.get("type") == "m.space":
            for child in state.current_of_type(tx.execute, old.room_id, SPACE_CHILD)[:MAX_CARRIED]:
                content = orjson.loads(child.pdu)["content"]
                if content.get("via"):
                    self._set(tx, new, user_id, SPACE_CHILD, content, child.state_key or "")

    def _carry_bans(self, tx: Transaction, old: RoomView, new: RoomView, user_id: str) -> None:
        creators = creators_of(new.version, new.create)
        for banned in state.members_now(tx.execute, old.room_id, "ban")[:MAX_CARRIED]:
            if banned not in creators:
                ban = old.get(("m.room.member", banned))
                reason = ban.content.get("reason") if ban is not None else None
                content = {"membership": "ban", **({"reason": reason} if isinstance(reason, str) else {})}
                self._set(tx, new, user_id, "m.room.member", content, banned)

    def _move_publication(self, tx: Transaction, old: RoomView, new: RoomView, user_id: str) -> None:
        if alias_store.is_published(tx.execute, old.room_id):
            alias_store.set_published(tx, old.room_id, False)
            if self._aliases.may_be_listed(user_id, new.room_id):
                alias_store.set_published(tx, new.room_id, True)

    def _close(self, tx: Transaction, old: RoomView, new: RoomView, user_id: str, had_alias: bool) -> None:
        """Say in the old room where the new one is; take away its alias and, if possible, the right to send there."""
        content = {
            "body": "This room has been replaced / Dieser Raum wurde ersetzt",
            "replacement_room": new.room_id,
        }
        self._set(tx, old, user_id, "m.room.tombstone", content)
        wishes = [(CANONICAL, {})] if had_alias else []
        levels = old.get((POWER_LEVELS, ""))
        if levels is not None:
            wishes.append((POWER_LEVELS, roomdefaults.closed_power_levels(levels.content)))
        for type, wish in wishes:
            try:
                self._set(tx, old, user_id, type, wish)
            except NotAllowed:
                pass  # "if possible" (spec)

    def _set(
        self, tx: Transaction, view: RoomView, user_id: str, type: str, content: dict[str, Any], state_key: str = ""
    ) -> None:
        try:
            self._timeline.append(tx, view, type=type, sender=user_id, state_key=state_key, content=content)
        except MatrixError as error:
            error.message = f"{type}: {error.message}"
            raise


def _create_content(old: RoomView, version: RoomVersion, user_id: str, creators: list[str]) -> dict[str, Any]:
    content: dict[str, Any] = {
        "room_version": version.identifier,
        "predecessor": {"room_id": old.room_id, "event_id": old.last_event_id},
    }
    for key in ("type", "m.federate"):
        if key in old.create.content:
            content[key] = old.create.content[key]
    if version.creator_in_content:
        content["creator"] = user_id
    if creators:
        content["additional_creators"] = creators
    return content


def _power_levels(old: RoomView, new: RoomView) -> dict[str, Any]:
    levels = old.get((POWER_LEVELS, ""))
    former = old.levels.creators if old.levels.privileged or levels is None else ()
    return roomdefaults.upgraded_power_levels(
        new.version, levels.content if levels is not None else {}, new.levels.creators, former
    )


def _content(view: RoomView, type: str) -> dict[str, Any]:
    event = view.get((type, ""))
    return event.content if event is not None else {}
