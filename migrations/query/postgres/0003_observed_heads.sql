-- How far each source's log is, as a projector last saw it: written now and then beside the batches, because a head
-- moves also while nothing can be applied. Only for showing lag; nothing depends on it.
--
-- Undo: drop it; lag is then told from the checkpoints, which know the heads of their batches.
create table observed_heads (
    read_model text collate "C" not null,
    generation bigint not null,
    source text collate "C" not null,
    head_position bigint not null,
    -- when the feed told it
    observed_at_us bigint not null,
    -- time of the oldest event that is known and not applied; null when none is
    waiting_since_us bigint,
    primary key (read_model, generation, source)
);
