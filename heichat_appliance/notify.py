"""The notifier: wakes those who wait in /sync. It carries positions, never data.

A waiter registers first, reads a snapshot second and sleeps third, so that no write in between is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol


class Waiter(Protocol):
    """Who waits."""

    def wake(self, crowd: bool) -> None:
        """Something happened to the person, or in their rooms. `crowd`: to many at once, so that they take some time."""


#: People of whom the last change is remembered.
MAX_TOUCHED = 100_000
#: More people than this that one commit wakes are a crowd.
CROWD = 100


class Notifier:
    """Who waits, by user ID. `members(room_id)` names the people to wake when something happened in a room."""

    def __init__(self, members: Callable[[str], Iterable[str]], position: int) -> None:
        """`position`: the newest one at the start."""
        self._members = members
        self._start = position
        self._touched: dict[str, int] = {}
        self._waiting: dict[str, set[Waiter]] = {}
        #: Called with (position, rooms, users) after each commit, before anybody is woken: push, caches.
        self.listeners: list[Callable[[int, set[str], set[str]], None]] = []

    def register(self, user_id: str, waiter: Waiter) -> None:
        """From now on the waiter is woken whenever something happens to this person, or in their rooms."""
        waiting = self._waiting.get(user_id)
        if waiting is None:
            self._waiting[user_id] = {waiter}
        else:
            waiting.add(waiter)

    def unregister(self, user_id: str, waiter: Waiter) -> None:
        """No longer."""
        waiting = self._waiting.get(user_id)
        if waiting is not None:
            waiting.discard(waiter)
            if not waiting:
                del self._waiting[user_id]

    def publish(self, position: int, rooms: set[str], users: set[str]) -> None:
        """Everything up to `position` is readable: wake the members of `rooms` and the `users`."""
        for listener in self.listeners:
            listener(position, rooms, users)
        self._note_touched(position, users)
        if not self._waiting:
            return
        woken = set(users)
        for room_id in rooms:
            woken.update(self._members(room_id))
        woken &= self._waiting.keys()
        crowd = len(woken) > CROWD
        for user_id in woken:
            for waiter in tuple(self._waiting[user_id]):
                waiter.wake(crowd)

    def touched(self, user_id: str) -> int:
        """The position up to which something may have happened to the person themselves (not: in their rooms): account
        data, to-device messages, keys, memberships. Nothing of that kind lies after it."""
        return self._touched.get(user_id, self._start)

    def _note_touched(self, position: int, users: set[str]) -> None:
        if len(self._touched) > MAX_TOUCHED:
            self._touched.clear()
            self._start = position
        for user_id in users:
            self._touched[user_id] = position

    def wake_everybody(self) -> None:
        """For the stop: every waiting sync answers what it has."""
        for waiting in list(self._waiting.values()):
            for waiter in tuple(waiting):
                waiter.wake(crowd=True)

    @property
    def waiting(self) -> int:
        """How many wait (a gauge)."""
        return sum(map(len, self._waiting.values()))
