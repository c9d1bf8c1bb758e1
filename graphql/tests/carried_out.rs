//! An order that is carried out, asked for in GraphQL: what is held, paid and sent.

#[path = "support/shop.rs"]
mod shop;
mod support;

use events::{
    ids::RefundId,
    inventory::{ReservationRejected, StockReserved, StockShipped},
    money::{Currency, Money},
    orders::{OrderCancelled, OrderConfirmed, OrderDelivered, OrderLine, OrderPlaced, OrderReturned, ReturnedLine},
    payments::{
        AuthorizationRequested, DeclineReason, PaymentAuthorized, PaymentCaptured, PaymentDeclined, PaymentRefunded,
    },
    personal::Personal,
    shipping::{ShipmentDelivered, ShipmentDispatched, ShipmentLine, ShipmentScheduled},
    users::Address,
};
use serde_json::{Value, json};
use shop::{Shop, customer, order, payment, product, shipment};
use uuid::Uuid;

const QUERY: &str = "status confirmedAt shippedAt deliveredAt cancelledAt cancelReason rejected returnedAt returnReason
    lines { returnedQuantity reservation { status quantity available expiresAt } }
    reservation { status heldQuantity rejectedQuantity shippedQuantity }
    payment { status authorized { amountMinor currency } captured { amountMinor } refunded { amountMinor }
        voided { amountMinor } expired { amountMinor } declinedReason count
        payments { paymentId status captured { amountMinor currency } declinedReason failedReason expiresAt } }
    shipment { status carrier tracking dispatchedAt deliveredAt reason count shipments { shipmentId status } }";

fn usd(amount_minor: i64) -> Money {
    Money::new(amount_minor, Currency::USD)
}

/// Order 1 of three pieces of product 1 and one of product 2.
async fn placed() -> Shop {
    let shop = Shop::open().await;
    let line = |n, quantity| OrderLine {
        product_id: product(n),
        product_name: "Tea".to_owned(),
        quantity,
        unit_price: usd(100),
        discount_bp: 0,
    };
    let placed = OrderPlaced {
        order_id: order(1),
        customer_id: customer(1),
        lines: vec![line(1, 3), line(2, 1)],
        placed_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        payment_method: None,
        external_ref: None,
    };
    shop.said_of_order(1, 0, &placed.into()).await;
    shop
}

async fn seen(shop: &Shop) -> Value {
    shop.caught_up().await;
    let order = shop.endpoint.data(&format!("{{ order(id: \"{}\") {{ {QUERY} }} }}", order(1))).await["order"].clone();
    // recorded just now: that it is there is all that can be said
    let mut order = order;
    for recorded in ["confirmedAt", "cancelledAt", "returnedAt"] {
        order[recorded] = json!(!order[recorded].is_null());
    }
    order
}

#[tokio::test]
async fn nothing_is_shown_of_what_no_service_has_said() {
    let seen = seen(&placed().await).await;
    let line = json!({ "returnedQuantity": 0, "reservation": null });
    let nothing = json!({
        "status": "PENDING", "confirmedAt": false, "shippedAt": null, "deliveredAt": null, "cancelledAt": false,
        "cancelReason": null, "rejected": false, "returnedAt": false, "returnReason": null, "lines": [line, line],
        "reservation": null, "payment": null, "shipment": null,
    });
    assert_eq!(seen, nothing);
}

