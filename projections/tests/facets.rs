//! What inventory, payments and shipping add to an order's row.

mod common;

use common::{
    BOTH, CANARY_STREET, Feeds, Hand, Kind, Place, arrived, authorization_requested, authorized, barred, cancelled,
    capture_failed, capture_requested, captured, confirmed, declined, delivered, dispatched, lost, payment, placed,
    product, received, refund_failed, refunded, rejected, released, reservation_confirmed, reserved, returned,
    scheduled, shipment, shipment_withdrawn, shipped, stock_shipped, time, usd, void_requested, voided, withdrawn,
};
use events::{
    money::{Currency, Money},
    orders::{OrderEvent, OrderImported, OrderStatus},
    payments::DeclineReason,
};
use projections::engine::store::StoreOptions;
use read_side::{
    Consistency,
    order_details::{
        OrderDetails, payment::PaymentStatus, reservation::ReservationStatus, several::KEPT_MAX,
        shipment::ShipmentStatus,
    },
};
use sqlx::{AssertSqlSafe, PgPool, Row};

async fn folded(kind: Kind, given: impl Fn(&Feeds)) -> Hand {
    let feeds = Feeds::default();
    given(&feeds);
    let mut hand = Place::new(kind).await.hand(StoreOptions::default()).await;
    hand.finish(&feeds).await;
    hand
}

/// Folds what `given` scripts, on both databases, and looks at order 1.
async fn check(given: impl Fn(&Feeds), then: impl Fn(OrderDetails)) {
    for kind in BOTH {
        then(folded(kind, &given).await.order(1).await.expect("order 1 is served"));
    }
}

fn seconds(seconds: i64) -> Option<i64> {
    Some(time(seconds).timestamp_micros())
}

#[tokio::test]
async fn an_order_shows_what_is_held_paid_and_sent() {
    let given = |feeds: &Feeds| {
        feeds.order(placed(1, 7, &[1, 2]));
        feeds.order(confirmed(1));
        for event in [received(1), reserved(1, 0, 1), reserved(1, 1, 2), reservation_confirmed(1, 0, 1)] {
            feeds.stock(event);
        }
        let paid = [authorization_requested(1, 1, usd(540)), authorized(1, 1, usd(540)), captured(1, 1, usd(540))];
        paid.into_iter().for_each(|event| feeds.payment(event));
        [scheduled(1, 1), dispatched(1, 1)].into_iter().for_each(|event| feeds.shipment(event));
    };
    let then = |row: OrderDetails| {
        assert_eq!((row.status, row.confirmed_at_us), (OrderStatus::Confirmed, seconds(2)));
        let held: Vec<_> = row.lines.iter().map(|line| line.reservation.clone().unwrap()).collect();
        assert_eq!((held[0].status, held[0].quantity, held[0].expires_at_us), (ReservationStatus::Confirmed, 2, None));
        assert_eq!((held[1].status, held[1].expires_at_us), (ReservationStatus::Reserved, seconds(1_800)));
        let reservation = row.reservation.unwrap();
        assert_eq!((reservation.status, reservation.held_quantity), (ReservationStatus::Reserved, 4));
        assert_eq!(Some(reservation.updated_at_us), seconds(4), "the feed's fourth event");

        let paid = row.payment.unwrap();
        assert_eq!((paid.authorized_minor, paid.captured_minor, paid.refunded_minor), (540, 540, 0));
        assert_eq!((paid.count, paid.payments.len()), (1, 1));
        let state = &paid.latest().unwrap().state;
        assert_eq!((state.status, state.currency), (PaymentStatus::Captured, Some(Currency::USD)));
        assert_eq!((state.authorized_at_us, state.captured_at_us), (seconds(2), seconds(3)));

        let sent = row.shipment.unwrap();
        let state = &sent.latest().unwrap().state;
        assert_eq!((state.status, state.dispatched_at_us), (ShipmentStatus::Dispatched, seconds(500)));
        assert_eq!((state.carrier.as_deref(), state.tracking.as_deref()), (Some("Speedy"), Some("SP-1")));
        assert_eq!(state.delivered_at_us, None);
    };
    check(given, then).await;
}

