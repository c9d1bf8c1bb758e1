//! The projector as the platform runs it: rebuilds, versions, restores, poison.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{BOTH, Feeds, Kind, Place, Random, order, placed, quick, registered, renamed, user};
use event_store::follower::HaltReason;
use projections::{
    Projector, ProjectorHandle,
    engine::{
        rebuild::{Phase, Progress},
        table_hash::TableHash,
    },
};
use read_side::{
    Consistency,
    order_details::{OrderFilter, TEMPLATE},
};
use tokio::sync::watch;

const NAME: &str = "order_details";

async fn over(mut progress: watch::Receiver<Progress>) -> Progress {
    let over = progress.wait_for(|progress| progress.phase.is_over());
    tokio::time::timeout(Duration::from_secs(60), over).await.expect("a rebuild ends").unwrap().clone()
}

async fn hash(projector: &ProjectorHandle) -> TableHash {
    projector.caught_up().await;
    projector.live_hash(NAME).await.unwrap().expect("this version is live")
}

async fn live_generation(place: &Place) -> i64 {
    place.database().await.live(&TEMPLATE).await.unwrap().expect("there is a live generation").generation
}

#[tokio::test]
async fn events_come_through_to_rows_and_a_rebuild_equals_live() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.history(&mut Random(7), 40);
        let place = Place::new(kind).await;
        let projector = place.projector(&feeds, quick()).await;
        feeds.history(&mut Random(8), 5);
        let live = hash(&projector).await;

        let verified = over(projector.verify(NAME).await.unwrap()).await;
        assert_eq!((verified.phase, verified.error), (Phase::Verified, None));
        assert_eq!(live_generation(&place).await, 1);
        let rebuilt = over(projector.rebuild(NAME).await.unwrap()).await;
        assert_eq!((rebuilt.phase, rebuilt.error), (Phase::Swapped, None));
        assert_eq!((rebuilt.events_done, rebuilt.events_total), (events(&feeds), events(&feeds)));
        assert_eq!(live_generation(&place).await, rebuilt.generation);
        assert_eq!(hash(&projector).await, live);

        // the new generation goes on
        feeds.order(placed(900, 1, &[1]));
        let read = place.read();
        let token = Consistency::at_least(feeds.orders.token()).with_wait(Duration::from_secs(20));
        assert!(read.order(order(900), &token).await.unwrap().is_some());
        let status = read.projections().await.unwrap();
        assert_eq!(status[0].live_generation, rebuilt.generation);
        assert_eq!((status[0].state.as_str(), status[0].rows), ("live", Some(41)));
        assert_eq!(status[0].vector.iter().map(|source| source.lag_events()).sum::<i64>(), 0);
        projector.shutdown().await;
    }
}

fn events(feeds: &Feeds) -> u64 {
    feeds.scripted().iter().map(|feed| feed.head().position).sum()
}

