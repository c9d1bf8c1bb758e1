//! The life of an order over HTTP, and what becomes of it when the world around it changes.

mod kit;

use kit::{ANA, CHAI, Shop, TEA, count, order};
use serde_json::{Value, json};

/// Places an order of what is known by now, and says where it is.
async fn place(shop: &Shop, lines: &[(&str, u32)], token: &str) -> String {
    let placed = shop.post_with("/orders", order(lines), &[("consistency-token", token)]).await.expect(201);
    placed.header("location").to_owned()
}

async fn step(shop: &Shop, order: &str, step: &str) {
    let answer = shop.post(&format!("{order}/{step}"), json!({})).await.expect(200);
    assert_eq!(answer.body["changed"], true, "{step}");
}

#[tokio::test]
async fn an_order_is_confirmed_shipped_delivered_and_returned_in_parts() {
    let shop = Shop::open().await;
    let token = shop.stock_up().await;
    let order = place(&shop, &[(CHAI, 3), (TEA, 1)], &token).await;
    for (command, status) in [("confirm", "CONFIRMED"), ("ship", "SHIPPED"), ("deliver", "DELIVERED")] {
        step(&shop, &order, command).await;
        assert_eq!(shop.get(&order).await.expect(200).body["status"], status);
    }
    let shown = shop.get(&order).await.body;
    let time = |field: &str| shown[field].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    assert!(time("placed_at") <= time("shipped_at") && time("shipped_at") <= time("delivered_at"), "{shown}");

    let part = json!({ "lines": [{ "product_id": CHAI, "quantity": 2 }] });
    shop.post(&format!("{order}/return"), part.clone()).await.expect(200);
    let shown = shop.get(&order).await.body;
    assert_eq!((&shown["status"], &shown["returned"]), (&json!("DELIVERED"), &part["lines"]));
    let too_much = shop.post(&format!("{order}/return"), part).await.expect(422);
    assert_eq!((too_much.code(), &too_much.body["left"]), ("return_too_large", &json!(1)));
    step(&shop, &order, "return").await;
    let shown = shop.get(&order).await.body;
    let all = json!([{ "product_id": CHAI, "quantity": 3 }, { "product_id": TEA, "quantity": 1 }]);
    assert_eq!((&shown["status"], &shown["returned"]), (&json!("RETURNED"), &all));
}

#[tokio::test]
async fn a_step_that_was_taken_is_not_taken_again_under_another_key() {
    let shop = Shop::open().await;
    let token = shop.stock_up().await;
    let order = place(&shop, &[(CHAI, 1)], &token).await;
    for command in ["confirm", "ship", "deliver", "return"] {
        step(&shop, &order, command).await;
        let events = count(&shop.orders).await;
        let again = shop.post(&format!("{order}/{command}"), json!({})).await.expect(200);
        assert_eq!((&again.body["changed"], count(&shop.orders).await), (&json!(false), events), "{command}");
    }
}

#[tokio::test]
async fn a_cancelled_order_says_why_and_is_carried_out_no_more() {
    let shop = Shop::open().await;
    let token = shop.stock_up().await;
    let order = place(&shop, &[(CHAI, 1)], &token).await;
    shop.post(&format!("{order}/cancel"), json!({ "reason": "found it cheaper" })).await.expect(200);
    let shown = shop.get(&order).await.body;
    assert_eq!((&shown["status"], &shown["cancelled_because"]), (&json!("CANCELLED"), &json!("found it cheaper")));
    let events = count(&shop.orders).await;
    for command in ["confirm", "ship", "deliver", "return"] {
        let refused = shop.post(&format!("{order}/{command}"), json!({})).await.expect(422);
        assert_eq!((refused.code(), &refused.body["order_status"]), ("order_cancelled", &json!("CANCELLED")));
    }
    assert_eq!(count(&shop.orders).await, events);
}

#[tokio::test]
async fn who_cancels_a_confirmed_order_gives_all_of_it_back_and_says_why() {
    let shop = Shop::open().await;
    let token = shop.stock_up().await;
    let order = place(&shop, &[(CHAI, 2), (TEA, 1)], &token).await;
    step(&shop, &order, "confirm").await;
    let part = json!({ "lines": [{ "product_id": CHAI, "quantity": 1 }] });
    let refused = shop.post(&format!("{order}/return"), part).await.expect(422);
    assert_eq!((refused.code(), &refused.body["order_status"]), ("order_not_shipped", &json!("CONFIRMED")));
    shop.post(&format!("{order}/cancel"), json!({ "reason": "too late" })).await.expect(200);
    let shown = shop.get(&order).await.body;
    let all = json!([{ "product_id": CHAI, "quantity": 2 }, { "product_id": TEA, "quantity": 1 }]);
    assert_eq!((&shown["status"], &shown["returned"]), (&json!("RETURNED"), &all));
    let feed = shop.get("/orders/feed").await.expect(200).text;
    let last: Value = serde_json::from_str(feed.lines().last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["data"]["reason"]), (&json!("OrderReturned"), &json!("too late")));
    for command in ["ship", "deliver"] {
        let too_late = shop.post(&format!("{order}/{command}"), json!({})).await.expect(200);
        assert_eq!(too_late.body["changed"], false, "{command}");
    }
}

