"""Adding events to rooms: the one place where events are made.

`append` is called inside a write job. It builds and signs the PDU, checks policies and auth rules against the writer's view
of the room, inserts the event, and applies its derived effects as a visible list of steps.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from twisted.logger import Logger

from heichat_appliance.clock import Clock
from heichat_appliance.db.engine import Transaction
from heichat_appliance.errors import MatrixError, bad_json, forbidden, not_found
from heichat_appliance.protocol import auth, pdu, redaction, relations
from heichat_appliance.protocol.canonicaljson import CanonicalJSONError, encode
from heichat_appliance.protocol.pdu import Pdu, Signer
from heichat_appliance.protocol.powerlevels import PowerLevels
from heichat_appliance.protocol.roomversions import ROOM_VERSIONS, RoomVersion
from heichat_appliance.services import notifying
from heichat_appliance.store import events, state, unread
from heichat_appliance.store.events import StoredEvent

log = Logger()

#: Rooms whose view is kept in memory.
MAX_VIEWS = 2_000
#: Pieces of state that a view keeps, those that are not there among them: who asks for more begins anew.
MAX_STATE = 1_000
#: What a redaction would make of these is worse than what they say: no version, anybody's servers, no encryption.
NEVER_REDACTED = frozenset(("m.room.create", "m.room.server_acl", "m.room.encryption"))


class NotAllowed(MatrixError):
    """403 M_FORBIDDEN by the authorisation rules (not by a policy): the room does not let this person do this."""

    def __init__(self, message: str) -> None:
        super().__init__(403, "M_FORBIDDEN", message)


def not_in_room() -> NotAllowed:
    """The error for who is not joined; the same for rooms that do not exist."""
    return NotAllowed("you are not in this room / Sie sind nicht in diesem Raum")


class RoomView:
    """The writer's view of a room: its newest state, read from the database piece by piece and then kept.

    A mapping in the sense of `protocol.auth`: `get((type, state_key))` gives the Pdu or None. It may be ahead of what is
    committed, so only write jobs use it.
    """

    __slots__ = ("_execute", "_levels", "_state", "allowed", "depth", "last_event_id", "room_id", "version")

    def __init__(self, execute: events.Execute, room_id: str, version: RoomVersion, last: tuple[str, int]) -> None:
        self._execute = execute
        self.room_id = room_id
        self.version = version
        self.last_event_id, self.depth = last
        self._state: dict[tuple[str, str], Pdu | None] = {}
        self._levels: PowerLevels | None = None
        #: What the auth rules allow in this state by type and sender alone: (type, sender) -> the auth_events.
        self.allowed: dict[tuple[str, str], list[str]] = {}

    def get(self, key: tuple[str, str]) -> Pdu | None:
        """The state event of this type and state key."""
        try:
            return self._state[key]
        except KeyError:
            row = state.current(self._execute, self.room_id, *key)
            event = None if row is None else pdu.load(self.version, row.event_id, row.pdu, row.room_id)
            if len(self._state) >= MAX_STATE:
                self._state.clear()
            self._state[key] = event
            return event

    def membership(self, user_id: str) -> str | None:
        """The person's membership now, None if there never was one."""
        event = self.get(("m.room.member", user_id))
        return None if event is None else event.content["membership"]

    def unchanged(self, type: str, state_key: str, sender: str, content: dict[str, Any]) -> str | None:
        """The ID of the present state event if it says exactly this, by this sender; else None."""
        event = self.get((type, state_key))
        if event is None or event.sender != sender or event.content != content:
            return None
        # Python takes true for 1 and 1.0 for 1, JSON does not.
        return event.event_id if _sorted(event.content) == _sorted(content) else None

    @property
    def create(self) -> Pdu:
        """The create event."""
        event = self.get(("m.room.create", ""))
        assert event is not None, self.room_id
        return event

    @property
    def levels(self) -> PowerLevels:
        """The power levels now."""
        if self._levels is None:
            self._levels = PowerLevels(self.version, self.create, self.get(("m.room.power_levels", "")))
        return self._levels

    def advance(self, event: Pdu) -> None:
        """`event` is the room's last event now."""
        self.last_event_id, self.depth = event.event_id, event.depth
        if event.state_key is not None:
            self._state[(event.type, event.state_key)] = event
            self.allowed.clear()
            if event.type in ("m.room.power_levels", "m.room.create"):
                self._levels = None

    def forget(self, type: str, state_key: str) -> None:
        """Read this piece of state again when it is next asked for (it was redacted)."""
        self._state.pop((type, state_key), None)
        self.allowed.clear()
        self._levels = None


def _sorted(content: dict[str, Any]) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)


