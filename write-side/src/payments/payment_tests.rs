use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const ID: PaymentId = PaymentId(Uuid::from_u128(1));
const ORDER: OrderId = OrderId(Uuid::from_u128(2));

fn usd(amount_minor: i64) -> Money {
    Money::new(amount_minor, Currency::USD)
}

fn at(hour: u32) -> DateTime<Utc> {
    DateTime::from_timestamp(i64::from(hour) * 3_600, 0).unwrap()
}

fn refund_id(n: u128) -> RefundId {
    RefundId(Uuid::from_u128(100 + n))
}

fn request(amount_minor: i64) -> AuthorizationRequested {
    let payment_method = "pm_approve".parse().unwrap();
    AuthorizationRequested {
        payment_id: ID,
        order_id: ORDER,
        amount: usd(amount_minor),
        payment_method,
        requested_at: at(1),
    }
}

fn requested() -> PaymentEvent {
    request(100).into()
}

fn approval() -> Settlement {
    Settlement::Authorized { gateway_reference: "sim-1".into(), expires_at: at(10) }
}

fn authorized() -> PaymentEvent {
    PaymentAuthorized {
        payment_id: ID,
        order_id: ORDER,
        amount: usd(100),
        gateway_reference: "sim-1".into(),
        expires_at: at(10),
    }
    .into()
}

fn declined(reason: DeclineReason) -> PaymentEvent {
    PaymentDeclined { payment_id: ID, order_id: ORDER, amount: usd(100), reason }.into()
}

fn capture_requested(amount_minor: i64) -> PaymentEvent {
    CaptureRequested { payment_id: ID, order_id: ORDER, amount: usd(amount_minor) }.into()
}

fn captured(amount_minor: i64) -> PaymentEvent {
    PaymentCaptured { payment_id: ID, order_id: ORDER, amount: usd(amount_minor) }.into()
}

fn capture_failed(amount_minor: i64) -> PaymentEvent {
    CaptureFailed { payment_id: ID, order_id: ORDER, amount: usd(amount_minor), reason: "no".into() }.into()
}

fn void_requested() -> PaymentEvent {
    VoidRequested { payment_id: ID, order_id: ORDER }.into()
}

fn voided(amount_minor: i64) -> PaymentEvent {
    PaymentVoided { payment_id: ID, order_id: ORDER, amount: usd(amount_minor) }.into()
}

fn barred() -> PaymentEvent {
    PaymentBarred { payment_id: ID, order_id: ORDER }.into()
}

fn refund_requested(n: u128, amount_minor: i64) -> PaymentEvent {
    let (amount, reason) = (usd(amount_minor), "broken".into());
    RefundRequested { payment_id: ID, order_id: ORDER, refund_id: refund_id(n), amount, reason }.into()
}

fn refunded(n: u128, amount_minor: i64) -> PaymentEvent {
    PaymentRefunded { payment_id: ID, order_id: ORDER, refund_id: refund_id(n), amount: usd(amount_minor) }.into()
}

fn refund_failed(n: u128, amount_minor: i64) -> PaymentEvent {
    let (amount, reason) = (usd(amount_minor), "no".into());
    RefundFailed { payment_id: ID, order_id: ORDER, refund_id: refund_id(n), amount, reason }.into()
}

fn expired() -> PaymentEvent {
    PaymentExpired { payment_id: ID, order_id: ORDER, amount: usd(100) }.into()
}

fn authorize(amount_minor: i64) -> PaymentCommand {
    PaymentCommand::Authorize(request(amount_minor))
}

fn capture(amount_minor: i64) -> PaymentCommand {
    PaymentCommand::Capture { amount: Some(usd(amount_minor)) }
}

const CAPTURE_ALL: PaymentCommand = PaymentCommand::Capture { amount: None };

const VOID: PaymentCommand = PaymentCommand::Void { payment_id: ID, order_id: Some(ORDER) };

fn refund(n: u128, amount_minor: i64) -> PaymentCommand {
    PaymentCommand::Refund { refund_id: refund_id(n), amount: usd(amount_minor), reason: "broken".into() }
}

