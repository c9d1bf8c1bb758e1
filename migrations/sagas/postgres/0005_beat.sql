-- That whoever holds the fence is alive: the follower raises the number while it lives, and one that stands by takes the fence
-- when the number has stood still for a whole lease.
--
-- Undo: alter table sagas.fence drop column beat;

alter table sagas.fence add column beat bigint not null default 0;
