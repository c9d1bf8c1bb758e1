-- Who may write to the replica: the follower that took the fence last.
--
-- Undo: drop table replica.fence;

create table replica.fence (
    one   integer primary key check (one = 1),
    fence bigint not null
);

insert into replica.fence (one, fence) values (1, 0);
