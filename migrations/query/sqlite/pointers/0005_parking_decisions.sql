-- Which events operators have decided to leave out. Decisions are of a read model and not of a generation, so that every
-- rebuild keeps them.
--
-- Undo: drop table parking_decisions.

create table parking_decisions (
    read_model text not null,
    source text not null,
    event_id text not null,
    position integer not null,
    aggregate_type text not null,
    aggregate_id text not null,
    -- what could not be folded, and why
    fingerprint text not null,
    reason text not null,
    -- the operator's reason, and who they are; nothing personal
    why text not null,
    decided_by text not null,
    decided_at_us integer not null,
    primary key (read_model, source, event_id)
) strict, without rowid;
