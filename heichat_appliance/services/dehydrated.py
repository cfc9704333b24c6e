"""Dehydrated devices (MSC3814): a device in safekeeping that receives room keys while a person is logged in nowhere."""

from __future__ import annotations

import orjson
from twisted.internet.defer import Deferred

from heichat_appliance.clock import Clock
from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import MatrixError, bad_json, forbidden, invalid_param, missing_param, not_found
from heichat_appliance.ids import check_length
from heichat_appliance.protocol.devicekeys import Json
from heichat_appliance.services.keys import CheckedUpload, check_upload, store_upload
from heichat_appliance.store import dehydrated as store
from heichat_appliance.store import devices, keys, to_device

#: The most bytes of device_data, as JSON.
MAX_DATA = 64 * 1024
MAX_NAME = 255


class Dehydrated:
    """Use cases over dehydrated devices; a person has at most one."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def get(self, user_id: str) -> Json:
        """{"device_id", "device_data"}. Raises 404 M_NOT_FOUND."""
        found = store.get(self._engine.read, user_id)
        if found is None:
            raise _none()
        return {"device_id": found[0], "device_data": orjson.Fragment(found[1])}

    def put(self, user_id: str, body: Json) -> Deferred[Json]:
        """Store a dehydrated device with its keys in place of the one before; returns {"device_id"}.

        `body`: device_id, device_data, initial_device_display_name, and the fields of /keys/upload, of which
        device_keys must be there. Raises 400, 403 (the ID is that of another device or key), 413.
        """
        device_id, data, name = body.get("device_id"), body.get("device_data"), body.get("initial_device_display_name")
        if not isinstance(device_id, str):
            raise missing_param("device_id is missing or no string")
        try:
            check_length(device_id, "device_id")
        except ValueError as error:
            raise invalid_param(str(error))
        if not isinstance(data, dict):
            raise bad_json("device_data must be an object")
        if name is not None and (not isinstance(name, str) or len(name) > MAX_NAME):
            raise bad_json(f"initial_device_display_name must be a string of at most {MAX_NAME} characters")
        if body.get("device_keys") is None:
            raise missing_param("device_keys is missing")
        encoded = orjson.dumps(data)
        if len(encoded) > MAX_DATA:
            raise MatrixError(413, "M_TOO_LARGE", f"device_data has more than {MAX_DATA} bytes")
        checked = check_upload(self._engine.read, user_id, device_id, body)
        return self._engine.write(self._put, user_id, device_id, encoded.decode(), name, checked)

    def _put(
        self, tx: Transaction, user_id: str, device_id: str, data: str, name: str | None, checked: CheckedUpload
    ) -> Json:
        before = store.get(tx.execute, user_id)
        if before is None or before[0] != device_id:
            if keys.device_exists(tx.execute, user_id, device_id):
                raise forbidden("device_id: one of your devices has this ID")
            if devices.is_cross_signing_key(tx.execute, user_id, device_id):
                raise forbidden("device_id: this is the ID of a cross-signing key")
            if before is not None:
                devices.delete(tx.execute, user_id, before[0])
            devices.add(tx.execute, user_id, device_id, name, self._clock.now_ms())
        store.put(tx, user_id, device_id, data)
        store_upload(tx, user_id, device_id, checked)
        return {"device_id": device_id}

    def delete(self, user_id: str) -> Deferred[Json]:
        """Delete the dehydrated device; returns {"device_id"}. Raises 404 M_NOT_FOUND."""
        return self._engine.write(_delete, user_id)

    def events(self, user_id: str, device_id: str, body: Json) -> Json:
        """The messages for the dehydrated device from `body["next_batch"]` on: {"events", "next_batch"}.

        They stay until the device is deleted, so that a rehydration that was interrupted can begin again. Raises 400,
        403 if this is not the person's dehydrated device.
        """
        found = store.get(self._engine.read, user_id)
        if found is None or found[0] != device_id:
            raise forbidden("this is not your dehydrated device")
        batch = body.get("next_batch", "0")
        if not isinstance(batch, str) or not batch.isascii() or not batch.isdigit() or len(batch) > 18:
            raise invalid_param("next_batch must be what the last answer gave")
        messages, upto = to_device.pending(self._engine.read, user_id, device_id, int(batch), self._engine.position)
        return {"events": messages, "next_batch": str(upto)}


def _none() -> MatrixError:
    return not_found("there is no dehydrated device")


def _delete(tx: Transaction, user_id: str) -> Json:
    found = store.get(tx.execute, user_id)
    if found is None:
        raise _none()
    devices.delete(tx.execute, user_id, found[0])
    keys.note_device_change(tx, user_id)
    return {"device_id": found[0]}
