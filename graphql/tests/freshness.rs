//! `extensions.consistency` says how fresh an answer is, and what it says is true.

#[path = "support/shop.rs"]
mod shop;
mod support;

use axum::http::HeaderName;
use chrono::{DateTime, Utc};
use events::{consistency::ConsistencyToken, orders::OrderStatus};
use serde_json::{Value, json};
use shop::{Shop, customer, order};

const TOKEN: HeaderName = HeaderName::from_static("consistency-token");

async fn told(shop: &Shop, query: &str, token: Option<&ConsistencyToken>) -> Value {
    let mut request = shop.endpoint.post(&json!({ "query": query }));
    if let Some(token) = token {
        request = request.header(TOKEN, &token.to_string());
    }
    let answer = request.send().await.json();
    assert_eq!(answer["errors"], Value::Null, "{answer}");
    answer["extensions"]["consistency"].clone()
}

async fn filled() -> Shop {
    let shop = Shop::open().await;
    shop.customer(1, "Ada").await;
    for n in 1..=3 {
        shop.order(n, customer(1), OrderStatus::Shipped).await;
    }
    shop.caught_up().await;
    shop
}

fn query(n: u128) -> String {
    format!("{{ order(id: \"{}\") {{ status customer {{ name }} }} }}", order(n))
}

#[tokio::test]
async fn an_answer_tells_generation_positions_time_and_wait_of_every_read_model_that_it_read() {
    let shop = filled().await;
    let before = Utc::now();
    let consistency = told(&shop, &query(1), None).await;
    let model = &consistency["readModels"]["order_details"];
    assert_eq!((&consistency["waitedMs"], &model["waitedMs"], &model["generation"]), (&json!(0), &json!(0), &json!(1)));
    let positions = json!({ "catalog": 0, "inventory": 0, "orders": 3, "payments": 0, "shipping": 0, "users": 1 });
    assert_eq!(model["positions"], positions);
    let observed_at: DateTime<Utc> = model["observedAt"].as_str().unwrap().parse().unwrap();
    assert!((before..=Utc::now()).contains(&observed_at), "{observed_at} is not now");

    let both =
        "{ orders { edges { cursor } } searchOrders(text: \"ada\") { orderId } again: orders { edges { cursor } } }";
    let models = told(&shop, both, None).await;
    let names: Vec<_> = models["readModels"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["order_details", "order_search"]);
}

#[tokio::test]
async fn what_reads_no_read_model_tells_nothing() {
    let shop = filled().await;
    assert_eq!(told(&shop, "{ __typename projections { name } }", None).await, Value::Null);
}

#[tokio::test]
async fn with_a_token_the_positions_are_those_of_the_snapshot_that_answered() {
    let shop = filled().await;
    for version in 1..=10 {
        let token = shop.rename(1, version, &format!("Ada {version}")).await;
        let consistency = told(&shop, &query(1), Some(&token)).await;
        let model = &consistency["readModels"]["order_details"];
        assert!(model["positions"]["users"].as_u64().unwrap() > version, "{consistency}");
        assert_eq!(model["waitedMs"], consistency["waitedMs"]);
        assert!(consistency["waitedMs"].as_u64().is_some(), "{consistency}");
    }
}

#[tokio::test]
async fn without_a_token_no_more_is_told_than_the_answer_holds() {
    let shop = filled().await;
    for version in 1..=100_u64 {
        if version.is_multiple_of(10) {
            shop.rename(1, version / 10, &format!("Ada {}", version / 10)).await;
        }
        let request = shop.endpoint.post(&json!({ "query": query(1) }));
        let answer = request.send().await.json();
        let name = answer["data"]["order"]["customer"]["name"].as_str().unwrap();
        let renamed: u64 = name.strip_prefix("Ada ").map_or(0, |number| number.parse().unwrap());
        let positions = &answer["extensions"]["consistency"]["readModels"]["order_details"]["positions"];
        assert!(positions["users"].as_u64().unwrap() <= renamed + 1, "{answer}");
    }
}
