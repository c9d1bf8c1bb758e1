-- Which sagas there are, and where each stands: what can be asked of a log only by reading all of it.
-- Times are microseconds since 1970.
--
-- Undo: drop table sagas.sagas;

create table sagas.sagas (
    saga_id     text collate "C" primary key,
    -- what others know it by, as JSON
    ids         text not null,
    version     bigint not null,
    phase       text collate "C" not null,
    started_at  bigint not null,
    changed_at  bigint not null,
    deadline_at bigint not null,
    -- null = under way
    outcome     text,
    -- steps that wait for an answer
    open_steps  bigint not null,
    stuck_steps bigint not null,
    -- the oldest of them; null = none is stuck
    stuck_since bigint,
    -- the first of them, as JSON
    stuck       text not null
);

create index sagas_by_change on sagas.sagas (changed_at);
create index sagas_by_phase on sagas.sagas (phase, changed_at);
create index sagas_under_way on sagas.sagas (started_at) where outcome is null;
create index sagas_stuck on sagas.sagas (stuck_since) where stuck_since is not null;
