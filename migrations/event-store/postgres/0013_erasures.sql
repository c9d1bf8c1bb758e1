-- How far erasures that the log tells of have been carried out. One row.
--
-- Undo: drop table erasures;  (the log is then gone over from its first event again)

create table erasures (
    id       int4 primary key check (id = 1),
    position int8 not null
);

insert into erasures (id, position) values (1, 0);
