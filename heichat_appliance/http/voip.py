"""Help for calls (client-server API, "Voice over IP")."""

from __future__ import annotations

from typing import Any

from heichat_appliance.calls.offer import Offer
from heichat_appliance.http.routing import Auth, Gate, Request, Route, spec_anchor

_PATH = "/_matrix/client/v3/voip/turnServer"


def routes(offer: Offer) -> list[Route]:
    """Where a person's calls may be relayed.

    Before the terms are agreed to as well: matrix-js-sdk asks once at its start and takes a 403 to mean that this account never
    gets any. Nobody is called before consent, since that takes a room.
    """

    def turn_server(request: Request) -> Any:
        return offer.turn_server(request.user_id)

    return [
        Route(
            method="GET",
            path=_PATH,
            handler=turn_server,
            auth=Auth.USER,
            limit="read",
            gates=Gate.READS,
            anchor=spec_anchor("GET", _PATH),
        )
    ]
