"""Relations between events: reading the table `relations`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import orjson

from heichat_appliance.store.events import EVENT_COLUMNS, Execute, StoredEvent

#: The newest edits of an event that are looked at for a valid one.
MAX_EDITS = 20
#: Events that are looked at for relations over several steps.
MAX_TREE = 50_000

#: Positions after < pos <= upto.
Span = tuple[int, int]


class Thread(NamedTuple):
    """A thread: how many events, the position of the newest, whether a person sent one of them."""

    count: int
    latest: int
    participated: bool


def clip(ranges: Iterable[tuple[int, int]], after: int, upto: int) -> Iterator[Span]:
    """The spans of half-open ranges that lie at after < pos <= upto."""
    for start, end in ranges:
        span = max(start - 1, after), min(end - 1, upto)
        if span[0] < span[1]:
            yield span


def with_children(execute: Execute, event_ids: Collection[str]) -> set[str]:
    """Those events that have children of the kinds that are aggregated."""
    rows = execute(
        "SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM relations WHERE parent_id = value "
        "AND rel_type IN ('m.replace', 'm.thread', 'm.reference'))",
        (_list(event_ids),),
    )
    return {row[0] for row in rows}


def has_child(
    execute: Execute, event_id: str, rel_types: Collection[str] | None, senders: Collection[str] | None
) -> bool:
    """Whether an event has a child with one of these relation types (None: any) by one of these senders (None: any)."""
    conditions, params = "", [event_id]
    for column, values in (("rel_type", rel_types), ("sender", senders)):
        if values is not None:
            conditions += f" AND {column} IN (SELECT value FROM json_each(?))"
            params.append(_list(values))
    return execute(f"SELECT 1 FROM relations WHERE parent_id = ?{conditions} LIMIT 1", params).fetchone() is not None


def edits(execute: Execute, original: StoredEvent) -> list[StoredEvent]:
    """The newest events that replace `original` and are of the same sender and type."""
    rows = execute(
        f"SELECT {EVENT_COLUMNS} FROM relations JOIN events ON events.pos = relations.pos WHERE parent_id = ? "
        "AND rel_type = 'm.replace' AND relations.sender = ? AND relations.type = ? AND events.state_key IS NULL "
        "ORDER BY events.ts DESC, events.event_id DESC LIMIT ?",
        (original.event_id, original.sender, original.type, MAX_EDITS),
    )
    return [StoredEvent._make(row) for row in rows]


def thread(execute: Execute, root_id: str, span: Span, user_id: str, ignored: Collection[str]) -> Thread:
    """The thread of a root within a span, without what ignored people sent."""
    count, latest, participated = execute(
        "SELECT count(*), max(pos), max(sender = ?) FROM relations WHERE parent_id = ? AND pos > ? AND pos <= ? "
        "AND rel_type = 'm.thread'" + _unless_ignored(ignored),
        (user_id, root_id, *span, *_ignored(ignored)),
    ).fetchone()
    return Thread(count, latest or 0, bool(participated))


def references(execute: Execute, parent_id: str, span: Span, ignored: Collection[str], limit: int) -> list[str]:
    """The IDs of the events that reference an event within a span, oldest first, at most `limit`."""
    rows = execute(
        "SELECT event_id FROM relations JOIN events ON events.pos = relations.pos WHERE parent_id = ? "
        "AND relations.pos > ? AND relations.pos <= ? AND rel_type = 'm.reference'"
        + _unless_ignored(ignored, "relations.")
        + " ORDER BY relations.pos LIMIT ?",
        (parent_id, *span, *_ignored(ignored), limit),
    )
    return [row[0] for row in rows]


def children(
    execute: Execute,
    parent_id: str,
    span: Span,
    limit: int,
    *,
    backwards: bool,
    depth: int = 1,
    rel_type: str | None = None,
    type: str | None = None,
) -> list[StoredEvent]:
    """At most `limit` events within a span that relate to an event, or (depth > 1) to one that does, and so on; in order
    or backwards. `rel_type` and `type` hold for the events between as well (spec "Relationships API")."""
    kind, params = "", []
    for column, value in (("rel_type", rel_type), ("type", type)):
        if value is not None:
            kind += f" AND relations.{column} = ?"
            params.append(value)
    within = "relations.pos > ? AND relations.pos <= ?"
    tail = f"ORDER BY relations.pos {'DESC' if backwards else 'ASC'} LIMIT ?"
    if depth == 1:
        rows = execute(
            f"SELECT {EVENT_COLUMNS} FROM relations JOIN events ON events.pos = relations.pos "
            f"WHERE parent_id = ? AND {within}{kind} {tail}",
            (parent_id, *span, *params, limit),
        )
    else:
        rows = execute(
            f"WITH RECURSIVE tree (pos, step) AS (SELECT pos, 1 FROM relations WHERE parent_id = ?{kind} "
            "UNION ALL SELECT relations.pos, step + 1 FROM tree JOIN events ON events.pos = tree.pos "
            f"JOIN relations ON parent_id = event_id WHERE step < ?{kind} LIMIT ?) "
            f"SELECT {EVENT_COLUMNS} FROM tree AS relations JOIN events ON events.pos = relations.pos "
            f"WHERE {within} {tail}",
            (parent_id, *params, depth, *params, MAX_TREE, *span, limit),
        )
    return [StoredEvent._make(row) for row in rows]


def thread_events(execute: Execute, room_id: str, span: Span, limit: int) -> list[tuple[int, str, str]]:
    """The newest events of a room's threads within a span, newest first: (position, root's ID, sender)."""
    return execute(
        "SELECT pos, parent_id, sender FROM relations WHERE room_id = ? AND rel_type = 'm.thread' AND pos > ? "
        "AND pos <= ? ORDER BY pos DESC LIMIT ?",
        (room_id, *span, limit),
    ).fetchall()


def _list(values: Collection[str]) -> str:
    """Values for `IN (SELECT value FROM json_each(?))`: one statement for any number of them."""
    return orjson.dumps(list(values)).decode()


def _unless_ignored(ignored: Collection[str], table: str = "") -> str:
    return f" AND {table}sender NOT IN (SELECT value FROM json_each(?))" if ignored else ""


def _ignored(ignored: Collection[str]) -> tuple[str, ...]:
    return (_list(ignored),) if ignored else ()