#[tokio::test]
async fn no_order_is_better_off_than_its_worst_line() {
    let held = |line, of| vec![reserved(1, line, of), reservation_confirmed(1, line, of)];
    let gone = |line, of| [held(line, of), vec![stock_shipped(1, line, of)]].concat();
    for (stock, status, held, rejected, shipped) in [
        (vec![reserved(1, 0, 1)], ReservationStatus::Pending, 2, 0, 0),
        // of another product than the line's: held for the order, and no answer to the line
        (vec![reserved(1, 0, 1), reserved(1, 1, 1)], ReservationStatus::Pending, 4, 0, 0),
        (vec![reserved(1, 0, 1), rejected(1, 1, 2)], ReservationStatus::Rejected, 2, 2, 0),
        (vec![reserved(1, 0, 1), released(1, 0, 1), rejected(1, 1, 2)], ReservationStatus::Rejected, 0, 2, 0),
        (vec![reserved(1, 0, 1), withdrawn(1, 1, 2)], ReservationStatus::Withdrawn, 2, 0, 0),
        ([held(0, 1), vec![reserved(1, 1, 2)]].concat(), ReservationStatus::Reserved, 4, 0, 0),
        ([held(0, 1), held(1, 2)].concat(), ReservationStatus::Confirmed, 4, 0, 0),
        ([gone(0, 1), held(1, 2)].concat(), ReservationStatus::Confirmed, 2, 0, 2),
        ([gone(0, 1), gone(1, 2)].concat(), ReservationStatus::Shipped, 0, 0, 4),
        // nobody's line, and another product's: neither is the order's
        ([gone(0, 1), gone(1, 2), vec![withdrawn(1, 9, 2)]].concat(), ReservationStatus::Shipped, 0, 0, 4),
        ([gone(0, 1), gone(1, 2), vec![rejected(1, 1, 1)]].concat(), ReservationStatus::Shipped, 0, 2, 4),
    ] {
        let hand = folded(Kind::Sqlite, |feeds| {
            feeds.order(placed(1, 7, &[1, 2]));
            stock.iter().cloned().for_each(|event| feeds.stock(event));
        });
        let seen = hand.await.order(1).await.unwrap().reservation.unwrap();
        let pieces = (seen.held_quantity, seen.rejected_quantity, seen.shipped_quantity);
        assert_eq!((seen.status, pieces), (status, (held, rejected, shipped)), "{stock:?}");
    }
}

#[tokio::test]
async fn a_rejected_line_says_how_many_pieces_there_were() {
    let given = |feeds: &Feeds| {
        feeds.order(placed(1, 7, &[1]));
        feeds.stock(rejected(1, 0, 1));
        feeds.order(cancelled(1));
    };
    let then = |row: OrderDetails| {
        let line = row.lines[0].reservation.clone().unwrap();
        assert_eq!((line.status, line.quantity, line.available), (ReservationStatus::Rejected, 2, Some(1)));
        assert_eq!((row.status, row.cancel_reason.as_deref()), (OrderStatus::Cancelled, Some("changed my mind")));
        assert_eq!((row.cancelled_at_us, row.rejected), (seconds(2), false));
    };
    check(given, then).await;
}

#[tokio::test]
async fn several_payments_are_summed_in_the_orders_currency_and_the_last_begun_gives_the_status() {
    let given = |feeds: &Feeds| {
        feeds.order(placed(1, 7, &[1]));
        let euros = Money::new(70, Currency::EUR);
        // their events mixed: which is later in the feed says nothing about which was begun later
        for event in [
            authorization_requested(1, 9, usd(100)),
            authorized(1, 9, usd(100)),
            authorization_requested(1, 3, usd(60)),
            authorized(1, 3, usd(60)),
            authorization_requested(1, 5, euros),
            authorized(1, 5, euros),
            authorization_requested(1, 4, usd(50)),
            declined(1, 4, usd(50)),
            capture_requested(1, 9, usd(90)),
            captured(1, 9, usd(90)),
            voided(1, 9, usd(10)),
            void_requested(1, 3),
            voided(1, 3, usd(60)),
        ] {
            feeds.payment(event);
        }
        refunded(1, 9, usd(40)).into_iter().for_each(|event| feeds.payment(event));
    };
    let then = |row: OrderDetails| {
        let paid = row.payment.unwrap();
        assert_eq!((paid.authorized_minor, paid.captured_minor), (160, 90));
        assert_eq!((paid.refunded_minor, paid.voided_minor, paid.expired_minor), (40, 70, 0));
        let ids: Vec<_> = paid.payments.iter().map(|one| one.payment_id).collect();
        assert_eq!(ids, [9, 3, 5, 4].map(payment), "oldest first");
        let latest = &paid.latest().unwrap().state;
        assert_eq!(latest.status, PaymentStatus::Declined);
        assert_eq!(latest.declined_reason, Some(DeclineReason::InsufficientFunds));
        let statuses: Vec<_> = paid.payments.iter().map(|one| one.state.status).collect();
        assert_eq!(statuses[..3], [PaymentStatus::Captured, PaymentStatus::Voided, PaymentStatus::Authorized]);
        assert_eq!(paid.payments[2].state.currency, Some(Currency::EUR));
    };
    check(given, then).await;
}

