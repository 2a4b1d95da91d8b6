-- What large files are as sound. A row says that the object is an audio file; `sound` is its sound hash as 32 bytes.
CREATE TABLE lfs_sounds (
    oid            BLOB    NOT NULL PRIMARY KEY REFERENCES lfs_objects (oid) ON DELETE CASCADE,
    sound          BLOB,
    facts          TEXT    NOT NULL,             -- JSON, docs/metadata.md
    reader_version INTEGER NOT NULL,
    read_at_us     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX lfs_sounds_by_sound ON lfs_sounds (sound) WHERE sound IS NOT NULL;
