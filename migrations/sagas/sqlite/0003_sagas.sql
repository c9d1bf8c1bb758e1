-- Which sagas there are, and where each stands: what can be asked of a log only by reading all of it.
-- Times are microseconds since 1970.
-- undo: drop table sagas;
create table sagas (
    saga_id text not null primary key,
    -- what others know it by, as JSON
    ids text not null,
    version integer not null,
    phase text not null,
    started_at integer not null,
    changed_at integer not null,
    deadline_at integer not null,
    -- null = under way
    outcome text,
    -- steps that wait for an answer
    open_steps integer not null,
    stuck_steps integer not null,
    -- the oldest of them; null = none is stuck
    stuck_since integer,
    -- the first of them, as JSON
    stuck text not null
) strict, without rowid;

create index sagas_by_change on sagas (changed_at);
create index sagas_by_phase on sagas (phase, changed_at);
create index sagas_under_way on sagas (started_at) where outcome is null;
create index sagas_stuck on sagas (stuck_since) where stuck_since is not null;
