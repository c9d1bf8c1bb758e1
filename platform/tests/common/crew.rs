//! Customers who order, change their mind and send back; a warehouse that sends; and an auditor who reads every feed.
//! They live longer than the platform, and ask again until they are answered, as anybody would.
#![allow(dead_code, reason = "every test uses its own part of this")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::{Duration, Instant},
};

use event_store::feed::FeedError;
use events::{ids::OrderId, orders::OrderStatus};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use testkit::checkout_laws::{Audit, Books, Standing};
use tokio::sync::{Semaphore, watch};

use super::plan::{Fate, Order, Plan};

/// Who orders, at once.
pub const CLIENTS: usize = 32;

/// An answer that takes longer is none: whoever was asked may be frozen.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// Feeds are read page by page, so what is cut off goes on where it was.
const READ_WAIT_MAX: Duration = Duration::from_secs(3);

/// Asked again after no answer.
const AGAIN: Duration = Duration::from_millis(50);

/// When no feed has had an event for so long, nothing is under way: longer than what was put off for want of an answer
/// waits before it is tried again.
const QUIET: Duration = Duration::from_secs(3);

/// A tenth of all, with a hand-over before it.
const SOME_MORE_WITHIN: Duration = Duration::from_secs(180);

pub struct Crew {
    pub plan: Plan,
    http: reqwest::Client,
    /// Where the platform is now: several processes, or none at the moment.
    urls: watch::Sender<Vec<String>>,
    /// What must be known before anything can be ordered.
    token: Mutex<String>,
    /// How many more orders may be placed.
    allowed: Semaphore,
    pub acknowledged: Mutex<BTreeSet<OrderId>>,
    done: Mutex<BTreeSet<(OrderId, &'static str)>>,
    /// Every command that was taken, by its key.
    taken: Mutex<BTreeMap<String, Taken>>,
    /// Status and code of every answer that was not the last word, and how often it was given; 0 where there was none.
    put_off: Mutex<BTreeMap<(u16, String), u64>>,
    audit: tokio::sync::Mutex<Audit>,
    at_rest: watch::Sender<bool>,
}

/// A command that was taken, and the token of that.
#[derive(Clone)]
struct Taken {
    path: String,
    body: Value,
    token: String,
}

/// What somebody does about an order.
struct Errand {
    what: &'static str,
    path: String,
    body: Value,
}

impl Crew {
    pub fn new(plan: Plan) -> Self {
        let http = reqwest::Client::builder().timeout(ANSWER_WAIT_MAX).build().expect("a client");
        Self {
            plan,
            http,
            urls: watch::Sender::default(),
            token: Mutex::default(),
            allowed: Semaphore::new(0),
            acknowledged: Mutex::default(),
            done: Mutex::default(),
            taken: Mutex::default(),
            put_off: Mutex::default(),
            audit: tokio::sync::Mutex::default(),
            at_rest: watch::Sender::default(),
        }
    }

    /// The platform is to be found here from now on.
    pub fn turn_to(&self, urls: &[&str]) {
        self.urls.send_replace(urls.iter().map(|&url| url.to_owned()).collect());
    }

    /// One of the processes there are; waits while there is none.
    async fn url(&self, n: u128) -> String {
        let mut urls = self.urls.subscribe();
        let urls = urls.wait_for(|urls| !urls.is_empty()).await.expect("the crew keeps the sender");
        urls[n as usize % urls.len()].clone()
    }

