//! A read with a token sees what the token stands for, or says why not.

mod common;

use std::time::{Duration, Instant};

use common::{BOTH, Feeds, Hand, Place, placed, registered, renamed, small};
use events::{consistency::ConsistencyToken, ids::OrderId};
use read_side::{Consistency, ReadError};
use uuid::Uuid;

const SHORT: Duration = Duration::from_millis(60);

async fn read(hand: &Hand, token: ConsistencyToken) -> Result<Option<OrderId>, ReadError> {
    let consistency = Consistency::at_least(token).with_wait(SHORT);
    Ok(hand.read.order(common::order(1), &consistency).await?.map(|row| row.order_id))
}

async fn given(kind: common::Kind) -> (Feeds, Hand) {
    let feeds = Feeds::default();
    feeds.user(registered(1, "Ada"));
    for n in 1..=30 {
        feeds.order(placed(n, 1, &[1]));
    }
    let mut hand = Place::new(kind).await.hand(small()).await;
    hand.step(&feeds.users, 1).await.unwrap();
    for _ in 0..5 {
        hand.step(&feeds.orders, 5).await.unwrap();
    }
    (feeds, hand)
}

fn code(result: Result<Option<OrderId>, ReadError>) -> &'static str {
    match result {
        Ok(Some(_)) => "served",
        Ok(None) => "none",
        Err(error) => error.code(),
    }
}

#[tokio::test]
async fn what_is_applied_is_served_at_once() {
    for kind in BOTH {
        let (feeds, hand) = given(kind).await;
        for position in [1, 8, 24, 25] {
            assert_eq!(code(read(&hand, feeds.orders.token_at(position)).await), "served", "{position}");
        }
        let mut both = feeds.orders.token_at(25);
        both.merge(&feeds.users.token());
        assert_eq!(code(read(&hand, both).await), "served");
    }
}

#[tokio::test]
async fn what_is_not_applied_in_time_is_a_timeout_that_says_how_far_it_is() {
    for kind in BOTH {
        let (feeds, hand) = given(kind).await;
        let started = Instant::now();
        let late = read(&hand, feeds.orders.token_at(26)).await.unwrap_err();
        assert!(started.elapsed() >= SHORT);
        assert!(late.is_retryable());
        let ReadError::ConsistencyTimeout { source_name, wanted, reached, wait_ms, .. } = late else {
            panic!("{late:?}")
        };
        assert_eq!((source_name.as_str(), wanted, reached, wait_ms), ("orders", 26, 25, 60));
        // a source that no event came from yet
        let catalog = ConsistencyToken::of("catalog", feeds.catalog.epoch(), 1, Some(Uuid::from_u128(1)));
        assert_eq!(code(read(&hand, catalog).await), "consistency_timeout");
    }
}

#[tokio::test]
async fn another_epoch_and_another_event_are_lost() {
    for kind in BOTH {
        let (feeds, hand) = given(kind).await;
        let other = Some(Uuid::from_u128(77));
        let dead_epoch = ConsistencyToken::of("orders", Uuid::from_u128(9), 3, other);
        let lost = read(&hand, dead_epoch).await.unwrap_err();
        assert_eq!((lost.code(), lost.is_retryable()), ("consistency_lost", false));
        // 25 is the checkpoint, 13 is remembered, and 1 is too long ago to be known
        for (position, expected) in [(25, "consistency_lost"), (13, "consistency_lost"), (1, "served")] {
            let dead_anchor = ConsistencyToken::of("orders", feeds.orders.epoch(), position, other);
            assert_eq!(code(read(&hand, dead_anchor).await), expected, "position {position}");
        }
    }
}

#[tokio::test]
async fn sources_that_the_read_model_does_not_follow_are_ignored() {
    for kind in BOTH {
        let (_, hand) = given(kind).await;
        let elsewhere = ConsistencyToken::of("notifications", Uuid::from_u128(9), 999, Some(Uuid::from_u128(1)));
        assert_eq!(code(read(&hand, elsewhere).await), "served");
        assert_eq!(code(read(&hand, ConsistencyToken::default()).await), "served");
    }
}

#[tokio::test]
async fn an_open_fan_out_keeps_its_token_waiting_and_no_older_one() {
    for kind in BOTH {
        let (feeds, mut hand) = given(kind).await;
        feeds.user(renamed(1, "Grace"));
        hand.step(&feeds.users, 1).await.unwrap();
        assert_eq!(code(read(&hand, feeds.users.token_at(1)).await), "served");
        assert_eq!(code(read(&hand, feeds.users.token_at(2)).await), "consistency_timeout");
        while hand.store.advance_fan_outs().await.unwrap() {}
        assert_eq!(code(read(&hand, feeds.users.token_at(2)).await), "served");
    }
}

#[tokio::test]
async fn a_waiting_reader_is_woken_by_the_commit() {
    for kind in BOTH {
        let (feeds, mut hand) = given(kind).await;
        let (reader, consistency) =
            (hand.read.clone(), Consistency::at_least(feeds.orders.token_at(30)).with_wait(Duration::from_secs(20)));
        let reading = tokio::spawn(async move { reader.order(common::order(30), &consistency).await });
        tokio::time::sleep(SHORT).await;
        assert!(!reading.is_finished());
        hand.step(&feeds.orders, 5).await.unwrap();
        assert!(reading.await.unwrap().unwrap().is_some(), "the row is in the snapshot that has the position");
    }
}

#[tokio::test]
async fn a_reader_of_another_process_finds_out_by_itself() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.order(placed(1, 1, &[1]));
        let place = Place::new(kind).await;
        let mut hand = place.hand(small()).await;
        let elsewhere = place.read();
        let consistency = Consistency::at_least(feeds.orders.token()).with_wait(Duration::from_secs(20));
        let reading = tokio::spawn(async move { elsewhere.order(common::order(1), &consistency).await });
        tokio::time::sleep(SHORT).await;
        hand.step(&feeds.orders, 1).await.unwrap();
        assert!(reading.await.unwrap().unwrap().is_some());
    }
}

#[tokio::test]
async fn a_query_database_that_is_not_there_is_being_built() {
    let place = Place::new(common::Kind::Sqlite).await;
    let read = place.read();
    let error = read.order(common::order(1), &Consistency::any()).await.unwrap_err();
    assert_eq!((error.code(), error.is_retryable()), ("rebuilding", true));
    assert_eq!(read.projections().await.unwrap(), []);
    let place = Place::new(common::Kind::Postgres).await;
    let error = place.read().order(common::order(1), &Consistency::any()).await.unwrap_err();
    assert_eq!(error.code(), "rebuilding");
}
