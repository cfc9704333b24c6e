"""What the clients of sliding sync know (MSC4186, per-connection memory): in memory, and stored so that it outlives a restart.

A token (`pos`) names connection, version of its memory, and position. As long as what happens is told to the client at
once the memory stays as it is and only the position moves on, so most answers write nothing. Where it changes, the new
version is on disk before the answer with its token is given; the version before it stays, as that answer may be lost.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

import orjson
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from heichat_appliance.clock import Clock
from heichat_appliance.db.engine import FOREVER, Engine, EngineStopped, Transaction
from heichat_appliance.errors import MatrixError
from heichat_appliance.protocol.requiredstate import Required, parse
from heichat_appliance.services.render import Viewer
from heichat_appliance.store import sliding as store

#: Positions up to which something is known: nothing, everything up to the token's.
NEVER, LIVE = -1, FOREVER
#: What belongs to no room is remembered under these IDs: global account data, and changes of device lists.
GLOBAL = ""
DEVICE_LISTS = "devices"
#: Connections of a device beside a new one; connections kept in memory; milliseconds until an unused one is deleted.
MAX_OTHERS = 9
MAX_KEPT = 5_000
EXPIRES_MS = 7 * 24 * 3600 * 1000
TOUCH_MS = 24 * 3600 * 1000
#: Lists of required state of a connection before those that are not needed any more are deleted.
MAX_REQUIRED = 50
#: Lazily loaded members that are remembered for a room; the others are told again.
MAX_MEMBERS = 100

_FORM = re.compile(r"([0-9]{1,15})\.([0-9]{1,15})\.([0-9]{1,18})\.([0-9]{1,9})")


class Memory(NamedTuple):
    """What a client knows of a room. `sent`, `receipts`, `data`: positions up to which it knows them (or NEVER, LIVE);
    `limit` and `required`: with which the room was sent last; `members`: the lazily loaded ones that it has."""

    sent: int = NEVER
    limit: int = 0
    required: Required = Required()
    members: frozenset[str] = frozenset()
    receipts: int = NEVER
    data: int = NEVER


NOTHING = Memory()


class Pos(NamedTuple):
    """A token."""

    connection: int
    version: int
    position: int
    epoch: int

    def __str__(self) -> str:
        return ".".join(map(str, self))


def unknown_pos() -> MatrixError:
    """400 M_UNKNOWN_POS: the client must begin anew, without `pos`."""
    return MatrixError(400, "M_UNKNOWN_POS", "pos is not, or no longer, known; start again without it")


def parse_pos(text: str) -> Pos:
    """The token; 400 M_UNKNOWN_POS for another text."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise unknown_pos()
    return Pos(*map(int, match.groups()))


class Connection:
    """A connection of a client. `rooms` is its memory at version `used`, `newer` what version `latest` changes."""

    def __init__(self, row: store.Connection, rooms: dict[str, Memory], required: dict[Required, int]) -> None:
        self.id = row.id
        self.used = row.used
        self.latest = row.latest
        self.used_ts = row.used_ts
        self.rooms = rooms
        self.newer: dict[str, Memory] = {}
        self.required = required
        #: the highest version there was
        self.number = row.latest
        #: counts requests: an earlier one that still works, or waits, has nothing to say any more
        self.turn = 0

    def use(self, version: int) -> bool:
        """The client has the answer with this version. False if there is none such."""
        if version == self.latest and version != self.used:
            self.rooms.update(self.newer)
            self.used, self.newer = version, {}
        return version == self.used


