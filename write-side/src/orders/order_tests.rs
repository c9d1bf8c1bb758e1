use events::{money::AMOUNT_MINOR_MAX, orders::OrderReturned};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const ID: OrderId = OrderId(Uuid::from_u128(1));
const ANA: CustomerId = events::ids::UserId(Uuid::from_u128(2));

fn product(n: u128) -> ProductId {
    ProductId(Uuid::from_u128(100 + n))
}

fn usd(amount_minor: i64) -> Money {
    Money::new(amount_minor, Currency::USD)
}

fn at(hour: u32) -> DateTime<Utc> {
    DateTime::from_timestamp(i64::from(hour) * 3_600, 0).unwrap()
}

fn offer(unit_price: Money) -> Option<Offer> {
    Some(Offer { name: "Chai".into(), unit_price, discontinued: false })
}

fn wanted(n: u128, quantity: u32) -> WantedLine {
    WantedLine { product_id: product(n), quantity, discount_bp: 0, offer: offer(usd(1_800)) }
}

fn line(n: u128, quantity: u32) -> OrderLine {
    OrderLine { product_id: product(n), product_name: "Chai".into(), quantity, unit_price: usd(1_800), discount_bp: 0 }
}

fn wish(lines: Vec<WantedLine>) -> PlaceOrder {
    PlaceOrder {
        order_id: ID,
        customer_id: ANA,
        customer: Customer::Active,
        lines,
        placed_at: at(1),
        payment_method: None,
        external_ref: None,
    }
}

fn place(lines: Vec<WantedLine>) -> OrderCommand {
    OrderCommand::Place(wish(lines))
}

fn placed(lines: Vec<OrderLine>) -> OrderEvent {
    let (payment_method, external_ref) = (None, None);
    OrderPlaced { order_id: ID, customer_id: ANA, lines, placed_at: at(1), payment_method, external_ref }.into()
}

fn history(status: OrderStatus, lines: Vec<OrderLine>) -> OrderImported {
    OrderImported {
        order_id: ID,
        customer_id: ANA,
        lines,
        status,
        placed_at: at(1),
        shipped_at: None,
        external_ref: "10248".into(),
    }
}

fn cancelled() -> OrderEvent {
    OrderCancelled { order_id: ID, customer_id: ANA, reason: "changed my mind".into(), rejected: false }.into()
}

fn rejected() -> OrderEvent {
    OrderCancelled { order_id: ID, customer_id: ANA, reason: "out of stock".into(), rejected: true }.into()
}

fn confirmed() -> OrderEvent {
    OrderConfirmed { order_id: ID, customer_id: ANA }.into()
}

fn shipped() -> OrderEvent {
    OrderShipped { order_id: ID, customer_id: ANA, shipped_at: at(2) }.into()
}

fn delivered() -> OrderEvent {
    OrderDelivered { order_id: ID, customer_id: ANA, delivered_at: at(3) }.into()
}

const CONFIRM: OrderCommand = OrderCommand::Confirm;

fn ship() -> OrderCommand {
    OrderCommand::MarkShipped { shipped_at: at(2) }
}

fn deliver() -> OrderCommand {
    OrderCommand::MarkDelivered { delivered_at: at(3) }
}

fn cancel() -> OrderCommand {
    OrderCommand::Cancel { reason: "changed my mind".into() }
}

fn reject() -> OrderCommand {
    OrderCommand::Reject { reason: "out of stock".into() }
}

fn back(lines: &[(u128, u32)]) -> Vec<ReturnedLine> {
    lines.iter().map(|&(n, quantity)| ReturnedLine { product_id: product(n), quantity }).collect()
}

fn returned(lines: &[(u128, u32)], complete: bool) -> OrderEvent {
    let (lines, reason) = (back(lines), None);
    OrderReturned { order_id: ID, customer_id: ANA, lines, complete, reason }.into()
}

/// Everything that is left, by who wanted to cancel.
fn given_up(lines: &[(u128, u32)]) -> OrderEvent {
    let (lines, reason) = (back(lines), Some("changed my mind".into()));
    OrderReturned { order_id: ID, customer_id: ANA, lines, complete: true, reason }.into()
}

