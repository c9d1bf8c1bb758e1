-- The head of the log: who it is, and where the next event goes. One row, made with the file.
-- It is read inside the appending transaction, under SQLite's one write lock, so positions are gapless and in commit
-- order, and time never runs backwards.
-- undo: drop table log_head;  (only together with the whole file: a log without its epoch is another log)
create table log_head (
    id integer primary key check (id = 1),
    -- the service
    source text not null,
    -- uuid: the identity of this log's history
    epoch blob not null check (length(epoch) = 16),
    -- keys the fingerprints in `commands`
    fingerprint_key blob not null check (length(fingerprint_key) = 32),
    -- of the last event; 0 = none
    position integer not null,
    -- of the last event; 0 = none
    recorded_at_us integer not null,
    -- 1 within a transaction of the log's own writer and never in what is committed: the insert triggers of events and
    -- commands ask for it
    appending integer not null default 0 check (appending in (0, 1))
) strict;

create trigger log_head_is_one before insert on log_head when exists (select 1 from log_head)
begin
    select raise(abort, 'log_head: there is one head');
end;

create trigger log_head_moves_forward before update on log_head
when new.id is not old.id
    or new.source is not old.source
    or new.epoch is not old.epoch
    or new.fingerprint_key is not old.fingerprint_key
    or new.position < old.position
    or new.recorded_at_us < old.recorded_at_us
    or (new.position = old.position and new.recorded_at_us is not old.recorded_at_us)
begin
    select raise(abort, 'log_head: it moves forward, and nothing else');
end;

-- The function exists on the writer's connection alone: on any other the statement is refused before it starts.
create trigger log_head_is_opened_by_the_log before update of appending on log_head
when new.appending is not 0 and not only_the_log_may_append()
begin
    select raise(abort, 'log_head: only the log may append');
end;

-- Every event behind the old head stands at the next position, and continues its stream. `not indexed` leaves the way
-- by position, from the old head on; by itself SQLite would walk a whole index, because it is narrower than the table.
create trigger log_head_moves_over_events before update on log_head
when new.position is not old.position and (
    new.position is not (select max(position) from events)
    or new.position - old.position is not (select count(*) from events not indexed where position > old.position)
    or exists (
        select 1 from events as added not indexed
        where added.position > old.position and added.sequence is not 1 and not exists (
            select 1 from events as before
            where before.aggregate_type = added.aggregate_type
                and before.aggregate_id = added.aggregate_id
                and before.sequence = added.sequence - 1
        )
    )
)
begin
    select raise(abort, 'log_head: the events behind it do not continue the log and their streams');
end;

create trigger log_head_stays before delete on log_head
begin
    select raise(abort, 'log_head: append only');
end;
