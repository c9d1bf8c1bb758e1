//! What lists can be narrowed to and sorted by, and that every field of an order can be asked for alone.

#[path = "support/shop.rs"]
mod shop;
mod support;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use events::orders::{OrderCancelled, OrderStatus};
use projections::kit::Kind;
use serde_json::{Value, json};
use shop::{Shop, customer, line, order, product};

const BOTH: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];

/// Orders 1 to 5, each a second later and a dollar dearer; products 1 and, in the odd ones, 2; order 2 is cancelled last.
async fn filled(kind: Kind) -> Shop {
    let shop = Shop::open_on(kind).await;
    shop.customer(1, "Ada").await;
    shop.old_product(1, "Tea").await;
    for n in 1..=5_u128 {
        let mut lines = vec![line(1, u32::try_from(n).unwrap(), 100, 0)];
        if n % 2 == 1 {
            lines.push(line(2, 1, 50, 0));
        }
        let status = if n == 4 { OrderStatus::Delivered } else { OrderStatus::Pending };
        shop.order_of(n, customer(1 + n % 2), status, n as i64, lines).await;
    }
    let cancelled =
        OrderCancelled { order_id: order(2), customer_id: customer(1), reason: "no".to_owned(), rejected: false };
    shop.said_of_order(2, 1, &cancelled.into()).await;
    shop.caught_up().await;
    shop
}

fn numbers(connection: &Value) -> Vec<u64> {
    let edges = connection["edges"].as_array().unwrap().iter();
    edges.map(|edge| edge["node"]["externalRef"].as_str().unwrap()[4..].parse().unwrap()).collect()
}

#[tokio::test]
async fn orders_are_narrowed_and_sorted_now_and_as_of_a_time_alike() {
    for kind in BOTH {
        let shop = filled(kind).await;
        for as_of in ["", ", asOf: \"2100-01-01T00:00:00Z\""] {
            for (arguments, expected) in [
                ("filter: { statuses: [CANCELLED, DELIVERED] }".to_owned(), vec![4, 2]),
                ("filter: { statuses: [CANCELLED, CANCELLED], status: DELIVERED }".to_owned(), vec![]),
                ("filter: { statuses: [] }".to_owned(), vec![]),
                ("filter: { total: { currency: \"USD\", minMinor: 300, maxMinor: 400 } }".to_owned(), vec![4, 3]),
                ("filter: { total: { currency: \"USD\", minMinor: 351 } }".to_owned(), vec![5, 4]),
                ("filter: { total: { currency: \"EUR\" } }".to_owned(), vec![]),
                (format!("filter: {{ productId: \"{}\" }}", product(2)), vec![5, 3, 1]),
                (format!("filter: {{ productId: \"{}\", customerId: \"{}\" }}", product(1), customer(1)), vec![4, 2]),
                (format!("filter: {{ productId: \"{}\" }}", product(3)), vec![]),
                ("orderBy: { field: PLACED_AT, direction: ASC }".to_owned(), vec![1, 2, 3, 4, 5]),
                ("orderBy: { field: TOTAL, direction: ASC }".to_owned(), vec![1, 2, 3, 4, 5]),
                ("orderBy: { field: TOTAL, direction: DESC }".to_owned(), vec![5, 4, 3, 2, 1]),
                ("orderBy: { field: UPDATED_AT, direction: DESC }, first: 1".to_owned(), vec![2]),
                ("orderBy: { field: UPDATED_AT, direction: ASC }, last: 1".to_owned(), vec![2]),
            ] {
                let query =
                    format!("{{ orders({arguments}{as_of}) {{ totalCount edges {{ node {{ externalRef }} }} }} }}");
                let orders = shop.endpoint.data(&query).await["orders"].clone();
                assert_eq!(numbers(&orders), expected, "{query} on {kind:?}");
                if !query.contains("orderBy") {
                    assert_eq!(orders["totalCount"], expected.len(), "{query} on {kind:?}");
                }
            }
        }
        let query = "{ orders(asOf: \"2000-01-01T00:00:00Z\") { totalCount edges { cursor } } }";
        assert_eq!(shop.endpoint.data(query).await["orders"], json!({ "totalCount": 0, "edges": [] }));
    }
}

