"""Routes are data: one row an operation, found by the raw path, with everything that admits a request.

Auth and limit have no default. Gates default to all; an operation that must work before consent, or for a suspended
account, says so. Handlers get a `Request` and return what becomes the answer; they know nothing of the HTTP layer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, Flag, auto
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_to_bytes

from heichat_appliance.errors import forbidden, invalid_param, missing_param

if TYPE_CHECKING:
    from heichat_appliance.http.server import Exchange
    from heichat_appliance.services.sessions import Session

#: The most bytes of an ordinary JSON body. An event may have 65,536 bytes; JSON escapes can make it six times as long.
JSON_BODY = 512 * 1024
MAX_QUERY_FIELDS = 200
_STRAY_PERCENT = re.compile(r"%(?![0-9a-fA-F]{2})")


class Auth(Enum):
    """Who may call: anybody, anybody (known if a token is given), or a logged-in person."""

    NONE = auto()
    OPTIONAL = auto()
    USER = auto()


class Gate(Flag):
    """What a logged-in person may be stopped by."""

    LOCKED = auto()
    SUSPENDED = auto()
    CONSENT = auto()
    ALL = LOCKED | SUSPENDED | CONSENT
    #: for what a person may do before agreeing to the terms and while suspended: reading, own devices, logout
    READS = LOCKED
    #: for logout, which even a locked account may do
    NOTHING = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation.

    `path`: template such as `/_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`, whose last segment may be
    `{name*}`: the rest of the path, slashes and all; `limit`: the name of a rate limit of `[limits]`, or "none"; `body`:
    None (no body is read), `dict` (any JSON object), `bytes` (as it is), or a msgspec Struct;
    `anchor`: of the operation in the client-server specification; `max_body`: bytes.
    """

    method: str
    path: str
    handler: Callable[[Request], Any]
    auth: Auth
    limit: str
    anchor: str
    gates: Gate = Gate.ALL
    body: Any = None
    max_body: int = JSON_BODY
    #: called when the head is there, before the body: for uploads that stream (see http/media.py)
    begin: Callable[[Request], None] | None = None
    #: for an operation that this server does not have: its answer and the reason, for docs/api.md
    absent: str = ""
    #: further templates that lead here (older or unstable names of the same operation)
    also: tuple[str, ...] = ()


@dataclass(slots=True)
class Response:
    """An answer that is not plain JSON with status 200. `body`: bytes, or byte strings to be joined by the writer."""

    status: int = 200
    body: bytes | Sequence[bytes] = b""
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @classmethod
    def of_parts(cls, parts: Sequence[bytes]) -> Response:
        """A JSON answer made of pieces."""
        return cls(body=parts)


#: A handler returns this when it has answered on `request.exchange` itself (streams).
ANSWERED = object()


class Request:
    """What a handler gets: decoded path parameters, query, body (as the route's `body` says) and who asks."""

    __slots__ = ("_fields", "body", "exchange", "params", "route", "session", "upload")

    def __init__(self, exchange: Exchange, route: Route, params: dict[str, str]) -> None:
        self.exchange = exchange
        self.route = route
        self.params = params
        self.session: Session | None = None
        self.body: Any = None
        #: what `Route.begin` made of a body that streams
        self.upload: Any = None
        self._fields: dict[str, str] | None = None

    @property
    def user_id(self) -> str:
        """The user ID of the person who asks (routes with Auth.USER only)."""
        return self.session.user_id  # type: ignore[union-attr]

    @property
    def device_id(self) -> str:
        """The device ID of the person who asks (routes with Auth.USER only)."""
        return self.session.device_id  # type: ignore[union-attr]

    def own_user(self) -> str:
        """The user ID in the path, which must be that of the person who asks; 403 M_FORBIDDEN for another."""
        if self.params["userId"] != self.user_id:
            raise forbidden("this can be done for oneself only / Das geht nur für das eigene Konto")
        return self.user_id

    def _all_fields(self) -> list[tuple[str, str]]:
        """The query's fields, as `urllib.parse.parse_qsl` reads them; most need no decoding, so it is not asked."""
        query = self.exchange.query
        parts = [part.partition("=") for part in query.split("&") if part]
        if len(parts) > MAX_QUERY_FIELDS:
            raise invalid_param("the query string has too many fields")
        if "%" not in query and "+" not in query:
            return [(key, value) for key, _, value in parts]
        try:
            return [(_form_decode(key), _form_decode(value)) for key, _, value in parts]
        except UnicodeError:
            raise invalid_param("the query string is not valid UTF-8")

    def query(self, name: str, default: str | None = None) -> str | None:
        """The first value of a query parameter, or `default`."""
        fields = self._fields
        if fields is None:
            fields = self._fields = dict(reversed(self._all_fields()))
        return fields.get(name, default)

    def query_all(self, name: str) -> list[str]:
        """All values of a repeated query parameter."""
        return [value for key, value in self._all_fields() if key == name]

    def query_required(self, name: str) -> str:
        """A query parameter that must be there; 400 M_MISSING_PARAM otherwise."""
        value = self.query(name)
        if value is None:
            raise missing_param(f"query parameter {name} is missing")
        return value

    def query_int(self, name: str, default: int | None, low: int, high: int) -> int | None:
        """A whole number; values outside are brought to `low` or `high`; 400 M_INVALID_PARAM if it is no number."""
        value = self.query(name)
        if value is None:
            return default
        if not value.lstrip("-").isascii() or not value.lstrip("-").isdigit() or len(value) > 18:
            raise invalid_param(f"query parameter {name} must be a whole number")
        return max(low, min(high, int(value)))

    def query_bool(self, name: str, default: bool = False) -> bool:
        """`true` or `false`; 400 M_INVALID_PARAM for anything else."""
        value = self.query(name)
        if value is None:
            return default
        if value not in ("true", "false"):
            raise invalid_param(f"query parameter {name} must be true or false")
        return value == "true"

    def query_choice(self, name: str, default: str | None, *allowed: str) -> str | None:
        """One of some words; 400 M_INVALID_PARAM for another."""
        value = self.query(name, default)
        if value is not None and value not in allowed and value != default:
            raise invalid_param(f"query parameter {name} must be one of {', '.join(allowed)}")
        return value


