-- Uploaded files. What is in them lies in data_dir/media under its SHA-256 (hex), once however often it was uploaded.
-- `sha256` is NULL while an announced upload (POST /create) has not come; it may come until expires_ts.
CREATE TABLE media (
    media_id     TEXT PRIMARY KEY,
    user_id      TEXT NOT NULL REFERENCES accounts (user_id),
    created_ts   INTEGER NOT NULL,
    expires_ts   INTEGER,
    sha256       TEXT,
    size         INTEGER,
    content_type TEXT,
    file_name    TEXT,
    CHECK ((sha256 IS NULL) = (expires_ts IS NOT NULL)),
    CHECK ((sha256 IS NULL) = (size IS NULL) AND (sha256 IS NULL) = (content_type IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX media_by_content ON media (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX media_announced ON media (user_id, expires_ts) WHERE sha256 IS NULL;

-- Bytes of a person's quota that their uploads take (see store/media.py).
CREATE TABLE media_usage (
    user_id TEXT PRIMARY KEY REFERENCES accounts (user_id),
    bytes   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
