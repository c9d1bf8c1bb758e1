-- One file per generation: how far it is, and what is unfinished. Its rows lie in tables that the engine makes from the
-- read model's template, in the same file, so that rows and checkpoint commit together.
--
-- Undo: remove the file; a projector builds the generation anew from the logs.

-- Who may write: a follower takes the fence by adding one, and every older holder is refused from then on.
create table fences (
    read_model text not null,
    generation integer not null,
    fence integer not null,
    primary key (read_model, generation)
) strict, without rowid;

-- The vector: the last event applied of each source.
create table checkpoints (
    read_model text not null,
    generation integer not null,
    source text not null,
    -- null until something is known of the log
    epoch text,
    position integer not null,
    -- null at position 0
    event_id text,
    event_recorded_at_us integer not null,
    -- the source's head when it was last seen
    head_position integer not null,
    applied_at_us integer not null,
    primary key (read_model, generation, source)
) strict, without rowid;

-- The events of each batch, six bytes each, so that the anchor of any recent consistency token can be checked.
create table applied_anchors (
    read_model text not null,
    generation integer not null,
    source text not null,
    first_position integer not null,
    last_position integer not null,
    anchors blob not null,
    primary key (read_model, generation, source, last_position)
) strict, without rowid;

-- A changed reference whose rows are not all rewritten yet: rows behind after_key wait.
create table fan_outs (
    read_model text not null,
    generation integer not null,
    reference text not null,
    foreign_key text not null,
    source text not null,
    after_key text not null,
    -- of the event that opened it; tokens from there on are not satisfied until it is closed
    position integer not null,
    primary key (read_model, generation, reference, foreign_key)
) strict, without rowid;

-- Streams with an event that cannot be folded: it and all later ones wait for an operator.
create table parked_streams (
    read_model text not null,
    generation integer not null,
    source text not null,
    aggregate_type text not null,
    aggregate_id text not null,
    position integer not null,
    event_id text not null,
    reason text not null,
    parked_at_us integer not null,
    primary key (read_model, generation, source, aggregate_type, aggregate_id)
) strict, without rowid;

-- The waiting events, by place: their payload stays in the log.
create table parked_events (
    read_model text not null,
    generation integer not null,
    source text not null,
    position integer not null,
    aggregate_type text not null,
    aggregate_id text not null,
    primary key (read_model, generation, source, position)
) strict, without rowid;
