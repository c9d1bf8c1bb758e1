//! `/metrics`, read as strictly as `promtool check metrics` does.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Home, Platform};
use serde_json::json;

const CUSTOMER: &str = "11111111-1111-4111-8111-111111111111";
const PRODUCT: &str = "22222222-2222-4222-8222-222222222222";

/// The values of a page by name and then by labels, as they are written.
#[derive(Debug, Default)]
struct Page(BTreeMap<String, BTreeMap<Vec<(String, String)>, f64>>);

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
            assert!(["counter", "gauge"].contains(&kind), "{of_type}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}: counters and no others end in _total");
            for unit in ["_ms", "_milliseconds", "_minutes", "_kilobytes", "_gauge", "_counter"] {
                assert!(!name.ends_with(unit), "{name}: a base unit, and no type");
            }
            let mut samples = BTreeMap::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let (labels, value) = sample(name, line);
                assert!(samples.insert(labels, value).is_none(), "twice: {line}");
            }
            assert!(!samples.is_empty(), "{name} has values");
            assert!(page.0.insert(name.to_owned(), samples).is_none(), "{name} is there once");
        }
        page
    }

    /// The value of the labels, in any order.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: BTreeSet<_> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let is_wanted = |labels: &&Vec<_>| labels.iter().cloned().collect::<BTreeSet<_>>() == wanted;
        let samples = self.0.get(name)?;
        samples.keys().find(is_wanted).map(|labels| samples[labels])
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|char: char| char.is_ascii_lowercase())
        && text.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
        && !text.contains("__")
}

/// One line: `name{label="value",...} number`.
fn sample(name: &str, line: &str) -> (Vec<(String, String)>, f64) {
    let rest = line.strip_prefix(name).expect("values stand under their name");
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
    (read, value)
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
    uuid::Uuid::parse_str(value).is_ok() || value.bytes().filter(u8::is_ascii_digit).count() > 8
}

async fn scraped(platform: &Platform) -> Page {
    let answer = platform.http.get(format!("{}/metrics", platform.url)).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    Page::read(&answer.text().await.expect("text"))
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

    let documented = include_str!("../../docs/metrics.md");
    let documented: BTreeSet<&str> =
        documented.lines().filter_map(|line| line.strip_prefix("| `tributary_")?.split('`').next()).collect();
    let told: BTreeSet<&str> = page.0.keys().map(|name| name.trim_start_matches("tributary_")).collect();
    assert_eq!(documented, told, "docs/metrics.md explains what is told");
}
