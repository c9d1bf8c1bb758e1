-- Where the folding of a long stream may begin: the state up to an event, as one version of the fold made it. Made from
-- the events and replaced at will, so it is not append-only; one that is wrong is passed over.
--
-- Undo: drop table snapshots;  (streams are then read from their first event)

create table snapshots (
    aggregate_type text collate "C" not null,
    aggregate_id   text collate "C" not null,
    fold_version   int8 not null,
    -- of the last event in it, and that event
    sequence       int8 not null,
    event_id       uuid not null,
    -- json text; personal values are ciphertext
    state          text not null,
    constraint snapshots_pkey primary key (aggregate_type, aggregate_id, fold_version)
);
