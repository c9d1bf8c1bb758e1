-- An event may oblige to several things, each a duty of its own; `stream` then names the lane in which it waits. Who knows
-- of one part only goes on noting part 0.
--
-- Undo: delete from reactor.duties where part > 0; alter table reactor.duties drop constraint duties_pkey;
--       alter table reactor.duties add primary key (source, position); alter table reactor.duties drop column part;

alter table reactor.duties add column part integer not null default 0;
alter table reactor.duties drop constraint duties_pkey;
alter table reactor.duties add primary key (source, position, part);

drop index reactor.duties_in_line;
create index duties_in_line on reactor.duties (source, stream, position, part) where not timer;
