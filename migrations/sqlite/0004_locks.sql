-- Locks on files and folders.
-- A `*_key` is a path after NFC and case folding: what must be unique. `covers_key` is the file or folder that the
-- lock is about; it differs from `path_key` for a song's own file, which stands for its folder.

CREATE TABLE locks (
    seq           INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, -- order of taking
    id            BLOB    NOT NULL UNIQUE,
    repo_id       BLOB    NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    branch        TEXT    NOT NULL DEFAULT '',    -- full ref name; empty: every branch
    path          TEXT    NOT NULL,               -- as it was given
    path_key      TEXT    NOT NULL,
    covers_key    TEXT    NOT NULL,
    user_id       BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    locked_at_us  INTEGER NOT NULL,
    touched_at_us INTEGER NOT NULL,               -- last heartbeat or push of its holder
    reason        TEXT,
    machine       TEXT,
    is_kept       INTEGER NOT NULL DEFAULT 0,     -- stays after a push of its path
    UNIQUE (repo_id, path_key, branch)
) STRICT;
CREATE INDEX locks_in_order ON locks (repo_id, seq);
CREATE INDEX locks_by_cover ON locks (repo_id, covers_key);
CREATE INDEX locks_by_user ON locks (user_id);

-- Raised when somebody gets a lock, so that a push that looked at the locks before knows that it must look again.
CREATE TABLE lock_versions (
    repo_id BLOB    NOT NULL PRIMARY KEY REFERENCES repos (id) ON DELETE CASCADE,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What differs from the defaults in a repository. NULL: the default.
CREATE TABLE lock_rules (
    repo_id            BLOB NOT NULL PRIMARY KEY REFERENCES repos (id) ON DELETE CASCADE,
    scope              TEXT    CHECK (scope IN ('repository', 'branch')),
    outdated           TEXT    CHECK (outdated IN ('warn', 'refuse', 'allow')),
    stale_after_secs   INTEGER,
    expire_after_secs  INTEGER,                   -- 0: never
    release_after_push INTEGER,
    needs_lock         INTEGER
) STRICT, WITHOUT ROWID;

-- Who asked the holder for a lock.
CREATE TABLE lock_asks (
    lock_seq    INTEGER NOT NULL REFERENCES locks (seq) ON DELETE CASCADE,
    user_id     BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    note        TEXT    NOT NULL,
    asked_at_us INTEGER NOT NULL,
    PRIMARY KEY (lock_seq, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX lock_asks_by_user ON lock_asks (user_id);
