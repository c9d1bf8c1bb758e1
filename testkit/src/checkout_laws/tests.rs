use events::{checkout::CHECKOUT, ids::OrderId};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

const ORDER: &str = "0198c0de-0000-7000-8000-0000000000a1";
const CUSTOMER: &str = "0198c0de-0000-7000-8000-0000000000a2";
const CHAI: &str = "0198c0de-0000-7000-8000-0000000000a3";
const NOTIFICATION: &str = "0198c0de-0000-7000-8000-0000000000a4";
const AT: &str = "2026-05-01T12:00:00Z";
const EXPIRES_AT: &str = "2026-05-01T12:30:00Z";

/// Two chai at 10.00.
const PRICE: i64 = 2_000;

fn saga_id() -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, CHECKOUT.as_bytes())
}

fn payment_id() -> Uuid {
    Uuid::new_v5(&saga_id(), b"payment")
}

fn dollars(amount_minor: i64) -> Value {
    json!({ "amount_minor": amount_minor, "currency": "USD" })
}

/// What happened, as it was published.
#[derive(Clone)]
struct Story(Vec<(&'static str, &'static str, Value)>);

impl Story {
    fn begins() -> Self {
        Self(Vec::new())
    }

    /// Then this happens, about the one order there is.
    fn then(mut self, event_type: &'static str, more: Value) -> Self {
        let (source, about) = match event_type {
            "StockReceived" | "StockAdjusted" => ("inventory", json!({ "product_id": CHAI })),
            text if text.starts_with("Stock") || text.starts_with("Reservation") => {
                ("inventory", json!({ "product_id": CHAI, "order_id": ORDER, "line": 0, "quantity": 2 }))
            }
            text if text.starts_with("Order") => ("orders", json!({ "order_id": ORDER, "customer_id": CUSTOMER })),
            text if text.starts_with("Shipment") => {
                ("shipping", json!({ "shipment_id": Uuid::new_v5(&saga_id(), b"shipment"), "order_id": ORDER }))
            }
            text if text.starts_with("Checkout") => {
                ("checkout", json!({ "saga_id": saga_id(), "order_id": ORDER, "at": AT }))
            }
            text if text.starts_with("Notification") => {
                let ids = json!({ "notification_id": NOTIFICATION, "order_id": ORDER, "user_id": CUSTOMER });
                ("notifications", ids)
            }
            _ => ("payments", json!({ "payment_id": payment_id(), "order_id": ORDER, "amount": dollars(PRICE) })),
        };
        let mut event = about;
        event["type"] = json!(event_type);
        let (members, more) = (event.as_object_mut().unwrap(), more.as_object().unwrap().clone());
        members.extend(more);
        self.0.push((source, event_type, event));
        self
    }

    fn placed(self) -> Self {
        let line = json!({
            "product_id": CHAI, "product_name": "Chai", "quantity": 2, "unit_price": dollars(PRICE / 2),
        });
        self.then("OrderPlaced", json!({ "lines": [line], "placed_at": AT }))
            .then(
                "CheckoutStarted",
                json!({
                    "version": 1, "deadline_at": AT, "fact": { "type": "PaymentAuthorized" },
                    "phase": "AWAITING_STOCK", "effects": [],
                }),
            )
            .then("StockReceived", json!({ "quantity": 5 }))
    }

    fn reserved(self) -> Self {
        self.placed().then("StockReserved", json!({ "expires_at": EXPIRES_AT }))
    }

    fn authorized(self) -> Self {
        self.reserved()
            .then("AuthorizationRequested", json!({ "payment_method": "pm_approve", "requested_at": AT }))
            .then("PaymentAuthorized", json!({ "gateway_reference": "sim-1", "expires_at": AT }))
            .then("ReservationConfirmed", json!({}))
    }

    fn captured(self) -> Self {
        self.authorized()
            .then("OrderConfirmed", json!({}))
            .then(
                "ShipmentScheduled",
                json!({
                    "customer_id": CUSTOMER, "lines": [{ "product_id": CHAI, "quantity": 2 }],
                    "address": { "personal_of": CUSTOMER, "value": null },
                }),
            )
            .then("CaptureRequested", json!({}))
            .then("PaymentCaptured", json!({}))
    }

