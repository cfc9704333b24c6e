"""Messages to devices (spec, "Send-to-Device messaging")."""

from __future__ import annotations

from typing import Any

from heichat_appliance.errors import invalid_param
from heichat_appliance.http.routing import Auth, Gate, Request, Route, spec_anchor
from heichat_appliance.ids import check_length
from heichat_appliance.services.to_device import ToDevice

#: The most bytes of one request: room keys for some hundred devices.
MAX_BODY = 8 * 1024 * 1024

_PATH = "/_matrix/client/v3/sendToDevice/{eventType}/{txnId}"


def routes(to_device: ToDevice) -> list[Route]:
    """The operation of this chapter."""

    def send(request: Request) -> Any:
        try:
            type = check_length(request.params["eventType"], "eventType")
            txn_id = check_length(request.params["txnId"], "txnId")
        except ValueError as error:
            raise invalid_param(str(error))
        return to_device.send(request.user_id, request.device_id, type, txn_id, request.body)

    return [
        Route(
            method="PUT",
            path=_PATH,
            handler=send,
            auth=Auth.USER,
            limit="write",
            gates=Gate.LOCKED | Gate.CONSENT,  # a suspended person may verify devices (spec, "Account suspension")
            body=dict,
            max_body=MAX_BODY,
            anchor=spec_anchor("PUT", _PATH),
        )
    ]
