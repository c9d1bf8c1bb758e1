//! The laws of every read model, and those of the engine under them: the same number of round trips, bounded fan-outs.
//!
//! A failure prints its seed; `SEED=<n> cargo test -p projections --test laws` repeats it.

mod common;

use common::{
    BOTH, Feeds, Hand, Kind, Place, authorization_requested, authorized, cancelled, kit, placed, product_renamed,
    registered, renamed, small, usd,
};
use event_store::follower::{ApplyError, Checkpoint, FollowerStore};
use projections::{
    customer_overview, engine::store::StoreOptions, order_details, order_search, order_timeline, product_sales_by_day,
};

/// The table after one pass in order, one step a feed.
async fn in_order(kind: Kind, feeds: &Feeds) -> (Hand, projections::engine::table_hash::TableHash) {
    let mut hand = Place::new(kind).await.hand(StoreOptions::default()).await;
    hand.finish(feeds).await;
    let hash = hand.hash().await;
    (hand, hash)
}

#[tokio::test]
async fn order_details_keeps_every_law() {
    kit(order_details::projection).await.histories(2).laws(|random, story| Feeds::of(story).history(random, 8)).await;
}

#[tokio::test]
async fn customer_overview_keeps_every_law() {
    kit(customer_overview::projection)
        .await
        .histories(2)
        .laws(|random, story| Feeds::of(story).history(random, 8))
        .await;
}

#[tokio::test]
async fn product_sales_by_day_keeps_every_law() {
    kit(product_sales_by_day::projection)
        .await
        .histories(2)
        .laws(|random, story| Feeds::of(story).history(random, 8))
        .await;
}

#[tokio::test]
async fn order_timeline_keeps_every_law() {
    kit(order_timeline::projection).await.histories(2).laws(|random, story| Feeds::of(story).history(random, 8)).await;
}

#[tokio::test]
async fn order_search_keeps_every_law() {
    kit(order_search::projection).await.histories(2).laws(|random, story| Feeds::of(story).history(random, 8)).await;
}

#[tokio::test]
async fn a_batch_of_one_and_a_batch_of_many_take_the_same_round_trips() {
    for kind in BOTH {
        let feeds = Feeds::default();
        for n in 1..=300 {
            feeds.user(registered(n, "Ada"));
            feeds.product(common::added(n, "Tea"));
        }
        for n in 1..=300 {
            feeds.order(placed(n, n, &[n, 1 + n / 2]));
        }
        // changes: of many customers and of many orders in one step, or of one
        for n in 1..=300 {
            feeds.user(renamed(n, "Grace"));
            feeds.order(cancelled(n));
            feeds.payment(authorization_requested(n, n, usd(100)));
        }
        for n in 1..=300 {
            feeds.payment(authorized(n, n, usd(100)));
        }
        let mut sent = Vec::new();
        for batch in [1, 10, 150] {
            let mut hand = Place::new(kind).await.hand(StoreOptions::default()).await;
            hand.store.stays_live().await;
            let mut steps = Vec::new();
            let Feeds { users, catalog, orders, payments, .. } = &feeds;
            for feed in [users, catalog, orders, payments, users, orders, payments] {
                let half = 300 - hand.acquired.vector.get(&hand.source(feed)).position as usize % 300;
                let before = hand.store.statements_sent();
                hand.step(feed, batch).await.unwrap();
                steps.push(hand.store.statements_sent() - before);
                // the rest of this half, so that the next step of this feed is of the other kind
                hand.step(feed, half.saturating_sub(batch)).await.unwrap();
            }
            sent.push(steps);
        }
        assert_eq!(sent[0], sent[1], "{kind:?}");
        assert_eq!(sent[1], sent[2], "{kind:?}");
        assert!(sent[0].iter().all(|sent| *sent <= 14), "{kind:?}: {sent:?}");
    }
}

