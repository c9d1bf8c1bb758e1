//! The history of `order_details`: what is told as of a time is what a fold of the events recorded until then gives, and
//! what was erased is in none of it.
//!
//! A failure prints its seed; `SEED=<n> cargo test -p projections --test history` repeats it.

mod common;

use chrono::{DateTime, Utc};
use common::{
    BOTH, Feeds, Hand, Kind, Place, Random, added, cancelled, email_changed, erased, order, placed, product,
    product_renamed, quick, registered, renamed, reservation_confirmed, reserved, small, time, user,
};
use events::{inventory::StockEvent, money::Currency, orders::OrderStatus, users::SOURCE as USERS};
use projections::{
    engine::{projector::Which, store::StoreOptions},
    kit::seeds,
};
use read_side::{
    Consistency,
    order_details::{OrderColumns, OrderCursor, OrderDetails, OrderFilter, OrderSort, SortKey},
    paging::Stretch,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool, Row, SqlitePool};

/// What `feeds` serve today of what was recorded until `as_of`: nothing personal of who was erased since.
fn until(feeds: &Feeds, as_of: DateTime<Utc>) -> Feeds {
    let gone: Vec<String> = feeds
        .users
        .events()
        .iter()
        .filter(|event| &*event.event_type == "UserErased")
        .map(|event| event.stream.aggregate_id.to_string())
        .collect();
    let then = Feeds::default();
    for (now, then) in feeds.scripted().into_iter().zip(then.scripted()) {
        for event in now.events().into_iter().filter(|event| event.recorded_at <= as_of) {
            let mut payload: Value = serde_json::from_str(&event.payload).unwrap();
            for member in payload.as_object_mut().unwrap().values_mut() {
                if member["personal_of"].as_str().is_some_and(|of| gone.iter().any(|gone| gone == of)) {
                    member["value"] = Value::Null;
                }
            }
            let id = &event.stream.aggregate_id;
            let (kind, version) = (&*event.event_type, &*event.event_version);
            then.push_raw(&event.stream.aggregate_type, id, kind, version, payload.to_string());
        }
    }
    then
}

async fn as_of(hand: &Hand, n: u64, time: DateTime<Utc>) -> Option<OrderDetails> {
    hand.read.order_as_of(order(n), time, &Consistency::any()).await.unwrap()
}

/// The last event of any source.
fn last(feeds: &Feeds) -> u64 {
    feeds.scripted().into_iter().map(|feed| feed.head().position).max().unwrap()
}

const ORDERS: u64 = 12;

async fn as_of_is_a_fold_until_then(kind: Kind, count: u64) {
    for seed in seeds(count) {
        let mut random = Random(seed);
        let feeds = Feeds::default();
        feeds.history(&mut random, ORDERS);
        let mut hand = Place::new(kind).await.hand(small()).await;
        // in steps of their own and between each other, so that every batch has a share in it
        while feeds.scripted().iter().any(|feed| hand.behind(feed) > 0) {
            let all = feeds.scripted();
            let feed = all[random.below(all.len() as u64) as usize];
            hand.step(feed, 1 + random.below(7) as usize).await.unwrap();
        }
        hand.finish(&feeds).await;
        let end = last(&feeds);
        let somewhere: Vec<u64> = (0..3).map(|_| random.below(end)).collect();
        for seconds in [0, end, end + 1].into_iter().chain(somewhere) {
            let at = time(seconds as i64);
            let mut then = Place::new(Kind::Sqlite).await.hand(StoreOptions::default()).await;
            then.finish(&until(&feeds, at)).await;
            for n in 1..=ORDERS {
                let (told, folded) = (as_of(&hand, n, at).await, then.order(n).await);
                assert_eq!(told, folded, "order {n} as of {at}, seed {seed} on {kind:?}");
            }
            for _ in 0..4 {
                list_as_of_is_that_of_a_fold(&hand, &then, at, &mut random).await;
            }
        }
    }
}

