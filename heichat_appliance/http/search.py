"""Searching messages (spec, "Server Side Search")."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from heichat_appliance.errors import invalid_param
from heichat_appliance.http.history import viewer
from heichat_appliance.http.routing import Auth, Gate, Request, Route
from heichat_appliance.protocol.filters import parse_room_event_filter
from heichat_appliance.services.search import Context, Criteria, Search, place

MAX_RESULTS = 50
DEFAULT_RESULTS = 10
#: Events before and after a result.
MAX_CONTEXT = 20


class EventContext(Struct):
    """`event_context`."""

    before_limit: int = 5
    after_limit: int = 5
    include_profile: bool = False


class Group(Struct):
    """An entry of `groupings.group_by`."""

    key: Literal["room_id", "sender"]


class Groupings(Struct):
    """`groupings`."""

    group_by: list[Group] = field(default_factory=list)


class RoomEvents(Struct):
    """`search_categories.room_events`."""

    search_term: str
    keys: list[Literal["content.body", "content.name", "content.topic"]] | None = None
    filter: dict[str, Any] | None = None
    order_by: Literal["recent", "rank"] = "rank"
    event_context: EventContext | None = None
    include_state: bool = False
    groupings: Groupings | None = None


class Categories(Struct):
    """`search_categories`."""

    room_events: RoomEvents | None = None


class SearchBody(Struct):
    """POST /search."""

    search_categories: Categories


def routes(search: Search) -> list[Route]:
    """The operation of this chapter."""

    async def find(request: Request) -> Any:
        wanted = request.body.search_categories.room_events
        if wanted is None:
            return {"search_categories": {}}
        found = await search.find(viewer(request), criteria(wanted, request.query("next_batch")))
        return {"search_categories": {"room_events": found}}

    return [
        Route(
            method="POST", path="/_matrix/client/v3/search", handler=find, auth=Auth.USER, limit="search",
            gates=Gate.READS, body=SearchBody, anchor="post_matrixclientv3search",
        ),
    ]  # fmt: skip


def criteria(wanted: RoomEvents, next_batch: str | None) -> Criteria:
    """What to search for; 400 M_INVALID_PARAM for a wrong filter or token."""
    try:
        filter = parse_room_event_filter(wanted.filter)
    except ValueError as error:
        raise invalid_param(str(error))
    context = None
    if wanted.event_context is not None:
        limits = wanted.event_context.before_limit, wanted.event_context.after_limit
        if min(limits) < 0:
            raise invalid_param("event_context: before_limit and after_limit must not be negative")
        before, after = (min(limit, MAX_CONTEXT) for limit in limits)
        context = Context(before, after, wanted.event_context.include_profile)
    keys = wanted.keys if wanted.keys is not None else ["content.body", "content.name", "content.topic"]
    if not keys:
        raise invalid_param("keys must name at least one of content.body, content.name and content.topic")
    return Criteria(
        term=wanted.search_term,
        limit=min(filter.limit or DEFAULT_RESULTS, MAX_RESULTS),
        keys=[key.removeprefix("content.") for key in dict.fromkeys(keys)],
        filter=filter,
        ranked=wanted.order_by == "rank",
        context=context,
        include_state=wanted.include_state,
        groups=list(dict.fromkeys(group.key for group in wanted.groupings.group_by)) if wanted.groupings else (),
        place=None if next_batch is None else place(next_batch),
    )
