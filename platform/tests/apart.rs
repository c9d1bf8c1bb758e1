//! The roles as processes of their own, each service on its own database, with a gateway before them.

mod common;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use common::{
    Answer, Platform,
    apart::{Apart, TWIN, all, free_port},
    auth::{self, token},
    binary, databases, text, tributary,
};
use futures::{SinkExt, StreamExt, future::join_all};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::Barrier};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};
use uuid::Uuid;

const ANA: &str = "11111111-1111-4111-8111-111111111111";
const CHAI: &str = "33333333-3333-4333-8333-333333333333";

/// How long anything may take.
const WAIT: Duration = Duration::from_secs(60);

const CHANGES: &str = "subscription { ordersChanged { kind node { orderId status } } }";

/// A customer, and a product of which there is enough. The tokens of both.
async fn stock_up(platform: &Platform) -> String {
    let user = json!({ "id": ANA, "name": "Ana", "email": "ana@example.com" });
    let user = platform.command("/users", "u", "", user).await.token;
    let price = json!({ "amount_minor": 1_800, "currency": "USD" });
    let product = json!({ "id": CHAI, "sku": "CHAI", "name": "Chai", "unit_price": price });
    let product = platform.command("/products", "p", "", product).await.token;
    platform.command(&format!("/stock/{CHAI}/receive"), "s", "", json!({ "quantity": 10_000 })).await;
    format!("{user},{product}")
}

fn order(id: Uuid) -> Value {
    json!({ "id": id, "customer_id": ANA, "lines": [{ "product_id": CHAI, "quantity": 1 }] })
}

async fn place(platform: &Platform, known: &str) -> Uuid {
    let id = Uuid::now_v7();
    platform.command("/orders", &id.to_string(), known, order(id)).await;
    id
}

/// Waits until an order is confirmed, by its service's word; gives the token of that.
async fn confirmed(platform: &Platform, id: Uuid) -> String {
    let started = Instant::now();
    loop {
        let answer = platform.http.get(format!("{}/orders/{id}", platform.url)).send().await.expect("an answer");
        let token = answer.headers().get("consistency-token").and_then(|token| token.to_str().ok()).map(str::to_owned);
        let shown: Value = answer.json().await.expect("JSON");
        if shown["status"] == "CONFIRMED" {
            return token.expect("a state comes with a token");
        }
        assert!(started.elapsed() < WAIT, "still {shown}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What the read model says of an order, at least as new as `token`.
async fn read(platform: &Platform, id: Uuid, token: &str) -> Value {
    platform.query(&format!("{{ order(id: \"{id}\") {{ status customer {{ name }} }} }}"), token).await["order"].clone()
}

/// A socket on which changes have been asked for.
async fn socket(platform: &Platform) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
    let mut request =
        format!("{}/graphql", platform.url.replacen("http", "ws", 1)).into_client_request().expect("an address");
    request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().expect("a header"));
    let mut socket = connect_async(request).await.expect("a socket").0;
    let subscribe = json!({ "type": "subscribe", "id": "1", "payload": { "query": CHANGES } });
    for message in [json!({ "type": "connection_init" }), subscribe] {
        socket.send(Message::text(message.to_string())).await.expect("a message can be sent");
    }
    socket
}

/// Listens on a socket, and says so at `begun`: the statuses that are told of `id`, up to the confirmed one.
async fn by_socket(platform: &Platform, id: Uuid, begun: &Barrier) -> Vec<String> {
    let mut socket = socket(platform).await;
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != "CONFIRMED") {
        if let Message::Text(text) = socket.next().await.expect("it goes on").expect("whole") {
            let message: Value = serde_json::from_str(&text).expect("JSON");
            let change = &message["payload"]["data"]["ordersChanged"];
            if change["kind"] == "STARTED" {
                begun.wait().await;
            }
            let node = &change["node"];
            if node["orderId"] == json!(id) {
                told.push(node["status"].as_str().expect("a status").to_owned());
            }
        }
    }
    told
}

