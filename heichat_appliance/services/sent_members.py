"""Lazily loaded members: who has which member events."""

from __future__ import annotations

from collections.abc import Iterable

from heichat_appliance.services.render import Viewer


class SentMembers:
    """Which member events a device already has, for lazy loading: room, member, and the position of the answer that
    carried it. A device has what came with an answer whose token, or a later one, it uses as `since`."""

    MAX_DEVICES = 20_000
    MAX_MEMBERS = 5_000

    def __init__(self) -> None:
        self._devices: dict[Viewer, dict[tuple[str, str], int]] = {}

    def has(self, viewer: Viewer, since: int | None, room_id: str, member: str) -> bool:
        """Whether the device, which has the answer up to the position `since`, has the member's event."""
        return self.has_all(viewer, since, room_id, (member,))

    def has_all(self, viewer: Viewer, since: int | None, room_id: str, members: Iterable[str]) -> bool:
        """Whether it has the events of all these members."""
        sent = self._devices.get(viewer)
        if sent is None or since is None:
            return False
        for member in members:
            told = sent.get((room_id, member))
            if told is None or told > since:
                return False
        return True

    def note(self, viewer: Viewer, room_id: str, members: Iterable[str], upto: int) -> None:
        """The answer whose token has the position `upto` carries these member events."""
        sent = self._devices.setdefault(viewer, {})
        for member in members:
            sent.setdefault((room_id, member), upto)
        if len(sent) > self.MAX_MEMBERS:
            del self._devices[viewer]
        elif len(self._devices) > self.MAX_DEVICES:
            self._devices.pop(next(iter(self._devices)))

    def forget(self, viewer: Viewer) -> None:
        """The device begins anew."""
        self._devices.pop(viewer, None)
