//! `/livez`, `/startupz` and `/readyz`: what an orchestrator is told of a process, before it has started and after.

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::{
    Platform,
    apart::{Apart, free_port},
};
use sqlx::{Connection, Executor, PgConnection};

/// How long anything may take.
const WAIT: Duration = Duration::from_secs(60);

/// Status and text; status 0 = no answer.
async fn told(url: &str, path: &str) -> (u16, String) {
    let asked = reqwest::Client::new().get(format!("{url}{path}")).timeout(Duration::from_secs(5)).send().await;
    match asked {
        Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap_or_default()),
        Err(_) => (0, String::new()),
    }
}

async fn until(url: &str, path: &str, status: u16) -> String {
    let begun = Instant::now();
    loop {
        let (found, text) = told(url, path).await;
        if found == status {
            return text;
        }
        assert!(begun.elapsed() < WAIT, "{path} is {found} and not {status}: {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a text says something: who is asked for a state may have looked before it was so.
async fn until_it_says(url: &str, path: &str, line: &str) {
    let begun = Instant::now();
    loop {
        let text = told(url, path).await.1;
        if text.contains(line) {
            return;
        }
        assert!(begun.elapsed() < WAIT, "{path} does not say {line:?}: {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_starting_lives_and_whoever_wants_more_waits_for_it() {
    let mut apart = Apart::new(&[]).await;
    apart.start(&["users"]).await;
    apart.kill("users").await;
    // it cannot read who the log is while somebody else alters the table
    let mut held = PgConnection::connect(apart.database("users")).await.expect("a connection");
    held.execute("begin; lock table log_head in access exclusive mode").await.expect("a lock");
    let url = apart.url("users");
    let feed = async {
        until(&url, "/livez", 200).await;
        assert_eq!(told(&url, "/startupz").await, (503, "starting\n".to_owned()));
        assert_eq!(told(&url, "/readyz").await, (503, "not ready\n[-] process: it is starting\n".to_owned()));
        let feed = tokio::spawn(reqwest::get(format!("{url}/users/feed")));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!feed.is_finished(), "it waits");
        held.execute("rollback").await.expect("the lock is given back");
        feed.await.expect("no panic").expect("an answer")
    };
    let (users, feed) = tokio::join!(apart.process("users", &[]), feed);
    assert_eq!(feed.status().as_u16(), 200);
    assert_eq!(told(&users.url, "/startupz").await, (200, "started\n".to_owned()));
    assert_eq!(told(&users.url, "/readyz").await, (200, "ready\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_names_what_it_needs_and_in_which_state_that_is() {
    let mut apart = Apart::new(&[]).await;
    let names = ["users", "catalog", "orders", "gateway"];
    apart.start(&names).await;
    for name in names {
        assert_eq!(told(&apart.of(name).url, "/startupz").await.0, 200, "{name}");
    }
    let users = told(&apart.of("users").url, "/readyz?verbose").await.1;
    assert!(users.starts_with("ready\n[+] log users: answers\n[+] erasures users <- users: at "), "{users}");
    let followed = ["[+] log orders: answers", "[+] replica orders <- catalog: followed"];
    let orders = until(&apart.of("orders").url, "/readyz?verbose", 200).await;
    assert!(orders.starts_with("ready\n") && followed.iter().all(|line| orders.contains(line)), "{orders}");
    let answers = format!("[+] users at {}: answers", &apart.url("users")[7..]);
    until_it_says(&apart.gateway().url, "/readyz?verbose", &answers).await;

    // GraphQL is up before the query database is, and has not started
    let place = format!("127.0.0.1:{}", free_port());
    let query = format!("--query-database-url={}", apart.database("query"));
    let arguments = ["graphql", "--listen", &place, &query].map(str::to_owned);
    let nobody = "postgres://nobody@127.0.0.1:1/query";
    let lost =
        ["graphql".to_owned(), format!("--listen=127.0.0.1:{}", free_port()), format!("--query-database-url={nobody}")];
    let lost = Platform::spawn(&lost, &[], apart.folder()).await.expect("it is up");
    let (status, text) = told(&lost.url, "/startupz").await;
    assert!(status == 503 && text.starts_with("starting\nquery database: "), "{status} {text}");
    assert!(told(&lost.url, "/readyz").await.1.starts_with("not ready\n[-] query database: "));
    assert_eq!(told(&lost.url, "/livez").await, (200, "ok\n".to_owned()));

    let graphql = Platform::spawn(&arguments, &[], Arc::clone(&apart.folder())).await.expect("it is up");
    until(&graphql.url, "/startupz", 200).await;
    let (status, text) = told(&graphql.url, "/readyz").await;
    assert!(status == 503 && text.contains("[-] read model order_details: not live yet\n"), "{status} {text}");
    for name in ["inventory", "payments", "shipping", "notifications", "checkout", "project"] {
        apart.start(&[name]).await;
    }
    // whoever is erased stays readable where that is not heard of
    let shipping = apart.url("shipping");
    until_it_says(&shipping, "/readyz?verbose", "[+] erasures shipping <- users: at ").await;
    apart.kill("users").await;
    let begun = Instant::now();
    loop {
        let (status, said) = told(&shipping, "/readyz").await;
        let metrics = told(&shipping, "/metrics").await.1;
        let failing = "tributary_erasure_failing{service=\"shipping\",source=\"users\"} 1\n";
        if said.contains("[!] erasures shipping <- users: not carried out") && metrics.contains(failing) {
            assert_eq!(status, 200, "it does its work");
            break;
        }
        assert!(begun.elapsed() < WAIT, "{said}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    apart.start(&["users"]).await;
    let begun = Instant::now();
    while told(&shipping, "/readyz").await.1.contains("[!] erasures") {
        assert!(begun.elapsed() < WAIT, "it is over, and not told so");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    until(&graphql.url, "/readyz", 200).await;
    until_it_says(&graphql.url, "/readyz?verbose", "[+] read model order_details: live\n").await;
    until_it_says(&apart.of("project").url, "/readyz?verbose", "[+] projection order_details <- orders: ").await;
}
