-- How far erasures that the log tells of have been carried out. One row.
-- undo: drop table erasures;  (the log is then gone over from its first event again)
create table erasures (
    id integer primary key check (id = 1),
    position integer not null
) strict;

insert into erasures (id, position) values (1, 0);
