-- Which chunks a repository has, so that a client is asked for the others only. A hash is not a right: chunks that
-- only other repositories have are not in its set.

-- The chunks of each object, each once.
CREATE TABLE lfs_object_chunks (
    oid   BLOB NOT NULL REFERENCES lfs_objects (oid) ON DELETE CASCADE,
    chunk BLOB NOT NULL,
    PRIMARY KEY (oid, chunk)
) STRICT, WITHOUT ROWID;

-- The set of each repository, kept by the triggers below. `uses`: how many of its objects have the chunk.
CREATE TABLE lfs_repo_chunks (
    repo_id BLOB    NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    chunk   BLOB    NOT NULL,
    uses    INTEGER NOT NULL,
    PRIMARY KEY (repo_id, chunk)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER lfs_links_added AFTER INSERT ON lfs_links BEGIN
    INSERT INTO lfs_repo_chunks (repo_id, chunk, uses)
    SELECT NEW.repo_id, chunk, 1 FROM lfs_object_chunks WHERE oid = NEW.oid
    ON CONFLICT (repo_id, chunk) DO UPDATE SET uses = uses + 1;
END;

CREATE TRIGGER lfs_links_removed AFTER DELETE ON lfs_links BEGIN
    UPDATE lfs_repo_chunks SET uses = uses - 1
    WHERE repo_id = OLD.repo_id AND chunk IN (SELECT chunk FROM lfs_object_chunks WHERE oid = OLD.oid);
    DELETE FROM lfs_repo_chunks
    WHERE repo_id = OLD.repo_id AND uses <= 0
      AND chunk IN (SELECT chunk FROM lfs_object_chunks WHERE oid = OLD.oid);
END;

-- Chunks that a person has brought to a repository and that no object there has yet.
CREATE TABLE lfs_brought (
    chunk    BLOB    NOT NULL REFERENCES lfs_chunks (chunk) ON DELETE CASCADE,
    repo_id  BLOB    NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    user_id  BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    until_us INTEGER NOT NULL,
    PRIMARY KEY (chunk, repo_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX lfs_brought_by_time ON lfs_brought (until_us);
