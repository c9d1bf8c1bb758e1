-- Where the folding of a long stream may begin: the state up to an event, as one version of the fold made it. Made from
-- the events and replaced at will, so it is not append-only; one that is wrong is passed over.
-- undo: drop table snapshots;  (streams are then read from their first event)
create table snapshots (
    aggregate_type text not null,
    aggregate_id text not null,
    fold_version integer not null,
    -- of the last event in it
    sequence integer not null,
    -- uuid of that event
    event_id blob not null check (length(event_id) = 16),
    -- json text; personal values are ciphertext
    state text not null,
    primary key (aggregate_type, aggregate_id, fold_version)
) strict;
