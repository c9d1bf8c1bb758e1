-- Who may write here: the reactor that took the fence last.
--
-- Undo: drop table reactor.fence;

create table reactor.fence (
    one   integer primary key check (one = 1),
    fence bigint not null
);

insert into reactor.fence (one, fence) values (1, 0);
