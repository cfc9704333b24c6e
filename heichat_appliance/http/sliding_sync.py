"""POST .../org.matrix.simplified_msc3575/sync (MSC4186, simplified sliding sync)."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from heichat_appliance.http.routing import Auth, Gate, Request, Response, Route
from heichat_appliance.http.sync import MAX_TIMEOUT
from heichat_appliance.services.render import Viewer
from heichat_appliance.services.sliding_request import SlidingRequest
from heichat_appliance.services.sliding_sync import SlidingSync


def routes(sliding: SlidingSync) -> list[Route]:
    """The route of sliding sync."""

    def post(request: Request) -> Deferred[Response]:
        body: SlidingRequest = request.body
        body.check()
        timeout = request.query_int("timeout", 0, 0, MAX_TIMEOUT) or 0
        presence = request.query_choice("set_presence", None, "online", "offline", "unavailable")
        viewer = Viewer(request.user_id, request.device_id)
        result = sliding.answer(viewer, body, request.query("pos") or None, timeout, presence)
        request.exchange.on_disconnect = result.cancel
        return result.addCallback(Response.of_parts)

    return [
        Route(
            method="POST", path="/_matrix/client/unstable/org.matrix.simplified_msc3575/sync", handler=post,
            auth=Auth.USER, limit="read", gates=Gate.READS, body=SlidingRequest, anchor="msc4186",
        ),
    ]  # fmt: skip
