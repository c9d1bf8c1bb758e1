-- How far the sagas' own log is read; moves in the transaction that writes what it stands for.
-- undo: drop table checkpoint;
create table checkpoint (
    source text not null primary key,
    -- identity of the log; the nil uuid before anything is known of it
    epoch text not null,
    position integer not null,
    -- the event at `position`; null only at 0
    event_id text
) strict, without rowid;
