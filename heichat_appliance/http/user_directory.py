"""Searching for people (spec, "User Directory")."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from heichat_appliance.http.routing import Auth, Gate, Request, Route, spec_anchor
from heichat_appliance.services.user_directory import UserDirectory

_PATH = "/_matrix/client/v3/user_directory/search"


class SearchBody(Struct):
    """POST /user_directory/search."""

    search_term: str
    limit: int = 10


def routes(user_directory: UserDirectory) -> list[Route]:
    """The operation of this chapter."""

    def search(request: Request) -> Any:
        return user_directory.search(request.user_id, request.body.search_term, request.body.limit)

    return [
        Route(
            method="POST",
            path=_PATH,
            handler=search,
            auth=Auth.USER,
            limit="search",
            gates=Gate.READS,
            body=SearchBody,
            anchor=spec_anchor("POST", _PATH),
        )
    ]