fn give_back(lines: &[(u128, u32)]) -> OrderCommand {
    OrderCommand::Return { lines: Some(back(lines)) }
}

const EVERYTHING: OrderCommand = OrderCommand::Return { lines: None };

fn folded(events: &[OrderEvent]) -> Order {
    let mut order = Order::default();
    events.iter().cloned().for_each(|event| order.apply(event));
    order
}

/// given these events, when this is asked, then this follows
fn check(given: &[OrderEvent], when: OrderCommand, then: Result<Vec<OrderEvent>, OrderError>) {
    assert_eq!(folded(given).decide(when), then);
}

#[test]
fn a_placed_order_has_the_names_and_prices_of_the_replica() {
    check(&[], place(vec![wanted(1, 2), wanted(2, 1)]), Ok(vec![placed(vec![line(1, 2), line(2, 1)])]));
}

#[test]
fn the_same_order_again_changes_nothing_even_when_prices_have_changed() {
    let given = [placed(vec![line(1, 2)])];
    let mut again = wish(vec![WantedLine { offer: offer(usd(9)), ..wanted(1, 2) }]);
    again.placed_at = at(2);
    check(&given, OrderCommand::Place(again), Ok(vec![]));
    check(&[given[0].clone(), cancelled()], place(vec![wanted(1, 2)]), Ok(vec![]));
    check(&given, place(vec![wanted(1, 3)]), Err(OrderError::Exists(ID)));
    check(&given, place(vec![wanted(1, 2), wanted(2, 1)]), Err(OrderError::Exists(ID)));
    check(&given, OrderCommand::Import(history(OrderStatus::Pending, vec![line(1, 2)])), Err(OrderError::Exists(ID)));
}

#[test]
fn an_order_that_differs_in_anything_the_customer_said_is_another_one() {
    let given = [placed(vec![line(1, 2)])];
    let said = wish(vec![wanted(1, 2)]);
    for other in [
        PlaceOrder { customer_id: events::ids::UserId(Uuid::from_u128(3)), ..said.clone() },
        PlaceOrder { payment_method: Some("pm_approve".into()), ..said.clone() },
        PlaceOrder { external_ref: Some("10248".into()), ..said.clone() },
        PlaceOrder { lines: vec![WantedLine { discount_bp: 1, ..wanted(1, 2) }], ..said.clone() },
        PlaceOrder { lines: vec![wanted(2, 2)], ..said.clone() },
    ] {
        check(&given, OrderCommand::Place(other), Err(OrderError::Exists(ID)));
    }
}

#[test]
fn a_customer_must_be_known_and_not_erased() {
    let of = |customer| OrderCommand::Place(PlaceOrder { customer, ..wish(vec![wanted(1, 1)]) });
    check(&[], of(Customer::Unknown), Err(OrderError::CustomerUnknown(ANA)));
    check(&[], of(Customer::Erased), Err(OrderError::CustomerErased(ANA)));
}

#[test]
fn every_line_with_an_unknown_or_discontinued_product_is_named() {
    let unknown = |n| WantedLine { offer: None, ..wanted(n, 1) };
    let gone = |n| WantedLine {
        offer: Some(Offer { name: "Chai".into(), unit_price: usd(1), discontinued: true }),
        ..wanted(n, 1)
    };
    check(
        &[],
        place(vec![unknown(1), wanted(2, 1), unknown(3), gone(4)]),
        Err(OrderError::ProductsUnknown(vec![(0, product(1)), (2, product(3))])),
    );
    check(&[], place(vec![wanted(2, 1), gone(4)]), Err(OrderError::ProductsDiscontinued(vec![(1, product(4))])));
}

#[test]
fn a_refusal_names_its_lines_by_json_pointer_and_not_too_many() {
    let lines = (0..50_u32).map(|n| (n as usize, product(u128::from(n)))).collect();
    let refusal = Order::refusal(&OrderError::ProductsUnknown(lines));
    let errors = refusal.data["errors"].as_array().unwrap();
    assert_eq!((refusal.code.as_ref(), errors.len()), ("product_unknown", LINES_NAMED_MAX));
    assert_eq!(errors[3]["pointer"], "/lines/3/product_id");
}