fn settle(settlement: Settlement) -> PaymentCommand {
    PaymentCommand::Settle(settlement)
}

fn expire(hour: u32) -> PaymentCommand {
    PaymentCommand::Expire { now: at(hour) }
}

fn folded(events: &[PaymentEvent]) -> Payment {
    let mut payment = Payment::default();
    events.iter().cloned().for_each(|event| payment.apply(event));
    payment
}

/// given these events, when this is asked, then this follows
fn check(given: &[PaymentEvent], when: PaymentCommand, then: Result<Vec<PaymentEvent>, PaymentError>) {
    assert_eq!(folded(given).decide(when), then);
}

#[test]
fn an_authorization_is_asked_for_once() {
    check(&[], authorize(100), Ok(vec![requested()]));
    check(&[requested()], authorize(100), Ok(vec![]));
    check(&[requested(), authorized(), capture_requested(100), captured(100)], authorize(100), Ok(vec![]));
    check(&[requested(), declined(DeclineReason::Declined)], authorize(100), Ok(vec![]));
    check(&[requested()], authorize(101), Err(PaymentError::Exists(ID)));
    let later = AuthorizationRequested { requested_at: at(2), ..request(100) };
    check(&[requested()], PaymentCommand::Authorize(later), Ok(vec![]));
    for amount_minor in [0, -1] {
        check(&[], authorize(amount_minor), Err(PaymentError::AmountZero));
    }
}

#[test]
fn the_gateway_answers_an_authorization_once() {
    check(&[requested()], settle(approval()), Ok(vec![authorized()]));
    let no = settle(Settlement::Declined { reason: DeclineReason::InsufficientFunds });
    check(&[requested()], no.clone(), Ok(vec![declined(DeclineReason::InsufficientFunds)]));
    check(&[requested(), authorized()], no, Ok(vec![]));
    check(&[requested(), authorized()], settle(approval()), Ok(vec![]));
    check(&[requested(), declined(DeclineReason::Declined)], settle(approval()), Ok(vec![]));
    check(&[], settle(approval()), Err(PaymentError::NotFound));
}

#[test]
fn an_authorization_without_an_answer_is_declined_and_given_back() {
    let given = [requested(), declined(DeclineReason::GatewayTimeout), void_requested()];
    check(&given[..1], settle(Settlement::Unanswered), Ok(given[1..].to_vec()));
    check(&given, settle(Settlement::Unanswered), Ok(vec![]));
    // the answer came after all, and what it holds is given back
    check(&given, settle(approval()), Ok(vec![]));
    check(&given, settle(Settlement::Voided), Ok(vec![voided(0)]));
    check(&[requested(), void_requested()], settle(Settlement::Unanswered), Ok(vec![]));
}

#[test]
fn a_capture_takes_at_most_what_is_authorized_and_once() {
    let given = [requested(), authorized(), capture_requested(100), captured(100)];
    check(&given[..2], CAPTURE_ALL, Ok(vec![capture_requested(100)]));
    check(&given[..2], capture(40), Ok(vec![capture_requested(40)]));
    check(&given[..3], CAPTURE_ALL, Ok(vec![]));
    check(&given[..3], capture(40), Err(PaymentError::BeingCaptured(ID)));
    check(&given[..3], settle(Settlement::Captured), Ok(vec![captured(100)]));
    check(&given, CAPTURE_ALL, Ok(vec![]));
    check(&given, capture(100), Ok(vec![]));
    check(&given, settle(Settlement::Captured), Ok(vec![]));
    check(&given, capture(40), Err(PaymentError::AlreadyCaptured { payment_id: ID, captured_minor: 100 }));
    let too_large = PaymentError::CaptureTooLarge { amount_minor: 101, authorized_minor: 100 };
    check(&given[..2], capture(101), Err(too_large));
    check(&given[..2], capture(0), Err(PaymentError::AmountZero));
    check(&[], CAPTURE_ALL, Err(PaymentError::NotFound));
}

