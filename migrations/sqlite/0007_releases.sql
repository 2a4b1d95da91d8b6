-- Locks of the pusher that go once the ref of their push has moved. Written with the row, removed when it is closed,
-- so that a stop in between does not leave them held.
CREATE TABLE push_releases (
    push_seq INTEGER NOT NULL REFERENCES pushes (seq) ON DELETE CASCADE,
    ord      INTEGER NOT NULL,                   -- of the ref in push_refs
    lock_id  BLOB    NOT NULL,
    PRIMARY KEY (push_seq, ord, lock_id)
) STRICT, WITHOUT ROWID;
