"""Keys of devices and people, and dehydrated devices (spec, "End-to-End Encryption"; MSC3814)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heichat_appliance.http.routing import Auth, Gate, Request, Route, spec_anchor
from heichat_appliance.services import tokens
from heichat_appliance.services.cross_signing import CrossSigning
from heichat_appliance.services.dehydrated import Dehydrated
from heichat_appliance.services.device_lists import DeviceLists
from heichat_appliance.services.keys import Keys

#: The most bytes of a claim or a query for thousands of devices, and of an upload of keys.
LARGE_BODY = 1024 * 1024

_MSC3814 = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"


def routes(keys: Keys, cross_signing: CrossSigning, device_lists: DeviceLists, dehydrated: Dehydrated) -> list[Route]:
    """The operations of this chapter."""

    def upload(request: Request) -> Any:
        return keys.upload(request.user_id, request.device_id, request.body)

    def query(request: Request) -> Any:
        return keys.query(request.user_id, request.body)

    def claim(request: Request) -> Any:
        return keys.claim(request.body)

    def changes(request: Request) -> Any:
        start = tokens.parse(request.query_required("from"), "from")
        return device_lists.changes(request.user_id, start, tokens.parse(request.query_required("to"), "to"))

    def upload_cross_signing(request: Request) -> Any:
        return cross_signing.upload(request.session, request.body, request.exchange.peer)

    def upload_signatures(request: Request) -> Any:
        return cross_signing.upload_signatures(request.user_id, request.body)

    def get_dehydrated(request: Request) -> Any:
        return dehydrated.get(request.user_id)

    def put_dehydrated(request: Request) -> Any:
        return dehydrated.put(request.user_id, request.body)

    def delete_dehydrated(request: Request) -> Any:
        return dehydrated.delete(request.user_id)

    def dehydrated_events(request: Request) -> Any:
        return dehydrated.events(request.user_id, request.params["device_id"], request.body)

    return [
        _row("POST", "/_matrix/client/v3/keys/upload", upload, "write", dict),
        _row("POST", "/_matrix/client/v3/keys/query", query, "read", dict),
        _row("POST", "/_matrix/client/v3/keys/claim", claim, "write", dict),
        _row("GET", "/_matrix/client/v3/keys/changes", changes, "read"),
        _row(
            "POST",
            "/_matrix/client/v3/keys/device_signing/upload",
            upload_cross_signing,
            "write",
            dict,
            ("/_matrix/client/unstable/keys/device_signing/upload",),
        ),
        _row(
            "POST",
            "/_matrix/client/v3/keys/signatures/upload",
            upload_signatures,
            "write",
            dict,
            ("/_matrix/client/unstable/keys/signatures/upload",),
        ),
        _row("GET", _MSC3814, get_dehydrated, "read"),
        _row("PUT", _MSC3814, put_dehydrated, "write", dict),
        _row("DELETE", _MSC3814, delete_dehydrated, "write"),
        _row("POST", _MSC3814 + "/{device_id}/events", dehydrated_events, "read", dict),
    ]


def _row(
    method: str, path: str, handler: Callable[[Request], Any], limit: str, body: Any = None, also: tuple[str, ...] = ()
) -> Route:
    return Route(
        method=method,
        path=path,
        handler=handler,
        auth=Auth.USER,
        limit=limit,
        gates=Gate.READS,
        body=body,
        max_body=LARGE_BODY,
        also=also,
        anchor=spec_anchor(method, path),
    )