@dataclass(frozen=True, slots=True)
class Draft:
    """An event that somebody wants to add, for policies to look at. `room` is None while the room is being created."""

    room: RoomView | None
    type: str
    state_key: str | None
    sender: str
    content: dict[str, Any]


#: May this event be? Raises MatrixError if not; any other exception denies too.
EventPolicy = Callable[[Draft], None]


class Timeline:
    """Makes events. `policies` are asked about every one."""

    def __init__(self, signer: Signer, clock: Clock, policies: Sequence[EventPolicy] = ()) -> None:
        self._signer = signer
        self._clock = clock
        self._policies = tuple(policies)
        self._views: OrderedDict[str, RoomView] = OrderedDict()
        #: Called with the ID of an event that others quote (a state event or a redaction) and that a job is about to redact.
        self.redacting_quoted: Callable[[str], None] = lambda event_id: None
        #: Called with every event that a job has stored.
        self.added: Callable[[Transaction, StoredEvent], None] = lambda tx, event: None

    def view(self, tx: Transaction, room_id: str) -> RoomView:
        """The writer's view of a room; 404 M_NOT_FOUND if there is no such room."""
        view = self._views.get(room_id)
        if view is not None:
            self._views.move_to_end(room_id)
            return view
        version = state.room_version(tx.execute, room_id)
        last = events.last_of_room(tx.execute, room_id)
        if version is None or last is None:
            raise not_found("there is no such room / diesen Raum gibt es nicht")
        return self._keep(RoomView(tx.execute, room_id, ROOM_VERSIONS[version], last))

    def member_view(self, tx: Transaction, room_id: str, user_id: str) -> RoomView:
        """The writer's view of a room for somebody who is joined; 403 M_FORBIDDEN for others and for unknown rooms."""
        try:
            view = self.view(tx, room_id)
        except MatrixError:
            raise not_in_room() from None
        if view.membership(user_id) != "join":
            raise not_in_room()
        return view

    def _keep(self, view: RoomView) -> RoomView:
        self._views[view.room_id] = view
        if len(self._views) > MAX_VIEWS:
            self._views.popitem(last=False)
        return view

    def create_room(
        self, tx: Transaction, version: RoomVersion, room_id: str | None, creator: str, content: dict[str, Any]
    ) -> RoomView:
        """Begin a room with its m.room.create event. `room_id` is None for versions that take it from the event."""
        self._ask_policies(Draft(None, "m.room.create", "", creator, content))
        create = self._build(
            version, room_id, "m.room.create", creator, content, "", prev_events=[], auth_events=[], depth=1
        )
        try:
            auth.check(version, create, {})
        except auth.AuthError as error:
            raise NotAllowed(str(error))
        state.insert_room(tx, create.room_id, version.identifier, creator, create.origin_server_ts)
        view = RoomView(tx.execute, create.room_id, version, ("", 0))
        self._store(tx, view, create, None, None)
        return self._keep(view)

    def append(
        self,
        tx: Transaction,
        view: RoomView,
        *,
        type: str,
        sender: str,
        content: dict[str, Any],
        state_key: str | None = None,
        redacts: str | None = None,
        device_id: str | None = None,
        txn_id: str | None = None,
    ) -> StoredEvent:
        """Add an event to a room.

        Raises 403 M_FORBIDDEN (NotAllowed by auth rules, else by policies), 413 M_TOO_LARGE, 400 M_BAD_JSON (content
        that is no canonical JSON, a redaction without target); then nothing has happened. `device_id` and `txn_id` are
        those of the request (see store.events).
        """
        self._ask_policies(Draft(view, type, state_key, sender, content))
        if type == "m.room.redaction":
            target = self._check_redaction(tx, view, sender, state_key, redacts)
            if target.state_key is not None or target.type == "m.room.redaction":
                self.redacting_quoted(target.event_id)
        auth_events = view.allowed.get((type, sender)) if state_key is None else None
        judged_before = auth_events is not None
        if auth_events is None:
            auth_events = auth.select_auth_events(view.version, type, sender, state_key, content, view)  # type: ignore[arg-type]
        event = self._build(
            view.version,
            view.room_id,
            type,
            sender,
            content,
            state_key,
            redacts=redacts,
            prev_events=[view.last_event_id],
            auth_events=auth_events,
            depth=view.depth + 1,
        )
        if not judged_before:
            self._authorise(view, event)
        return self._store(tx, view, event, device_id, txn_id)

    @staticmethod
    def _authorise(view: RoomView, event: Pdu) -> None:
        try:
            auth.check(view.version, event, view, view.levels)  # type: ignore[arg-type]
        except auth.AuthError as error:
            raise NotAllowed(str(error))
        if auth.depends_on_sender_alone(event.type, event.state_key):
            if len(view.allowed) >= MAX_STATE:
                view.allowed.clear()
            view.allowed[event.type, event.sender] = event.auth_events

    def _build(self, version: RoomVersion, room_id: str | None, type: str, sender: str, content: dict[str, Any],
               state_key: str | None, **rest: Any) -> Pdu:  # fmt: skip
        try:
            return pdu.build(
                version, room_id=room_id, type=type, sender=sender, content=content, state_key=state_key,
                origin_server_ts=self._clock.now_ms(), signer=self._signer, **rest,
            )  # fmt: skip
        except CanonicalJSONError as error:
            raise bad_json(str(error))
        except pdu.EventTooLarge as error:
            raise MatrixError(413, "M_TOO_LARGE", str(error))

    def _ask_policies(self, draft: Draft) -> None:
        for policy in self._policies:
            try:
                policy(draft)
            except MatrixError:
                raise
            except Exception:
                log.failure("a policy failed; the event of type {type} is refused", type=draft.type)
                raise forbidden("a rule of this server failed / Eine Regel dieses Servers schlug fehl") from None

    # -- storing, and what follows from it -----------------------------------------------------------------------

    def _store(
        self, tx: Transaction, view: RoomView, event: Pdu, device_id: str | None, txn_id: str | None
    ) -> StoredEvent:
        tx.on_rollback(lambda: self._views.pop(view.room_id, None) and None)
        key = None if event.state_key is None else (event.type, event.state_key)
        before = view.get(key) if key is not None else None
        row = StoredEvent(
            tx.next_position(), event.event_id, event.room_id, event.depth, event.type, event.state_key, event.sender,
            event.origin_server_ts, event.json.decode(), before.event_id if before else None, device_id, txn_id, None,
        )  # fmt: skip
        events.insert(tx, row)
        self.added(tx, row)
        view.advance(event)
        for effect in _EFFECTS:
            effect(tx, view, event, row)
        tx.rooms.add(event.room_id)
        return row

    @staticmethod
    def _check_redaction(
        tx: Transaction, view: RoomView, sender: str, state_key: str | None, target_id: str | None
    ) -> StoredEvent:
        """The target, which must be in this room; the redaction must take effect (spec "Handling redactions")."""
        if state_key is not None or target_id is None:
            raise bad_json("redacts: a redaction is a message event that names another event")
        target = events.by_id(tx.execute, target_id)
        if target is None or target.room_id != view.room_id:
            raise not_found("redacts: there is no such event in this room")
        if target.type in NEVER_REDACTED and target.state_key is not None:
            raise forbidden(f"{target.type} can't be redacted / {target.type} kann nicht gelöscht werden")
        if not auth.may_redact(view.version, sender, target.sender, view.levels):
            raise NotAllowed("you may not redact this event / Sie dürfen dieses Ereignis nicht löschen")
        return target


