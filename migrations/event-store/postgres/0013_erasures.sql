-- Up to which event of the users' feed erasures have been carried out here. One row.
--
-- Undo: drop table erasures;  (the feed is then gone over from its first event again)

create table erasures (
    id       int4 primary key check (id = 1),
    position int8 not null,
    -- of the event there; null at the start
    event_id uuid
);

insert into erasures (id, position) values (1, 0);
