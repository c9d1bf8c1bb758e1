//! Two customers who have each ordered, with as much of everything as the schema can tell.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::common::{
    Home, Platform,
    auth::{token, with_authentication},
};

const ANA: &str = "a0a0a0a0-1111-4111-8111-111111111111";
const EVA: &str = "e0e0e0e0-2222-4222-8222-222222222222";
/// By what a search finds one, and not the other.
pub const ANAS_NAME: &str = "Quetzalcoatl";
pub const EVAS_NAME: &str = "Xochipilli";
/// An id that nobody has.
const NOBODY: &str = "f0f0f0f0-3333-4333-8333-333333333333";
const CHAI: &str = "c0c0c0c0-4444-4444-8444-444444444444";
/// Is never in stock.
const RARE: &str = "c0c0c0c0-5555-4555-8555-555555555555";

/// Whose questions are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Staff,
    /// Ana: what is asked for is hers.
    Owner,
    /// Eva: it is not.
    Other,
}

pub struct Story {
    pub platform: Platform,
    /// Shows nothing by itself.
    http: reqwest::Client,
    tokens: BTreeMap<Role, String>,
    /// Covers every command.
    pub seen: String,
    /// What stands for `{name}` in the arguments of the expectations.
    names: BTreeMap<String, String>,
    /// What no answer to Eva may have in it.
    pub secrets: Vec<String>,
    _home: Home,
}

impl Story {
    pub async fn told(home: Home) -> Self {
        let mut platform = with_authentication(&home, &["--rate-limit-per-second=0"]).await;
        let all: Vec<String> = write_side::REGISTER
            .iter()
            .flat_map(|one| ["read", "write"].map(|may| format!("{}:{may}", one.name)))
            .collect();
        let scopes = format!("{} import query", all.join(" "));
        let tokens = BTreeMap::from([
            (Role::Staff, token("desk-7", &scopes, None, 1)),
            (Role::Owner, token("u-1", "query", Some(ANA), 1)),
            (Role::Other, token("u-2", "query", Some(EVA), 1)),
        ]);
        let mut headers = reqwest::header::HeaderMap::new();
        let bearer = format!("Bearer {}", tokens[&Role::Staff]);
        headers.insert("authorization", bearer.parse().expect("a header value"));
        platform.http = reqwest::Client::builder().default_headers(headers).build().expect("a client");
        let names = [("ana", ANA), ("eva", EVA), ("nobody", NOBODY), ("chai", CHAI)];
        let mut names: BTreeMap<_, _> = names.map(|(name, id)| (name.to_owned(), id.to_owned())).into();
        let day = |days: i64| (chrono::Utc::now() + chrono::TimeDelta::days(days)).date_naive().to_string();
        names.extend([("from".to_owned(), day(-2)), ("to".to_owned(), day(2))]);
        let http = reqwest::Client::new();
        let mut story = Self { platform, http, tokens, seen: String::new(), names, secrets: Vec::new(), _home: home };
        story.happen().await;
        story
    }

    async fn happen(&mut self) {
        for (id, name, email) in [
            (ANA, format!("Ana {ANAS_NAME}"), "ana.quetzal@example.com"),
            (EVA, format!("Eva {EVAS_NAME}"), "eva.xochi@example.com"),
        ] {
            self.command("/users", json!({"id": id, "name": name, "email": email})).await;
        }
        let price = json!({"amount_minor": 1_250, "currency": "EUR"});
        self.command("/products", json!({"id": CHAI, "sku": "CHAI", "name": "Chai", "unit_price": price})).await;
        self.command("/products", json!({"id": RARE, "sku": "RARE", "name": "Rare tea", "unit_price": price})).await;
        self.command(&format!("/stock/{CHAI}/receive"), json!({"quantity": 50})).await;
        // Ana's, whose parts say as much as they can; Eva's is like any other
        for (customer, letter) in [(ANA, 'a'), (EVA, 'e')] {
            let order = |n: u32| format!("{letter}0{n}00000-6666-4666-8666-666666666666");
            let placed = |n: u32, product: &str, method: &str| {
                json!({
                    "id": order(n), "customer_id": customer, "external_ref": format!("{letter}-ref-{n}"),
                    "lines": [{"product_id": product, "quantity": 2}], "payment_method": method,
                })
            };
            self.command("/orders", placed(1, CHAI, "pm_approve")).await;
            let shipment = self.checkout(&order(1), "AWAITING_DISPATCH").await["shipment"]["id"].clone();
            let shipment = shipment.as_str().expect("a shipment");
            let parcel = json!({"carrier": format!("{letter}-carrier"), "tracking": format!("{letter}-tracking-1")});
            self.command(&format!("/shipments/{shipment}/dispatch"), parcel).await;
            self.checkout(&order(1), "AWAITING_DELIVERY").await;
            self.command(&format!("/shipments/{shipment}/deliver"), json!({})).await;
            self.checkout(&order(1), "COMPLETED").await;
            let back = json!({"lines": [{"product_id": CHAI, "quantity": 1}]});
            self.command(&format!("/orders/{}/return", order(1)), back).await;
            self.command("/orders", placed(2, CHAI, "pm_decline")).await;
            self.checkout(&order(2), "COMPENSATED").await;
            self.command("/orders", placed(3, RARE, "pm_approve")).await;
            self.checkout(&order(3), "COMPENSATED").await;
            self.command("/orders", placed(4, CHAI, "pm_approve")).await;
            self.checkout(&order(4), "AWAITING_DISPATCH").await;
            self.command(&format!("/orders/{}/cancel", order(4)), json!({"reason": format!("{letter}-reason: late")}))
                .await;
            self.names.insert(format!("{letter}_order"), order(1));
            self.names.insert(format!("{letter}_declined"), order(2));
            self.names.insert(format!("{letter}_rejected"), order(3));
            self.names.insert(format!("{letter}_cancelled"), order(4));
        }
        self.settle().await;
        self.remember().await;
    }

