-- Names that one stream holds at a time within this log: an e-mail address, a sku.
--
-- Undo: drop table claims;

create table claims (
    name           text collate "C" not null,
    value          text collate "C" not null,
    aggregate_type text collate "C" not null,
    aggregate_id   text collate "C" not null,
    constraint claims_pkey primary key (name, value)
);
