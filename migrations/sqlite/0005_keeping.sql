-- Keeping and collecting large files: what the last mark found, what is damaged, and what waits for removal.

-- How far each repository has been read for pointers, and which objects they name. The tips are commits (and
-- whatever else refs point to) from which everything has been read.
CREATE TABLE lfs_marked_tips (
    repo_id BLOB NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    tip     BLOB NOT NULL,
    PRIMARY KEY (repo_id, tip)
) STRICT, WITHOUT ROWID;
CREATE TABLE lfs_marked (
    repo_id BLOB NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    oid     BLOB NOT NULL,
    PRIMARY KEY (repo_id, oid)
) STRICT, WITHOUT ROWID;

-- First marks: since when nothing is known to need it. A second mark decides.
CREATE TABLE lfs_unreached_links (
    repo_id  BLOB    NOT NULL,
    oid      BLOB    NOT NULL,
    since_us INTEGER NOT NULL,
    PRIMARY KEY (repo_id, oid),
    FOREIGN KEY (repo_id, oid) REFERENCES lfs_links (repo_id, oid) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE TABLE lfs_unneeded_chunks (
    chunk    BLOB    NOT NULL PRIMARY KEY REFERENCES lfs_chunks (chunk) ON DELETE CASCADE,
    since_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Packs that no row speaks of any more. Their bytes go some time later, for somebody may be reading them;
-- a key that stands here is never given a row again.
CREATE TABLE lfs_dead_packs (
    key      TEXT    NOT NULL PRIMARY KEY,
    bytes    INTEGER NOT NULL,
    since_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Chunks whose bytes are not what they were, and the objects that need them. An empty `chunk`: the recipe of
-- the object itself. Such a chunk counts as absent for uploads, such an object has to be brought again.
CREATE TABLE lfs_damaged_chunks (
    chunk       BLOB    NOT NULL PRIMARY KEY REFERENCES lfs_chunks (chunk) ON DELETE CASCADE,
    what        TEXT    NOT NULL,
    found_at_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE lfs_damaged_objects (
    oid         BLOB    NOT NULL REFERENCES lfs_objects (oid) ON DELETE CASCADE,
    chunk       BLOB    NOT NULL,
    found_at_us INTEGER NOT NULL,
    PRIMARY KEY (oid, chunk)
) STRICT, WITHOUT ROWID;
CREATE INDEX lfs_damaged_objects_by_chunk ON lfs_damaged_objects (chunk);

CREATE INDEX lfs_objects_by_recipe_pack ON lfs_objects (recipe_pack_id) WHERE recipe_pack_id IS NOT NULL;
