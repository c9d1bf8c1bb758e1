use CheckoutStep::{
    Authorize, Capture, Confirm, MarkDelivered, MarkShipped, Refund, Reject, Release, Reserve, Return, Schedule,
    Secure, Ship, Stop, Void,
};
use events::{
    checkout::CheckoutLine,
    ids::{ProductId, RefundId},
    orders::ReturnedLine,
    payments::DeclineReason,
    saga::{Decision, Effect},
};
use uuid::Uuid;

use super::*;
use crate::{
    checkout::case::{CHAI, ORDER, TEA, Told, given, ids, order},
    saga::{Saga, SagaCommand, definition::faults, instance::Status},
};

fn reserved() -> Told {
    given(order()).accepted([Reserve(0), Reserve(1)])
}

fn authorized() -> Told {
    reserved().accepted([Authorize]).fact(CheckoutFact::PaymentAuthorized)
}

fn confirmed() -> Told {
    authorized().accepted([Secure(0), Secure(1), Confirm])
}

fn captured() -> Told {
    confirmed().accepted([Schedule, Capture]).fact(CheckoutFact::PaymentCaptured { amount_minor: 6_030 })
}

fn dispatched() -> Told {
    captured().fact(CheckoutFact::ShipmentDispatched).accepted([Ship(0), Ship(1), MarkShipped])
}

fn delivered() -> Told {
    dispatched().fact(CheckoutFact::ShipmentDelivered).accepted([MarkDelivered])
}

fn returned(product_id: ProductId, quantity: u32) -> CheckoutFact {
    CheckoutFact::OrderReturned { lines: vec![ReturnedLine { product_id, quantity }], complete: false }
}

fn all_returned() -> CheckoutFact {
    let lines = vec![ReturnedLine { product_id: CHAI, quantity: 2 }, ReturnedLine { product_id: TEA, quantity: 3 }];
    CheckoutFact::OrderReturned { lines, complete: true }
}

fn refunded(told: &Told, amount_minor: i64) -> CheckoutFact {
    let state = &told.instance().state;
    CheckoutFact::PaymentRefunded { refund_id: state.money.refund_id(state.saga_id), amount_minor }
}

#[test]
fn every_compensable_step_has_an_undo_that_cannot_be_refused_for_good() {
    assert_eq!(faults::<Checkout>(CheckoutStep::each(0)), Vec::<String>::new());
}

#[test]
fn what_is_asked_for_before_the_pivot_can_be_undone_and_what_comes_after_it_is_done() {
    let told = [given(order()), reserved(), authorized()];
    let before = told.iter().flat_map(|told| told.instance().steps.keys().copied());
    for step in before {
        assert!(matches!(Checkout::kind(step), Kind::Compensable { .. }), "{step} comes before the pivot");
    }
    assert_eq!(Checkout::kind(Confirm), Kind::Pivot);
    let until_confirmed: Vec<_> = confirmed().instance().steps.keys().copied().collect();
    let called_off = captured().fact(all_returned());
    let kept = captured().fact(CheckoutFact::ShipmentCancelled);
    let ways = [delivered(), delivered().fact(all_returned()), called_off, kept, confirmed().fact(all_returned())];
    let after = ways.iter().flat_map(|told| told.instance().steps.keys().copied());
    for step in after.filter(|step| *step == Schedule || !until_confirmed.contains(step)) {
        assert_eq!(Checkout::kind(step), Kind::Retriable, "{step} comes after the pivot");
    }
}

#[test]
fn pieces_outlive_the_longest_way_to_the_pivot() {
    assert!(HOLD >= 2 * Checkout::DEADLINE);
}

