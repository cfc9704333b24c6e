"""What this server does not have: bridges, application services, single sign-on, the event streams of old. Clients ask all
the same, and get the answer that tells them so; where the specification wants 404 M_UNRECOGNIZED there is no row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from heichat_appliance.errors import MatrixError, forbidden, not_found
from heichat_appliance.http.routing import Auth, Gate, Request, Route, spec_anchor

_NOT_FOUND = not_found("this server has no such thing / das gibt es auf diesem Server nicht")
_NO_BRIDGES = forbidden("there are no application services here / Es gibt hier keine Application Services")
_NO_TOKENS = MatrixError(
    400, "M_FORBIDDEN", "logins by token are not offered; use your Uni-ID / Anmeldung nur mit der Uni-ID"
)
_NO_EVENTS = forbidden("this event stream was replaced by /sync / Dieser Ereignisstrom wurde durch /sync ersetzt")
_NO_CALLS = not_found("calls have no relay here / Anrufe haben hier keine Vermittlung")
_NO_PREVIEWS = forbidden("this server fetches no foreign pages / Dieser Server ruft keine fremden Seiten ab")

_V3 = "/_matrix/client/v3/"
_V1 = "/_matrix/client/v1/"

#: method, path, who may ask, and the answer: an object, or an error
_ANSWERS: tuple[tuple[str, str, Auth, dict[str, Any] | MatrixError], ...] = (
    ("GET", _V3 + "thirdparty/protocols", Auth.USER, {}),
    ("GET", _V3 + "thirdparty/protocol/{protocol}", Auth.USER, _NOT_FOUND),
    ("GET", _V3 + "thirdparty/location/{protocol}", Auth.USER, _NOT_FOUND),
    ("GET", _V3 + "thirdparty/user/{protocol}", Auth.USER, _NOT_FOUND),
    ("GET", _V3 + "thirdparty/location", Auth.USER, _NOT_FOUND),
    ("GET", _V3 + "thirdparty/user", Auth.USER, _NOT_FOUND),
    ("GET", _V3 + "voip/turnServer", Auth.USER, _NO_CALLS),
    ("POST", _V1 + "appservice/{appserviceId}/ping", Auth.NONE, _NO_BRIDGES),
    ("POST", _V1 + "login/get_token", Auth.USER, _NO_TOKENS),
    ("GET", _V3 + "login/sso/redirect/{idpId}", Auth.NONE, _NOT_FOUND),
    ("GET", _V3 + "events", Auth.USER, _NO_EVENTS),
    ("GET", _V3 + "events/{eventId}", Auth.USER, _NOT_FOUND),
    ("GET", _V1 + "media/preview_url", Auth.USER, _NO_PREVIEWS),
    ("GET", "/_matrix/media/v3/preview_url", Auth.USER, _NO_PREVIEWS),
    ("GET", "/.well-known/matrix/policy_server", Auth.NONE, _NOT_FOUND),
)


def routes(*, previews: bool, calls: bool) -> list[Route]:
    """The operations that find nothing here; `previews`, `calls`: there are URL previews, there is a relay for calls."""
    present = [_NO_PREVIEWS] * previews + [_NO_CALLS] * calls
    return [
        Route(
            method=method,
            path=path,
            handler=_handler(answer),
            auth=auth,
            limit="read" if auth is Auth.USER else "anonymous",
            gates=Gate.READS,
            anchor=spec_anchor(method, path),
            absent=_described(answer),
        )
        for method, path, auth, answer in _ANSWERS
        if answer not in present
    ]


def _described(answer: dict[str, Any] | MatrixError) -> str:
    if isinstance(answer, MatrixError):
        return f"{answer.status} {answer.errcode}: {answer.message.split(' / ')[0]}"
    return f"200, always {orjson.dumps(answer).decode()}"


def _handler(answer: dict[str, Any] | MatrixError) -> Callable[[Request], Any]:
    def handler(request: Request) -> Any:
        if isinstance(answer, MatrixError):
            raise answer
        return answer

    return handler
