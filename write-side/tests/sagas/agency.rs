//! Everybody whom a trip needs: they take each command once by its key, hold a cancellation against what comes later,
//! and can be down, unwilling, or about to be watched dying.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use testkit::follower_kit::soon;
use tokio::sync::watch;
use uuid::Uuid;
use write_side::peer::Peer;

use super::support::Traps;

pub const SERVICES: [&str; 5] = ["hotels", "flights", "bank", "post", "insurers"];

#[derive(Default)]
pub struct Agency {
    desk: Mutex<Desk>,
    /// Whoever steps into one goes no further.
    pub traps: Arc<Traps>,
    /// The trap that is armed as soon as a request comes whose path ends so.
    arming: Mutex<Option<(String, &'static str)>>,
    /// Requests that are held until they are let go: the end of their path, and where.
    held: watch::Sender<Option<(&'static str, &'static str)>>,
    /// How many are held.
    holding: watch::Sender<usize>,
}

#[derive(Default)]
struct Desk {
    answers: HashMap<(String, String), (u16, Value)>,
    /// Each with how often it was done, which is once for each key.
    done: BTreeMap<String, u32>,
    cancelled: BTreeSet<String>,
    down: BTreeSet<&'static str>,
    /// Paths that are refused, by their end.
    unwilling: BTreeSet<&'static str>,
    /// Every request, answered or not: path and key.
    asked: Vec<(String, String)>,
}

impl Agency {
    pub fn peers(self: &Arc<Self>) -> BTreeMap<&'static str, Peer> {
        let router = Router::new().fallback(answer).with_state(Arc::clone(self));
        SERVICES.into_iter().map(|name| (name, Peer::here(router.clone()))).collect()
    }

    pub fn down(&self, service: &'static str, is_down: bool) {
        let mut desk = self.desk.lock().unwrap();
        if is_down {
            desk.down.insert(service)
        } else {
            desk.down.remove(service)
        };
    }

    /// Refuses what ends so: `flights/book`.
    pub fn unwilling(&self, path: &'static str, is_unwilling: bool) {
        let mut desk = self.desk.lock().unwrap();
        if is_unwilling {
            desk.unwilling.insert(path)
        } else {
            desk.unwilling.remove(path)
        };
    }

    /// How often something was done for a trip: `bank/pay`.
    pub fn done(&self, trip: Uuid, path: &str) -> u32 {
        self.desk.lock().unwrap().done.get(&full(trip, path)).copied().unwrap_or_default()
    }

    /// How often something was asked for, whatever was answered, and under how many keys.
    pub fn asked(&self, trip: Uuid, path: &str) -> (usize, usize) {
        let (desk, path) = (self.desk.lock().unwrap(), full(trip, path));
        let keys: Vec<&String> = desk.asked.iter().filter(|asked| asked.0 == path).map(|asked| &asked.1).collect();
        (keys.len(), keys.iter().collect::<BTreeSet<_>>().len())
    }

    /// All that anybody was ever asked.
    pub fn requests(&self) -> usize {
        self.desk.lock().unwrap().asked.len()
    }

    /// What a trip has in the end: hotel, flight, payments, tickets.
    pub fn has(&self, trip: Uuid) -> (bool, bool, u32, u32) {
        let booked = |service: &str| {
            let is_cancelled = self.desk.lock().unwrap().cancelled.contains(&format!("/{service}/{trip}"));
            self.done(trip, &format!("{service}/book")) > 0 && !is_cancelled
        };
        (booked("hotels"), booked("flights"), self.done(trip, "bank/pay"), self.done(trip, "post/send"))
    }

    /// Arms a trap when a request comes whose path ends with `path`.
    pub fn arm(&self, path: &str, trap: &'static str) {
        *self.arming.lock().unwrap() = Some((path.to_owned(), trap));
    }

    /// Holds requests for `path` before or after the act, until [`Self::let_go`].
    pub fn hold(&self, path: &'static str, place: &'static str) {
        self.held.send_replace(Some((path, place)));
    }

    pub async fn holds(&self, count: usize) {
        soon("requests are held", self.holding.subscribe().wait_for(|holding| *holding == count)).await.unwrap();
    }

    /// Holds nobody else, and those who are held go on being so.
    pub fn hold_no_more(&self) {
        self.held.send_if_modified(|held| {
            *held = None;
            // those who wait are not told
            false
        });
    }

    pub fn let_go(&self) {
        self.held.send_replace(None);
    }

    async fn pass(&self, path: &str, place: &'static str) {
        self.traps.pass(place).await;
        let mut held = self.held.subscribe();
        if held.borrow_and_update().is_some_and(|held| held == (path, place)) {
            self.holding.send_modify(|holding| *holding += 1);
            held.changed().await.unwrap();
            self.holding.send_modify(|holding| *holding -= 1);
        }
    }
}

fn full(trip: Uuid, path: &str) -> String {
    let (service, what) = path.split_once('/').unwrap();
    format!("/{service}/{trip}/{what}")
}

impl Desk {
    fn answer(&mut self, path: &str, key: &str) -> (u16, Value) {
        self.asked.push((path.to_owned(), key.to_owned()));
        let [service, trip, what] = path.trim_start_matches('/').split('/').collect::<Vec<_>>()[..] else {
            return (404, json!({ "code": "route_not_found" }));
        };
        if self.down.contains(service) {
            return (500, json!({ "code": "internal" }));
        }
        let stored = (path.to_owned(), key.to_owned());
        if let Some(answer) = self.answers.get(&stored) {
            return answer.clone();
        }
        let thing = format!("/{service}/{trip}");
        let is_unwilling = self.unwilling.contains(&*format!("{service}/{what}"));
        let answer = match what {
            _ if is_unwilling => (422, json!({ "code": "unwilling", "detail": "not today" })),
            "book" if self.cancelled.contains(&thing) => (422, json!({ "code": "withdrawn", "detail": "too late" })),
            _ => {
                if what == "cancel" {
                    self.cancelled.insert(thing);
                }
                let times = self.done.entry(path.to_owned()).or_default();
                *times += 1;
                (200, json!({ "receipt": *times, "version": 1 }))
            }
        };
        self.answers.insert(stored, answer.clone());
        answer
    }
}

async fn answer(State(agency): State<Arc<Agency>>, uri: Uri, headers: HeaderMap, _body: Json<Value>) -> Response {
    let words: Vec<&str> = uri.path().split('/').collect();
    let path = format!("{}/{}", words[1], words[words.len() - 1]);
    if let Some((_, trap)) = agency.arming.lock().unwrap().take_if(|(armed, _)| *armed == path) {
        agency.traps.arm(trap);
    }
    agency.pass(&path, "before the act").await;
    let key = headers["idempotency-key"].to_str().unwrap();
    let (status, body) = agency.desk.lock().unwrap().answer(uri.path(), key);
    agency.pass(&path, "after the act").await;
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}
