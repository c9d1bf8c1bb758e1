-- Commits one command that appends one event: what there is while little goes on, when a caller waits for every
-- microsecond. Does what append_batch does with such a batch, without arrays, in half the time.
--
-- Answers the event's position, or null if anything is unusual (another version, a key that was used): then nothing is
-- written, and append_batch finds out what to answer.
-- Why so: a function with settings of its own pays for them at every call, the search_path most of all, because what was
-- looked up under the other one is looked up again. So this one has none, and refuses to run under another search_path;
-- what is looked up before that is certain (the types of variables too) is called by its full name.
-- Undo: drop function append_event; (append_batch does the same)

create function append_event(
    stream_type text, stream_id text, base int8,
    command_scope text, command_key text, command_fingerprint bytea, command_outcome text,
    new_event_id uuid, new_type text, new_version text, new_payload text, new_metadata text
) returns int8
language plpgsql volatile security definer
as $$
declare
    clock timestamp with time zone := pg_catalog.clock_timestamp();
    head public.log_head;
    writer pg_catalog.text;
begin
    if pg_catalog.current_setting('search_path') operator(pg_catalog.<>) 'public, pg_temp' then
        raise exception 'append_event needs the search_path public, pg_temp, not %',
            pg_catalog.current_setting('search_path') using errcode = '55000';
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'append_event needs read committed, not %', current_setting('transaction_isolation')
            using errcode = '25001';
    end if;

    -- what refuse_foreign_write asks for
    writer := set_config('tributary.writer', 'append', true);
    begin
        -- the head first, so that every statement behind sees all earlier batches
        update log_head
        set position = log_head.position + 1,
            recorded_at = greatest(clock, log_head.recorded_at),
            prev_hash = log_head.hash,
            hash = sha256(log_head.hash || convert_to(concat_ws(
                e'\x1f', log_head.position + 1, new_event_id, stream_type, stream_id, base + 1, new_type, new_version,
                new_payload, new_metadata, (extract(epoch from greatest(clock, log_head.recorded_at)) * 1000000)::int8
            ), 'UTF8'))
        where log_head.only_row
        returning * into strict head;

        insert into commands (scope, key, fingerprint, outcome, position, recorded_at)
        values (command_scope, command_key, command_fingerprint, command_outcome, head.position, head.recorded_at);

        -- the stream is at `base` if that is there and, which the primary key says, the next is not
        insert into events (position, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version,
            payload, metadata, recorded_at)
        select head.position, new_event_id, stream_type, stream_id, base + 1, new_type, new_version, new_payload::json,
            new_metadata::json, head.recorded_at
        where base = 0 or exists (
            select
            from events
            where events.aggregate_type = stream_type and events.aggregate_id = stream_id and events.sequence = base
        );
        if not found then
            raise unique_violation;
        end if;

        insert into batches (first, last, prev_hash, hash)
        values (head.position, head.position, head.prev_hash, head.hash);
    exception
        when unique_violation then return null;
    end;
    writer := set_config('tributary.writer', '', true);
    return head.position;
end
$$;

revoke execute on function append_event from public;
