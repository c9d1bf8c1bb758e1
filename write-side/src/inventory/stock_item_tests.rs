use events::ids::OrderId;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const ID: ProductId = ProductId(Uuid::from_u128(1));

fn of(order: u128, line: u32) -> ReservationId {
    ReservationId { order_id: OrderId(Uuid::from_u128(100 + order)), line }
}

/// The reservation that most of these examples are about.
fn ours() -> ReservationId {
    of(1, 0)
}

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(minute * 60, 0).unwrap()
}

fn received(quantity: u32) -> StockEvent {
    StockReceived { product_id: ID, quantity }.into()
}

fn adjusted(quantity: i64) -> StockEvent {
    StockAdjusted { product_id: ID, quantity, reason: "counted".into() }.into()
}

fn reserved(id: ReservationId, quantity: u32, expires_at: DateTime<Utc>) -> StockEvent {
    StockReserved { product_id: ID, order_id: id.order_id, line: id.line, quantity, expires_at }.into()
}

fn rejected(quantity: u32, available: u64) -> StockEvent {
    let ReservationId { order_id, line } = ours();
    ReservationRejected { product_id: ID, order_id, line, quantity, available }.into()
}

fn withdrawn() -> StockEvent {
    ReservationWithdrawn { product_id: ID, order_id: ours().order_id, line: ours().line }.into()
}

fn confirmed() -> StockEvent {
    ReservationConfirmed { product_id: ID, order_id: ours().order_id, line: ours().line }.into()
}

fn expired(id: ReservationId, quantity: u32) -> StockEvent {
    ReservationExpired { product_id: ID, order_id: id.order_id, line: id.line, quantity }.into()
}

fn released(quantity: u32) -> StockEvent {
    StockReleased { product_id: ID, order_id: ours().order_id, line: ours().line, quantity }.into()
}

fn shipped(quantity: u32) -> StockEvent {
    StockShipped { product_id: ID, order_id: ours().order_id, line: ours().line, quantity }.into()
}

fn receive(quantity: u32) -> StockCommand {
    StockCommand::Receive { product_id: ID, quantity: quantity.try_into().unwrap() }
}

fn adjust(quantity: i64) -> StockCommand {
    StockCommand::Adjust { quantity: quantity.try_into().unwrap(), reason: "counted".into() }
}

fn reserve_for(id: ReservationId, quantity: u32, expires_at: DateTime<Utc>) -> StockCommand {
    StockCommand::Reserve { product_id: ID, id, quantity: quantity.try_into().unwrap(), expires_at }
}

fn reserve(quantity: u32) -> StockCommand {
    reserve_for(ours(), quantity, at(30))
}

fn release() -> StockCommand {
    StockCommand::Release { product_id: ID, id: ours() }
}

fn confirm() -> StockCommand {
    StockCommand::Confirm { id: ours() }
}

fn ship() -> StockCommand {
    StockCommand::Ship { id: ours() }
}

fn expire(minute: i64) -> StockCommand {
    StockCommand::Expire { now: at(minute) }
}

fn folded(events: &[StockEvent]) -> StockItem {
    let mut item = StockItem::default();
    events.iter().cloned().for_each(|event| item.apply(event));
    item
}

/// given these events, when this is asked, then this follows
#[track_caller]
fn check(given: &[StockEvent], when: StockCommand, then: Result<Vec<StockEvent>, StockError>) {
    assert_eq!(folded(given).decide(when), then);
}

#[track_caller]
fn check_refused(given: &[StockEvent], when: StockCommand, code: &str) {
    let refused = folded(given).decide(when).expect_err("refused");
    assert_eq!(StockItem::refusal(&refused).code, code);
}

#[test]
fn what_is_received_adds_up() {
    check(&[], receive(5), Ok(vec![received(5)]));
    check(&[received(5)], receive(5), Ok(vec![received(5)]));
    let StockItem::Known(stock) = folded(&[received(5), received(5)]) else { panic!("it is known") };
    assert_eq!((stock.on_hand, stock.held, stock.available()), (10, 0, 10));
}

