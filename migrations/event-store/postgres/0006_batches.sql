-- The hash chain over what was committed together: what triggers cannot stop (a superuser), this shows.
--
-- hash = sha256(prev_hash || records of the events first..last); the first prev_hash is 32 zero bytes. One digest per
-- batch costs nothing that can be measured, one per event cost 20 %.
-- Undo: drop table batches;

create table batches (
    first     bigint not null,
    last      bigint not null,
    prev_hash bytea not null,
    hash      bytea not null,
    constraint batches_pkey primary key (last),
    constraint batches_first_key unique (first),
    constraint batches_range_check check (first <= last),
    constraint batches_length_check check (length(prev_hash) = 32 and length(hash) = 32)
);