#[test]
fn lines_are_bounded_and_name_each_product_once() {
    check(&[], place(vec![]), Err(OrderError::LineCount { lines: 0 }));
    let many = (0..2_001).map(|n| wanted(n, 1)).collect();
    check(&[], place(many), Err(OrderError::LineCount { lines: 2_001 }));
    check(&[], place(vec![wanted(1, 0)]), Err(OrderError::Quantity { line: 0, quantity: 0 }));
    check(&[], place(vec![wanted(1, 1_000_001)]), Err(OrderError::Quantity { line: 0, quantity: 1_000_001 }));
    check(
        &[],
        place(vec![wanted(1, 1), wanted(2, 1), wanted(1, 1)]),
        Err(OrderError::ProductsRepeated(vec![(2, product(1))])),
    );
}

#[test]
fn an_order_has_one_currency_and_a_total_within_the_bound() {
    let euros = WantedLine { offer: offer(Money::new(1, Currency::EUR)), ..wanted(2, 1) };
    let mixed = OrderError::MixedCurrencies { line: 1, currency: Currency::EUR, first: Currency::USD };
    check(&[], place(vec![wanted(1, 1), euros]), Err(mixed));
    let dear = |n| WantedLine { offer: offer(usd(AMOUNT_MINOR_MAX)), ..wanted(n, 1) };
    check(&[], place(vec![dear(1), dear(2)]), Err(OrderError::TotalTooLarge));
    check(&[], place(vec![WantedLine { quantity: 2, ..dear(1) }]), Err(OrderError::TotalTooLarge));
}

#[test]
fn an_imported_order_is_taken_over_as_it_was_and_once() {
    let imported = history(OrderStatus::Shipped, vec![line(1, 2)]);
    let import = OrderCommand::Import(imported.clone());
    check(&[], import.clone(), Ok(vec![imported.clone().into()]));
    check(&[imported.clone().into()], import.clone(), Ok(vec![]));
    check(&[imported.clone().into(), returned(&[(1, 2)], true)], import, Ok(vec![]));
    let other = OrderImported { status: OrderStatus::Delivered, ..imported.clone() };
    check(&[imported.clone().into()], OrderCommand::Import(other), Err(OrderError::Exists(ID)));
    check(
        &[],
        OrderCommand::Import(OrderImported { lines: vec![], ..imported }),
        Err(OrderError::LineCount { lines: 0 }),
    );
}

/// given an order that stands there, when this is asked, then it is refused with this code
fn refuses(status: OrderStatus, when: OrderCommand, code: &str) {
    let refused = folded(&[history(status, vec![line(1, 2)]).into()]).decide(when).unwrap_err();
    let refusal = Order::refusal(&refused);
    assert_eq!((refusal.code.as_ref(), &refusal.data["order_status"]), (code, &status.as_str().into()), "{refused}");
}

#[test]
fn an_order_is_confirmed_shipped_and_delivered_each_once_and_one_after_the_other() {
    let life = [placed(vec![line(1, 2)]), confirmed(), shipped(), delivered(), returned(&[(1, 2)], true)];
    for (step, command) in [CONFIRM, ship(), deliver(), EVERYTHING].into_iter().enumerate() {
        check(&[], command.clone(), Err(OrderError::NotFound));
        check(&life[..=step], command.clone(), Ok(vec![life[step + 1].clone()]));
        for later in step + 1..life.len() {
            check(&life[..=later], command.clone(), Ok(vec![]));
        }
    }
}

#[test]
fn a_step_before_its_turn_is_refused() {
    refuses(OrderStatus::Pending, ship(), "order_not_confirmed");
    refuses(OrderStatus::Pending, deliver(), "order_not_shipped");
    refuses(OrderStatus::Confirmed, deliver(), "order_not_shipped");
    refuses(OrderStatus::Pending, EVERYTHING, "order_not_shipped");
}

#[test]
fn what_was_given_up_is_carried_to_its_end_without_a_trace() {
    let before_shipping = [placed(vec![line(1, 2)]), confirmed(), given_up(&[(1, 2)])];
    let on_its_way = [placed(vec![line(1, 2)]), confirmed(), shipped(), returned(&[(1, 2)], true)];
    for command in [CONFIRM, ship(), deliver()] {
        check(&before_shipping, command.clone(), Ok(vec![]));
        check(&on_its_way, command, Ok(vec![]));
    }
}