#[test]
fn no_more_is_on_hand_than_the_bound() {
    let given = [adjusted(ON_HAND_MAX as i64 - 3)];
    check(&given, receive(3), Ok(vec![received(3)]));
    check(&given, receive(4), Err(StockError::TooMany { quantity: 4, on_hand: ON_HAND_MAX - 3 }));
    check_refused(&given, adjust(4), "stock_too_large");
    check_refused(&given, receive(u32::MAX), "stock_too_large");
    check_refused(&given, adjust(i64::MAX), "stock_too_large");
}

#[test]
fn an_adjustment_leaves_what_is_held() {
    let given = [received(5), reserved(ours(), 3, at(30))];
    check(&given, adjust(-2), Ok(vec![adjusted(-2)]));
    check(&given, adjust(-3), Err(StockError::Held { fewer: 3, on_hand: 5, held: 3 }));
    check_refused(&given, adjust(i64::MIN), "stock_held");
    check(&given, adjust(7), Ok(vec![adjusted(7)]));
    check(&[], adjust(7), Err(StockError::NotFound));
}

#[test]
fn a_line_gets_all_its_pieces_or_none_and_is_told_how_many_there_were() {
    check(&[received(5)], reserve(5), Ok(vec![reserved(ours(), 5, at(30))]));
    check(&[received(5)], reserve(6), Ok(vec![rejected(6, 5)]));
    check(&[], reserve(1), Ok(vec![rejected(1, 0)]));
    let given = [received(5), reserved(of(2, 0), 3, at(30))];
    check(&given, reserve(2), Ok(vec![reserved(ours(), 2, at(30))]));
    check(&given, reserve(3), Ok(vec![rejected(3, 2)]));
}

#[test]
fn a_line_is_answered_once() {
    let given = [received(5), reserved(ours(), 2, at(30))];
    check(&given, reserve(2), Ok(vec![]));
    check(&given, reserve_for(ours(), 2, at(99)), Ok(vec![]));
    check(&given, reserve(3), Err(StockError::Exists { id: ours(), asked: 2, quantity: 3 }));
    // the rejection stands, even when there is enough by now
    let given = [received(5), rejected(6, 5), received(9)];
    check(&given, reserve(6), Ok(vec![]));
    check_refused(&given, reserve(5), "reservation_exists");
    check(&given, reserve_for(of(1, 1), 6, at(30)), Ok(vec![reserved(of(1, 1), 6, at(30))]));
}

#[test]
fn a_release_gives_the_pieces_back_once() {
    let given = [received(5), reserved(ours(), 2, at(30)), released(2)];
    check(&given[..2], release(), Ok(vec![released(2)]));
    check(&given, release(), Ok(vec![]));
    check(&given, reserve_for(of(2, 0), 5, at(30)), Ok(vec![reserved(of(2, 0), 5, at(30))]));
}

#[test]
fn a_release_that_comes_before_its_reservation_keeps_it_out() {
    check(&[], release(), Ok(vec![withdrawn()]));
    check(&[received(5)], release(), Ok(vec![withdrawn()]));
    let given = [received(5), withdrawn()];
    check(&given, release(), Ok(vec![]));
    check(&given, reserve(1), Err(StockError::Closed(ours(), Closed::Withdrawn)));
    check(&given, reserve_for(of(1, 1), 1, at(30)), Ok(vec![reserved(of(1, 1), 1, at(30))]));
}

#[test]
fn what_has_ended_is_not_opened_again() {
    let held = [received(5), reserved(ours(), 2, at(30))];
    for end in [released(2), expired(ours(), 2)] {
        let given = [&held[..], &[end]].concat();
        for command in [reserve(2), reserve(3), confirm(), ship()] {
            check_refused(&given, command, "reservation_closed");
        }
        check(&given, release(), Ok(vec![]));
    }
    let given = [&held[..], &[shipped(2)]].concat();
    check(&given, reserve(2), Ok(vec![]));
    check_refused(&given, release(), "reservation_closed");
}

