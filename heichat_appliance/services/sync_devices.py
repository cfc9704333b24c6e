"""What /sync tells a device about itself: to-device messages and how many keys it has left.

Nearly always there is nothing new. That is known without asking the database: whatever is written for a person names them to
the notifier, so who was not touched since has nothing new.
"""

from __future__ import annotations

from typing import Any

import orjson

from heichat_appliance.db.engine import Engine
from heichat_appliance.notify import Notifier
from heichat_appliance.services.render import Viewer
from heichat_appliance.store import keys, to_device

#: Devices of which something is kept in memory.
MAX_KEPT = 50_000


class DeviceNews:
    """To-device messages and key counts of the devices that sync."""

    def __init__(self, engine: Engine, notifier: Notifier) -> None:
        self._engine = engine
        self._notifier = notifier
        #: no message for the device is stored at or before this position
        self._clear: dict[Viewer, int] = {}
        #: when the person was last touched, and the JSON of the counts then
        self._counts: dict[Viewer, tuple[int, bytes]] = {}

    def must_delete(self, viewer: Viewer, upto: int) -> bool:
        """Whether messages at or before `upto`, which the device has received, are still stored."""
        if self._clear.get(viewer, -1) >= upto:
            return False
        if to_device.has_acknowledged(self._engine.read, *viewer, upto):
            return True
        self._note_clear(viewer, upto)
        return False

    def messages(
        self, viewer: Viewer, after: int, upto: int, limit: int = 100
    ) -> tuple[list[dict[str, Any]], int | None]:
        """The messages at after < pos <= upto that fit one answer, and the position up to which they go if more remain."""
        if self._notifier.touched(viewer.user_id) <= after:
            found: list[dict[str, Any]] = []
            given = upto
        else:
            found, given = to_device.pending(self._engine.read, *viewer, after, upto, limit)
        if not found and self._clear.get(viewer, -1) >= after:
            self._note_clear(viewer, upto)
        return found, None if given == upto else given

    def _note_clear(self, viewer: Viewer, upto: int) -> None:
        if len(self._clear) >= MAX_KEPT:
            self._clear.clear()
        self._clear[viewer] = upto

    def counts(self, viewer: Viewer) -> bytes:
        """`"device_one_time_keys_count":…,"device_unused_fallback_key_types":…`."""
        touched = self._notifier.touched(viewer.user_id)
        known = self._counts.get(viewer)
        if known is None or known[0] != touched:
            counts, unused = keys.counts(self._engine.read, *viewer)
            part = {"device_one_time_keys_count": counts, "device_unused_fallback_key_types": unused}
            if len(self._counts) >= MAX_KEPT:
                self._counts.clear()
            known = self._counts[viewer] = (touched, orjson.dumps(part)[1:-1])
        return known[1]
