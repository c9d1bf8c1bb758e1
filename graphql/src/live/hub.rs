//! The one reader of a process: it reads each change once, with its row, and hands it to whom it means something.
//!
//! It runs while somebody is subscribed. Subscribers are found by the order or the customer that they want, so what a
//! change costs depends on how many it reaches, not on how many there are.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use events::ids::{CustomerId, OrderId};
use lru::LruCache;
use read_side::{
    ChangeCursor, Consistency, ReadSide,
    order_details::{CHANGED_ORDERS_MAX, ChangedOrder, ChangedOrders, ChangesOf},
};
use tokio::sync::Semaphore;

use super::{
    interest::{Before, Interest, Meaning},
    options::LiveOptions,
    progress::Progress,
    slot::{Slot, Waiting},
};

/// Orders whose owner and status are remembered, to tell what has ceased to fit a filter once and not again. Whoever was
/// forgotten is told of once too often.
const KNOWN_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// How long to wait after the query database has failed.
const AGAIN: Duration = Duration::from_secs(1);

/// Between two looks, however often something is committed: what comes in between is read at once.
const PAUSE: Duration = Duration::from_millis(2);

/// Live answers over one query database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Live {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) read: ReadSide,
    pub(super) options: LiveOptions,
    /// Whoever reads what they have missed takes one.
    pub(super) catch_ups: Semaphore,
    pub(super) progress: Progress,
    state: Mutex<State>,
}

struct State {
    /// Everything up to here was handed on; `None` while nobody is subscribed, and before the first look.
    cursor: Option<ChangeCursor>,
    is_running: bool,
    next_id: u64,
    subscribers: HashMap<u64, Subscriber>,
    of_order: HashMap<OrderId, Vec<u64>>,
    of_customer: HashMap<CustomerId, Vec<u64>>,
    of_all: Vec<u64>,
    known: LruCache<OrderId, Before>,
}

#[derive(Clone)]
struct Subscriber {
    interest: Arc<Interest>,
    slot: Arc<Slot>,
}

/// A place at the hub; given back when it is dropped.
pub(super) struct Seat {
    id: u64,
    pub(super) slot: Arc<Slot>,
    pub(super) interest: Arc<Interest>,
    hub: Arc<Inner>,
}

impl Live {
    pub(crate) fn new(read: ReadSide, options: LiveOptions) -> Self {
        let state = State {
            cursor: None,
            is_running: false,
            next_id: 0,
            subscribers: HashMap::new(),
            of_order: HashMap::new(),
            of_customer: HashMap::new(),
            of_all: Vec::new(),
            known: LruCache::new(KNOWN_MAX),
        };
        let catch_ups = Semaphore::new(options.limits.catch_ups_max);
        let progress = Progress::default();
        Self { inner: Arc::new(Inner { read, options, catch_ups, progress, state: Mutex::new(state) }) }
    }

    /// Takes a place. What happens from now on waits in its slot.
    pub(super) fn take_seat(&self, interest: Interest) -> Seat {
        let hub = Arc::clone(&self.inner);
        let mut state = hub.state();
        let (id, interest) = (state.next_id, Arc::new(interest));
        state.next_id += 1;
        let slot = Arc::new(Slot::new(state.cursor));
        state.list(&interest).push(id);
        state.subscribers.insert(id, Subscriber { interest: Arc::clone(&interest), slot: Arc::clone(&slot) });
        if !std::mem::replace(&mut state.is_running, true) {
            hub.options.closing.tasks.spawn(run(Arc::clone(&hub)));
        }
        drop(state);
        Seat { id, slot, interest, hub }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        state.subscribers.remove(&self.id);
        let list = state.list(&self.interest);
        if let Some(place) = list.iter().position(|id| *id == self.id) {
            list.swap_remove(place);
        }
        if list.is_empty() {
            match self.interest.changes_of() {
                ChangesOf::Order(id) => drop(state.of_order.remove(&id)),
                ChangesOf::Customer(id) => drop(state.of_customer.remove(&id)),
                ChangesOf::All => {}
            }
        }
    }
}

impl State {
    fn list(&mut self, interest: &Interest) -> &mut Vec<u64> {
        match interest.changes_of() {
            ChangesOf::Order(id) => self.of_order.entry(id).or_default(),
            ChangesOf::Customer(id) => self.of_customer.entry(id).or_default(),
            ChangesOf::All => &mut self.of_all,
        }
    }

    /// Hands on what was read.
    fn hand_on(&mut self, orders: Vec<ChangedOrder>, cursor: ChangeCursor, options: &LiveOptions) {
        for ChangedOrder { order_id, seq, row } in orders {
            let row = row.map(Arc::new);
            let before = match &row {
                Some(row) => self.known.put(order_id, Before::from(&**row)),
                None => self.known.pop(&order_id),
            };
            let owner = row.as_ref().map(|row| row.customer_id);
            let was_owner = before.map(|before| before.customer_id).filter(|was| Some(*was) != owner);
            let of_owners =
                [owner, was_owner].into_iter().flatten().filter_map(|id| self.of_customer.get(&id)).flatten();
            for id in self.of_order.get(&order_id).into_iter().flatten().chain(of_owners).chain(&self.of_all) {
                let Subscriber { interest, slot } = &self.subscribers[id];
                let row = match interest.judge(order_id, row.as_deref(), before) {
                    Meaning::Shown => row.clone(),
                    Meaning::Gone => None,
                    Meaning::Nothing => continue,
                };
                slot.put(Waiting { order_id, row, seq }, cursor.generation, &options.limits);
            }
        }
        self.cursor = Some(cursor);
    }

    /// Nobody can be told what happened before.
    fn restart(&mut self, cursor: ChangeCursor) {
        self.known.clear();
        self.cursor = Some(cursor);
        self.subscribers.values().for_each(|subscriber| subscriber.slot.restart(cursor));
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// Where to go on; `None` when nobody is subscribed any more, and then the reader ends.
    fn goes_on(&self) -> Option<Option<ChangeCursor>> {
        let mut state = self.state();
        if state.subscribers.is_empty() {
            (state.is_running, state.cursor) = (false, None);
            state.known.clear();
            return None;
        }
        Some(state.cursor)
    }
}

/// Reads and hands on until nobody is subscribed, or everything ends.
async fn run(hub: Arc<Inner>) {
    let closing = hub.options.closing.asked_for.clone();
    closing.run_until_cancelled(follow(&hub)).await;
}

async fn follow(hub: &Inner) {
    let mut commits = hub.read.commits();
    let mut has_failed = false;
    while let Some(cursor) = hub.goes_on() {
        let read = hub.read.changed_orders(cursor, ChangesOf::All, CHANGED_ORDERS_MAX, &Consistency::any()).await;
        let (wait, has_more) = match read {
            Ok(ChangedOrders::Since { orders, cursor, has_more }) => {
                has_failed = false;
                hub.state().hand_on(orders, cursor, &hub.options);
                (hub.options.limits.poll_every, has_more)
            }
            Ok(ChangedOrders::Resync { cursor }) => {
                has_failed = false;
                hub.state().restart(cursor);
                (hub.options.limits.poll_every, false)
            }
            Err(error) => {
                if !std::mem::replace(&mut has_failed, true) {
                    tracing::warn!(code = error.code(), "follow the changes of orders: {error}; trying again");
                }
                (AGAIN, false)
            }
        };
        if !has_more {
            tokio::time::sleep(PAUSE).await;
            let _ = tokio::time::timeout(wait, commits.heard()).await;
        }
    }
}
