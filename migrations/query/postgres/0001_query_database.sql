-- The query database: which generation of each read model is live, how far each generation is, and what is unfinished.
-- The rows lie in tables that the engine makes from the read models' templates (order_details_g7), in the same
-- database, so that rows and checkpoint commit together.
--
-- Undo: drop the database; a projector makes it anew from the logs.

-- The pointer. A reader reads it in the statement that reads the rows.
create table read_models (
    name text collate "C" primary key,
    live_generation bigint,
    -- kept for going back; older ones are dropped at the next swap
    previous_generation bigint,
    swapped_at_us bigint not null
);

-- Every generation that there is.
create table generations (
    read_model text collate "C" not null,
    generation bigint not null,
    -- VERSION of the fold that makes it
    version bigint not null,
    -- building: beside the live one; live; retired: was live; failed: not to be swapped in, and why
    state text collate "C" not null check (state in ('building', 'live', 'retired', 'failed')),
    reason text collate "C",
    created_at_us bigint not null,
    primary key (read_model, generation)
);

-- Who may write: a follower takes the fence by adding one, and every older holder is refused from then on.
create table fences (
    read_model text collate "C" not null,
    generation bigint not null,
    fence bigint not null,
    primary key (read_model, generation)
);

-- The vector: the last event applied of each source.
create table checkpoints (
    read_model text collate "C" not null,
    generation bigint not null,
    source text collate "C" not null,
    -- null until something is known of the log
    epoch text collate "C",
    position bigint not null,
    -- null at position 0
    event_id text collate "C",
    event_recorded_at_us bigint not null,
    -- the source's head when it was last seen
    head_position bigint not null,
    applied_at_us bigint not null,
    primary key (read_model, generation, source)
);

-- The events of each batch, six bytes each, so that the anchor of any recent consistency token can be checked.
create table applied_anchors (
    read_model text collate "C" not null,
    generation bigint not null,
    source text collate "C" not null,
    first_position bigint not null,
    last_position bigint not null,
    anchors bytea not null,
    primary key (read_model, generation, source, last_position)
);

-- A changed reference whose rows are not all rewritten yet: rows behind after_key wait.
create table fan_outs (
    read_model text collate "C" not null,
    generation bigint not null,
    reference text collate "C" not null,
    foreign_key text collate "C" not null,
    source text collate "C" not null,
    after_key text collate "C" not null,
    -- of the event that opened it; tokens from there on are not satisfied until it is closed
    position bigint not null,
    primary key (read_model, generation, reference, foreign_key)
);

-- Streams with an event that cannot be folded: it and all later ones wait for an operator.
create table parked_streams (
    read_model text collate "C" not null,
    generation bigint not null,
    source text collate "C" not null,
    aggregate_type text collate "C" not null,
    aggregate_id text collate "C" not null,
    position bigint not null,
    event_id text collate "C" not null,
    reason text collate "C" not null,
    parked_at_us bigint not null,
    primary key (read_model, generation, source, aggregate_type, aggregate_id)
);

-- The waiting events, by place: their payload stays in the log.
create table parked_events (
    read_model text collate "C" not null,
    generation bigint not null,
    source text collate "C" not null,
    position bigint not null,
    aggregate_type text collate "C" not null,
    aggregate_id text collate "C" not null,
    primary key (read_model, generation, source, position)
);