#[tokio::test]
async fn a_rename_reaches_all_rows_beyond_the_bound() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.user(registered(1, "Ada"));
        feeds.user(registered(2, "Grace"));
        for n in 1..=10 {
            feeds.order(placed(n, 1, &[1]));
        }
        feeds.order(placed(11, 2, &[1]));
        let mut hand = Place::new(kind).await.hand(small()).await;
        hand.finish(&feeds).await;
        let names = async |hand: &Hand| {
            let mut named = [0, 0, 0];
            for n in 1..=11 {
                let row = hand.order(n).await.unwrap();
                let name = row.customer_name.unwrap();
                named[["Ada", "Ada Lovelace", "Countess"].iter().position(|known| *known == name).unwrap_or(0)] +=
                    usize::from(name != "Grace");
            }
            named
        };
        assert_eq!(names(&hand).await, [10, 0, 0]);
        feeds.user(renamed(1, "Ada Lovelace"));
        hand.step(&feeds.users, 1).await.unwrap();
        assert_eq!(names(&hand).await, [7, 3, 0], "three rows with the event itself");
        assert!(hand.store.advance_fan_outs().await.unwrap());
        assert_eq!(names(&hand).await, [4, 6, 0]);
        // named again before the first name has reached all rows: it starts over
        feeds.user(renamed(1, "Countess"));
        hand.step(&feeds.users, 1).await.unwrap();
        assert_eq!(names(&hand).await, [4, 3, 3]);
        // an order that comes now has the new name, and a step of another feed moves the cursor on
        feeds.order(placed(12, 1, &[1]));
        hand.step(&feeds.orders, 1).await.unwrap();
        assert_eq!(hand.order(12).await.unwrap().customer_name.as_deref(), Some("Countess"));
        assert_eq!(names(&hand).await, [4, 0, 6]);
        // a restart in between
        hand.acquired = hand.store.acquire().await.unwrap();
        while hand.store.advance_fan_outs().await.unwrap() {}
        assert_eq!(names(&hand).await, [0, 0, 10]);
        assert!(!hand.store.has_open_fan_outs().await);
    }
}

#[tokio::test]
async fn many_changed_references_share_the_bound() {
    for kind in BOTH {
        let feeds = Feeds::default();
        for n in 1..=6 {
            feeds.user(registered(n, "Ada"));
            feeds.product(common::added(n, "Tea"));
        }
        for n in 1..=24 {
            feeds.order(placed(n, 1 + n % 6, &[1 + n % 5]));
        }
        for n in 1..=6 {
            feeds.user(renamed(n, "Grace"));
            feeds.product(product_renamed(n, "Coffee"));
        }
        let mut hand = Place::new(kind).await.hand(small()).await;
        // orders first, so that every customer and every product fans out
        hand.step(&feeds.orders, 100).await.unwrap();
        hand.finish(&feeds).await;
        let (_, expected) = in_order(kind, &feeds).await;
        assert_eq!(hand.hash().await, expected, "{kind:?}");
        let row = hand.order(24).await.unwrap();
        assert_eq!(row.customer_name.as_deref(), Some("Grace"));
        assert_eq!(row.lines[0].product.as_ref().unwrap().name, "Coffee");
    }
}

#[tokio::test]
async fn of_two_writers_only_the_younger_writes() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.user(registered(1, "Ada"));
        feeds.user(renamed(1, "Grace"));
        let place = Place::new(kind).await;
        let mut elder = place.hand(small()).await;
        elder.step(&feeds.users, 1).await.unwrap();
        let mut younger = place.hand(small()).await;
        let refused = elder.step(&feeds.users, 1).await;
        assert!(matches!(refused, Err(ApplyError::Fenced)), "{refused:?}");
        younger.step(&feeds.users, 1).await.unwrap();
        let behind = younger.apply(&feeds.users, Checkpoint::START, Checkpoint::START, &[]).await;
        assert!(matches!(behind, Err(ApplyError::Moved)), "{behind:?}");
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_folded_is_named_and_nothing_is_written() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.user(registered(1, "Ada"));
        // two that do not begin with what they begin with, one with a NUL, one broken
        feeds.user(renamed(2, "Nobody"));
        feeds.user(registered(3, "N\0L"));
        feeds.users.push_raw("user", common::user(4).0, "UserRenamed", "1", "{}".to_owned());
        let mut hand = Place::new(kind).await.hand(small()).await;
        let poison = hand.step(&feeds.users, 10).await.unwrap_err();
        // what cannot be read is found first, what cannot be folded when the rest is set aside
        let ApplyError::Poison(poison) = poison else { panic!("{poison:?}") };
        assert_eq!(poison.iter().map(|event| event.position).collect::<Vec<_>>(), [3, 4]);
        hand.step(&feeds.users, 1).await.unwrap();
        let poison = hand.step(&feeds.users, 1).await.unwrap_err();
        assert!(matches!(&poison, ApplyError::Poison(poison) if poison[0].position == 2), "{poison:?}");
        feeds.users.truncate(1);
        feeds.users.push_raw("user", common::user(4).0, "UserTeleported", "1", "{}".to_owned());
        let unknown = hand.step(&feeds.users, 1).await.unwrap_err();
        assert!(matches!(unknown, ApplyError::UnknownEventType { position: 2, .. }), "{unknown:?}");
    }
}