#[test]
fn a_part_that_came_back_keeps_the_rest_on_its_way() {
    let given = [placed(vec![line(1, 2)]), confirmed(), shipped(), returned(&[(1, 1)], false)];
    check(&given, deliver(), Ok(vec![delivered()]));
}

#[test]
fn a_cancelled_order_is_carried_out_no_more() {
    let given = [placed(vec![line(1, 2)]), cancelled()];
    check(&given, CONFIRM, Err(OrderError::NotConfirmable(ID, OrderStatus::Cancelled)));
    for command in [CONFIRM, ship(), deliver(), EVERYTHING, give_back(&[(1, 1)])] {
        refuses(OrderStatus::Cancelled, command, "order_cancelled");
    }
}

#[test]
fn an_order_is_cancelled_or_rejected_once_before_it_is_confirmed() {
    let given = [placed(vec![line(1, 2)])];
    for (command, event) in [(cancel(), cancelled()), (reject(), rejected())] {
        check(&[], command.clone(), Err(OrderError::NotFound));
        check(&given, command, Ok(vec![event.clone()]));
        for again in [cancel(), reject()] {
            check(&[given[0].clone(), event.clone()], again, Ok(vec![]));
        }
        check(&[given[0].clone(), event], CONFIRM, Err(OrderError::NotConfirmable(ID, OrderStatus::Cancelled)));
    }
}

#[test]
fn who_cancels_a_confirmed_order_gives_everything_back() {
    let life = [placed(vec![line(1, 3), line(2, 1)]), confirmed(), shipped(), delivered()];
    for stage in 2..=life.len() {
        check(&life[..stage], cancel(), Ok(vec![given_up(&[(1, 3), (2, 1)])]));
    }
    let part_is_back = [&life[..], &[returned(&[(1, 2)], false)]].concat();
    check(&part_is_back, cancel(), Ok(vec![given_up(&[(1, 1), (2, 1)])]));
    check(&[&life[..2], &[given_up(&[(1, 3), (2, 1)])]].concat(), cancel(), Ok(vec![]));
}

#[test]
fn an_order_that_is_confirmed_is_rejected_as_a_whole_until_it_is_shipped() {
    let given = [placed(vec![line(1, 2)]), confirmed()];
    let (lines, reason) = (back(&[(1, 2)]), Some("out of stock".into()));
    let all: OrderEvent = OrderReturned { order_id: ID, customer_id: ANA, lines, complete: true, reason }.into();
    check(&given, reject(), Ok(vec![all.clone()]));
    check(&[&given[..], &[all]].concat(), reject(), Ok(vec![]));
    check(&[&given[..], &[shipped()]].concat(), reject(), Err(OrderError::NotRejectable(ID, OrderStatus::Shipped)));
    refuses(OrderStatus::Shipped, reject(), "order_already_shipped");
    refuses(OrderStatus::Delivered, reject(), "order_already_delivered");
}

#[test]
fn what_is_confirmed_and_not_shipped_is_given_back_as_a_whole() {
    let given = [placed(vec![line(1, 3), line(2, 1)]), confirmed()];
    let all = returned(&[(1, 3), (2, 1)], true);
    check(&given, EVERYTHING, Ok(vec![all.clone()]));
    check(&given, give_back(&[(1, 3), (2, 1)]), Ok(vec![all]));
    for part in [give_back(&[(1, 3)]), give_back(&[(1, 2), (2, 1)])] {
        check(&given, part, Err(OrderError::NotReturnable(ID, OrderStatus::Confirmed)));
    }
    refuses(OrderStatus::Confirmed, give_back(&[(1, 1)]), "order_not_shipped");
}

