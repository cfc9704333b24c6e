CREATE TABLE rooms (
    room_id    TEXT PRIMARY KEY,
    version    TEXT NOT NULL,
    creator    TEXT NOT NULL,
    created_ts INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Every event of every room, in the order of the one counter. History is linear: a room's event has the room's event
-- before it as its only prev_event, and depth counts 1, 2, 3 within the room.
--   pdu        canonical JSON of the whole PDU with hashes and signatures; the redacted form once it was redacted
--   replaces   for state: event ID of the event whose place it took
--   device_id, txn_id   of the request that made it: de-duplication, and unsigned.transaction_id for that device
--   redacted_by  event ID of the redaction that took effect
CREATE TABLE events (
    pos         INTEGER PRIMARY KEY,
    event_id    TEXT NOT NULL UNIQUE,
    room_id     TEXT NOT NULL REFERENCES rooms (room_id),
    depth       INTEGER NOT NULL,
    type        TEXT NOT NULL,
    state_key   TEXT,
    sender      TEXT NOT NULL,
    ts          INTEGER NOT NULL,
    pdu         TEXT NOT NULL,
    replaces    TEXT,
    device_id   TEXT,
    txn_id      TEXT,
    redacted_by TEXT
) STRICT;
CREATE UNIQUE INDEX events_of_room ON events (room_id, pos);
CREATE UNIQUE INDEX events_by_txn ON events (txn_id, sender, device_id, room_id, type) WHERE txn_id IS NOT NULL;

-- State as intervals of positions, half open: the event at position from_pos holds from then until before to_pos
-- (2^63-1: it still holds). State at position P: from_pos <= P AND P < to_pos.
CREATE TABLE room_state (
    room_id   TEXT NOT NULL REFERENCES rooms (room_id),
    type      TEXT NOT NULL,
    state_key TEXT NOT NULL,
    from_pos  INTEGER NOT NULL REFERENCES events (pos),
    to_pos    INTEGER NOT NULL DEFAULT 9223372036854775807,
    PRIMARY KEY (room_id, type, state_key, from_pos)
) STRICT, WITHOUT ROWID;
CREATE INDEX room_state_current ON room_state (room_id, type, state_key) WHERE to_pos = 9223372036854775807;
CREATE INDEX room_state_changes ON room_state (room_id, from_pos);

-- The same intervals for m.room.member, with the membership spelt out and found by user.
CREATE TABLE memberships (
    user_id    TEXT NOT NULL,
    room_id    TEXT NOT NULL REFERENCES rooms (room_id),
    from_pos   INTEGER NOT NULL REFERENCES events (pos),
    to_pos     INTEGER NOT NULL DEFAULT 9223372036854775807,
    membership TEXT NOT NULL CHECK (membership IN ('join', 'invite', 'leave', 'ban', 'knock')),
    sender     TEXT NOT NULL,
    PRIMARY KEY (user_id, room_id, from_pos)
) STRICT, WITHOUT ROWID;
CREATE INDEX memberships_now ON memberships (room_id, membership, user_id) WHERE to_pos = 9223372036854775807;
CREATE INDEX memberships_of_user_now ON memberships (user_id, membership, room_id) WHERE to_pos = 9223372036854775807;
CREATE INDEX memberships_changes ON memberships (user_id, from_pos);
CREATE INDEX memberships_of_room ON memberships (room_id, from_pos);

-- Rooms that a person forgot after leaving; a later membership takes the row away.
CREATE TABLE forgotten_rooms (
    user_id TEXT NOT NULL,
    room_id TEXT NOT NULL REFERENCES rooms (room_id),
    PRIMARY KEY (user_id, room_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE room_aliases (
    alias   TEXT PRIMARY KEY,
    room_id TEXT NOT NULL REFERENCES rooms (room_id),
    creator TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX room_aliases_of_room ON room_aliases (room_id);
CREATE INDEX room_aliases_by_creator ON room_aliases (creator);

-- Rooms that were published to the room directory (only without the plugin closed_rooms).
CREATE TABLE published_rooms (
    room_id TEXT PRIMARY KEY REFERENCES rooms (room_id)
) STRICT, WITHOUT ROWID;

-- m.relates_to of events: child relates to parent. `agg_key` is the key of an annotation.
CREATE TABLE relations (
    parent_id TEXT NOT NULL,
    pos       INTEGER NOT NULL REFERENCES events (pos),
    room_id   TEXT NOT NULL,
    rel_type  TEXT NOT NULL,
    type      TEXT NOT NULL,
    sender    TEXT NOT NULL,
    agg_key   TEXT,
    PRIMARY KEY (parent_id, pos)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX relations_of_event ON relations (pos);
CREATE INDEX relations_threads ON relations (room_id, rel_type, pos);
CREATE INDEX relations_annotations ON relations (parent_id, sender, type, agg_key) WHERE rel_type = 'm.annotation';

-- Rooms that the operator has frozen: nothing can be added to them but leaving (and redactions).
CREATE TABLE frozen_rooms (
    room_id TEXT PRIMARY KEY REFERENCES rooms (room_id),
    ts      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
