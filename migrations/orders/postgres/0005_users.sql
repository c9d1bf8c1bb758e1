-- Which users there are, without anything personal.
--
-- Undo: drop table replica.users;

create table replica.users (
    user_id text collate "C" primary key,
    erased  boolean not null
);
