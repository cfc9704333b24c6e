"""Whose device lists changed, for /sync and /keys/changes (spec, "Tracking the device list for a user").

Only encrypted rooms count: who shares none with a person is told nothing of their devices. That is exact in positions:
what somebody shares, and whether a room is encrypted, is asked for the two ends of the gap. Whoever has joined a room shares
it with those who have joined and with those who are invited.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from heichat_appliance.db.engine import Engine
from heichat_appliance.services.tokens import Token
from heichat_appliance.store import device_lists as store
from heichat_appliance.store.events import Execute


def changed_and_left(execute: Execute, user_id: str, after: int, upto: int) -> tuple[set[str], set[str]]:
    """What must be said to a person about device lists between two positions (after < pos <= upto).

    `changed`: who shares an encrypted room with them at `upto` and changed devices or keys in between or did not share
    one at `after`; they themselves, if they changed; and people whose master key they signed in between.
    `left`: who shared one at `after` and no longer at `upto`. Cheap if nothing happened: three empty index ranges.
    """
    devices, signed = store.device_changes(execute, user_id, after, upto)
    moves = store.moves(execute, after, upto)
    if not (devices or signed or moves or store.was_any_room_encrypted(execute, after, upto)):
        return set(), set()
    changed = signed | (devices & {user_id})
    before, now = (store.encrypted_rooms(execute, user_id, pos) for pos in (after, upto))
    people = devices | {who for who, room_id in moves if room_id in before or room_id in now}
    people |= store.members(execute, now - before, upto) | store.members(execute, before - now, after)
    people.discard(user_id)
    shared_before = store.members_of(execute, people, before, after)
    shared_now = store.members_of(execute, people, now, upto)
    changed |= (shared_now - shared_before) | (shared_now & devices)
    return changed, shared_before - shared_now


def everybody(execute: Execute, user_id: str, pos: int) -> set[str]:
    """Everybody who shares an encrypted room with a person at `pos`, and the person."""
    return store.members(execute, store.encrypted_rooms(execute, user_id, pos), pos) | {user_id}


class DeviceLists:
    """The use case of /keys/changes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def changes(self, user_id: str, start: Token, end: Token) -> Deferred[dict[str, list[str]]]:
        """{"changed": [user ID], "left": [user ID]} between two sync tokens.

        A `start` from before a restore of the server from a backup, or from the future, says nothing: everybody counts as
        changed.
        """
        now, epoch = self._engine.position, self._engine.epoch
        upto = min(now, end.position) if end.epoch == epoch else now
        after = start.position if start.epoch == epoch and start.position <= now else None
        return self._engine.read_in_thread(_changes, user_id, after, upto)


def _changes(execute: Execute, user_id: str, after: int | None, upto: int) -> dict[str, list[str]]:
    if after is None:
        return {"changed": sorted(everybody(execute, user_id, upto)), "left": []}
    changed, left = changed_and_left(execute, user_id, after, upto)
    return {"changed": sorted(changed), "left": sorted(left)}