#[test]
fn an_order_that_goes_well_is_asked_for_step_by_step() {
    given(order())
        .is(Phase::AwaitingStock)
        .asks([Reserve(0), Reserve(1)])
        .accepted([Reserve(1)])
        .asks([])
        .accepted([Reserve(0)])
        .is(Phase::AwaitingAuthorization)
        .asks([Authorize])
        .accepted([Authorize])
        .asks([])
        .fact(CheckoutFact::PaymentAuthorized)
        .is(Phase::AwaitingHold)
        .asks([Secure(0), Secure(1)])
        .accepted([Secure(0), Secure(1)])
        .is(Phase::AwaitingConfirmation)
        .asks([Confirm])
        .accepted([Confirm])
        .is(Phase::AwaitingSchedule)
        .asks([Schedule])
        .accepted([Schedule])
        .is(Phase::AwaitingCapture)
        .asks([Capture])
        .accepted([Capture])
        .asks([])
        .fact(CheckoutFact::PaymentCaptured { amount_minor: 6_030 })
        .is(Phase::AwaitingDispatch)
        .fact(CheckoutFact::ShipmentDispatched)
        .is(Phase::AwaitingDelivery)
        .asks([Ship(0), Ship(1), MarkShipped])
        .accepted([Ship(0), Ship(1), MarkShipped])
        .fact(CheckoutFact::ShipmentDelivered)
        .is(Phase::Closing)
        .asks([MarkDelivered])
        .accepted([MarkDelivered])
        .is(Phase::Completed)
        .ends(Outcome::Completed);
}

#[test]
fn what_is_asked_for_names_the_order_and_ids_that_follow_from_it() {
    let saga_id = saga_id(CHECKOUT, &ORDER.to_string());
    let (_, reserve) = given(order()).asked.swap_remove(1);
    assert_eq!(reserve.path, format!("/stock/{TEA}/reserve"));
    assert_eq!(reserve.body, json!({ "order_id": ORDER, "line": 1, "quantity": 3, "hold_seconds": 1_800 }));
    let (_, authorize) = reserved().asked.swap_remove(0);
    let payment_id = CheckoutState::payment_id(saga_id);
    let amount = json!({ "amount_minor": 6_030, "currency": "USD" });
    let body = json!({ "id": payment_id, "order_id": ORDER, "amount": amount, "method": "pm_approve" });
    assert_eq!((authorize.path.as_str(), authorize.body), ("/payments", body));
    let (_, refund) = delivered().fact(returned(TEA, 1)).asked.swap_remove(0);
    assert_eq!(refund.path, format!("/payments/{payment_id}/refund"));
    assert!(refund.any_version, "whatever became of the payment meanwhile");
    assert_eq!(refund.body["id"], json!(Uuid::new_v5(&saga_id, b"refund/0")));
}

#[test]
fn one_line_that_finds_too_few_pieces_calls_all_of_it_off() {
    given(order())
        .accepted([Reserve(0)])
        .rejected(1)
        .is(Phase::Compensating)
        .asks([Release(0)])
        .accepted([Release(0)])
        .asks([Reject])
        .accepted([Reject])
        .compensated(Setback::OutOfStock);
}

#[test]
fn a_line_that_is_not_answered_yet_is_released_all_the_same() {
    let told = given(order()).rejected(0).asks([Release(1)]);
    assert_eq!(told.instance().steps[&Reserve(1)].status, Status::Closed, "it is not sent any more");
    told.accepted([Release(1), Reject]).compensated(Setback::OutOfStock);
}

#[test]
fn a_payment_that_is_declined_releases_the_pieces_and_needs_no_void() {
    for (reason, setback) in [
        (DeclineReason::Declined, Setback::PaymentDeclined),
        (DeclineReason::InsufficientFunds, Setback::PaymentDeclined),
        (DeclineReason::GatewayTimeout, Setback::PaymentUnanswered),
    ] {
        reserved()
            .accepted([Authorize])
            .fact(CheckoutFact::PaymentDeclined { reason })
            .asks([Release(0), Release(1)])
            .accepted([Release(0), Release(1), Reject])
            .compensated(setback);
    }
}

#[test]
fn the_gateways_word_may_come_before_the_answer_that_it_was_asked() {
    reserved().fact(CheckoutFact::PaymentAuthorized).asks([Secure(0), Secure(1)]).accepted([Authorize]).asks([]);
}

#[test]
fn pieces_that_ran_out_before_they_were_secured_undo_the_authorization() {
    let undone = |told: Told| {
        told.is(Phase::Compensating)
            .accepted([Void])
            .fact(CheckoutFact::PaymentVoided)
            .accepted([Reject])
            .compensated(Setback::ReservationLost);
    };
    undone(
        authorized()
            .refused(Secure(0), "reservation_closed")
            .asks([Void, Release(0), Release(1)])
            .accepted([Release(0), Release(1)]),
    );
    undone(
        authorized()
            .fact(CheckoutFact::ReservationExpired { line: 1 })
            .asks([Void, Release(0), Release(1)])
            .accepted([Release(0), Release(1)]),
    );
}

