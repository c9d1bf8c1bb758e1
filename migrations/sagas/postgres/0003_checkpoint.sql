-- How far the sagas' own log is read; moves in the transaction that writes what it stands for.
--
-- Undo: drop table sagas.checkpoint;

create table sagas.checkpoint (
    source   text collate "C" primary key,
    -- identity of the log; the nil uuid before anything is known of it
    epoch    text not null,
    position bigint not null,
    -- the event at `position`; null only at 0
    event_id text
);
