//! `tributary up` as its users meet it: commands in, rows out, restarts, clear errors.

mod common;

use common::{Home, Platform, is_well, text, tributary};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{
    postgres,
    proxy::{Direction, FaultProxy},
};

const CUSTOMER: &str = "11111111-1111-4111-8111-111111111111";
const PRODUCT: &str = "22222222-2222-4222-8222-222222222222";
const ORDER: &str = "33333333-3333-4333-8333-333333333333";

/// A customer, a product, and an order of two of them.
async fn place_order(platform: &Platform) -> String {
    let user = json!({"id": CUSTOMER, "name": "Ada Lovelace", "email": "ada@example.com"});
    let mut token = platform.command("/users", "u", "", user).await.token;
    let price = json!({"amount_minor": 1_250, "currency": "EUR"});
    let product = json!({"id": PRODUCT, "sku": "MAP-1", "name": "River map", "unit_price": price});
    token = format!("{token},{}", platform.command("/products", "p", "", product).await.token);
    platform.command(&format!("/stock/{PRODUCT}/receive"), "s", "", json!({"quantity": 10})).await;
    let order = json!({"id": ORDER, "customer_id": CUSTOMER, "lines": [{"product_id": PRODUCT, "quantity": 2}]});
    let placed = platform.command("/orders", "o", &token, order).await;
    assert_eq!((placed.status, placed.location.as_str()), (201, &*format!("/orders/{ORDER}")));
    format!("{token},{}", placed.token)
}

async fn order(platform: &Platform, token: &str) -> Value {
    let query = format!(
        "{{ order(id: \"{ORDER}\") {{ status customer {{ name email }} lines {{ productName quantity \
         total {{ amountMinor }} product {{ sku }} }} total {{ amountMinor currency }} }} }}"
    );
    platform.query(&query, token).await["order"].clone()
}

