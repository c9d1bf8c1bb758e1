//! Rebuilds as operators steer them: how fast, not now, not at all, back again; and what a comparison tells.

mod common;

use std::{num::NonZeroU64, time::Duration};

use common::{BOTH, Feeds, Kind, Place, Random, order, placed, quick};
use projections::{
    ProjectorHandle, ProjectorOptions,
    engine::{
        compare::Change,
        rebuild::{Phase, Progress, Purpose},
        steer::SteerError,
    },
};
use read_side::{Consistency, order_details::TEMPLATE, query_database::generation_file};
use tokio::sync::watch;

const NAME: &str = "order_details";

async fn over(mut progress: watch::Receiver<Progress>) -> Progress {
    let over = progress.wait_for(|progress| progress.phase.is_over());
    tokio::time::timeout(Duration::from_secs(60), over).await.expect("a rebuild ends").unwrap().clone()
}

/// Batches so small that a throttle is felt.
fn small_steps() -> ProjectorOptions {
    let mut options = quick();
    options.follower.batch_events_max = 5;
    options
}

fn rate(events_per_s: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(events_per_s)
}

async fn last(projector: &ProjectorHandle) -> Progress {
    projector.last_rebuild(NAME).await.unwrap().expect("there was one")
}

/// Waits until the last rebuild is as wanted.
async fn until(projector: &ProjectorHandle, what: &str, is_so: impl Fn(&Progress) -> bool) -> Progress {
    for _ in 0..600 {
        let progress = last(projector).await;
        if is_so(&progress) {
            return progress;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not {what}: {:?}", last(projector).await);
}

async fn live(place: &Place) -> i64 {
    place.database().await.live(&TEMPLATE).await.unwrap().expect("there is a live generation").generation
}

/// Changes a row of the live generation behind everybody's back.
async fn damage(place: &Place, generation: i64, statement: &str) {
    damage_of(place, NAME, generation, statement).await;
}

async fn damage_of(place: &Place, name: &str, generation: i64, statement: &str) {
    match place.kind {
        Kind::Sqlite => {
            let file = generation_file(place.directory(), name, generation);
            let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", file.display())).await.unwrap();
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap();
            pool.close().await;
        }
        Kind::Postgres => {
            let pool = sqlx::PgPool::connect(place.url()).await.unwrap();
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap();
            pool.close().await;
        }
    }
}

#[tokio::test]
async fn a_rebuild_goes_as_fast_as_it_is_told_and_remembers_it_over_a_restart() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.history(&mut Random(21), 40);
        let place = Place::new(kind).await;
        let projector = place.projector(&feeds, small_steps()).await;
        projector.caught_up().await;

        projector.build(NAME, Purpose::Swap, rate(40)).await.unwrap();
        let going = until(&projector, "on its way", |now| now.events_done > 0 && now.events_per_s > 0).await;
        assert_eq!((going.phase, going.throttle_events_per_s), (Phase::CatchingUp, Some(40)));
        assert!(going.events_total > going.events_done && going.eta_s().is_some(), "{going:?}");
        let second = projector.verify(NAME).await.unwrap_err();
        assert!(matches!(second, SteerError::UnderWay { generation, .. } if generation == going.generation));

        projector.pause(NAME).await.unwrap();
        until(&projector, "paused", |now| now.paused).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let paused = last(&projector).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(last(&projector).await.events_done, paused.events_done);
        projector.shutdown().await;

        // as it was told, a new process goes on: not at all
        let projector = place.projector(&feeds, small_steps()).await;
        projector.caught_up().await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        let still = last(&projector).await;
        assert_eq!((still.phase, still.paused, still.generation), (Phase::CatchingUp, true, going.generation));
        assert_eq!(live(&place).await, 1);
        projector.throttle(NAME, None).await.unwrap();
        projector.resume(NAME).await.unwrap();
        let swapped = until(&projector, "over", |now| now.phase.is_over()).await;
        assert_eq!((swapped.phase, swapped.error, swapped.generation), (Phase::Swapped, None, going.generation));
        assert!(swapped.report.expect("it was compared").is_same());
        assert_eq!(live(&place).await, going.generation);
        projector.shutdown().await;
    }
}

