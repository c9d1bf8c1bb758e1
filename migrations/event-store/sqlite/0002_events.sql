-- What happened, in the order of its commit.
-- Append only, and only by the log's own writer: the insert triggers ask whether it has opened the head (see log_head),
-- which nobody else can, so every other `insert` is refused, `insert or replace` included, which delete triggers do not
-- see. What the writer inserts is checked when it moves the head, once a transaction: position = head + 1 .., sequence =
-- the stream's last + 1. The same asked row by row costs a fourth of the throughput.
-- undo: none; the events are the service's truth.
create table events (
    -- place in the log, from 1, without gaps
    position integer primary key,
    -- uuid
    event_id blob not null,
    aggregate_type text not null,
    aggregate_id text not null,
    -- version within the stream, from 1, without gaps
    sequence integer not null,
    event_type text not null,
    event_version text not null,
    -- json text, byte for byte as it was written
    payload text not null,
    metadata text not null,
    -- microseconds since 1970; never runs backwards
    recorded_at_us integer not null
) strict;

create unique index events_by_stream on events (aggregate_type, aggregate_id, sequence);

create unique index events_by_event_id on events (event_id);

create trigger events_append before insert on events when (select appending from log_head) is not 1
begin
    select raise(fail, 'events: append only, through the log');
end;

create trigger events_unchanged before update on events
begin
    select raise(abort, 'events: append only');
end;

create trigger events_stay before delete on events
begin
    select raise(abort, 'events: append only');
end;
