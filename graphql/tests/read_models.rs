//! The read models beside order details, asked for in GraphQL.

#[path = "support/shop.rs"]
mod shop;
mod support;

use axum::http::HeaderName;
use events::{
    money::{Currency, Money},
    orders::{OrderEvent, OrderReturned, OrderStatus, ReturnedLine},
    payments::{PaymentCaptured, PaymentRefunded},
};
use serde_json::{Value, json};
use shop::{Shop, customer, order, payment, product};
use uuid::Uuid;

/// Ada with orders 1 to 3, of which the second is cancelled; 90 was taken for the first and 40 paid back.
async fn filled() -> Shop {
    let shop = Shop::open().await;
    shop.customer(1, "Ada Lovelace").await;
    shop.old_product(1, "Earl Grey").await;
    for n in 1..=3 {
        let status = if n == 2 { OrderStatus::Cancelled } else { OrderStatus::Shipped };
        shop.order(n, customer(1), status).await;
    }
    let (payment_id, order_id) = (payment(1), order(1));
    let usd = |amount_minor| Money::new(amount_minor, Currency::USD);
    shop.payment(1, 0, &PaymentCaptured { payment_id, order_id, amount: usd(90) }.into()).await;
    let refund_id = events::ids::RefundId(Uuid::from_u128(1));
    shop.payment(1, 1, &PaymentRefunded { payment_id, order_id, refund_id, amount: usd(40) }.into()).await;
    shop.caught_up().await;
    shop
}

fn usd(amount_minor: i64) -> Value {
    json!({ "amountMinor": amount_minor, "currency": "USD" })
}

#[tokio::test]
async fn a_customers_orders_and_money_are_added_up() {
    let shop = filled().await;
    let query = format!(
        "{{ customerOverview(id: \"{}\") {{ customerId name email totals {{ currency orders cancelledOrders
            captured {{ amountMinor currency }} refunded {{ amountMinor currency }} spend {{ amountMinor currency }}
            lastOrderAt }} }} nobody: customerOverview(id: \"{}\") {{ name }} }}",
        customer(1),
        customer(9),
    );
    let totals = json!({
        "currency": "USD", "orders": 3, "cancelledOrders": 1, "captured": usd(90), "refunded": usd(40),
        "spend": usd(50), "lastOrderAt": "2026-01-01T00:00:03+00:00",
    });
    let ada = json!({
        "customerId": customer(1).to_string(), "name": "Ada Lovelace", "email": "1@example.org", "totals": [totals],
    });
    assert_eq!(shop.endpoint.data(&query).await, json!({ "customerOverview": ada, "nobody": null }));
}

#[tokio::test]
async fn a_products_sales_are_told_day_by_day() {
    let shop = filled().await;
    let lines = vec![ReturnedLine { product_id: product(1), quantity: 1 }];
    let back: OrderEvent =
        OrderReturned { order_id: order(1), customer_id: customer(1), lines, complete: false, reason: None }.into();
    shop.said_of_order(1, 1, &back).await;
    shop.caught_up().await;
    let ask = |to: &str, fields: &str| {
        let id = product(1);
        format!("{{ productSalesByDay(productId: \"{id}\", from: \"2026-01-01\", to: \"{to}\") {{ {fields} }} }}")
    };
    let fields = "product { sku name }
        days { day orders quantity amount { amountMinor currency } returnedQuantity }";
    // three pieces of 35 less a tenth, and what came back did so today
    let sold = json!({ "day": "2026-01-01", "orders": 2, "quantity": 6, "amount": usd(190), "returnedQuantity": 0 });
    let told = json!({ "product": { "sku": "SKU-1", "name": "Earl Grey" }, "days": [sold] });
    assert_eq!(shop.endpoint.data(&ask("2026-01-02", fields)).await["productSalesByDay"], told);
    for (to, said) in [("2025-12-31", "-1 days"), ("2031-01-01", "1826 days")] {
        let refused = shop.endpoint.post(&json!({ "query": ask(to, "days { day }") })).send().await;
        assert_eq!(refused.code(), "validation_failed", "{to}");
        assert!(refused.json()["errors"][0]["message"].as_str().unwrap().contains(said), "{}", refused.json());
    }
}

#[tokio::test]
async fn an_order_tells_what_became_of_it() {
    let shop = filled().await;
    let query = format!(
        "{{ order(id: \"{}\") {{ timeline {{ source position event what reason amount {{ amountMinor currency }} }} }} }}",
        order(1)
    );
    let entry = |source: &str, position: u64, event: &str, what: &str, amount: Value| {
        json!({
            "source": source, "position": position, "event": event, "what": what, "reason": null, "amount": amount,
        })
    };
    let order_said = "Order of 2026-01-01 taken over from another system, where it was shipped.";
    let told = [
        entry("orders", 1, "OrderImported", order_said, Value::Null),
        entry("payments", 1, "PaymentCaptured", "Payment taken.", usd(90)),
        entry("payments", 2, "PaymentRefunded", "Money paid back.", usd(40)),
    ];
    assert_eq!(shop.endpoint.data(&query).await["order"]["timeline"], json!(told));
}

#[tokio::test]
async fn orders_are_found_by_words() {
    let shop = filled().await;
    let found = async |text: &str| {
        let query = format!(
            "{{ searchOrders(text: {}) {{ orderId status customerName total {{ amountMinor }} }} }}",
            json!(text)
        );
        shop.endpoint.data(&query).await["searchOrders"].clone()
    };
    let ids = |found: &Value| -> Vec<String> {
        found.as_array().unwrap().iter().map(|order| order["orderId"].as_str().unwrap().to_owned()).collect()
    };
    let all = found("lovelace earl").await;
    assert_eq!(ids(&all), [3, 2, 1].map(|n| order(n).to_string()));
    assert_eq!((&all[0]["status"], &all[0]["customerName"]), (&json!("SHIPPED"), &json!("Ada Lovelace")));
    assert_eq!(ids(&found("cancelled").await), [order(2).to_string()]);
    assert_eq!(found("  ").await, json!([]));
    let refused =
        shop.endpoint.post(&json!({ "query": "{ searchOrders(text: \"a\", first: 101) { id } }" })).send().await;
    assert_eq!(refused.code(), "limit_exceeded", "a part is not taken for the whole");
}

#[tokio::test]
async fn a_token_is_waited_for_at_each_read_model_that_is_asked() {
    let shop = filled().await;
    let query = format!(
        "{{ customer(id: \"{0}\") {{ name }} customerOverview(id: \"{0}\") {{ name }}
            searchOrders(text: \"countess\") {{ customerName }} }}",
        customer(1)
    );
    for version in 1..5 {
        let name = format!("Countess {version}");
        let token = shop.rename(1, version, &name).await;
        let asked = shop.endpoint.post(&json!({ "query": query }));
        let asked = asked.header(HeaderName::from_static("consistency-token"), &token.to_string());
        let answer = asked.header(HeaderName::from_static("consistency-wait"), "20s").send().await.json();
        let data = &answer["data"];
        assert_eq!(data["customer"]["name"], name, "{answer}");
        assert_eq!(data["customerOverview"]["name"], name, "{answer}");
        let found = data["searchOrders"].as_array().unwrap();
        assert_eq!(found.iter().map(|order| &order["customerName"]).collect::<Vec<_>>(), vec![&json!(name); 3]);
    }
}
