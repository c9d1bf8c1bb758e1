//! `/metrics` of every role: to the letter of the format, and as `promtool check metrics` wants it.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{
    Home, Platform,
    apart::{Apart, all},
};
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};
use testkit::promtool;
use uuid::Uuid;

/// The most series of one name: more grow with what is done, or are of no use to anybody.
const SERIES_OF_ONE_MAX: usize = 600;

const CUSTOMER: &str = "11111111-1111-4111-8111-111111111111";
const PRODUCT: &str = "22222222-2222-4222-8222-222222222222";

/// The values of a page by name and then by labels, as they are written; and of which kind each family is.
#[derive(Debug, Default)]
struct Page {
    samples: BTreeMap<String, BTreeMap<Vec<(String, String)>, f64>>,
    families: BTreeMap<String, String>,
}

impl Page {
    /// Reads the text format, and refuses what is not to its letter or not as names should be.
    fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line ends");
        let mut page = Self::default();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let (name, help) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).expect(line);
            assert!(is_name(name) && !help.trim().is_empty(), "{line}");
            let of_type = lines.next().expect("a type behind the help");
            let kind = of_type.strip_prefix(&format!("# TYPE {name} ")).expect(of_type);
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{of_type}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}: counters and no others end in _total");
            for unit in ["_ms", "_milliseconds", "_minutes", "_kilobytes", "_gauge", "_counter"] {
                assert!(!name.ends_with(unit), "{name}: a base unit, and no type");
            }
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let (told, labels, value) = sample(line);
                let suffix = told.strip_prefix(name).expect("values stand under their name");
                let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.contains(&suffix), "{line}");
                let samples = page.samples.entry(told.to_owned()).or_default();
                assert!(samples.insert(labels, value).is_none(), "twice: {line}");
                assert!(samples.len() <= SERIES_OF_ONE_MAX, "{told} has too many series");
            }
            assert!(page.samples.keys().any(|told| told.starts_with(name)), "{name} has values");
            assert!(page.families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is there once");
        }
        page
    }

    /// Every name with its labels.
    fn series(&self) -> BTreeSet<(&str, &[(String, String)])> {
        let all = self.samples.iter();
        all.flat_map(|(name, samples)| samples.keys().map(|labels| (name.as_str(), labels.as_slice()))).collect()
    }

    /// The value of the labels, in any order.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: BTreeSet<_> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let is_wanted = |labels: &&Vec<_>| labels.iter().cloned().collect::<BTreeSet<_>>() == wanted;
        let samples = self.samples.get(name)?;
        samples.keys().find(is_wanted).map(|labels| samples[labels])
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|char: char| char.is_ascii_lowercase())
        && text.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
        && !text.contains("__")
}

/// One line: `name{label="value",...} number`.
fn sample(line: &str) -> (&str, Vec<(String, String)>, f64) {
    let (name, rest) = line.split_at(line.find(['{', ' ']).expect(line));
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.rsplit_once("} ").expect(line),
        None => ("", rest.strip_prefix(' ').expect(line)),
    };
    let value: f64 = value.parse().expect(line);
    assert!(value.is_finite() && value >= 0.0, "{line}");
    let mut rest = labels;
    let mut read = Vec::new();
    while !rest.is_empty() {
        let (label, behind) = rest.split_once("=\"").expect(line);
        assert!(is_name(label), "{line}");
        let end = closing_quote(behind).expect(line);
        read.push((label.to_owned(), behind[..end].to_owned()));
        rest = &behind[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) if !more.is_empty() => rest = more,
            Some(_) => panic!("nothing behind a comma: {line}"),
            None => assert!(rest.is_empty(), "{line}"),
        }
    }
    assert!(read.iter().all(|(_, value)| !looks_like_an_id(value)), "ids are never labels: {line}");
    (name, read, value)
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

fn looks_like_an_id(value: &str) -> bool {
    Uuid::parse_str(value).is_ok() || value.bytes().filter(u8::is_ascii_digit).count() > 8
}

async fn scraped(platform: &Platform) -> Page {
    let answer = platform.http.get(format!("{}/metrics", platform.url)).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text().await.expect("text");
    promtool::check(&text).unwrap();
    Page::read(&text)
}

/// What `docs/metrics.md` explains, less what begins all names.
fn documented() -> BTreeSet<&'static str> {
    let guide = include_str!("../../docs/metrics.md");
    guide.lines().filter_map(|line| line.strip_prefix("| `tributary_")?.split('`').next()).collect()
}