    fn shipped(self) -> Self {
        self.captured()
            .then("ShipmentDispatched", json!({ "carrier": "c", "tracking": "t", "dispatched_at": AT }))
            .then("StockShipped", json!({}))
            .then("OrderShipped", json!({ "shipped_at": AT }))
    }

    fn delivered(self) -> Self {
        self.shipped()
            .then("ShipmentDelivered", json!({ "delivered_at": AT }))
            .then("OrderDelivered", json!({ "delivered_at": AT }))
            .completed()
    }

    fn advanced(self, phase: &str) -> Self {
        let input = json!({ "observed": { "fact": { "type": "ShipmentDelivered" } } });
        self.then("CheckoutAdvanced", json!({ "input": input, "phase": phase }))
    }

    fn completed(self) -> Self {
        self.advanced("COMPLETED").then("CheckoutCompleted", json!({}))
    }

    fn compensated(self) -> Self {
        self.then("OrderCancelled", json!({ "reason": "declined", "rejected": true }))
            .advanced("COMPENSATED")
            .then("CheckoutCompensated", json!({ "reason": "PAYMENT_DECLINED" }))
    }

    /// The saga asks for a refund of its own, and it is made.
    fn refunded(self, amount_minor: i64) -> Self {
        let refund_id = Uuid::new_v5(&saga_id(), b"refund/0");
        let request = json!({ "service": "payments", "path": "/payments/x/refund", "body": { "id": refund_id } });
        let input = json!({ "observed": { "fact": { "type": "ShipmentLost" } } });
        let effects = json!([{ "step": "refund/0", "request": request }]);
        self.then("CheckoutAdvanced", json!({ "input": input, "phase": "CLOSING", "effects": effects }))
            .paid_back(refund_id, amount_minor)
    }

    fn paid_back(self, refund_id: Uuid, amount_minor: i64) -> Self {
        let refund = json!({ "refund_id": refund_id, "amount": dollars(amount_minor), "reason": "goods came back" });
        self.then("RefundRequested", refund.clone()).then("PaymentRefunded", refund)
    }

    /// Without what happened of this type.
    fn without(mut self, event_type: &str) -> Self {
        let before = self.0.len();
        self.0.retain(|(_, published, _)| *published != event_type);
        assert!(self.0.len() < before, "{event_type} never happened");
        self
    }

    /// What happened of this type was otherwise.
    fn but(mut self, event_type: &str, member: &str, value: Value) -> Self {
        let (_, _, event) = self.0.iter_mut().find(|(_, published, _)| *published == event_type).unwrap();
        event[member] = value;
        self
    }

    fn books(&self) -> Books {
        let mut books = Books::default();
        for (source, event_type, event) in &self.0 {
            let version = if *event_type == "ShipmentScheduled" { "2" } else { "1" };
            books.read(source, event_type, version, &event.to_string()).unwrap();
        }
        books
    }
}

/// The laws that a story breaks, each once.
#[track_caller]
fn check(story: Story, broken: &[Law]) {
    let order_id: OrderId = ORDER.parse().unwrap();
    let breaches = story.books().at_rest(&BTreeSet::from([order_id]));
    let laws: BTreeSet<Law> = breaches.iter().map(|breach| breach.law).collect();
    let texts: Vec<String> = breaches.iter().map(ToString::to_string).collect();
    assert_eq!(laws, broken.iter().copied().collect(), "{texts:#?}");
}

#[test]
fn an_order_that_is_whole_or_undone_breaks_no_law() {
    check(Story::begins().delivered(), &[]);
    let declined = Story::begins()
        .reserved()
        .then("AuthorizationRequested", json!({ "payment_method": "pm_decline", "requested_at": AT }))
        .then("PaymentDeclined", json!({ "reason": "DECLINED" }))
        .then("StockReleased", json!({}));
    check(declined.compensated(), &[]);
    let voided = Story::begins().authorized().then("VoidRequested", json!({})).then("PaymentVoided", json!({}));
    check(voided.then("StockReleased", json!({})).compensated(), &[]);
    let expired = Story::begins().reserved().then("ReservationExpired", json!({}));
    check(expired.compensated(), &[]);
}

