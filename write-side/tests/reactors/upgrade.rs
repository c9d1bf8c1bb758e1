//! What a reactor had noted before an event could oblige to several things is still to be done afterwards.

use std::fs;

use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};
use uuid::Uuid;
use write_side::{ReplicaHome, reactor};

use super::support::Home;

/// The migrations of a database, in order, up to the one before parts.
fn before_parts(database: &str) -> Vec<String> {
    let folder = format!("{}/../migrations/reactor/{database}", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let parts = files.iter().position(|file| file.to_string_lossy().ends_with("_parts.sql")).unwrap();
    files[..parts].iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

fn noted(table: &str, id: Uuid) -> String {
    format!(
        "insert into {table} (source, position, event_id, stream, timer, due_at, attempts, reason) \
         values ('own', 7, '{id}', 'account-a', {}, 5, 3, 'it shakes')",
        if table.starts_with("reactor.") { "false" } else { "0" }
    )
}

async fn check(home: &ReplicaHome, id: Uuid) {
    let open = reactor::open("a test", home).await.unwrap().open(9).await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].id.position, open[0].id.part, open[0].event_id), (7, 0, id));
    assert_eq!((open[0].lane.as_str(), open[0].attempts, open[0].timer), ("account-a", 3, false));
    assert_eq!(open[0].reason.as_deref(), Some("it shakes"));
    let again = reactor::open("a test", home).await.unwrap().open(9).await.unwrap();
    assert_eq!(again, open, "and it is migrated once");
}

#[tokio::test]
async fn in_sqlite_duties_outlive_the_migration_to_parts() {
    let (folder, id) = (Home::sqlite(), Uuid::now_v7());
    let home = folder.replica();
    let ReplicaHome::Sqlite(path) = &home else { panic!("a file") };
    let file = rusqlite::Connection::open(path).unwrap();
    let migrations = before_parts("sqlite");
    migrations.iter().for_each(|sql| file.execute_batch(sql).unwrap());
    file.pragma_update(None, "user_version", u32::try_from(migrations.len()).unwrap()).unwrap();
    file.execute_batch(&noted("duties", id)).unwrap();
    drop(file);
    check(&home, id).await;
}

#[tokio::test]
async fn in_postgres_duties_outlive_the_migration_to_parts() {
    let (home, id) = (Home::postgres().await.replica(), Uuid::now_v7());
    let ReplicaHome::Postgres(reached) = &home else { panic!("a database") };
    let mut database = PgConnection::connect_with(&reached.options()).await.unwrap();
    for (n, sql) in before_parts("postgres").into_iter().enumerate() {
        let version = n + 1;
        let done = format!(
            "create table if not exists reactor.migrations (version int4 primary key); \
             insert into reactor.migrations values ({version})"
        );
        for sql in [sql, done] {
            raw_sql(AssertSqlSafe(sql)).execute(&mut database).await.unwrap();
        }
    }
    raw_sql(AssertSqlSafe(noted("reactor.duties", id))).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
    check(&home, id).await;
}
