//! A program of a new VERSION beside rows of the old one: what would change, what has changed, and how long it takes.

mod common;

use std::{collections::BTreeSet, num::NonZeroU64, time::Duration};

use common::{BOTH, Feeds, Kind, Place, order, placed, quick};
use events::{
    envelope::RecordedEvent,
    orders::{OrderEvent, SOURCE},
};
use projections::{
    ChangedVersions, Projector, ProjectorHandle, ProjectorOptions,
    engine::{
        compare::{Change, Comparison},
        rebuild::{Phase, Progress, Purpose},
    },
    projection::{Facets, Fold, Projection, References},
};
use read_side::{Consistency, ReadError, freshness::Witness, order_details::TEMPLATE};
use serde_json::{Value, json};
use tokio::sync::watch;

const NAME: &str = "order_details";

/// Orders as they were placed, as far as this test goes.
struct Placed;

impl Fold for Placed {
    type Event = OrderEvent;
    type State = Value;
    const SOURCE: &'static str = SOURCE;

    fn key(event: &OrderEvent) -> Option<String> {
        match event {
            OrderEvent::OrderPlaced(event) => Some(event.order_id.to_string()),
            _ => None,
        }
    }

    fn fold(_: Option<Value>, event: OrderEvent, _: &RecordedEvent) -> Result<Value, String> {
        let OrderEvent::OrderPlaced(event) = event else { return Err("not of this test".to_owned()) };
        let totals: Vec<i64> = event.lines.iter().map(|line| line.total_minor().unwrap()).collect();
        Ok(
            json!({"customer_id": event.customer_id, "placed_at_us": event.placed_at.timestamp_micros(), "totals": totals}),
        )
    }
}

fn row(facets: &Facets, total_minor: impl Fn(&[i64]) -> i64) -> Option<String> {
    let placed = facets.get::<Value>(0)?;
    let totals: Vec<i64> = placed["totals"].as_array()?.iter().filter_map(Value::as_i64).collect();
    let row = json!({
        "external_ref": null, "customer_id": placed["customer_id"], "customer_name": null, "customer_email": null,
        "status": "PENDING", "placed_at_us": placed["placed_at_us"], "shipped_at_us": null, "lines": [],
        "total_minor": total_minor(&totals), "currency": "USD", "updated_at_us": 0,
    });
    Some(row.to_string())
}

/// The deliberate bug: it counts the first line only.
fn buggy() -> Projection {
    let derive = |facets: &Facets, _: &References| row(facets, |totals| totals[0]);
    Projection::new(&TEMPLATE, 101).facet::<Placed>().derive(derive)
}

fn fixed() -> Projection {
    let derive = |facets: &Facets, _: &References| row(facets, |totals| totals.iter().sum());
    Projection::new(&TEMPLATE, 102).facet::<Placed>().derive(derive)
}

async fn start(
    place: &Place,
    feeds: &Feeds,
    projection: Projection,
    changed_versions: ChangedVersions,
) -> ProjectorHandle {
    let mut options = ProjectorOptions { changed_versions, ..quick() };
    options.follower.batch_events_max = 5;
    Projector::start_with(vec![projection], place.database().await, feeds.all(), options).await.unwrap()
}

async fn over(mut progress: watch::Receiver<Progress>) -> Progress {
    let over = progress.wait_for(|progress| progress.phase.is_over());
    tokio::time::timeout(Duration::from_secs(60), over).await.expect("a rebuild ends").unwrap().clone()
}

/// Of three orders one has two lines: those rows are wrong.
fn place_orders(feeds: &Feeds, numbers: std::ops::RangeInclusive<u64>) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    for n in numbers {
        feeds.order(placed(n, 1, if n % 3 == 0 { &[1, 2] } else { &[1] }));
        if n % 3 == 0 {
            wrong.insert(order(n).to_string());
        }
    }
    wrong
}

/// That the report names exactly these rows, and in them exactly the field that was wrong.
#[track_caller]
fn assert_names(report: &Comparison, wrong: &BTreeSet<String>) {
    let named: BTreeSet<String> = report.differences.iter().map(|one| one.key[0].clone()).collect();
    assert_eq!((&named, report.differences_total), (wrong, wrong.len() as u64));
    for difference in &report.differences {
        let fields: Vec<_> = difference.fields.iter().map(|field| field.field.as_str()).collect();
        assert_eq!((difference.table.as_str(), difference.change), ("rows", Change::Changed));
        assert_eq!(fields, ["total_minor"]);
        // lines of 180 and 360 minor units
        assert_eq!(difference.fields[0].before, Some(json!(180)));
        assert_eq!(difference.fields[0].after, Some(json!(540)));
    }
    assert_eq!((report.live.version, report.built.version), (101, 102));
}

