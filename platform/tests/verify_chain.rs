//! `verify-chain`: whoever changes what was written is found, on both databases, whether a platform runs or not.

mod common;

use common::{Home, Platform, text, tributary};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, SqliteConnection, raw_sql};
use testkit::postgres;

const CUSTOMER: &str = "11111111-1111-4111-8111-111111111111";

/// Exit code, and what it said.
async fn verify(arguments: &[&str]) -> (Option<i32>, String) {
    let done = tributary(&[&["verify-chain"], arguments].concat()).await;
    (done.status.code(), text(&done))
}

/// Five users, one after another: so many batches of one event.
async fn register_users(platform: &Platform) {
    for n in 1..=5 {
        let body = json!({ "name": format!("User {n}"), "email": format!("user{n}@example.com") });
        platform.command("/users", &format!("user {n}"), "", body).await;
    }
    let rename = json!({ "id": CUSTOMER, "name": "Ada Lovelace", "email": "ada@example.com" });
    platform.command("/users", "ada", "", rename).await;
}

/// Changes an event as only a superuser can.
async fn tamper(home: &Home) {
    match home {
        Home::Sqlite(dir) => {
            let url = format!("sqlite://{}", dir.path().join("users.db").display());
            let mut file = SqliteConnection::connect(&url).await.expect("the file");
            let change =
                "drop trigger events_unchanged; update events set event_type = 'UserErased' where position = 4";
            raw_sql(change).execute(&mut file).await.expect("a superuser may");
            file.close().await.expect("closed");
        }
        Home::Postgres { urls, .. } => {
            let mut database = PgConnection::connect(&urls["users"]).await.expect("the database");
            let change = "alter table events disable trigger all; \
                          update events set event_type = 'UserErased' where position = 4";
            raw_sql(change).execute(&mut database).await.expect("a superuser may");
        }
    }
}

async fn tampering_is_named(home: Home) {
    let platform = Platform::up(&home).await;
    register_users(&platform).await;
    let at_platform = ["--url", platform.url.as_str()];
    let (code, said) = verify(&at_platform).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("users") && said.contains("checkout") && !said.contains("BROKEN"), "{said}");

    tamper(&home).await;
    let (code, said) = verify(&at_platform).await;
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("BROKEN at position 4"), "{said}");
    // the log beside it is as it was
    assert_eq!(verify(&[&["orders"], &at_platform[..]].concat()).await.0, Some(0));
    let found = tributary(&[&["-o", "json", "verify-chain", "users"], &at_platform[..]].concat()).await;
    let found: Value = serde_json::from_slice(&found.stdout).expect("JSON");
    assert_eq!(found[0]["verdict"]["chain"], "broken", "{found}");
    assert_eq!((&found[0]["verdict"]["first"], &found[0]["verdict"]["last"]), (&json!(4), &json!(4)), "{found}");
    assert_eq!(found[0]["position"], 3, "so far it holds: {found}");

    // the address that nobody answers at any more
    let url = platform.url.clone();
    platform.kill().await;
    let arguments = home.arguments();
    let at_rest: Vec<&str> = ["--url", url.as_str()].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    let (code, said) = verify(&at_rest).await;
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("nothing answers") && said.contains("BROKEN at position 4"), "{said}");
    assert_eq!(verify(&[&["orders"], &at_rest[..]].concat()).await.0, Some(0));
}

#[tokio::test]
async fn tampering_with_a_file_is_named() {
    tampering_is_named(Home::sqlite()).await;
}

#[tokio::test]
async fn tampering_with_a_database_is_named() {
    tampering_is_named(Home::postgres(postgres::shared().await).await).await;
}

#[tokio::test]
async fn what_is_not_there_is_said_and_not_made() {
    let home = Home::sqlite();
    let nowhere = home.dir().join("nowhere");
    let nowhere = format!("--data-dir={}", nowhere.display());
    let nobody = ["--url", "http://127.0.0.1:1", nowhere.as_str()];
    let (code, said) = verify(&nobody).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("there is no data directory") && said.contains("--data-dir"), "{said}");
    assert!(!home.dir().join("nowhere").exists(), "a look makes nothing");
    let here = format!("--data-dir={}", home.dir().display());
    let (code, said) = verify(&["users", "--url", "http://127.0.0.1:1", &here]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("there is no log of users"), "{said}");
    let (code, said) = verify(&["nobody"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("users") && said.contains("checkout"), "{said}");
}

#[tokio::test]
async fn files_that_a_platform_works_in_are_left_to_it() {
    let home = Home::sqlite();
    let _platform = Platform::up(&home).await;
    let here = format!("--data-dir={}", home.dir().display());
    let (code, said) = verify(&["--url", "http://127.0.0.1:1", &here]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("in use by process") && said.contains("--url"), "{said}");
}
