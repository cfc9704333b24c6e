"""Devices (spec, "Device Management")."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from heichat_appliance.http.routing import Auth, Gate, Request, Route, spec_anchor
from heichat_appliance.http.sessions import checked
from heichat_appliance.services.sessions import Sessions
from heichat_appliance.services.uia import Uia
from heichat_appliance.store.devices import Device


class UpdateBody(Struct):
    """PUT /devices/{deviceId}."""

    display_name: str | None = None


class DeleteBody(Struct):
    """DELETE /devices/{deviceId}."""

    auth: dict[str, Any] | None = None


class DeleteManyBody(Struct):
    """POST /delete_devices."""

    devices: list[str]
    auth: dict[str, Any] | None = None


def routes(sessions: Sessions, uia: Uia) -> list[Route]:
    """The operations of this chapter."""

    def list_all(request: Request) -> Any:
        return {"devices": [_as_json(device) for device in sessions.devices(request.user_id)]}

    def get(request: Request) -> Any:
        return _as_json(sessions.device(request.user_id, request.params["deviceId"]))

    def update(request: Request) -> Any:
        device = sessions.device(request.user_id, request.params["deviceId"])
        name = checked("display_name", request.body.display_name or None)
        return sessions.rename(request.user_id, device.device_id, name) if name is not None else {}

    async def delete(request: Request) -> None:
        device_id = request.params["deviceId"]
        auth = {"auth": request.body.auth}
        await uia.require(request.session, f"DELETE /devices/{device_id}", auth, request.exchange.peer)
        await sessions.delete(request.user_id, [device_id])

    async def delete_many(request: Request) -> None:
        body = {"devices": request.body.devices, "auth": request.body.auth}
        await uia.require(request.session, "POST /delete_devices", body, request.exchange.peer)
        await sessions.delete(request.user_id, request.body.devices)

    def row(method: str, path: str, handler: Any, limit: str, body: Any = None) -> Route:
        return Route(
            method=method,
            path=f"/_matrix/client/v3{path}",
            handler=handler,
            auth=Auth.USER,
            limit=limit,
            gates=Gate.READS,
            body=body,
            anchor=spec_anchor(method, f"/_matrix/client/v3{path}"),
        )

    return [
        row("GET", "/devices", list_all, "read"),
        row("GET", "/devices/{deviceId}", get, "read"),
        row("PUT", "/devices/{deviceId}", update, "write", UpdateBody),
        row("DELETE", "/devices/{deviceId}", delete, "write", DeleteBody),
        row("POST", "/delete_devices", delete_many, "write", DeleteManyBody),
    ]


def _as_json(device: Device) -> dict[str, Any]:
    fields = {
        "device_id": device.device_id,
        "display_name": device.display_name,
        "last_seen_ip": device.last_seen_ip,
        "last_seen_ts": device.last_seen_ts,
    }
    return {name: value for name, value in fields.items() if value is not None}