/// As a full disk does, and nobody who asks would know of it otherwise than by a rebuild that does not end.
#[tokio::test]
async fn a_rebuild_that_tries_again_and_again_says_why_until_it_gets_through() {
    let feeds = Feeds::default();
    feeds.history(&mut Random(23), 20);
    let place = Place::new(Kind::Postgres).await;
    let projector = place.projector(&feeds, small_steps()).await;
    projector.caught_up().await;
    let rebuild = projector.build(NAME, Purpose::Swap, rate(10)).await.unwrap();
    until(&projector, "on its way", |now| now.events_done > 0).await;
    let full = "create function full_disk() returns event_trigger language plpgsql as \
        $$begin raise exception 'no space left' using errcode = '53100'; end$$";
    damage(&place, 1, full).await;
    damage(
        &place,
        1,
        "create event trigger full_disk on ddl_command_start when tag in ('CREATE INDEX') \
        execute function full_disk()",
    )
    .await;
    projector.throttle(NAME, None).await.unwrap();
    let hindered = until(&projector, "hindered", |now| now.error.is_some()).await;
    assert!(hindered.error.as_ref().is_some_and(|why| why.contains("no space left")), "{hindered:?}");
    assert_eq!(hindered.phase, Phase::CatchingUp);
    let known = projector.status().await.into_iter().find(|report| report.projection == NAME).expect("it is followed");
    assert_eq!(known.rebuild.expect("under way").error, hindered.error);

    damage(&place, 1, "drop event trigger full_disk").await;
    let swapped = over(rebuild).await;
    assert_eq!((swapped.phase, swapped.error), (Phase::Swapped, None));
    assert_eq!(last(&projector).await.error, None);
    projector.shutdown().await;
}

