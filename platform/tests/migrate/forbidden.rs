//! Every role tries everything that it may not do.

use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};

use crate::{
    common::{databases, text},
    place::{Place, group_of},
};

const INSUFFICIENT_PRIVILEGE: &str = "42501";
const WRONG_ISOLATION: &str = "25001";

/// Nobody whom a process logs in as may do this.
const NOBODY: [&str; 26] = [
    // be somebody else
    "set role postgres",
    "set role tributary_users_owner",
    "set role tributary_query_owner",
    "set session authorization postgres",
    "alter role tributary_users_a superuser",
    "alter role postgres password 'x'",
    "create role intruder login",
    "grant tributary_users_owner to tributary_users_a",
    "grant pg_read_server_files to tributary_users_a",
    // get triggers out of the way
    "set session_replication_role = replica",
    // leave the database
    "alter database tributary_users rename to other",
    "alter database tributary_query set statement_timeout = 0",
    "select pg_read_file('/etc/passwd')",
    "select pg_ls_dir('.')",
    "select lo_import('/etc/passwd')",
    "copy (select 1) to '/tmp/intruder'",
    "copy (select 1) to program 'true'",
    "do $$ begin execute 'copy pg_class from program ''true'''; end $$",
    "select rolpassword from pg_authid",
    "select pg_reload_conf()",
    "create publication everything for all tables",
    // make something of its own
    "create schema other",
    "create temporary table other (n int)",
    "create function pg_catalog.length(text) returns int language sql as 'select 1'",
    "create language other handler plpgsql_call_handler",
    "create event trigger other on ddl_command_start execute function pg_catalog.suppress_redundant_updates_trigger()",
];

/// Nor this, which is refused for another reason inside of a transaction.
const NOBODY_ALONE: [&str; 3] =
    ["alter system set session_replication_role = 'replica'", "create database other", "drop database tributary_users"];

/// What an owner could do with a table.
const DEFINITIONS: [&str; 10] = [
    "drop table {t}",
    "drop table {t} cascade",
    "alter table {t} disable trigger all",
    "alter table {t} add column other int",
    "alter table {t} owner to current_user",
    "alter table {t} set unlogged",
    "create index on {t} ((1))",
    "create rule other as on insert to {t} do instead nothing",
    "create trigger other before insert on {t} execute function pg_catalog.suppress_redundant_updates_trigger()",
    "truncate {t} cascade",
];

const CHANGES: [&str; 5] = [
    "insert into {t} select * from {t}",
    "update {t} set {c} = {c}",
    "delete from {t}",
    "select 1 from {t} for update",
    "lock table {t} in access exclusive mode",
];

const APPEND: &str = "select append_batch(array['t'], array['i'], array[0::int8], array[1], array[0], array['s'], \
    array['k'], array[sha256('')], array['{}'], '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')";

/// A table and one of its columns.
type Table = (&'static str, &'static str);

const LOG: [Table; 7] = [
    ("events", "payload"),
    ("log_head", "position"),
    ("log_key", "fingerprint_key"),
    ("commands", "outcome"),
    ("claims", "value"),
    ("batches", "hash"),
    ("log_migrations", "name"),
];
const BESIDE: [Table; 3] = [("snapshots", "state"), ("subject_keys", "key"), ("erasures", "position")];

fn on(tables: &[Table], templates: &[&str]) -> Vec<String> {
    let of = |&(table, column): &Table| {
        templates.iter().map(move |template| template.replace("{t}", table).replace("{c}", column))
    };
    tables.iter().flat_map(of).collect()
}