#[test]
fn what_a_capture_leaves_is_given_back_with_it() {
    let given = [requested(), authorized(), capture_requested(40)];
    check(&given, settle(Settlement::Captured), Ok(vec![captured(40), voided(60)]));
}

#[test]
fn a_capture_that_failed_may_be_asked_for_again() {
    let given = [requested(), authorized(), capture_requested(40), capture_failed(40)];
    let failed = settle(Settlement::CaptureFailed { reason: "no".into() });
    check(&given[..3], failed.clone(), Ok(vec![capture_failed(40)]));
    check(&given, failed, Ok(vec![]));
    check(&given, capture(40), Ok(vec![capture_requested(40)]));
    check(&given, VOID, Ok(vec![void_requested()]));
}

#[test]
fn only_what_is_held_can_be_captured() {
    for (given, status) in [
        (vec![requested()], PaymentStatus::Requested),
        (vec![requested(), declined(DeclineReason::Declined)], PaymentStatus::Declined),
        (vec![requested(), authorized(), void_requested(), voided(100)], PaymentStatus::Voided),
        (vec![requested(), authorized(), expired()], PaymentStatus::Expired),
    ] {
        check(&given, CAPTURE_ALL, Err(PaymentError::NotAuthorized(ID, status)));
    }
    check(&[requested(), authorized(), void_requested()], CAPTURE_ALL, Err(PaymentError::BeingVoided(ID)));
}

#[test]
fn what_is_held_is_voided_once_and_only_before_it_is_captured() {
    let given = [requested(), authorized(), void_requested(), voided(100)];
    check(&given[..2], VOID, Ok(vec![void_requested()]));
    check(&given[..3], VOID, Ok(vec![]));
    check(&given[..3], settle(Settlement::Voided), Ok(vec![voided(100)]));
    check(&given, VOID, Ok(vec![]));
    check(&given, settle(Settlement::Voided), Ok(vec![]));
    check(&[requested(), authorized(), expired()], VOID, Ok(vec![]));
    check(&[requested(), declined(DeclineReason::Declined)], VOID, Ok(vec![]));
    let taken = [requested(), authorized(), capture_requested(100), captured(100)];
    check(&taken[..3], VOID, Err(PaymentError::BeingCaptured(ID)));
    check(&taken, VOID, Err(PaymentError::AlreadyCaptured { payment_id: ID, captured_minor: 100 }));
}

#[test]
fn a_void_catches_up_with_an_authorization_under_way() {
    check(&[requested()], VOID, Ok(vec![void_requested()]));
    // the gateway held it before it heard of the void
    check(&[requested(), void_requested()], settle(approval()), Ok(vec![authorized()]));
    let held = [requested(), void_requested(), authorized()];
    check(&held, settle(Settlement::Voided), Ok(vec![voided(100)]));
    // or it did not
    check(&[requested(), void_requested()], settle(Settlement::Voided), Ok(vec![voided(0)]));
    check(&[requested(), void_requested(), voided(0)], settle(approval()), Ok(vec![]));
}

#[test]
fn a_void_of_what_is_not_there_bars_it() {
    check(&[], VOID, Ok(vec![barred()]));
    check(&[barred()], VOID, Ok(vec![]));
    check(&[barred()], authorize(100), Err(PaymentError::Barred(ID)));
    check(&[], PaymentCommand::Void { payment_id: ID, order_id: None }, Err(PaymentError::NotFound));
}

#[test]
fn a_void_names_the_order_that_the_payment_is_for() {
    let other = PaymentCommand::Void { payment_id: ID, order_id: Some(OrderId(Uuid::from_u128(3))) };
    check(&[barred()], other.clone(), Err(PaymentError::OtherOrder(ID, ORDER)));
    check(&[requested()], other, Err(PaymentError::OtherOrder(ID, ORDER)));
}

