-- What is still to be done about events. Holds no payload: the log keeps it, and may have to forget it.
-- undo: drop table duties;
create table duties (
    source text not null,
    position integer not null,
    event_id text not null,
    -- of one stream, duties are done one after another
    stream text not null,
    -- 1 = waits for a time of its own, and holds up nobody (0 or 1)
    timer integer not null,
    -- not before this time: microseconds since 1970
    due_at integer not null,
    attempts integer not null,
    -- why it is not done yet; nothing personal
    reason text,
    primary key (source, position)
) strict, without rowid;

create index duties_by_time on duties (due_at);
create index duties_in_line on duties (source, stream, position) where timer = 0;
