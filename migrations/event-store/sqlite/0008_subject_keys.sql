-- The keys under which personal values in events and snapshots are encrypted, one a person. What may not be deleted from
-- the log is made unreadable here.
-- undo: drop table subject_keys;  (everything personal in the log is then unreadable for good)
create table subject_keys (
    -- uuid
    subject blob primary key check (length(subject) = 16),
    -- null once the person was erased; then no key is ever made again
    key blob check (length(key) = 32)
) strict, without rowid;