#[tokio::test]
async fn an_order_that_was_carried_out_shows_every_step() {
    let shop = placed().await;
    let (order_id, customer_id) = (order(1), customer(1));
    for (n, quantity) in [(1, 3), (2, 1)] {
        let (product_id, line) = (product(n), n as u32 - 1);
        let expires_at = "2026-01-01T00:30:00Z".parse().unwrap();
        shop.stock(n, 0, &StockReserved { product_id, order_id, line, quantity, expires_at }.into()).await;
    }
    shop.stock(1, 1, &StockShipped { product_id: product(1), order_id, line: 0, quantity: 3 }.into()).await;
    let (payment_id, amount) = (payment(1), usd(400));
    let requested = AuthorizationRequested {
        payment_id,
        order_id,
        amount,
        payment_method: "pm_approve".parse().unwrap(),
        requested_at: "2026-01-01T00:00:01Z".parse().unwrap(),
    };
    let expires_at = "2026-01-08T00:00:01Z".parse().unwrap();
    let gateway_reference = "sim-1".to_owned();
    shop.payment(1, 0, &requested.into()).await;
    shop.payment(1, 1, &PaymentAuthorized { payment_id, order_id, amount, gateway_reference, expires_at }.into()).await;
    shop.payment(1, 2, &PaymentCaptured { payment_id, order_id, amount }.into()).await;
    let refund_id = RefundId(Uuid::from_u128(1));
    shop.payment(1, 3, &PaymentRefunded { payment_id, order_id, refund_id, amount: usd(100) }.into()).await;
    let shipment_id = shipment(1);
    let address = Address {
        street: "Canary Row 7".to_owned(),
        city: "Riverton".to_owned(),
        region: None,
        postal_code: None,
        country: "GB".to_owned(),
    };
    let lines = vec![ShipmentLine { product_id: product(1), quantity: 3 }];
    let address = Personal::of(customer_id, address);
    shop.shipment(1, 0, &ShipmentScheduled { shipment_id, order_id, customer_id, lines, address }.into()).await;
    let dispatched_at = "2026-01-02T08:00:00Z".parse().unwrap();
    let (carrier, tracking) = ("Speedy".to_owned(), "SP-1".to_owned());
    let dispatched = ShipmentDispatched { shipment_id, order_id, carrier, tracking, dispatched_at };
    shop.shipment(1, 1, &dispatched.into()).await;
    let delivered_at = "2026-01-03T09:00:00Z".parse().unwrap();
    shop.shipment(1, 2, &ShipmentDelivered { shipment_id, order_id, delivered_at }.into()).await;
    shop.said_of_order(1, 1, &OrderConfirmed { order_id, customer_id }.into()).await;
    shop.said_of_order(1, 2, &OrderDelivered { order_id, customer_id, delivered_at }.into()).await;
    let lines = vec![ReturnedLine { product_id: product(1), quantity: 1 }];
    let reason = Some("too small".to_owned());
    shop.said_of_order(1, 3, &OrderReturned { order_id, customer_id, lines, complete: false, reason }.into()).await;

    let amount = |amount_minor: i64| json!({ "amountMinor": amount_minor });
    let whole = |amount_minor: i64| json!({ "amountMinor": amount_minor, "currency": "USD" });
    let expected = json!({
        "status": "DELIVERED", "confirmedAt": true, "shippedAt": null, "deliveredAt": "2026-01-03T09:00:00+00:00",
        "cancelledAt": false, "cancelReason": null, "rejected": false, "returnedAt": true, "returnReason": "too small",
        "lines": [
            { "returnedQuantity": 1, "reservation":
                { "status": "SHIPPED", "quantity": 3, "available": null, "expiresAt": null } },
            { "returnedQuantity": 0, "reservation":
                { "status": "RESERVED", "quantity": 1, "available": null, "expiresAt": "2026-01-01T00:30:00+00:00" } },
        ],
        "reservation": { "status": "RESERVED", "heldQuantity": 1, "rejectedQuantity": 0, "shippedQuantity": 3 },
        "payment": {
            "status": "CAPTURED", "authorized": whole(400), "captured": amount(400), "refunded": amount(100),
            "voided": amount(0), "expired": amount(0), "declinedReason": null, "count": 1,
            "payments": [{
                "paymentId": payment(1).to_string(), "status": "CAPTURED", "captured": whole(400),
                "declinedReason": null, "failedReason": null, "expiresAt": "2026-01-08T00:00:01+00:00",
            }],
        },
        "shipment": {
            "status": "DELIVERED", "carrier": "Speedy", "tracking": "SP-1",
            "dispatchedAt": "2026-01-02T08:00:00+00:00", "deliveredAt": "2026-01-03T09:00:00+00:00", "reason": null,
            "count": 1, "shipments": [{ "shipmentId": shipment(1).to_string(), "status": "DELIVERED" }],
        },
    });
    assert_eq!(seen(&shop).await, expected);
}

#[tokio::test]
async fn an_order_that_came_to_nothing_says_why() {
    let shop = placed().await;
    let (order_id, customer_id, payment_id) = (order(1), customer(1), payment(1));
    let rejected = ReservationRejected { product_id: product(1), order_id, line: 0, quantity: 3, available: 2 };
    shop.stock(1, 0, &rejected.into()).await;
    let requested = AuthorizationRequested {
        payment_id,
        order_id,
        amount: usd(400),
        payment_method: "pm_insufficient".parse().unwrap(),
        requested_at: "2026-01-01T00:00:01Z".parse().unwrap(),
    };
    shop.payment(1, 0, &requested.into()).await;
    let reason = DeclineReason::InsufficientFunds;
    shop.payment(1, 1, &PaymentDeclined { payment_id, order_id, amount: usd(400), reason }.into()).await;
    let reason = "out of stock".to_owned();
    shop.said_of_order(1, 1, &OrderCancelled { order_id, customer_id, reason, rejected: true }.into()).await;
    let seen = seen(&shop).await;
    assert_eq!((&seen["status"], &seen["cancelReason"]), (&json!("CANCELLED"), &json!("out of stock")));
    assert_eq!(seen["rejected"], true);
    let held = json!({ "status": "REJECTED", "heldQuantity": 0, "rejectedQuantity": 3, "shippedQuantity": 0 });
    assert_eq!((&seen["cancelledAt"], &seen["reservation"]), (&json!(true), &held));
    assert_eq!(seen["lines"][0]["reservation"]["available"], 2);
    assert_eq!(seen["payment"]["status"], "DECLINED");
    assert_eq!(seen["payment"]["declinedReason"], "INSUFFICIENT_FUNDS");
}
