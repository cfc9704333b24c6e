"""What a push gateway is told: the event as far as the pusher wants it, and how much is unread.

Source: Push Gateway API, "POST /_matrix/push/v1/notify".
"""

from __future__ import annotations

from typing import Any

import orjson
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from heichat_appliance.db.engine import Engine
from heichat_appliance.errors import MatrixError
from heichat_appliance.protocol.pusheval import Actions
from heichat_appliance.services.accounts import Accounts
from heichat_appliance.services.push_gateways import Target, Waiting
from heichat_appliance.services.unread import Unread
from heichat_appliance.store import events, pushers, state
from heichat_appliance.store.events import StoredEvent

#: Rooms that are counted before others get their turn.
ROOMS_AT_ONCE = 8


class Badge:
    """One person's unread events by room; `stale` are the rooms to count again, and whether a receipt moved there."""

    __slots__ = ("rooms", "stale")

    def __init__(self, joined: list[str]) -> None:
        self.rooms: dict[str, int] = {}
        self.stale: dict[str, bool] = dict.fromkeys(joined, True)


class Badges:
    """How many events that notify people have not read; counted when needed, and then room by room."""

    def __init__(self, engine: Engine, unread: Unread, reactor: IReactorTime) -> None:
        self._engine = engine
        self._unread = unread
        self._reactor = reactor
        self._badges: dict[str, Badge] = {}

    def touch(self, user_id: str, room_id: str, *, moved: bool = False) -> None:
        """Something happened in a room; `moved`: the person's own receipt moved there."""
        badge = self._badges.get(user_id)
        if badge is not None:
            badge.stale[room_id] = moved or badge.stale.get(room_id, False)

    def forget(self, user_id: str) -> None:
        """The person has no pushers any more."""
        self._badges.pop(user_id, None)

    async def count(self, user_id: str) -> int:
        """All unread events that notify, and invitations."""
        read = self._engine.read
        badge = self._badges.get(user_id)
        if badge is None:
            badge = self._badges[user_id] = Badge(state.rooms_of_user_now(read, user_id))
        counted = 0
        while badge.stale:
            self._count_room(badge, user_id, *badge.stale.popitem())
            counted += 1
            if counted % ROOMS_AT_ONCE == 0:
                await deferLater(self._reactor, 0)
        return sum(badge.rooms.values()) + len(state.rooms_of_user_now(read, user_id, "invite"))

    def _count_room(self, badge: Badge, user_id: str, room_id: str, moved: bool) -> None:
        now = state.membership_now(self._engine.read, user_id, room_id)
        if now is None or now.membership != "join":
            badge.rooms.pop(room_id, None)
            return
        counts = self._unread.counts(user_id, room_id, self._engine.position, receipts_moved=moved)
        badge.rooms[room_id] = sum(count.notify for count in counts.values())

    def in_room(self, user_id: str, room_id: str) -> int:
        """The unread events of one room, as of the last `count`."""
        badge = self._badges.get(user_id)
        return badge.rooms.get(room_id, 0) if badge is not None else 0


class Composer:
    """Makes the bodies of notifications."""

    def __init__(self, engine: Engine, accounts: Accounts, badges: Badges) -> None:
        self._engine = engine
        self._accounts = accounts
        self._badges = badges

    async def compose(self, target: Target, waiting: Waiting) -> bytes | None:
        """The JSON for the gateway; None if nothing is to be told (any more): read, redacted, pusher or account gone."""
        user_id = target.pusher.user_id
        if not pushers.exists(self._engine.read, target.pusher.id) or self._is_locked(user_id):
            return None
        unread = await self._badges.count(user_id)
        if waiting.pos == 0:
            if unread == target.told:
                return None
            notification: dict[str, Any] = {"counts": {"unread": unread}}
        else:
            event = events.by_position(self._engine.read, waiting.pos)
            if event is None or event.redacted_by is not None:
                return None
            invites = event.type == "m.room.member" and event.state_key == user_id
            if not invites and not self._badges.in_room(user_id, event.room_id):
                return None  # it was read meanwhile
            notification = self._of_event(target, event, waiting.actions)
            if unread:
                notification["counts"] = {"unread": unread}
        notification["devices"] = [self._device(target, waiting.actions)]
        target.told = unread
        return orjson.dumps({"notification": notification})

    def _is_locked(self, user_id: str) -> bool:
        try:
            self._accounts.refuse_locked(user_id)
        except MatrixError:
            return True
        return False

    @staticmethod
    def _device(target: Target, actions: Actions) -> dict[str, Any]:
        pusher = target.pusher
        data = orjson.loads(pusher.data)
        data.pop("url")
        device = {
            "app_id": pusher.app_id,
            "pushkey": pusher.pushkey,
            "pushkey_ts": pusher.pushkey_ts // 1000,
            "data": data,
        }
        tweaks = tweaks_of(actions)
        return device | {"tweaks": tweaks} if tweaks and not _ids_only(target) else device

    def _of_event(self, target: Target, event: StoredEvent, actions: Actions) -> dict[str, Any]:
        urgent = event.type in ("m.room.encrypted", "m.room.member") or bool(tweaks_of(actions))
        notification: dict[str, Any] = {
            "event_id": event.event_id,
            "room_id": event.room_id,
            "prio": "high" if urgent else "low",
        }
        if _ids_only(target):
            return notification
        notification |= {"type": event.type, "sender": event.sender}
        if event.type != "m.room.encrypted":  # its content tells a gateway nothing
            notification["content"] = orjson.loads(event.pdu)["content"]
        if event.type == "m.room.member":
            notification["user_is_target"] = event.state_key == target.pusher.user_id
        names = {
            "sender_display_name": self._text(event.room_id, "m.room.member", "displayname", event.sender),
            "room_name": self._text(event.room_id, "m.room.name", "name"),
            "room_alias": self._text(event.room_id, "m.room.canonical_alias", "alias"),
        }
        return notification | {key: value for key, value in names.items() if value}

    def _text(self, room_id: str, type: str, key: str, state_key: str = "") -> str | None:
        event = state.current(self._engine.read, room_id, type, state_key)
        value = orjson.loads(event.pdu)["content"].get(key) if event is not None else None
        return value if isinstance(value, str) else None


def _ids_only(target: Target) -> bool:
    return bool(orjson.loads(target.pusher.data).get("format") == "event_id_only")


def tweaks_of(actions: Actions) -> dict[str, Any]:
    """The tweaks that the actions of a push rule set (client-server API "Actions")."""
    found = {}
    for action in actions.raw:
        if isinstance(action, dict) and isinstance(action.get("set_tweak"), str):
            found[action["set_tweak"]] = action.get("value", True)
    return {name: value for name, value in found.items() if value is not False}
