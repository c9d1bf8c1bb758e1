-- What is still to be done about events. Holds no payload: the log keeps it, and may have to forget it.
--
-- Undo: drop table reactor.duties;

create table reactor.duties (
    source   text collate "C" not null,
    position bigint not null,
    event_id text not null,
    -- of one stream, duties are done one after another
    stream   text collate "C" not null,
    -- waits for a time of its own, and holds up nobody
    timer    boolean not null,
    -- not before this time: microseconds since 1970
    due_at   bigint not null,
    attempts integer not null,
    -- why it is not done yet; nothing personal
    reason   text,
    primary key (source, position)
);

create index duties_by_time on reactor.duties (due_at);
create index duties_in_line on reactor.duties (source, stream, position) where not timer;
