//! How far a read model is behind, as anybody can read it from the query database.

mod common;

use std::time::Duration;

use chrono::Utc;
use common::{BOTH, Feeds, Place, placed, quick, registered, time};
use read_side::{ReadSide, SourceStatus};

async fn source(read: &ReadSide, name: &str) -> Option<SourceStatus> {
    let statuses = read.projections().await.unwrap();
    let status = statuses.into_iter().find(|status| status.name == "order_details")?;
    status.vector.into_iter().find(|source| source.source == name)
}

/// Waits until it is noted that a source is so.
async fn until(read: &ReadSide, name: &str, is_so: impl Fn(&SourceStatus) -> bool) -> SourceStatus {
    let look = async {
        loop {
            match source(read, name).await.filter(&is_so) {
                Some(source) => return source,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), look).await.expect("it is noted")
}

#[tokio::test]
async fn the_head_of_a_source_that_stands_still_is_noted_with_what_waits() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.user(registered(1, "Ada"));
        feeds.order(placed(1, 1, &[1]));
        let place = Place::new(kind).await;
        let before = Utc::now().timestamp_micros();
        let projector = place.projector(&feeds, quick()).await;
        let read = place.read();
        let orders = until(&read, "orders", |source| source.position == 1 && source.observed_at_us.is_some()).await;
        assert!(orders.observed_at_us.unwrap() >= before, "{kind:?}");
        assert_eq!((orders.lag_events(), orders.lag_ms(i64::MAX), orders.waiting_since_us), (0, 0, None), "{kind:?}");

        // what this program does not know stops the source, and more comes behind it
        feeds.orders.push_raw("order", common::order(1).0, "OrderTeleported", "1", "{}".to_owned());
        for n in 2..=4 {
            feeds.order(placed(n, 1, &[1]));
        }
        let orders = until(&read, "orders", |source| source.head_position > 1).await;
        assert_eq!(orders.position, 1, "{kind:?}");
        assert!(orders.lag_events() >= 1, "{kind:?}");
        let since_us = orders.waiting_since_us.expect("something waits");
        assert!(since_us >= time(2).timestamp_micros(), "{kind:?}: not before it was recorded");
        assert_eq!(orders.lag_ms(since_us + 5_000_000), 5_000, "{kind:?}");

        // an idle source is looked at, too
        let users = until(&read, "users", |source| source.observed_at_us.is_some()).await;
        let later = until(&read, "users", |source| source.observed_at_us > users.observed_at_us).await;
        assert_eq!((later.position, later.lag_events()), (1, 0), "{kind:?}");
        projector.shutdown().await;
    }
}
