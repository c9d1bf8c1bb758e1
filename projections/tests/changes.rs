//! Changes: what a reader follows to keep what it shows up to date.

mod common;

use std::{sync::Arc, time::Duration};

use common::{BOTH, Feeds, Place, cancelled, order, placed, quick, registered, renamed, small, time};
use event_store::clock::ManualClock;
use projections::engine::store::StoreOptions;
use read_side::{ChangeCursor, Changes, Consistency, ReadSide, order_details::TEMPLATE};

/// The cursor to begin from.
async fn begin(read: &ReadSide) -> ChangeCursor {
    match read.changes(&TEMPLATE, None, 10).await.unwrap() {
        Changes::Resync { cursor } => cursor,
        told => panic!("{told:?}"),
    }
}

/// Keys of the changes behind the cursor, which moves on; `None`: read anew.
async fn follow(read: &ReadSide, cursor: &mut ChangeCursor) -> Option<Vec<String>> {
    match read.changes(&TEMPLATE, Some(*cursor), 100).await.unwrap() {
        Changes::Since { changes, cursor: next, has_more } => {
            assert!(!has_more);
            let seqs: Vec<_> = changes.iter().map(|change| change.seq).collect();
            assert_eq!(seqs, (cursor.seq + 1..=next.seq).collect::<Vec<_>>(), "without a gap");
            *cursor = next;
            Some(changes.into_iter().map(|change| change.key).collect())
        }
        Changes::Resync { cursor: next } => {
            *cursor = next;
            None
        }
    }
}

/// Waits until everything that the orders service has said is in the rows.
async fn seen(read: &ReadSide, feeds: &Feeds) {
    let all = Consistency::at_least(feeds.orders.token()).with_wait(Duration::from_secs(20));
    read.order(order(1), &all).await.unwrap();
}

fn orders(ns: &[u64]) -> Vec<String> {
    ns.iter().map(|n| order(*n).to_string()).collect()
}

#[tokio::test]
async fn rows_that_are_served_are_told_when_they_are_written() {
    for kind in BOTH {
        let feeds = Feeds::default();
        let mut hand = Place::new(kind).await.hand(small()).await;
        hand.store.stays_live().await;
        let mut cursor = begin(&hand.read).await;
        assert_eq!(cursor, ChangeCursor { generation: 1, seq: 0 });
        feeds.user(registered(1, "Ada"));
        hand.finish(&feeds).await;
        assert_eq!(follow(&hand.read, &mut cursor).await, Some(vec![]), "{kind:?}: no row shows it yet");
        // heard of before it is placed: kept, and not served
        feeds.stock(common::reserved(5, 0, 1));
        hand.finish(&feeds).await;
        assert_eq!(follow(&hand.read, &mut cursor).await, Some(vec![]), "{kind:?}");
        for n in [3, 1, 2, 4, 5] {
            feeds.order(placed(n, 1, &[1]));
        }
        hand.step(&feeds.orders, 2).await.unwrap();
        hand.step(&feeds.orders, 3).await.unwrap();
        assert_eq!(follow(&hand.read, &mut cursor).await, Some(orders(&[1, 3, 2, 4, 5])), "{kind:?}");
        feeds.order(cancelled(2));
        hand.finish(&feeds).await;
        assert_eq!(follow(&hand.read, &mut cursor).await, Some(orders(&[2])), "{kind:?}");
        // a changed reference: each row when its turn comes
        feeds.user(renamed(1, "Grace"));
        hand.step(&feeds.users, 1).await.unwrap();
        assert_eq!(follow(&hand.read, &mut cursor).await, Some(orders(&[1, 2, 3])), "{kind:?}");
        while hand.store.advance_fan_outs().await.unwrap() {}
        assert_eq!(follow(&hand.read, &mut cursor).await, Some(orders(&[4, 5])), "{kind:?}");
    }
}

#[tokio::test]
async fn a_generation_that_is_not_live_tells_nothing_and_nobody_follows_into_its_life() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.order(placed(1, 1, &[1]));
        let mut hand = Place::new(kind).await.hand(StoreOptions::default()).await;
        let mut cursor = begin(&hand.read).await;
        hand.finish(&feeds).await;
        assert_eq!(follow(&hand.read, &mut cursor).await, Some(vec![]), "{kind:?}: it was not made live");
        hand.store.go_live().await.unwrap();
        feeds.order(placed(2, 1, &[1]));
        hand.finish(&feeds).await;
        assert_eq!(follow(&hand.read, &mut cursor).await, None, "{kind:?}: what it did before is not told");
        feeds.order(placed(3, 1, &[1]));
        hand.finish(&feeds).await;
        assert_eq!(follow(&hand.read, &mut cursor).await, Some(orders(&[3])), "{kind:?}");
    }
}

#[tokio::test]
async fn changes_are_kept_for_a_day() {
    for kind in BOTH {
        let clock = Arc::new(ManualClock::at(time(0)));
        let options = StoreOptions { clock: clock.clone(), ..StoreOptions::default() };
        let feeds = Feeds::default();
        let mut hand = Place::new(kind).await.hand(options).await;
        hand.store.stays_live().await;
        let begun = begin(&hand.read).await;
        for n in 1..=3 {
            feeds.order(placed(n, 1, &[1]));
            hand.finish(&feeds).await;
            clock.advance(Duration::from_secs(10 * 3_600));
        }
        assert_eq!(
            follow(&hand.read, &mut begun.clone()).await,
            Some(orders(&[1, 2, 3])),
            "{kind:?}: the next batch sweeps"
        );
        feeds.order(placed(4, 1, &[1]));
        hand.finish(&feeds).await;
        assert_eq!(follow(&hand.read, &mut begun.clone()).await, None, "{kind:?}: the first is more than a day old");
        let mut second = ChangeCursor { seq: 1, ..begun };
        assert_eq!(follow(&hand.read, &mut second).await, Some(orders(&[2, 3, 4])), "{kind:?}");
        clock.advance(Duration::from_secs(40 * 3_600));
        feeds.order(placed(5, 1, &[1]));
        hand.finish(&feeds).await;
        assert_eq!(follow(&hand.read, &mut second).await, Some(orders(&[5])), "{kind:?}: who was there is told");
    }
}

#[tokio::test]
async fn a_rebuild_tells_to_read_anew_once_and_a_restart_tells_nothing() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.order(placed(1, 1, &[1]));
        let place = Place::new(kind).await;
        let projector = place.projector(&feeds, quick()).await;
        let read = place.read();
        seen(&read, &feeds).await;
        let mut cursor = begin(&read).await;
        projector.shutdown().await;

        let projector = place.projector(&feeds, quick()).await;
        feeds.order(placed(2, 1, &[1]));
        seen(&read, &feeds).await;
        assert_eq!(follow(&read, &mut cursor).await, Some(orders(&[2])), "{kind:?}: a restart is no news");

        let mut progress = projector.rebuild("order_details").await.unwrap();
        progress.wait_for(|progress| progress.phase.is_over()).await.unwrap();
        feeds.order(placed(3, 1, &[1]));
        seen(&read, &feeds).await;
        assert_eq!(follow(&read, &mut cursor).await, None, "{kind:?}: another generation");
        assert_eq!(cursor.generation, 2);
        feeds.order(placed(4, 1, &[1]));
        seen(&read, &feeds).await;
        assert_eq!(follow(&read, &mut cursor).await, Some(orders(&[4])), "{kind:?}: and then as before");
        projector.shutdown().await;
    }
}
