-- Of which type an event is that cannot be folded.
--
-- Undo: nothing; older versions leave the columns null.

alter table parked_streams add column event_type text;
alter table parked_streams add column event_version text;