#[test]
fn refunds_add_up_to_what_was_captured_at_most() {
    let given = [
        requested(),
        authorized(),
        capture_requested(100),
        captured(100),
        refund_requested(1, 70),
        refunded(1, 70),
        refund_requested(2, 30),
    ];
    check(&given[..4], refund(1, 70), Ok(vec![refund_requested(1, 70)]));
    check(&given[..5], settle(Settlement::Refunded { refund_id: refund_id(1) }), Ok(vec![refunded(1, 70)]));
    check(&given[..6], settle(Settlement::Refunded { refund_id: refund_id(1) }), Ok(vec![]));
    check(&given[..6], refund(2, 30), Ok(vec![refund_requested(2, 30)]));
    let left = |left_minor| PaymentError::RefundTooLarge { amount_minor: 31, left_minor, captured_minor: 100 };
    // what is under way counts as much as what is done
    check(&given[..5], refund(2, 31), Err(left(30)));
    check(&given[..6], refund(2, 31), Err(left(30)));
    check(&given, refund(3, 31), Err(left(0)));
}

#[test]
fn a_refund_is_known_by_its_id() {
    let given = [requested(), authorized(), capture_requested(100), captured(100), refund_requested(1, 40)];
    check(&given, refund(1, 40), Ok(vec![]));
    check(&given, refund(1, 41), Err(PaymentError::RefundExists(refund_id(1))));
    check(&given, refund(2, 40), Ok(vec![refund_requested(2, 40)]));
}

#[test]
fn a_refund_that_failed_leaves_its_amount_to_refund() {
    let given = [
        requested(),
        authorized(),
        capture_requested(100),
        captured(100),
        refund_requested(1, 100),
        refund_failed(1, 100),
    ];
    let failed = settle(Settlement::RefundFailed { refund_id: refund_id(1), reason: "no".into() });
    check(&given[..5], failed.clone(), Ok(vec![refund_failed(1, 100)]));
    check(&given, failed, Ok(vec![]));
    check(&given, refund(1, 100), Ok(vec![]));
    check(&given, refund(2, 100), Ok(vec![refund_requested(2, 100)]));
}

#[test]
fn only_what_was_captured_can_be_refunded() {
    check(&[requested(), authorized()], refund(1, 1), Err(PaymentError::NotCaptured(ID, PaymentStatus::Authorized)));
    let taken = [requested(), authorized(), capture_requested(40), captured(40), voided(60)];
    let too_large = PaymentError::RefundTooLarge { amount_minor: 41, left_minor: 40, captured_minor: 40 };
    check(&taken, refund(1, 41), Err(too_large));
    check(&taken, refund(1, 0), Err(PaymentError::AmountZero));
}

#[test]
fn the_number_of_refunds_is_bounded() {
    let mut given = vec![request(1_000).into()];
    given.push(
        PaymentAuthorized {
            payment_id: ID,
            order_id: ORDER,
            amount: usd(1_000),
            gateway_reference: "sim".into(),
            expires_at: at(9),
        }
        .into(),
    );
    given.extend([capture_requested(1_000), captured(1_000)]);
    given.extend((0..100).map(|n| refund_requested(n, 1)));
    check(&given, refund(100, 1), Err(PaymentError::TooManyRefunds(ID)));
    check(&given, refund(99, 1), Ok(vec![]));
}

#[test]
fn a_payment_keeps_its_currency() {
    let euros = Money::new(1, Currency::EUR);
    let other = PaymentError::OtherCurrency(ID, Currency::USD, Currency::EUR);
    let taken = [requested(), authorized(), capture_requested(100), captured(100)];
    check(&taken[..2], PaymentCommand::Capture { amount: Some(euros) }, Err(other.clone()));
    let refund = PaymentCommand::Refund { refund_id: refund_id(1), amount: euros, reason: "broken".into() };
    check(&taken, refund, Err(other));
}

