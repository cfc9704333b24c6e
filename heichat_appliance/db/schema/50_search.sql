-- What people can search for, by the position of the event that clients show it with: text of unencrypted messages
-- (as of the latest edit), names and topics of rooms. `source_pos`: the event that the text is from, an edit or the event
-- itself; `room`: one word that stands for the room. How far it is filled: search_position in meta.
CREATE TABLE search_texts (
    pos        INTEGER PRIMARY KEY REFERENCES events (pos),
    source_pos INTEGER NOT NULL REFERENCES events (pos),
    room       TEXT NOT NULL,
    body       TEXT,
    name       TEXT,
    topic      TEXT
) STRICT;
CREATE INDEX search_texts_edited ON search_texts (source_pos) WHERE source_pos != pos;

-- Its rows are written beside those of search_texts (store/search.py), not by triggers: in a statement with triggers SQLite sets
-- a savepoint, for which FTS5 writes what it has collected, each time a segment of one message.
CREATE VIRTUAL TABLE search_words USING fts5 (
    body, name, topic, room,
    content = 'search_texts', content_rowid = 'pos', tokenize = 'unicode61 remove_diacritics 2'
);
