use events::{ids::UserId, personal::Personal, shipping::ShipmentLine, users::Address};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const ID: ShipmentId = ShipmentId(Uuid::from_u128(1));
const ORDER: OrderId = OrderId(Uuid::from_u128(2));
const CUSTOMER: UserId = UserId(Uuid::from_u128(4));
const OTHER_ORDER: OrderId = OrderId(Uuid::from_u128(3));

fn at(hour: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(hour * 3_600, 0).unwrap()
}

fn line(product: u128, quantity: u32) -> ShipmentLine {
    ShipmentLine { product_id: ProductId(Uuid::from_u128(100 + product)), quantity }
}

fn wanted(lines: Vec<ShipmentLine>) -> ShipmentScheduled {
    let (street, city, country) = ("1 Quay Street".into(), "Riverton".into(), "GB".into());
    let address = Address { street, city, region: None, postal_code: None, country };
    let address = Personal::of(CUSTOMER, address);
    ShipmentScheduled { shipment_id: ID, order_id: ORDER, customer_id: CUSTOMER, lines, address }
}

fn scheduled() -> ShipmentEvent {
    wanted(vec![line(1, 2)]).into()
}

fn withdrawn() -> ShipmentEvent {
    ShipmentWithdrawn { shipment_id: ID, order_id: ORDER, reason: "no longer wanted".into() }.into()
}

fn dispatched() -> ShipmentEvent {
    let (carrier, tracking) = ("Post".into(), "P-1".into());
    ShipmentDispatched { shipment_id: ID, order_id: ORDER, carrier, tracking, dispatched_at: at(1) }.into()
}

fn delivered() -> ShipmentEvent {
    ShipmentDelivered { shipment_id: ID, order_id: ORDER, delivered_at: at(2) }.into()
}

fn cancelled() -> ShipmentEvent {
    ShipmentCancelled { shipment_id: ID, order_id: ORDER, reason: "no longer wanted".into() }.into()
}

fn lost() -> ShipmentEvent {
    ShipmentLost { shipment_id: ID, order_id: ORDER, reason: "carrier's word".into() }.into()
}

fn schedule(lines: Vec<ShipmentLine>) -> ShipmentCommand {
    ShipmentCommand::Schedule { wanted: wanted(lines), names_address: true }
}

/// A schedule that names no address, at a moment when the customer has this one.
fn schedule_to_customer(address: Option<&str>) -> ShipmentCommand {
    let (city, country) = ("Riverton".into(), "GB".into());
    let address =
        address.map(|street| Address { street: street.into(), city, region: None, postal_code: None, country });
    let address = address.map_or(Personal::erased(CUSTOMER), |address| Personal::of(CUSTOMER, address));
    let wanted = ShipmentScheduled { address, ..wanted(vec![line(1, 2)]) };
    ShipmentCommand::Schedule { wanted, names_address: false }
}

fn dispatch_with(tracking: &str, hour: i64) -> ShipmentCommand {
    ShipmentCommand::Dispatch { carrier: "Post".into(), tracking: tracking.into(), at: at(hour) }
}

fn dispatch() -> ShipmentCommand {
    dispatch_with("P-1", 1)
}

fn deliver() -> ShipmentCommand {
    ShipmentCommand::Deliver { at: at(2) }
}

fn cancel_of(order_id: OrderId) -> ShipmentCommand {
    ShipmentCommand::Cancel { shipment_id: ID, order_id, reason: "no longer wanted".into() }
}

fn cancel() -> ShipmentCommand {
    cancel_of(ORDER)
}

fn lose() -> ShipmentCommand {
    ShipmentCommand::Lose { reason: "carrier's word".into() }
}

fn folded(events: &[ShipmentEvent]) -> Shipment {
    let mut shipment = Shipment::default();
    events.iter().cloned().for_each(|event| shipment.apply(event));
    shipment
}

/// given these events, when this is asked, then this follows
#[track_caller]
fn check(given: &[ShipmentEvent], when: ShipmentCommand, then: Result<Vec<ShipmentEvent>, ShipmentError>) {
    assert_eq!(folded(given).decide(when), then);
}

#[track_caller]
fn check_refused(given: &[ShipmentEvent], when: ShipmentCommand, code: &str) {
    let refused = folded(given).decide(when).expect_err("refused");
    assert_eq!(Shipment::refusal(&refused).code, code);
}

