-- Who may write to the index: the follower that took the fence last.
--
-- Undo: drop table sagas.fence;

create table sagas.fence (
    one   integer primary key check (one = 1),
    fence bigint not null
);

insert into sagas.fence (one, fence) values (1, 0);
