"""GET /sync (client-server API, "Syncing")."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson
from twisted.internet.defer import Deferred

from heichat_appliance.db.engine import Engine
from heichat_appliance.errors import invalid_param, not_found
from heichat_appliance.http.routing import Auth, Gate, Request, Response, Route
from heichat_appliance.protocol.filters import Filter, parse_filter
from heichat_appliance.services import tokens
from heichat_appliance.services.render import Viewer
from heichat_appliance.services.sync import Sync
from heichat_appliance.services.sync_rooms import Query
from heichat_appliance.store import account_data

#: A long poll lasts at most this long, in milliseconds.
MAX_TIMEOUT = 120_000
MAX_FILTERS_KEPT = 20_000
#: Queries without `since` that are kept, and how long they may be.
MAX_ASKED_KEPT = 1_000
MAX_ASKED_LENGTH = 256


class _Asked(NamedTuple):
    """What the query says besides `since`."""

    filter: str
    timeout: int
    presence: str | None
    full_state: bool
    state_section: bytes


class SyncHandler:
    """Reads the parameters of /sync."""

    def __init__(self, sync: Sync, engine: Engine) -> None:
        self._sync = sync
        self._engine = engine
        self._asked: dict[str, _Asked] = {}
        self._filters: dict[str, Filter] = {}
        #: stored filters never change
        self._stored: dict[tuple[str, str], str] = {}

    def get(self, request: Request) -> Deferred[Response]:
        """The handler."""
        asked, since = self._read(request)
        user_id = request.user_id
        wanted, key = self._filter(user_id, asked.filter)
        query = Query(
            viewer=Viewer(user_id, request.device_id),
            since=None,
            filter=wanted,
            filter_key=key,
            full_state=asked.full_state,
            state_section=asked.state_section,
        )
        token = tokens.parse(since, "since") if since else None
        result = self._sync.answer(query, token, asked.timeout, asked.presence)
        request.exchange.on_disconnect = result.cancel
        return result.addCallback(Response.of_parts)

    def _read(self, request: Request) -> tuple[_Asked, str | None]:
        """What is asked, and `since`. A client's requests mostly differ in that alone, so the rest is read once."""
        text = request.exchange.query
        before, _, after = text.partition("since=")
        since, more, after = after.partition("&")
        if not since or before[-1:] not in ("", "&") or "%" in since or "+" in since:
            return _asked(request), request.query("since")
        rest = before + after if more else before[:-1]
        asked = self._asked.get(rest)
        if asked is None:
            asked = _asked(request)
            if len(rest) <= MAX_ASKED_LENGTH:
                if len(self._asked) >= MAX_ASKED_KEPT:
                    self._asked.clear()
                self._asked[rest] = asked
        return asked, since

    def _filter(self, user_id: str, text: str) -> tuple[Filter, str]:
        """The filter, given as JSON or by its ID, and a text that is the same for equal filters."""
        if not text:
            return _NO_FILTER, ""
        if not text.startswith("{"):
            text = self._stored_filter(user_id, text)
        found = self._filters.get(text)
        if found is None:
            found = _parse(text)
            if len(self._filters) >= MAX_FILTERS_KEPT:
                self._filters.clear()
            self._filters[text] = found
        return found, text

    def _stored_filter(self, user_id: str, filter_id: str) -> str:
        text = self._stored.get((user_id, filter_id))
        if text is None:
            if filter_id.isascii() and filter_id.isdigit() and len(filter_id) < 18:
                text = account_data.get_filter(self._engine.read, user_id, int(filter_id))
            if text is None:
                raise not_found("filter: there is no stored filter with this ID")
            if len(self._stored) >= MAX_FILTERS_KEPT:
                self._stored.clear()
            self._stored[(user_id, filter_id)] = text
        return text


def _asked(request: Request) -> _Asked:
    return _Asked(
        filter=request.query("filter") or "",
        timeout=request.query_int("timeout", 0, 0, MAX_TIMEOUT) or 0,
        presence=request.query_choice("set_presence", None, "online", "offline", "unavailable"),
        full_state=request.query_bool("full_state"),
        state_section=_state_section(request),
    )


def _state_section(request: Request) -> bytes:
    """What the state is called in the answer: each name of the parameter has its own (MSC4222)."""
    if request.query_bool("use_state_after"):
        return b"state_after"
    return b"org.matrix.msc4222.state_after" if request.query_bool("org.matrix.msc4222.use_state_after") else b"state"


def _parse(text: str) -> Filter:
    try:
        value: Any = orjson.loads(text)
    except ValueError:
        raise invalid_param("filter is not valid JSON")
    try:
        return parse_filter(value)
    except ValueError as error:
        raise invalid_param(str(error))


_NO_FILTER = Filter()


def routes(sync: Sync, engine: Engine) -> list[Route]:
    """The route of /sync."""
    return [
        Route(
            method="GET", path="/_matrix/client/v3/sync", handler=SyncHandler(sync, engine).get, auth=Auth.USER,
            limit="read", gates=Gate.READS, anchor="get_matrixclientv3sync",
        ),
    ]  # fmt: skip
