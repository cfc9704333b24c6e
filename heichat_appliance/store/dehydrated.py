"""The dehydrated device of a person (MSC3814)."""

from __future__ import annotations

from heichat_appliance.db.engine import Transaction
from heichat_appliance.store.events import Execute


def get(execute: Execute, user_id: str) -> tuple[str, str] | None:
    """(device ID, device data as JSON) of a person's dehydrated device."""
    row: tuple[str, str] | None = execute(
        "SELECT device_id, device_data FROM dehydrated_devices WHERE user_id = ?", (user_id,)
    ).fetchone()
    return row


def put(tx: Transaction, user_id: str, device_id: str, device_data: str) -> None:
    """Make a device, which exists, the person's dehydrated device."""
    tx.execute(
        "INSERT INTO dehydrated_devices (user_id, device_id, device_data) VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET device_id = excluded.device_id, device_data = excluded.device_data",
        (user_id, device_id, device_data),
    )