#[test]
fn goods_that_come_back_or_are_lost_are_paid_back() {
    let one = json!([{ "product_id": CHAI, "quantity": 1 }]);
    let returned = Story::begins().delivered().then("OrderReturned", json!({ "lines": one, "complete": false }));
    check(returned.clone(), &[Law::PaidIsThePrice]);
    check(returned.clone().refunded(PRICE / 2), &[Law::EverySagaEnds]);
    check(returned.refunded(PRICE / 2).completed(), &[]);
    let lost = Story::begins().shipped().then("ShipmentLost", json!({ "reason": "the lorry is gone" }));
    check(lost.clone().completed(), &[Law::PaidIsThePrice]);
    check(lost.refunded(PRICE).completed(), &[]);
}

#[test]
fn what_others_pay_back_is_goodwill() {
    let goodwill = Story::begins().delivered().paid_back(Uuid::from_u128(1), 500);
    check(goodwill.clone(), &[]);
    let all = json!([{ "product_id": CHAI, "quantity": 2 }]);
    let returned = goodwill.then("OrderReturned", json!({ "lines": all, "complete": true }));
    check(returned.clone().refunded(PRICE - 500).completed(), &[]);
    check(returned.refunded(PRICE - 600).completed(), &[Law::PaidIsThePrice]);
}

#[test]
fn pieces_that_are_held_released_or_shipped_wrongly_are_seen() {
    check(
        Story::begins().delivered().but("StockShipped", "quantity", json!(1)),
        &[Law::ReservedAddsUp, Law::PaidIsThePrice],
    );
    let released_too = Story::begins().delivered().then("StockReleased", json!({}));
    check(released_too, &[Law::ReservedAddsUp]);
    check(Story::begins().delivered().without("StockShipped"), &[Law::NothingIsHeld, Law::PaidIsThePrice]);
    let confirmed_late = Story::begins().delivered().then("ReservationConfirmed", json!({}));
    check(confirmed_late, &[Law::ReservedAddsUp]);
    let twice = Story::begins().delivered().then("StockReserved", json!({ "expires_at": EXPIRES_AT }));
    check(twice.then("StockReleased", json!({})), &[Law::NothingTwice]);
}

#[test]
fn more_pieces_than_there_are_is_seen() {
    check(Story::begins().delivered().but("StockReceived", "quantity", json!(1)), &[Law::StockIsThere]);
    let adjusted = Story::begins().delivered().then("StockAdjusted", json!({ "quantity": -4, "reason": "counted" }));
    check(adjusted, &[Law::StockIsThere]);
}

#[test]
fn money_that_is_held_taken_or_paid_back_wrongly_is_seen() {
    let story = Story::begins().delivered();
    let twice = story.clone().then("CaptureRequested", json!({})).then("PaymentCaptured", json!({}));
    check(twice, &[Law::AuthorizedAddsUp, Law::NothingIsHeld, Law::NothingTwice, Law::PaidIsThePrice]);
    check(story.clone().but("PaymentCaptured", "amount", dollars(500)), &[Law::NothingIsHeld, Law::PaidIsThePrice]);
    check(story.clone().without("PaymentCaptured"), &[Law::NothingIsHeld, Law::PaidIsThePrice]);
    check(story.clone().then("VoidRequested", json!({})), &[Law::NothingIsHeld]);
    let too_much = story.clone().refunded(PRICE + 1).completed();
    check(too_much, &[Law::AuthorizedAddsUp, Law::PaidIsThePrice]);
    let unasked = story.paid_back(Uuid::from_u128(1), 500).without("RefundRequested");
    check(unasked, &[Law::NothingTwice]);
}

#[test]
fn a_saga_without_an_end_is_seen() {
    let open = Story::begins().delivered().without("CheckoutCompleted");
    assert_eq!(open.books().under_way().len(), 1);
    check(open, &[Law::EverySagaEnds]);
    let woken = Story::begins().delivered().advanced("CLOSING");
    assert_eq!(woken.books().under_way().len(), 1);
    check(woken.clone(), &[Law::EverySagaEnds]);
    assert!(woken.completed().books().under_way().is_empty());
    // what changes nothing about the end needs no other one
    check(Story::begins().delivered().advanced("COMPLETED"), &[]);
}

