-- Unique names within the service (an e-mail address, a sku), each held by one stream. Taken and given back in the
-- transaction of the events that say so.
-- undo: drop table claims;  (names would no longer be unique)
create table claims (
    -- what kind of name
    name text not null,
    -- the name itself, in the form in which it is unique
    value text not null,
    aggregate_type text not null,
    aggregate_id text not null,
    primary key (name, value)
) strict, without rowid;