class Connections:
    """Finds, makes and stores connections."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._kept: OrderedDict[tuple[Viewer, str], Connection] = OrderedDict()

    def use(self, viewer: Viewer, conn_id: str, pos: Pos) -> Connection:
        """The connection that a client goes on with, at the version of the token; 400 M_UNKNOWN_POS if there is none."""
        if pos.epoch != self._engine.epoch or pos.position > self._engine.position:
            raise unknown_pos()
        found = self._kept.get((viewer, conn_id))
        if found is None:
            found = self._load(viewer, conn_id, pos)
            self._keep(viewer, conn_id, found)
        if found.id != pos.connection or not found.use(pos.version):
            raise unknown_pos()
        self._kept.move_to_end((viewer, conn_id))
        now = self._clock.now_ms()
        if now - found.used_ts > TOUCH_MS:
            found.used_ts = now
            self._engine.write(store.used, found.id, now).addErrback(_unless_stopped)
        found.turn += 1
        return found

    def _keep(self, viewer: Viewer, conn_id: str, connection: Connection) -> None:
        self._kept[viewer, conn_id] = connection
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def _load(self, viewer: Viewer, conn_id: str, pos: Pos) -> Connection:
        read = self._engine.read
        row = store.connection(read, pos.connection)
        if row is None or (row.user_id, row.device_id, row.conn_id) != (*viewer, conn_id):
            raise unknown_pos()
        if pos.version not in (row.used, row.latest):
            raise unknown_pos()
        required = {key: parse(orjson.loads(text), viewer.user_id) for key, text in store.required(read, row.id)}
        rooms = {
            one.room_id: Memory(
                one.sent, one.timeline_limit, required[one.required], frozenset(orjson.loads(one.members)),
                one.receipts, one.account_data,
            )
            for one in store.rooms(read, row.id, pos.version)
        }  # fmt: skip
        found = Connection(row, rooms, {value: key for key, value in required.items()})
        if pos.version == row.used:  # the answer with the latest version was lost, or is not used yet by this client
            found.latest = row.used
        else:
            found.used = row.latest
        return found

    # -- changing ------------------------------------------------------------------------------------------------

    def create(self, viewer: Viewer, conn_id: str, changes: Mapping[str, Memory], position: int) -> Deferred[Pos]:
        """A new connection in place of the one of this name; the token for it, when it is stored."""
        now = self._clock.now_ms()
        done = self._engine.write(self._create, viewer, conn_id, dict(changes), now)

        def stored(connection: Connection) -> Pos:
            self._keep(viewer, conn_id, connection)
            return Pos(connection.id, connection.latest, position, self._engine.epoch)

        return done.addCallback(stored)

    def _create(
        self, tx: Transaction, viewer: Viewer, conn_id: str, changes: dict[str, Memory], now: int
    ) -> Connection:
        number = store.create(tx, *viewer, conn_id, now, MAX_OTHERS, now - EXPIRES_MS)
        connection = Connection(store.Connection(number, *viewer, conn_id, 0, 0, now), {}, {})
        self._put(tx, connection, 1, changes, now)
        connection.number = connection.latest = 1
        connection.newer = changes
        return connection

    def advance(
        self, viewer: Viewer, conn_id: str, connection: Connection, changes: dict[str, Memory], position: int
    ) -> Deferred[Pos]:
        """A new version of the connection's memory; the token for it, when it is stored. Fails with M_UNKNOWN_POS if the
        connection was deleted meanwhile."""
        connection.number += 1
        version, turn = connection.number, connection.turn
        done = self._engine.write(self._put, connection, version, changes, self._clock.now_ms())

        def stored(exists: bool) -> Pos:
            if not exists:
                self._kept.pop((viewer, conn_id), None)
                raise unknown_pos()
            if connection.turn == turn:
                connection.latest, connection.newer = version, changes
            return Pos(connection.id, version, position, self._engine.epoch)

        def failed(failure: Failure) -> Failure:
            self._kept.pop((viewer, conn_id), None)  # what memory says may not be what is stored
            return failure

        return done.addErrback(failed).addCallback(stored)

    @staticmethod
    def _put(tx: Transaction, connection: Connection, version: int, changes: dict[str, Memory], now: int) -> bool:
        before, known = connection.required, dict(connection.required)
        tx.on_rollback(lambda: setattr(connection, "required", before))
        connection.required = known
        if len(known) > MAX_REQUIRED:
            store.forget_required(tx, connection.id)
            ids = {key for key, _ in store.required(tx.execute, connection.id)}
            for value in [value for value, key in known.items() if key not in ids]:
                del known[value]
        entries = []
        following = max(known.values(), default=0) + 1
        for memory in changes.values():
            if memory.required not in known:
                known[memory.required] = following
                entries.append((following, orjson.dumps(memory.required.entries()).decode()))
                following += 1
        rows = [
            store.Row(
                room_id, memory.sent, memory.limit, known[memory.required], orjson.dumps(sorted(memory.members)).decode(),
                memory.receipts, memory.data,
            )
            for room_id, memory in changes.items()
        ]  # fmt: skip
        return store.put(tx, connection.id, connection.used, version, rows, entries, now)


def _unless_stopped(failure: Failure) -> Failure | None:
    """At the stop it need not be done any more."""
    return None if isinstance(failure.value, EngineStopped) else failure
