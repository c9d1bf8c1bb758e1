-- Commits a batch of items, and answers item by item: the way into the log, in one round trip. append_event is its short
-- form for a single event.
--
-- Why so: VOLATILE, so every statement sees what was committed before it started; the head is locked first, in a
-- statement of its own, so everything behind sees all earlier batches. READ COMMITTED only, for the same reason.
-- Everything is set-based: a loop over events halves the throughput. Positions, sequences and times are made here and
-- the counts are checked, so that no caller can leave a hole.
-- A batch is chains (one stream each, decided on `bases` = the version its head expects), items in chain order, events
-- and claims in item order, as parallel arrays; `*_chains` and `*_items` say where an element belongs, from 1.
-- Planner settings: plans are made once, also on empty tables, and must stay right when these grow, so index look-ups
-- are the only joins that are offered.
-- Undo: drop function append_batch;

create function append_batch(
    -- one element per chain
    aggregate_types text[], aggregate_ids text[], bases int8[],
    -- one element per item
    item_chains int4[], event_counts int4[], scopes text[], keys text[], fingerprints bytea[], outcomes text[],
    -- one element per event
    event_items int4[], event_ids uuid[], event_types text[], event_versions text[], payloads text[], metadatas text[],
    -- one element per claim; takes = false releases
    claim_items int4[], claim_takes boolean[], claim_names text[], claim_values text[],
    -- one element per item. statuses: 0 applied, 1 duplicate, 2 conflict, 3 taken
    out statuses int2[],
    -- applied: the stream's version after it; else: the stream's version after this batch
    out versions int8[],
    -- applied: position of the stream's last event
    out positions int8[],
    -- taken: which of all claims (from 1); null without claims
    out taken int4[],
    -- one element per duplicate, null without any: which item, and what is stored
    out stored_items int4[], out stored_fingerprints bytea[], out stored_outcomes text[],
    out stored_positions int8[], out stored_event_ids uuid[]
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
    items constant int4 := cardinality(item_chains);
    head log_head;
    recorded timestamptz;
    recorded_us int8;
    -- by chain: the stream's version, and the position of its last event
    actuals int8[];
    last_positions int8[];
    held record;
    item int4;
    chain int4;
    version int8;
    latest_position int8;
    -- whether the chain was applied so far
    goes_on boolean;
    -- items that are applied, and their events
    applied int4 := 0;
    appended int8 := 0;
    -- which events, in order
    accepted int4[];
    is_sound boolean;
    records text;
    chained bytea;
    -- what refuse_foreign_write asks for
    writer text := set_config('tributary.writer', 'append', true);
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'append_batch needs read committed, not %', current_setting('transaction_isolation')
            using errcode = '25001';
    end if;

    select * into head from log_head for update;
    if not found then
        raise exception 'log_head is empty: this is not a log' using errcode = '55000';
    end if;
    recorded := greatest(clock_timestamp(), head.recorded_at);
    recorded_us := extract(epoch from recorded) * 1000000;

    select array_agg(coalesce(latest.sequence, 0)), array_agg(coalesce(latest.position, 0))
    into actuals, last_positions
    from generate_series(1, cardinality(bases)) as n
    left join lateral (
        select events.sequence, events.position
        from events
        where events.aggregate_type = aggregate_types[n] and events.aggregate_id = aggregate_ids[n]
        order by events.sequence desc
        limit 1
    ) as latest on true;

    -- which keys were used before, and what was answered
    select array_agg(n), array_agg(stored.fingerprint), array_agg(stored.outcome), array_agg(stored.position),
        array_agg(latest.event_id)
    into stored_items, stored_fingerprints, stored_outcomes, stored_positions, stored_event_ids
    from generate_series(1, items) as n
    join commands as stored on stored.scope = scopes[n] and stored.key = keys[n]
    left join events as latest on latest.position = stored.position;

    statuses := array_fill(0::int2, array[items]);
    versions := array_fill(0::int8, array[items]);
    positions := versions;

    -- which items ask for a name that another stream holds
    if cardinality(claim_items) > 0 then
        taken := array_fill(null::int4, array[items]);
        for held in
            select asked.item, min(asked.n)::int4 as n
            from unnest(claim_items, claim_takes, claim_names, claim_values)
                with ordinality as asked (item, take, name, value, n)
            join claims on claims.name = asked.name and claims.value = asked.value
            where asked.take
                and (claims.aggregate_type <> aggregate_types[item_chains[asked.item]]
                    or claims.aggregate_id <> aggregate_ids[item_chains[asked.item]])
            group by asked.item
        loop
            statuses[held.item] := 3;
            taken[held.item] := held.n;
        end loop;
    end if;
    if stored_items is not null then
        foreach item in array stored_items loop
            statuses[item] := 1;
        end loop;
    end if;

    -- what becomes of each item: duplicate before conflict before taken. A chain is applied up to its first item that
    -- is not. This loop does integer arithmetic and no SQL; window functions take twice as long.
    for item in 1..items loop
        if chain is distinct from item_chains[item] then
            if item_chains[item] is null or item_chains[item] < chain then
                raise exception 'append_batch: items are not in the order of their chains' using errcode = '22023';
            end if;
            chain := item_chains[item];
            version := actuals[chain];
            latest_position := last_positions[chain];
            goes_on := version = bases[chain];
        end if;
        if goes_on and statuses[item] = 0 then
            applied := applied + 1;
            if event_counts[item] > 0 then
                version := version + event_counts[item];
                appended := appended + event_counts[item];
                latest_position := head.position + appended;
            end if;
        else
            if not goes_on and statuses[item] <> 1 then
                statuses[item] := 2;
            end if;
            goes_on := false;
        end if;
        versions[item] := version;
        positions[item] := latest_position;
    end loop;

    if appended > 0 then
        if applied = items then
            select array_agg(n) into accepted from generate_series(1, cardinality(event_items)) as n;
        else
            select array_agg(n) into accepted
            from generate_series(1, cardinality(event_items)) as n
            where statuses[event_items[n]] = 0;
        end if;
        insert into events (position, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version,
            payload, metadata, recorded_at)
        select head.position + place, event_ids[n], aggregate_types[item_chains[event_items[n]]],
            aggregate_ids[item_chains[event_items[n]]],
            versions[event_items[n]] - positions[event_items[n]] + head.position + place,
            event_types[n], event_versions[n], payloads[n]::json, metadatas[n]::json, recorded
        from unnest(accepted) with ordinality as event (n, place);

        -- each event stands at the positions of its item, and there are as many as the items say
        select bool_and(
                positions[event_items[n]] - head.position - place between 0 and event_counts[event_items[n]] - 1
            ),
            string_agg(
                concat_ws(
                    e'\x1f', head.position + place, event_ids[n], aggregate_types[item_chains[event_items[n]]],
                    aggregate_ids[item_chains[event_items[n]]],
                    versions[event_items[n]] - positions[event_items[n]] + head.position + place,
                    event_types[n], event_versions[n], payloads[n], metadatas[n], recorded_us
                ),
                e'\x1e'
            )
        into is_sound, records
        from unnest(accepted) with ordinality as event (n, place);
        if is_sound is not true or cardinality(accepted) <> appended then
            raise exception 'append_batch: the counts of events are not those of the items' using errcode = '22023';
        end if;

        chained := sha256(head.hash || convert_to(records, 'UTF8'));
        insert into batches (first, last, prev_hash, hash)
        values (head.position + 1, head.position + appended, head.hash, chained);
        update log_head
        set position = head.position + appended, recorded_at = recorded, prev_hash = head.hash, hash = chained;
    end if;

    if applied > 0 then
        insert into commands (scope, key, fingerprint, outcome, position, recorded_at)
        select scopes[n], keys[n], fingerprints[n], outcomes[n], positions[n], recorded
        from generate_series(1, items) as n
        where statuses[n] = 0;

        -- a name stands once in a batch, so the order of releases and takes is no matter
        if cardinality(claim_items) > 0 then
            delete from claims
            using unnest(claim_items, claim_takes, claim_names, claim_values) as given (item, take, name, value)
            where claims.name = given.name and claims.value = given.value
                and not given.take and statuses[given.item] = 0
                and claims.aggregate_type = aggregate_types[item_chains[given.item]]
                and claims.aggregate_id = aggregate_ids[item_chains[given.item]];
            insert into claims (name, value, aggregate_type, aggregate_id)
            select asked.name, asked.value, aggregate_types[item_chains[asked.item]],
                aggregate_ids[item_chains[asked.item]]
            from unnest(claim_items, claim_takes, claim_names, claim_values) as asked (item, take, name, value)
            where asked.take and statuses[asked.item] = 0
            on conflict do nothing;
        end if;
    end if;
    writer := set_config('tributary.writer', '', true);
end
$$;

revoke execute on function append_batch from public;