async fn the_main_job(home: Home) {
    let platform = Platform::up(&home).await;
    let token = place_order(&platform).await;
    let is_confirmed = || async { order(&platform, &token).await["status"] == "CONFIRMED" };
    platform.until("confirmed by the checkout", is_confirmed).await;
    let seen = order(&platform, &token).await;
    assert_eq!(
        seen,
        json!({
            "status": "CONFIRMED",
            "customer": {"name": "Ada Lovelace", "email": "ada@example.com"},
            "lines": [{"productName": "River map", "quantity": 2, "total": {"amountMinor": 2_500}, "product": {"sku": "MAP-1"}}],
            "total": {"amountMinor": 2_500, "currency": "EUR"},
        })
    );

    let renamed = platform.command(&format!("/users/{CUSTOMER}/rename"), "r", "", json!({"name": "Ada King"})).await;
    assert_eq!(order(&platform, &renamed.token).await["customer"]["name"], "Ada King");

    let rebuilt = tributary(&["projection", "rebuild", "order_details", "--url", &platform.url]).await;
    assert!(rebuilt.status.success(), "{}", text(&rebuilt));
    assert!(text(&rebuilt).contains("generation 2 is live"), "{}", text(&rebuilt));
    assert_eq!(order(&platform, &renamed.token).await["customer"]["name"], "Ada King");

    assert_eq!(platform.terminate().await, Some(0));
    let platform = Platform::up(&home).await;
    assert_eq!(order(&platform, &renamed.token).await["customer"]["name"], "Ada King");
    let again = platform.command(&format!("/users/{CUSTOMER}/rename"), "r", "", json!({"name": "Ada King"})).await;
    assert_eq!(again.token, renamed.token, "the same key gets the same answer after a restart");
    let cancelled = platform.command(&format!("/orders/{ORDER}/cancel"), "c", "", json!({"reason": "late"})).await;
    assert_eq!(order(&platform, &cancelled.token).await["status"], "RETURNED", "all of it is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_become_rows_that_follow_renames_survive_a_rebuild_and_a_restart_on_sqlite() {
    the_main_job(Home::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_become_rows_that_follow_renames_survive_a_rebuild_and_a_restart_on_postgresql() {
    the_main_job(Home::postgres(postgres::shared().await).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_data_is_entered_once_however_often_it_is_asked_for() {
    let home = Home::sqlite();
    let platform = Platform::up_with(&home, &["--demo"], &[]).await.expect("up");
    let seeded = tributary(&["demo", "seed", "--url", &platform.url, "-o", "json"]).await;
    assert!(seeded.status.success(), "{}", text(&seeded));
    let seeded: Value = serde_json::from_slice(&seeded.stdout).expect("JSON");
    let token = seeded["token"].as_str().expect("a token");
    let query = "{ projections { name } orders(first: 100) { edges { node { customer { name } } } pageInfo { hasNextPage endCursor } } }";
    let first = platform.query(query, token).await;
    assert_eq!(first["orders"]["edges"].as_array().map(Vec::len), Some(100));
    assert_eq!(first["orders"]["pageInfo"]["hasNextPage"], true);
    let (status, doctor) = platform.get("/admin/doctor").await;
    assert_eq!(status, 200, "{doctor}");
    let before = entered(&platform).await;
    assert_eq!(before, [20, 12, 12, 120], "customers, products, the stock of each, orders");
    for (status, count) in [("PENDING", 0), ("DELIVERED", 15), ("SHIPPED", 15), ("CANCELLED", 12)] {
        let query =
            format!("{{ orders(first: 100, filter: {{status: {status}}}) {{ edges {{ node {{ orderId }} }} }} }}");
        let found = platform.query(&query, token).await["orders"]["edges"].as_array().map(Vec::len);
        assert_eq!(found, Some(count), "the checkout and the parcels leave so many {status}");
    }
    let again = tributary(&["demo", "seed", "--url", &platform.url]).await;
    assert!(again.status.success(), "{}", text(&again));
    assert_eq!(entered(&platform).await, before, "nothing was added");
}

/// How often each of the demo data's kinds was entered. What the platform makes of it by itself comes when it comes.
async fn entered(platform: &Platform) -> [usize; 4] {
    let mut counts = [0; 4];
    let kinds = [
        ("users", "UserRegistered"),
        ("catalog", "ProductAdded"),
        ("inventory", "StockReceived"),
        ("orders", "OrderPlaced"),
    ];
    for (count, (service, kind)) in counts.iter_mut().zip(kinds) {
        let mut after = 0;
        loop {
            let page =
                platform.http.get(format!("{}/{service}/feed?after={after}&limit=1000", platform.url)).send().await;
            let page = page.expect("an answer").text().await.expect("a page");
            if page.is_empty() {
                break;
            }
            after += page.lines().count();
            *count += page.lines().filter(|line| line.contains(&format!("\"type\":\"{kind}\""))).count();
        }
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_command_line_shows_is_there() {
    let home = Home::sqlite();
    let platform = Platform::up(&home).await;
    place_order(&platform).await;
    let shown = tributary(&["stream", "show", "--service", "orders", ORDER, "--url", &platform.url]).await;
    assert!(shown.status.success() && text(&shown).contains("OrderPlaced v1"), "{}", text(&shown));
    let listed = tributary(&["projection", "ls", "--url", &platform.url]).await;
    for read_model in read_side::status::READ_MODELS {
        assert!(text(&listed).contains(read_model.name), "{}: {}", read_model.name, text(&listed));
    }
    let status = tributary(&["projection", "status", "--url", &platform.url]).await;
    for source in ["users", "catalog", "orders", "inventory", "payments", "shipping"] {
        assert!(text(&status).contains(source), "{}", text(&status));
    }
    let doctor = tributary(&["doctor", "--url", &platform.url]).await;
    assert!(is_well(&doctor), "{}", text(&doctor));
    assert!(text(&doctor).contains("replica orders <- catalog"), "{}", text(&doctor));

    for (arguments, sentence) in [
        (vec!["projection", "rebuild", "nothing"], "nothing"),
        (vec!["stream", "show", "--service", "orders", CUSTOMER], "no events"),
        (vec!["stream", "show", "--service", "weather", ORDER], "there is no service weather"),
    ] {
        let refused = tributary(&[arguments.as_slice(), &["--url", &platform.url]].concat()).await;
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}: {}", text(&refused));
        assert!(text(&refused).contains(sentence), "{arguments:?}: {}", text(&refused));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_in_use_is_a_clear_error() {
    let home = Home::sqlite();
    let _running = Platform::up(&home).await;
    let error = Platform::up_with(&home, &[], &[]).await.err().expect("refused");
    assert!(error.contains("in use"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_looks_at_files_when_nothing_runs() {
    let home = Home::sqlite();
    let platform = Platform::up(&home).await;
    place_order(&platform).await;
    platform.terminate().await;
    let dir = home.dir().display().to_string();
    let doctor = tributary(&["doctor", "--url", "http://127.0.0.1:1", "--data-dir", &dir]).await;
    assert!(doctor.status.success(), "{}", text(&doctor));
    assert!(text(&doctor).contains("hash chain orders"), "{}", text(&doctor));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_starts_from_nothing() {
    let home = Home::sqlite();
    let platform = Platform::up(&home).await;
    let token = place_order(&platform).await;
    platform.terminate().await;
    let platform = Platform::up_with(&home, &["--reset"], &[]).await.expect("up");
    assert_eq!(platform.get(&format!("/orders/{ORDER}")).await.0, 404);
    // a token of the log that was deleted is told, not waited for
    let request = platform.http.post(format!("{}/graphql", platform.url)).header("consistency-token", token);
    let query = json!({"query": format!("{{ order(id: \"{ORDER}\") {{ status }} }}")});
    let answer: Value = request.json(&query).send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(answer["errors"][0]["extensions"]["code"], "consistency_lost", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_refused_with_the_way_out() {
    for (arguments, sentence, code) in [
        (vec!["up", "--listen", "0.0.0.0:0"], "loopback", 2),
        (vec!["up", "--users-database-url", "postgres://localhost/users"], "--query-database-url", 2),
        (vec!["projection", "ls", "--url", "http://127.0.0.1:1"], "tributary up", 1),
        (vec!["projection", "ls", "--url", "somewhere"], "http://", 1),
    ] {
        let refused = tributary(&arguments).await;
        assert_eq!(refused.status.code(), Some(code), "{arguments:?}: {}", text(&refused));
        assert!(text(&refused).contains(sentence), "{arguments:?}: {}", text(&refused));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_are_refused() {
    let home = Home::sqlite();
    let platform = Platform::up(&home).await;
    for (name, value) in [("origin", "https://elsewhere.example"), ("host", "elsewhere.example")] {
        let answer = platform.http.get(format!("{}/orders/{ORDER}", platform.url)).header(name, value).send().await;
        assert_eq!(answer.expect("an answer").status(), 403, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_a_problem_that_names_the_callers_correlation_id() {
    let home = Home::sqlite();
    let platform = Platform::up(&home).await;
    let get = |path: &str| platform.http.get(format!("{}{path}", platform.url));
    let requests = [
        (get("/nowhere"), 404, "route_not_found"),
        (get("/livez").header("host", "example.org"), 403, "not_local"),
        (platform.http.delete(format!("{}/admin/doctor", platform.url)), 405, "method_not_allowed"),
        (platform.http.post(format!("{}/livez", platform.url)), 405, "method_not_allowed"),
        (get("/admin/streams/nothing/1"), 404, "service_not_found"),
        (get("/admin/streams/users/1?limit=x"), 400, "invalid_address"),
        (get("/admin/streams/users/%ff"), 400, "invalid_address"),
        (get("/admin/projections/order_details/rebuild"), 404, "rebuild_not_found"),
        (get("/users/feed?limit=0"), 400, "invalid_feed_query"),
        (get("/users/1"), 400, "invalid_id"),
    ];
    for (request, status, code) in requests {
        let answer = request.header("x-correlation-id", "c-1").send().await.expect("an answer");
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (kind, correlation_id) = (header("content-type"), header("x-correlation-id"));
        let (was, body) = (answer.status(), answer.text().await.expect("a body"));
        assert_eq!((was.as_u16(), kind.as_deref()), (status, Some("application/problem+json")), "{code}: {body}");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((&body["code"], &body["status"]), (&json!(code), &json!(status)), "{body}");
        assert_eq!((&body["traceId"], correlation_id.as_deref()), (&json!("c-1"), Some("c-1")), "{body}");
        assert_eq!(body["type"], format!("urn:tributary:problem:{code}"), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_answers_nothing_does_not_keep_the_platform_from_ending() {
    let server = postgres::shared().await;
    let proxy = FaultProxy::start(("127.0.0.1", server.port())).await.expect("a proxy");
    let mut home = Home::postgres(server).await;
    let Home::Postgres { urls, .. } = &mut home else { unreachable!("it was made so") };
    let users = urls.get_mut("users").expect("a database of the users service");
    *users = proxy.url_through(users).expect("a URL");
    let platform = Platform::up(&home).await;
    proxy.blackhole(Direction::ToClient);
    let user = json!({"name": "Ada Lovelace", "email": "ada@example.com"});
    let sending = platform.http.post(format!("{}/users", platform.url)).json(&user).send();
    assert!(tokio::time::timeout(Duration::from_secs(1), sending).await.is_err(), "it waits for the database");
    let asked = Instant::now();
    assert_eq!(platform.terminate().await, Some(0));
    // 10 s for requests and 10 s for the roles
    assert!(asked.elapsed() < Duration::from_secs(23), "ended after {:?}", asked.elapsed());
}

/// A command in a conversation of its own.
async fn say(platform: &Platform, path: &str, body: &Value, headers: &[(&str, &str)]) -> (u16, Value) {
    let request = platform.http.post(format!("{}{path}", platform.url)).json(body);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_found_by_its_correlation_id_in_the_log_lines_and_in_its_events() {
    const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    // as it logs when nobody says otherwise
    let arguments = ["--log-format=json", "--log=warn,platform=info"];
    let home = Home::sqlite();
    let platform = Platform::up_with(&home, &arguments, &[]).await.expect("up");
    let user = json!({"id": CUSTOMER, "name": "Ada Lovelace", "email": "ada@example.com"});
    let headers = [("x-correlation-id", "desk-7/ada"), ("traceparent", TRACEPARENT)];
    let (status, answer) = say(&platform, "/users", &user, &headers).await;
    assert_eq!(status, 201, "{answer}");
    let (_, feed) = platform.get("/users/feed").await;
    assert_eq!((&feed["correlationid"], &feed["traceparent"]), (&json!("desk-7/ada"), &json!(TRACEPARENT)), "{feed}");

    // news of users that will never come: said to the caller and, as something is late, to the operator
    let token = platform.command("/users", "again", "", user).await.token;
    let ahead = token.replacen(":1:", ":1000:", 1);
    let order = json!({"customer_id": CUSTOMER, "lines": [{"product_id": PRODUCT, "quantity": 2}]});
    let headers = [("x-correlation-id", "desk-7/order"), ("consistency-token", &*ahead), ("consistency-wait", "10")];
    let (status, answer) = say(&platform, "/orders", &order, &headers).await;
    assert_eq!((status, &answer["traceId"]), (503, &json!("desk-7/order")), "{answer}");
    let of_the_request = || {
        let lines = platform.said().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        lines.filter(|line| line["span"]["correlation_id"] == "desk-7/order").collect::<Vec<_>>()
    };
    platform.until("logged", || async { !of_the_request().is_empty() }).await;
    let line = &of_the_request()[0];
    assert_eq!((&line["level"], &line["fields"]["code"]), (&json!("WARN"), &json!("consistency_timeout")), "{line}");
    assert_eq!((&line["span"]["method"], &line["span"]["path"]), (&json!("POST"), &json!("/orders")), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_a_command_says_its_conversation_and_which_event_has_caused_it() {
    let arguments = ["--log-format=json", "--log=warn,write_side=debug"];
    let home = Home::sqlite();
    let platform = Platform::up_with(&home, &arguments, &[]).await.expect("up");
    let user = json!({"id": CUSTOMER, "name": "Ada Lovelace", "email": "ada@example.com"});
    let known = platform.command("/users", "u", "", user).await.token;
    let price = json!({"amount_minor": 1_250, "currency": "EUR"});
    let product = json!({"id": PRODUCT, "sku": "MAP-1", "name": "River map", "unit_price": price});
    let product = platform.command("/products", "p", "", product).await.token;
    let known = format!("{known},{product}");
    let order = json!({"customer_id": CUSTOMER, "lines": [{"product_id": PRODUCT, "quantity": 1}]});
    let headers = [("x-correlation-id", "desk-7/order"), ("consistency-token", &*known), ("consistency-wait", "20")];
    let (status, placed) = say(&platform, "/orders", &order, &headers).await;
    assert_eq!(status, 201, "{placed}");

    // the checkout asks for pieces that are not there, and gives the order up
    let answered = || {
        let lines = platform.said().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        lines.filter(|line| line["fields"]["message"] == "answered").collect::<Vec<_>>()
    };
    let of_service =
        |name: &str| answered().into_iter().filter(|line| line["fields"]["service"] == name).collect::<Vec<_>>();
    platform.until("given up", || async { of_service("orders").len() == 2 }).await;
    assert!(!of_service("inventory").is_empty(), "{:?}", answered());
    let (_, story) = platform.get(&format!("/admin/streams/orders/{}", placed["id"].as_str().expect("an id"))).await;
    let causes: Vec<&Value> = story["events"].as_array().expect("events").iter().map(|e| &e["metadata"]).collect();
    for line in of_service("orders").iter().chain(&of_service("inventory")) {
        assert_eq!(line["span"]["correlation_id"], "desk-7/order", "{line}");
    }
    let lines = of_service("orders");
    assert_eq!(lines[0]["span"].get("causation_id"), None, "a person began it: {}", lines[0]);
    assert_eq!(causes[0].get("causation_id"), None, "{story}");
    let cause = &causes[1]["causation_id"];
    assert!(cause.is_string() && lines[1]["span"]["causation_id"] == *cause, "{story} {}", lines[1]);
    let cancelled = &lines[1];
    let is_in = |name: &str| cancelled["spans"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == name));
    assert!(
        is_in("duty") && is_in("request"),
        "what is done about an event, and the request that came of it: {cancelled}"
    );
}
