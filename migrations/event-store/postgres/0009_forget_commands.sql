-- Forgets what was answered to commands long ago: the one way out of `commands`, a slice of its key order at a time.
--
-- Why so: in key order there is no further index to pay for at every append, and a slice bounds what one call reads and
-- deletes. It does not take the head's lock, so commits go on beside it. SECURITY DEFINER, because the service's role
-- may not delete; so the function itself makes sure that it cannot be used to wipe keys that are still needed: 23 hours
-- are a day, less an hour for clocks that disagree.
-- Planner settings: as append_batch.
-- Undo: drop function forget_commands, refuse_foreign_delete cascade; and make the trigger of 0007 again.

create function refuse_foreign_delete() returns trigger language plpgsql as $$
begin
    if pg_catalog.current_setting('tributary.writer', true) is distinct from 'forget' then
        raise exception '% on % refused: only forget_commands deletes', tg_op, tg_table_name using errcode = '42501';
    end if;
    return null;
end
$$;

drop trigger commands_refuse_change on commands;
create trigger commands_refuse_change before update or truncate on commands
    for each statement execute function refuse_change();
create trigger commands_refuse_foreign_delete before delete on commands
    for each statement execute function refuse_foreign_delete();
alter table commands enable always trigger commands_refuse_change;
alter table commands enable always trigger commands_refuse_foreign_delete;

create function forget_commands(
    -- what was recorded before this is forgotten
    before timestamptz,
    -- the last key of the slice before this one; two empty texts stand before every key
    after_scope text, after_key text,
    -- keys that are looked at
    scan_limit int4,
    out forgotten int8,
    -- the last key of this slice; null once there are no more
    out next_scope text, out next_key text
)
language plpgsql volatile security definer
set search_path = public, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_bitmapscan = off
as $$
declare
    -- what refuse_foreign_delete asks for
    writer text := set_config('tributary.writer', 'forget', true);
begin
    if (before <= clock_timestamp() - interval '23 hours') is not true then
        raise exception 'forget_commands: keys are kept for a day at least' using errcode = '22023';
    end if;
    if (scan_limit between 1 and 10000) is not true then
        raise exception 'forget_commands: a slice has 1 to 10000 keys, not %', scan_limit using errcode = '22023';
    end if;

    with slice as materialized (
        select commands.scope, commands.key, commands.recorded_at
        from commands
        where (commands.scope, commands.key) > (after_scope, after_key)
        order by commands.scope, commands.key
        limit scan_limit
    ), gone as (
        delete from commands
        using slice
        where commands.scope = slice.scope and commands.key = slice.key and slice.recorded_at < before
        returning 1
    )
    -- there is no last one in a slice that is not full
    select (select count(*) from gone),
        (array_agg(slice.scope order by slice.scope, slice.key))[scan_limit],
        (array_agg(slice.key order by slice.scope, slice.key))[scan_limit]
    into forgotten, next_scope, next_key
    from slice;
    writer := set_config('tributary.writer', '', true);
end
$$;

revoke execute on function forget_commands from public;
