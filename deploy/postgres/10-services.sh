#!/bin/sh
# One database and one role for each service, in one PostgreSQL server (15 or newer).
#
# Why so: a service owns its database and can open no other, so nothing can come to depend on another service's tables.
# Runs as the superuser: by the image's entry point when the volume is new, or by hand against any server, with psql's
# own variables (PGHOST, PGPORT, PGUSER) and the passwords in TRIBUTARY_<SERVICE>_PASSWORD.
# Undo, for each service: drop database tributary_<service>; drop role tributary_<service>; (everything in it is lost)
set -eu

create() {
    service=$1
    password=$2
    connections_max=$3
    [ -n "$password" ] || { echo "the password of $service is empty" >&2; exit 1; }
    # the password reaches psql by its environment and never by an argument, which any process could read
    NAME="tributary_$service" PASSWORD="$password" CONNECTIONS_MAX="$connections_max" psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 \
        --username "${POSTGRES_USER:-${PGUSER:-postgres}}" --dbname postgres <<'SQL'
\getenv name NAME
\getenv password PASSWORD
\getenv connections_max CONNECTIONS_MAX
create role :"name" login password :'password' nosuperuser nocreatedb nocreaterole connection limit :connections_max;
create database :"name" owner :"name";
-- by default everybody may connect everywhere
revoke all on database :"name" from public;
alter role :"name" set idle_in_transaction_session_timeout = '60s';
SQL
}

# Connections: together within the server's max_connections, of which it keeps 3 (docker-compose.yml sets 200; by default it
# is 100), so that one service that leaks them starves no other. A service holds 8 at most, the checkout 10 (it lists its sagas
# besides), the query side 24; the rest is for a second process beside the first while it is replaced.
create users "${TRIBUTARY_USERS_PASSWORD:?}" 16
create catalog "${TRIBUTARY_CATALOG_PASSWORD:?}" 16
create inventory "${TRIBUTARY_INVENTORY_PASSWORD:?}" 16
create orders "${TRIBUTARY_ORDERS_PASSWORD:?}" 16
create payments "${TRIBUTARY_PAYMENTS_PASSWORD:?}" 16
create notifications "${TRIBUTARY_NOTIFICATIONS_PASSWORD:?}" 16
create shipping "${TRIBUTARY_SHIPPING_PASSWORD:?}" 16
create checkout "${TRIBUTARY_CHECKOUT_PASSWORD:?}" 20
create query "${TRIBUTARY_QUERY_PASSWORD:?}" 49