/// What a list as of a time tells, page by page, is what the list of that time told.
async fn list_as_of_is_that_of_a_fold(hand: &Hand, then: &Hand, at: DateTime<Utc>, random: &mut Random) {
    let maybe = |random: &mut Random| random.below(3) == 0;
    let second = |random: &mut Random| time(random.below(ORDERS) as i64).timestamp_micros();
    let filter = OrderFilter {
        customer_id: maybe(random).then(|| user(1 + random.below(4))),
        status: (random.below(6) == 0).then_some(OrderStatus::Pending),
        statuses: maybe(random).then(|| vec![OrderStatus::Cancelled, OrderStatus::Shipped, OrderStatus::Confirmed]),
        placed_after_us: maybe(random).then(|| second(random)),
        placed_before_us: maybe(random).then(|| second(random)),
        currency: maybe(random).then_some(if random.below(4) == 0 { Currency::EUR } else { Currency::USD }),
        total_min_minor: maybe(random).then(|| random.below(2_000) as i64),
        total_max_minor: None,
        product_id: maybe(random).then(|| product(1 + random.below(5))),
        external_ref: None,
    };
    let key = [SortKey::PlacedAt, SortKey::UpdatedAt, SortKey::Total][random.below(3) as usize];
    let sort = OrderSort { key, descending: random.below(2) == 0 };
    let (backward, rows_max) = (random.below(2) == 0, 1 + random.below(6) as usize);
    let mut place = None;
    loop {
        let end = if backward { Stretch::last(rows_max, place) } else { Stretch::first(rows_max, place) };
        let stretch = Stretch { total: true, neighbours: true, ..end };
        let any = Consistency::any();
        let told = hand.read.list_orders_as_of(at, &filter, sort, stretch.clone(), &any).await.unwrap();
        let folded = then.read.list_orders(&filter, sort, stretch, OrderColumns::ALL, &any).await.unwrap();
        let folded = folded.map(|row| row.whole().unwrap());
        assert_eq!(told, folded, "{filter:?} by {sort:?} as of {at}");
        let (end, more) =
            if backward { (told.rows.first(), told.has_previous_page) } else { (told.rows.last(), told.has_next_page) };
        place = end.and_then(|order| OrderCursor::of(&order.clone().into(), sort));
        if !more {
            break;
        }
    }
}

#[tokio::test]
async fn as_of_a_time_is_a_fold_of_what_was_recorded_until_then_on_sqlite() {
    as_of_is_a_fold_until_then(Kind::Sqlite, 6).await;
}

#[tokio::test]
async fn as_of_a_time_is_a_fold_of_what_was_recorded_until_then_on_postgres() {
    as_of_is_a_fold_until_then(Kind::Postgres, 2).await;
}

#[tokio::test]
async fn an_order_is_told_as_it_was() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.user(registered(1, "Ada"));
        feeds.user(renamed(1, "Grace"));
        feeds.product(added(1, "Tea"));
        for _ in 0..3 {
            feeds.product(product_renamed(1, "Coffee"));
        }
        feeds.order(placed(2, 1, &[1]));
        feeds.order(placed(1, 1, &[1]));
        feeds.order(cancelled(1));
        let mut hand = Place::new(kind).await.hand(StoreOptions::default()).await;
        hand.finish(&feeds).await;
        assert_eq!(as_of(&hand, 1, time(1)).await, None, "{kind:?}: the second event of its log begins it");
        assert_eq!(as_of(&hand, 9, time(9)).await, None, "{kind:?}: there is no such order");
        let then = as_of(&hand, 1, time(2)).await.unwrap();
        assert_eq!((then.status.as_str(), then.customer_name.as_deref()), ("PENDING", Some("Grace")));
        let then = as_of(&hand, 2, time(1)).await.unwrap();
        assert_eq!(then.customer_name.as_deref(), Some("Ada"), "recorded at the same second");
        assert_eq!(then.lines[0].product.as_ref().unwrap().name, "Tea");
        assert_eq!(as_of(&hand, 1, time(3)).await, hand.order(1).await, "{kind:?}: now is as of the end");
    }
}

#[tokio::test]
async fn who_was_erased_has_no_name_at_any_time() {
    for kind in BOTH {
        for batch in [1, 100] {
            let feeds = Feeds::default();
            feeds.user(registered(1, "Canary"));
            feeds.user(registered(2, "Grace"));
            feeds.user(renamed(1, "Canary bird"));
            feeds.user(email_changed(1, "canary@example.org"));
            feeds.order(placed(1, 1, &[1]));
            feeds.order(placed(2, 2, &[1]));
            let place = Place::new(kind).await;
            let mut hand = place.hand(StoreOptions::default()).await;
            if batch == 1 {
                hand.finish(&feeds).await;
                let then = as_of(&hand, 1, time(1)).await.unwrap();
                assert_eq!(then.customer_name.as_deref(), Some("Canary"), "nobody is erased yet");
                assert_eq!(history(&place, kind, &user(1).to_string()).await.len(), 3);
            }
            feeds.user(erased(1));
            while hand.behind(&feeds.users) > 0 {
                hand.step(&feeds.users, batch).await.unwrap();
            }
            hand.finish(&feeds).await;
            for seconds in 1..=6 {
                let then = as_of(&hand, 1, time(seconds)).await.unwrap();
                assert_eq!((then.customer_name, then.customer_email), (None, None), "{kind:?} as of {seconds}");
            }
            let kept = history(&place, kind, &user(1).to_string()).await;
            assert_eq!(kept.iter().map(|(position, _)| *position).collect::<Vec<_>>(), [5], "{kind:?}");
            assert!(kept.iter().all(|(_, state)| !state.contains("anary")), "{kind:?}: {kept:?}");
            let other = as_of(&hand, 2, time(3)).await.unwrap();
            assert_eq!(other.customer_name.as_deref(), Some("Grace"), "{kind:?}: nobody else is touched");
        }
    }
}

