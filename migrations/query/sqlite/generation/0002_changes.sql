-- Which rows of the generation changed while it was live, in the order of the transactions that changed them: written
-- in those transactions, kept for a day, read by live queries.
--
-- Undo: drop it; whoever follows the changes reads everything anew.
create table changes (
    read_model text not null,
    generation integer not null,
    -- from 1, gapless within the generation: it has one writer
    seq integer not null,
    -- of the row; null: any of them may have changed, because the generation went on while it was not live
    key text,
    changed_at_us integer not null,
    primary key (read_model, generation, seq)
) strict, without rowid;