#[test]
fn an_authorization_that_is_gone_before_the_pivot_undoes_the_rest() {
    for gone in [CheckoutFact::PaymentExpired, CheckoutFact::PaymentVoided] {
        authorized()
            .fact(gone)
            .asks([Release(0), Release(1)])
            .accepted([Release(0), Release(1), Reject])
            .compensated(Setback::AuthorizationLost);
    }
}

#[test]
fn who_cancels_before_the_pivot_has_everything_undone_and_is_told_nothing_more() {
    authorized()
        .fact(CheckoutFact::OrderCancelled { rejected: false })
        .asks([Void, Release(0), Release(1)])
        .accepted([Void, Release(0), Release(1)])
        .fact(CheckoutFact::PaymentVoided)
        .asks([])
        .compensated(Setback::CustomerCancelled);
}

#[test]
fn a_deadline_before_the_pivot_undoes_also_what_was_never_answered() {
    reserved()
        .deadline()
        .asks([Void, Release(0), Release(1)])
        .accepted([Void])
        .fact(CheckoutFact::PaymentVoided)
        .accepted([Release(0), Release(1), Reject])
        .compensated(Setback::DeadlinePassed);
}

#[test]
fn a_pivot_that_was_asked_for_is_waited_for_whatever_happens() {
    let asked = || authorized().accepted([Secure(0), Secure(1)]);
    asked().deadline().asks([]).is(Phase::AwaitingConfirmation).accepted([Confirm]).asks([Schedule]);
    asked()
        .fact(CheckoutFact::OrderCancelled { rejected: false })
        .asks([])
        .is(Phase::AwaitingConfirmation)
        .refused(Confirm, "order_cancelled")
        .asks([Void, Release(0), Release(1)])
        .accepted([Void, Release(0), Release(1)])
        .fact(CheckoutFact::PaymentVoided)
        .compensated(Setback::CustomerCancelled);
}

#[test]
fn a_return_that_is_heard_of_first_says_that_the_order_is_confirmed() {
    authorized()
        .accepted([Secure(0), Secure(1)])
        .fact(all_returned())
        .asks([Void, Release(0), Release(1)])
        .accepted([Confirm])
        .asks([])
        .accepted([Void, Release(0), Release(1)])
        .fact(CheckoutFact::PaymentVoided)
        .ends(Outcome::Completed);
}

#[test]
fn an_order_that_costs_nothing_asks_for_no_money() {
    let mut free = order();
    free.lines.iter_mut().for_each(|line| line.discount_bp = 10_000);
    given(free)
        .accepted([Reserve(0), Reserve(1)])
        .asks([Secure(0), Secure(1)])
        .accepted([Secure(0), Secure(1), Confirm, Schedule])
        .is(Phase::AwaitingDispatch)
        .fact(CheckoutFact::ShipmentDispatched)
        .fact(CheckoutFact::ShipmentDelivered)
        .accepted([Ship(0), Ship(1), MarkShipped, MarkDelivered])
        .ends(Outcome::Completed);
}

#[test]
fn who_cancels_after_the_pivot_gets_it_all_back_as_long_as_it_has_not_left() {
    let told = captured().fact(all_returned()).is(Phase::CallingOff).asks([Stop, Refund(0)]);
    assert_eq!(told.asked_amount(Refund(0)), 6_030);
    let told = told.accepted([Stop]).asks([Release(0), Release(1)]).accepted([Release(0), Release(1), Refund(0)]);
    let paid_back = refunded(&told, 6_030);
    told.fact(paid_back).ends(Outcome::Completed);
}

#[test]
fn what_is_not_captured_yet_is_voided_instead() {
    confirmed()
        .fact(all_returned())
        .asks([Void])
        .accepted([Schedule])
        .asks([Stop])
        .accepted([Stop, Void])
        .fact(CheckoutFact::PaymentVoided)
        .accepted([Release(0), Release(1)])
        .ends(Outcome::Completed);
}

#[test]
fn a_capture_under_way_is_waited_for_and_paid_back() {
    let told = confirmed().accepted([Schedule]).fact(all_returned()).asks([Stop]).accepted([Stop, Capture]);
    let told = told.fact(CheckoutFact::PaymentCaptured { amount_minor: 6_030 }).asks([Refund(0)]);
    assert_eq!(told.asked_amount(Refund(0)), 6_030);
}

