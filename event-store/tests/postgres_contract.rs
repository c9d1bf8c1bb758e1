//! The log's contract on PostgreSQL: the service connects with a role that may read and append, nothing else.

use std::{
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use event_store::{
    log::EventLog,
    postgres::{PostgresLog, PostgresOptions},
};
use sqlx::{Connection, Executor, PgConnection};
use testkit::{
    log_contract::{LogHarness, TamperAttempt},
    pgbouncer::PgBouncer,
    postgres::{ThrowAwayPostgres, shared},
    proxy::FaultProxy,
};

/// Shared by all tests behind it.
static PGBOUNCER: LazyLock<Mutex<Option<PgBouncer>>> = LazyLock::new(Mutex::default);

struct Postgres {
    server: &'static ThrowAwayPostgres,
    /// Where the service connects to.
    port: u16,
    /// As superuser, who here is what an administrator is.
    admin_url: String,
    /// As the role of the service.
    url: String,
    role: String,
    copy: Mutex<Option<String>>,
    proxies: Mutex<Vec<FaultProxy>>,
}

impl Postgres {
    async fn new() -> Self {
        let server = shared().await;
        let admin_url = server.create_database("accounts").await.unwrap();
        let database = admin_url.split(['/', '?']).nth(3).unwrap().to_owned();
        let role = format!("{database}_service");
        server.execute("postgres", &format!("create role {role} login")).await.unwrap();
        PostgresLog::migrate(&admin_url, "accounts", Some(&role)).await.unwrap();
        let url = server.url_as(&role, &database);
        let port = server.port();
        Self { server, port, admin_url, url, role, copy: Mutex::default(), proxies: Mutex::default() }
    }

    /// The same log, whose service reaches it through PgBouncer and three connections of the server.
    async fn behind_pgbouncer() -> Self {
        let direct = Self::new().await;
        let port = {
            let mut started = PGBOUNCER.lock().unwrap();
            started.get_or_insert_with(|| PgBouncer::start(direct.server, 3).unwrap()).port()
        };
        // as `tributary migrate` gives it to a role of a service: what a client asks for, PgBouncer keeps to itself
        let settings = ["search_path = public, pg_temp", "max_parallel_workers_per_gather = 0", "jit = off"];
        for setting in settings {
            direct.server.execute("postgres", &format!("alter role {} set {setting}", direct.role)).await.unwrap();
        }
        let url = direct.url.replace(&format!(":{}/", direct.port), &format!(":{port}/"));
        Self { port, url, ..direct }
    }

    /// Whoever stands before the server keeps connections when all clients have gone.
    async fn end_connections(&self) {
        let database = self.admin_url.split(['/', '?']).nth(3).unwrap();
        let end = format!("select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{database}'");
        self.server.execute("postgres", &end).await.unwrap();
    }

    async fn connect(&self, url: &str) -> Arc<PostgresLog> {
        let options = PostgresOptions { migrate: false, ..PostgresOptions::default() };
        PostgresLog::connect(url, "accounts", options).await.unwrap()
    }

    async fn as_superuser(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.admin_url).await.unwrap();
        connection.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        connection.close().await.unwrap();
    }
}

#[async_trait]
impl LogHarness for Postgres {
    async fn open(&self) -> Arc<dyn EventLog> {
        self.connect(&self.url).await
    }

    async fn open_cut_after_commit(&self) -> Arc<dyn EventLog> {
        let proxy = FaultProxy::start(("127.0.0.1", self.port)).await.unwrap();
        let log = self.connect(&proxy.url_through(&self.url).unwrap()).await;
        // the laws' scope: it travels with the values
        proxy.cut_after_commit("contract");
        self.proxies.lock().unwrap().push(proxy);
        log
    }

    async fn turn_clock_back(&self, by: Duration) {
        // the head's time moves on, which is the same seen from the log
        let seconds = by.as_secs();
        self.as_superuser(&format!(
            "set session_replication_role = replica; alter table log_head disable trigger all; \
             update log_head set recorded_at = recorded_at + interval '{seconds} seconds'; \
             alter table log_head enable always trigger log_head_refuse_change; \
             alter table log_head enable always trigger log_head_refuse_foreign_write; \
             alter table log_head enable always trigger log_head_check_move"
        ))
        .await;
    }

    async fn let_time_pass(&self, by: Duration) -> DateTime<Utc> {
        let seconds = by.as_secs();
        self.as_superuser(&format!(
            "alter table commands disable trigger all; \
             update commands set recorded_at = recorded_at - interval '{seconds} seconds'; \
             alter table commands enable always trigger commands_refuse_change; \
             alter table commands enable always trigger commands_refuse_foreign_delete; \
             alter table commands enable always trigger commands_refuse_foreign_write"
        ))
        .await;
        Utc::now()
    }

    async fn back_up(&self) {
        self.end_connections().await;
        let copy = self.server.copy_database(&self.admin_url, "copy").await.unwrap();
        *self.copy.lock().unwrap() = Some(copy);
    }

    async fn restore(&self) {
        let copy = self.copy.lock().unwrap().clone().expect("backed up before");
        self.server.restore_database(&self.admin_url, &copy).await.unwrap();
    }