/// The same as an event stream, as text.
async fn by_events(platform: &Platform, id: Uuid, begun: &Barrier) -> String {
    let request = platform.http.get(format!("{}/graphql", platform.url)).query(&[("query", CHANGES)]);
    let mut stream = request.header("accept", "text/event-stream").send().await.expect("an answer");
    assert_eq!(stream.headers()["content-type"].to_str().expect("text"), "text/event-stream; charset=utf-8");
    let mut heard = String::new();
    let mut has_begun = false;
    while !(heard.contains(&id.to_string()) && heard.contains("CONFIRMED")) {
        let chunk = stream.chunk().await.expect("whole").expect("it goes on");
        heard.push_str(std::str::from_utf8(&chunk).expect("text"));
        if !has_begun && heard.contains("STARTED") {
            has_begun = true;
            begun.wait().await;
        }
    }
    heard
}

async fn verified(platform: &Platform) {
    for name in ["order_details", "order_timeline"] {
        let verified = tributary(&["projection", "verify", name, "--url", &platform.url]).await;
        assert!(verified.status.success(), "0 differences: {}", text(&verified));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_goes_its_way_through_eleven_processes_and_each_of_them_may_die() {
    let mut apart = Apart::new(&[]).await;
    apart.start(&all()).await;
    let known = stock_up(apart.gateway()).await;

    one_order_is_seen_everywhere(&apart, &known).await;
    the_gateway_answers_for_all(&apart).await;
    a_service_dies_and_comes_back(&mut apart, &known).await;
    two_replicas_take_commands(&mut apart, &known).await;
    the_projector_dies_and_comes_back(&mut apart, &known).await;

    // who still listens does not hold up the end
    let gateway = apart.gateway();
    let listening = gateway.http.get(format!("{}/graphql", gateway.url)).query(&[("query", CHANGES)]);
    let listening = listening.header("accept", "text/event-stream").send().await.expect("an answer");
    let socket = socket(gateway).await;
    let begun = Instant::now();
    let codes = apart.terminate().await;
    drop((listening, socket));
    assert!(codes.values().all(|code| *code == Some(0)), "{codes:?}");
    assert!(begun.elapsed() < Duration::from_secs(25), "it took {:?}", begun.elapsed());
}

async fn one_order_is_seen_everywhere(apart: &Apart, known: &str) {
    let gateway = apart.gateway();
    let (id, begun) = (Uuid::now_v7(), Barrier::new(3));
    let placed = async {
        begun.wait().await;
        let placing = gateway.http.post(format!("{}/orders", gateway.url)).json(&order(id));
        let placing = placing.header("consistency-token", known).header("consistency-wait", "20s");
        let answer = placing.header("x-correlation-id", "conversation-7").send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 201);
        assert_eq!(answer.headers()["x-correlation-id"], "conversation-7");
        assert_eq!(answer.headers()["location"], format!("/orders/{id}"));
        confirmed(gateway, id).await
    };
    let seen = async { tokio::join!(by_socket(gateway, id, &begun), by_events(gateway, id, &begun), placed) };
    let (told, events, token) = tokio::time::timeout(WAIT, seen).await.expect("in time");
    assert!(told.contains(&"CONFIRMED".to_owned()) && events.contains("CONFIRMED"), "{told:?} {events}");

    // the token is that of the confirmation, so the read model has it
    assert_eq!(read(gateway, id, &token).await, json!({ "status": "CONFIRMED", "customer": { "name": "Ana" } }));
    let (status, composed) = gateway.get(&format!("/composed/orders/{id}")).await;
    assert_eq!((status, &composed["complete"]), (200, &json!(true)), "{composed}");
    assert_eq!((&composed["customer"]["name"], &composed["order"]["status"]), (&json!("Ana"), &json!("CONFIRMED")));

    // one conversation, from the gateway to what the checkout has asked of others
    for (service, stream) in [("orders", id), ("checkout", write_side::saga::saga_id("checkout", &id.to_string()))] {
        let shown = tributary(&[
            "-o",
            "json",
            "stream",
            "show",
            "--service",
            service,
            &stream.to_string(),
            "--url",
            &gateway.url,
        ])
        .await;
        assert!(shown.status.success() && text(&shown).contains("conversation-7"), "{service}: {}", text(&shown));
    }
}

/// What `doctor` calls bad, but for the tests' database server, which is in a hurry and does not sync.
async fn faults(platform: &Platform) -> Vec<String> {
    let doctor = tributary(&["-o", "json", "doctor", "--url", &platform.url]).await;
    let checks: Vec<Value> = serde_json::from_slice(&doctor.stdout).expect("JSON");
    let field = |check: &Value, name: &str| check[name].as_str().expect("text").to_owned();
    let bad = checks.iter().filter(|check| check["verdict"] == "bad");
    bad.filter(|check| !field(check, "finding").contains("fsync is off")).map(|check| field(check, "name")).collect()
}

async fn the_gateway_answers_for_all(apart: &Apart) {
    let gateway = apart.gateway();
    let (status, document) = gateway.get("/openapi.json").await;
    let paths = document["paths"].as_object().expect("paths");
    for path in
        ["/users", "/products", "/orders/{id}/cancel", "/checkouts/{id}", "/orders/feed", "/composed/orders/{id}"]
    {
        assert!(paths.contains_key(path), "{path}");
    }
    assert_eq!((status, document["tags"].as_array().map(Vec::len)), (200, Some(write_side::REGISTER.len() + 1)));
    assert_eq!(gateway.get("/docs").await.0, 200);
    let (status, nowhere) = gateway.get("/nowhere").await;
    assert_eq!((status, &nowhere["code"]), (404, &json!("route_not_found")));
    let large = gateway.http.post(format!("{}/users", gateway.url)).body(vec![b' '; 1_100_000]).send().await;
    let large = large.expect("an answer");
    assert_eq!(
        (large.status().as_u16(), large.json::<Value>().await.expect("JSON")["code"].clone()),
        (413, json!("body_too_large"))
    );
    let feed = gateway.http.get(format!("{}/orders/feed", gateway.url)).header("accept-encoding", "gzip").send().await;
    assert_eq!(feed.expect("an answer").headers()["content-encoding"], "gzip");
    let doctor = tributary(&["doctor", "--url", &gateway.url]).await;
    let found = text(&doctor);
    for line in [
        "log users",
        "hash chain orders",
        "saga checkout",
        "projection order_details <- shipping",
        "database orders",
        "database query",
    ] {
        assert!(found.contains(line), "{line}: {found}");
    }
    // the twin of the orders service is not there yet, and everybody is told
    assert!(!doctor.status.success());
    assert_eq!(faults(gateway).await, [format!("orders at {}", &apart.url(TWIN)[7..])], "{found}");
    let ready = gateway.http.get(format!("{}/readyz", gateway.url)).send().await.expect("an answer");
    let ready = ready.text().await.expect("text");
    assert!(ready.starts_with("ready\n[!] orders at ") && ready.contains(": away\n"), "{ready}");
    let exported = apart.folder().path().join("exported").display().to_string();
    for arguments in [&["projection", "status"][..], &["saga", "ls"], &["verify-chain"], &["export", "--to", &exported]]
    {
        let done = tributary(&[arguments, &["--url", &gateway.url]].concat()).await;
        assert!(done.status.success(), "{arguments:?}: {}", text(&done));
    }
    let checked = tributary(&["restore", &exported, "--check"]).await;
    assert!(checked.status.success() && text(&checked).contains("checkout"), "{}", text(&checked));
}

async fn a_service_dies_and_comes_back(apart: &mut Apart, known: &str) {
    apart.kill("orders").await;
    let gateway = apart.gateway();
    let refused: Answer =
        gateway.post("/orders", "while-away", known, &order(Uuid::now_v7())).await.expect("an answer");
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("upstream_unavailable")), "{}", refused.body);
    // what does not need it goes on
    assert_eq!(gateway.get(&format!("/users/{ANA}")).await.0, 200);
    gateway.query("{ orders(first: 1) { edges { node { status } } } }", "").await;
    let (_, composed) = gateway.get(&format!("/composed/orders/{}", Uuid::now_v7())).await;
    assert_eq!(composed["code"], "upstream_unavailable", "{composed}");
    apart.start(&["orders"]).await;
    let id = place(apart.gateway(), known).await;
    confirmed(apart.gateway(), id).await;
}