#[tokio::test]
async fn an_order_is_told_as_of_a_time_without_a_timeline() {
    let shop = filled(Kind::Sqlite).await;
    let ask = |fields: &str| {
        let query = format!("{{ order(id: \"{}\", asOf: \"2100-01-01T00:00:00Z\") {{ status {fields} }} }}", order(2));
        shop.endpoint.post(&json!({ "query": query }))
    };
    let answer = ask("customer { customerId } lines { product { sku } }").send().await.json();
    assert_eq!(answer["data"]["order"]["status"], "CANCELLED", "{answer}");
    assert_eq!(answer["data"]["order"]["lines"][0]["product"]["sku"], "SKU-1", "{answer}");
    let answer = ask("timeline { what }").send().await;
    assert_eq!(answer.code(), "validation_failed");
    assert_eq!(answer.json()["data"]["order"], json!({ "status": "CANCELLED", "timeline": null }));
    let early = format!("{{ order(id: \"{}\", asOf: \"2000-01-01T00:00:00Z\") {{ status }} }}", order(2));
    assert_eq!(shop.endpoint.data(&early).await, json!({ "order": null }));
}

#[tokio::test]
async fn every_field_of_an_order_can_be_asked_for_alone() {
    let shop = filled(Kind::Sqlite).await;
    let fields =
        "{ __type(name: \"Order\") { fields { name type { kind ofType { kind ofType { kind ofType { kind } } } } } } }";
    let fields = shop.endpoint.data(fields).await["__type"]["fields"].as_array().unwrap().clone();
    assert!(fields.len() > 20);
    let node = URL_SAFE_NO_PAD.encode(format!("Order:{}", order(1)));
    let mut selections: Vec<String> =
        vec!["customer { name }".into(), "customer { email }".into(), "customer { customerId }".into()];
    for field in &fields {
        let name = field["name"].as_str().unwrap();
        let is_object = field.to_string().contains("OBJECT");
        selections.push(format!("{name}{}", if is_object { " { __typename }" } else { "" }));
    }
    for selection in selections {
        for query in [
            format!("{{ order(id: \"{}\") {{ {selection} }} }}", order(1)),
            format!(
                "{{ order(id: \"{}\") {{ ...on Node {{ ...f }} }} }} fragment f on Order {{ it: {selection} }}",
                order(1)
            ),
            format!("{{ node(id: \"{node}\") {{ ...on Order {{ {selection} }} }} }}"),
            format!("{{ orders {{ edges {{ node {{ {selection} }} }} }} }}"),
            format!(
                "{{ orders {{ edges {{ cursor }} ...e }} }} fragment e on OrderConnection {{ edges {{ node {{ {selection} }} }} }}"
            ),
            format!("{{ search(text: \"tea\") {{ edges {{ node {{ {selection} }} }} }} }}"),
            format!("{{ customer(id: \"{}\") {{ orders {{ edges {{ node {{ {selection} }} }} }} }} }}", customer(1)),
        ] {
            shop.endpoint.data(&query).await;
        }
    }
}

