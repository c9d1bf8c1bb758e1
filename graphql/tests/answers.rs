//! Questions against a query database that the projector filled from the services' logs.

#[path = "support/shop.rs"]
mod shop;
mod support;

use axum::http::{HeaderName, StatusCode};
use events::{consistency::ConsistencyToken, orders::OrderStatus};
use serde_json::{Value, json};
use shop::{Shop, customer, order, product};
use support::Answer;
use uuid::Uuid;

const TOKEN: HeaderName = HeaderName::from_static("consistency-token");
const WAIT: HeaderName = HeaderName::from_static("consistency-wait");

/// Ada with orders 1 to 5, Bob with order 6; order 2 is cancelled.
async fn filled() -> Shop {
    let shop = Shop::open().await;
    shop.customer(1, "Ada").await;
    shop.customer(2, "Bob").await;
    shop.old_product(1, "Tea").await;
    for n in 1..=6 {
        let status = if n == 2 { OrderStatus::Cancelled } else { OrderStatus::Shipped };
        shop.order(n, customer(if n == 6 { 2 } else { 1 }), status).await;
    }
    shop.caught_up().await;
    shop
}

async fn ask_with_token(shop: &Shop, query: &str, token: &ConsistencyToken, wait: &str) -> Answer {
    let request = shop.endpoint.post(&json!({ "query": query }));
    request.header(TOKEN, &token.to_string()).header(WAIT, wait).send().await
}

fn order_ids(connection: &Value) -> Vec<String> {
    let edges = connection["edges"].as_array().unwrap().iter();
    edges.map(|edge| edge["node"]["orderId"].as_str().unwrap().to_owned()).collect()
}

fn orders(numbers: impl IntoIterator<Item = u128>) -> Vec<String> {
    numbers.into_iter().map(|n| order(n).to_string()).collect()
}

#[tokio::test]
async fn an_order_is_answered_from_one_row_that_three_services_made() {
    let shop = filled().await;
    let query = format!(
        "{{ order(id: \"{}\") {{ id orderId externalRef status placedAt customer {{ customerId name email }}
            lines {{ productId productName quantity unitPrice {{ amountMinor currency }} discountBp
                total {{ amountMinor currency }} product {{ sku name discontinued }} }}
            total {{ amountMinor currency }} }} }}",
        order(1)
    );
    let usd = |amount_minor: i64| json!({ "amountMinor": amount_minor, "currency": "USD" });
    let expected = json!({
        "id": "T3JkZXI6MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDMwMDAx",
        "orderId": order(1).to_string(),
        "externalRef": "ref-1",
        "status": "SHIPPED",
        "placedAt": "2026-01-01T00:00:01+00:00",
        "customer": { "customerId": customer(1).to_string(), "name": "Ada", "email": "1@example.org" },
        "lines": [
            {
                "productId": product(1).to_string(), "productName": "Product 1 as ordered", "quantity": 3,
                "unitPrice": usd(35), "discountBp": 1_000, "total": usd(95),
                "product": { "sku": "SKU-1", "name": "Tea", "discontinued": true },
            },
            {
                "productId": product(2).to_string(), "productName": "Product 2 as ordered", "quantity": 1_000_000,
                "unitPrice": usd(5_000_000_000), "discountBp": 0, "total": usd(5_000_000_000_000_000),
                "product": null,
            },
        ],
        "total": usd(5_000_000_000_000_095),
    });
    assert_eq!(shop.endpoint.data(&query).await, json!({ "order": expected }));
}

#[tokio::test]
async fn an_order_is_found_by_uuid_by_global_id_and_through_node() {
    let shop = filled().await;
    let by_uuid = shop.endpoint.data(&format!("{{ order(id: \"{}\") {{ id externalRef }} }}", order(3))).await;
    let id = by_uuid["order"]["id"].as_str().unwrap();
    assert_eq!(shop.endpoint.data(&format!("{{ order(id: \"{id}\") {{ id externalRef }} }}")).await, by_uuid);
    let node = shop
        .endpoint
        .data(&format!("{{ node(id: \"{id}\") {{ __typename id ...on Order {{ externalRef }} }} }}"))
        .await;
    assert_eq!(node["node"], json!({ "__typename": "Order", "id": id, "externalRef": "ref-3" }));
    let unknown = format!("{{ order(id: \"{}\") {{ id }} }}", Uuid::from_u128(9));
    assert_eq!(shop.endpoint.data(&unknown).await, json!({ "order": null }));
    let ada = shop.endpoint.data(&format!("{{ customer(id: \"{}\") {{ id }} }}", customer(1))).await;
    let ada = ada["customer"]["id"].as_str().unwrap();
    let wrong = json!({ "query": format!("{{ order(id: \"{ada}\") {{ id }} }}") });
    assert_eq!(shop.endpoint.post(&wrong).send().await.code(), "validation_failed");
    let node = shop.endpoint.data(&format!("{{ node(id: \"{ada}\") {{ ...on Customer {{ name }} }} }}")).await;
    assert_eq!(node, json!({ "node": { "name": "Ada" } }));
}

