//! Lets reservations expire when their time has come.
//!
//! It follows the service's own feed to know what is open, so it holds nothing that the log does not: at each start it is
//! read anew, from the first event. What is due it asks of the aggregate, which decides; being late, or asking twice
//! because another process asks as well, does no harm.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use event_store::{
    bus::{CommandBus, CommandError, CommandRequest},
    clock::Clock,
    feed::Feed,
    follower::{
        Follower, FollowerOptions, Reject,
        memory::{MemoryFold, MemoryStore},
    },
    log::Fingerprint,
};
use events::{
    DecodeError, Published,
    envelope::{Metadata, RecordedEvent},
    ids::ProductId,
    inventory::StockEvent,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    reservations::ReservationId,
    stock_item::{StockCommand, StockItem},
};

const NAME: &str = "inventory-expirer";

/// How long after its time a reservation may still be held, when all goes well.
const TURN: Duration = Duration::from_secs(1);

/// Stock items of one turn: a burst is spread, so that commands of customers are not kept waiting.
const ITEMS_PER_TURN_MAX: usize = 100;

const SHUTDOWN_WAIT_MAX: Duration = Duration::from_secs(5);

/// Runs until `closing` is cancelled.
pub async fn run(bus: CommandBus<StockItem>, feed: Arc<dyn Feed>, clock: Arc<dyn Clock>, closing: CancellationToken) {
    let store = Arc::new(MemoryStore::new(DueFold, Due::default()));
    let follower = Follower::start(NAME, vec![feed], store.clone(), FollowerOptions::default());
    // before that, much looks due that was settled long ago; if the feed stands still, what is known is due all the same
    let _ = closing.run_until_cancelled(follower.caught_up()).await;
    while closing.run_until_cancelled(tokio::time::sleep(TURN)).await.is_some() {
        let now = clock.now_as_kept();
        let mut failed = Vec::new();
        for product_id in store.view(|due, _| due.items(now)) {
            if let Err(error) = expire(&bus, product_id, now).await {
                failed.push((product_id, error));
            }
            if closing.is_cancelled() {
                break;
            }
        }
        // one line a turn: a log that is away fails every item the same way
        if let Some((product_id, error)) = failed.first() {
            let items = failed.len();
            tracing::warn!(items, %product_id, %error, "reservations that are due are still held; it is tried again");
        }
    }
    follower.shutdown(SHUTDOWN_WAIT_MAX).await;
}

/// Lets expire what is due of one item, in as many commands as it takes.
async fn expire(bus: &CommandBus<StockItem>, product_id: ProductId, now: DateTime<Utc>) -> Result<(), CommandError> {
    let id = product_id.to_string();
    loop {
        // the feed may be behind, or another process faster: to look costs less than to store that nothing was to do
        let item = bus.load(&id).await.map_err(|error| CommandError::Unavailable(error.to_string()))?;
        let command = StockCommand::Expire { now };
        let due = item.map(|item| item.state.decide(command.clone()));
        if due.is_none_or(|due| due.is_ok_and(|events| events.is_empty())) {
            return Ok(());
        }
        bus.execute(CommandRequest {
            aggregate_id: id.as_str().into(),
            command,
            scope: format!("{}|{NAME}|expire", events::inventory::SOURCE).into(),
            key: Uuid::now_v7().to_string().into(),
            fingerprint: Fingerprint::of(bus.log().identity(), NAME, id.as_bytes()),
            expected_version: None,
            metadata: Metadata { actor: Some(NAME.to_owned()), ..Metadata::default() },
        })
        .await?;
    }
}

/// What is held and not confirmed: a few words for each, and only for as long as it is open.
#[derive(Default)]
struct Due {
    by_time: BTreeSet<(DateTime<Utc>, ProductId, ReservationId)>,
    expires_at: HashMap<(ProductId, ReservationId), DateTime<Utc>>,
}

impl Due {
    /// Stock items with something due, the longest overdue first.
    fn items(&self, now: DateTime<Utc>) -> Vec<ProductId> {
        let due = self.by_time.iter().take_while(|(expires_at, ..)| *expires_at <= now);
        let mut seen = BTreeSet::new();
        due.map(|(_, product_id, _)| *product_id).filter(|id| seen.insert(*id)).take(ITEMS_PER_TURN_MAX).collect()
    }

    fn open(&mut self, product_id: ProductId, id: ReservationId, expires_at: DateTime<Utc>) {
        self.expires_at.insert((product_id, id), expires_at);
        self.by_time.insert((expires_at, product_id, id));
    }

    fn settle(&mut self, product_id: ProductId, id: ReservationId) {
        if let Some(expires_at) = self.expires_at.remove(&(product_id, id)) {
            self.by_time.remove(&(expires_at, product_id, id));
        }
    }
}

struct DueFold;

impl MemoryFold for DueFold {
    type State = Due;
    type Change = StockEvent;

    fn read(&self, _source: &str, event: &RecordedEvent) -> Result<StockEvent, Reject> {
        StockEvent::decode(&event.event_type, &event.event_version, &event.payload).map_err(|error| match error {
            DecodeError::UnknownType { .. } => Reject::UnknownEventType,
            DecodeError::Payload { .. } => Reject::Poison(error.to_string()),
        })
    }

    fn fold(&self, due: &mut Due, event: StockEvent) {
        let id = |order_id, line| ReservationId { order_id, line };
        match event {
            StockEvent::StockReserved(event) => {
                due.open(event.product_id, id(event.order_id, event.line), event.expires_at);
            }
            StockEvent::ReservationConfirmed(event) => due.settle(event.product_id, id(event.order_id, event.line)),
            StockEvent::ReservationExpired(event) => due.settle(event.product_id, id(event.order_id, event.line)),
            StockEvent::StockReleased(event) => due.settle(event.product_id, id(event.order_id, event.line)),
            StockEvent::StockShipped(event) => due.settle(event.product_id, id(event.order_id, event.line)),
            StockEvent::StockReceived(_)
            | StockEvent::StockAdjusted(_)
            | StockEvent::ReservationRejected(_)
            | StockEvent::ReservationWithdrawn(_) => {}
        }
    }
}