#[tokio::test]
async fn a_fixed_bug_is_named_row_by_row_before_the_swap_and_after() {
    for kind in BOTH {
        let (feeds, place) = (Feeds::default(), Place::new(kind).await);
        let wrong = place_orders(&feeds, 1..=20);
        let old = start(&place, &feeds, buggy(), ChangedVersions::Rebuild).await;
        old.caught_up().await;
        old.shutdown().await;
        // nobody has folded these when the new program comes: both are compared where the old one stood
        place_orders(&feeds, 21..=24);

        let new = start(&place, &feeds, fixed(), ChangedVersions::Wait).await;
        assert!(new.status().await[0].live.is_none(), "what another version has made is not followed");
        let told = over(new.diff(NAME).await.unwrap()).await;
        assert_eq!((told.phase, told.error), (Phase::Compared, None), "{kind:?}");
        assert_names(&told.report.unwrap(), &wrong);
        let kept = new.generations(NAME).await.unwrap();
        assert_eq!(kept.iter().map(|one| (one.generation, one.version)).collect::<Vec<_>>(), [(1, 101)]);
        new.shutdown().await;
        let old = start(&place, &feeds, buggy(), ChangedVersions::Wait).await;
        assert_eq!(old.last_rebuild(NAME).await.unwrap().unwrap().phase, Phase::Compared, "it is remembered");
        old.shutdown().await;

        let all_wrong: BTreeSet<String> = (1..=24).filter(|n| n % 3 == 0).map(|n| order(n).to_string()).collect();
        let new = start(&place, &feeds, fixed(), ChangedVersions::Rebuild).await;
        let mut swapped = None;
        for _ in 0..600 {
            swapped = new.last_rebuild(NAME).await.unwrap().filter(|last| last.phase == Phase::Swapped);
            if swapped.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let report = swapped.expect("a start with another version swaps").report.expect("and says what has changed");
        assert!(report.differences_total >= wrong.len() as u64);
        assert_names(&report, if report.differences_total == wrong.len() as u64 { &wrong } else { &all_wrong });
        new.caught_up().await;
        let verified = over(new.verify(NAME).await.unwrap()).await;
        assert_eq!((verified.phase, verified.error), (Phase::Verified, None));
        new.shutdown().await;
    }
}

#[tokio::test]
async fn a_token_that_nobody_is_on_the_way_to_is_told_how_long_the_rebuild_takes() {
    for kind in BOTH {
        let (feeds, place) = (Feeds::default(), Place::new(kind).await);
        place_orders(&feeds, 1..=60);
        let old = start(&place, &feeds, buggy(), ChangedVersions::Rebuild).await;
        old.caught_up().await;
        old.shutdown().await;
        let new = start(&place, &feeds, fixed(), ChangedVersions::Wait).await;
        let progress = new.build(NAME, Purpose::Swap, NonZeroU64::new(15)).await.unwrap();
        place_orders(&feeds, 61..=61);
        let (read, token) = (place.read(), Consistency::at_least(feeds.orders.token()));
        let early = token.clone().with_wait(Duration::from_millis(20));
        let mut told = None;
        for _ in 0..200 {
            match read.order(order(61), &early).await {
                Err(ReadError::Rebuilding { eta_s, .. }) if eta_s.is_some() => told = eta_s,
                Err(error) => assert_eq!((error.code(), error.is_retryable()), ("rebuilding", true), "{kind:?}"),
                Ok(_) => panic!("nobody has folded it"),
            }
            if told.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let left_s = told.expect("once there is a rate, the time left is told");
        assert!(left_s <= 60, "{left_s}");
        new.throttle(NAME, None).await.unwrap();
        assert_eq!(over(progress).await.phase, Phase::Swapped);
        let row = read.order(order(61), &token.with_wait(Duration::from_secs(20))).await.unwrap();
        assert!(row.is_some(), "the new generation goes on");
        new.shutdown().await;
    }
}

#[tokio::test]
async fn a_program_that_is_older_leaves_the_rows_to_the_newer_one_that_runs() {
    let (feeds, place) = (Feeds::default(), Place::new(Kind::Postgres).await);
    place_orders(&feeds, 1..=5);
    let new = start(&place, &feeds, fixed(), ChangedVersions::Rebuild).await;
    new.caught_up().await;
    let old = start(&place, &feeds, buggy(), ChangedVersions::Rebuild).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(old.last_rebuild(NAME).await.unwrap().is_none(), "it does not take them away");
    assert!(old.status().await[0].live.is_none() && new.status().await[0].live.is_some());
    new.shutdown().await;
    old.shutdown().await;
}

#[tokio::test]
async fn a_reader_that_waits_while_generations_are_swapped_is_answered_from_the_new_one() {
    for kind in BOTH {
        let (feeds, place) = (Feeds::default(), Place::new(kind).await);
        place_orders(&feeds, 1..=30);
        let old = start(&place, &feeds, buggy(), ChangedVersions::Rebuild).await;
        old.caught_up().await;
        old.shutdown().await;
        let new = start(&place, &feeds, fixed(), ChangedVersions::Wait).await;
        place_orders(&feeds, 31..=33);
        let witness = Witness::default();
        let read = place.read().telling(&witness);
        assert!(read.order(order(30), &Consistency::any()).await.unwrap().is_some());
        assert_eq!(witness.take()[0].generation, 1);

        // the old generation stands still, so only the swap can bring this
        let waiting = Witness::default();
        let (reader, token) = (place.read().telling(&waiting), feeds.orders.token());
        let consistency = Consistency::at_least(token).with_wait(Duration::from_secs(25));
        let reading = tokio::spawn(async move { reader.order(order(33), &consistency).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!reading.is_finished(), "{kind:?}: nobody has folded it");
        assert_eq!(over(new.build(NAME, Purpose::Swap, None).await.unwrap()).await.phase, Phase::Swapped);
        assert!(reading.await.unwrap().unwrap().is_some(), "{kind:?}");
        let seen = waiting.take().remove(0);
        assert!(seen.generation > 1 && seen.waited >= Duration::from_millis(100), "{kind:?}: {seen:?}");
        let orders = seen.observed.sources.iter().find(|each| each.source == "orders").unwrap();
        assert!(orders.position >= 33, "{kind:?}: {orders:?}");
        new.shutdown().await;
    }
}