#[test]
fn a_shipment_that_has_left_goes_on_and_comes_back_as_a_return() {
    let told = captured()
        .fact(all_returned())
        .refused(Stop, "shipment_already_dispatched")
        .asks([Stop])
        .fact(CheckoutFact::ShipmentDispatched)
        .asks([Ship(0), Ship(1), MarkShipped])
        .refused(Stop, "shipment_already_dispatched")
        .asks([])
        .accepted([Ship(0), Ship(1), MarkShipped, Refund(0)]);
    let paid_back = refunded(&told, 6_030);
    told.fact(paid_back)
        .is(Phase::AwaitingDelivery)
        .fact(CheckoutFact::ShipmentDelivered)
        .asks([])
        .ends(Outcome::Completed);
}

#[test]
fn a_part_that_comes_back_wakes_a_completed_checkout_up_for_its_price() {
    let told = delivered().ends(Outcome::Completed).fact(returned(TEA, 1)).is(Phase::Closing).asks([Refund(0)]);
    // three cost 24.30, two 16.20
    assert_eq!(told.asked_amount(Refund(0)), 810);
    let told = told.accepted([Refund(0)]);
    let paid_back = refunded(&told, 810);
    let told = told.fact(paid_back).ends(Outcome::Completed).fact(all_returned()).asks([Refund(1)]);
    assert_eq!(told.asked_amount(Refund(1)), 6_030 - 810);
}

#[test]
fn of_a_part_that_comes_back_before_the_capture_nothing_is_taken() {
    let told = confirmed().fact(CheckoutFact::ShipmentDispatched);
    assert_eq!(told.asked_amount(Capture), 6_030);
    let told = authorized().accepted([Secure(0), Secure(1)]).fact(CheckoutFact::ShipmentDispatched);
    let told = told.fact(returned(CHAI, 1));
    assert_eq!(told.asked_amount(Capture), 6_030 - 1_800);
}

#[test]
fn one_refund_follows_the_other() {
    let told = delivered().fact(returned(TEA, 1)).asks([Refund(0)]).fact(returned(CHAI, 1)).asks([]);
    let told = told.accepted([Refund(0)]);
    let paid_back = refunded(&told, 810);
    let told = told.fact(paid_back).asks([Refund(1)]);
    assert_eq!(told.asked_amount(Refund(1)), 1_800);
}

#[test]
fn a_parcel_that_is_lost_is_paid_back_as_a_whole() {
    let told = dispatched().fact(CheckoutFact::ShipmentLost).asks([Refund(0)]);
    assert_eq!(told.asked_amount(Refund(0)), 6_030);
    let told = told.accepted([Refund(0)]);
    let paid_back = refunded(&told, 6_030);
    told.fact(paid_back).ends(Outcome::Completed);
}

#[test]
fn a_shipment_that_staff_cancelled_calls_the_order_off() {
    captured().fact(CheckoutFact::ShipmentCancelled).is(Phase::CallingOff).asks([
        Refund(0),
        Release(0),
        Release(1),
        Return,
    ]);
}

#[test]
fn a_capture_that_fails_keeps_the_goods_here() {
    confirmed()
        .accepted([Schedule, Capture])
        .fact(CheckoutFact::CaptureFailed)
        .is(Phase::CallingOff)
        .asks([Stop, Void])
        .accepted([Stop])
        .asks([Release(0), Release(1), Return])
        .accepted([Release(0), Release(1), Return, Void])
        .fact(CheckoutFact::PaymentVoided)
        .ends(Outcome::Completed);
}

#[test]
fn goods_that_left_before_the_capture_failed_are_written_off() {
    confirmed()
        .accepted([Schedule, Capture])
        .fact(CheckoutFact::ShipmentDispatched)
        .fact(CheckoutFact::CaptureFailed)
        .asks([Void])
        .accepted([Void, Ship(0), Ship(1), MarkShipped])
        .fact(CheckoutFact::PaymentVoided)
        .fact(CheckoutFact::ShipmentDelivered)
        .accepted([MarkDelivered])
        .ends(Outcome::Completed);
}

#[test]
fn an_authorization_that_runs_out_before_the_capture_calls_the_order_off() {
    let told = confirmed().accepted([Schedule]).refused(Capture, "payment_not_authorized").asks([Capture]);
    // it waits for its next turn, and has none then
    let told = told.fact(CheckoutFact::PaymentExpired).asks([Stop]).refused(Capture, "payment_not_authorized");
    told.asks([]).accepted([Stop, Release(0), Release(1), Return]).ends(Outcome::Completed);
}

