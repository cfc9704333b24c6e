"""OpenID tokens (client-server API "OpenID"), and the one operation of the server-server API that goes with them."""

from __future__ import annotations

from typing import Any

import msgspec

from heichat_appliance.http.routing import Auth, Request, Route, spec_anchor
from heichat_appliance.services.openid import OpenId

_REQUEST = "/_matrix/client/v3/user/{userId}/openid/request_token"
_USERINFO = "/_matrix/federation/v1/openid/userinfo"


class _Nothing(msgspec.Struct):
    """The body, an object of which nothing is read."""


def routes(openid: OpenId) -> list[Route]:
    """Asking for a token, and asking whose it is."""

    def request_token(request: Request) -> dict[str, Any]:
        return openid.issue(request.own_user())

    def userinfo(request: Request) -> dict[str, Any]:
        return {"sub": openid.whose(request.query_required("access_token"))}

    return [
        Route(method="POST", path=_REQUEST, handler=request_token, auth=Auth.USER, limit="write",
              anchor=spec_anchor("POST", _REQUEST), body=_Nothing),
        Route(method="GET", path=_USERINFO, handler=userinfo, auth=Auth.NONE, limit="anonymous",
              anchor=spec_anchor("GET", _USERINFO)),
    ]  # fmt: skip