#[tokio::test]
async fn pages_go_from_the_newest_to_the_oldest_and_miss_none() {
    let shop = filled().await;
    let (mut after, mut seen, mut pages) = ("null".to_owned(), vec![], 0);
    loop {
        let query = format!(
            "{{ orders(first: 4, after: {after}) {{ edges {{ cursor node {{ orderId }} }}
                pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} }} }}"
        );
        let page = &shop.endpoint.data(&query).await["orders"];
        seen.extend(order_ids(page));
        let info = &page["pageInfo"];
        let edges = page["edges"].as_array().unwrap();
        assert_eq!(info["startCursor"], edges[0]["cursor"]);
        assert_eq!(info["endCursor"], edges[edges.len() - 1]["cursor"]);
        assert_eq!(info["hasPreviousPage"], pages > 0);
        pages += 1;
        if info["hasNextPage"] == false {
            break;
        }
        // an order that arrives meanwhile is newer than the cursor, so it shifts nothing
        shop.order(9, customer(2), OrderStatus::Shipped).await;
        shop.caught_up().await;
        after = info["endCursor"].to_string();
    }
    assert_eq!((seen, pages), (orders((1..=6).rev()), 2));
}

#[tokio::test]
async fn a_filter_narrows_the_list() {
    let shop = filled().await;
    for (filter, expected) in [
        (format!("customerId: \"{}\"", customer(2)), vec![6]),
        ("status: CANCELLED".to_owned(), vec![2]),
        ("placedAfter: \"2026-01-01T00:00:05Z\"".to_owned(), vec![6, 5]),
        ("placedBefore: \"2026-01-01T01:00:03+01:00\"".to_owned(), vec![2, 1]),
        ("externalRef: \"ref-4\"".to_owned(), vec![4]),
        (
            format!("status: SHIPPED, customerId: \"{}\", placedBefore: \"2026-01-01T00:00:04Z\"", customer(1)),
            vec![3, 1],
        ),
        ("externalRef: \"' or 1=1 --\"".to_owned(), vec![]),
    ] {
        let data = shop
            .endpoint
            .data(&format!("{{ orders(filter: {{ {filter} }}) {{ edges {{ node {{ orderId }} }} }} }}"))
            .await;
        assert_eq!(order_ids(&data["orders"]), orders(expected), "{filter}");
    }
}

#[tokio::test]
async fn a_customer_has_their_orders_and_no_others() {
    let shop = filled().await;
    let query = |filter: &str| {
        format!(
            "{{ customer(id: \"{}\") {{ orders(first: 2{filter}) {{ edges {{ node {{ orderId }} }}
                pageInfo {{ hasNextPage }} }} name customerId email }} }}",
            customer(1)
        )
    };
    let answer = shop.endpoint.post(&json!({ "query": query("") })).send().await;
    let text = String::from_utf8(answer.body.clone()).unwrap();
    let place = |field: &str| text.find(field).unwrap();
    assert!(place("orders") < place("name") && place("name") < place("customerId"), "in the query's order: {text}");
    let ada = &answer.json()["data"]["customer"];
    assert_eq!((&ada["name"], &ada["email"]), (&json!("Ada"), &json!("1@example.org")));
    assert_eq!(order_ids(&ada["orders"]), orders([5, 4]));
    assert_eq!(ada["orders"]["pageInfo"]["hasNextPage"], true);
    let cancelled = shop.endpoint.data(&query(", filter: { status: CANCELLED }")).await;
    assert_eq!(order_ids(&cancelled["customer"]["orders"]), orders([2]));
    let of_another = query(&format!(", filter: {{ customerId: \"{}\" }}", customer(2)));
    let answer = shop.endpoint.post(&json!({ "query": of_another })).send().await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::OK, "validation_failed"));
    assert_eq!(answer.json()["data"]["customer"]["orders"], Value::Null);
    assert_eq!(answer.json()["data"]["customer"]["name"], "Ada", "its neighbours are answered");
    let nobody = format!("{{ customer(id: \"{}\") {{ name }} }}", customer(7));
    assert_eq!(shop.endpoint.data(&nobody).await, json!({ "customer": null }));
}

#[tokio::test]
async fn with_a_token_a_reader_sees_their_own_write() {
    let shop = filled().await;
    for version in 1..=20 {
        let name = format!("Ada {version}");
        let token = shop.rename(1, version, &name).await;
        let query = format!(
            "{{ orders(filter: {{ customerId: \"{}\" }}) {{ edges {{ node {{ customer {{ name }} }} }} }} }}",
            customer(1)
        );
        let answer = ask_with_token(&shop, &query, &token, "10s").await;
        let data = answer.json()["data"]["orders"]["edges"].clone();
        let names: Vec<_> =
            data.as_array().unwrap().iter().map(|edge| edge["node"]["customer"]["name"].clone()).collect();
        assert_eq!(names, vec![json!(name); 5]);
    }
}

