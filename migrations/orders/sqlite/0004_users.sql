-- Which users there are, without anything personal.
-- undo: drop table users;
create table users (
    user_id text not null primary key,
    -- 0 or 1
    erased integer not null
) strict, without rowid;