#[tokio::test]
async fn a_payment_says_what_the_gateway_refused_until_it_succeeds() {
    let begun = [authorization_requested(1, 1, usd(100)), authorized(1, 1, usd(100)), capture_failed(1, 1, usd(100))];
    let taken = [captured(1, 1, usd(100)), refund_failed(1, 1, usd(30))];
    let all = [begun.to_vec(), taken.to_vec(), refunded(1, 1, usd(30)).to_vec()].concat();
    for (events, failed) in [(3, Some("try_later")), (4, None), (5, Some("account_closed")), (7, None)] {
        let given = |feeds: &Feeds| {
            feeds.order(placed(1, 7, &[1]));
            all[..events].iter().cloned().for_each(|event| feeds.payment(event));
        };
        let row = folded(Kind::Sqlite, given).await.order(1).await.unwrap();
        let payment = row.payment.unwrap();
        assert_eq!(payment.latest().unwrap().state.failed_reason.as_deref(), failed, "after {events} events");
    }
    // given up before an amount was named
    let given = |feeds: &Feeds| {
        feeds.order(placed(1, 7, &[1]));
        feeds.payment(barred(1, 1));
    };
    check(given, |row| {
        let paid = row.payment.unwrap();
        let state = &paid.latest().unwrap().state;
        assert_eq!((state.status, state.currency, paid.authorized_minor), (PaymentStatus::Barred, None, 0));
    })
    .await;
}

#[tokio::test]
async fn of_several_shipments_the_last_begun_is_shown_first_and_all_are_there() {
    let given = |feeds: &Feeds| {
        feeds.order(placed(1, 7, &[1]));
        for event in [scheduled(1, 8), dispatched(1, 8), scheduled(1, 2), lost(1, 8), dispatched(1, 2), arrived(1, 2)] {
            feeds.shipment(event);
        }
        feeds.shipment(shipment_withdrawn(2, 5));
    };
    let then = |row: OrderDetails| {
        let sent = row.shipment.unwrap();
        assert_eq!(sent.shipments.iter().map(|one| one.shipment_id).collect::<Vec<_>>(), [8, 2].map(shipment));
        let first = &sent.shipments[0].state;
        assert_eq!((first.status, first.reason.as_deref()), (ShipmentStatus::Lost, Some("fell into the river")));
        let latest = &sent.latest().unwrap().state;
        assert_eq!((latest.status, latest.delivered_at_us), (ShipmentStatus::Delivered, seconds(900)));
    };
    check(given, then).await;
}

#[tokio::test]
async fn an_order_with_more_payments_than_are_kept_says_how_many_there_are() {
    let more = KEPT_MAX as u64 + 5;
    let given = |feeds: &Feeds| {
        feeds.order(placed(1, 7, &[1]));
        (1..=more).for_each(|id| feeds.payment(authorization_requested(1, id, usd(1))));
        (1..=more).for_each(|id| feeds.payment(authorized(1, id, usd(1))));
    };
    let then = |row: OrderDetails| {
        let paid = row.payment.unwrap();
        assert_eq!((paid.count as usize, paid.payments.len()), (KEPT_MAX + 5, KEPT_MAX));
        assert_eq!(paid.authorized_minor, KEPT_MAX as i64, "of those that are kept");
    };
    check(given, then).await;
}

#[tokio::test]
async fn pieces_that_came_back_are_counted_at_their_line() {
    let given = |feeds: &Feeds| {
        feeds.order(placed(1, 7, &[2, 1]));
        for event in [confirmed(1), shipped(1), delivered(1), returned(1, false), returned(1, true)] {
            feeds.order(event);
        }
    };
    let then = |row: OrderDetails| {
        assert_eq!((row.status, row.returned_at_us), (OrderStatus::Returned, seconds(6)));
        assert_eq!((row.delivered_at_us, row.return_reason.as_deref()), (seconds(2_000), Some("too small")));
        let returned: Vec<_> = row.lines.iter().map(|line| (line.product_id, line.returned_quantity)).collect();
        assert_eq!(returned, [(product(2), 0), (product(1), 2)]);
    };
    check(given, then).await;
}

