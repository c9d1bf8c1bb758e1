-- What was answered to each command, under its idempotency key.
--
-- `outcome` is text: it is given again byte for byte and never looked into. `position` is that of the stream's last
-- event when the answer was stored; 0 = the stream was empty.
-- Undo: drop table commands; (commands sent again are then decided again)

create table commands (
    scope       text collate "C" not null,
    key         text collate "C" not null,
    fingerprint bytea not null,
    outcome     text not null,
    position    bigint not null,
    recorded_at timestamptz not null,
    constraint commands_pkey primary key (scope, key)
);
