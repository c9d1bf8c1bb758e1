-- How far each source's log is, as a projector last saw it: written now and then beside the batches, because a head
-- moves also while nothing can be applied. Only for showing lag; nothing depends on it.
--
-- Undo: drop it; lag is then told from the checkpoints, which know the heads of their batches.
create table observed_heads (
    read_model text not null,
    generation integer not null,
    source text not null,
    head_position integer not null,
    -- when the feed told it
    observed_at_us integer not null,
    -- time of the oldest event that is known and not applied; null when none is
    waiting_since_us integer,
    primary key (read_model, generation, source)
) strict, without rowid;
