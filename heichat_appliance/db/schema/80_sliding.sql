-- Connections of simplified sliding sync (MSC4186): what a client has been told, so that it need not be told again.
-- A connection's memory has versions. Two count: the one with which a client last came (`used`), and the newest that was
-- given out (`latest`): the answer that carried it may have been lost.
CREATE TABLE sliding_connections (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id   TEXT NOT NULL,
    device_id TEXT NOT NULL,
    conn_id   TEXT NOT NULL,
    used      INTEGER NOT NULL,
    latest    INTEGER NOT NULL,
    used_ts   INTEGER NOT NULL,
    UNIQUE (user_id, device_id, conn_id),
    FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX sliding_connections_by_age ON sliding_connections (used_ts);

-- What a client knows of a room (room_id '': what belongs to no room). At version V that is the row with the highest
-- version up to V. `sent`, `receipts` and `account_data` are positions up to which it knows them: -1 nothing,
-- 2^63-1 everything up to the position in the token. `required` is an ID of sliding_required, `members` a JSON list of
-- the lazily loaded members that it has.
CREATE TABLE sliding_rooms (
    connection     INTEGER NOT NULL REFERENCES sliding_connections (id) ON DELETE CASCADE,
    room_id        TEXT NOT NULL,
    version        INTEGER NOT NULL,
    sent           INTEGER NOT NULL,
    timeline_limit INTEGER NOT NULL,
    required       INTEGER NOT NULL,
    members        TEXT NOT NULL,
    receipts       INTEGER NOT NULL,
    account_data   INTEGER NOT NULL,
    PRIMARY KEY (connection, room_id, version)
) STRICT, WITHOUT ROWID;

-- Lists of [type, state key] of which clients asked the state. The same list has the same ID within a connection.
CREATE TABLE sliding_required (
    connection INTEGER NOT NULL REFERENCES sliding_connections (id) ON DELETE CASCADE,
    id         INTEGER NOT NULL,
    entries    TEXT NOT NULL,
    PRIMARY KEY (connection, id)
) STRICT, WITHOUT ROWID;
