-- How rebuilds go and how they ended, and who writes which generation now. Any process shows and steers any rebuild, and
-- what one process was told, the next one goes on with.
--
-- Undo: drop both tables; a rebuild under way then starts over as a plain one, and nobody remembers the reports.

-- Every rebuild, verification, dry run and rollback; the row outlives its generation.
create table rebuilds (
    read_model text collate "C" not null,
    generation bigint not null,
    -- what it is to end in
    purpose text collate "C" not null check (purpose in ('swap', 'verify', 'diff', 'rollback')),
    phase text collate "C" not null
        check (phase in ('catching_up', 'comparing', 'swapped', 'verified', 'compared', 'failed', 'cancelled')),
    -- what operators wish: whoever builds looks several times a second
    paused boolean not null,
    cancel boolean not null,
    -- null: as fast as it can
    throttle_events_per_s bigint check (throttle_events_per_s > 0),
    events_done bigint not null,
    events_total bigint not null,
    -- over the last seconds
    events_per_s bigint not null,
    started_at_us bigint not null,
    progressed_at_us bigint not null,
    -- why it failed
    error text collate "C",
    -- what a comparison found, as JSON; holds keys and numbers, and no text of a row
    report text collate "C",
    primary key (read_model, generation)
);

-- A second one would compare with what the first is about to replace.
create unique index rebuilds_one_at_a_time on rebuilds (read_model) where phase in ('catching_up', 'comparing');

-- Who follows or builds a generation. Only politeness and speed depend on it: that nobody writes who has lost it is the
-- work of the fence, which lies beside the rows.
create table leases (
    read_model text collate "C" not null,
    generation bigint not null,
    -- a process, for as long as it runs
    holder text collate "C" not null,
    -- grows when the holder changes
    fence bigint not null,
    -- the holder's connection: when it is gone, so is the holder, and nobody has to wait
    session_pid integer not null,
    session_started_at timestamptz,
    -- by this database's clock, which is the only one that counts
    expires_at timestamptz not null,
    primary key (read_model, generation)
);
