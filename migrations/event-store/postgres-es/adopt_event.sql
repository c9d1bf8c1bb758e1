-- Numbers what postgres-es inserts, in its own transaction: takes the head of the log, so that positions are gapless and
-- in commit order, and chains a hash over each event, a batch of its own.
--
-- Run again when what was adopted is adopted once more: so a newer release replaces it.
--
-- Why so: a row trigger, because a column default is evaluated before it; SECURITY DEFINER, so that the service's role
-- needs no rights beyond those that it had. What does not continue its stream is told as postgres-es knows it, as a
-- duplicate key: it then decides anew. append_batch numbers by itself, so a service can move to it step by step.
-- Undo: drop function adopt_event, is_of_the_log cascade; drop function new_event_id;

create or replace function adopt_event() returns trigger language plpgsql volatile security definer
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
    -- ADOPTED_BYTES_MAX: a larger one would stop everybody who follows
    if octet_length(new.payload::text) + octet_length(new.metadata::text) > 3145728 then
        raise exception 'an event of more than 3 MiB (payload and metadata) is more than a feed carries'
            using errcode = '54000';
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

-- Whether a function of the log inserts, which numbers by itself: there the user is the one who owns it. That something is
-- written by it is said in a setting, which anybody can say who may insert.
create or replace function is_of_the_log() returns boolean language sql stable
set search_path = pg_catalog, pg_temp as $$
    select current_user = pg_get_userbyid(proowner) from pg_proc where oid = 'public.append_batch'::regproc
$$;

grant execute on function is_of_the_log to public;

create or replace trigger events_adopt before insert on events
    for each row when (current_setting('tributary.writer', true) is distinct from 'append' or not is_of_the_log())
    execute function adopt_event();
alter table events enable always trigger events_adopt;
