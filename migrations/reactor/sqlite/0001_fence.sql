-- Who may write here: the reactor that took the fence last.
-- undo: drop table fence;
create table fence (
    one integer not null primary key check (one = 1),
    fence integer not null
) strict;

insert into fence (one, fence) values (1, 0);
