//! A generation as a follower's store: the contract of all of them, on both engines.

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use common::{Feeds, Kind, Place, placed, small};
use event_store::follower::FollowerStore;
use events::envelope::{Name, RecordedEvent};
use projections::engine::{store::GenerationStore, table_hash::table_hash};
use read_side::order_details::TEMPLATE;
use testkit::follower_kit::store_contract::StoreHarness;

struct Generation {
    place: Place,
    first: Arc<GenerationStore>,
}

impl Generation {
    async fn new(kind: Kind) -> Self {
        let place = Place::new(kind).await;
        let first = Arc::new(place.hand(small()).await.into_store());
        Self { place, first }
    }
}

#[async_trait]
impl StoreHarness for Generation {
    /// A process of its own, as it were: its own pool on the same tables.
    async fn open(&self) -> Arc<dyn FollowerStore> {
        let database = self.place.database().await;
        let projection = Arc::new(projections::order_details::projection());
        let generation = database.live(&TEMPLATE).await.unwrap().expect("made when the harness was").generation;
        let wake = self.place.read().wake();
        Arc::new(database.store(projection, generation, small(), wake).await.unwrap())
    }

    fn events(&self) -> (Name, Vec<RecordedEvent>) {
        let feeds = Feeds::default();
        for n in 1..=7 {
            feeds.order(placed(n, 1, &[1, 2]));
        }
        ("orders".into(), feeds.orders.events())
    }

    fn other_source(&self) -> Name {
        "users".into()
    }

    async fn state(&self) -> String {
        format!("{}", table_hash(&self.first).await.unwrap())
    }
}

mod sqlite {
    use super::{Generation, Kind};
    testkit::follower_store_contract!(Generation::new(Kind::Sqlite).await);
    testkit::follower_store_parking_contract!(Generation::new(Kind::Sqlite).await);
}

mod postgres {
    use super::{Generation, Kind};
    testkit::follower_store_contract!(Generation::new(Kind::Postgres).await);
    testkit::follower_store_parking_contract!(Generation::new(Kind::Postgres).await);
}
