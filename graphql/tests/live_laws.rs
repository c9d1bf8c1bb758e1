//! The laws of subscriptions to orders: whatever is cut when, every order's last state is told, and nothing twice.

#[path = "support/stage.rs"]
mod stage;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use event_store::clock::ManualClock;
use projections::{
    engine::store::StoreOptions,
    kit::{Kind, Random, time},
};
use serde_json::{Value, json};
use stage::{BOTH, ORDERS, Screen, Stage, Subscriber, Subscription, of_customer, order, tight};

/// Histories of one run; the long form tries fifty times as many.
const HISTORIES: u64 = 2;
const STEPS: u64 = 40;
const ALL_ORDERS: u128 = 12;
const ALL_CUSTOMERS: u128 = 3;

/// The order that says that everything before was told.
const LAST: u128 = 999;

/// Somebody who shows orders, is cut off now and then, and goes on from the last cursor.
struct Watcher {
    scope: Option<u128>,
    screen: Screen,
    open: Option<Subscriber>,
}

impl Watcher {
    fn new(scope: Option<u128>) -> Self {
        Self { scope, screen: Screen::default(), open: None }
    }

    async fn open(&mut self, router: &axum::Router) -> &mut Subscriber {
        if self.open.is_none() {
            let (principal, after) = (self.scope.map(of_customer), self.screen.cursor.clone());
            self.open = Some(Subscription { principal, after, ..Subscription::of(ORDERS) }.open(router).await);
        }
        self.open.as_mut().expect("it was just opened")
    }

    /// Reads until order `last` is told.
    async fn read_until(&mut self, router: &axum::Router, last: u128, what: &str) {
        loop {
            let told = self.open(router).await.told().await;
            let is_last = told.order == Some(last);
            self.screen.take(told, what);
            if is_last {
                return;
            }
        }
    }
}

/// What every order is now, by its number.
async fn orders_now(stage: &Stage, ids: impl Iterator<Item = u128>) -> BTreeMap<u128, Value> {
    let mut now = BTreeMap::new();
    for n in ids {
        let query = format!("{{ order(id: \"{}\") {{ status customer {{ name }} cancelReason }} }}", order(n));
        let request = axum::http::Request::post("/graphql").header("content-type", "application/json");
        let request = request.body(axum::body::Body::from(json!({ "query": query }).to_string())).unwrap();
        let answer = tower::ServiceExt::oneshot(stage.router(), request).await.unwrap();
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        if !answer["data"]["order"].is_null() {
            now.insert(n, answer["data"]["order"].clone());
        }
    }
    now
}

async fn try_history(kind: Kind, seed: u64) {
    let what = format!("{kind:?}, SEED={seed}");
    let mut random = Random(seed);
    let mut stage = Stage::with(kind, tight(), StoreOptions::default()).await;
    for n in 0..ALL_CUSTOMERS {
        stage.registered(n, &format!("Customer {n}"));
    }
    // who owns each order that was placed
    let mut owners: BTreeMap<u128, u128> = BTreeMap::new();
    // one process folds and tells, another only tells, and has to look for itself
    let routers = [stage.router(), stage.another_router()];
    let mut watchers = [Watcher::new(None), Watcher::new(None), Watcher::new(Some(0)), Watcher::new(Some(1))];
    for (n, watcher) in watchers.iter_mut().enumerate() {
        let told = watcher.open(&routers[n % 2]).await.told().await;
        assert_eq!(told.kind, "STARTED", "{what}");
        watcher.screen.take(told, &what);
    }
    for _ in 0..STEPS {
        for _ in 0..=random.below(6) {
            let n = u128::from(random.below(ALL_ORDERS as u64));
            match (owners.get(&n), random.below(4)) {
                (None, _) => {
                    let of = u128::from(random.below(ALL_CUSTOMERS as u64));
                    stage.placed(n, of);
                    owners.insert(n, of);
                }
                (Some(of), 0) => stage.confirmed(n, *of),
                (Some(of), 1 | 2) => stage.cancelled(n, *of, &format!("reason {}", random.draw())),
                (Some(of), _) => stage.renamed(*of, &format!("Name {}", random.draw())),
            }
        }
        stage.fold().await;
        for (n, watcher) in watchers.iter_mut().enumerate() {
            let router = &routers[(n + random.below(2) as usize) % 2];
            match random.below(5) {
                // cut off, and perhaps back at another process at once
                0 => watcher.open = None,
                1 => drop(watcher.open(router).await),
                // reads what comes, as far as it comes at once
                _ => {
                    for _ in 0..random.below(8) {
                        let next = tokio::time::timeout(Duration::from_millis(15), watcher.open(router).await.told());
                        match next.await {
                            Ok(told) => watcher.screen.take(told, &what),
                            Err(_) => break,
                        }
                    }
                }
            }
        }
    }
    for of in 0..ALL_CUSTOMERS {
        stage.placed(LAST + of, of);
        owners.insert(LAST + of, of);
    }
    stage.fold().await;
    let now = orders_now(&stage, owners.keys().copied()).await;
    for (n, watcher) in watchers.iter_mut().enumerate() {
        let last = watcher.scope.unwrap_or(ALL_CUSTOMERS - 1);
        watcher.read_until(&routers[n % 2], LAST + last, &what).await;
        let own = |of: &u128| watcher.scope.is_none_or(|scope| scope == *of);
        let expected: BTreeMap<_, _> = now.iter().filter(|(n, _)| own(&owners[*n])).collect();
        assert_eq!(watcher.screen.orders.iter().collect::<BTreeMap<_, _>>(), expected, "{what}: {:?}", watcher.scope);
        assert_eq!(watcher.screen.resyncs, 0, "{what}");
    }
}

