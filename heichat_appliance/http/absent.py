"""What this server does not have: bridges to other networks, and (so far) calls and pushers. Clients ask all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heichat_appliance.errors import not_found
from heichat_appliance.http.routing import Auth, Gate, Request, Route, spec_anchor

#: path after /_matrix/client/v3/, and the answer (None: 404 M_NOT_FOUND, as the spec declares it)
_ANSWERS: tuple[tuple[str, Any], ...] = (
    ("thirdparty/protocols", {}),
    ("thirdparty/protocol/{protocol}", None),
    ("thirdparty/location/{protocol}", None),
    ("thirdparty/user/{protocol}", None),
    ("thirdparty/location", None),
    ("thirdparty/user", None),
    ("voip/turnServer", None),
    ("pushers", {"pushers": []}),
)


def routes() -> list[Route]:
    """The operations that find nothing here."""
    return [
        Route(
            method="GET",
            path=f"/_matrix/client/v3/{path}",
            handler=_handler(answer),
            auth=Auth.USER,
            limit="read",
            gates=Gate.READS,
            anchor=spec_anchor("GET", f"/_matrix/client/v3/{path}"),
        )
        for path, answer in _ANSWERS
    ]


def _handler(answer: Any) -> Callable[[Request], Any]:
    def handler(request: Request) -> Any:
        if answer is None:
            raise not_found("this server has no such thing")
        return answer

    return handler