#[tokio::test]
async fn a_cancelled_rebuild_leaves_nothing_and_its_number_is_not_used_again() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.history(&mut Random(22), 30);
        let place = Place::new(kind).await;
        let projector = place.projector(&feeds, small_steps()).await;
        projector.caught_up().await;
        assert!(matches!(projector.cancel(NAME).await, Err(SteerError::NotUnderWay(_))));
        let progress = projector.build(NAME, Purpose::Swap, rate(20)).await.unwrap();
        let generation = progress.borrow().generation;
        projector.cancel(NAME).await.unwrap();
        assert_eq!(over(progress).await.phase, Phase::Cancelled);
        let kept = projector.generations(NAME).await.unwrap();
        assert_eq!(kept.iter().map(|one| one.generation).collect::<Vec<_>>(), [1]);
        let next = over(projector.rebuild(NAME).await.unwrap()).await;
        assert_eq!((next.phase, next.generation), (Phase::Swapped, generation + 1));
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn a_row_that_was_changed_behind_the_projector_is_named_and_refuses_the_swap() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.history(&mut Random(23), 20);
        let place = Place::new(kind).await;
        let projector = place.projector(&feeds, quick()).await;
        projector.caught_up().await;
        let (changed, gone) = (order(3).to_string(), order(7).to_string());
        let change = format!("update order_details_g1 set total_minor = total_minor + 5 where order_id = '{changed}'");
        damage(&place, 1, &change).await;
        damage(&place, 1, &format!("delete from order_details_g1 where order_id = '{gone}'")).await;
        let before = projector.live_hash(NAME).await.unwrap();

        for purpose in [Purpose::Verify, Purpose::Swap] {
            let refused = over(projector.build(NAME, purpose, None).await.unwrap()).await;
            assert_eq!(refused.phase, Phase::Failed, "{purpose:?}");
            assert!(refused.error.as_ref().unwrap().contains("other rows"), "{refused:?}");
            let report = last(&projector).await.report.expect("it is kept");
            assert_eq!(report.differences_total, 2);
            let named: Vec<_> = report.differences.iter().map(|one| (one.key[0].as_str(), one.change)).collect();
            assert_eq!(named, [(changed.as_str(), Change::Changed), (gone.as_str(), Change::Added)]);
            let field = &report.differences[0].fields[0];
            assert_eq!(field.field, "total_minor");
            let number = |value: &Option<serde_json::Value>| value.as_ref().unwrap().as_i64().unwrap();
            assert_eq!(number(&field.before) - number(&field.after), 5);
            assert_ne!(report.live.hash, report.built.hash);
        }
        assert_eq!(projector.live_hash(NAME).await.unwrap(), before, "neither has touched the live one");
        assert_eq!(live(&place).await, 1);
        // the live one goes on
        feeds.order(placed(900, 1, &[1]));
        let token = Consistency::at_least(feeds.orders.token()).with_wait(Duration::from_secs(20));
        assert!(place.read().order(order(900), &token).await.unwrap().is_some());
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn one_row_is_made_anew_in_place_and_then_nothing_differs() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.history(&mut Random(27), 20);
        let place = Place::new(kind).await;
        let projector = place.projector(&feeds, quick()).await;
        let whole = async || {
            projector.caught_up().await;
            projector.live_hash(NAME).await.unwrap()
        };
        let right = whole().await;
        let (changed, gone, invented) = (order(3).to_string(), order(7).to_string(), order(4_000).to_string());
        let copy = format!("insert into order_details_g1 (order_id, served) values ('{invented}', false)");
        for statement in [
            format!("update order_details_g1 set total_minor = 1, order_facet = null where order_id = '{changed}'"),
            format!("delete from order_details_g1 where order_id = '{gone}'"),
            format!("delete from order_details_g1_links where entity_key = '{gone}'"),
            copy,
        ] {
            damage(&place, 1, &statement).await;
        }
        assert_ne!(whole().await, right);
        let rebuilt = projector.rebuild_key(NAME, &changed).await.unwrap();
        assert!(rebuilt.was_there && rebuilt.is_there && rebuilt.events > 0);
        assert!(rebuilt.changed.iter().any(|field| field.field == "total_minor"), "{rebuilt:?}");
        let rebuilt = projector.rebuild_key(NAME, &gone).await.unwrap();
        assert_eq!((rebuilt.was_there, rebuilt.is_there), (false, true));
        let rebuilt = projector.rebuild_key(NAME, &invented).await.unwrap();
        assert_eq!((rebuilt.was_there, rebuilt.is_there, rebuilt.events), (true, false, 0));
        assert_eq!(whole().await, right, "{kind:?}");
        // and one that was right stays as it was
        assert_eq!(projector.rebuild_key(NAME, &order(5).to_string()).await.unwrap().changed, []);
        assert_eq!(whole().await, right);
        projector.shutdown().await;
    }
}

