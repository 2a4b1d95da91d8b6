-- People, tokens, repositories, rights and pushes.
-- Ids are UUIDv7 as 16 bytes; times are microseconds since 1970; booleans are 0 and 1.
-- A `*_key` column is the name with case folded: what must be unique.

-- Facts about this database, such as `instance_id`.
CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
    id            BLOB    NOT NULL PRIMARY KEY,
    name          TEXT    NOT NULL,
    name_key      TEXT    NOT NULL UNIQUE,
    password_hash TEXT    NOT NULL,             -- argon2id, PHC string
    is_site_admin INTEGER NOT NULL DEFAULT 0,
    is_disabled   INTEGER NOT NULL DEFAULT 0,
    auth_version  INTEGER NOT NULL DEFAULT 1,   -- raised at every change of the account
    created_at_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE repos (
    id            BLOB    NOT NULL PRIMARY KEY,
    owner_id      BLOB    NOT NULL REFERENCES users (id),
    name          TEXT    NOT NULL,
    name_key      TEXT    NOT NULL,
    dir           TEXT    NOT NULL UNIQUE,      -- below `repos/`, set once; a rename does not move the folder
    visibility    TEXT    NOT NULL CHECK (visibility IN ('public', 'internal', 'private')),
    is_archived   INTEGER NOT NULL DEFAULT 0,
    trust_hooks   INTEGER NOT NULL DEFAULT 0,
    created_at_us INTEGER NOT NULL,
    UNIQUE (owner_id, name_key)
) STRICT, WITHOUT ROWID;

-- Old addresses of repositories. Removed when a repository takes the address.
CREATE TABLE repo_aliases (
    owner_key     TEXT    NOT NULL,
    name_key      TEXT    NOT NULL,
    owner         TEXT    NOT NULL,             -- as it was written
    name          TEXT    NOT NULL,
    repo_id       BLOB    NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    created_at_us INTEGER NOT NULL,
    PRIMARY KEY (owner_key, name_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX repo_aliases_by_repo ON repo_aliases (repo_id);

-- Access tokens. A token for one repository goes with it; it never widens.
CREATE TABLE tokens (
    id              BLOB    NOT NULL PRIMARY KEY,
    user_id         BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    label           TEXT    NOT NULL,
    secret_sha256   BLOB    NOT NULL UNIQUE,
    scope           TEXT    NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    repo_id         BLOB             REFERENCES repos (id) ON DELETE CASCADE,
    expires_at_us   INTEGER,
    created_at_us   INTEGER NOT NULL,
    last_used_at_us INTEGER,
    revoked_at_us   INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_by_user ON tokens (user_id);
CREATE INDEX tokens_by_repo ON tokens (repo_id) WHERE repo_id IS NOT NULL;

CREATE TABLE members (
    repo_id     BLOB    NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    user_id     BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role        TEXT    NOT NULL CHECK (role IN ('read', 'write', 'admin')),
    added_at_us INTEGER NOT NULL,
    PRIMARY KEY (repo_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_user ON members (user_id);

CREATE TABLE protected_branches (
    repo_id   BLOB    NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    pattern   TEXT    NOT NULL,
    no_force  INTEGER NOT NULL,
    no_delete INTEGER NOT NULL,
    PRIMARY KEY (repo_id, pattern)
) STRICT, WITHOUT ROWID;

-- One row per push and per change that was found on disk: the repository's reflog.
-- `seq` is the order of beginning. No foreign key to repos: a repository disappears at once and its
-- rows follow in small steps.
CREATE TABLE pushes (
    seq            INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id             BLOB    NOT NULL UNIQUE,
    repo_id        BLOB    NOT NULL,
    user_id        BLOB             REFERENCES users (id) ON DELETE SET NULL,
    pusher         TEXT,                        -- the name at that time; NULL: changed on disk
    token_id       BLOB,
    address        TEXT,
    is_atomic      INTEGER NOT NULL,
    options        TEXT    NOT NULL DEFAULT '[]', -- push options, a JSON array of text
    state          TEXT    NOT NULL CHECK (state IN ('open', 'done')),
    started_at_us  INTEGER NOT NULL,
    finished_at_us INTEGER
) STRICT;
CREATE INDEX pushes_by_repo ON pushes (repo_id, seq);
CREATE INDEX pushes_by_finish ON pushes (repo_id, finished_at_us) WHERE finished_at_us IS NOT NULL;
CREATE INDEX pushes_open ON pushes (repo_id, seq) WHERE state = 'open';
CREATE INDEX pushes_by_user ON pushes (user_id) WHERE user_id IS NOT NULL;

-- What each push changes. NULL in old_id or new_id: the ref is absent before or after.
CREATE TABLE push_refs (
    push_seq INTEGER NOT NULL REFERENCES pushes (seq) ON DELETE CASCADE,
    ord      INTEGER NOT NULL,                  -- order of the commands in the push
    name     BLOB    NOT NULL,                  -- full ref name, bytes as git has them
    old_id   BLOB,
    new_id   BLOB,
    applied  INTEGER,                           -- NULL while the push is open
    PRIMARY KEY (push_seq, ord)
) STRICT, WITHOUT ROWID;
CREATE INDEX push_refs_moved ON push_refs (push_seq, ord) WHERE old_id IS NOT NULL;

-- Where the last applied change left each ref: an index over push_refs that makes the comparison
-- with the disk cheap. NULL in id: the ref was deleted.
CREATE TABLE known_refs (
    repo_id  BLOB    NOT NULL,
    name     BLOB    NOT NULL,
    id       BLOB,
    push_seq INTEGER NOT NULL,
    PRIMARY KEY (repo_id, name)
) STRICT, WITHOUT ROWID;

-- Who changed accounts and rights.
CREATE TABLE audit (
    seq     INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at_us   INTEGER NOT NULL,
    actor   TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    detail  TEXT    NOT NULL DEFAULT ''
) STRICT;
