-- What belongs to one person and is carried by sync. Latest row only; `pos` is the position of the last change.

-- Account data; room_id '' is the global one. Tags are type m.tag, the read marker is m.fully_read.
CREATE TABLE account_data (
    user_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    type    TEXT NOT NULL,
    content TEXT NOT NULL,
    pos     INTEGER NOT NULL,
    PRIMARY KEY (user_id, room_id, type)
) STRICT, WITHOUT ROWID;
CREATE INDEX account_data_changes ON account_data (user_id, pos);

-- A person's changes to the default push rules (own rules, and enabled/actions of the default ones), as one JSON object.
CREATE TABLE push_rules (
    user_id TEXT PRIMARY KEY,
    changes TEXT NOT NULL,
    pos     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE filters (
    user_id   TEXT NOT NULL,
    filter_id INTEGER NOT NULL,
    filter    TEXT NOT NULL,
    PRIMARY KEY (user_id, filter_id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX filters_by_content ON filters (user_id, filter);

-- Receipts: the last of each person, type (m.read, m.read.private) and thread ('' unthreaded, 'main', or a root's ID).
CREATE TABLE receipts (
    room_id   TEXT NOT NULL REFERENCES rooms (room_id),
    user_id   TEXT NOT NULL,
    type      TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    event_id  TEXT NOT NULL,
    event_pos INTEGER NOT NULL,
    ts        INTEGER NOT NULL,
    pos       INTEGER NOT NULL,
    PRIMARY KEY (room_id, user_id, type, thread_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX receipts_changes ON receipts (room_id, pos);
CREATE INDEX receipts_by_pos ON receipts (pos);

-- To-device messages, kept until a later `since` of the device acknowledges them.
CREATE TABLE to_device (
    pos       INTEGER PRIMARY KEY,
    user_id   TEXT NOT NULL,
    device_id TEXT NOT NULL,
    sender    TEXT NOT NULL,
    type      TEXT NOT NULL,
    content   TEXT NOT NULL
) STRICT;
CREATE INDEX to_device_of_device ON to_device (user_id, device_id, pos);
CREATE INDEX to_device_by_sender ON to_device (user_id, device_id, sender);

-- Transaction IDs of sendToDevice, pruned after a day.
CREATE TABLE to_device_txns (
    user_id   TEXT NOT NULL,
    device_id TEXT NOT NULL,
    type      TEXT NOT NULL,
    txn_id    TEXT NOT NULL,
    ts        INTEGER NOT NULL,
    PRIMARY KEY (user_id, device_id, type, txn_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX to_device_txns_by_age ON to_device_txns (ts);

-- Reports of events, rooms and people, for an administrator to read.
CREATE TABLE reports (
    id       INTEGER PRIMARY KEY,
    reporter TEXT NOT NULL,
    room_id  TEXT,
    event_id TEXT,
    user_id  TEXT,
    reason   TEXT NOT NULL,
    ts       INTEGER NOT NULL
) STRICT;
CREATE INDEX reports_of_reporter ON reports (reporter, ts);
