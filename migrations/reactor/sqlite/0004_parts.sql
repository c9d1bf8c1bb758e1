-- An event may oblige to several things, each a duty of its own; `stream` then names the lane in which it waits. Who knows
-- of one part only goes on noting part 0. A new table, because SQLite does not change a primary key.
-- undo: delete from duties where part > 0, and the same with the table of 0003_duties
create table duties_in_parts (
    source text not null,
    position integer not null,
    event_id text not null,
    -- the lane: of one, duties are done one after another
    stream text not null,
    -- 1 = waits for a time of its own, and holds up nobody (0 or 1)
    timer integer not null,
    -- not before this time: microseconds since 1970
    due_at integer not null,
    attempts integer not null,
    -- why it is not done yet; nothing personal
    reason text,
    -- which of the things that the event obliges to
    part integer not null default 0,
    primary key (source, position, part)
) strict, without rowid;

insert into duties_in_parts (source, position, event_id, stream, timer, due_at, attempts, reason)
select source, position, event_id, stream, timer, due_at, attempts, reason from duties;
drop table duties;
alter table duties_in_parts rename to duties;

create index duties_by_time on duties (due_at);
create index duties_in_line on duties (source, stream, position, part) where timer = 0;
