-- Up to which push the notes of a repository are written; what came later is still to be done.
CREATE TABLE notes_done (
    repo_id  BLOB    NOT NULL PRIMARY KEY REFERENCES repos (id) ON DELETE CASCADE,
    push_seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