#[test]
fn what_was_shipped_comes_back_in_parts_or_whole() {
    let shipped: OrderEvent = history(OrderStatus::Shipped, vec![line(1, 3), line(2, 1)]).into();
    let part = returned(&[(1, 1)], false);
    check(std::slice::from_ref(&shipped), EVERYTHING, Ok(vec![returned(&[(1, 3), (2, 1)], true)]));
    check(std::slice::from_ref(&shipped), give_back(&[(1, 1)]), Ok(vec![part.clone()]));
    let rest = returned(&[(1, 2), (2, 1)], true);
    check(&[shipped.clone(), part.clone()], EVERYTHING, Ok(vec![rest.clone()]));
    check(&[shipped.clone(), part.clone()], give_back(&[(2, 1), (1, 2)]), Ok(vec![returned(&[(2, 1), (1, 2)], true)]));
    check(&[shipped.clone(), part.clone(), rest.clone()], EVERYTHING, Ok(vec![]));
    let all = OrderError::NotReturnable(ID, OrderStatus::Returned);
    check(&[shipped, part, rest], give_back(&[(1, 1)]), Err(all));
}

#[test]
fn no_more_comes_back_than_was_ordered() {
    let shipped: OrderEvent = history(OrderStatus::Delivered, vec![line(1, 3)]).into();
    let given = [shipped, returned(&[(1, 2)], false)];
    let too_much = OrderError::ReturnTooLarge { line: 0, product_id: product(1), quantity: 2, left: 1, ordered: 3 };
    check(&given, give_back(&[(1, 2)]), Err(too_much));
    check(&given, give_back(&[(9, 1)]), Err(OrderError::ProductsNotOrdered(vec![(0, product(9))])));
    check(&given, give_back(&[(1, 1), (1, 1)]), Err(OrderError::ProductsRepeated(vec![(1, product(1))])));
    check(&given, give_back(&[(1, 0)]), Err(OrderError::Quantity { line: 0, quantity: 0 }));
    check(&given, give_back(&[]), Err(OrderError::LineCount { lines: 0 }));
    let pending = [placed(vec![line(1, 3)])];
    check(&pending, EVERYTHING, Err(OrderError::NotReturnable(ID, OrderStatus::Pending)));
}

#[test]
fn the_state_survives_its_serialization() {
    let order = folded(&[history(OrderStatus::Shipped, vec![line(1, 3)]).into(), returned(&[(1, 1)], false)]);
    let text = serde_json::to_string(&order).unwrap();
    assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), order);
}

fn any_command() -> impl Strategy<Value = OrderCommand> {
    let status = prop_oneof![Just(OrderStatus::Pending), Just(OrderStatus::Shipped), Just(OrderStatus::Delivered)];
    let lines = proptest::collection::vec((1_u128..4, 1_u32..4), 1..3);
    prop_oneof![
        (1_u32..3).prop_map(|quantity| place(vec![wanted(1, quantity)])),
        status.prop_map(|status| OrderCommand::Import(history(status, vec![line(1, 3), line(2, 2)]))),
        Just(CONFIRM),
        Just(cancel()),
        Just(reject()),
        Just(ship()),
        Just(deliver()),
        Just(EVERYTHING),
        lines.prop_map(|lines| give_back(&lines)),
    ]
}

fn after(history: Vec<OrderCommand>) -> Order {
    let mut order = Order::default();
    for command in history {
        order.decide(command).into_iter().flatten().for_each(|event| order.apply(event));
    }
    order
}

fn known(order: &Order) -> Result<&KnownOrder, TestCaseError> {
    match order {
        Order::Known(known) => Ok(known),
        Order::Absent => Err(TestCaseError::fail("there is no order")),
    }
}

/// Every event names the order and whose it is.
fn is_routed(event: &OrderEvent) -> bool {
    let event = serde_json::to_value(event).unwrap();
    event["order_id"] == ID.to_string() && event["customer_id"] == ANA.to_string()
}

/// Whether a command that is not refused here has something to change.
fn is_due(before: &Order, command: &OrderCommand) -> bool {
    use OrderStatus::{Confirmed, Delivered, Pending, Shipped};
    let Order::Known(order) = before else { return true };
    match command {
        OrderCommand::Place(_) | OrderCommand::Import(_) => false,
        OrderCommand::Confirm => order.status == Pending,
        OrderCommand::Reject { .. } => matches!(order.status, Pending | Confirmed),
        OrderCommand::Cancel { .. } => matches!(order.status, Pending | Confirmed | Shipped | Delivered),
        OrderCommand::MarkShipped { .. } => order.status == Confirmed,
        OrderCommand::MarkDelivered { .. } => order.status == Shipped,
        OrderCommand::Return { .. } => matches!(order.status, Confirmed | Shipped | Delivered),
    }
}