/// Whatever the row says that it contributed: its groups were never told of the damage.
#[tokio::test]
async fn a_row_of_a_roll_up_is_made_anew_and_its_groups_count_it_once() {
    const NAME: &str = "customer_overview";
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.history(&mut Random(28), 20);
        let place = Place::new(kind).await;
        let projector = place.projector(&feeds, quick()).await;
        projector.caught_up().await;
        let right = projector.live_hash(NAME).await.unwrap();
        let (emptied, gone) = (order(3).to_string(), order(7).to_string());
        for statement in [
            format!("update customer_overview_g1 set order_facet = null where order_id = '{emptied}'"),
            format!("delete from customer_overview_g1 where order_id = '{gone}'"),
        ] {
            damage_of(&place, NAME, 1, &statement).await;
        }
        assert_ne!(projector.live_hash(NAME).await.unwrap(), right);
        for key in [&emptied, &gone] {
            assert!(projector.rebuild_key(NAME, key).await.unwrap().is_there, "{kind:?}");
        }
        assert_eq!(projector.live_hash(NAME).await.unwrap(), right, "{kind:?}");
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn a_rollback_catches_up_first_and_can_itself_be_rolled_back() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.history(&mut Random(24), 20);
        let place = Place::new(kind).await;
        let projector = place.projector(&feeds, quick()).await;
        projector.caught_up().await;
        let nothing = projector.rollback(NAME, None).await.unwrap_err();
        assert!(matches!(nothing, SteerError::NothingToGoBackTo { .. }), "{nothing}");
        let swapped = over(projector.rebuild(NAME).await.unwrap()).await;
        assert_eq!((swapped.phase, live(&place).await), (Phase::Swapped, 2));

        feeds.order(placed(901, 1, &[1]));
        let token = Consistency::at_least(feeds.orders.token()).with_wait(Duration::from_secs(20));
        let read = place.read();
        assert!(read.order(order(901), &token).await.unwrap().is_some());
        for expected in [1, 2] {
            let back = over(projector.rollback(NAME, None).await.unwrap()).await;
            assert_eq!((back.phase, back.error, back.generation), (Phase::Swapped, None, expected));
            assert_eq!(live(&place).await, expected);
            assert!(read.order(order(901), &token).await.unwrap().is_some(), "what was seen stays seen");
        }
        let states: Vec<_> = projector.generations(NAME).await.unwrap().into_iter().map(|one| one.state).collect();
        assert_eq!(states, ["retired", "live"]);
        let gone = projector.rollback(NAME, Some(7)).await.unwrap_err();
        assert!(gone.to_string().contains("generation 7"), "{gone}");
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn as_many_generations_are_kept_as_is_said() {
    for (kept, expected) in [(0, vec![4]), (2, vec![2, 3, 4])] {
        let feeds = Feeds::default();
        feeds.history(&mut Random(25), 5);
        let place = Place::new(Kind::Sqlite).await;
        let projector = place.projector(&feeds, ProjectorOptions { generations_kept: kept, ..quick() }).await;
        for _ in 0..3 {
            assert_eq!(over(projector.rebuild(NAME).await.unwrap()).await.phase, Phase::Swapped);
        }
        let numbers: Vec<_> = projector.generations(NAME).await.unwrap().iter().map(|one| one.generation).collect();
        assert_eq!(numbers, expected);
        assert_eq!(projector.rebuilds(NAME, 10).await.unwrap().len(), 3, "what became of them is remembered");
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn of_two_processes_one_follows_and_the_other_takes_over_when_it_ends() {
    let feeds = Feeds::default();
    feeds.history(&mut Random(26), 10);
    let place = Place::new(Kind::Postgres).await;
    let first = place.projector(&feeds, quick()).await;
    let second = place.projector(&feeds, quick()).await;
    let follows = async |projector: &ProjectorHandle| projector.status().await[0].live.is_some();
    assert_eq!((follows(&first).await, follows(&second).await), (true, false));
    // what one is asked for, the other shows
    let rebuilt = over(second.rebuild(NAME).await.unwrap()).await;
    assert_eq!((rebuilt.phase, rebuilt.error), (Phase::Swapped, None));
    assert_eq!(last(&first).await.generation, rebuilt.generation);
    let holders = async |projector: &ProjectorHandle| {
        let kept = projector.generations(NAME).await.unwrap();
        kept.into_iter().filter(|one| one.holder.is_some()).map(|one| one.generation).collect::<Vec<_>>()
    };
    for _ in 0..100 {
        if holders(&first).await == [rebuilt.generation] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(holders(&first).await, [rebuilt.generation], "who has followed the one before lets it go");

    let follower = if follows(&first).await { &first } else { &second };
    follower.shutdown().await;
    feeds.order(placed(902, 1, &[1]));
    let token = Consistency::at_least(feeds.orders.token()).with_wait(Duration::from_secs(20));
    assert!(place.read().order(order(902), &token).await.unwrap().is_some(), "the other one has taken over");
    first.shutdown().await;
    second.shutdown().await;
}
