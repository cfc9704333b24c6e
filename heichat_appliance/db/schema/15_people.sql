-- People to search for: a row for each account, kept by the triggers below whoever writes accounts and profiles.
CREATE TABLE people (
    id           INTEGER PRIMARY KEY,
    user_id      TEXT NOT NULL UNIQUE REFERENCES accounts (user_id) ON DELETE CASCADE,
    display_name TEXT
) STRICT;

-- The words of Uni-ID and display name, without case and diacritics; rowid is people.id.
CREATE VIRTUAL TABLE people_words USING fts5 (
    uni_id, display_name, tokenize = 'unicode61 remove_diacritics 2', prefix = '1 2 3'
);

CREATE TRIGGER people_added AFTER INSERT ON accounts BEGIN
    INSERT INTO people (user_id, display_name) VALUES (new.user_id,
        (SELECT json_extract(value, '$') FROM profiles WHERE user_id = new.user_id AND field = 'displayname'));
    INSERT INTO people_words (rowid, uni_id, display_name)
        SELECT id, new.uni_id, display_name FROM people WHERE user_id = new.user_id;
END;

CREATE TRIGGER people_removed AFTER DELETE ON people BEGIN
    DELETE FROM people_words WHERE rowid = old.id;
END;

CREATE TRIGGER people_renamed AFTER UPDATE ON people BEGIN
    UPDATE people_words SET display_name = new.display_name WHERE rowid = new.id;
END;

CREATE TRIGGER people_name_set AFTER INSERT ON profiles WHEN new.field = 'displayname' BEGIN
    UPDATE people SET display_name = json_extract(new.value, '$') WHERE user_id = new.user_id;
END;

CREATE TRIGGER people_name_changed AFTER UPDATE ON profiles WHEN new.field = 'displayname' BEGIN
    UPDATE people SET display_name = json_extract(new.value, '$') WHERE user_id = new.user_id;
END;

CREATE TRIGGER people_name_removed AFTER DELETE ON profiles WHEN old.field = 'displayname' BEGIN
    UPDATE people SET display_name = NULL WHERE user_id = old.user_id;
END;

-- Joined rooms whose member event still shows a person's former name or avatar; worked off after a change of the profile.
CREATE TABLE outdated_profiles (
    user_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    PRIMARY KEY (user_id, room_id)
) STRICT, WITHOUT ROWID;
