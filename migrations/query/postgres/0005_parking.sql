-- Parking, seen and decided: of which type an event is that cannot be folded, and which events operators have decided to
-- leave out. Decisions are of a read model and not of a generation, so that every rebuild keeps them.
--
-- Undo: drop table parking_decisions; the columns may stay, older versions leave them null.

alter table parked_streams add column event_type text collate "C";
alter table parked_streams add column event_version text collate "C";

create table parking_decisions (
    read_model text collate "C" not null,
    source text collate "C" not null,
    event_id text collate "C" not null,
    position bigint not null,
    aggregate_type text collate "C" not null,
    aggregate_id text collate "C" not null,
    -- what could not be folded, and why
    fingerprint text collate "C" not null,
    reason text collate "C" not null,
    -- the operator's reason, and who they are; nothing personal
    why text collate "C" not null,
    decided_by text collate "C" not null,
    decided_at_us bigint not null,
    primary key (read_model, source, event_id)
);
