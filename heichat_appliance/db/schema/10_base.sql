-- What the database knows of itself: server_name, epoch (bumped by a restore), position_ceiling (see db/engine.py).
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- A person's account, made at the first login. `uni_id` is the directory's identifier in lower case; it maps to one
-- localpart for ever. `mail` comes from the directory and is shown to nobody.
CREATE TABLE accounts (
    user_id     TEXT PRIMARY KEY,
    uni_id      TEXT NOT NULL UNIQUE,
    mail        TEXT,
    created_ts  INTEGER NOT NULL,
    locked      INTEGER NOT NULL DEFAULT 0 CHECK (locked IN (0, 1)),
    suspended   INTEGER NOT NULL DEFAULT 0 CHECK (suspended IN (0, 1))
) STRICT;

-- Profile fields (displayname, avatar_url and any other), each as JSON.
CREATE TABLE profiles (
    user_id TEXT NOT NULL,
    field   TEXT NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (user_id, field)
) STRICT, WITHOUT ROWID;

CREATE TABLE devices (
    user_id      TEXT NOT NULL REFERENCES accounts (user_id),
    device_id    TEXT NOT NULL,
    display_name TEXT,
    created_ts   INTEGER NOT NULL,
    last_seen_ts INTEGER,
    last_seen_ip TEXT,
    PRIMARY KEY (user_id, device_id)
) STRICT, WITHOUT ROWID;

-- Access tokens, as SHA-256 only. `expires_ts` is set when the session uses refresh tokens.
CREATE TABLE access_tokens (
    hash       BLOB PRIMARY KEY,
    user_id    TEXT NOT NULL,
    device_id  TEXT NOT NULL,
    created_ts INTEGER NOT NULL,
    expires_ts INTEGER,
    FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX access_tokens_of_device ON access_tokens (user_id, device_id);

-- Refresh tokens, as SHA-256 only. A token stays valid until the access token that it was traded for is used
-- (`successor`: hash of that access token), so that a lost answer does not end the session.
CREATE TABLE refresh_tokens (
    hash       BLOB PRIMARY KEY,
    user_id    TEXT NOT NULL,
    device_id  TEXT NOT NULL,
    created_ts INTEGER NOT NULL,
    successor  BLOB,
    FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_of_device ON refresh_tokens (user_id, device_id);
CREATE INDEX refresh_tokens_by_successor ON refresh_tokens (successor) WHERE successor IS NOT NULL;

-- Who agreed to which version of the terms, and when.
CREATE TABLE consents (
    user_id TEXT NOT NULL,
    version TEXT NOT NULL,
    ts      INTEGER NOT NULL,
    PRIMARY KEY (user_id, version)
) STRICT, WITHOUT ROWID;

-- The room "Server Notices" of a person, and the version of the terms that the last notice in it asked for.
CREATE TABLE notice_rooms (
    user_id       TEXT PRIMARY KEY,
    room_id       TEXT NOT NULL,
    asked_version TEXT
) STRICT, WITHOUT ROWID;
