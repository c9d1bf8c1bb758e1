-- The keys under which personal values in events and snapshots are encrypted, one a person. What may not be deleted from
-- the log is made unreadable here.
--
-- Why these storage settings: a key that was erased stays in its page until the next vacuum, so one erased row is enough
-- to ask for it.
-- Undo: drop table subject_keys;  (everything personal in the log is then unreadable for good)

create table subject_keys (
    subject uuid primary key,
    -- null once the person was erased; then no key is ever made again
    key     bytea check (octet_length(key) = 32)
) with (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0);
