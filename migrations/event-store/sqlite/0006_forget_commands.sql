-- Commands may be forgotten, by the log alone: what was answered is kept for a time (see retention.rs), not for ever.
-- The function exists on the writer's connection alone: on any other the statement is refused before it starts.
-- undo: drop trigger commands_stay, and make the one of 0003_commands.sql again  (keys are then kept for ever)
drop trigger commands_stay;

create trigger commands_stay before delete on commands when not only_the_log_may_append()
begin
    select raise(abort, 'commands: only the log may forget');
end;
