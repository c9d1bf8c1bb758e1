//! Every event version ever published has a sample in `golden/`, and it reads back as what it was.

#![cfg(feature = "domain")]

use std::{collections::BTreeSet, path::PathBuf};

use cqrs_es::DomainEvent;
use events::{
    Published, catalog::ProductEvent, checkout::CheckoutEvent, inventory::StockEvent, notifications::NotificationEvent,
    orders::OrderEvent, payments::PaymentEvent, shipping::ShipmentEvent, users::UserEvent,
};

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Reads each sample of `E`, compares what it writes again, and says which files it has used.
fn check<E: Published + DomainEvent>() -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (event_type, event_version) in E::PUBLISHED {
        let file = format!("{event_type}.v{event_version}.json");
        let text = std::fs::read_to_string(golden().join(&file)).unwrap_or_else(|error| {
            panic!("{event_type} version {event_version} needs a sample golden/{file}: {error}")
        });
        let event = E::decode(event_type, event_version, &text).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!((event.event_type().as_str(), event.event_version().as_str()), (*event_type, *event_version));
        assert_eq!(serde_json::to_string(&event).unwrap(), text.trim_end(), "{file} does not survive");
        assert_eq!(serde_json::from_str::<E>(&text).unwrap(), event, "{file} is readable without its envelope");
        used.insert(file);
    }
    for step in E::UPCASTERS {
        let file = format!("{}.v{}.json", step.event_type, step.from);
        let text = std::fs::read_to_string(golden().join(&file))
            .unwrap_or_else(|error| panic!("{file} has an upcaster and must keep its sample: {error}"));
        E::decode(step.event_type, step.from, &text).unwrap_or_else(|error| panic!("{file}: {error}"));
        used.insert(file);
    }
    used
}

#[test]
fn every_published_version_has_a_sample_that_reads_back() {
    let used = [
        check::<UserEvent>(),
        check::<ProductEvent>(),
        check::<StockEvent>(),
        check::<OrderEvent>(),
        check::<PaymentEvent>(),
        check::<ShipmentEvent>(),
        check::<NotificationEvent>(),
        check::<CheckoutEvent>(),
    ];
    let used: BTreeSet<String> = used.into_iter().flatten().collect();
    let there: BTreeSet<String> = std::fs::read_dir(golden())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".json"))
        .collect();
    assert_eq!(there, used, "a sample without its event: what was published once must stay readable");
}

#[test]
fn an_unknown_type_or_version_is_an_error() {
    assert!(UserEvent::decode("UserRegistered", "3", "{}").is_err());
    assert!(UserEvent::decode("UserPromoted", "1", "{}").is_err());
}
