-- Up to which event of the users' feed erasures have been carried out here. One row.
-- undo: drop table erasures;  (the feed is then gone over from its first event again)
create table erasures (
    id integer primary key check (id = 1),
    position integer not null,
    -- uuid of the event there; null at the start
    event_id blob check (length(event_id) = 16)
) strict;

insert into erasures (id, position) values (1, 0);