#[tokio::test]
async fn products_come_by_sku_and_through_node() {
    for kind in BOTH {
        let shop = Shop::open_on(kind).await;
        for n in [3, 1, 2, 10] {
            shop.old_product(n, &format!("Product {n}")).await;
        }
        shop.caught_up().await;
        let query = "{ products(first: 3) { totalCount edges { node { id productId sku name discontinued } } pageInfo { endCursor hasNextPage } } }";
        let page = shop.endpoint.data(query).await["products"].clone();
        let skus = |page: &Value| {
            page["edges"]
                .as_array()
                .unwrap()
                .iter()
                .map(|edge| edge["node"]["sku"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (skus(&page), &page["totalCount"], &page["pageInfo"]["hasNextPage"]),
            (["SKU-1", "SKU-10", "SKU-2"].map(str::to_owned).into(), &json!(4), &json!(true))
        );
        let rest = format!("{{ products(after: {}) {{ edges {{ node {{ sku }} }} }} }}", page["pageInfo"]["endCursor"]);
        assert_eq!(skus(&shop.endpoint.data(&rest).await["products"]), ["SKU-3"]);
        let back = "{ products(last: 2) { edges { node { sku } } } }";
        assert_eq!(skus(&shop.endpoint.data(back).await["products"]), ["SKU-2", "SKU-3"]);
        let narrowed =
            "{ products(filter: { discontinued: true, skuPrefix: \"SKU-1\" }) { totalCount edges { node { sku } } } }";
        assert_eq!(skus(&shop.endpoint.data(narrowed).await["products"]), ["SKU-1", "SKU-10"]);
        let orderable = "{ products(filter: { discontinued: false }) { totalCount } }";
        assert_eq!(shop.endpoint.data(orderable).await["products"]["totalCount"], 0);
        let product_1 = &page["edges"][0]["node"];
        for query in [
            format!(
                "{{ it: node(id: {}) {{ ...on Product {{ id productId sku name discontinued }} }} }}",
                product_1["id"]
            ),
            format!("{{ it: product(id: {}) {{ id productId sku name discontinued }} }}", product_1["id"]),
            format!("{{ it: product(id: {}) {{ id productId sku name discontinued }} }}", product_1["productId"]),
        ] {
            assert_eq!(&shop.endpoint.data(&query).await["it"], product_1);
        }
        assert_eq!(
            shop.endpoint.data(&format!("{{ product(id: \"{}\") {{ id }} }}", product(9))).await,
            json!({ "product": null })
        );
    }
}

#[tokio::test]
async fn sales_are_added_up_by_day_and_by_product() {
    for kind in BOTH {
        let shop = filled(kind).await;
        let money = "{ amountMinor currency }";
        let usd = |amount_minor: i64| json!({ "amountMinor": amount_minor, "currency": "USD" });
        let days = "from: \"2026-01-01\", to: \"2026-01-02\"";
        let by_day = format!(
            "{{ salesByDay({days}) {{ day products quantity amount {money} returnedQuantity returned {money} }} }}"
        );
        // order 2 is cancelled: 1 + 3 + 4 + 5 pieces of one product, 3 of the other
        let day = json!({
            "day": "2026-01-01", "products": 2, "quantity": 16, "amount": usd(1_450), "returnedQuantity": 0, "returned": usd(0),
        });
        assert_eq!(shop.endpoint.data(&by_day).await, json!({ "salesByDay": [day] }), "{kind:?}");
        let none = format!("{{ salesByDay({days}, currency: \"EUR\") {{ day }} }}");
        assert_eq!(shop.endpoint.data(&none).await, json!({ "salesByDay": [] }));
        let top = |by: &str| {
            format!(
                "{{ topProducts({days}, currency: \"USD\"{by}) {{ productId product {{ name }} orders quantity amount {money} }} }}"
            )
        };
        let tea = json!({ "productId": product(1).to_string(), "product": { "name": "Tea" }, "orders": 4, "quantity": 13, "amount": usd(1_300) });
        let other = json!({ "productId": product(2).to_string(), "product": null, "orders": 3, "quantity": 3, "amount": usd(150) });
        for by in ["", ", by: AMOUNT", ", by: QUANTITY", ", by: ORDERS"] {
            assert_eq!(
                shop.endpoint.data(&top(by)).await,
                json!({ "topProducts": [tea.clone(), other.clone()] }),
                "{by} on {kind:?}"
            );
        }
        assert_eq!(shop.endpoint.data(&top(", first: 1")).await["topProducts"].as_array().unwrap().len(), 1);
        for refused in [
            format!("{{ topProducts({days}, currency: \"dollars\") {{ orders }} }}"),
            format!("{{ topProducts({days}, currency: \"USD\", first: 101) {{ orders }} }}"),
            "{ salesByDay(from: \"2026-01-02\", to: \"2026-01-01\") { day } }".to_owned(),
            "{ salesByDay(from: \"2020-01-02\", to: \"2026-01-01\") { day } }".to_owned(),
        ] {
            let code = shop.endpoint.post(&json!({ "query": refused })).send().await.code();
            assert!(["validation_failed", "limit_exceeded"].contains(&&*code), "{refused}: {code}");
        }
    }
}
