"""The dispatcher: the one place that knows JSON, status codes, CORS, authentication, gates, limits and errors."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from inspect import iscoroutine
from typing import Any, Protocol
from urllib.parse import parse_qsl

import msgspec
import orjson
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from heichat_appliance.db.engine import EngineStopped
from heichat_appliance.errors import MatrixError, bad_json, missing_param
from heichat_appliance.http.routing import ANSWERED, Auth, Gate, Request, Response, Route, Router
from heichat_appliance.http.server import Exchange
from heichat_appliance.protocol import canonicaljson
from heichat_appliance.ratelimit import RateLimiter

log = Logger()

CORS: tuple[tuple[bytes, bytes], ...] = (
    (b"Access-Control-Allow-Origin", b"*"),
    (b"Access-Control-Allow-Methods", b"GET, HEAD, POST, PUT, DELETE, OPTIONS"),
    (b"Access-Control-Allow-Headers", b"X-Requested-With, Content-Type, Authorization"),
    (b"Access-Control-Expose-Headers", b"Retry-After, Content-Disposition, Content-Range, ETag"),
)
_COMMON = (*CORS, (b"Cache-Control", b"no-store"), (b"X-Content-Type-Options", b"nosniff"))
_JSON = b"application/json"
_JSON_HEADERS = ((b"Content-Type", _JSON), *_COMMON)
_PREFLIGHT = (*CORS, (b"Access-Control-Max-Age", b"86400"))
_UNRECOGNIZED = "this server does not know this path"


class Authenticator(Protocol):
    """Knows sessions: `services.sessions.Sessions`."""

    def authenticate(self, token: str, peer: str) -> Any:
        """The Session of an access token, or MatrixError 401."""


#: May this person do this now? Raises MatrixError if not.
GateCheck = Callable[[Request], None]


class Site:
    """Implements `http.server.Site` over a route table."""

    def __init__(
        self,
        routes: Sequence[Route],
        sessions: Authenticator,
        limits: dict[str, RateLimiter],
        gates: Sequence[tuple[Gate, GateCheck]],
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        """`limits`: a limiter for each name in the table; `gates`: checks in order, each run on routes that have its flag."""
        self.router = Router(routes)
        self._sessions = sessions
        self._limits = limits
        #: the checks that each route has, by its identity
        self._checks = {id(r): tuple(check for flag, check in gates if flag in r.gates) for r in self.router.routes}
        self._proxies = frozenset(trusted_proxies)
        self._decoders = {r.body: msgspec.json.Decoder(r.body) for r in routes if r.body not in (None, dict, bytes)}
        missing = {route.limit for route in routes} - {"none", *limits}
        if missing:
            raise ValueError(f"routes name limits that do not exist: {sorted(missing)}")

    # -- http.server.Site ----------------------------------------------------------------------------------------

    def begin(self, exchange: Exchange) -> int:
        """Find the route; how many bytes of body it takes. Uploads are admitted here, before their body."""
        if exchange.peer in self._proxies:
            exchange.peer = _forwarded_for(exchange, self._proxies)
        if exchange.method == "OPTIONS":
            exchange.respond(204, _PREFLIGHT)
            return 0
        try:
            found = self.router.match(exchange.method, exchange.path)
            if isinstance(found, int):
                raise MatrixError(found, "M_UNRECOGNIZED", _UNRECOGNIZED, headers=self._allow(found, exchange))
            request = exchange.context = Request(exchange, *found)
            if request.route.begin is not None:
                self._admit(request)
                request.route.begin(request)
        except MatrixError as error:
            self._respond_error(exchange, error)
            return 0
        except Exception:
            self._respond_unexpected(exchange, Failure())
            return 0
        return request.route.max_body

    def handle(self, exchange: Exchange) -> None:
        """The body is there: admit, decode, call the handler, answer."""
        if exchange.answered:
            return
        request: Request = exchange.context
        try:
            if request.route.begin is None:
                self._admit(request)
            request.body = self._decode(request)
            result = request.route.handler(request)
            if iscoroutine(result):
                result = Deferred.fromCoroutine(result)
        except MatrixError as error:
            self._respond_error(exchange, error)
        except Exception:
            self._respond_unexpected(exchange, Failure())
        else:
            if isinstance(result, Deferred):
                result.addBoth(self._settled, exchange)
            else:
                self._respond(result, exchange)

    def refuse(self, status: int, reason: str) -> tuple[Sequence[tuple[bytes, bytes]], bytes]:
        """Headers and body of errors that the HTTP server itself answers."""
        errcode = {413: "M_TOO_LARGE", 408: "M_UNKNOWN", 503: "M_RESOURCE_LIMIT_EXCEEDED"}.get(status, "M_UNKNOWN")
        return _JSON_HEADERS, orjson.dumps({"errcode": errcode, "error": reason})

    # -- admission -----------------------------------------------------------------------------------------------

    def _admit(self, request: Request) -> None:
        route = request.route
        if route.auth is not Auth.NONE:
            token = _token(request)
            if token is not None:
                request.session = self._sessions.authenticate(token, request.exchange.peer)
            elif route.auth is Auth.USER:
                raise MatrixError(401, "M_MISSING_TOKEN", "this needs an access token in the Authorization header")
        session = request.session
        if route.limit != "none":
            self._limits[route.limit].take(session.user_id if session else request.exchange.peer)
        if session is not None:
            for check in self._checks[id(route)]:
                check(request)

    def _decode(self, request: Request) -> Any:
        model = request.route.body
        if model is None:
            return None
        body = request.exchange.body
        if model is dict:
            return _json_object(body)
        if model is bytes:
            return body
        try:
            return self._decoders[model].decode(body or b"{}")
        except msgspec.ValidationError as error:
            text = str(error)
            raise (missing_param if "missing required field" in text else bad_json)(f"body: {text}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MatrixError(400, "M_NOT_JSON", f"the body is not valid JSON: {error}")

    # -- answers -------------------------------------------------------------------------------------------------

    def _settled(self, result: Any, exchange: Exchange) -> None:
        if isinstance(result, Failure):
            self._failed(result, exchange)
            return
        try:
            self._respond(result, exchange)
        except Exception:
            self._respond_unexpected(exchange, Failure())

    def _respond(self, result: Any, exchange: Exchange) -> None:
        if result is ANSWERED or exchange.answered:
            return
        if type(result) is Response:
            if result.headers or result.content_type != _JSON:
                headers = ((b"Content-Type", result.content_type), *with_defaults(result.headers))
            else:
                headers = _JSON_HEADERS
            exchange.respond(result.status, headers, result.body)
        else:
            exchange.respond(200, _JSON_HEADERS, orjson.dumps({} if result is None else result))

    def _failed(self, failure: Failure, exchange: Exchange) -> None:
        if exchange.answered or failure.check(CancelledError):
            return
        if failure.check(MatrixError):
            self._respond_error(exchange, failure.value)
        elif failure.check(EngineStopped):
            self._respond_error(exchange, MatrixError(503, "M_UNKNOWN", "the server is stopping; try again soon"))
        else:
            self._respond_unexpected(exchange, failure)

    @staticmethod
    def _respond_error(exchange: Exchange, error: MatrixError) -> None:
        extra = tuple((name.encode(), value.encode()) for name, value in error.headers.items())
        exchange.respond(error.status, (*_JSON_HEADERS, *extra), orjson.dumps(error.body()))

    def _respond_unexpected(self, exchange: Exchange, failure: Failure) -> None:
        identifier = secrets.token_hex(6)
        route = exchange.context.route if exchange.context else None
        log.failure(
            "error {identifier} in {method} {path}", failure, identifier=identifier, method=exchange.method,
            path=route.path if route else "(no route)",
        )  # fmt: skip
        if not exchange.answered:
            sentence = f"An unexpected error happened; the server's log has it as {identifier}. / Unerwarteter Fehler."
            self._respond_error(exchange, MatrixError(500, "M_UNKNOWN", sentence))

    def _allow(self, status: int, exchange: Exchange) -> dict[str, str]:
        return {"Allow": ", ".join(self.router.methods(exchange.path))} if status == 405 else {}


def with_defaults(headers: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[bytes, bytes], ...]:
    """`headers`, and what every answer has unless they say otherwise (CORS, no-store, nosniff)."""
    given = {name.lower() for name, _ in headers}
    return (*headers, *((name, value) for name, value in _COMMON if name.lower() not in given))


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = canonicaljson.parse(body)
    except ValueError as error:
        raise MatrixError(400, "M_NOT_JSON", f"the body is not valid JSON: {error}")
    if not isinstance(value, dict):
        raise bad_json("the body must be a JSON object")
    return value


def _token(request: Request) -> str | None:
    """The access token: header (RFC 6750), or the deprecated query parameter that v1.19 still has."""
    header = request.exchange.headers.get("authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise MatrixError(401, "M_MISSING_TOKEN", "the Authorization header must be 'Bearer' and an access token")
        return token.strip()
    if "access_token=" in request.exchange.query:
        return next((v for k, v in parse_qsl(request.exchange.query, errors="replace") if k == "access_token"), None)
    return None


def _forwarded_for(exchange: Exchange, proxies: frozenset[str]) -> str:
    """The nearest address in X-Forwarded-For that is not one of our proxies."""
    hops = [hop.strip() for hop in exchange.headers.get("x-forwarded-for", "").split(",") if hop.strip()]
    return next((hop for hop in reversed(hops) if hop not in proxies), exchange.peer)