# Each effect is a step of its own, made from the event and the view of the room after it.


def _state_interval(tx: Transaction, view: RoomView, event: Pdu, row: StoredEvent) -> None:
    if event.state_key is not None:
        state.set_state(tx, event.room_id, event.type, event.state_key, row.pos)


def _membership(tx: Transaction, view: RoomView, event: Pdu, row: StoredEvent) -> None:
    if event.type == "m.room.member" and event.state_key is not None:
        membership = event.content["membership"]
        state.set_membership(tx, event.state_key, event.room_id, row.pos, membership, event.sender)
        tx.users.add(event.state_key)


def _relation(tx: Transaction, view: RoomView, event: Pdu, row: StoredEvent) -> None:
    if event.state_key is None and "m.relates_to" in event.content:
        relation = relations.relation_of(event.content)
        # A relation across rooms is none (spec "Forming relationships between events").
        if relation is not None and events.is_in_room(tx.execute, relation.parent, event.room_id):
            rel_type, parent_id, agg_key = relation
            events.insert_relation(tx, row, parent_id, rel_type, agg_key)


def _notification(tx: Transaction, view: RoomView, event: Pdu, row: StoredEvent) -> None:
    notifying.note(tx, event, row.pos, view.levels)


def _redaction(tx: Transaction, view: RoomView, event: Pdu, row: StoredEvent) -> None:
    target = None if event.redacts is None else events.by_id(tx.execute, event.redacts)
    if target is None or target.redacted_by is not None:
        return
    raw = pdu.load(view.version, target.event_id, target.pdu, target.room_id).raw
    events.put_redacted(tx, target.event_id, encode(redaction.redact(view.version, raw)).decode(), event.event_id)
    events.delete_relation(tx, target.pos)
    unread.redact(tx, target.room_id, target.pos)
    if target.state_key is not None:
        view.forget(target.type, target.state_key)


_EFFECTS = (_state_interval, _membership, _relation, _notification, _redaction)
