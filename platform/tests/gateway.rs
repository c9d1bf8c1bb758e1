//! What becomes of a gateway when those behind it are not as they should be: stopped, or without a look at tokens.

mod common;

use std::time::Duration;

use common::{
    Home, Platform,
    auth::{self, token},
};
use serde_json::Value;

/// Nobody's id.
const ANA: &str = "11111111-1111-4111-8111-111111111111";

/// Two services, and a gateway before them.
struct Processes {
    users: Platform,
    catalog: Platform,
    gateway: Platform,
}

async fn service(name: &str) -> Platform {
    let home = Home::sqlite();
    let arguments = ["serve", name, "--listen=127.0.0.1:0"].map(str::to_owned).into_iter().chain(home.arguments());
    let service = Platform::spawn(&arguments.collect::<Vec<_>>(), &[], home.folder()).await;
    service.unwrap_or_else(|unborn| panic!("{name}: {}", unborn.said))
}

async fn start(home: &Home, flags: &[String]) -> Processes {
    let (users, catalog) = (service("users").await, service("catalog").await);
    let mut arguments = ["gateway", "--listen=127.0.0.1:0"].map(str::to_owned).to_vec();
    // nobody listens at port 1
    for (flag, url) in [
        ("users", &*users.url),
        ("services", &catalog.url),
        ("project", "http://127.0.0.1:1"),
        ("graphql", "http://127.0.0.1:1"),
    ] {
        arguments.push(format!("--{flag}-url={url}"));
    }
    arguments.extend(flags.iter().cloned());
    let gateway = Platform::spawn(&arguments, &[], home.folder()).await;
    let gateway = gateway.unwrap_or_else(|unborn| panic!("the gateway: {}", unborn.said));
    for (process, path) in [(&users, "/readyz"), (&catalog, "/readyz"), (&gateway, "/readyz")] {
        process.until("ready", || async { process.get(path).await.0 == 200 }).await;
    }
    Processes { users, catalog, gateway }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_stopped_takes_nobody_with_it() {
    let Processes { users, catalog, gateway } = start(&Home::sqlite(), &[]).await;
    let ask = |path: &str| gateway.http.get(format!("{}{path}", gateway.url));
    let (user, product) = (format!("/users/{ANA}"), format!("/products/{ANA}"));
    users.signal("-STOP").await;
    // more than one server may have
    let waiting: Vec<_> = (0..400).map(|_| tokio::spawn(ask(&user).send())).collect();
    let is_refused = || async { waiting.iter().any(tokio::task::JoinHandle::is_finished) };
    gateway.until("refusing what the service does not answer", is_refused).await;
    let at_once = async |path: &str| {
        let answer = ask(path).timeout(Duration::from_secs(5)).send().await.expect("the others go on");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    let (status, said) = at_once(&user).await;
    assert!(status == 503 && said.contains("overloaded"), "{status} {said}");
    assert_eq!((at_once("/livez").await.0, at_once(&product).await.0), (200, 404));
    // what is said is a second old at most
    let is_told = || async { matches!(at_once("/readyz").await, (200, said) if said.contains("users at ")) };
    gateway.until("telling who is away", is_told).await;
    users.signal("-CONT").await;
    for answer in waiting {
        let answer = answer.await.expect("no panic").expect("an answer");
        assert!([404, 503].contains(&answer.status().as_u16()), "{answer:?}");
    }
    assert_eq!(ask(&user).send().await.expect("an answer").status().as_u16(), 404, "it goes on");
    drop(catalog);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_checks_no_tokens_is_closed_to_all_who_come_by_a_gateway_that_does() {
    let home = Home::sqlite();
    let Processes { users, catalog, gateway } = start(&home, &auth::flags(home.folder().path())).await;
    let ask = |process: &Platform, path: &str| process.http.get(format!("{}{path}", process.url));
    let (user, desk) = (format!("/users/{ANA}"), token("desk", "", None, 1));
    let by_token = || ask(&gateway, &user).bearer_auth(&desk);
    for request in [
        by_token(),
        by_token().header("host", "localhost"),
        by_token().header("connection", "host"),
        // for this nobody needs a token
        ask(&gateway, "/users/openapi.json").header("host", "localhost"),
    ] {
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 403);
        assert_eq!(answer.json::<Value>().await.expect("JSON")["code"], "tokens_not_checked");
    }
    assert_eq!(ask(&users, &user).send().await.expect("an answer").status().as_u16(), 404, "on its own machine");
    drop(catalog);
}
