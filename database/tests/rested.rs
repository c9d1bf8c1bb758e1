//! A pool outlives its server.

use database::{Database, RESTED};
use futures::future::join_all;
use sqlx::{Acquire, PgPool, postgres::PgPoolOptions};
use testkit::postgres::ThrowAwayPostgres;

const CONNECTIONS: u32 = 4;

/// What a question on every connection at once is answered with.
async fn answers(pool: &PgPool) -> Vec<i32> {
    let connections = join_all((0..CONNECTIONS).map(|_| pool.acquire())).await;
    let asked = connections.into_iter().map(|connection| async move {
        let mut connection = connection.expect("a connection");
        let connection = connection.acquire().await.expect("the same");
        sqlx::query_scalar("select 1").fetch_one(connection).await.expect("an answer")
    });
    join_all(asked).await
}

#[tokio::test]
async fn who_asks_after_a_restart_of_the_server_meets_no_connection_from_before() {
    let server = ThrowAwayPostgres::start().await.expect("a server");
    let database: Database = server.url("postgres").parse().expect("a URL");
    let options = PgPoolOptions::new().max_connections(CONNECTIONS).test_before_acquire(false);
    let pool = database.pool(options, |options| options);
    assert_eq!(answers(&pool).await, [1; 4]);
    server.stop_immediate().await.expect("it stops");
    server.start_again().await.expect("it comes back");
    tokio::time::sleep(RESTED).await;
    assert_eq!(answers(&pool).await, [1; 4]);
}
