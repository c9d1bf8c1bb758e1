-- A hash over each transaction's events, chained to the one before: it shows what triggers cannot stop.
-- undo: drop table batches;  (tampering could no longer be shown)
create table batches (
    -- positions of the transaction's first and last event
    first integer primary key,
    last integer not null,
    -- 32 zero bytes for the first batch
    prev_hash blob not null check (length(prev_hash) = 32),
    hash blob not null check (length(hash) = 32)
) strict;

create trigger batches_append before insert on batches
when new.first is not 1 + coalesce((select last from batches order by first desc limit 1), 0)
    or new.last < new.first
    or new.prev_hash is not coalesce((select hash from batches order by first desc limit 1), zeroblob(32))
begin
    select raise(abort, 'batches: append only, one behind the other');
end;

create trigger batches_unchanged before update on batches
begin
    select raise(abort, 'batches: append only');
end;

create trigger batches_stay before delete on batches
begin
    select raise(abort, 'batches: append only');
end;