#[test]
fn a_shipment_is_scheduled_once() {
    check(&[], schedule(vec![line(1, 2)]), Ok(vec![scheduled()]));
    check(&[scheduled()], schedule(vec![line(1, 2)]), Ok(vec![]));
    check(&[scheduled(), dispatched(), lost()], schedule(vec![line(1, 2)]), Ok(vec![]));
    check(&[scheduled()], schedule(vec![line(1, 3)]), Err(ShipmentError::Exists(ID)));
}

#[test]
fn a_schedule_that_names_no_address_is_the_same_wherever_its_customer_moves() {
    check(&[], schedule_to_customer(Some("1 Quay Street")), Ok(vec![scheduled()]));
    for moved in [Some("1 Quay Street"), Some("2 Quay Street"), None] {
        check(&[scheduled()], schedule_to_customer(moved), Ok(vec![]));
    }
}

#[test]
fn a_repeat_of_the_schedule_is_one_after_the_erasure_too() {
    let erased = ShipmentScheduled { address: Personal::erased(CUSTOMER), ..wanted(vec![line(1, 2)]) };
    let given: [ShipmentEvent; 1] = [erased.into()];
    check(&given, schedule(vec![line(1, 2)]), Ok(vec![]));
    check(&given, schedule(vec![line(1, 3)]), Err(ShipmentError::Exists(ID)));
    check(&given, dispatch(), Ok(vec![dispatched()]));
}

#[test]
fn its_lines_are_bounded_and_name_each_product_once() {
    check(&[], schedule(vec![]), Err(ShipmentError::LineCount { lines: 0 }));
    let many = (0..2_001).map(|product| line(product, 1)).collect();
    check(&[], schedule(many), Err(ShipmentError::LineCount { lines: 2_001 }));
    let product_id = line(1, 1).product_id;
    let repeated = schedule(vec![line(1, 1), line(2, 1), line(1, 1)]);
    check(&[], repeated, Err(ShipmentError::ProductRepeated { line: 2, product_id }));
}

#[test]
fn a_shipment_is_dispatched_once() {
    let given = [scheduled(), dispatched()];
    check(&given[..1], dispatch(), Ok(vec![dispatched()]));
    check(&given, dispatch_with("P-1", 9), Ok(vec![]));
    check_refused(&given, dispatch_with("P-2", 1), "shipment_already_dispatched");
    check(&[scheduled(), dispatched(), delivered()], dispatch(), Ok(vec![]));
    check_refused(&[scheduled(), cancelled()], dispatch(), "shipment_cancelled");
    check(&[], dispatch(), Err(ShipmentError::NotFound));
}

#[test]
fn only_what_was_dispatched_is_delivered_or_lost() {
    let given = [scheduled(), dispatched()];
    check(&given, deliver(), Ok(vec![delivered()]));
    check(&given, lose(), Ok(vec![lost()]));
    for command in [deliver(), lose()] {
        check_refused(&given[..1], command.clone(), "shipment_not_dispatched");
        check_refused(&[scheduled(), cancelled()], command.clone(), "shipment_cancelled");
        check_refused(&[withdrawn()], command, "shipment_not_found");
    }
    let delivered = [&given[..], &[delivered()]].concat();
    check(&delivered, deliver(), Ok(vec![]));
    check_refused(&delivered, lose(), "shipment_already_delivered");
    let lost = [&given[..], &[lost()]].concat();
    check(&lost, lose(), Ok(vec![]));
    check_refused(&lost, deliver(), "shipment_lost");
}

#[test]
fn what_is_on_its_way_cannot_be_called_back() {
    check(&[scheduled()], cancel(), Ok(vec![cancelled()]));
    check(&[scheduled(), cancelled()], cancel(), Ok(vec![]));
    check_refused(&[scheduled(), dispatched()], cancel(), "shipment_already_dispatched");
    check_refused(&[scheduled(), dispatched(), delivered()], cancel(), "shipment_already_delivered");
    check_refused(&[scheduled(), dispatched(), lost()], cancel(), "shipment_lost");
}

#[test]
fn a_cancellation_that_comes_before_its_schedule_keeps_it_out() {
    check(&[], cancel(), Ok(vec![withdrawn()]));
    check(&[withdrawn()], cancel(), Ok(vec![]));
    check(&[withdrawn()], schedule(vec![line(1, 2)]), Err(ShipmentError::Withdrawn(ID)));
}

#[test]
fn a_shipment_is_cancelled_only_by_its_own_order() {
    for given in [scheduled(), withdrawn()] {
        check(&[given], cancel_of(OTHER_ORDER), Err(ShipmentError::OtherOrder(ID, ORDER)));
    }
}