/// Positions and states of a key, in order.
async fn history(place: &Place, kind: Kind, key: &str) -> Vec<(i64, String)> {
    let select = "select position, state from order_details_g1_history where key = $1 order by part, position";
    macro_rules! all {
        ($pool:expr) => {{
            let pool = $pool;
            let rows = sqlx::query(select).bind(key).fetch_all(&pool).await.unwrap();
            pool.close().await;
            rows.iter().map(|row| (row.get(0), row.get(1))).collect()
        }};
    }
    match kind {
        Kind::Sqlite => all!(SqlitePool::connect(&file(place)).await.unwrap()),
        Kind::Postgres => all!(PgPool::connect(place.url()).await.unwrap()),
    }
}

fn file(place: &Place) -> String {
    format!("sqlite:{}", place.directory().join("query/order_details.g1.db").display())
}

#[tokio::test]
async fn a_generation_with_another_history_has_another_hash() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.user(registered(1, "Ada"));
        feeds.user(renamed(1, "Grace"));
        let place = Place::new(kind).await;
        let mut hand = place.hand(StoreOptions::default()).await;
        hand.finish(&feeds).await;
        let before = hand.hash().await;
        let change = AssertSqlSafe("delete from order_details_g1_history where position = 1");
        match kind {
            Kind::Sqlite => {
                sqlx::query(change).execute(&SqlitePool::connect(&file(&place)).await.unwrap()).await.unwrap();
            }
            Kind::Postgres => {
                sqlx::query(change).execute(&PgPool::connect(place.url()).await.unwrap()).await.unwrap();
            }
        }
        assert_ne!(hand.hash().await, before, "{kind:?}: {USERS} has said something that is in no history");
    }
}

#[tokio::test]
async fn what_is_folded_late_has_the_history_of_one_fold_in_order() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.order(placed(1, 1, &[1, 2]));
        feeds.order(placed(2, 1, &[1, 2]));
        // of each order one line's answer cannot be read; the other product's stream goes on
        for n in 1..=2 {
            let StockEvent::StockReserved(event) = reserved(n, 0, 1) else { unreachable!() };
            feeds.inventory.push_raw("stock_item", event.product_id.0, "StockReserved", "1", "{}".to_owned());
            feeds.stock(reserved(n, 1, 2));
            feeds.stock(reservation_confirmed(n, 1, 2));
        }
        feeds.stock(reservation_confirmed(1, 0, 1));
        let place = Place::new(kind).await;
        let projector = place.projector(&feeds, quick()).await;
        projector.caught_up().await;
        // other read models wait for the same
        let here = Which { projection: Some("order_details".to_owned()), ..Which::default() };
        assert_eq!(projector.parked(&here).await.unwrap().len(), 1, "{kind:?}: the stream of product 1");

        let mended = |n| serde_json::to_string(&reserved(n, 0, 1)).unwrap();
        feeds.inventory.rewrite(1, mended(1));
        feeds.inventory.rewrite(4, mended(2));
        let retried = projector.retry_parked(&here, false).await.unwrap();
        assert_eq!((retried[0].folded, &retried[0].still), (3, &None), "{kind:?}");
        projector.caught_up().await;

        let mut in_order = Place::new(kind).await.hand(StoreOptions::default()).await;
        in_order.finish(&feeds).await;
        let live = projector.live_hash("order_details").await.unwrap();
        assert_eq!(live, Some(in_order.hash().await), "{kind:?}: a rebuild would not differ");
        let read = place.read();
        for seconds in 1..=7 {
            for n in 1..=2 {
                let told = read.order_as_of(order(n), time(seconds), &Consistency::any()).await.unwrap();
                assert_eq!(told, as_of(&in_order, n, time(seconds)).await, "{kind:?} order {n} as of {seconds}");
            }
        }
        projector.shutdown().await;
    }
}
