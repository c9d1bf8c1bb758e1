//! The follower store's contract on the store in memory.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::DateTime;
use event_store::follower::FollowerStore;
use events::envelope::{Name, RecordedEvent, StreamId};
use testkit::follower_kit::{LedgerStore, ledger, store_contract::StoreHarness};
use uuid::Uuid;

struct Memory(Arc<LedgerStore>);

#[async_trait]
impl StoreHarness for Memory {
    async fn open(&self) -> Arc<dyn FollowerStore> {
        self.0.clone()
    }

    fn events(&self) -> (Name, Vec<RecordedEvent>) {
        let event = |position: u64| RecordedEvent {
            position,
            event_id: Uuid::from_u128(position.into()),
            stream: StreamId::new("account", if position % 3 == 1 { "a" } else { "b" }),
            sequence: position.div_ceil(2),
            event_type: "Noted".into(),
            event_version: "1".into(),
            payload: "{}".into(),
            metadata: "{}".into(),
            recorded_at: DateTime::UNIX_EPOCH,
        };
        ("users".into(), (1..=6).map(event).collect())
    }

    async fn state(&self) -> String {
        self.0.view(|entries, _| format!("{entries:?}"))
    }
}

testkit::follower_store_contract!(Memory(ledger()));
testkit::follower_store_parking_contract!(Memory(ledger()));
testkit::follower_store_lease_contract!(Memory(ledger()));
