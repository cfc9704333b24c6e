"""Stored filters (spec, "Filtering")."""

from __future__ import annotations

from typing import Any

from heichat_appliance.http.routing import Auth, Gate, Request, Response, Route, spec_anchor
from heichat_appliance.services.account_data import Filters

_PATH = "/_matrix/client/v3/user/{userId}/filter"


def routes(filters: Filters) -> list[Route]:
    """The operations of this chapter."""

    def get(request: Request) -> Any:
        return Response(body=filters.get(request.own_user(), request.params["filterId"]))

    async def post(request: Request) -> Any:
        return {"filter_id": await filters.put(request.own_user(), request.body)}

    return [
        Route(
            method="POST",
            path=_PATH,
            handler=post,
            auth=Auth.USER,
            limit="write",
            gates=Gate.READS,
            body=dict,
            anchor=spec_anchor("POST", _PATH),
        ),
        Route(
            method="GET",
            path=_PATH + "/{filterId}",
            handler=get,
            auth=Auth.USER,
            limit="read",
            gates=Gate.READS,
            anchor=spec_anchor("GET", _PATH + "/{filterId}"),
        ),
    ]