#[test]
fn a_refund_by_others_is_goodwill_as_long_as_enough_is_left() {
    let by_staff = |amount_minor| CheckoutFact::PaymentRefunded { refund_id: RefundId(Uuid::nil()), amount_minor };
    let told = delivered().fact(by_staff(500)).asks([]).ends(Outcome::Completed).fact(returned(TEA, 1));
    assert_eq!(told.asked_amount(Refund(0)), 810, "what they were given is theirs");
    let told = delivered().fact(by_staff(5_530)).fact(all_returned());
    assert_eq!(told.asked_amount(Refund(0)), 500, "nobody gets back more than they paid");
    delivered().fact(by_staff(6_030)).fact(all_returned()).asks([]).ends(Outcome::Completed);
}

#[test]
fn a_refund_that_others_overtook_is_not_asked_for_again() {
    let all_by_staff = CheckoutFact::PaymentRefunded { refund_id: RefundId(Uuid::nil()), amount_minor: 6_030 };
    delivered()
        .fact(all_returned())
        .fact(all_by_staff)
        .refused(Refund(0), "refund_too_large")
        .asks([])
        .ends(Outcome::Completed);
}

#[test]
fn a_refund_that_the_gateway_refuses_is_asked_for_again_as_another_one() {
    let told = delivered().fact(all_returned()).accepted([Refund(0)]);
    let state = &told.instance().state;
    let refund_id = state.money.refund_id(state.saga_id);
    let told = told.fact(CheckoutFact::RefundFailed { refund_id }).asks([Refund(0)]);
    assert_ne!(told.asked[0].1.body["id"], json!(refund_id));
    assert_eq!(told.instance().steps[&Refund(0)].refusal.as_deref(), Some("refund_failed"));
    let told = told.accepted([Refund(0)]);
    let paid_back = refunded(&told, 6_030);
    told.fact(paid_back).ends(Outcome::Completed);
}

#[test]
fn what_an_operator_sees_to_is_not_waited_for() {
    delivered().fact(all_returned()).decided(Refund(0), Decision::Force).ends(Outcome::Completed);
    delivered().fact(all_returned()).decided(Refund(0), Decision::Skip).ends(Outcome::Completed);
    let told = reserved().deadline().decided(Void, Decision::Skip).accepted([Release(0), Release(1), Reject]);
    told.compensated(Setback::DeadlinePassed);
    let told = confirmed().accepted([Schedule]).decided(Capture, Decision::Force).is(Phase::AwaitingDispatch);
    told.fact(CheckoutFact::ShipmentDispatched)
        .accepted([Ship(0), MarkShipped])
        .decided(Ship(1), Decision::Skip)
        .fact(CheckoutFact::ShipmentDelivered)
        .accepted([MarkDelivered])
        .ends(Outcome::Completed);
    let told = given(order()).accepted([Reserve(0)]).decided(Reserve(1), Decision::Skip);
    told.is(Phase::AwaitingAuthorization);
}

#[test]
fn an_operators_word_takes_nothing_back_that_the_gateway_has_said() {
    // the answers are lost, what came of them is known, and then somebody ends the steps by hand
    for word in [Decision::Force, Decision::Skip] {
        let told = reserved().fact(CheckoutFact::PaymentAuthorized).decided(Authorize, word);
        let told = told.accepted([Secure(0), Secure(1), Confirm, Schedule]).asks([Capture]);
        let told = told.fact(CheckoutFact::PaymentCaptured { amount_minor: 6_030 }).decided(Capture, word);
        let told = told.fact(all_returned()).asks([Stop, Refund(0)]);
        assert_eq!(told.asked_amount(Refund(0)), 6_030);
    }
}

#[test]
fn who_ends_an_old_refund_by_hand_ends_no_new_one() {
    let told = delivered().fact(returned(TEA, 1));
    let paid_back = refunded(&told, 810);
    let told = told.fact(paid_back).fact(returned(CHAI, 1)).asks([Refund(1)]).decided(Refund(0), Decision::Force);
    let paid_back = refunded(&told, 1_800);
    let told = told.accepted([Refund(1)]).fact(paid_back).ends(Outcome::Completed).fact(all_returned());
    assert_eq!(told.asked_amount(Refund(2)), 6_030 - 810 - 1_800);
}

