-- How far each feed is read; moves in the transaction that notes the duties.
--
-- Undo: drop table reactor.checkpoint;

create table reactor.checkpoint (
    source   text collate "C" primary key,
    -- identity of the log; the nil uuid before anything is known of it
    epoch    text not null,
    position bigint not null,
    -- the event at `position`; null only at 0
    event_id text
);