    /// Until nobody has anything to do any more: what follows is compared answer by answer.
    async fn settle(&self) {
        let query = "{ orders(first: 100) { edges { node { id status payment { status updatedAt } \
                     shipment { status updatedAt } reservation { status updatedAt } } } } \
                     projections { sources { source headPosition lagEvents } } }";
        let (mut last, mut same) = (Value::Null, 0);
        while same < 5 {
            let now = self.platform.query(query, &self.seen).await;
            let sources = now["projections"].as_array().into_iter().flatten();
            let mut sources = sources.flat_map(|one| one["sources"].as_array().cloned().unwrap_or_default());
            let is_caught_up = sources.all(|source| source["lagEvents"] == 0);
            same = if is_caught_up && now == last { same + 1 } else { 0 };
            last = now;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }

    /// Ids, cursors and words that are Ana's alone.
    async fn remember(&mut self) {
        let (anas, evas) = (self.everything_of(ANA).await, self.everything_of(EVA).await);
        let (mut secrets, mut shared) = (Vec::new(), Vec::new());
        texts(&anas, &mut secrets);
        texts(&evas, &mut shared);
        // such as why an order could not be carried out
        secrets.retain(|text| !shared.contains(text));
        assert!(secrets.len() > 20, "Ana has much to hide: {secrets:?}");
        self.secrets = secrets;
        let edges = anas["orders"]["edges"].as_array().expect("orders");
        let cursor = edges[edges.len() / 2]["cursor"].as_str().expect("a cursor").to_owned();
        self.names.insert("a_cursor".to_owned(), cursor);
    }

    async fn everything_of(&self, customer: &str) -> Value {
        let query = format!(
            "{{ orders(first: 100, filter: {{customerId: \"{customer}\"}}) {{ edges {{ cursor node {{ id orderId externalRef \
             returnReason cancelReason customer {{ customerId name email }} payment {{ payments {{ paymentId }} }} \
             shipment {{ carrier tracking shipments {{ shipmentId }} }} }} }} }} \
             customer(id: \"{customer}\") {{ id }} }}"
        );
        self.platform.query(&query, &self.seen).await
    }

    async fn command(&mut self, path: &str, body: Value) {
        let key = uuid::Uuid::now_v7().to_string();
        let token = self.platform.command(path, &key, &self.seen, body).await.token;
        self.seen = if self.seen.is_empty() { token } else { merged(&self.seen, &token) };
    }

    /// What it is once it has come so far.
    async fn checkout(&self, order: &str, phase: &str) -> Value {
        let path = format!("/checkouts/{order}");
        self.platform.until(phase, || async { self.platform.get(&path).await.1["phase"] == phase }).await;
        self.platform.get(&path).await.1
    }

    /// The text with what its `{names}` stand for.
    pub fn named(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (name, id)| text.replace(&format!("{{{name}}}"), id))
    }

    /// An answer without what was asked for: a refusal may repeat it.
    pub fn unnamed(&self, asked: &str, text: &str) -> String {
        self.names
            .values()
            .filter(|id| asked.contains(id.as_str()))
            .fold(text.to_owned(), |text, id| text.replace(id.as_str(), "<asked>"))
    }

    /// The body of the answer to a question; `None` asks without a token.
    pub async fn ask(&self, role: Option<Role>, document: &str) -> (u16, String) {
        let answer = self.request(role).json(&json!({"query": document})).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a text"))
    }

    /// A question that reads everything that has happened; `None` shows no token.
    pub fn request(&self, role: Option<Role>) -> reqwest::RequestBuilder {
        let request = self.http.post(format!("{}/graphql", self.platform.url));
        let request = match role {
            Some(role) => request.bearer_auth(&self.tokens[&role]),
            None => request,
        };
        request.header("consistency-token", &self.seen).header("consistency-wait", "20s")
    }

    /// Gives somebody another name.
    pub async fn rename(&mut self, who: &str, name: &str) {
        let id = self.names[who].clone();
        self.command(&format!("/users/{id}/rename"), json!({ "name": name })).await;
    }
}

/// The later of each source.
fn merged(one: &str, two: &str) -> String {
    let mut token: events::consistency::ConsistencyToken = one.parse().expect("a token");
    token.merge(&two.parse().expect("a token"));
    token.to_string()
}

fn texts(value: &Value, all: &mut Vec<String>) {
    match value {
        Value::String(text) => all.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|one| texts(one, all)),
        Value::Object(fields) => fields.values().for_each(|one| texts(one, all)),
        _ => {}
    }
}
