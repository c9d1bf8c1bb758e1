-- From when on the fact that a saga waits for, while it asks for nothing, is overdue; null = it waits for none. The index
-- is made anew, so that it is known of those that stand there now.
--
-- Undo: drop index sagas.sagas_overdue; alter table sagas.sagas drop column overdue_at;

alter table sagas.sagas add column overdue_at bigint;
create index sagas_overdue on sagas.sagas (overdue_at) where overdue_at is not null;

delete from sagas.checkpoint;
