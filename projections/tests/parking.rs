//! Events that cannot be folded: seen, tried again, and left out by decision.

mod common;

use common::{
    BOTH, Feeds, Hand, Kind, Place, order, placed, product, quick, registered, renamed, reservation_confirmed,
    reserved, stock_shipped, user,
};
use event_store::follower::HaltReason;
use projections::{
    Projector, ProjectorHandle, ProjectorOptions,
    engine::{
        parking::ParkingError,
        projector::Which,
        rebuild::{Phase, Progress},
        store::StoreOptions,
        table_hash::TableHash,
    },
    order_details,
};
use read_side::Consistency;
use uuid::Uuid;

const NAME: &str = "order_details";
const BROKEN: &str = "{\"oops\":1}";

fn all() -> Which {
    Which::default()
}

fn of(n: u64) -> Which {
    Which { stream: Some(user(n).to_string()), ..Which::default() }
}

/// Two customers with an order each; what is said of the first cannot be folded from its third event on.
fn given() -> Feeds {
    let feeds = Feeds::default();
    feeds.user(registered(1, "Ada"));
    feeds.user(registered(2, "Grace"));
    feeds.users.push_raw("user", user(1), "UserRenamed", "2", BROKEN.to_owned());
    feeds.user(renamed(1, "Ada King"));
    feeds.user(renamed(2, "Grace Hopper"));
    feeds.user(renamed(1, "Ada Lovelace"));
    feeds.order(placed(1, 1, &[1]));
    feeds.order(placed(2, 2, &[1]));
    feeds
}

/// What the broken event means to a release that can read it.
fn mended() -> String {
    serde_json::to_string(&renamed(1, "Ada Byron")).unwrap()
}

/// A projector of order details alone: other read models would park the same.
async fn started(place: &Place, feeds: &Feeds, options: ProjectorOptions) -> ProjectorHandle {
    let projections = vec![order_details::projection()];
    Projector::start_with(projections, place.database().await, feeds.all(), options).await.unwrap()
}

async fn name(place: &Place, n: u64) -> String {
    place.read().order(order(n), &Consistency::any()).await.unwrap().unwrap().customer_name.unwrap()
}

/// What a reader with the newest token of the users is told.
async fn with_token(place: &Place, feeds: &Feeds) -> &'static str {
    let consistency = Consistency::at_least(feeds.users.token()).with_wait(std::time::Duration::from_secs(20));
    match place.read().order(order(1), &consistency).await {
        Ok(row) => row.map_or("none", |_| "served"),
        Err(error) => error.code(),
    }
}

async fn hash(projector: &ProjectorHandle) -> TableHash {
    projector.caught_up().await;
    projector.live_hash(NAME).await.unwrap().expect("this version is live")
}

/// The table of one pass in order over what can all be folded.
async fn in_order(kind: Kind, feeds: &Feeds) -> TableHash {
    let mut hand: Hand = Place::new(kind).await.hand(StoreOptions::default()).await;
    hand.finish(feeds).await;
    hand.hash().await
}

async fn verified(projector: &ProjectorHandle) -> Progress {
    let mut progress = projector.verify(NAME).await.unwrap();
    let over = progress.wait_for(|progress| progress.phase.is_over());
    tokio::time::timeout(std::time::Duration::from_secs(60), over).await.expect("it ends").unwrap().clone()
}

async fn rebuilt(projector: &ProjectorHandle) {
    let mut progress = projector.rebuild(NAME).await.unwrap();
    let over = progress.wait_for(|progress| progress.phase.is_over());
    let over = tokio::time::timeout(std::time::Duration::from_secs(60), over).await.expect("it ends").unwrap().clone();
    assert_eq!((over.phase, over.error), (Phase::Swapped, None));
}