#[tokio::test]
async fn a_reader_during_rebuilds_never_sees_an_empty_or_an_older_table() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.history(&mut Random(3), 30);
        let place = Place::new(kind).await;
        let projector = place.projector(&feeds, quick()).await;
        projector.caught_up().await;
        let done = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..3)
            .map(|n| {
                // one shares the projector's process and remembers the generation, like any other
                let (read, done) = (place.read(), Arc::clone(&done));
                tokio::spawn(async move {
                    let (mut seen, mut reads) = (30, 0);
                    while !done.load(Ordering::Relaxed) {
                        let page = read.orders(&OrderFilter::default(), 1_000, None, &Consistency::any()).await;
                        let page = page.unwrap_or_else(|error| panic!("reader {n}: {error}"));
                        assert!(page.rows.len() >= seen, "reader {n}: {} rows after {seen}", page.rows.len());
                        seen = page.rows.len();
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        for n in 0..4 {
            feeds.order(placed(100 + n, 1, &[1]));
            let progress = projector.rebuild(NAME).await.unwrap();
            feeds.order(placed(200 + n, 1, &[1]));
            let swapped = over(progress).await;
            assert_eq!((swapped.phase, swapped.error), (Phase::Swapped, None));
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.await.unwrap() > 0);
        }
        let generations = place.database().await.generations(&TEMPLATE).await.unwrap();
        let states: Vec<_> = generations.iter().map(|generation| generation.state.as_str()).collect();
        assert_eq!(states, ["retired", "live"], "the one before is kept, older ones are dropped");
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn a_restart_goes_on_where_it_stopped() {
    for kind in BOTH {
        let feeds = Feeds::default();
        let place = Place::new(kind).await;
        for n in 0..3 {
            feeds.history(&mut Random(n), 10);
            let projector = place.projector(&feeds, quick()).await;
            projector.caught_up().await;
            projector.shutdown().await;
        }
        let projector = place.projector(&feeds, quick()).await;
        assert_eq!(live_generation(&place).await, 1);
        let verified = over(projector.verify(NAME).await.unwrap()).await;
        assert_eq!((verified.phase, verified.error), (Phase::Verified, None));
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn a_new_version_is_built_beside_the_old_one_and_swapped_in() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.history(&mut Random(5), 20);
        let place = Place::new(kind).await;
        let projector = place.projector(&feeds, quick()).await;
        projector.caught_up().await;
        projector.shutdown().await;

        let mut next = projections::order_details::projection();
        next.version += 1;
        let version = i64::from(next.version);
        let projector = Projector::start_with(vec![next], place.database().await, feeds.all(), quick()).await.unwrap();
        let read = place.read();
        while live_generation(&place).await == 1 {
            let rows = read.orders(&OrderFilter::default(), 100, None, &Consistency::any()).await.unwrap().rows;
            assert_eq!(rows.len(), 20, "the old one is served meanwhile");
        }
        projector.caught_up().await;
        assert_eq!(read.projections().await.unwrap()[0].version, version);
        feeds.order(placed(900, 1, &[1]));
        let token = Consistency::at_least(feeds.orders.token()).with_wait(Duration::from_secs(20));
        assert!(read.order(order(900), &token).await.unwrap().is_some());
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn rows_that_another_hand_has_changed_refuse_the_swap() {
    let feeds = Feeds::default();
    feeds.history(&mut Random(5), 20);
    let place = Place::new(Kind::Sqlite).await;
    let projector = place.projector(&feeds, quick()).await;
    projector.caught_up().await;
    let file = read_side::query_database::generation_file(place.directory(), NAME, 1);
    let intruder = sqlx::SqlitePool::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    sqlx::query("update order_details_g1 set total_minor = total_minor + 1 where order_id = $1")
        .bind(order(3).to_string())
        .execute(&intruder)
        .await
        .unwrap();
    intruder.close().await;
    let refused = over(projector.rebuild(NAME).await.unwrap()).await;
    assert_eq!(refused.phase, Phase::Failed);
    assert!(refused.error.unwrap().contains("other rows"));
    assert_eq!(live_generation(&place).await, 1);
    // and the live one goes on
    feeds.order(placed(900, 1, &[1]));
    let token = Consistency::at_least(feeds.orders.token()).with_wait(Duration::from_secs(20));
    assert!(place.read().order(order(900), &token).await.unwrap().is_some());
    projector.shutdown().await;
}

#[tokio::test]
async fn a_log_restored_from_an_older_copy_halts_and_a_rebuild_heals() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.history(&mut Random(5), 20);
        let place = Place::new(kind).await;
        let projector = place.projector(&feeds, quick()).await;
        projector.caught_up().await;
        let lost = feeds.orders.token();
        feeds.orders.truncate(10);
        for n in 500..600 {
            feeds.order(placed(n, 1, &[1]));
        }
        let halted = async || {
            let report = projector.status().await.remove(0);
            report.live.is_some_and(|(_, status)| {
                matches!(status.stuck(), Some((source, HaltReason::FeedRegressed { .. })) if &**source == "orders")
            })
        };
        while !halted().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let healed = over(projector.rebuild(NAME).await.unwrap()).await;
        assert_eq!((healed.phase, healed.error), (Phase::Swapped, None));
        projector.caught_up().await;
        let read = place.read();
        let token = Consistency::at_least(feeds.orders.token());
        assert!(read.order(order(599), &token).await.unwrap().is_some());
        let lost = read.order(order(1), &Consistency::at_least(lost)).await.unwrap_err();
        assert_eq!(lost.code(), "consistency_lost");
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn a_poison_event_parks_its_stream_and_nothing_else() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.user(registered(1, "Ada"));
        feeds.user(registered(2, "Grace"));
        feeds.users.push_raw("user", user(1).0, "UserRenamed", "1", "{\"oops\":1}".to_owned());
        feeds.user(renamed(1, "never seen"));
        feeds.user(renamed(2, "Grace Hopper"));
        feeds.order(placed(1, 1, &[1]));
        feeds.order(placed(2, 2, &[1]));
        let place = Place::new(kind).await;
        let projector = place.projector(&feeds, quick()).await;
        projector.caught_up().await;
        let read = place.read();
        let name = async |n| read.order(order(n), &Consistency::any()).await.unwrap().unwrap().customer_name.unwrap();
        assert_eq!((name(1).await, name(2).await), ("Ada".to_owned(), "Grace Hopper".to_owned()));
        let parked = read.order(order(1), &Consistency::at_least(feeds.users.token())).await.unwrap_err();
        assert_eq!((parked.code(), parked.is_retryable()), ("parked", false));
        let before = Consistency::at_least(feeds.users.token_at(2));
        assert!(read.order(order(1), &before).await.is_ok());
        let parked = async || {
            let status = place.read().projections().await.unwrap().remove(0);
            status.vector.iter().find(|source| source.source == "users").unwrap().parked
        };
        assert_eq!(parked().await, 2);
        // a restart remembers, and a rebuild comes to the same
        projector.shutdown().await;
        feeds.user(renamed(1, "never seen either"));
        let projector = place.projector(&feeds, quick()).await;
        projector.caught_up().await;
        assert_eq!(parked().await, 3);
        let verified = over(projector.verify(NAME).await.unwrap()).await;
        assert_eq!((verified.phase, verified.error), (Phase::Verified, None));
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn fan_outs_end_without_further_events() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.user(registered(1, "Ada"));
        for n in 1..=40 {
            feeds.order(placed(n, 1, &[1]));
        }
        let place = Place::new(kind).await;
        let mut options = quick();
        options.store = common::small();
        let projector = place.projector(&feeds, options).await;
        projector.caught_up().await;
        feeds.user(renamed(1, "Grace"));
        let token = Consistency::at_least(feeds.users.token()).with_wait(Duration::from_secs(20));
        let read = place.read();
        let page = read.orders(&OrderFilter::default(), 100, None, &token).await.unwrap();
        assert_eq!(page.rows.len(), 40);
        assert!(page.rows.iter().all(|row| row.customer_name.as_deref() == Some("Grace")));
        projector.shutdown().await;
    }
}
