"""Sending events to rooms: messages, state, redactions (client-server API "Sending events to a room", "Redactions")."""

from __future__ import annotations

from typing import Any

import orjson
from twisted.internet.defer import Deferred

from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import MatrixError, bad_json, missing_param
from heichat_appliance.protocol import pdu, relations
from heichat_appliance.services import roomstate
from heichat_appliance.services.accounts import Accounts
from heichat_appliance.services.membership import Membership
from heichat_appliance.services.timeline import RoomView, Timeline
from heichat_appliance.store import events
from heichat_appliance.store.events import StoredEvent

REDACTION = "m.room.redaction"


class Sender:
    """Adds clients' events to rooms. Each method's Deferred fires with the event ID after the commit."""

    def __init__(self, engine: Engine, timeline: Timeline, membership: Membership, accounts: Accounts) -> None:
        self._engine = engine
        self._timeline = timeline
        self._membership = membership
        self._accounts = accounts

    # -- messages ------------------------------------------------------------------------------------------------

    def message(
        self, user_id: str, device_id: str, room_id: str, type: str, txn_id: str, content: dict[str, Any]
    ) -> Deferred[str]:
        """Send a message event; the same transaction again gives the same event.

        403 M_FORBIDDEN, 413 M_TOO_LARGE, 400 M_BAD_JSON, 400 M_DUPLICATE_ANNOTATION for the same reaction again.
        """
        return self._engine.write(self._message_job, user_id, device_id, room_id, type, txn_id, content)

    def _message_job(
        self,
        tx: Transaction,
        user_id: str,
        device_id: str,
        room_id: str,
        type: str,
        txn_id: str,
        content: dict[str, Any],
    ) -> str:
        known = events.by_transaction(tx.execute, user_id, device_id, txn_id, room_id, type)
        if known is not None:
            return known
        view = self._timeline.member_view(tx, room_id, user_id)
        redacts = None
        if type == REDACTION:
            content, redacts = _without_target(content)
        elif "m.relates_to" in content:
            _check_relation(tx, view, user_id, type, content)
        return self._timeline.append(
            tx, view, type=type, sender=user_id, content=content, redacts=redacts, device_id=device_id, txn_id=txn_id
        ).event_id

    # -- redactions ----------------------------------------------------------------------------------------------

    def redact(
        self, user_id: str, device_id: str, room_id: str, target: str, txn_id: str, content: dict[str, Any]
    ) -> Deferred[str]:
        """Redact an event. 404 M_NOT_FOUND for one that is not in this room, 403 M_FORBIDDEN.

        A suspended person may redact only their own events: 403 M_USER_SUSPENDED.
        """
        return self._engine.write(self._redact_job, user_id, device_id, room_id, target, txn_id, content)

    def _redact_job(
        self,
        tx: Transaction,
        user_id: str,
        device_id: str,
        room_id: str,
        target: str,
        txn_id: str,
        content: dict[str, Any],
    ) -> str:
        known = events.by_transaction(tx.execute, user_id, device_id, txn_id, room_id, REDACTION)
        if known is not None and _target_of(events.by_id(tx.execute, known)) == target:
            return known
        # The same transaction ID in the path of another target is another request, which can't be remembered beside.
        remembered = txn_id if known is None else None
        view = self._timeline.member_view(tx, room_id, user_id)
        content = {key: value for key, value in content.items() if key != "redacts"}
        event = events.by_id(tx.execute, target)
        if event is None or event.sender != user_id:
            self._accounts.refuse_suspended(user_id)
        return self._timeline.append(
            tx, view, type=REDACTION, sender=user_id, content=content, redacts=target,
            device_id=device_id, txn_id=remembered,
        ).event_id  # fmt: skip

    # -- state ---------------------------------------------------------------------------------------------------

    def state(self, user_id: str, room_id: str, type: str, state_key: str, content: dict[str, Any]) -> Deferred[str]:
        """Set a piece of state; what is there already, by the same sender, makes no new event.

        403 M_FORBIDDEN, 413 M_TOO_LARGE, 400 M_BAD_JSON, M_INVALID_PARAM or M_BAD_ALIAS; for m.room.member see
        Membership.put_member.
        """
        if type == "m.room.member":
            return Deferred.fromCoroutine(self._membership.put_member(user_id, room_id, state_key, content))
        return self._engine.write(self._state_job, user_id, room_id, type, state_key, content)

    def _state_job(
        self, tx: Transaction, user_id: str, room_id: str, type: str, state_key: str, content: dict[str, Any]
    ) -> str:
        view = self._timeline.member_view(tx, room_id, user_id)
        roomstate.check(tx, view, type, state_key, content)
        known = view.unchanged(type, state_key, user_id, content)
        if known is not None:
            return known
        return self._timeline.append(tx, view, type=type, sender=user_id, state_key=state_key, content=content).event_id


def _target_of(redaction: StoredEvent | None) -> str | None:
    """What a stored redaction redacts, wherever its room version keeps that."""
    raw = orjson.loads(redaction.pdu) if redaction is not None else {"content": {}}
    return raw.get("redacts") or raw["content"].get("redacts")


def _without_target(content: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """A redaction's content and what it redacts; the room version decides where that is kept (spec, since v1.18)."""
    if "redacts" not in content:
        raise missing_param("content.redacts is missing: it must be the ID of the event to redact")
    target = content["redacts"]
    if not isinstance(target, str):
        raise bad_json("content.redacts must be an event ID")
    return {key: value for key, value in content.items() if key != "redacts"}, target


def _check_relation(tx: Transaction, view: RoomView, user_id: str, type: str, content: dict[str, Any]) -> None:
    """Refuse a second equal reaction ("Avoiding duplicate annotations"), and threads off what is in a relation itself."""
    relation = relations.relation_of(content)
    if relation is None:
        return
    if relation.key is not None and events.has_annotation(tx.execute, relation.parent, user_id, type, relation.key):
        raise MatrixError(
            400, "M_DUPLICATE_ANNOTATION", "you have reacted in this way before / Sie haben schon so reagiert"
        )
    if relation.rel_type == relations.THREAD:
        parent = events.by_id(tx.execute, relation.parent)
        if parent is not None and parent.room_id == view.room_id:
            problem = relations.thread_problem(pdu.load(view.version, parent.event_id, parent.pdu, parent.room_id))
            if problem is not None:
                raise MatrixError(400, "M_UNKNOWN", problem)