async fn two_replicas_take_commands(apart: &mut Apart, known: &str) {
    apart.start(&[TWIN]).await;
    let gateway = apart.gateway();
    let many = (0..20).map(|n| place([gateway, apart.of("orders"), apart.of(TWIN)][n % 3], known));
    for id in join_all(many).await {
        confirmed(gateway, id).await;
    }
    // the same key, by way of either: once
    let id = Uuid::now_v7();
    let first = apart.of("orders").command("/orders", "twice", known, order(id)).await;
    let second = apart.of(TWIN).command("/orders", "twice", known, order(id)).await;
    assert_eq!(first.token, second.token);
    apart.kill("orders").await;
    let gateway = apart.gateway();
    let after: Vec<Uuid> = join_all((0..4).map(|_| place(gateway, known))).await;
    apart.start(&["orders"]).await;
    for id in after {
        confirmed(apart.gateway(), id).await;
    }
}

async fn the_projector_dies_and_comes_back(apart: &mut Apart, known: &str) {
    apart.kill("project").await;
    let id = place(apart.gateway(), known).await;
    let token = confirmed(apart.gateway(), id).await;
    apart.start(&["project"]).await;
    assert_eq!(read(apart.gateway(), id, &token).await["status"], "CONFIRMED");
    verified(apart.gateway()).await;
}