#[tokio::test]
async fn what_is_parked_says_what_it_waits_for() {
    for kind in BOTH {
        let feeds = given();
        feeds.users.push_raw("user", user(2), "UserRenamed", "2", "{\"user_id\":1}".to_owned());
        feeds.users.push_raw("user", user(3), "UserRenamed", "2", "{\"more\":  {}}".to_owned());
        let place = Place::new(kind).await;
        let projector = started(&place, &feeds, quick()).await;
        projector.caught_up().await;
        let parked = projector.parked(&all()).await.unwrap();
        assert_eq!(parked.len(), 3, "{kind:?}");
        let (read_model, first) = &parked[0];
        assert_eq!((*read_model, first.stream.position, first.waiting), (NAME, 3, 3));
        assert_eq!((first.event_type.as_str(), first.event_version.as_str()), ("UserRenamed", "2"));
        assert_eq!(first.stream.event_id, feeds.users.events()[2].event_id);
        assert!(first.stream.reason.contains("user_id"), "{}", first.stream.reason);
        // the first and the third miss the same, at other places
        assert_eq!(first.fingerprint(), parked[2].1.fingerprint());
        assert_ne!(first.fingerprint(), parked[1].1.fingerprint());
        let alike = Which { fingerprint: Some(first.fingerprint()), ..Which::default() };
        assert_eq!(projector.parked(&alike).await.unwrap().len(), 2);
        let waiting = projector.waiting(NAME, first).await.unwrap();
        assert_eq!(waiting.iter().map(|event| event.position).collect::<Vec<_>>(), [3, 4, 6]);
        let unknown = Which { projection: Some("nothing".to_owned()), ..Which::default() };
        assert!(matches!(projector.parked(&unknown).await, Err(ParkingError::Unknown(_))));
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn what_waits_is_folded_in_order_once_it_can_be() {
    for kind in BOTH {
        let feeds = given();
        let place = Place::new(kind).await;
        let projector = started(&place, &feeds, quick()).await;
        projector.caught_up().await;
        assert_eq!((name(&place, 1).await, name(&place, 2).await), ("Ada".to_owned(), "Grace Hopper".to_owned()));
        assert_eq!(with_token(&place, &feeds).await, "parked");

        // nothing has become better: nothing goes on, and it is said why
        let retried = projector.retry_parked(&all(), false).await.unwrap();
        let still = retried[0].still.clone().expect("it cannot be folded");
        assert_eq!((retried.len(), retried[0].folded, retried[0].waiting, still.0), (1, 0, 3, 3));

        feeds.users.rewrite(3, mended());
        let before = hash(&projector).await;
        let rehearsed = projector.retry_parked(&of(1), true).await.unwrap();
        assert_eq!((rehearsed[0].folded, rehearsed[0].waiting, &rehearsed[0].still), (3, 0, &None));
        assert_eq!(hash(&projector).await, before, "a dry run changes nothing");
        assert_eq!(with_token(&place, &feeds).await, "parked");

        assert!(projector.retry_parked(&of(2), false).await.unwrap().is_empty(), "the other stream is not parked");
        let retried = projector.retry_parked(&of(1), false).await.unwrap();
        assert_eq!((retried[0].folded, retried[0].waiting), (3, 0));
        assert_eq!(name(&place, 1).await, "Ada Lovelace");
        assert_eq!(with_token(&place, &feeds).await, "served");
        assert!(projector.parked(&all()).await.unwrap().is_empty());

        // and it goes on by itself
        feeds.user(renamed(1, "Countess"));
        assert_eq!(with_token(&place, &feeds).await, "served");
        assert_eq!(name(&place, 1).await, "Countess");
        assert_eq!(hash(&projector).await, in_order(kind, &feeds).await, "{kind:?}");
        let status = projector.status().await.remove(0).live.unwrap().1;
        assert!(status.parked.is_empty(), "{:?}", status.parked);
        assert_eq!(verified(&projector).await.error, None);
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn an_event_that_is_left_out_stays_out_over_restarts_and_rebuilds() {
    for kind in BOTH {
        let feeds = given();
        let place = Place::new(kind).await;
        let projector = started(&place, &feeds, quick()).await;
        projector.caught_up().await;
        let event = feeds.users.events()[2].event_id;
        let dropped = projector.drop_parked(event, None, "written by a test", "desk-7").await.unwrap();
        assert_eq!((dropped.len(), dropped[0].folded, dropped[0].waiting), (1, 3, 0));
        assert_eq!(name(&place, 1).await, "Ada Lovelace");
        assert_eq!(with_token(&place, &feeds).await, "served");
        let live = hash(&projector).await;

        let decisions = projector.decisions(&all()).await.unwrap();
        assert_eq!(decisions.len(), 1);
        let decision = &decisions[0];
        assert_eq!((decision.event_id, decision.position, &*decision.source), (event, 3, "users"));
        assert_eq!((decision.why.as_str(), decision.by.as_str()), ("written by a test", "desk-7"));
        assert!(projector.drop_parked(event, None, "again", "desk-8").await.unwrap().is_empty(), "known already");
        assert_eq!(projector.decisions(&all()).await.unwrap(), decisions, "the first word stays");
        let nobody = projector.drop_parked(Uuid::from_u128(1), None, "why", "me").await;
        assert!(matches!(nobody, Err(ParkingError::NotParked(_))));

        // a mended reader would fold it now: the decision stands all the same
        feeds.users.rewrite(3, mended());
        assert_eq!(verified(&projector).await.error, None);
        rebuilt(&projector).await;
        assert_eq!(hash(&projector).await, live);
        projector.shutdown().await;
        let projector = started(&place, &feeds, quick()).await;
        assert_eq!(hash(&projector).await, live);
        assert_eq!(projector.decisions(&all()).await.unwrap(), decisions);
        rebuilt(&projector).await;
        assert_eq!((hash(&projector).await, projector.parked(&all()).await.unwrap().len()), (live, 0));
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn a_rebuild_parks_again_what_is_poison_still() {
    for kind in BOTH {
        let feeds = given();
        feeds.users.push_raw("user", user(2), "UserRenamed", "2", BROKEN.to_owned());
        feeds.user(renamed(2, "never seen"));
        let place = Place::new(kind).await;
        let projector = started(&place, &feeds, quick()).await;
        projector.caught_up().await;
        let event = feeds.users.events()[2].event_id;
        projector.drop_parked(event, Some(NAME), "it is a test", "desk-7").await.unwrap();
        let left = projector.parked(&all()).await.unwrap();
        assert_eq!(left.len(), 1);
        rebuilt(&projector).await;
        let mut again = projector.parked(&all()).await.unwrap();
        again[0].1.parked_at_us = left[0].1.parked_at_us;
        assert_eq!(again, left);
        assert_eq!(
            (name(&place, 1).await, name(&place, 2).await),
            ("Ada Lovelace".to_owned(), "Grace Hopper".to_owned())
        );
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn a_second_event_that_cannot_be_folded_is_where_the_stream_waits_next() {
    for kind in BOTH {
        let feeds = given();
        feeds.users.push_raw("user", user(1), "UserRenamed", "2", "{\"user_id\":2}".to_owned());
        feeds.user(renamed(1, "Countess"));
        let place = Place::new(kind).await;
        let projector = started(&place, &feeds, quick()).await;
        projector.caught_up().await;
        let events = feeds.users.events();
        let dropped = projector.drop_parked(events[2].event_id, None, "no name is in it", "desk-7").await.unwrap();
        assert_eq!((dropped[0].folded, dropped[0].waiting), (3, 2));
        assert_eq!(dropped[0].still.as_ref().unwrap().0, 7);
        assert_eq!(name(&place, 1).await, "Ada Lovelace");
        assert_eq!(with_token(&place, &feeds).await, "parked");
        let parked = projector.parked(&all()).await.unwrap();
        assert_eq!((parked[0].1.stream.event_id, parked[0].1.waiting), (events[6].event_id, 2));
        projector.drop_parked(events[6].event_id, None, "nor in this", "desk-7").await.unwrap();
        assert_eq!((name(&place, 1).await, with_token(&place, &feeds).await), ("Countess".to_owned(), "served"));
        assert_eq!(verified(&projector).await.error, None);
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn a_rebuild_under_a_mended_reader_equals_what_was_parked_before() {
    for kind in BOTH {
        let feeds = given();
        let place = Place::new(kind).await;
        let projector = started(&place, &feeds, quick()).await;
        projector.caught_up().await;
        // nobody has retried: the comparison does, so that it compares what events say and not when they were met
        feeds.users.rewrite(3, mended());
        rebuilt(&projector).await;
        assert_eq!(name(&place, 1).await, "Ada Lovelace");
        assert_eq!(hash(&projector).await, in_order(kind, &feeds).await);
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn what_several_streams_have_made_and_its_history_are_as_if_nothing_had_waited() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.order(placed(1, 1, &[1, 2]));
        feeds.stock(reserved(1, 0, 1));
        feeds.inventory.push_raw("stock_item", product(1), "StockReserved", "1", BROKEN.to_owned());
        feeds.stock(reserved(1, 1, 2));
        feeds.stock(reservation_confirmed(1, 0, 1));
        feeds.stock(reservation_confirmed(1, 1, 2));
        feeds.stock(stock_shipped(1, 0, 1));
        feeds.stock(stock_shipped(1, 1, 2));
        let place = Place::new(kind).await;
        let projector = started(&place, &feeds, quick()).await;
        projector.caught_up().await;
        let event = feeds.inventory.events()[1].event_id;
        let dropped = projector.drop_parked(event, None, "unreadable", "desk-7").await.unwrap();
        assert_eq!((dropped[0].folded, dropped[0].waiting), (3, 0));
        let verified = verified(&projector).await;
        assert_eq!((verified.phase, verified.error), (Phase::Verified, None), "{kind:?}");
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn more_events_wait_than_one_transaction_takes_and_more_come_meanwhile() {
    for kind in BOTH {
        let feeds = given();
        for n in 0..2_300 {
            feeds.user(renamed(1 + n % 2, &format!("Name {n}")));
        }
        let place = Place::new(kind).await;
        let projector = started(&place, &feeds, quick()).await;
        projector.caught_up().await;
        let event = feeds.users.events()[2].event_id;
        let coming = async {
            for n in 0..200 {
                feeds.user(renamed(1, &format!("Later {n}")));
                tokio::time::sleep(std::time::Duration::from_micros(200)).await;
            }
        };
        let dropping = projector.drop_parked(event, None, "unreadable", "desk-7");
        let (dropped, ()) = tokio::join!(dropping, coming);
        let dropped = dropped.unwrap();
        assert!(dropped[0].folded >= 1_153 && dropped[0].waiting == 0, "{dropped:?}");
        assert_eq!(with_token(&place, &feeds).await, "served");
        assert_eq!(name(&place, 1).await, "Later 199");
        feeds.users.rewrite(3, mended());
        assert_eq!(verified(&projector).await.error, None, "{kind:?}");
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn a_source_that_stood_still_with_too_many_parked_streams_goes_on() {
    for kind in BOTH {
        let feeds = given();
        let mut options = quick();
        options.follower.parked_streams_max = 1;
        feeds.users.push_raw("user", user(2), "UserRenamed", "2", BROKEN.to_owned());
        let place = Place::new(kind).await;
        let projector = started(&place, &feeds, options).await;
        projector.caught_up().await;
        let status = projector.status().await.remove(0).live.unwrap().1;
        assert!(matches!(status.stuck(), Some((_, HaltReason::Poison { parked: 1, .. }))), "{status:?}");
        let events = feeds.users.events();
        projector.drop_parked(events[2].event_id, None, "unreadable", "desk-7").await.unwrap();
        // now there is room for the other
        let second = async || projector.parked(&of(2)).await.unwrap().len() == 1;
        for _ in 0..500 {
            if second().await {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(second().await, "{kind:?}");
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn a_process_that_does_not_follow_lists_and_decides_and_leaves_the_rest_to_the_one_that_does() {
    let feeds = given();
    let place = Place::new(Kind::Postgres).await;
    let follower = started(&place, &feeds, quick()).await;
    follower.caught_up().await;
    let other = started(&place, &feeds, quick()).await;
    let parked = other.parked(&all()).await.unwrap();
    assert_eq!(parked, follower.parked(&all()).await.unwrap());
    assert_eq!(other.waiting(NAME, &parked[0].1).await.unwrap().len(), 3);
    let retried = other.retry_parked(&all(), false).await;
    assert!(matches!(retried, Err(ParkingError::NotFollowed(NAME))), "{retried:?}");
    let event = parked[0].1.stream.event_id;
    let dropped = other.drop_parked(event, None, "unreadable", "desk-7").await.unwrap();
    assert_eq!((dropped[0].folded, dropped[0].waiting), (0, 3));
    let goes_on = async || follower.parked(&all()).await.unwrap().is_empty();
    for _ in 0..1_000 {
        if goes_on().await {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(goes_on().await);
    assert_eq!(name(&place, 1).await, "Ada Lovelace");
    other.shutdown().await;
    follower.shutdown().await;
}