    async fn tamper_attempts(&self) -> Vec<TamperAttempt> {
        let mut statements: Vec<String> = [
            "insert into events select position + 100, gen_random_uuid(), aggregate_type, aggregate_id, \
             sequence + 100, event_type, event_version, payload, metadata, recorded_at from events",
            "insert into commands select scope, key || '-2', fingerprint, outcome, position, recorded_at from commands",
            "insert into batches select last + 1, last + 1, hash, hash from batches",
            "insert into claims values ('email', 'y', 'account', 'a')",
            "insert into events select * from events on conflict (position) do update set payload = '{}'",
            "merge into events using (values (1)) as one (n) on position = n when matched then delete",
            "update events set payload = '{}'",
            "update log_head set position = position + 1",
            "update log_head set position = position - 1",
            "update log_head set epoch = gen_random_uuid()",
            "update log_head set recorded_at = now() - interval '1 day'",
            "insert into log_head values (true, 'accounts', gen_random_uuid(), 0, now())",
            "update log_key set fingerprint_key = sha256('')",
            "update commands set outcome = '{}'",
            "update claims set aggregate_id = 'b'",
            "update batches set hash = prev_hash",
            // keys of today, by the function that forgets those of long ago
            "select forget_commands(now() + interval '1 hour', '', '', 1000)",
            "select forget_commands(now() - interval '22 hours', '', '', 1000)",
            "select forget_commands('infinity', '', '', 1000)",
            "select forget_commands(null, '', '', 1000)",
            "select forget_commands(now() - interval '2 days', '', '', null)",
            // under another search_path, where other things may have the names that it uses
            "set search_path = pg_temp, public; \
             select append_event('account', 'z', 0, 's', 'k', sha256(''), '{}', gen_random_uuid(), 'T', '1', '{}', '{}')",
        ]
        .map(str::to_owned)
        .to_vec();
        for table in ["events", "log_head", "log_key", "commands", "claims", "batches"] {
            statements.push(format!("delete from {table}"));
            statements.push(format!("truncate {table}"));
            statements.push(format!("truncate {table} cascade"));
        }
        // one event more or less than an item says would leave a hole
        for events in 0..=2 {
            if events != 1 {
                let item = |each: &str| vec![each; events].join(", ");
                statements.push(format!(
                    "select append_batch(array['account'], array['z'], array[0::int8], array[1], array[1], array['s'], \
                     array['k'], array[sha256('')], array['{{}}'], array[{}]::int4[], array[{}]::uuid[], \
                     array[{}]::text[], array[{}]::text[], array[{}]::text[], array[{}]::text[], \
                     '{{}}', '{{}}', '{{}}', '{{}}')",
                    item("1"),
                    item("gen_random_uuid()"),
                    item("'T'"),
                    item("'1'"),
                    item("'{}'"),
                    item("'{}'"),
                ));
            }
        }
        let mut attempts = Vec::new();
        for (who, url) in [("service", &self.url), ("owner", &self.admin_url)] {
            let mut connection = PgConnection::connect(url).await.unwrap();
            for mode in ["origin", "replica"] {
                let mode = format!("set session_replication_role = {mode}");
                let switched = connection.execute(sqlx::AssertSqlSafe(mode.clone())).await;
                assert_eq!(switched.is_ok(), who == "owner", "only a superuser switches triggers");
                for statement in &statements {
                    let result = connection.execute(sqlx::AssertSqlSafe(statement.clone())).await;
                    let statement = format!("{who}, {mode}: {statement}");
                    attempts.push(TamperAttempt { statement, result: result.map(drop).map_err(|e| e.to_string()) });
                }
            }
            connection.close().await.unwrap();
        }
        let mut service = PgConnection::connect(&self.url).await.unwrap();
        for statement in [
            "alter table events disable trigger all".to_owned(),
            // what the append functions say of themselves gives no right
            "set tributary.writer = 'append'; delete from commands".to_owned(),
            "set tributary.writer = 'append'; insert into batches values (1, 1, sha256(''), sha256(''))".to_owned(),
            "drop table events".to_owned(),
            "create or replace function refuse_change() returns trigger language plpgsql as 'begin return null; end'"
                .to_owned(),
            "create function public.sha256(text) returns bytea language sql as 'select null::bytea'".to_owned(),
            format!("set role {}_log_owner", self.role.trim_end_matches("_service")),
            "set session authorization postgres".to_owned(),
        ] {
            let result = service.execute(sqlx::AssertSqlSafe(statement.clone())).await;
            attempts.push(TamperAttempt { statement, result: result.map(drop).map_err(|error| error.to_string()) });
        }
        let messages: Vec<_> = attempts.iter().filter_map(|attempt| attempt.result.as_ref().err()).collect();
        assert!(messages.iter().all(|message| !message.contains("syntax")), "{messages:#?}");
        attempts
    }

    async fn tamper(&self, position: u64, payload: &str) {
        self.as_superuser(&format!(
            "alter table events disable trigger all; \
             update events set payload = '{payload}' where position = {position}; \
             alter table events enable always trigger events_refuse_change; \
             alter table events enable always trigger events_refuse_foreign_write"
        ))
        .await;
    }

    async fn open_transactions(&self) -> u64 {
        let mut connection = PgConnection::connect(&self.admin_url).await.unwrap();
        let query = "select count(*) from pg_stat_activity \
                     where datname = current_database() and state like 'idle in transaction%'";
        let open: i64 = sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap();
        open.try_into().unwrap()
    }
}

testkit::log_contract!(Postgres::new().await);

mod behind_pgbouncer {
    use super::*;

    testkit::log_contract!(Postgres::behind_pgbouncer().await);
}
