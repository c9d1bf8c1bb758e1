-- How rebuilds go and how they ended. What one process was told, the next one goes on with.
--
-- Undo: drop the table; a rebuild under way then starts over as a plain one, and nobody remembers the reports.

-- Every rebuild, verification, dry run and rollback; the row outlives its generation.
create table rebuilds (
    read_model text not null,
    generation integer not null,
    -- what it is to end in
    purpose text not null check (purpose in ('swap', 'verify', 'diff', 'rollback')),
    phase text not null
        check (phase in ('catching_up', 'comparing', 'swapped', 'verified', 'compared', 'failed', 'cancelled')),
    -- what operators wish: whoever builds looks several times a second
    paused integer not null check (paused in (0, 1)),
    cancel integer not null check (cancel in (0, 1)),
    -- null: as fast as it can
    throttle_events_per_s integer check (throttle_events_per_s > 0),
    events_done integer not null,
    events_total integer not null,
    -- over the last seconds
    events_per_s integer not null,
    started_at_us integer not null,
    progressed_at_us integer not null,
    -- why it failed
    error text,
    -- what a comparison found, as JSON; holds keys and numbers, and no text of a row
    report text,
    primary key (read_model, generation)
) strict, without rowid;

-- A second one would compare with what the first is about to replace.
create unique index rebuilds_one_at_a_time on rebuilds (read_model) where phase in ('catching_up', 'comparing');
