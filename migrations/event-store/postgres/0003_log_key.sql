-- The key under which the fingerprints of commands are made: one row, the same for every replica of the service.
--
-- Why so: in a table of its own, so that a reader of the log need not be given it. 244 of its 256 bits are random.
-- Undo: drop table log_key; (stored fingerprints can then not be compared any more)

create table log_key (
    only_row        boolean not null default true,
    fingerprint_key bytea not null,
    constraint log_key_pkey primary key (only_row),
    constraint log_key_only_row_check check (only_row),
    constraint log_key_length_check check (length(fingerprint_key) = 32)
);

insert into log_key (fingerprint_key)
values (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));