#[test]
fn the_state_survives_its_serialization() {
    for given in [vec![], vec![withdrawn()], vec![scheduled(), dispatched(), delivered()]] {
        let shipment = folded(&given);
        let text = serde_json::to_string(&shipment).unwrap();
        assert_eq!(serde_json::from_str::<Shipment>(&text).unwrap(), shipment);
    }
}

fn any_command() -> impl Strategy<Value = ShipmentCommand> {
    prop_oneof![
        (1_u32..3).prop_map(|quantity| schedule(vec![line(1, quantity)])),
        prop_oneof![Just(Some("1 Quay Street")), Just(Some("2 Quay Street")), Just(None)]
            .prop_map(schedule_to_customer),
        (1_i64..4).prop_map(|hour| dispatch_with("P-1", hour)),
        Just(dispatch_with("P-2", 1)),
        (1_i64..4).prop_map(|hour| ShipmentCommand::Deliver { at: at(hour) }),
        prop_oneof![9 => Just(cancel()), 1 => Just(cancel_of(OTHER_ORDER))],
        Just(lose()),
    ]
}

fn after(history: Vec<ShipmentCommand>) -> Shipment {
    let mut shipment = Shipment::default();
    for command in history {
        shipment.decide(command).into_iter().flatten().for_each(|event| shipment.apply(event));
    }
    shipment
}

fn status(shipment: &Shipment) -> Option<ShipmentStatus> {
    match shipment {
        Shipment::Absent | Shipment::Withdrawn(_) => None,
        Shipment::Known(shipment) => Some(shipment.status),
    }
}

/// Whether a command that is not refused here has something to change.
fn is_due(before: &Shipment, command: &ShipmentCommand) -> bool {
    match command {
        ShipmentCommand::Schedule { .. } => *before == Shipment::Absent,
        ShipmentCommand::Dispatch { .. } => status(before) == Some(ShipmentStatus::Scheduled),
        ShipmentCommand::Deliver { .. } | ShipmentCommand::Lose { .. } => {
            status(before) == Some(ShipmentStatus::Dispatched)
        }
        ShipmentCommand::Cancel { .. } => {
            *before == Shipment::Absent || status(before) == Some(ShipmentStatus::Scheduled)
        }
    }
}

proptest! {
    #[test]
    fn the_right_events_are_written_when_due(history in proptest::collection::vec(any_command(), 0..8), command in any_command()) {
        let mut shipment = after(history);
        let before = shipment.clone();
        let decision = shipment.decide(command.clone());
        decision.iter().flatten().cloned().for_each(|event| shipment.apply(event));
        let (was, is) = (status(&before), status(&shipment));
        match (command, &decision) {
            (_, Err(_)) => prop_assert_eq!(&shipment, &before),
            (command, Ok(events)) if events.is_empty() => {
                prop_assert_eq!(&shipment, &before);
                prop_assert!(!is_due(&before, &command));
            }
            (ShipmentCommand::Schedule { .. }, Ok(_)) => {
                prop_assert_eq!((&before, is), (&Shipment::Absent, Some(ShipmentStatus::Scheduled)));
            }
            (ShipmentCommand::Dispatch { .. }, Ok(_)) => {
                prop_assert_eq!((was, is), (Some(ShipmentStatus::Scheduled), Some(ShipmentStatus::Dispatched)));
            }
            (ShipmentCommand::Deliver { .. }, Ok(_)) => {
                prop_assert_eq!((was, is), (Some(ShipmentStatus::Dispatched), Some(ShipmentStatus::Delivered)));
            }
            (ShipmentCommand::Lose { .. }, Ok(_)) => {
                prop_assert_eq!((was, is), (Some(ShipmentStatus::Dispatched), Some(ShipmentStatus::Lost)));
            }
            (ShipmentCommand::Cancel { .. }, Ok(_)) => match &before {
                Shipment::Absent => prop_assert!(matches!(shipment, Shipment::Withdrawn(_))),
                Shipment::Withdrawn(_) => prop_assert!(false, "it was given up already"),
                Shipment::Known(_) => {
                    prop_assert_eq!((was, is), (Some(ShipmentStatus::Scheduled), Some(ShipmentStatus::Cancelled)));
                }
            },
        }
    }

    #[test]
    fn the_same_command_twice_writes_nothing_new(history in proptest::collection::vec(any_command(), 0..8), command in any_command()) {
        let mut shipment = after(history);
        let first = shipment.decide(command.clone());
        first.iter().flatten().cloned().for_each(|event| shipment.apply(event));
        match first {
            Ok(_) => prop_assert_eq!(shipment.decide(command), Ok(vec![])),
            Err(refused) => prop_assert_eq!(shipment.decide(command), Err(refused)),
        }
    }
}
