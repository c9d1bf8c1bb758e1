//! Waits have a bound and an end, an idle service holds nobody up, and what a witness is told is true.

mod common;

use std::time::{Duration, Instant};

use common::{BOTH, Feeds, Place, order, placed, registered, small};
use events::consistency::ConsistencyToken;
use read_side::{Consistency, ReadError, consistency::WAITERS_MAX, freshness::Witness};

const SHORT: Duration = Duration::from_millis(60);

#[tokio::test]
async fn an_idle_service_holds_nobody_up_however_long_ago_it_last_spoke() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.user(registered(1, "Ada"));
        let said_long_ago = feeds.users.token();
        for n in 1..=60 {
            feeds.order(placed(n, 1, &[1]));
        }
        let mut hand = Place::new(kind).await.hand(small()).await;
        hand.step(&feeds.users, 1).await.unwrap();
        for _ in 0..12 {
            hand.step(&feeds.orders, 5).await.unwrap();
        }
        // a service that never said anything, one that said something long ago, and both with one that goes on
        let never = ConsistencyToken::of("catalog", feeds.catalog.epoch(), 0, None);
        let mut all = never.clone();
        all.merge(&said_long_ago);
        all.merge(&feeds.orders.token());
        for token in [never, said_long_ago, all] {
            let started = Instant::now();
            let consistency = Consistency::at_least(token.clone()).with_wait(Duration::from_secs(20));
            assert!(hand.read.order(order(60), &consistency).await.unwrap().is_some(), "{kind:?} {token}");
            assert!(started.elapsed() < Duration::from_secs(10), "{kind:?} {token}");
        }
    }
}

#[tokio::test]
async fn more_waiters_than_a_process_keeps_are_told_so_at_once_and_to_come_again() {
    let feeds = Feeds::default();
    feeds.order(placed(1, 1, &[1]));
    feeds.order(placed(2, 1, &[1]));
    let mut hand = Place::new(common::Kind::Sqlite).await.hand(small()).await;
    hand.step(&feeds.orders, 1).await.unwrap();
    let consistency = Consistency::at_least(feeds.orders.token()).with_wait(Duration::from_secs(25));
    let mut readers = tokio::task::JoinSet::new();
    const MORE: usize = 40;
    for _ in 0..WAITERS_MAX + MORE {
        let (read, consistency) = (hand.read.clone(), consistency.clone());
        readers.spawn(async move { read.order(order(2), &consistency).await.map(|row| row.is_some()) });
    }
    for _ in 0..MORE {
        let refused = readers.join_next().await.unwrap().unwrap().unwrap_err();
        assert!(matches!(refused, ReadError::TooManyWaiters { limit: WAITERS_MAX }), "{refused}");
        assert_eq!((refused.code(), refused.is_retryable()), ("too_many_waiters", true));
        assert!(refused.to_string().contains("waiters_max"), "it names the limit: {refused}");
    }
    // who waits for nothing is answered all the same
    assert!(hand.read.order(order(1), &Consistency::any()).await.unwrap().is_some());
    hand.step(&feeds.orders, 1).await.unwrap();
    while let Some(read) = readers.join_next().await {
        assert!(read.unwrap().unwrap(), "whoever waited is answered");
    }
}

#[tokio::test]
async fn a_witness_is_told_how_long_was_waited_and_how_far_the_answer_is() {
    for kind in BOTH {
        let feeds = Feeds::default();
        for n in 1..=3 {
            feeds.order(placed(n, 1, &[1]));
        }
        let mut hand = Place::new(kind).await.hand(small()).await;
        hand.step(&feeds.orders, 2).await.unwrap();
        let witness = Witness::default();
        let read = hand.read.telling(&witness);
        let late = Consistency::at_least(feeds.orders.token()).with_wait(SHORT);
        assert_eq!(read.order(order(3), &late).await.unwrap_err().code(), "consistency_timeout");
        assert_eq!(witness.take(), [], "no answer, nothing to tell of one");

        let reader = read.clone();
        let consistency = Consistency::at_least(feeds.orders.token()).with_wait(Duration::from_secs(20));
        let reading = tokio::spawn(async move { reader.order(order(3), &consistency).await });
        tokio::time::sleep(SHORT).await;
        hand.step(&feeds.orders, 1).await.unwrap();
        assert!(reading.await.unwrap().unwrap().is_some());
        let seen = witness.take().remove(0);
        assert!(seen.waited >= SHORT / 2, "{kind:?}: {seen:?}");
        let position = |seen: &read_side::freshness::Freshness, source: &str| {
            seen.observed.sources.iter().find(|each| each.source == source).map(|each| each.position)
        };
        assert_eq!((position(&seen, "orders"), position(&seen, "users")), (Some(3), Some(0)), "{kind:?}: {seen:?}");

        // without a token: what was seen a moment ago, and soon what is there
        feeds.order(placed(4, 1, &[1]));
        hand.step(&feeds.orders, 1).await.unwrap();
        let witness = Witness::default();
        let read = hand.read.telling(&witness);
        read.order(order(4), &Consistency::any()).await.unwrap();
        let told = position(&witness.take().remove(0), "orders").unwrap();
        assert!((3..=4).contains(&told), "{kind:?}: {told}");
        tokio::time::sleep(Duration::from_millis(600)).await;
        let witness = Witness::default();
        hand.read.telling(&witness).order(order(4), &Consistency::any()).await.unwrap();
        assert_eq!(position(&witness.take().remove(0), "orders"), Some(4), "{kind:?}");
    }
}
