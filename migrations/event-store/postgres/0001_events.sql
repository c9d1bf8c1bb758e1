-- The log: one row per event, in gapless commit order, never changed.
--
-- Why so: the columns are a superset of postgres-es'. `position` is drawn from log_head under its row lock, by
-- append_batch and nobody else. payload and metadata are json, not jsonb: their bytes stay as they were written, and
-- jsonb costs 13 % of the append. Texts are collated "C": they are compared as keys, never read as language.
-- Undo: drop table events; (everything is lost)

create table events (
    position       bigint not null,
    event_id       uuid not null,
    aggregate_type text collate "C" not null,
    aggregate_id   text collate "C" not null,
    sequence       bigint not null,
    event_type     text collate "C" not null,
    event_version  text collate "C" not null,
    payload        json not null,
    metadata       json not null,
    recorded_at    timestamptz not null,
    constraint events_pkey primary key (aggregate_type, aggregate_id, sequence),
    constraint events_position_key unique (position),
    constraint events_event_id_key unique (event_id)
);

comment on table events is 'append-only: written by append_batch alone';
