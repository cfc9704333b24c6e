"""How a person stands: which rooms they are in, and whom they ignore. Kept in memory, forgotten when it changes."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

import orjson

from heichat_appliance.db.engine import Engine
from heichat_appliance.services.members import Members
from heichat_appliance.store import account_data, state
from heichat_appliance.store.events import Execute

#: People of whom it is kept.
MAX_KEPT = 20_000
#: Presence is not told in rooms with more joined people than this, and in so many rooms of a person at the most.
LARGE_ROOM = 150
MAX_ROOMS = 200


class Standing:
    """A person's rooms at a position: `joined` room ID to where the present stay began; `invited`, `knocking` and `left`
    (not the forgotten ones) to the position of the member event; `put_out`: those of the left ones that others put the
    person out of; `changed_at`: the last change of any membership."""

    __slots__ = (
        "_acquaintances",
        "_members",
        "_user_id",
        "changed_at",
        "ignored",
        "invited",
        "joined",
        "knocking",
        "left",
        "put_out",
    )

    def __init__(self, execute: Execute, user_id: str, pos: int, members: Members) -> None:
        self._user_id = user_id
        self._members = members
        self._acquaintances: frozenset[str] | None = None
        self.joined: dict[str, int] = {}
        self.invited: dict[str, int] = {}
        self.knocking: dict[str, int] = {}
        self.left: dict[str, int] = {}
        self.put_out: set[str] = set()
        self.changed_at = 0
        self.ignored = ignored_users(execute, user_id)
        forgotten = state.forgotten_rooms(execute, user_id)
        blocks = _blocks_invites(account_data.get(execute, user_id, "", "m.invite_permission_config"))
        places = {"join": self.joined, "knock": self.knocking, "leave": self.left, "ban": self.left}
        if not blocks:
            places["invite"] = self.invited
        for interval in state.memberships_of_user_at(execute, user_id, pos):
            self.changed_at = max(self.changed_at, interval.from_pos)
            place = places.get(interval.membership)
            if place is not None and (place is not self.left or interval.room_id not in forgotten):
                place[interval.room_id] = interval.from_pos
                if place is self.left and interval.sender != user_id:
                    self.put_out.add(interval.room_id)
        if self.joined:
            began = state.stays_began(execute, user_id, pos)
            self.joined = {room_id: began[room_id] for room_id in self.joined}

    def acquaintances(self) -> frozenset[str]:
        """The people whose presence the person is told of: those in the same rooms, except for large rooms, where
        everybody's presence told to everybody would cost more than all messages. As of the first time it was asked."""
        if self._acquaintances is None:
            small = filter(None, (self._members.of_small(room_id, LARGE_ROOM) for room_id in self.joined))
            self._acquaintances = frozenset({self._user_id}.union(*islice(small, MAX_ROOMS)))
        return self._acquaintances

    def was_in(self, execute: Execute, room_id: str, pos: int) -> bool:
        """Whether the person had a part in a room they have left: joined, invited or knocking at `pos` or since."""
        return any(
            m.membership in ("join", "invite", "knock") and m.to_pos > pos
            for m in state.membership_intervals(execute, self._user_id, room_id)
        )


class Standings:
    """The standings of people who sync."""

    def __init__(self, engine: Engine, members: Members) -> None:
        self._engine = engine
        self._members = members
        self._kept: OrderedDict[str, Standing] = OrderedDict()

    def at(self, user_id: str, pos: int) -> Standing:
        """The person's standing at `pos`, the newest position."""
        standing = self._kept.get(user_id)
        if standing is None:
            standing = self._kept[user_id] = Standing(self._engine.read, user_id, pos, self._members)
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return standing

    def forget(self, user_id: str) -> None:
        """Something about the person changed."""
        self._kept.pop(user_id, None)


def ignored_users(execute: Execute, user_id: str) -> frozenset[str]:
    """Whom the person ignores (spec "Ignoring Users")."""
    content = account_data.get(execute, user_id, "", "m.ignored_user_list")
    people = orjson.loads(content).get("ignored_users") if content else None
    return frozenset(people) if isinstance(people, dict) else frozenset()


def _blocks_invites(content: str | None) -> bool:
    return bool(content) and orjson.loads(content or "{}").get("default_action") == "block"