#[test]
fn an_authorization_expires_when_its_time_has_come_and_nothing_is_under_way() {
    let given = [requested(), authorized()];
    check(&given, expire(9), Ok(vec![]));
    check(&given, expire(10), Ok(vec![expired()]));
    check(&[requested(), authorized(), expired()], expire(11), Ok(vec![]));
    check(&[requested(), authorized(), void_requested()], expire(11), Ok(vec![]));
    check(&[requested(), authorized(), capture_requested(1)], expire(11), Ok(vec![]));
    check(&[requested()], expire(11), Ok(vec![]));
    check(&[], expire(11), Err(PaymentError::NotFound));
}

#[test]
fn the_state_survives_its_serialization() {
    let given = [requested(), authorized(), capture_requested(40), captured(40), voided(60), refund_requested(1, 7)];
    let payment = folded(&given);
    let text = serde_json::to_string(&payment).unwrap();
    assert_eq!(serde_json::from_str::<Payment>(&text).unwrap(), payment);
}

fn any_command() -> impl Strategy<Value = PaymentCommand> {
    let id = || (0_u128..3).prop_map(refund_id);
    let settlement = prop_oneof![
        4 => Just(approval()),
        1 => Just(Settlement::Declined { reason: DeclineReason::Declined }),
        1 => Just(Settlement::Unanswered),
        4 => Just(Settlement::Captured),
        1 => Just(Settlement::CaptureFailed { reason: "no".into() }),
        2 => Just(Settlement::Voided),
        3 => id().prop_map(|refund_id| Settlement::Refunded { refund_id }),
        1 => id().prop_map(|refund_id| Settlement::RefundFailed { refund_id, reason: "no".into() }),
    ];
    prop_oneof![
        3 => Just(authorize(100)),
        1 => Just(authorize(99)),
        3 => prop_oneof![Just(None), (0_i64..110).prop_map(Some)]
            .prop_map(|minor| PaymentCommand::Capture { amount: minor.map(usd) }),
        1 => prop_oneof![Just(Some(ORDER)), Just(None)].prop_map(|order_id| PaymentCommand::Void { payment_id: ID, order_id }),
        4 => (0_u128..3, 1_i64..60).prop_map(|(n, minor)| refund(n, minor)),
        12 => settlement.prop_map(settle),
        1 => (9_u32..12).prop_map(expire),
    ]
}

fn any_history() -> impl Strategy<Value = Vec<PaymentCommand>> {
    proptest::collection::vec(any_command(), 0..24)
}

fn after(history: Vec<PaymentCommand>) -> Payment {
    let mut payment = Payment::default();
    for command in history {
        payment.decide(command).into_iter().flatten().for_each(|event| payment.apply(event));
    }
    payment
}

/// What the events say, counted apart from the state.
#[derive(Debug, Default, PartialEq)]
struct Books {
    authorized: i64,
    captured: i64,
    voided: i64,
    expired: i64,
    refunded: i64,
}

impl Books {
    fn note(&mut self, event: &PaymentEvent) {
        match event {
            PaymentEvent::PaymentAuthorized(event) => self.authorized += event.amount.amount_minor,
            PaymentEvent::PaymentCaptured(event) => self.captured += event.amount.amount_minor,
            PaymentEvent::PaymentVoided(event) => self.voided += event.amount.amount_minor,
            PaymentEvent::PaymentExpired(event) => self.expired += event.amount.amount_minor,
            PaymentEvent::PaymentRefunded(event) => self.refunded += event.amount.amount_minor,
            PaymentEvent::AuthorizationRequested(_)
            | PaymentEvent::PaymentDeclined(_)
            | PaymentEvent::CaptureRequested(_)
            | PaymentEvent::CaptureFailed(_)
            | PaymentEvent::VoidRequested(_)
            | PaymentEvent::PaymentBarred(_)
            | PaymentEvent::RefundRequested(_)
            | PaymentEvent::RefundFailed(_) => {}
        }
    }
}

