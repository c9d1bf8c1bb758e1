//! Something that is not yet as it should be, and the statement that makes it so.

use sqlx::{AssertSqlSafe, PgConnection, raw_sql};
use thiserror::Error;

/// One statement, not run yet. Names in it are quoted by whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    sql: String,
    /// What is told of it: the statement, without what is secret.
    pub says: String,
}

/// A change that was refused, or a look at what there is.
#[derive(Debug, Error)]
#[error("{step}: {error}")]
pub struct ChangeError {
    pub step: String,
    #[source]
    pub error: sqlx::Error,
}

impl Change {
    pub fn new(sql: impl Into<String>) -> Self {
        let sql = sql.into();
        Self { says: sql.clone(), sql }
    }

    /// With something in it that nobody is to read.
    pub fn secret(sql: String, says: String) -> Self {
        Self { sql, says }
    }

    pub async fn run(&self, connection: &mut PgConnection) -> Result<(), ChangeError> {
        let done = raw_sql(AssertSqlSafe(self.sql.clone())).execute(connection).await;
        done.map(drop).map_err(at(&self.says))
    }
}

/// Says what was being done.
pub fn at(step: &str) -> impl FnOnce(sqlx::Error) -> ChangeError + use<> {
    let step = step.to_owned();
    move |error| ChangeError { step, error }
}

/// A name as it stands in a statement.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as it stands in a statement.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
