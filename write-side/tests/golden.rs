//! What every aggregate makes of every event version ever published, compared with what is committed in `folds/`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use event_store::bus::Domain;
use events::Published;
use serde_json::Value;
use testkit::golden::{Sample, check_fold, versions};
use write_side::{
    catalog::product::Product, checkout::definition::Checkout, inventory::stock_item::StockItem,
    notifications::notification::Notification, orders::order::Order, payments::payment::Payment, saga::Saga,
    shipping::shipment::Shipment, users::user::User,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/folds")
}

#[track_caller]
fn check<A: Domain + PartialEq>() {
    let fold = |history: &[Sample]| -> Option<Value> {
        let events = history.iter().map(|sample| {
            let event = A::Event::decode(&sample.event_type, &sample.event_version, &sample.payload);
            event.unwrap_or_else(|error| panic!("{error}"))
        });
        let events: Vec<A::Event> = events.collect();
        // what no aggregate can have lived through may well be more than its sums can bear
        let state = catch_unwind(AssertUnwindSafe(|| {
            let mut state = A::default();
            events.into_iter().for_each(|event| state.apply(event));
            state
        }));
        let state = state.ok()?;
        (state != A::default()).then(|| serde_json::to_value(&state).expect("a state serializes"))
    };
    check_fold(&folder().join(format!("{}.json", A::TYPE)), A::VERSION, &versions::<A::Event>(), fold);
}

#[test]
fn no_aggregate_folds_differently_without_a_new_version() {
    check::<User>();
    check::<Product>();
    check::<StockItem>();
    check::<Order>();
    check::<Notification>();
    check::<Payment>();
    check::<Shipment>();
    check::<Saga<Checkout>>();

    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let aggregates = count(&sources, "\nimpl Domain for ") + count(&sources, "\nimpl Definition for ");
    let committed = std::fs::read_dir(folder()).unwrap().count();
    assert_eq!(aggregates, committed, "a line above for each aggregate there is");
}

fn count(path: &Path, text: &str) -> usize {
    if path.is_dir() {
        return std::fs::read_dir(path).unwrap().map(|entry| count(&entry.unwrap().path(), text)).sum();
    }
    std::fs::read_to_string(path).unwrap().matches(text).count()
}