#[tokio::test]
async fn an_order_is_rejected_with_our_reason_for_as_long_as_it_is_not_confirmed() {
    let shop = Shop::open().await;
    let token = shop.stock_up().await;
    let reason = json!({ "reason": "a product is out of stock" });
    let open = place(&shop, &[(CHAI, 1)], &token).await;
    shop.post(&format!("{open}/reject"), reason.clone()).await.expect(200);
    let shown = shop.get(&open).await.body;
    assert_eq!((&shown["status"], &shown["cancelled_because"]), (&json!("CANCELLED"), &reason["reason"]));
    let again = shop.post(&format!("{open}/reject"), reason.clone()).await.expect(200);
    assert_eq!(again.body["changed"], false);
    let confirmed = place(&shop, &[(CHAI, 1)], &token).await;
    step(&shop, &confirmed, "confirm").await;
    shop.post(&format!("{confirmed}/reject"), reason.clone()).await.expect(200);
    assert_eq!(shop.get(&confirmed).await.body["status"], "RETURNED", "all of it is given back");
    let shipped = place(&shop, &[(CHAI, 1)], &token).await;
    step(&shop, &shipped, "confirm").await;
    step(&shop, &shipped, "ship").await;
    let refused = shop.post(&format!("{shipped}/reject"), reason).await.expect(422);
    assert_eq!((refused.code(), &refused.body["order_status"]), ("order_already_shipped", &json!("SHIPPED")));
}

#[tokio::test]
async fn nobody_carries_out_an_order_that_was_never_placed() {
    let shop = Shop::open().await;
    for command in ["confirm", "ship", "deliver", "return"] {
        let refused = shop.post(&format!("/orders/{}/{command}", kit::new_id()), json!({})).await.expect(404);
        assert_eq!(refused.code(), "order_not_found");
    }
    for command in ["cancel", "reject"] {
        let reason = json!({ "reason": "?" });
        shop.post(&format!("/orders/{}/{command}", kit::new_id()), reason).await.expect(404);
    }
}

fn priced(shown: &Value) -> i64 {
    shown["lines"][0]["unit_price"]["amount_minor"].as_i64().unwrap()
}

#[tokio::test]
async fn an_order_costs_what_the_product_cost_when_it_was_placed() {
    let shop = Shop::open().await;
    let token = shop.stock_up().await;
    let before = place(&shop, &[(CHAI, 1)], &token).await;
    let price = json!({ "unit_price": { "amount_minor": 2_500, "currency": "USD" } });
    let repriced = shop.reprice(CHAI, price).await;
    let after = place(&shop, &[(CHAI, 1)], &repriced).await;
    step(&shop, &before, "confirm").await;
    assert_eq!(priced(&shop.get(&before).await.body), 1_800);
    assert_eq!(priced(&shop.get(&after).await.body), 2_500);
}

#[tokio::test]
async fn a_discontinued_product_stays_in_the_orders_that_have_it_and_enters_no_other() {
    let shop = Shop::open().await;
    let token = shop.stock_up().await;
    let open = place(&shop, &[(CHAI, 2)], &token).await;
    let gone = shop.post(&format!("/products/{CHAI}/discontinue"), json!({})).await.expect(200).token();
    let refused = shop.post_with("/orders", order(&[(CHAI, 1)]), &[("consistency-token", &gone)]).await.expect(422);
    assert_eq!((refused.code(), refused.pointers()), ("product_discontinued", vec!["/lines/0/product_id"]));
    for command in ["confirm", "ship", "deliver"] {
        step(&shop, &open, command).await;
    }
    let shown = shop.get(&open).await.body;
    assert_eq!((&shown["lines"][0]["product_id"], &shown["lines"][0]["quantity"]), (&json!(CHAI), &json!(2)));
    step(&shop, &open, "return").await;
}

#[tokio::test]
async fn an_erased_user_orders_no_more_and_their_open_order_can_still_be_cancelled() {
    let shop = Shop::open().await;
    let token = shop.stock_up().await;
    let open = place(&shop, &[(CHAI, 1)], &token).await;
    let erased = shop.post(&format!("/users/{ANA}/erase"), json!({})).await.expect(200).token();
    let events = count(&shop.orders).await;
    let refused = shop.post_with("/orders", order(&[(CHAI, 1)]), &[("consistency-token", &erased)]).await.expect(422);
    assert_eq!((refused.code(), &refused.body["customer_id"]), ("customer_erased", &json!(ANA)));
    assert_eq!(count(&shop.orders).await, events);
    shop.post(&format!("{open}/cancel"), json!({ "reason": "customer erased" })).await.expect(200);
}

#[tokio::test]
async fn an_order_is_paid_by_a_token_and_never_by_a_card_number() {
    let shop = Shop::open().await;
    let token = shop.stock_up().await;
    let by = |method: &str| {
        let mut order = order(&[(CHAI, 1)]);
        order["payment_method"] = json!(method);
        order
    };
    for wrong in ["", "approve", "pm_", "pm_a b", "4242424242424242", "pm_4242_4242_4242_4242"] {
        let refused = shop.post("/orders", by(wrong)).await.expect(422);
        assert_eq!((refused.code(), refused.pointers()), ("validation_failed", vec!["/payment_method"]), "{wrong}");
        assert!(!refused.text.contains("4242"), "{}", refused.text);
    }
    assert_eq!(count(&shop.orders).await, 0);
    let headers = [("consistency-token", &*token)];
    let placed = shop.post_with("/orders", by("pm_timeout_then_approve"), &headers).await.expect(201);
    assert_eq!(shop.get(placed.header("location")).await.body["payment_method"], "pm_timeout_then_approve");
}
