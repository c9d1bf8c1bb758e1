-- What was answered to a command, by its idempotency key, so that it has one effect and one answer.
-- undo: drop table commands;  (retries of earlier commands would then take effect again)
create table commands (
    -- service, principal and route in one text
    scope text not null,
    key text not null,
    -- keyed hash of route and body
    fingerprint blob not null,
    -- json text of the answer
    outcome text not null,
    -- of the stream's last event when this was stored; 0 = none
    position integer not null,
    recorded_at_us integer not null
) strict;

create unique index commands_by_key on commands (scope, key);

-- as on events
create trigger commands_append before insert on commands when (select appending from log_head) is not 1
begin
    select raise(fail, 'commands: append only, through the log');
end;

create trigger commands_unchanged before update on commands
begin
    select raise(abort, 'commands: append only');
end;

create trigger commands_stay before delete on commands
begin
    select raise(abort, 'commands: append only');
end;
