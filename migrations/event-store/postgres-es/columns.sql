-- What the events of postgres-es lack of a log: a position, an id and a time. Those that are there are numbered: streams
-- side by side, each in its own order. postgres-es kept no other order, and no time, so all have that of the adoption.
-- Ids are of version 7, made of the time, so that those that come later lie behind them in the index.
--
-- Its statements name their columns, so further columns do not disturb it.
-- Undo: alter table events drop column position, drop column event_id, drop column recorded_at;

create function new_event_id(at timestamptz) returns uuid language sql volatile as $$
    select encode(
        set_bit(
            set_bit(
                overlay(
                    uuid_send(gen_random_uuid())
                    placing substring(int8send((extract(epoch from at) * 1000)::int8) from 3) from 1 for 6
                ),
                52, 1
            ),
            53, 1
        ),
        'hex'
    )::uuid
$$;

alter table events
    add column position bigint,
    add column event_id uuid,
    add column recorded_at timestamptz;

update events
set position = numbered.position, event_id = new_event_id(now()), recorded_at = now()
from (
    select ctid as place,
        row_number() over (order by sequence, aggregate_type collate "C", aggregate_id collate "C") as position
    from events
) as numbered
where events.ctid = numbered.place;

alter table events
    alter column position set not null,
    alter column event_id set not null,
    alter column recorded_at set not null,
    add constraint events_position_key unique (position),
    add constraint events_event_id_key unique (event_id);

comment on table events is 'append-only: written by postgres-es, numbered by adopt_event';
