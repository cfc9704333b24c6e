-- End-to-end encryption. Key objects are stored as the JSON that was uploaded, without `signatures` and `unsigned`
-- where signatures live in key_signatures.

-- Every change of a person's devices or keys that others must notice; append only.
CREATE TABLE device_list_changes (
    pos     INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL
) STRICT;
CREATE INDEX device_list_changes_of_user ON device_list_changes (user_id, pos);

CREATE TABLE device_keys (
    user_id   TEXT NOT NULL,
    device_id TEXT NOT NULL,
    keys      TEXT NOT NULL,
    PRIMARY KEY (user_id, device_id),
    FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- One-time keys in the order of their upload (id), handed out once, oldest first.
CREATE TABLE one_time_keys (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id   TEXT NOT NULL,
    device_id TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    key_id    TEXT NOT NULL,
    key       TEXT NOT NULL,
    UNIQUE (user_id, device_id, algorithm, key_id),
    FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX one_time_keys_in_order ON one_time_keys (user_id, device_id, algorithm, id);

CREATE TABLE fallback_keys (
    user_id   TEXT NOT NULL,
    device_id TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    key_id    TEXT NOT NULL,
    key       TEXT NOT NULL,
    used      INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, device_id, algorithm),
    FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- usage: master, self_signing, user_signing
CREATE TABLE cross_signing_keys (
    user_id TEXT NOT NULL,
    usage   TEXT NOT NULL,
    key_id  TEXT NOT NULL,
    key     TEXT NOT NULL,
    PRIMARY KEY (user_id, usage)
) STRICT, WITHOUT ROWID;

-- Signatures by `signer` (with key `signer_key`, e.g. ed25519:abc) on the key object `target_key` of `target_user`:
-- a device ID or the unpadded base64 of a cross-signing key.
CREATE TABLE key_signatures (
    target_user TEXT NOT NULL,
    target_key  TEXT NOT NULL,
    signer      TEXT NOT NULL,
    signer_key  TEXT NOT NULL,
    signature   TEXT NOT NULL,
    PRIMARY KEY (target_user, target_key, signer, signer_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE key_backups (
    user_id   TEXT NOT NULL,
    version   INTEGER NOT NULL,
    algorithm TEXT NOT NULL,
    auth_data TEXT NOT NULL,
    etag      INTEGER NOT NULL DEFAULT 0,
    deleted   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE key_backup_sessions (
    user_id             TEXT NOT NULL,
    version             INTEGER NOT NULL,
    room_id             TEXT NOT NULL,
    session_id          TEXT NOT NULL,
    first_message_index INTEGER NOT NULL,
    forwarded_count     INTEGER NOT NULL,
    is_verified         INTEGER NOT NULL,
    session_data        TEXT NOT NULL,
    PRIMARY KEY (user_id, version, room_id, session_id),
    FOREIGN KEY (user_id, version) REFERENCES key_backups (user_id, version) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
