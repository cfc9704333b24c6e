"""Who is in which room, kept in memory: asked with every message, changed but now and then."""

from __future__ import annotations

from collections import OrderedDict
from sys import intern

from heichat_appliance.db.engine import Engine
from heichat_appliance.store import state

#: Members of all rooms together that are kept; the rooms that nobody asked for longest go first.
MAX_KEPT = 200_000


class Members:
    """The joined people of rooms. Whoever changes a membership names the person and the room (services.timeline), so what is
    kept of a room is forgotten when a commit names it together with people."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: OrderedDict[str, frozenset[str]] = OrderedDict()
        self._size = 0

    def of(self, room_id: str) -> frozenset[str]:
        """The user IDs of those who have joined a room now."""
        found = self._kept.get(room_id)
        if found is None:
            found = frozenset(map(intern, state.members_now(self._engine.read, room_id)))
            self._kept[room_id] = found
            self._size += len(found)
            while self._size > MAX_KEPT and len(self._kept) > 1:
                self._size -= len(self._kept.popitem(last=False)[1])
        else:
            self._kept.move_to_end(room_id)
        return found

    def of_small(self, room_id: str, most: int) -> frozenset[str]:
        """The same of a room with at most so many; nobody for a larger one, which is not read for that."""
        if room_id not in self._kept and state.has_more_joined(self._engine.read, room_id, most):
            return frozenset()
        found = self.of(room_id)
        return found if len(found) <= most else frozenset()

    def committed(self, position: int, rooms: set[str], users: set[str]) -> None:
        """Listens to the notifier: something happened in these rooms and to these people."""
        if users:
            for room_id in rooms:
                self._size -= len(self._kept.pop(room_id, ()))