/// Tries the statements, each in a transaction of its own, and what nobody may; says which did not fail as they must.
async fn tried(connection: &mut PgConnection, role: &str, statements: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut judge = |statement: String, result: Result<(), sqlx::Error>| {
        let refused = result.as_ref().err().and_then(|error| error.as_database_error());
        if refused.and_then(|error| error.code()).as_deref() != Some(INSUFFICIENT_PRIVILEGE) {
            wrong.push(format!("{role}: {statement}: {result:?}"));
        }
    };
    for statement in NOBODY.map(str::to_owned).into_iter().chain(statements) {
        let mut transaction = connection.begin().await.unwrap();
        let result = raw_sql(AssertSqlSafe(statement.clone())).execute(&mut *transaction).await;
        transaction.rollback().await.unwrap();
        judge(statement, result.map(drop));
    }
    for statement in NOBODY_ALONE {
        judge(statement.to_owned(), raw_sql(statement).execute(&mut *connection).await.map(drop));
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn no_role_does_what_it_may_not() {
    let place = Place::migrated().await;
    let mut wrong = Vec::new();
    for service in databases().filter(|name| *name != "query") {
        let role = format!("tributary_{service}_a");
        let another = if service == "users" { "orders" } else { "users" };
        let mut connection = PgConnection::connect(&place.url(&role, service)).await.unwrap();
        let mut statements = vec!["create table other (n int)".to_owned()];
        statements.push("create function sha256(text) returns bytea language sql as 'select null::bytea'".to_owned());
        statements.push(format!("set role tributary_{another}"));
        statements.push("drop function append_batch".to_owned());
        statements.push("alter function append_batch security invoker".to_owned());
        statements.push(
            "create or replace function refuse_change() returns trigger language plpgsql as 'begin return null; end'"
                .to_owned(),
        );
        statements.extend(on(&LOG, &CHANGES));
        statements.extend(on(&LOG, &DEFINITIONS));
        statements.extend(on(&BESIDE, &DEFINITIONS));
        // what the append functions say of themselves gives no right
        statements
            .extend(on(&LOG, &CHANGES).iter().map(|change| format!("set local tributary.writer = 'append'; {change}")));
        for schema in write_side::register::find(service).unwrap().schemas {
            let tables: Vec<String> =
                ["fence", "checkpoint", "migrations"].iter().map(|table| format!("{}.{table}", schema.name)).collect();
            let on_each =
                |template: &&str| tables.iter().map(|table| template.replace("{t}", table)).collect::<Vec<_>>();
            statements.extend(DEFINITIONS.iter().flat_map(on_each));
            statements.push(format!("create table {}.other (n int)", schema.name));
            statements.push(format!("drop schema {} cascade", schema.name));
            statements.push(format!("delete from {}.migrations", schema.name));
        }
        wrong.extend(tried(&mut connection, &role, statements).await);

        // and what it may do, it may do in one isolation level only
        for level in ["repeatable read", "serializable"] {
            let begin = format!("begin isolation level {level}; {APPEND}");
            let refused = raw_sql(AssertSqlSafe(begin)).execute(&mut connection).await.unwrap_err();
            assert_eq!(refused.as_database_error().unwrap().code().unwrap(), WRONG_ISOLATION, "{role}: {refused}");
            raw_sql("rollback").execute(&mut connection).await.unwrap();
        }
        raw_sql(APPEND).execute(&mut connection).await.unwrap();
    }

    let everything =
        [("read_models", "name"), ("checkpoints", "position"), ("leases", "holder"), ("rebuilds", "phase")];
    let migrations = [("_sqlx_migrations", "description")];
    let generation = [("order_details_g7", "n")];
    let mut projector = PgConnection::connect(&place.url("tributary_projector_a", "query")).await.unwrap();
    raw_sql("create table order_details_g7 (n int)").execute(&mut projector).await.unwrap();
    let mut statements = on(&everything, &DEFINITIONS);
    statements.extend(on(&migrations, &DEFINITIONS));
    statements.extend(on(&migrations, &CHANGES));
    wrong.extend(tried(&mut projector, "projector", statements).await);

    let mut reader = PgConnection::connect(&place.url("tributary_graphql_a", "query")).await.unwrap();
    // that is a habit of its and no wall
    raw_sql("set default_transaction_read_only = off").execute(&mut reader).await.unwrap();
    sqlx::query("select * from order_details_g7").fetch_all(&mut reader).await.unwrap();
    let mut statements = on(&everything, &[&CHANGES[..], &DEFINITIONS].concat());
    statements.extend(on(&generation, &[&CHANGES[..], &DEFINITIONS].concat()));
    statements.push("set role tributary_projector".to_owned());
    statements.push("create table other_g1 (n int)".to_owned());
    statements.push("select * from _sqlx_migrations".to_owned());
    wrong.extend(tried(&mut reader, "graphql", statements).await);
    assert!(wrong.is_empty(), "{} statements went through or failed otherwise:\n{}", wrong.len(), wrong.join("\n"));

    // a grant that gives nothing is a warning and no error
    raw_sql("drop table order_details_g7").execute(&mut projector).await.unwrap();
    assert_eq!(text(&place.migrate(&["--check"]).await), "nothing to do\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_opens_its_own_database_and_no_other() {
    let place = Place::migrated().await;
    let groups = databases().map(group_of).chain(["tributary_graphql".to_owned()]);
    for group in groups {
        let own = match group.trim_start_matches("tributary_") {
            "projector" | "graphql" => "query",
            service => service,
        }
        .to_owned();
        let role = format!("{group}_a");
        for database in databases() {
            let connected = PgConnection::connect(&place.url(&role, database)).await;
            match connected {
                Ok(_) => assert_eq!(own, database, "{role}"),
                Err(error) => {
                    let code = error.as_database_error().and_then(|error| error.code()).map(String::from);
                    assert_eq!(code.as_deref(), Some(INSUFFICIENT_PRIVILEGE), "{role} on {database}: {error}");
                    assert_ne!(own, database, "{role}: {error}");
                }
            }
        }
    }
    let logging_in =
        "select count(*) from pg_roles where rolname like 'tributary%' and rolcanlogin and rolname !~ '_[ab]$'";
    assert_eq!(place.count(logging_in).await, 0, "nobody logs in as an owner or a group");
}

/// What a session is bound by that asks for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_asks_for_nothing_has_its_bounds() {
    let place = Place::migrated().await;
    for (role, database, statement, lock) in [
        ("tributary_orders_a", "orders", "1min", "10s"),
        ("tributary_projector_a", "query", "1h", "1min"),
        ("tributary_graphql_a", "query", "1min", "10s"),
    ] {
        let mut connection = PgConnection::connect(&place.url(role, database)).await.unwrap();
        for (setting, wanted) in
            [("statement_timeout", statement), ("lock_timeout", lock), ("idle_in_transaction_session_timeout", "1min")]
        {
            let show = AssertSqlSafe(format!("show {setting}"));
            let found: String = sqlx::query_scalar(show).fetch_one(&mut connection).await.unwrap();
            assert_eq!(found, wanted, "{role}: {setting}");
        }
    }
    let unbounded =
        "select count(*) from pg_roles where rolname like 'tributary%' and rolcanlogin and rolconnlimit < 1";
    assert_eq!(place.count(unbounded).await, 0);
}
