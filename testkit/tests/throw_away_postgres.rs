//! The throw-away server: quick, alone, crashable, and gone when its owner is.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::Connection;
use testkit::postgres::{Settings, ThrowAwayPostgres, fresh_database, shared};

#[tokio::test]
async fn every_test_gets_a_database_of_its_own_on_one_server() {
    let (first, second) = (fresh_database("orders").await, fresh_database("orders").await);
    assert_ne!(first, second);
    let mut connection = sqlx::PgConnection::connect(&first).await.unwrap();
    sqlx::query("create table only_here (n int)").execute(&mut connection).await.unwrap();
    let mut other = sqlx::PgConnection::connect(&second).await.unwrap();
    assert!(sqlx::query("select * from only_here").execute(&mut other).await.is_err());
    connection.close().await.unwrap();

    let copy = shared().await.copy_database(&first, "copy").await.unwrap();
    let mut copied = sqlx::PgConnection::connect(&copy).await.unwrap();
    sqlx::query("select * from only_here").execute(&mut copied).await.unwrap();
}

#[tokio::test]
async fn a_crashed_server_comes_back_on_its_port_with_what_it_committed() {
    let server = ThrowAwayPostgres::start_with(Settings::durable()).await.unwrap();
    let url = server.create_database("crash").await.unwrap();
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    sqlx::query("create table kept as select 7 as n").execute(&mut connection).await.unwrap();
    server.stop_immediate().await.unwrap();
    assert!(sqlx::query("select 1").execute(&mut connection).await.is_err());
    server.start_again().await.unwrap();
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    let kept: i32 = sqlx::query_scalar("select n from kept").fetch_one(&mut connection).await.unwrap();
    assert_eq!(kept, 7);
    let data = server.data();
    drop(server);
    assert!(!data.exists());
}

#[tokio::test]
async fn a_small_disk_is_full_until_there_is_room_and_outlives_a_crash() {
    let settings = Settings { small_disk_mib: Some(32), ..Settings::default() };
    let server = ThrowAwayPostgres::start_with(settings).await.unwrap();
    let url = server.create_database("small").await.unwrap();
    server.move_to_small_disk("small_1").await.unwrap();
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    sqlx::query("create table kept as select 7 as n").execute(&mut connection).await.unwrap();
    server.fill_small_disk().await.unwrap();
    let more = "insert into kept select n from generate_series(1, 10000) n";
    let full = sqlx::query(more).execute(&mut connection).await.unwrap_err();
    assert!(full.to_string().contains("No space left on device"), "{full}");
    server.empty_small_disk().await.unwrap();
    sqlx::query(more).execute(&mut connection).await.unwrap();
    server.stop_immediate().await.unwrap();
    server.start_again().await.unwrap();
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    let kept: i64 = sqlx::query_scalar("select count(*) from kept").fetch_one(&mut connection).await.unwrap();
    assert_eq!(kept, 10_001);
}

/// Runs itself once more as the owner that is killed.
#[tokio::test]
async fn a_server_does_not_outlive_a_killed_owner() {
    const OWNER: &str = "TESTKIT_SERVER_OWNER";
    if std::env::var_os(OWNER).is_some() {
        println!("data={}", shared().await.data().display());
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let mut owner = Command::new(std::env::current_exe().unwrap());
    owner.args(["--exact", "a_server_does_not_outlive_a_killed_owner", "--nocapture"]).env(OWNER, "1");
    let mut owner = owner.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let data = lines.map_while(Result::ok).find_map(|line| Some(line.split_once("data=")?.1.to_owned())).unwrap();
    assert!(Path::new(&data).exists());
    owner.kill().unwrap();
    owner.wait().unwrap();
    let killed = Instant::now();
    while Path::new(&data).exists() {
        assert!(killed.elapsed() < Duration::from_secs(20), "{data} is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
