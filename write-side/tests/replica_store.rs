//! The replica's rows keep the contract of a follower's store on both databases, without the laws about parked streams:
//! a replica parks nothing, its source halts.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use event_store::{
    feed::{Cursor, Feed, PageLimit},
    follower::{Follower, FollowerStore},
    log::Decision,
    memory::MemoryLog,
};
use events::{
    catalog::{PriceChanged, ProductAdded, ProductDiscontinued, ProductEvent, ProductRenamed},
    envelope::{Name, RecordedEvent, StreamId},
    ids::ProductId,
    money::{Currency, Money},
};
use testkit::{
    follower_kit::{ScriptedStore, StoreFault, options, soon, store_contract::StoreHarness},
    log_contract::harness::{append, commit_one, event},
    postgres::fresh_database,
};
use uuid::Uuid;
use write_side::orders::replica::{
    postgres::PostgresRows,
    sqlite::SqliteRows,
    store::{ReplicaStore, Rows},
};

const CHAI: ProductId = ProductId(Uuid::from_u128(1));
const TEA: ProductId = ProductId(Uuid::from_u128(2));

fn price(amount_minor: i64) -> Money {
    Money::new(amount_minor, Currency::USD)
}

fn story() -> Vec<(ProductId, ProductEvent)> {
    let added = |product_id, sku: &str| ProductAdded {
        product_id,
        sku: sku.into(),
        name: sku.into(),
        unit_price: price(100),
        external_ref: None,
    };
    vec![
        (CHAI, added(CHAI, "CHAI").into()),
        (TEA, added(TEA, "TEA").into()),
        (CHAI, PriceChanged { product_id: CHAI, unit_price: price(200) }.into()),
        (TEA, ProductRenamed { product_id: TEA, name: "Darjeeling".into() }.into()),
        (CHAI, ProductDiscontinued { product_id: CHAI }.into()),
        (TEA, PriceChanged { product_id: TEA, unit_price: price(300) }.into()),
    ]
}

async fn catalog() -> Arc<MemoryLog> {
    let log = MemoryLog::new("catalog");
    let mut versions: BTreeMap<ProductId, u64> = BTreeMap::new();
    for (product_id, told) in story() {
        let version = versions.entry(product_id).or_default();
        let mut item = append(&StreamId::new("product", product_id.to_string()), *version);
        let mut new = event("replica");
        new.event_type = cqrs_es::DomainEvent::event_type(&told).into();
        new.event_version = cqrs_es::DomainEvent::event_version(&told).into();
        new.payload = serde_json::to_string(&told).unwrap();
        item.decision = Decision::Append(vec![new]);
        commit_one(&*log, item).await;
        *version += 1;
    }
    log
}

enum Home {
    Sqlite(tempfile::TempDir),
    Postgres(String),
}

struct Harness {
    home: Home,
    events: Vec<RecordedEvent>,
}

impl Harness {
    async fn new(home: Home) -> Self {
        let log = catalog().await;
        let page = log.page(Cursor::START, PageLimit::default(), Duration::ZERO).await.unwrap();
        Self { home, events: page.events }
    }

    async fn rows(&self) -> Box<dyn Rows> {
        match &self.home {
            Home::Sqlite(folder) => {
                let path: PathBuf = folder.path().join("orders-replica.db");
                Box::new(SqliteRows::open(Some(&path)).unwrap())
            }
            Home::Postgres(url) => Box::new(PostgresRows::connect(&url.parse().unwrap()).await.unwrap()),
        }
    }
}

#[async_trait]
impl StoreHarness for Harness {
    async fn open(&self) -> Arc<dyn FollowerStore> {
        Arc::new(ReplicaStore::new(self.rows().await, Arc::default()))
    }

    fn events(&self) -> (Name, Vec<RecordedEvent>) {
        ("catalog".into(), self.events.clone())
    }

    async fn state(&self) -> String {
        let known = self.rows().await.load(false).await.unwrap().known;
        let products: BTreeMap<_, _> = known.products.into_iter().collect();
        let users: BTreeMap<_, _> = known.users.into_iter().collect();
        format!("{products:?} {users:?}")
    }
}

async fn sqlite() -> Harness {
    Harness::new(Home::Sqlite(tempfile::tempdir().unwrap())).await
}

async fn postgres() -> Harness {
    Harness::new(Home::Postgres(fresh_database("replica").await)).await
}

/// A step that was committed although its answer was lost is in memory too, and not applied twice.
async fn a_lost_answer_leaves_memory_and_rows_alike(harness: Harness) {
    let known = Arc::default();
    let store = Arc::new(ReplicaStore::new(harness.rows().await, Arc::clone(&known)));
    let scripted = ScriptedStore::new(store);
    scripted.fail_next(StoreFault::AnswerLost);
    let log = catalog().await;
    let follower = Follower::start("replica", vec![log as Arc<dyn Feed>], scripted.clone(), options());
    soon("the whole story", follower.caught_up()).await.unwrap();
    let stored = harness.rows().await.load(false).await.unwrap();
    assert_eq!(*known.read().unwrap(), stored.known);
    assert_eq!(stored.known.products[&CHAI].unit_price, price(200));
    assert!(stored.known.products[&CHAI].discontinued && !stored.known.products[&TEA].discontinued);
    assert_eq!((&*stored.known.products[&TEA].name, stored.vector.get("catalog").position), ("Darjeeling", 6));
}

/// What came from one source goes with its checkpoint, and whoever follows with an older fence writes nothing more.
async fn a_source_that_is_forgotten_is_read_anew(harness: Harness) {
    let known = Arc::default();
    let store = Arc::new(ReplicaStore::new(harness.rows().await, Arc::clone(&known)));
    let before = store.acquire().await.unwrap();
    let follower = Follower::start("replica", vec![catalog().await as Arc<dyn Feed>], store.clone(), options());
    soon("the whole story", follower.caught_up()).await.unwrap();
    follower.abort().await;
    harness.rows().await.forget("catalog").await.unwrap();
    let after = store.acquire().await.unwrap();
    assert!(after.fence > before.fence + 1 && known.read().unwrap().products.is_empty());
    assert_eq!(after.vector.get("catalog").position, 0);
    let follower = Follower::start("replica", vec![catalog().await as Arc<dyn Feed>], store, options());
    soon("the story again", follower.caught_up()).await.unwrap();
    assert_eq!(known.read().unwrap().products.len(), 2);
}

macro_rules! laws {
    ($database:ident) => {
        mod $database {
            testkit::follower_store_laws! { super::$database().await;
                a_step_moves_state_and_checkpoint_together,
                a_step_that_was_applied_is_not_applied_again,
                a_step_from_elsewhere_changes_nothing,
                the_fence_shuts_out_every_earlier_holder,
                the_holders_beat_is_seen_by_the_others_and_nobody_elses_is,
                a_step_without_events_moves_only_the_checkpoint,
                an_empty_log_has_a_checkpoint_with_its_epoch,
                events_that_wait_without_a_parked_stream_are_answered_as_moved,
                what_was_applied_is_there_for_the_next_handle,
            }

            #[tokio::test]
            async fn a_lost_answer_leaves_memory_and_rows_alike() {
                super::a_lost_answer_leaves_memory_and_rows_alike(super::$database().await).await;
            }

            #[tokio::test]
            async fn a_source_that_is_forgotten_is_read_anew() {
                super::a_source_that_is_forgotten_is_read_anew(super::$database().await).await;
            }
        }
    };
}

laws!(sqlite);
laws!(postgres);
