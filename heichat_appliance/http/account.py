"""What the university's directory manages and so cannot be done here, and what administrators may do (spec, "Account
management", "Adding Account Administrative Contact Information", "Server Administration")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from heichat_appliance.errors import MatrixError
from heichat_appliance.http.routing import Auth, Gate, Request, Route, spec_anchor
from heichat_appliance.services.accounts import Accounts
from heichat_appliance.services.sessions import Sessions

BY_DIRECTORY = (
    "Accounts, passwords and contact data are managed by the university's directory; log in with your Uni-ID. / "
    "Konten, Passwörter und Kontaktdaten verwaltet das Verzeichnis der Universität, nicht dieser Server; "
    "bitte mit der Uni-ID anmelden."
)

#: method, path after /_matrix/client, who may ask, status, error code. The codes are those that the spec declares.
_REFUSED: tuple[tuple[str, str, Auth, int, str], ...] = (
    ("POST", "/v3/register", Auth.NONE, 403, "M_FORBIDDEN"),
    ("GET", "/v3/register/available", Auth.NONE, 403, "M_FORBIDDEN"),
    ("POST", "/v3/register/email/requestToken", Auth.NONE, 403, "M_THREEPID_DENIED"),
    ("POST", "/v3/register/msisdn/requestToken", Auth.NONE, 403, "M_THREEPID_DENIED"),
    ("GET", "/v1/register/m.login.registration_token/validity", Auth.NONE, 403, "M_FORBIDDEN"),
    ("POST", "/v3/account/password", Auth.OPTIONAL, 403, "M_FORBIDDEN"),
    ("POST", "/v3/account/password/email/requestToken", Auth.NONE, 403, "M_THREEPID_DENIED"),
    ("POST", "/v3/account/password/msisdn/requestToken", Auth.NONE, 403, "M_THREEPID_DENIED"),
    ("POST", "/v3/account/deactivate", Auth.OPTIONAL, 403, "M_FORBIDDEN"),
    ("POST", "/v3/account/3pid", Auth.USER, 403, "M_FORBIDDEN"),
    ("POST", "/v3/account/3pid/add", Auth.USER, 403, "M_FORBIDDEN"),
    ("POST", "/v3/account/3pid/bind", Auth.USER, 403, "M_FORBIDDEN"),
    ("POST", "/v3/account/3pid/delete", Auth.USER, 403, "M_FORBIDDEN"),
    ("POST", "/v3/account/3pid/unbind", Auth.USER, 403, "M_FORBIDDEN"),
    ("POST", "/v3/account/3pid/email/requestToken", Auth.NONE, 400, "M_THREEPID_MEDIUM_NOT_SUPPORTED"),
    ("POST", "/v3/account/3pid/msisdn/requestToken", Auth.NONE, 400, "M_THREEPID_MEDIUM_NOT_SUPPORTED"),
)


class SuspendBody(Struct):
    """PUT /admin/suspend/{userId}."""

    suspended: bool


class LockBody(Struct):
    """PUT /admin/lock/{userId}."""

    locked: bool


_WHY = "accounts, passwords and addresses are managed by the directory"


def routes(accounts: Accounts, sessions: Sessions) -> list[Route]:
    """The operations of this chapter."""

    def no_addresses(request: Request) -> Any:
        return {"threepids": []}

    def who_is(request: Request) -> Any:
        return accounts.whois(request.user_id, request.params["userId"], sessions)

    def get_suspended(request: Request) -> Any:
        return {"suspended": accounts.flag(request.user_id, request.params["userId"], "suspended")}

    async def put_suspended(request: Request) -> Any:
        value = request.body.suspended
        await accounts.set_flag(request.user_id, request.params["userId"], "suspended", value)
        return {"suspended": value}

    def get_locked(request: Request) -> Any:
        return {"locked": accounts.flag(request.user_id, request.params["userId"], "locked")}

    async def put_locked(request: Request) -> Any:
        value = request.body.locked
        await accounts.set_flag(request.user_id, request.params["userId"], "locked", value)
        return {"locked": value}

    return [
        *(
            _row(m, p, _refusal(s, e), a, "none" if a is Auth.NONE else "write", Gate.READS, absent=f"{s} {e}: {_WHY}")
            for m, p, a, s, e in _REFUSED
        ),
        _row("GET", "/v3/account/3pid", no_addresses, Auth.USER, "read", Gate.READS),
        _row("GET", "/v3/admin/whois/{userId}", who_is, Auth.USER, "read", Gate.READS),
        _row("GET", "/v1/admin/suspend/{userId}", get_suspended, Auth.USER, "read", Gate.READS),
        _row("PUT", "/v1/admin/suspend/{userId}", put_suspended, Auth.USER, "write", Gate.ALL, SuspendBody),
        _row("GET", "/v1/admin/lock/{userId}", get_locked, Auth.USER, "read", Gate.READS),
        _row("PUT", "/v1/admin/lock/{userId}", put_locked, Auth.USER, "write", Gate.ALL, LockBody),
    ]


def gates(accounts: Accounts) -> list[tuple[Gate, Callable[[Request], None]]]:
    """The checks of locked and suspended accounts, for the dispatcher."""
    return [
        (Gate.LOCKED, lambda request: accounts.refuse_locked(request.user_id)),
        (Gate.SUSPENDED, lambda request: accounts.refuse_suspended(request.user_id)),
    ]


def _refusal(status: int, errcode: str) -> Callable[[Request], Any]:
    def refuse(request: Request) -> Any:
        raise MatrixError(status, errcode, BY_DIRECTORY)

    return refuse


def _row(
    method: str, path: str, handler: Callable[[Request], Any], auth: Auth, limit: str, gates: Gate, body: Any = None,
    absent: str = "",
) -> Route:  # fmt: skip
    return Route(
        method=method,
        path=f"/_matrix/client{path}",
        absent=absent,
        handler=handler,
        auth=auth,
        limit=limit,
        gates=gates,
        body=body,
        anchor=spec_anchor(method, f"/_matrix/client{path}"),
    )
