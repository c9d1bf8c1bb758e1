-- The hash chain over what was committed together: what triggers cannot stop (a superuser), this shows.
--
-- hash = sha256(prev_hash || records of the events first..last); the first prev_hash is 32 zero bytes. One digest per
-- batch costs nothing that can be measured, one per event cost 20 %. Without check constraints and with one index: both
-- would be paid for at every append, and what they could say is what verify-chain looks at anyway.
-- Undo: drop table batches;

create table batches (
    first     bigint not null,
    last      bigint not null,
    prev_hash bytea not null,
    hash      bytea not null,
    constraint batches_pkey primary key (last)
);