#[test]
fn a_schedule_that_an_operator_skips_is_stopped_in_case_it_was_planned() {
    let told = confirmed().decided(Schedule, Decision::Skip).is(Phase::CallingOff);
    let open: Vec<CheckoutStep> = told.instance().open().map(|(step, _)| step).collect();
    assert_eq!(open, [Void, Stop]);
    // it was, and has left: nothing is taken back into a stock that it is not in
    told.refused(Stop, "shipment_already_dispatched").fact(CheckoutFact::ShipmentDispatched).asks([
        Ship(0),
        Ship(1),
        MarkShipped,
    ]);
    confirmed()
        .decided(Schedule, Decision::Skip)
        .accepted([Stop])
        .asks([Release(0), Release(1), Return])
        .accepted([Void, Release(0), Release(1), Return])
        .fact(CheckoutFact::PaymentVoided)
        .ends(Outcome::Completed);
}

#[test]
fn an_order_that_was_confirmed_although_that_was_skipped_is_given_back_and_its_parcel_kept() {
    let undone = || {
        let skipped = authorized().accepted([Secure(0), Secure(1)]).decided(Confirm, Decision::Skip);
        skipped.accepted([Void, Release(0), Release(1)]).fact(CheckoutFact::PaymentVoided).asks([Reject])
    };
    // confirmed it was: so it is no cancellation but a return, of which it hears before or after the answer
    undone().accepted([Reject]).fact(all_returned()).asks([Stop]).accepted([Stop]).compensated(Setback::Refused);
    undone().fact(all_returned()).asks([Stop]).accepted([Reject, Stop]).compensated(Setback::Refused);
    let told = undone().fact(all_returned()).accepted([Reject]).is(Phase::Compensating);
    told.decided(Stop, Decision::Skip).compensated(Setback::Refused);
}

#[test]
fn every_step_that_is_refused_before_the_pivot_ends_in_nothing() {
    let undone = |told: Told, asks: &[CheckoutStep]| {
        let told = told.is(Phase::Compensating).accepted(asks.iter().copied());
        let told = if asks.contains(&Void) { told.fact(CheckoutFact::PaymentVoided) } else { told };
        told.accepted([Reject]).compensated(Setback::Refused);
    };
    undone(given(order()).refused(Reserve(0), "reservation_exists"), &[Release(0), Release(1)]);
    undone(reserved().refused(Authorize, "payment_exists"), &[Void, Release(0), Release(1)]);
    let confirming = authorized().accepted([Secure(0), Secure(1)]);
    undone(confirming.refused(Confirm, "order_not_found"), &[Void, Release(0), Release(1)]);
}

#[test]
fn many_lines_are_asked_for_some_at_a_time() {
    let mut large = order();
    large.lines = (0..200)
        .map(|n| CheckoutLine { product_id: ProductId(Uuid::from_u128(n)), quantity: 1, unit_minor: 1, discount_bp: 0 })
        .collect();
    let mut told = given(large);
    assert_eq!(told.asked.len(), 64);
    for line in 0..200 {
        told = told.accepted([Reserve(line)]);
        assert!(told.instance().open().count() <= 64);
    }
    told.is(Phase::AwaitingAuthorization).asks([Authorize]);
}

#[test]
fn only_an_order_that_was_placed_begins_a_checkout() {
    for fact in [all_returned(), CheckoutFact::OrderCancelled { rejected: false }, CheckoutFact::ShipmentDispatched] {
        assert_eq!(Checkout::begin(1, &ids(), &fact), None);
    }
}

#[test]
fn what_goes_out_is_written_down_with_the_event() {
    let events = Saga::<Checkout>::Absent
        .decide(SagaCommand::Observe {
            ids: ids(),
            fact: CheckoutFact::OrderPlaced(order()),
            at: chrono::DateTime::UNIX_EPOCH,
            deadline_at: chrono::DateTime::UNIX_EPOCH,
        })
        .unwrap();
    let [events::saga::SagaEvent::Started(started)] = &events[..] else { panic!("{events:?}") };
    let asks = started.effects.iter().filter(|effect| matches!(effect, Effect::Ask { .. }));
    assert_eq!(asks.count(), 2);
}
