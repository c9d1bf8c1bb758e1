-- The index of a service's sagas: apart from its log, and made anew from it if it is lost.
--
-- Undo: drop schema sagas cascade;

create schema if not exists sagas;