fn told(page: &Page) -> BTreeSet<&str> {
    page.families.keys().map(|name| name.trim_start_matches("tributary_")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_tells_how_far_every_follower_is() {
    let home = Home::sqlite();
    let platform = Platform::up(&home).await;
    let price = json!({"amount_minor": 1_250, "currency": "EUR"});
    let product = json!({"id": PRODUCT, "sku": "MAP-1", "name": "River map", "unit_price": price});
    platform.command("/products", "p", "", product).await;
    let of = |kind, follower, source| [("kind", kind), ("follower", follower), ("source", source)];
    let rows = of("projection", "order_details", "catalog");
    platform
        .until("caught up", async || {
            let page = scraped(&platform).await;
            let lag = page.value("tributary_follower_lag_events", &rows);
            page.value("tributary_follower_position", &rows) == Some(1.0) && lag == Some(0.0)
        })
        .await;
    let page = scraped(&platform).await;
    assert_eq!(page.value("tributary_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    assert_eq!(page.value("tributary_projection_live_generation", &[("projection", "order_details")]), Some(1.0));
    assert_eq!(page.value("tributary_projection_rebuilding", &[("projection", "order_details")]), Some(0.0));
    for source in ["users", "catalog", "orders", "inventory", "payments", "shipping"] {
        let labels = of("projection", "order_details", source);
        for name in ["lag_seconds", "halted", "parked_streams"] {
            assert_eq!(page.value(&format!("tributary_follower_{name}"), &labels), Some(0.0), "{name} of {source}");
        }
        let age = page.value("tributary_follower_head_age_seconds", &labels);
        assert!(age.is_some_and(|age| age < 60.0), "the head of {source} was told: {age:?}");
    }
    let copied = of("replica", "orders", "catalog");
    let sent = of("reactor", "notifications", "orders");
    for labels in [copied, sent] {
        assert_eq!(page.value("tributary_follower_halted", &labels), Some(0.0), "{labels:?}");
    }
    for state in ["waiting", "failing", "timer"] {
        let labels = [("reactor", "payments"), ("state", state)];
        assert_eq!(page.value("tributary_reactor_duties", &labels), Some(0.0), "{state}");
    }

    // there are no pieces of it: the saga of an order for it soon ends
    let user = json!({"id": CUSTOMER, "name": "Ada Lovelace", "email": "ada@example.com"});
    let known = platform.command("/users", "u", "", user).await.token;
    let order = json!({"customer_id": CUSTOMER, "lines": [{"product_id": PRODUCT, "quantity": 1}]});
    platform.command("/orders", "o", &known, order).await;
    let undone = [("saga", "checkout"), ("phase", "COMPENSATED")];
    let counted = async || scraped(&platform).await.value("tributary_sagas", &undone) == Some(1.0);
    platform.until("undone and counted", counted).await;
    let page = scraped(&platform).await;
    for name in ["tributary_saga_oldest_open_age_seconds", "tributary_sagas_stuck", "tributary_sagas_overdue"] {
        assert_eq!(page.value(name, &undone[..1]), Some(0.0), "{name}");
    }
    let listed = [("kind", "index"), ("follower", "checkout"), ("source", "checkout")];
    assert_eq!(page.value("tributary_follower_halted", &listed), Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_commands_is_counted_and_nothing_of_theirs_is_a_label() {
    let home = Home::sqlite();
    let platform = Platform::up(&home).await;
    let user =
        |n: u32| json!({"id": Uuid::from_u128(n.into()), "name": "Ada", "email": format!("ada-{n}@example.com")});
    platform.command("/users", "first", "", user(1)).await;
    platform.query("{ orders(first: 1) { edges { node { orderId } } } }", "").await;
    let rows = [("kind", "projection"), ("follower", "order_details"), ("source", "users")];
    let is_read = async || scraped(&platform).await.value("tributary_follower_events_total", &rows) == Some(1.0);
    platform.until("read", is_read).await;
    let before = scraped(&platform).await;

    for n in 2..=30 {
        platform.command("/users", &format!("key-{n}"), "", user(n)).await;
    }
    platform.command("/users", "key-2", "", user(2)).await;
    let refused = platform.post("/users", "taken", "", &json!({"name": "Eva", "email": "ada-1@example.com"})).await;
    assert_eq!(refused.expect("an answer").status, 422);
    let reused = platform.post("/users", "key-2", "", &user(99)).await;
    assert_eq!(reused.expect("an answer").status, 422);
    let is_read = async || scraped(&platform).await.value("tributary_follower_events_total", &rows) == Some(30.0);
    platform.until("read", is_read).await;

    let page = scraped(&platform).await;
    let outcome = |outcome| page.value("tributary_commands_total", &[("service", "users"), ("outcome", outcome)]);
    for (name, count) in
        [("appended", 30.0), ("replayed", 1.0), ("refused", 1.0), ("idempotency_key_reused", 1.0), ("internal", 0.0)]
    {
        assert_eq!(outcome(name), Some(count), "{name}");
    }
    let users = [("service", "users")];
    assert_eq!(page.value("tributary_command_duration_seconds_count", &users), Some(33.0));
    assert_eq!(page.value("tributary_commands_under_way", &users), Some(0.0));
    for name in ["tributary_log_queue_chains", "tributary_log_queue_bytes", "tributary_log_resends_total"] {
        assert_eq!(page.value(name, &users), Some(0.0), "{name}");
    }
    let called = |database, call| {
        page.value("tributary_database_call_duration_seconds_count", &[("database", database), ("call", call)])
    };
    // as many transactions as batches, and as many commands in them as reached the log
    assert_eq!(called("users", "append"), page.value("tributary_log_batch_commands_count", &users));
    let batched = page.value("tributary_log_batch_commands_sum", &users).expect("batches");
    assert!((32.0..=34.0).contains(&batched), "{batched} commands went to the log");
    for (database, call) in [("users", "page"), ("query", "transaction"), ("query", "query")] {
        assert!(called(database, call).is_some_and(|count| count >= 1.0), "{call} of {database}");
    }
    for (database, part) in [("users", "log"), ("query", "graphql"), ("query", "projector")] {
        let labels = [("database", database), ("part", part)];
        let waits = page.value("tributary_database_connection_wait_duration_seconds_count", &labels);
        assert!(waits.is_some_and(|count| count >= 1.0), "{part} of {database}: {waits:?}");
        assert_eq!(page.value("tributary_database_connection_waiters", &labels), Some(0.0), "{part} of {database}");
        for reason in ["deadlock", "lock_timeout", "disk_full", "other"] {
            let labels = [labels[0], labels[1], ("reason", reason)];
            assert_eq!(page.value("tributary_database_failures_total", &labels), Some(0.0), "{labels:?}");
        }
    }
    let follower = [rows[0], rows[1]];
    assert_eq!(page.value("tributary_follower_batch_events_sum", &follower), Some(30.0));
    for reason in ["store", "parked", "halted"] {
        let labels = [follower[0], follower[1], ("reason", reason)];
        assert_eq!(page.value("tributary_follower_failures_total", &labels), Some(0.0), "{reason}");
    }
    let answered = |class| page.value("tributary_http_responses_total", &[("class", class)]);
    assert!(answered("2xx").is_some_and(|count| count >= 31.0) && answered("4xx").is_some_and(|count| count >= 2.0));

    // thirty keys, addresses, ids and correlation ids later there are the same series
    assert_eq!(page.series().difference(&before.series()).collect::<Vec<_>>(), Vec::<&(_, _)>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_tells_what_is_its_own_and_together_what_the_guide_explains() {
    let mut apart = Apart::new(&[]).await;
    apart.start(&all()).await;
    let gateway = apart.gateway();
    gateway.query("{ orders(first: 1) { edges { node { orderId } } } }", "").await;
    let user = json!({"id": CUSTOMER, "name": "Ada Lovelace", "email": "ada@example.com"});
    let known = gateway.command("/users", "u", "", user).await.token;
    let price = json!({"amount_minor": 1_250, "currency": "EUR"});
    let product = json!({"id": PRODUCT, "sku": "MAP-1", "name": "River map", "unit_price": price});
    let product = gateway.command("/products", "p", "", product).await.token;
    let order = json!({"customer_id": CUSTOMER, "lines": [{"product_id": PRODUCT, "quantity": 1}]});
    gateway.command("/orders", "o", &format!("{known},{product}"), order).await;
    let undone = [("saga", "checkout"), ("phase", "COMPENSATED")];
    let checkout = apart.of("checkout");
    let counted = async || scraped(checkout).await.value("tributary_sagas", &undone) == Some(1.0);
    gateway.until("undone and counted", counted).await;

    // somebody holds the head of a log, and a command waits for it
    let mut other = PgConnection::connect(apart.database("users")).await.expect("a connection");
    other.execute("begin; select position from log_head for update").await.expect("a lock");
    let eva = json!({"name": "Eva", "email": "eva@example.com"});
    let waiting = gateway.post("/users", "waits", "", &eva);
    let (waiting, ()) = tokio::join!(waiting, async {
        let users = [("database", "users")];
        let seen = async || {
            let page = scraped(apart.of("users")).await;
            let wait = page.value("tributary_database_lock_longest_wait_seconds", &users);
            page.value("tributary_database_lock_waiters", &users) == Some(1.0) && wait.is_some_and(|wait| wait > 0.1)
        };
        gateway.until("seen to wait", seen).await;
        assert_eq!(scraped(apart.of("users")).await.value("tributary_database_deadlocks_total", &users), Some(0.0));
        other.execute("rollback").await.expect("the lock is given back");
    });
    assert_eq!(waiting.expect("an answer").status, 201);

    let mut all_told = BTreeSet::new();
    for name in all() {
        let page = scraped(apart.of(name)).await;
        let told = told(&page);
        for common in ["build_info", "http_requests_under_way", "http_responses_total"] {
            assert!(told.contains(common), "{name} tells {common}");
        }
        let its_own = match name {
            "gateway" => "http_responses_total",
            "project" => "projection_live_generation",
            "graphql" => "graphql_requests_under_way",
            _ => "commands_total",
        };
        assert!(told.contains(its_own), "{name} tells {its_own}");
        let kept_in_a_database = told.contains("database_call_duration_seconds");
        assert_eq!(kept_in_a_database, name != "gateway", "{name}");
        if kept_in_a_database {
            let max = &page.samples["tributary_database_connections_max"];
            assert!(max.values().all(|max| *max >= 1.0), "{name}: {max:?}");
        }
        all_told.extend(told.into_iter().map(str::to_owned));
    }
    let all_told: BTreeSet<&str> = all_told.iter().map(String::as_str).collect();
    assert_eq!(documented(), all_told, "docs/metrics.md explains what is told");
}
