-- Large files: objects, the chunks that make them, the chunk packs that hold those, and which repository has what.
-- Names are SHA-256 hashes as 32 bytes. `codec` is the tag of a frame.

-- Objects in the store. A key is never used again.
CREATE TABLE lfs_packs (
    id            INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    key           TEXT    NOT NULL UNIQUE,
    bytes         INTEGER NOT NULL,
    sha256        BLOB    NOT NULL,
    created_at_us INTEGER NOT NULL
) STRICT;

-- Where each chunk lies.
CREATE TABLE lfs_chunks (
    chunk        BLOB    NOT NULL PRIMARY KEY,
    pack_id      INTEGER NOT NULL REFERENCES lfs_packs (id),
    start        INTEGER NOT NULL,               -- in the pack, in bytes
    stored_bytes INTEGER NOT NULL,
    raw_bytes    INTEGER NOT NULL,
    codec        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX lfs_chunks_by_pack ON lfs_chunks (pack_id);

-- Objects. The recipe of one with few chunks is here, else in a pack.
CREATE TABLE lfs_objects (
    oid                 BLOB    NOT NULL PRIMARY KEY,
    size_bytes          INTEGER NOT NULL,
    recipe              BLOB,
    recipe_pack_id      INTEGER          REFERENCES lfs_packs (id),
    recipe_start        INTEGER,
    recipe_stored_bytes INTEGER,
    recipe_raw_bytes    INTEGER,
    recipe_codec        INTEGER,
    created_at_us       INTEGER NOT NULL,
    CHECK ((recipe IS NULL) = (recipe_pack_id IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- Which repository has which object. A hash is not a right: without a row here an object is not there.
CREATE TABLE lfs_links (
    repo_id      BLOB    NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    oid          BLOB    NOT NULL REFERENCES lfs_objects (oid),
    linked_at_us INTEGER NOT NULL,
    last_have_us INTEGER NOT NULL,               -- when somebody was last told that it is here
    PRIMARY KEY (repo_id, oid)
) STRICT, WITHOUT ROWID;
CREATE INDEX lfs_links_by_object ON lfs_links (oid);

-- Repositories that an upload of large files made, until a push fills them.
CREATE TABLE lfs_made_repos (
    repo_id    BLOB    NOT NULL PRIMARY KEY REFERENCES repos (id) ON DELETE CASCADE,
    made_at_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