#[test]
fn what_is_confirmed_does_not_expire() {
    let given = [received(5), reserved(ours(), 2, at(30)), confirmed()];
    check(&given[..2], confirm(), Ok(vec![confirmed()]));
    check(&given, confirm(), Ok(vec![]));
    check(&given, expire(999), Ok(vec![]));
    check(&given, release(), Ok(vec![released(2)]));
    check(&given, ship(), Ok(vec![shipped(2)]));
    check(&[received(5)], confirm(), Err(StockError::NotReserved(ours())));
    check(&[received(5), rejected(6, 5)], confirm(), Err(StockError::Closed(ours(), folded_rejection())));
    check(&[], confirm(), Err(StockError::NotFound));
}

fn folded_rejection() -> Closed {
    Closed::Rejected { quantity: 6, available: 5 }
}

#[test]
fn what_is_shipped_leaves_the_house_once() {
    let given = [received(5), reserved(ours(), 2, at(30)), shipped(2)];
    check(&given[..2], ship(), Ok(vec![shipped(2)]));
    check(&given, ship(), Ok(vec![]));
    check(&given, confirm(), Ok(vec![]));
    check(&given[..1], ship(), Err(StockError::NotReserved(ours())));
    let StockItem::Known(stock) = folded(&given) else { panic!("it is known") };
    assert_eq!((stock.on_hand, stock.held), (3, 0));
}

#[test]
fn what_is_due_expires_the_longest_overdue_first() {
    let given =
        [received(9), reserved(ours(), 2, at(30)), reserved(of(2, 0), 3, at(20)), reserved(of(3, 0), 4, at(40))];
    check(&given, expire(19), Ok(vec![]));
    check(&given, expire(30), Ok(vec![expired(of(2, 0), 3), expired(ours(), 2)]));
    check(&[], expire(30), Err(StockError::NotFound));
}

/// The log decides what is held, not the clock: what nobody has let expire can still be confirmed and shipped.
#[test]
fn a_reservation_whose_time_has_come_is_held_until_it_is_let_expire() {
    let given = [received(2), reserved(ours(), 2, at(30))];
    check(
        &given,
        reserve_for(of(2, 0), 1, at(99)),
        Ok(vec![{
            let ReservationId { order_id, line } = of(2, 0);
            ReservationRejected { product_id: ID, order_id, line, quantity: 1, available: 0 }.into()
        }]),
    );
    let freed = [&given[..], &[expired(ours(), 2)]].concat();
    check(&freed, reserve_for(of(2, 0), 1, at(99)), Ok(vec![reserved(of(2, 0), 1, at(99))]));
}

#[test]
fn one_command_lets_no_more_expire_than_its_bound() {
    let many = (0..EXPIRED_PER_COMMAND_MAX as u128 + 3).map(|order| reserved(of(order, 0), 1, at(30)));
    let mut item = folded(&[received(1_000)]);
    many.for_each(|event| item.apply(event));
    for left in [EXPIRED_PER_COMMAND_MAX, 3, 0] {
        let events = item.decide(expire(30)).unwrap();
        assert_eq!(events.len(), left);
        events.into_iter().for_each(|event| item.apply(event));
    }
}

#[test]
fn the_answer_says_what_became_of_the_reservation() {
    let status = |given: &[StockEvent]| folded(given).report(&reserve(2)).unwrap()["reservation"].clone();
    let held = [received(5), reserved(ours(), 2, at(30))];
    assert_eq!(status(&held), json!({ "status": "RESERVED", "quantity": 2, "expires_at": "1970-01-01T00:30:00Z" }));
    assert_eq!(status(&[rejected(2, 1)]), json!({ "status": "REJECTED", "quantity": 2, "available": 1 }));
    assert_eq!(status(&[&held[..], &[released(2)]].concat()), json!({ "status": "RELEASED" }));
    assert_eq!(folded(&held).report(&receive(1)), None);
}

