-- The orders service's copy of what other services say: apart from its log, and read anew from the feeds if it is lost.
--
-- Undo: drop schema replica cascade;

create schema if not exists replica;
