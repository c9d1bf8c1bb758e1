-- Leaves the numbering to adopt_event, and chains hashes over the batches of what was there. Once, when a table is adopted.
--
-- Undo: make the trigger anew, as 0007_append_only.sql does; nothing can then be inserted but by append_batch.

drop trigger events_refuse_foreign_write on events;

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
