-- query.db: which generation of each read model is live. Everything else of a generation lies in a file of its own, so
-- that a rebuild never touches what is being read, and dropping a generation is removing a file.
--
-- Undo: remove query.db and the folder query/; a projector makes both anew from the logs.

-- The pointer. A reader reads it in the statement that reads the rows.
create table read_models (
    name text primary key not null,
    live_generation integer,
    -- kept for going back; older ones are dropped at the next swap
    previous_generation integer,
    swapped_at_us integer not null
) strict, without rowid;

-- Every generation that there is.
create table generations (
    read_model text not null,
    generation integer not null,
    -- VERSION of the fold that makes it
    version integer not null,
    -- building: beside the live one; live; retired: was live; failed: not to be swapped in, and why
    state text not null check (state in ('building', 'live', 'retired', 'failed')),
    reason text,
    created_at_us integer not null,
    primary key (read_model, generation)
) strict, without rowid;