    /// Sends a command until it is answered, and gives status, token and body.
    async fn insist(&self, path: &str, key: &str, body: &Value) -> (u16, String, Value) {
        for attempt in 0.. {
            let url = self.url(path.len() as u128 + attempt).await;
            let token = self.token.lock().expect("no panic while held").clone();
            let request = self.http.post(format!("{url}{path}")).header("idempotency-key", key);
            let request = request.header("consistency-token", token).header("consistency-wait", "5s");
            let Ok(answer) = request.json(body).send().await else {
                self.note_put_off(0, "");
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            let status = answer.status().as_u16();
            let token = answer.headers().get("consistency-token").and_then(|token| token.to_str().ok());
            let token = token.unwrap_or_default().to_owned();
            // an answer that is cut off is none
            match answer.json::<Value>().await {
                Ok(answer) if !matches!(status, 408 | 409 | 425 | 429 | 500..) => {
                    if (200..300).contains(&status) {
                        let taken = Taken { path: path.to_owned(), body: body.clone(), token: token.clone() };
                        self.taken.lock().expect("no panic while held").insert(key.to_owned(), taken);
                    }
                    return (status, token, answer);
                }
                Ok(problem) => self.note_put_off(status, problem["code"].as_str().unwrap_or_default()),
                Err(_) => self.note_put_off(0, ""),
            }
            tokio::time::sleep(AGAIN).await;
        }
        unreachable!("it asks for ever")
    }

    /// Sends every command that was taken once more, under its key: each is answered with the token that it had. How many
    /// there are.
    pub async fn ask_again(&self) -> usize {
        let taken = self.taken.lock().expect("no panic while held").clone();
        let asking = stream::iter(&taken).for_each_concurrent(CLIENTS, |(key, taken)| async move {
            let (status, token, answer) = self.insist(&taken.path, key, &taken.body).await;
            assert!(
                (200..300).contains(&status),
                "{key} was taken, and then answered {status}: {answer}; {}",
                self.plan
            );
            assert_eq!(token, taken.token, "{key} has one effect; {}", self.plan);
        });
        asking.await;
        taken.len()
    }

    fn note_put_off(&self, status: u16, code: &str) {
        *self.put_off.lock().expect("no panic while held").entry((status, code.to_owned())).or_default() += 1;
    }

    /// What was answered when it was not the last word: status and code, and how often. No answer is 0.
    pub fn put_off(&self) -> BTreeMap<(u16, String), u64> {
        self.put_off.lock().expect("no panic while held").clone()
    }

    /// Customers, products and pieces.
    pub async fn prepare(&self) {
        let mut tokens = Vec::new();
        for (path, body) in self.plan.prelude() {
            let (status, token, answer) = self.insist(&path, &format!("{path} {}", body["id"]), &body).await;
            assert!((200..300).contains(&status), "{path} was answered {status}: {answer}");
            // the last ones stand for those before them
            if path == "/users" || path == "/products" {
                tokens.retain(|(known, _)| *known != path);
                tokens.push((path, token));
            }
        }
        let tokens: Vec<String> = tokens.into_iter().map(|(_, token)| token).collect();
        *self.token.lock().expect("no panic while held") = tokens.join(",");
    }

    /// So many more orders may be placed.
    pub fn let_order(&self, more: usize) {
        self.allowed.add_permits(more);
    }

    /// Every order is placed once it may be, by so many customers at a time, and cancelled again by who thinks better of it
    /// at once.
    pub async fn order_all(&self) {
        let placing = stream::iter(&self.plan.orders).for_each_concurrent(CLIENTS, |order| async move {
            self.allowed.acquire().await.expect("it is never closed").forget();
            let (status, _, answer) = self.insist("/orders", &order.id.to_string(), &order.body()).await;
            assert!((200..300).contains(&status), "order {} was answered {status}: {answer}", order.id);
            self.acknowledged.lock().expect("no panic while held").insert(order.id);
            if order.fate == Fate::CancelledAtOnce {
                self.run(order, &cancel(order)).await;
            }
        });
        placing.await;
    }

    async fn run(&self, order: &Order, errand: &Errand) {
        let Errand { what, path, body } = errand;
        let (status, _, answer) = self.insist(path, &format!("{what} {}", order.id), body).await;
        // refused is answered, too: somebody was quicker
        assert!((200..300).contains(&status) || answer["code"].is_string(), "{path}: {status} {answer}");
        self.done.lock().expect("no panic while held").insert((order.id, *what));
    }

    /// Reads the feeds and sees to what is to be done until nothing is any more.
    ///
    /// # Panics
    /// When that takes longer than `patience`.
    pub async fn work(&self, patience: Duration) {
        let (started, mut quiet_since, mut seen) = (Instant::now(), Instant::now(), 0);
        loop {
            let url = self.url(0).await;
            let mut audit = self.audit.lock().await;
            // who was killed or frozen meanwhile is asked again; but a log never forgets what it has said
            let read = tokio::time::timeout(READ_WAIT_MAX, audit.read(&url)).await;
            if let Ok(Err(error)) = read {
                let forgotten = matches!(
                    error.downcast_ref::<FeedError>(),
                    Some(FeedError::Regressed { .. } | FeedError::Damaged { .. })
                );
                assert!(!forgotten, "{error:#}; {}", self.plan);
            }
            assert!(audit.books.breaches().is_empty(), "{}; {}", list(audit.books.breaches()), self.plan);
            let errands = self.errands(&audit.books);
            let (events, under_way) = (audit.events(), audit.books.under_way());
            drop(audit);
            if events != seen || !errands.is_empty() {
                (seen, quiet_since) = (events, Instant::now());
            }
            let is_all_there = self.acknowledged.lock().expect("no panic while held").len() == self.plan.orders.len();
            if is_all_there && under_way.is_empty() && quiet_since.elapsed() > QUIET {
                break;
            }
            assert!(
                started.elapsed() < patience,
                "{} orders have no end after {patience:?}: {:?}; {}",
                under_way.len(),
                under_way.iter().take(9).collect::<Vec<_>>(),
                self.plan
            );
            let errands = stream::iter(&errands);
            errands.for_each_concurrent(CLIENTS, |(order, errand)| self.run(order, errand)).await;
            tokio::time::sleep(AGAIN).await;
        }
        self.at_rest.send_replace(true);
    }

    /// Completes once there is nothing to do any more.
    pub async fn rested(&self) {
        let mut at_rest = self.at_rest.subscribe();
        at_rest.wait_for(|at_rest| *at_rest).await.expect("the crew keeps the sender");
    }

    /// What is to be done now.
    fn errands(&self, books: &Books) -> Vec<(&Order, Errand)> {
        let done = self.done.lock().expect("no panic while held");
        let errands = self.plan.orders.iter().filter_map(|order| {
            let errand = errand(order, &books.standing(order.id)?)?;
            (!done.contains(&(order.id, errand.what))).then_some((order, errand))
        });
        errands.collect()
    }

    /// How many have ended.
    pub async fn ended(&self) -> usize {
        self.audit.lock().await.books.ends().values().sum()
    }

    /// Waits until a tenth of all have ended that have not yet.
    pub async fn some_more_ended(&self) {
        let (started, before) = (Instant::now(), self.ended().await);
        while self.ended().await < before + self.plan.orders.len() / 10 {
            assert!(started.elapsed() < SOME_MORE_WITHIN, "no more than {before} end; {}", self.plan);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The books, once everything is read.
    pub async fn books(&self) -> tokio::sync::MutexGuard<'_, Audit> {
        self.audit.lock().await
    }
}

/// One breach a line.
pub fn list<T: ToString>(breaches: &[T]) -> String {
    let lines: Vec<String> = breaches.iter().take(20).map(ToString::to_string).collect();
    format!("{} breaches:\n{}", breaches.len(), lines.join("\n"))
}

fn cancel(order: &Order) -> Errand {
    let path = format!("/orders/{}/cancel", order.id);
    Errand { what: "cancel", path, body: json!({ "reason": "ordered twice" }) }
}

/// What is to be done about an order that stands so.
fn errand(order: &Order, standing: &Standing<'_>) -> Option<Errand> {
    let parcel = |what: &'static str, body: Value| {
        Some(Errand { what, path: format!("/shipments/{}/{what}", standing.shipment_id), body })
    };
    let back = |body: Value| Some(Errand { what: "return", path: format!("/orders/{}/return", order.id), body });
    match (standing.phase, order.fate) {
        ("AWAITING_DISPATCH", Fate::CancelledOnceConfirmed) => Some(cancel(order)),
        ("AWAITING_DISPATCH", _) => parcel("dispatch", json!({ "carrier": "River Post", "tracking": "RP-1" })),
        ("AWAITING_DELIVERY", Fate::Lost) => parcel("lose", json!({ "reason": "the lorry is gone" })),
        ("AWAITING_DELIVERY", _) => parcel("deliver", json!({})),
        ("COMPLETED", Fate::ReturnedInPart) if standing.status == OrderStatus::Delivered => back(order.one_piece()),
        ("COMPLETED", Fate::Returned) if standing.status == OrderStatus::Delivered => back(json!({})),
        _ => None,
    }
}
