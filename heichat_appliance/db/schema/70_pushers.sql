-- Where people want notifications to be sent: an app (app_id) on a device (pushkey), reached through the push gateway
-- that `data` (JSON) names.
--   device_id     of the session that set it; it goes with the device
--   pushkey_ts    when it was last set, ms since 1970
--   resume_after  events after this position wait to be sent; NULL: none does
-- meta.push_position: what every event up to there means for pushers has been settled.
CREATE TABLE pushers (
    id                  INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id             TEXT NOT NULL,
    device_id           TEXT NOT NULL,
    app_id              TEXT NOT NULL,
    pushkey             TEXT NOT NULL,
    app_display_name    TEXT NOT NULL,
    device_display_name TEXT NOT NULL,
    profile_tag         TEXT,
    lang                TEXT NOT NULL,
    data                TEXT NOT NULL,
    pushkey_ts          INTEGER NOT NULL,
    resume_after        INTEGER,
    UNIQUE (app_id, pushkey, user_id),
    FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX pushers_of_device ON pushers (user_id, device_id);