def _form_decode(text: str) -> str:
    if "+" in text:
        text = text.replace("+", " ")
    return unquote(text, errors="strict") if "%" in text else text


def spec_anchor(method: str, path: str) -> str:
    """The anchor of an operation in the client-server specification, e.g. `get_matrixclientv3devicesdeviceid`."""
    return method.lower() + path.translate(_NO_PUNCTUATION).lower()


_NO_PUNCTUATION = str.maketrans("", "", "/{}.")


class _Node:
    __slots__ = ("children", "parameter", "rest", "rest_begins", "routes")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.rest: _Node | None = None
        self.rest_begins = 0  # if it stands for the rest of a path: the number of the first segment
        self.routes: dict[str, tuple[Route, tuple[tuple[int, str], ...]]] = {}


class Router:
    """Finds the route of a raw path. A literal segment is preferred to a parameter."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._root = _Node()
        #: the nodes of templates without parameters, by their path; such a path has no better match
        self._literal: dict[str, _Node] = {}
        for route in routes:
            for template in (route.path, *route.also):
                self._add(route, template)
                if template.startswith(("/_matrix/client/v3/", "/_matrix/media/v3/")):
                    self._add(route, template.replace("/v3/", "/r0/", 1))

    def _add(self, route: Route, template: str) -> None:
        node = self._root
        names = []
        for index, segment in enumerate(template.split("/")):
            if segment.endswith("*}"):
                names.append((index, segment[1:-2]))
                node.rest = node.rest or _Node()
                node = node.rest
                node.rest_begins = index
            elif segment.startswith("{"):
                names.append((index, segment[1:-1]))
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.children.setdefault(segment, _Node())
        if route.method in node.routes:
            raise ValueError(f"two routes for {route.method} {template}")
        node.routes[route.method] = (route, tuple(names))
        if not names:
            self._literal[template] = node

    def match(self, method: str, path: str) -> tuple[Route, dict[str, str]] | int:
        """The route and its decoded parameters, or 404 or 405. Raises 400 for bad percent-encoding in a parameter."""
        literal = self._literal.get(path)
        if literal is not None and method in literal.routes:
            return literal.routes[method][0], {}
        segments = path.split("/")
        found = self._find(self._root, segments, 0, method)
        if found is None:
            return 405 if self._find(self._root, segments, 0, None) else 404
        route, names = found.routes.get(method) or found.routes["GET"]
        if found.rest_begins:
            segments[found.rest_begins :] = ["/".join(segments[found.rest_begins :])]
        return route, {name: _decode(segments[index], name) for index, name in names}

    def methods(self, path: str) -> list[str]:
        """The methods that the path knows, for `Allow`."""
        node = self._find(self._root, path.split("/"), 0, None)
        return sorted(node.routes) if node else []

    def _find(self, node: _Node, segments: list[str], index: int, method: str | None) -> _Node | None:
        """The node of the path which has a route for `method` (any route if None); HEAD is served by GET."""
        if index == len(segments):
            fits = bool(node.routes) if method is None else method in node.routes
            return node if fits or (method == "HEAD" and "GET" in node.routes) else None
        child = node.children.get(segments[index])
        if child is not None:
            found = self._find(child, segments, index + 1, method)
            if found is not None:
                return found
        if node.parameter is not None:
            found = self._find(node.parameter, segments, index + 1, method)
            if found is not None:
                return found
        return self._find(node.rest, segments, len(segments), method) if node.rest is not None else None


def _decode(segment: str, name: str) -> str:
    if "%" not in segment and segment.isascii():
        return segment
    try:
        value = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        raise invalid_param(f"path parameter {name} is not valid UTF-8")
    if "\0" in value or _STRAY_PERCENT.search(segment):
        raise invalid_param(f"path parameter {name} has bad percent-encoding")
    return value