#[test]
fn the_state_survives_its_serialization() {
    let held = reserved(of(2, 0), 1, at(9));
    for given in [vec![], vec![received(5), rejected(6, 5), held, withdrawn()]] {
        let item = folded(&given);
        let text = serde_json::to_string(&item).unwrap();
        assert_eq!(serde_json::from_str::<StockItem>(&text).unwrap(), item);
    }
}

fn any_command() -> impl Strategy<Value = StockCommand> {
    let id = || (1_u128..3, 0_u32..2).prop_map(|(order, line)| of(order, line));
    prop_oneof![
        (1_u32..6).prop_map(receive),
        prop_oneof![-4_i64..0, 1_i64..3].prop_map(adjust),
        (id(), 1_u32..4, 1_i64..4).prop_map(|(id, quantity, minute)| reserve_for(id, quantity, at(minute))),
        (id(), 1_u32..4, 1_i64..4).prop_map(|(id, quantity, minute)| reserve_for(id, quantity, at(minute))),
        id().prop_map(|id| StockCommand::Release { product_id: ID, id }),
        id().prop_map(|id| StockCommand::Confirm { id }),
        id().prop_map(|id| StockCommand::Ship { id }),
        (0_i64..5).prop_map(expire),
    ]
}

fn any_history() -> impl Strategy<Value = Vec<StockCommand>> {
    proptest::collection::vec(any_command(), 0..24)
}

/// Every event that these commands lead to, and the state behind them.
fn after(history: Vec<StockCommand>) -> (Vec<StockEvent>, StockItem) {
    let (mut events, mut item) = (Vec::new(), StockItem::default());
    for command in history {
        for event in item.decide(command).into_iter().flatten() {
            item.apply(event.clone());
            events.push(event);
        }
    }
    (events, item)
}

/// Whether the line was answered.
fn knows(stock: &Stock, id: &ReservationId) -> bool {
    stock.open.contains_key(id) || stock.closed.contains_key(id)
}

/// What a clerk gets who adds up the events by hand.
#[derive(Debug, Default)]
struct Sums {
    received: i64,
    adjusted: i64,
    reserved: i64,
    shipped: i64,
    released: i64,
    expired: i64,
}

fn sums(events: &[StockEvent]) -> Sums {
    let mut sums = Sums::default();
    for event in events {
        match event {
            StockEvent::StockReceived(event) => sums.received += i64::from(event.quantity),
            StockEvent::StockAdjusted(event) => sums.adjusted += event.quantity,
            StockEvent::StockReserved(event) => sums.reserved += i64::from(event.quantity),
            StockEvent::StockShipped(event) => sums.shipped += i64::from(event.quantity),
            StockEvent::StockReleased(event) => sums.released += i64::from(event.quantity),
            StockEvent::ReservationExpired(event) => sums.expired += i64::from(event.quantity),
            StockEvent::ReservationRejected(event) => assert!(u64::from(event.quantity) > event.available),
            StockEvent::ReservationWithdrawn(_) | StockEvent::ReservationConfirmed(_) => {}
        }
    }
    sums
}

