-- Who may write to the index of sagas: the follower that took the fence last.
-- undo: drop table fence;  (the whole file can be deleted: it is made anew from the sagas' own log)
create table fence (
    one integer not null primary key check (one = 1),
    fence integer not null
) strict;

insert into fence (one, fence) values (1, 0);
