-- What a service's reactor has read of feeds and still has to do, apart from the service's log.
--
-- Undo: drop schema reactor cascade;

create schema if not exists reactor;