#[tokio::test]
async fn an_imported_order_has_no_reservation_no_payment_and_no_shipment() {
    let given = |feeds: &Feeds| {
        let OrderEvent::OrderPlaced(like) = placed(1, 7, &[3]) else { unreachable!() };
        let imported = OrderImported {
            order_id: like.order_id,
            customer_id: like.customer_id,
            lines: like.lines,
            status: OrderStatus::Delivered,
            placed_at: time(-1_000),
            shipped_at: None,
            external_ref: "10248".to_owned(),
        };
        feeds.order(imported.into());
    };
    let then = |row: OrderDetails| {
        assert_eq!((row.reservation, row.payment, row.shipment), (None, None, None));
        assert_eq!((row.lines[0].reservation.clone(), row.delivered_at_us, row.cancel_reason), (None, None, None));
    };
    check(given, then).await;
}

#[tokio::test]
async fn what_is_heard_before_the_order_is_kept_and_not_served() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.stock(reserved(1, 0, 1));
        feeds.payment(authorization_requested(1, 1, usd(180)));
        feeds.shipment(scheduled(1, 1));
        let mut hand = Place::new(kind).await.hand(StoreOptions::default()).await;
        hand.finish(&feeds).await;
        assert_eq!(hand.order(1).await, None);
        assert_eq!(hand.read.projections().await.unwrap()[0].rows, Some(0));
        feeds.order(placed(1, 7, &[1]));
        hand.finish(&feeds).await;
        let row = hand.order(1).await.unwrap();
        assert_eq!(row.reservation.unwrap().status, ReservationStatus::Reserved);
        assert_eq!(row.payment.unwrap().latest().unwrap().state.status, PaymentStatus::Requested);
        assert_eq!(row.shipment.unwrap().latest().unwrap().state.status, ShipmentStatus::Scheduled);
    }
}

/// Everything in the query database as text.
async fn everything(place: &Place) -> String {
    let mut everything = String::new();
    match place.kind {
        Kind::Sqlite => {
            let mut folders = vec![place.directory().to_owned()];
            while let Some(folder) = folders.pop() {
                for entry in std::fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        folders.push(path);
                    } else {
                        everything.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap()));
                    }
                }
            }
        }
        Kind::Postgres => {
            let pool = PgPool::connect(place.url()).await.unwrap();
            let tables = sqlx::query("select tablename::text from pg_tables where schemaname = 'public'");
            for table in tables.fetch_all(&pool).await.unwrap() {
                let select = AssertSqlSafe(format!("select t::text from {} t", table.get::<String, _>(0)));
                let rows: Vec<String> = sqlx::query_scalar(select).fetch_all(&pool).await.unwrap();
                everything.push_str(&rows.concat());
            }
        }
    }
    everything
}

#[tokio::test]
async fn the_address_of_a_shipment_is_nowhere_in_the_query_database() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.order(placed(1, 7, &[1]));
        [scheduled(1, 1), dispatched(1, 1)].into_iter().for_each(|event| feeds.shipment(event));
        assert!(feeds.shipping.events()[0].payload.contains(CANARY_STREET), "it is in the feed");
        let place = Place::new(kind).await;
        let mut hand = place.hand(StoreOptions::default()).await;
        hand.finish(&feeds).await;
        let everything = everything(&place).await;
        assert!(everything.contains("SP-1"), "the tracking number is there, or nothing was looked at");
        assert!(!everything.contains(CANARY_STREET) && !everything.contains("Riverton"), "{kind:?}");
    }
}

#[tokio::test]
async fn a_token_on_any_of_the_services_is_waited_for() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.order(placed(1, 7, &[1]));
        feeds.stock(reserved(1, 0, 1));
        feeds.payment(authorization_requested(1, 1, usd(180)));
        feeds.shipment(scheduled(1, 1));
        let mut hand = Place::new(kind).await.hand(StoreOptions::default()).await;
        hand.step(&feeds.orders, 1).await.unwrap();
        for feed in [&feeds.inventory, &feeds.payments, &feeds.shipping] {
            let short = std::time::Duration::from_millis(30);
            let token = Consistency::at_least(feed.token()).with_wait(short);
            let early = hand.read.order(common::order(1), &token).await.unwrap_err();
            assert_eq!(early.code(), "consistency_timeout", "{kind:?}: {early}");
            hand.step(feed, 1).await.unwrap();
            assert!(hand.read.order(common::order(1), &token).await.unwrap().is_some());
        }
    }
}