proptest! {
    #[test]
    fn the_books_balance_after_any_commands(history in any_history()) {
        let mut events = Vec::new();
        let mut item = StockItem::default();
        for command in history {
            for event in item.decide(command).into_iter().flatten() {
                item.apply(event.clone());
                events.push(event);
            }
            let StockItem::Known(stock) = &item else { continue };
            let (sums, on_hand, held) = (sums(&events), stock.on_hand as i64, stock.held as i64);
            prop_assert_eq!(sums.received + sums.adjusted, on_hand + sums.shipped);
            prop_assert_eq!(sums.reserved, held + sums.shipped + sums.released + sums.expired);
            prop_assert!(0 <= held && held <= on_hand, "{} of {} are held", held, on_hand);
            prop_assert_eq!(held, stock.open.values().map(|open| i64::from(open.quantity)).sum::<i64>());
            prop_assert!(stock.open.keys().all(|id| !stock.closed.contains_key(id)));
        }
    }

    #[test]
    fn the_right_events_are_written_when_due(history in any_history(), command in any_command()) {
        let (_, mut item) = after(history);
        let before = item.clone();
        let decision = item.decide(command.clone());
        decision.iter().flatten().cloned().for_each(|event| item.apply(event));
        let none = Stock::none(ID);
        let (was, is) = match (&before, &item) {
            (StockItem::Known(was), StockItem::Known(is)) => (was, is),
            (StockItem::Absent, StockItem::Known(is)) => (&none, is),
            (_, StockItem::Absent) => {
                prop_assert_eq!(decision, Err(StockError::NotFound));
                return Ok(());
            }
        };
        // something is written when something changes, and nothing else is
        prop_assert_eq!(decision.iter().flatten().next().is_some(), is != was);
        match (command, &decision) {
            (_, Err(_)) => {}
            (StockCommand::Receive { quantity, .. }, Ok(_)) => {
                prop_assert_eq!(is.on_hand, was.on_hand + u64::from(quantity.get()));
            }
            (StockCommand::Adjust { quantity, .. }, Ok(_)) => {
                prop_assert_eq!(is.on_hand as i64, was.on_hand as i64 + quantity.get());
            }
            (StockCommand::Reserve { id, .. }, Ok(_)) if knows(was, &id) => prop_assert_eq!(is, was),
            (StockCommand::Reserve { id, quantity, .. }, Ok(_)) => {
                let fits = u64::from(quantity.get()) <= was.available();
                prop_assert_eq!((is.open.contains_key(&id), is.closed.contains_key(&id)), (fits, !fits));
            }
            (StockCommand::Release { id, .. }, Ok(_)) => {
                let end = if was.open.contains_key(&id) { Closed::Released } else { Closed::Withdrawn };
                prop_assert_eq!(is.closed.get(&id), Some(was.closed.get(&id).unwrap_or(&end)));
            }
            (StockCommand::Confirm { id }, Ok(_)) => {
                let is_for_good = is.open.get(&id).is_some_and(|open| open.expires_at.is_none());
                prop_assert!(is_for_good || is.closed.get(&id) == Some(&Closed::Shipped));
            }
            (StockCommand::Ship { id }, Ok(_)) => {
                let quantity = was.open.get(&id).map_or(0, |open| u64::from(open.quantity));
                prop_assert_eq!(was.on_hand - is.on_hand, quantity);
                prop_assert_eq!(is.closed.get(&id), Some(&Closed::Shipped));
            }
            (StockCommand::Expire { now }, Ok(events)) => {
                let due = was.open.values().filter(|open| open.expires_at.is_some_and(|at| at <= now)).count();
                prop_assert_eq!(events.len(), due);
                prop_assert!(is.open.values().all(|open| open.expires_at.is_none_or(|at| at > now)));
            }
        }
    }

    /// Except for what adds up: receiving and adjusting ask for more each time.
    #[test]
    fn the_same_command_twice_writes_nothing_new(history in any_history(), command in any_command()) {
        let (_, mut item) = after(history);
        let first = item.decide(command.clone());
        first.iter().flatten().cloned().for_each(|event| item.apply(event));
        match (first, &command) {
            (_, StockCommand::Receive { .. } | StockCommand::Adjust { .. }) => {}
            (Ok(_), _) => prop_assert_eq!(item.decide(command), Ok(vec![])),
            (Err(refused), _) => prop_assert_eq!(item.decide(command), Err(refused)),
        }
    }
}
