-- Append-only, enforced: also against the owner of the tables.
--
-- Why so: where one role owns and runs, privileges stop nothing. The triggers are ALWAYS, because plain ones are
-- skipped under session_replication_role = replica. They are per statement, so they cost nothing per event.
-- Restoring a dump works: pg_restore makes triggers after the rows.
-- Undo: drop function refuse_change, refuse_foreign_write, check_head_move cascade;

create function refuse_change() returns trigger language plpgsql
set search_path = public, pg_temp as $$
begin
    raise exception '% on % refused: the log is append-only', tg_op, tg_table_name using errcode = '42501';
end
$$;

-- append_batch and append_event are the only writers, and say so for as long as they run. Whoever owns the tables could
-- say so too, as they could drop this trigger: it stops mistakes, and privileges stop everybody else. Four of these run
-- per batch, so they do without a search_path of their own; asking the call stack instead costs 20 us each.
create function refuse_foreign_write() returns trigger language plpgsql as $$
begin
    if pg_catalog.current_setting('tributary.writer', true) is distinct from 'append' then
        raise exception '% on % refused: append_batch and append_event are the only writers', tg_op, tg_table_name
            using errcode = '42501';
    end if;
    return null;
end
$$;

-- Operators are named in full instead of setting a search_path, which costs more than all that is asked here.
create function check_head_move() returns trigger language plpgsql as $$
begin
    if new.source operator(pg_catalog.<>) old.source
        or new.epoch operator(pg_catalog.<>) old.epoch
        or new.position operator(pg_catalog.<=) old.position
        or new.recorded_at operator(pg_catalog.<) old.recorded_at
    then
        raise exception 'log_head moves forward only: % to % refused', old.position, new.position
            using errcode = '42501';
    end if;
    return null;
end
$$;

create trigger events_refuse_change before update or delete or truncate on events
    for each statement execute function refuse_change();
create trigger events_refuse_foreign_write before insert on events
    for each statement execute function refuse_foreign_write();

create trigger commands_refuse_change before update or delete or truncate on commands
    for each statement execute function refuse_change();
create trigger commands_refuse_foreign_write before insert on commands
    for each statement execute function refuse_foreign_write();

create trigger batches_refuse_change before update or delete or truncate on batches
    for each statement execute function refuse_change();
create trigger batches_refuse_foreign_write before insert on batches
    for each statement execute function refuse_foreign_write();

create trigger claims_refuse_truncate before truncate on claims
    for each statement execute function refuse_change();
create trigger claims_refuse_foreign_write before insert or update or delete on claims
    for each statement execute function refuse_foreign_write();

create trigger log_head_refuse_change before delete or truncate on log_head
    for each statement execute function refuse_change();
create trigger log_head_refuse_foreign_write before update on log_head
    for each statement execute function refuse_foreign_write();
create trigger log_head_check_move after update on log_head
    for each row execute function check_head_move();

create trigger log_key_refuse_change before insert or update or delete or truncate on log_key
    for each statement execute function refuse_change();

alter table events enable always trigger events_refuse_change;
alter table events enable always trigger events_refuse_foreign_write;
alter table commands enable always trigger commands_refuse_change;
alter table commands enable always trigger commands_refuse_foreign_write;
alter table batches enable always trigger batches_refuse_change;
alter table batches enable always trigger batches_refuse_foreign_write;
alter table claims enable always trigger claims_refuse_truncate;
alter table claims enable always trigger claims_refuse_foreign_write;
alter table log_head enable always trigger log_head_refuse_change;
alter table log_head enable always trigger log_head_refuse_foreign_write;
alter table log_head enable always trigger log_head_check_move;
alter table log_key enable always trigger log_key_refuse_change;