/// Who follows which read model.
async fn holders(projector: &Platform) -> Vec<String> {
    let mut holders = Vec::new();
    for read_model in read_side::status::READ_MODELS {
        let (_, kept) = projector.get(&format!("/admin/projections/{}/generations", read_model.name)).await;
        let live = kept["generations"].as_array().into_iter().flatten().find(|one| one["state"] == "live").cloned();
        holders.extend(live.and_then(|live| Some(live["holder"].as_str()?.to_owned())));
    }
    holders
}

/// Two of each that keeps nothing but leases: one of them dies, whichever it is, and what it did goes on.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_projectors_two_graphqls_and_two_gateways_one_may_die() {
    let mut first = Apart::new(&[]).await;
    first.start(&all()).await;
    let mut second = first.beside(&binary());
    second.start(&["gateway", "graphql", "project"]).await;
    let known = stock_up(first.gateway()).await;
    let goes_on = async |gateway: &Platform| {
        let id = place(gateway, &known).await;
        let token = confirmed(gateway, id).await;
        // turns are taken: each of those behind it is asked
        for _ in 0..4 {
            assert_eq!(read(gateway, id, &token).await["status"], "CONFIRMED");
        }
    };
    goes_on(first.gateway()).await;
    goes_on(second.gateway()).await;

    // whoever follows: every read model gets another holder, and nobody who reads has to know
    let before = holders(second.of("project")).await;
    assert_eq!(before.len(), read_side::status::READ_MODELS.len(), "{before:?}");
    first.kill("project").await;
    goes_on(second.gateway()).await;
    let alone = holders(second.of("project")).await;
    assert!(alone.len() == before.len() && alone.iter().all(|one| *one == alone[0]), "{alone:?}");
    first.start(&["project"]).await;
    second.kill("project").await;
    goes_on(second.gateway()).await;
    let moved = holders(first.of("project")).await;
    assert!(moved.len() == before.len() && moved.iter().all(|one| *one == moved[0]), "{moved:?}");
    assert_ne!(moved[0], alone[0], "another process");

    first.kill("graphql").await;
    goes_on(second.gateway()).await;
    first.kill("gateway").await;
    goes_on(second.gateway()).await;
    verified(second.gateway()).await;
}

/// What a reader that is alone with its database says.
#[tokio::test(flavor = "multi_thread")]
async fn graphql_without_a_projector_says_what_is_to_be_done() {
    let apart = Apart::new(&[]).await;
    let database = apart.database("query");
    let arguments =
        ["graphql".to_owned(), "--listen=127.0.0.1:0".to_owned(), format!("--query-database-url={database}")];
    let graphql = Platform::spawn(&arguments, &[], apart.folder()).await.expect("it starts");
    let ready = async || graphql.http.get(format!("{}/readyz", graphql.url)).send().await.expect("an answer");
    let said = ready().await.text().await.expect("text");
    assert!(said.contains("not live yet") && said.contains("no tables: run `tributary migrate query`"), "{said}");
    let pool = sqlx::PgPool::connect(database).await.expect("a connection");
    let mut connection = pool.acquire().await.expect("a connection");
    projections::query_schema::migrate(&mut connection).await.expect("tables");
    let said = ready().await.text().await.expect("text");
    assert!(said.contains("filled by `tributary project`: is it running") && !said.contains("no tables"), "{said}");
}