#[test]
fn an_order_that_ends_otherwise_than_its_saga_is_seen() {
    check(Story::begins().delivered().without("OrderDelivered"), &[Law::EndsAgree]);
    let released = Story::begins().reserved().then("StockReleased", json!({})).compensated();
    check(released.clone().without("OrderCancelled"), &[Law::EndsAgree]);
    check(released.then("OrderConfirmed", json!({})), &[Law::EndsAgree]);
}

#[test]
fn an_order_that_is_missing_or_has_no_saga_or_two_is_seen() {
    check(Story::begins(), &[Law::AcknowledgedIsThere]);
    let story = Story::begins().delivered();
    check(story.clone().without("OrderPlaced"), &[Law::AcknowledgedIsThere, Law::EndsAgree, Law::OneSagaEach]);
    let alone = story.clone().without("CheckoutStarted").without("CheckoutAdvanced").without("CheckoutCompleted");
    assert_eq!(alone.books().under_way().len(), 1);
    check(alone, &[Law::OneSagaEach]);
    let started = story.0.iter().find(|(_, event_type, _)| *event_type == "CheckoutStarted").unwrap().2.clone();
    let again = story.clone().then("CheckoutStarted", started).completed();
    check(again, &[Law::OneSagaEach]);
    let placed = story.0[0].2.clone();
    check(Story::begins().placed().then("OrderPlaced", placed), &[Law::EverySagaEnds, Law::NothingTwice]);
}

#[test]
fn what_happens_twice_is_seen() {
    for (event_type, more) in [
        ("OrderConfirmed", json!({})),
        ("OrderShipped", json!({ "shipped_at": AT })),
        ("ShipmentDispatched", json!({ "carrier": "c", "tracking": "t", "dispatched_at": AT })),
        ("AuthorizationRequested", json!({ "payment_method": "pm_approve", "requested_at": AT })),
    ] {
        let breaches = Story::begins().delivered().then(event_type, more).books().breaches().to_vec();
        assert!(breaches.iter().any(|breach| breach.law == Law::NothingTwice), "{event_type}: {breaches:?}");
    }
    let told = json!({ "kind": "ORDER_SHIPPED", "channel": "EMAIL" });
    let mail = Story::begins().delivered().then("NotificationRequested", told.clone());
    let mail = mail.then("NotificationSent", json!({}));
    check(mail.clone(), &[]);
    check(mail.clone().then("NotificationSent", json!({})), &[Law::NothingTwice]);
    check(mail.then("NotificationRequested", told), &[Law::NothingTwice]);
}

#[test]
fn whatever_is_done_about_an_import_is_seen() {
    let import = || {
        Story::begins().then(
            "OrderImported",
            json!({ "lines": [], "status": "SHIPPED", "placed_at": AT, "external_ref": "10248" }),
        )
    };
    let broken = |story: Story| -> BTreeSet<Law> {
        story.books().at_rest(&BTreeSet::new()).iter().map(|breach| breach.law).collect()
    };
    assert_eq!(broken(import()), BTreeSet::new());
    let told = json!({ "kind": "ORDER_RECEIVED", "channel": "EMAIL" });
    let asked = json!({ "payment_method": "pm_approve", "requested_at": AT });
    for (event_type, more) in [
        ("StockReserved", json!({ "expires_at": EXPIRES_AT })),
        ("AuthorizationRequested", asked),
        ("ShipmentDispatched", json!({ "carrier": "c", "tracking": "t", "dispatched_at": AT })),
        ("NotificationRequested", told),
        (
            "CheckoutStarted",
            json!({
                "version": 1, "deadline_at": AT, "fact": { "type": "PaymentAuthorized" }, "phase": "AWAITING_STOCK",
                "effects": [],
            }),
        ),
    ] {
        assert!(broken(import().then(event_type, more)).contains(&Law::ImportsAreHistory), "{event_type}");
    }
}

#[test]
fn what_operators_did_by_hand_is_not_held_against_the_money() {
    let decided =
        json!({ "decision": "force", "step": "capture", "by": "ops", "reason": "by hand", "phase": "COMPLETED" });
    let story = Story::begins().delivered().without("CaptureRequested").without("PaymentCaptured");
    let story = story.then("VoidRequested", json!({})).then("PaymentVoided", json!({}));
    check(story.clone(), &[Law::PaidIsThePrice]);
    check(story.then("CheckoutDecided", decided), &[]);
}
