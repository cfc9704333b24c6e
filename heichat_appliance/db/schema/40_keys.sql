-- End-to-end encryption. Key objects are canonical JSON as uploaded, without `signatures` and `unsigned`: signatures of
-- device keys and cross-signing keys live in key_signatures, those of one-time keys stay with the key.

-- Every change of a person's devices or keys that others must notice; append only. `seen_by` is set where only one
-- person may know of it: they signed the master key of user_id.
CREATE TABLE device_list_changes (
    pos     INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL,
    seen_by TEXT
) STRICT;

-- Whom do I share encrypted rooms with, and since when? A sync asks this for a range of positions, where nearly always
-- nothing has changed.
CREATE INDEX memberships_by_pos ON memberships (from_pos);
CREATE INDEX room_state_encryption ON room_state (from_pos) WHERE type = 'm.room.encryption';

CREATE TABLE device_keys (
    user_id   TEXT NOT NULL,
    device_id TEXT NOT NULL,
    keys      TEXT NOT NULL,
    PRIMARY KEY (user_id, device_id),
    FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- One-time keys in the order of their upload (id), handed out once, oldest first. Keys that were claimed are remembered
-- for a while, so that an upload that is repeated (lost answer) can't bring one back.
CREATE TABLE one_time_keys (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id   TEXT NOT NULL,
    device_id TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    key_id    TEXT NOT NULL,
    key       TEXT NOT NULL,
    claimed   INTEGER NOT NULL DEFAULT 0 CHECK (claimed IN (0, 1)),
    UNIQUE (user_id, device_id, algorithm, key_id),
    FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX one_time_keys_in_order ON one_time_keys (user_id, device_id, claimed, algorithm, id);

CREATE TABLE fallback_keys (
    user_id   TEXT NOT NULL,
    device_id TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    key_id    TEXT NOT NULL,
    key       TEXT NOT NULL,
    used      INTEGER NOT NULL DEFAULT 0 CHECK (used IN (0, 1)),
    PRIMARY KEY (user_id, device_id, algorithm),
    FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- usage: master, self_signing, user_signing; key_id: the public key in unpadded base64
CREATE TABLE cross_signing_keys (
    user_id TEXT NOT NULL,
    usage   TEXT NOT NULL CHECK (usage IN ('master', 'self_signing', 'user_signing')),
    key_id  TEXT NOT NULL,
    key     TEXT NOT NULL,
    PRIMARY KEY (user_id, usage)
) STRICT, WITHOUT ROWID;

-- Verified signatures by `signer` (with key `signer_key`, e.g. ed25519:abc) on the key object `target_key` of
-- `target_user`: a device ID or the unpadded base64 of a cross-signing key.
CREATE TABLE key_signatures (
    target_user TEXT NOT NULL,
    target_key  TEXT NOT NULL,
    signer      TEXT NOT NULL,
    signer_key  TEXT NOT NULL,
    signature   TEXT NOT NULL,
    PRIMARY KEY (target_user, signer, target_key, signer_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX key_signatures_by_signer ON key_signatures (signer, signer_key);

-- The device that receives for a person while none of theirs is online (MSC3814); its keys are in the tables above.
CREATE TABLE dehydrated_devices (
    user_id     TEXT PRIMARY KEY,
    device_id   TEXT NOT NULL,
    device_data TEXT NOT NULL,
    FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Versions of a person's key backup. A deleted one keeps its number; `count` is the number of its sessions.
CREATE TABLE key_backups (
    user_id   TEXT NOT NULL,
    version   INTEGER NOT NULL,
    algorithm TEXT NOT NULL,
    auth_data TEXT NOT NULL,
    etag      INTEGER NOT NULL DEFAULT 0,
    count     INTEGER NOT NULL DEFAULT 0,
    deleted   INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)),
    PRIMARY KEY (user_id, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE key_backup_sessions (
    user_id             TEXT NOT NULL,
    version             INTEGER NOT NULL,
    room_id             TEXT NOT NULL,
    session_id          TEXT NOT NULL,
    first_message_index INTEGER NOT NULL,
    forwarded_count     INTEGER NOT NULL,
    is_verified         INTEGER NOT NULL CHECK (is_verified IN (0, 1)),
    session_data        TEXT NOT NULL,
    UNIQUE (user_id, version, room_id, session_id),
    FOREIGN KEY (user_id, version) REFERENCES key_backups (user_id, version)
) STRICT;