/// A gateway does not see what is asked over a socket: that counts where it is answered, and requests do not.
#[tokio::test(flavor = "multi_thread")]
async fn graphql_behind_a_gateway_counts_what_is_asked_over_sockets() {
    let apart = Apart::new(&[]).await;
    let database = format!("--query-database-url={}", apart.database("query"));
    let limits = ["--rate-limit-per-second=1", "--rate-limit-burst=4"];
    let flags = [&["graphql", "--listen=127.0.0.1:0", &*database][..], &limits].concat();
    let flags: Vec<String> = flags.into_iter().map(str::to_owned).collect();
    let graphql = Platform::spawn(&flags, &[], apart.folder()).await.expect("it starts");
    let question = json!({ "query": "{ __typename }" });
    for _ in 0..20 {
        let asked = graphql.http.post(format!("{}/graphql", graphql.url)).json(&question);
        assert_eq!(asked.send().await.expect("an answer").status().as_u16(), 200);
    }
    let mut socket = socket(&graphql).await;
    for n in 0..20 {
        let subscribe = json!({ "type": "subscribe", "id": format!("many-{n}"), "payload": question });
        socket.send(Message::text(subscribe.to_string())).await.expect("a message can be sent");
    }
    let told = async {
        let (mut answered, mut refused) = (0, 0);
        while answered + refused < 20 {
            let Message::Text(text) = socket.next().await.expect("it goes on").expect("whole") else { continue };
            let message: Value = serde_json::from_str(&text).expect("JSON");
            match (message["id"].as_str(), message["type"].as_str()) {
                (Some(id), Some("next")) if id.starts_with("many-") => answered += 1,
                (Some(id), Some("error")) if id.starts_with("many-") => {
                    assert_eq!(message["payload"][0]["extensions"]["code"], "rate_limited", "{message}");
                    refused += 1;
                }
                _ => {}
            }
        }
        (answered, refused)
    };
    let (answered, refused) = tokio::time::timeout(WAIT, told).await.expect("in time");
    assert!(answered > 0 && refused > 0, "{answered} answered, {refused} refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_without_the_feeds_scope_is_refused_says_so_and_goes_on_once_its_token_is_good() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut apart = Apart::new(&auth::flags(folder.path())).await;
    apart.start(&["users", "catalog", "gateway"]).await;
    let file = folder.path().join("token");
    let flag = format!("--service-token-file={}", file.display());
    let orders = apart.process("orders", &[&flag]).await;
    let says = async |what: &[&str]| {
        let started = Instant::now();
        loop {
            let said = orders.http.get(format!("{}/readyz", orders.url)).send().await.expect("an answer");
            assert_eq!(said.status().as_u16(), 200, "a feed of others holds up nobody");
            let said = said.text().await.expect("text");
            if what.iter().all(|what| said.contains(what)) {
                return said;
            }
            assert!(started.elapsed() < WAIT, "{what:?} is not said: {said}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    says(&["replica orders <- users", "the file of the token"]).await;
    std::fs::write(&file, token("orders-1", "feed", None, -1)).expect("a file");
    says(&["replica orders <- users", "401", "invalid_token"]).await;
    // this one opens the one feed and not the other
    std::fs::write(&file, token("orders-1", "feed:users service", None, 1)).expect("a file");
    let started = Instant::now();
    // each tries again in its own time
    while says(&["replica orders <- catalog", "403", "scope_missing", "feed:catalog"]).await.contains("orders <- users")
    {
        assert!(started.elapsed() < WAIT, "the feed that it opens is not read");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    std::fs::write(&file, token("orders-1", "feed:users feed:catalog", None, 1)).expect("a file");
    let desk = token("desk", "users:write catalog:write orders:write", None, 1);
    let price = json!({ "amount_minor": 1_800, "currency": "USD" });
    let mut known = Vec::new();
    for (service, path, body) in [
        ("users", "/users", json!({ "id": ANA, "name": "Ana", "email": "ana@example.com" })),
        ("catalog", "/products", json!({ "id": CHAI, "sku": "CHAI", "name": "Chai", "unit_price": price })),
    ] {
        // the gateway asks for tokens, and so does who stands behind it
        for place in [apart.url("gateway"), apart.url(service)] {
            let refused = orders.http.post(format!("{place}{path}")).json(&body).send().await.expect("an answer");
            assert_eq!(refused.status().as_u16(), 401, "{place}{path}");
            assert_eq!(refused.headers().contains_key("ratelimit"), place == apart.url("gateway"), "{place}");
        }
        let request = orders.http.post(format!("{}{path}", apart.gateway().url)).bearer_auth(&desk).json(&body);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 201);
        known.push(answer.headers()["consistency-token"].to_str().expect("text").to_owned());
    }
    let request = orders.http.post(format!("{}/orders", orders.url)).bearer_auth(&desk).json(&order(Uuid::now_v7()));
    let request = request.header("consistency-token", known.join(",")).header("consistency-wait", "30s");
    assert_eq!(request.send().await.expect("an answer").status().as_u16(), 201);
    assert_eq!(says(&["ready"]).await, "ready\n");
    for (scope, status) in [("feed", 200), ("feed:users", 200), ("feed:catalog", 403), ("service", 403)] {
        let request = orders.http.get(format!("{}/users/feed", apart.url("users")));
        let answer = request.bearer_auth(token("auditor", scope, None, 1)).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{scope}");
    }
}

/// The commands of docs/apart.md, on databases and ports that are free.
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_guide_start_a_platform_that_takes_orders() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/apart.md");
    let guide = std::fs::read_to_string(guide).expect("docs/apart.md");
    let block = guide.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of commands");
    let apart = Apart::new(&[]).await;
    let mut block = block.replace("\\\n", " ");
    for database in databases() {
        block = block.replace(&format!("postgres://localhost/{database}"), apart.database(database));
    }
    let ports: Vec<(String, String)> =
        (8080..=8084).map(|port| (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", free_port()))).collect();
    let usual = |command: &str| match command {
        "gateway" => Some("127.0.0.1:8080"),
        "project" => Some("127.0.0.1:8082"),
        "graphql" => Some("127.0.0.1:8083"),
        _ => None,
    };
    let mut commands = Vec::new();
    for line in block.lines() {
        let command = line.strip_prefix("tributary ").expect("a command of ours");
        let listen = usual(command.split(' ').next().expect("a word")).map(|place| format!(" --listen {place}"));
        let command = ports.iter().fold(command.to_owned() + &listen.unwrap_or_default(), |command, (said, free)| {
            command.replace(said, free)
        });
        let mut arguments: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if arguments[0] == "serve" {
            arguments.push(format!("--data-dir={}", apart.folder().path().display()));
        }
        commands.push(arguments);
    }
    let started = join_all(commands.iter().map(|command| Platform::spawn(command, &[], apart.folder()))).await;
    let started = started.into_iter().map(|one| one.unwrap_or_else(|unborn| panic!("{}", unborn.said)));
    let started: Vec<Platform> = started.collect();
    for process in &started {
        process.until("ready", || async { process.get("/readyz").await.0 == 200 }).await;
    }
    let gateway = started.last().expect("the gateway");
    let id = place(gateway, &stock_up(gateway).await).await;
    let token = confirmed(gateway, id).await;
    assert_eq!(read(gateway, id, &token).await["status"], "CONFIRMED");
    assert_eq!(faults(gateway).await, Vec::<String>::new());
    let verified = tributary(&["projection", "verify", "order_details", "--url", &gateway.url]).await;
    assert!(verified.status.success(), "{}", text(&verified));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_wrong_is_said_before_anything_starts() {
    for (arguments, said) in [
        (&["serve", "orders"][..], "--catalog-url, --users-url"),
        (&["serve", "users", "catalog", "--users-database-url=postgres://h/u"], "--catalog-database-url"),
        (&["serve", "users", "--listen=0.0.0.0:8081"], "not a loopback address"),
        (&["serve", "nobody"], "invalid value 'nobody'"),
        (&["project"], "--query-database-url"),
        (&["project", "--query-database-url=postgres://h/q"], "--orders-url"),
        (&["graphql", "--query-database-url=mysql://h/q"], "--query-database-url: not a URL"),
        (&["gateway", "--services-url=http://one"], "--graphql-url"),
        (&["gateway", "--listen=0.0.0.0:1", "--services-url=http://one"], "not a loopback address"),
    ] {
        let refused = tributary(arguments).await;
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {}", text(&refused));
        assert!(text(&refused).contains(said), "{arguments:?}: {}", text(&refused));
    }
}
