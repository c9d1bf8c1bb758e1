-- That whoever holds the fence is alive: the reactor raises the number while it lives, and one that stands by takes the fence
-- when the number has stood still for a whole lease.
-- undo: alter table fence drop column beat;
alter table fence add column beat integer not null default 0;
