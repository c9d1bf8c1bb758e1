-- Numbers what postgres-es inserts, in its own transaction: takes the head of the log, so that positions are gapless and
-- in commit order, and chains a hash over each event, a batch of its own.
--
-- Why so: a row trigger, because a column default is evaluated before it; SECURITY DEFINER, so that the service's role
-- needs no rights beyond those that it had. What does not continue its stream is told as postgres-es knows it, as a
-- duplicate key: it then decides anew. append_batch numbers by itself, so a service can move to it step by step.
-- Undo: drop function adopt_event cascade; drop function new_event_id;

create function adopt_event() returns trigger language plpgsql volatile security definer
set search_path = public, pg_temp as $$
declare
    clock constant timestamptz := clock_timestamp();
    head log_head;
    last_sequence int8;
    -- what refuse_foreign_write asks for
    writer text;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'adopt_event needs read committed, not %', current_setting('transaction_isolation')
            using errcode = '25001';
    end if;
    if json_typeof(new.metadata) <> 'object' then
        raise exception 'the metadata of an event is a JSON object, not %', json_typeof(new.metadata)
            using errcode = '23514';
    end if;
    new.event_id := new_event_id(clock);
    writer := set_config('tributary.writer', 'append', true);
    -- the head first, so that the statement behind sees all earlier events
    update log_head
    set position = log_head.position + 1,
        recorded_at = greatest(clock, log_head.recorded_at),
        prev_hash = log_head.hash,
        hash = sha256(log_head.hash || convert_to(concat_ws(
            e'\x1f', log_head.position + 1, new.event_id, new.aggregate_type, new.aggregate_id, new.sequence,
            new.event_type, new.event_version, new.payload::text, new.metadata::text,
            (extract(epoch from greatest(clock, log_head.recorded_at)) * 1000000)::int8
        ), 'UTF8'))
    where log_head.only_row
    returning * into strict head;
    select max(events.sequence) into last_sequence
    from events
    where events.aggregate_type = new.aggregate_type and events.aggregate_id = new.aggregate_id;
    if new.sequence <> coalesce(last_sequence, 0) + 1 then
        raise exception 'the next event of % % is %, not %', new.aggregate_type, new.aggregate_id,
            coalesce(last_sequence, 0) + 1, new.sequence using errcode = '23505';
    end if;
    insert into batches (first, last, prev_hash, hash)
    values (head.position, head.position, head.prev_hash, head.hash);
    writer := set_config('tributary.writer', '', true);
    new.position := head.position;
    new.recorded_at := head.recorded_at;
    return new;
end
$$;

revoke execute on function adopt_event from public;

drop trigger events_refuse_foreign_write on events;
create trigger events_adopt before insert on events
    for each row when (current_setting('tributary.writer', true) is distinct from 'append')
    execute function adopt_event();
alter table events enable always trigger events_adopt;

-- the hashes of what was there, in batches
do $$
declare
    batch_events constant int8 := 1000;
    head log_head;
    total int8;
    first_position int8;
    last_position int8;
    records text;
    chained bytea;
    writer text := set_config('tributary.writer', 'append', true);
begin
    select max(position) into total from events;
    select * into strict head from log_head for update;
    for first_position in select generate_series(1, total, batch_events) loop
        last_position := least(first_position + batch_events - 1, total);
        select string_agg(
            concat_ws(
                e'\x1f', position, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version,
                payload::text, metadata::text, (extract(epoch from recorded_at) * 1000000)::int8
            ),
            e'\x1e' order by position
        )
        into records
        from events
        where position between first_position and last_position;
        chained := sha256(head.hash || convert_to(records, 'UTF8'));
        insert into batches (first, last, prev_hash, hash) values (first_position, last_position, head.hash, chained);
        head.prev_hash := head.hash;
        head.hash := chained;
    end loop;
    if total > 0 then
        update log_head set position = total, recorded_at = now(), prev_hash = head.prev_hash, hash = head.hash;
    end if;
    writer := set_config('tributary.writer', '', true);
end
$$;
