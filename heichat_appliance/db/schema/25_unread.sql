-- What unread counts are made of for everybody who has the default push rules: judged once, when the event is made.
-- `everybody`: 1 if it notifies all members, 0 if only those whom `mentions` names. thread_id: root's event ID or 'main'.
CREATE TABLE notifying_events (
    room_id   TEXT NOT NULL,
    pos       INTEGER NOT NULL REFERENCES events (pos),
    thread_id TEXT NOT NULL,
    sender    TEXT NOT NULL,
    everybody INTEGER NOT NULL CHECK (everybody IN (0, 1)),
    PRIMARY KEY (room_id, pos)
) STRICT, WITHOUT ROWID;

-- Events that highlight: for one person, or for everybody in the room ('').
CREATE TABLE mentions (
    user_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    pos     INTEGER NOT NULL,
    PRIMARY KEY (user_id, room_id, pos),
    FOREIGN KEY (room_id, pos) REFERENCES notifying_events (room_id, pos) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX mentions_of_event ON mentions (room_id, pos);