proptest! {
    #[test]
    fn the_right_events_are_written_when_due(history in proptest::collection::vec(any_command(), 0..12), command in any_command()) {
        let mut order = after(history);
        let before = order.clone();
        let decision = order.decide(command.clone());
        decision.iter().flatten().cloned().for_each(|event| order.apply(event));
        prop_assert!(decision.iter().flatten().all(is_routed));
        if let Order::Known(known) = &order {
            for line in &*known.lines {
                prop_assert!(known.returned(line.product_id) <= line.quantity);
            }
            let all_back = known.lines.iter().all(|line| known.returned(line.product_id) == line.quantity);
            prop_assert_eq!(all_back, known.status == OrderStatus::Returned);
        }
        match (&before, &command, &decision) {
            (_, _, Err(_)) => prop_assert_eq!(&order, &before),
            (_, _, Ok(events)) if events.is_empty() => {
                prop_assert_eq!(&order, &before);
                prop_assert!(!is_due(&before, &command));
            }
            (_, OrderCommand::Place(_) | OrderCommand::Import(_), Ok(_)) => prop_assert_eq!(&before, &Order::Absent),
            (Order::Known(was), OrderCommand::Cancel { reason } | OrderCommand::Reject { reason }, Ok(_))
                if was.status == OrderStatus::Pending =>
            {
                prop_assert_eq!(known(&order)?.status, OrderStatus::Cancelled);
                prop_assert_eq!(known(&order)?.cancelled_because.as_ref(), Some(reason));
            }
            (Order::Known(was), OrderCommand::Cancel { .. }, Ok(_)) => {
                prop_assert!(matches!(
                    was.status,
                    OrderStatus::Confirmed | OrderStatus::Shipped | OrderStatus::Delivered
                ));
                prop_assert_eq!(known(&order)?.status, OrderStatus::Returned);
            }
            (Order::Known(was), OrderCommand::Reject { .. }, Ok(_)) => {
                prop_assert_eq!((was.status, known(&order)?.status), (OrderStatus::Confirmed, OrderStatus::Returned));
            }
            (Order::Known(was), OrderCommand::Confirm, Ok(_)) => {
                prop_assert_eq!((was.status, known(&order)?.status), (OrderStatus::Pending, OrderStatus::Confirmed));
            }
            (Order::Known(was), OrderCommand::MarkShipped { shipped_at }, Ok(_)) => {
                prop_assert_eq!((was.status, known(&order)?.status), (OrderStatus::Confirmed, OrderStatus::Shipped));
                prop_assert_eq!(known(&order)?.shipped_at, Some(*shipped_at));
            }
            (Order::Known(was), OrderCommand::MarkDelivered { delivered_at }, Ok(_)) => {
                prop_assert_eq!((was.status, known(&order)?.status), (OrderStatus::Shipped, OrderStatus::Delivered));
                prop_assert_eq!(known(&order)?.delivered_at, Some(*delivered_at));
            }
            (Order::Known(was), OrderCommand::Return { .. }, Ok(_)) => {
                let was_shipped = matches!(was.status, OrderStatus::Shipped | OrderStatus::Delivered);
                let is_given_up = was.status == OrderStatus::Confirmed && known(&order)?.status == OrderStatus::Returned;
                prop_assert!(was_shipped || is_given_up);
            }
            (Order::Absent, _, Ok(_)) => prop_assert!(false, "decided on nothing"),
        }
    }

    /// Except for a return of named lines, which asks for more each time.
    #[test]
    fn the_same_command_twice_writes_nothing_new(history in proptest::collection::vec(any_command(), 0..12), command in any_command()) {
        let mut order = after(history);
        let first = order.decide(command.clone());
        first.iter().flatten().cloned().for_each(|event| order.apply(event));
        match (first, &command) {
            (_, OrderCommand::Return { lines: Some(_) }) => {}
            (Ok(_), _) => prop_assert_eq!(order.decide(command), Ok(vec![])),
            (Err(refused), _) => prop_assert_eq!(order.decide(command), Err(refused)),
        }
    }
}