#[tokio::test]
async fn a_token_that_is_not_reached_in_time_is_a_retryable_error_however_many_fields_ask() {
    let shop = filled().await;
    shop.stop_projecting().await;
    let token = shop.order(9, customer(1), OrderStatus::Shipped).await;
    let query = format!(
        "{{ a: order(id: \"{0}\") {{ id }} b: order(id: \"{0}\") {{ id }} orders {{ edges {{ cursor }} }} projections {{ name }} }}",
        order(9)
    );
    let started = std::time::Instant::now();
    let answer = ask_with_token(&shop, &query, &token, "300ms").await;
    let waited_ms = started.elapsed().as_millis();
    assert!((300..3_000).contains(&waited_ms), "waited {waited_ms} ms");
    let json = answer.json();
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(json["data"]["a"], Value::Null);
    assert_eq!(json["data"]["projections"][0]["name"], "order_details", "what waits for no token is answered");
    let errors = json["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 3);
    for error in errors {
        let told =
            json!({ "code": "consistency_timeout", "retryable": true, "source": "orders", "wanted": 7, "reached": 6 });
        assert_eq!(error["extensions"], told, "{error}");
    }
}

#[tokio::test]
async fn a_token_of_a_history_that_is_gone_is_lost_and_not_retryable() {
    let shop = filled().await;
    let other_epoch = ConsistencyToken::of("orders", Uuid::now_v7(), 3, Some(Uuid::now_v7()));
    let answer = ask_with_token(&shop, "{ orders { edges { cursor } } }", &other_epoch, "50ms").await;
    assert_eq!(
        answer.json()["errors"][0]["extensions"],
        json!({ "code": "consistency_lost", "retryable": false, "source": "orders" })
    );
    let of_nobody = ConsistencyToken::of("notifications", Uuid::now_v7(), 3, Some(Uuid::now_v7()));
    let answer = ask_with_token(&shop, "{ orders { edges { cursor } } }", &of_nobody, "50ms").await;
    assert_eq!(answer.json()["errors"], Value::Null, "a source that the read model does not follow is not waited for");
}

#[tokio::test]
async fn projections_say_how_far_they_are() {
    let shop = filled().await;
    let query =
        "{ projections { name version generation state sources { source position lagEvents lagSeconds parked } } }";
    let data = shop.endpoint.data(query).await;
    let projection = &data["projections"][0];
    assert_eq!((&projection["name"], &projection["state"]), (&json!("order_details"), &json!("live")));
    let sources: Vec<_> = projection["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| {
            assert_eq!(
                (&each["lagEvents"], &each["parked"], each["lagSeconds"].as_f64()),
                (&json!(0), &json!(0), Some(0.0))
            );
            (each["source"].as_str().unwrap(), each["position"].as_i64().unwrap())
        })
        .collect();
    let told = [("catalog", 2), ("inventory", 0), ("orders", 6), ("payments", 0), ("shipping", 0), ("users", 2)];
    assert_eq!(sources, told);
}

#[tokio::test]
async fn before_anything_is_built_reads_say_that_it_is_being_built() {
    let endpoint = support::Endpoint::new();
    let answer = endpoint.post(&json!({ "query": "{ orders { edges { cursor } } }" })).send().await;
    assert_eq!(answer.json()["data"], json!({ "orders": null }));
    assert_eq!(answer.json()["errors"][0]["extensions"], json!({ "code": "rebuilding", "retryable": true }));
}

/// Orders are resolved in one way where their fields are selected plainly, and in another where they are not.
#[tokio::test]
async fn fragments_aliases_and_repeated_fields_are_answered_as_plain_fields_are() {
    let shop = filled().await;
    let orders =
        |order: &str, rest: &str| format!("{{ orders(first: 2) {{ edges {{ node {{ {order} }} }} }} }} {rest}");
    let money = "amountMinor currency";
    let plain = orders(&format!("__typename status lines {{ quantity total {{ {money} }} }} total {{ {money} }}"), "");
    let expected = shop.endpoint.data(&plain).await;
    assert_eq!(expected["orders"]["edges"].as_array().map(Vec::len), Some(2));
    for (order, rest) in [
        (
            format!("...Whole lines {{ ...Line }} ... on Order {{ total {{ {money} }} }}"),
            format!(
                "fragment Whole on Order {{ __typename status }}
                fragment Line on OrderLine {{ quantity total {{ {money} }} }}"
            ),
        ),
        (
            "__typename status lines { quantity total { amountMinor } } lines { total { currency } } \
             total { amountMinor } total { ... { currency } }"
                .to_owned(),
            String::new(),
        ),
        (
            format!(
                "__typename @include(if: true) status total @skip(if: true) {{ {money} }} \
                lines {{ quantity total {{ {money} }} }} total {{ {money} }}"
            ),
            String::new(),
        ),
    ] {
        assert_eq!(shop.endpoint.data(&orders(&order, &rest)).await, expected, "{order}");
    }
    let aliased = orders("is: __typename a: status b: status c: total { minor: amountMinor }", "");
    let (aliased, order) = (shop.endpoint.data(&aliased).await, &expected["orders"]["edges"][0]["node"]);
    let expected = json!({
        "is": "Order", "a": order["status"], "b": order["status"], "c": { "minor": order["total"]["amountMinor"] },
    });
    assert_eq!(aliased["orders"]["edges"][0]["node"], expected);
}
