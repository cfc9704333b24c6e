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

CREATE VIRTUAL TABLE search_words USING fts5 (
    body, name, topic, room,
    content = 'search_texts', content_rowid = 'pos', tokenize = 'unicode61 remove_diacritics 2'
);

CREATE TRIGGER search_texts_added AFTER INSERT ON search_texts BEGIN
    INSERT INTO search_words (rowid, body, name, topic, room)
        VALUES (new.pos, new.body, new.name, new.topic, new.room);
END;

CREATE TRIGGER search_texts_removed AFTER DELETE ON search_texts BEGIN
    INSERT INTO search_words (search_words, rowid, body, name, topic, room)
        VALUES ('delete', old.pos, old.body, old.name, old.topic, old.room);
END;