/// Given in `SEED`, or as many as the run is to try.
fn seeds() -> Vec<u64> {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        return vec![seed];
    }
    let histories = if std::env::var_os("TRIBUTARY_SOAK").is_some() { 50 * HISTORIES } else { HISTORIES };
    let begin = time(0).timestamp_nanos_opt().unwrap_or_default() as u64 ^ uuid::Uuid::new_v4().as_u128() as u64;
    (0..histories).map(|n| begin.wrapping_add(n)).collect()
}

#[tokio::test]
async fn wherever_a_subscriber_is_cut_off_they_are_told_every_last_state_and_nothing_twice() {
    for seed in seeds() {
        for kind in BOTH {
            try_history(kind, seed).await;
        }
    }
}

#[tokio::test]
async fn whoever_was_away_for_longer_than_changes_are_kept_is_told_to_read_anew_once() {
    for kind in BOTH {
        let clock = Arc::new(ManualClock::at(time(0)));
        let store = StoreOptions { clock: clock.clone(), ..StoreOptions::default() };
        let mut stage = Stage::with(kind, tight(), store).await;
        let started = stage.staff(ORDERS).await.told().await;
        for n in 1..=4 {
            stage.placed(n, 1);
            stage.fold().await;
            clock.advance(Duration::from_secs(10 * 3_600));
        }
        let mut back = stage.staff_after(ORDERS, &started.cursor).await;
        let cursor = back.hears(&[("RESYNC", None)]).await;
        stage.confirmed(2, 1);
        stage.fold().await;
        back.hears(&[("CHANGED", Some(2))]).await;
        // from there on everything is known again
        let mut again = stage.staff_after(ORDERS, &cursor).await;
        again.hears(&[("CHANGED", Some(2))]).await;
    }
}

#[tokio::test]
async fn a_generation_that_went_on_untold_is_read_anew_once() {
    for kind in BOTH {
        let mut stage = Stage::with(kind, tight(), StoreOptions::default()).await;
        let (mut live, mut away) = (stage.staff(ORDERS).await, stage.staff(ORDERS).await);
        live.hears(&[("STARTED", None)]).await;
        let cursor = away.told().await.cursor;
        drop(away);
        stage.hand.store.go_live().await.unwrap();
        stage.placed(1, 1);
        stage.fold().await;
        live.hears(&[("RESYNC", None)]).await;
        stage.staff_after(ORDERS, &cursor).await.hears(&[("RESYNC", None)]).await;
        stage.placed(2, 1);
        stage.fold().await;
        live.hears(&[("CHANGED", Some(2))]).await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_gets_each_order_once_as_it_is_when_it_does() {
    for kind in BOTH {
        let mut stage = Stage::with(kind, tight(), StoreOptions::default()).await;
        let (mut slow, mut other) = (stage.staff(ORDERS).await, stage.staff(ORDERS).await);
        slow.hears(&[("STARTED", None)]).await;
        other.told().await;
        for round in 0..6 {
            for n in 0..10 {
                if round == 0 {
                    stage.placed(n, 1)
                } else {
                    stage.cancelled(n, 1, &format!("round {round}"))
                }
                stage.fold().await;
                // nobody waits for the slow one
                assert_eq!(other.told().await.order, Some(n), "{kind:?}");
            }
        }
        let mut screen = Screen::default();
        for _ in 0..10 {
            screen.take(slow.told().await, "slow");
        }
        slow.hears_nothing().await;
        assert_eq!(screen.orders.len(), 10, "{kind:?}");
        assert!(screen.orders.values().all(|order| order["cancelReason"] == "round 5"), "{kind:?}: {screen:?}");
    }
}
