//! A server that asks for passwords, and a folder with the passwords.
#![allow(dead_code, reason = "every test uses its own part of this")]

use std::{collections::BTreeMap, fs, path::PathBuf, process::Output, sync::Arc};

use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};
use tempfile::TempDir;
use testkit::postgres::{Settings, ThrowAwayPostgres};

use crate::common::{Home, databases, text, tributary};

pub struct Place {
    pub server: ThrowAwayPostgres,
    secrets: TempDir,
}

/// The group of roles that a process logs in with, by its database.
pub fn group_of(database: &str) -> String {
    if database == "query" { "tributary_projector".to_owned() } else { format!("tributary_{database}") }
}

/// With a quote, so that a password is never part of a statement's text.
fn password(role: &str) -> String {
    format!("it's {role}")
}

impl Place {
    pub async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Self {
        let server = ThrowAwayPostgres::start_with(settings).await.unwrap();
        let rules = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        fs::write(server.data().join("pg_hba.conf"), rules).unwrap();
        server.execute("postgres", "select pg_reload_conf()").await.unwrap();
        let secrets = tempfile::tempdir().unwrap();
        for group in databases().map(group_of).chain(["tributary_graphql".to_owned()]) {
            let role = format!("{group}_a");
            fs::write(secrets.path().join(&role), format!("{}\n", password(&role))).unwrap();
        }
        Self { server, secrets }
    }

    /// With everything made.
    pub async fn migrated() -> Self {
        let place = Self::new().await;
        let made = place.migrate(&[]).await;
        assert!(made.status.success(), "{}", text(&made));
        place
    }

    pub fn admin_url(&self) -> String {
        self.server.url("postgres")
    }

    pub fn secrets(&self) -> String {
        self.secrets.path().display().to_string()
    }

    pub fn secret(&self, role: &str) -> PathBuf {
        self.secrets.path().join(role)
    }

    /// Runs the command to its end.
    pub async fn migrate(&self, arguments: &[&str]) -> Output {
        let (url, secrets) = (self.admin_url(), self.secrets());
        let all = [&["migrate", "--admin-url", &url, "--secrets-dir", &secrets], arguments].concat();
        tributary(&all).await
    }

    /// A URL with the role's password in it.
    pub fn url(&self, role: &str, database: &str) -> String {
        let password = fs::read_to_string(self.secret(role)).unwrap();
        let password = password.trim_end().replace(' ', "%20");
        self.server.url_as(&format!("{role}:{password}"), &format!("tributary_{database}"))
    }

    /// A platform that logs in with the first of each two roles.
    pub fn home(&self) -> Home {
        let urls = databases().map(|name| (name, self.url(&format!("{}_a", group_of(name)), name)));
        Home::Postgres { urls: urls.collect::<BTreeMap<_, _>>(), folder: Arc::new(tempfile::tempdir().unwrap()) }
    }

    pub async fn as_superuser(&self, database: &str, statements: &str) {
        let mut connection = PgConnection::connect(&self.server.url(database)).await.unwrap();
        let done = raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await;
        done.unwrap_or_else(|error| panic!("{statements}: {error}"));
        connection.close().await.unwrap();
    }

    /// One number that the superuser reads.
    pub async fn count(&self, query: &str) -> i64 {
        self.count_in("postgres", query).await
    }

    pub async fn count_in(&self, database: &str, query: &str) -> i64 {
        let mut connection = PgConnection::connect(&self.server.url(database)).await.unwrap();
        let count = sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(&mut connection).await;
        count.unwrap_or_else(|error| panic!("{query}: {error}"))
    }
}