proptest! {
    /// Whatever is asked and answered in whichever order: no money out of nothing, and at rest it adds up.
    #[test]
    fn money_is_conserved(history in any_history()) {
        let (mut payment, mut books) = (Payment::default(), Books::default());
        for command in history {
            for event in payment.decide(command).into_iter().flatten() {
                books.note(&event);
                payment.apply(event);
            }
            let Books { authorized, captured, voided, expired, refunded } = books;
            prop_assert!(captured <= authorized && refunded <= captured && captured + voided + expired <= authorized);
            let Payment::Known(known) = &payment else { continue };
            prop_assert!(known.refundable_minor() >= 0);
            let is_at_rest = !known.voiding && known.capturing_minor.is_none()
                && !matches!(known.status, PaymentStatus::Requested | PaymentStatus::Authorized);
            if is_at_rest {
                prop_assert_eq!(authorized, captured + voided + expired);
            }
            prop_assert_eq!(known.held_minor(), authorized - captured - voided - expired);
        }
    }

    #[test]
    fn the_right_events_are_written_when_due(history in any_history(), command in any_command()) {
        let mut payment = after(history);
        let before = payment.clone();
        let decision = payment.decide(command.clone());
        decision.iter().flatten().cloned().for_each(|event| payment.apply(event));
        let Ok(events) = decision else { return Ok(()) };
        let first = events.first();
        match (&before, &command) {
            (Payment::Absent, PaymentCommand::Authorize(asked)) => {
                prop_assert_eq!(first, Some(&asked.clone().into()));
            }
            (Payment::Absent, PaymentCommand::Void { .. }) => prop_assert_eq!(first, Some(&barred())),
            (Payment::Known(was), PaymentCommand::Capture { .. }) => {
                let Payment::Known(is) = &payment else { unreachable!() };
                prop_assert!(is.capturing_minor.is_some() || is.captured_minor > 0);
                prop_assert_eq!(first.is_some(), was.capturing_minor != is.capturing_minor);
            }
            (Payment::Known(was), PaymentCommand::Void { .. }) => {
                let holds_or_may = matches!(was.status, PaymentStatus::Requested | PaymentStatus::Authorized);
                prop_assert_eq!(first.is_some(), holds_or_may && !was.voiding);
            }
            (Payment::Known(was), PaymentCommand::Refund { refund_id, amount, .. }) => {
                prop_assert_eq!(first.is_none(), was.refunds.contains_key(refund_id));
                prop_assert!(first.is_none() || amount.amount_minor <= was.refundable_minor());
            }
            (Payment::Known(was), PaymentCommand::Expire { now }) if first.is_some() => {
                prop_assert!(was.expires_at.unwrap() <= *now && was.status == PaymentStatus::Authorized);
            }
            (Payment::Known(was), PaymentCommand::Settle(Settlement::Refunded { refund_id })) => {
                let is_open = was.refunds.get(refund_id).is_some_and(|refund| refund.status == RefundStatus::Requested);
                prop_assert_eq!(first.is_some(), is_open);
            }
            (Payment::Known(was), PaymentCommand::Settle(Settlement::Captured | Settlement::CaptureFailed { .. })) => {
                prop_assert_eq!(first.is_some(), was.capturing_minor.is_some());
            }
            (Payment::Known(was), PaymentCommand::Settle(Settlement::Authorized { .. } | Settlement::Declined { .. })) => {
                prop_assert_eq!(first.is_some(), was.status == PaymentStatus::Requested);
            }
            (Payment::Known(was), PaymentCommand::Settle(Settlement::Voided)) => {
                prop_assert_eq!(first.is_some(), was.voiding);
            }
            _ => prop_assert!(first.is_none() || matches!(command, PaymentCommand::Settle(_)), "{:?}", first),
        }
    }

    #[test]
    fn the_same_command_twice_writes_nothing_new(history in any_history(), command in any_command()) {
        let mut payment = after(history);
        let first = payment.decide(command.clone());
        first.iter().flatten().cloned().for_each(|event| payment.apply(event));
        match first {
            Ok(_) => prop_assert_eq!(payment.decide(command), Ok(vec![])),
            Err(refused) => prop_assert_eq!(payment.decide(command), Err(refused)),
        }
    }
}
