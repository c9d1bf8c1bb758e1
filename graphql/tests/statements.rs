//! What a query costs in statements, on both databases: one for each connection, whatever is selected of it, and only for
//! the columns that are.
//!
//! The database driver tells each statement it sends. Nobody else sends any in this process: the projector has stopped.

#[path = "support/shop.rs"]
mod shop;
mod support;

use std::sync::Mutex;

use events::{orders::OrderStatus, principal::Principal};
use projections::kit::Kind;
use serde_json::json;
use shop::{Shop, customer, order, product};
use support::Endpoint;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// What the driver calls its news.
const DRIVER: &str = "sqlx::query";

static SENT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps the text of every statement.
struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == DRIVER
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let statement = if text.whole.trim().is_empty() { text.summary } else { text.whole };
        SENT.lock().unwrap().push(statement.split_whitespace().collect::<Vec<_>>().join(" "));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The statement; short ones are their own summary.
#[derive(Default)]
struct Text {
    whole: String,
    summary: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "db.statement" => value.clone_into(&mut self.whole),
            "summary" => value.clone_into(&mut self.summary),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// What `query` sends, without what opens a connection, and what is asked once: which generation is live.
async fn sent(endpoint: &Endpoint, query: &str) -> Vec<String> {
    endpoint.data(query).await;
    SENT.lock().unwrap().clear();
    let answer = endpoint.post(&json!({ "query": query })).send().await;
    let json = answer.json();
    assert!(json["errors"].is_null(), "{query}: {json}");
    let opens = |text: &String| ["pragma", "attach", "set "].iter().any(|word| text.to_lowercase().starts_with(word));
    std::mem::take(&mut *SENT.lock().unwrap()).into_iter().filter(|text| !opens(text)).collect()
}

async fn every_query_costs_what_it_should(kind: Kind) {
    let shop = Shop::open_on(kind).await;
    shop.customer(1, "Ada").await;
    shop.old_product(1, "Earl Grey").await;
    for n in 1..=6 {
        shop.order(n, customer(1), OrderStatus::Shipped).await;
    }
    shop.caught_up().await;
    shop.stop_projecting().await;
    let staff = shop.endpoint.clone();
    let ada = staff.by(Principal::try_new("ada", Some(customer(1)), ["query".to_owned()]).unwrap());

    let page = staff.data("{ orders(first: 2) { pageInfo { endCursor } } }").await;
    let after = page["orders"]["pageInfo"]["endCursor"].to_string();
    let (an_order, an_user, a_product) = (order(1), customer(1), product(1));
    let whole = "edges { cursor node { status total { amountMinor } lines { productName } payment { status } } }
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } totalCount";
    let everything = format!(
        "orders(first: 2, after: {after}, before: {after}, filter: {{ customerId: \"{an_user}\", status: SHIPPED,
            statuses: [SHIPPED, PENDING], placedAfter: \"2026-01-01T00:00:00Z\", placedBefore: \"2027-01-01T00:00:00Z\",
            total: {{ currency: \"USD\", minMinor: 1, maxMinor: 9007199254740991 }}, productId: \"{a_product}\",
            externalRef: \"ref-1\" }}) {{ {whole} }}"
    );
    let (from, to) = ("from: \"2026-01-01\"", "to: \"2026-12-31\"");
    for (query, expected) in [
        (format!("order(id: \"{an_order}\") {{ status }}"), 1),
        (format!("order(id: \"{an_order}\", asOf: \"2100-01-01T00:00:00Z\") {{ status lines {{ quantity }} }}"), 1),
        ("orders { edges { node { id } } }".to_owned(), 1),
        ("orders { totalCount }".to_owned(), 1),
        (format!("orders(last: 2, before: {after}) {{ {whole} }}"), 1),
        (everything, 1),
        (format!("orders(orderBy: {{ field: TOTAL, direction: ASC }}) {{ {whole} }}"), 1),
        (format!("orders(first: 2, asOf: \"2100-01-01T00:00:00Z\") {{ {whole} }}"), 1),
        // a timeline is of another read model: one for all orders of a page
        ("orders { edges { node { timeline { what } again: timeline { at } } } }".to_owned(), 2),
        (format!("order(id: \"{an_order}\") {{ timeline {{ what }} }}"), 2),
        // whom the words find, and what is told of them
        (format!("search(text: \"earl\") {{ {whole} }}"), 2),
        ("search(text: \"nothing\") { totalCount edges { cursor } }".to_owned(), 1),
        ("searchOrders(text: \"earl\") { orderId }".to_owned(), 1),
        (format!("customer(id: \"{an_user}\") {{ name }}"), 1),
        (format!("customer(id: \"{an_user}\") {{ name orders(first: 3) {{ {whole} }} }}"), 2),
        (format!("customerOverview(id: \"{an_user}\") {{ name totals {{ orders }} }}"), 1),
        (format!("product(id: \"{a_product}\") {{ name }}"), 1),
        ("products { edges { cursor node { name } } pageInfo { hasNextPage } totalCount }".to_owned(), 1),
        (format!("salesByDay({from}, {to}) {{ day amount {{ amountMinor }} }}"), 1),
        (format!("topProducts({from}, {to}, currency: \"USD\") {{ product {{ name }} quantity }}"), 1),
        (format!("productSalesByDay(productId: \"{a_product}\", {from}, {to}) {{ days {{ day }} }}"), 1),
    ] {
        let query = format!("{{ {query} }}");
        let statements = sent(&staff, &query).await;
        assert_eq!(statements.len(), expected, "{query} on {kind:?}: {statements:#?}");
        if query.contains("sales") || query.contains("Sales") || query.contains("topProducts") {
            continue;
        }
        // whose an order is, its timeline's read model does not know
        let more = usize::from(query.contains("timeline"));
        let statements = sent(&ada, &query).await;
        assert_eq!(statements.len(), expected + more, "{query} for a customer on {kind:?}: {statements:#?}");
    }

    let selected = |statements: Vec<String>| statements.into_iter().next().unwrap();
    let two = selected(sent(&staff, "{ orders { edges { node { status } } } }").await);
    for column in [" lines", "payment", "reservation", "shipment", "customer_", "total_minor", "external_ref", "count("]
    {
        assert!(!two.contains(column), "{column} was not asked for: {two}");
    }
    let one = selected(
        sent(
            &staff,
            &format!(
                "{{ node(id: \"{}\") {{ ...on Order {{ ...f }} }} }} fragment f on Order {{ customer {{ email }} }}",
                node_id()
            ),
        )
        .await,
    );
    assert!(one.contains("customer_email") && !one.contains("customer_name") && !one.contains("lines"), "{one}");
    let counted = selected(sent(&staff, "{ orders(first: 1) { totalCount edges { cursor } } }").await);
    assert!(counted.contains("count(*)"), "{counted}");
}

fn node_id() -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(format!("Order:{}", order(1)))
}

#[tokio::test]
async fn every_connection_is_one_statement_for_the_columns_that_are_asked_for() {
    tracing::subscriber::set_global_default(Listener).unwrap();
    // one after the other: the driver tells for the whole process
    for kind in [Kind::Sqlite, Kind::Postgres] {
        every_query_costs_what_it_should(kind).await;
    }
}
