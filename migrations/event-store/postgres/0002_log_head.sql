-- The head of the log: one row, locked by whoever appends before anything else is looked at.
--
-- Why so: a row lock gives back the positions of a transaction that rolls back, where a sequence leaves holes and
-- jumps after a crash. The row is rewritten by every batch, so its page is left nearly empty and it moves within it.
-- Undo: drop table log_head;

create table log_head (
    only_row    boolean not null default true,
    -- the service whose log this is: the source in feeds and tokens
    source      text collate "C" not null,
    -- the identity of this history
    epoch       uuid not null,
    -- of the last event; 0 = none
    position    bigint not null,
    -- of the last event; 1970 = none. Never runs backwards.
    recorded_at timestamptz not null,
    -- as `batches` has them of the last batch, so that appending needs no look-up; 32 zero bytes = none
    prev_hash   bytea not null default decode(repeat('00', 32), 'hex'),
    hash        bytea not null default decode(repeat('00', 32), 'hex'),
    constraint log_head_pkey primary key (only_row),
    constraint log_head_only_row_check check (only_row)
) with (fillfactor = 10);
