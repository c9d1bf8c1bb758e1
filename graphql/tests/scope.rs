//! A customer sees what is their own, and nothing tells them whether there is anything else.

#[path = "support/shop.rs"]
mod shop;
mod support;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use events::{orders::OrderStatus, principal::Principal};
use projections::kit::Kind;
use serde_json::{Value, json};
use shop::{Shop, customer, order, product};
use support::Endpoint;

/// Ada with orders 1 to 3, Bob with orders 4 and 5.
async fn filled(kind: Kind) -> Shop {
    let shop = Shop::open_on(kind).await;
    shop.customer(1, "Ada Lovelace").await;
    shop.customer(2, "Bob").await;
    shop.old_product(1, "Earl Grey").await;
    for n in 1..=5 {
        shop.order(n, customer(if n < 4 { 1 } else { 2 }), OrderStatus::Shipped).await;
    }
    shop.caught_up().await;
    shop
}

fn as_customer(shop: &Shop, n: u128) -> Endpoint {
    shop.endpoint.by(Principal::try_new("somebody", Some(customer(n)), ["query".to_owned()]).unwrap())
}

fn references(connection: &Value) -> Vec<String> {
    let edges = connection["edges"].as_array().unwrap().iter();
    edges.map(|edge| edge["node"]["externalRef"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn lists_counts_searches_and_pages_hold_what_is_the_customers_own() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let shop = filled(kind).await;
        let (ada, bob) = (as_customer(&shop, 1), as_customer(&shop, 2));
        for as_of in ["", ", asOf: \"2100-01-01T00:00:00Z\""] {
            let list = format!(
                "{{ orders(first: 9{as_of}) {{ totalCount edges {{ cursor node {{ externalRef }} }}
                    pageInfo {{ hasNextPage hasPreviousPage }} }} }}"
            );
            let of_ada = ada.data(&list).await["orders"].clone();
            assert_eq!(
                (references(&of_ada), &of_ada["totalCount"]),
                (["ref-3", "ref-2", "ref-1"].map(str::to_owned).into(), &json!(3))
            );
            let of_bob = bob.data(&list).await["orders"].clone();
            assert_eq!(
                (references(&of_bob), &of_bob["totalCount"]),
                (["ref-5", "ref-4"].map(str::to_owned).into(), &json!(2))
            );
            // a cursor of another customer's list is a place, and tells nothing of what lies there
            let foreign = &of_bob["edges"][1]["cursor"];
            let behind = format!(
                "{{ orders(after: {foreign}{as_of}) {{ edges {{ node {{ externalRef }} }}
                    pageInfo {{ hasNextPage hasPreviousPage }} }} }}"
            );
            let behind = ada.data(&behind).await["orders"].clone();
            assert_eq!(references(&behind), ["ref-3", "ref-2", "ref-1"]);
            assert_eq!(behind["pageInfo"]["hasPreviousPage"], false, "{as_of}: what lies before is Bob's");
            let of_another = format!(
                "{{ orders(filter: {{ customerId: \"{}\" }}{as_of}) {{ totalCount edges {{ cursor }} }} }}",
                customer(2)
            );
            assert_eq!(ada.data(&of_another).await["orders"], json!({ "totalCount": 0, "edges": [] }));
            let by_reference = format!("{{ orders(filter: {{ externalRef: \"ref-4\" }}{as_of}) {{ totalCount }} }}");
            assert_eq!(ada.data(&by_reference).await["orders"]["totalCount"], 0);
        }
        for text in ["earl", "bob", "ref-4", "shipped"] {
            let query = format!(
                "{{ search(text: \"{text}\") {{ totalCount edges {{ node {{ externalRef }} }} }} searchOrders(text: \"{text}\") {{ externalRef }} }}"
            );
            let found = ada.data(&query).await;
            let expected = if ["bob", "ref-4"].contains(&text) { 0 } else { 3 };
            assert_eq!(
                (&found["search"]["totalCount"], references(&found["search"]).len()),
                (&json!(expected), expected),
                "{text}"
            );
            assert_eq!(found["searchOrders"].as_array().unwrap().len(), expected, "{text}");
        }
    }
}

#[tokio::test]
async fn what_is_anothers_is_answered_as_if_it_were_not_there() {
    let shop = filled(Kind::Sqlite).await;
    let ada = as_customer(&shop, 1);
    let nodes = [format!("Order:{}", order(4)), format!("Customer:{}", customer(2))];
    let [an_order, a_customer] = nodes.map(|node| URL_SAFE_NO_PAD.encode(node));
    let query = format!(
        "{{ order(id: \"{o}\") {{ status }} then: order(id: \"{o}\", asOf: \"2100-01-01T00:00:00Z\") {{ status }}
            customer(id: \"{c}\") {{ name orders {{ totalCount }} }} customerOverview(id: \"{c}\") {{ name }}
            a: node(id: \"{an_order}\") {{ id }} b: node(id: \"{a_customer}\") {{ id }} }}",
        o = order(4),
        c = customer(2),
    );
    let nothing =
        json!({ "order": null, "then": null, "customer": null, "customerOverview": null, "a": null, "b": null });
    assert_eq!(ada.data(&query).await, nothing);
    assert!(shop.endpoint.data(&query).await["order"]["status"].is_string(), "staff are told");
    let own = format!(
        "{{ order(id: \"{0}\") {{ externalRef timeline {{ event }} }} customer(id: \"{1}\") {{ name orders {{ totalCount }} }}
            customerOverview(id: \"{1}\") {{ name }} product(id: \"{2}\") {{ name }} products {{ totalCount }} }}",
        order(1),
        customer(1),
        product(1),
    );
    let told = json!({
        "order": { "externalRef": "ref-1", "timeline": [{ "event": "OrderImported" }] },
        "customer": { "name": "Ada Lovelace", "orders": { "totalCount": 3 } },
        "customerOverview": { "name": "Ada Lovelace" },
        "product": { "name": "Earl Grey" },
        "products": { "totalCount": 1 },
    });
    assert_eq!(ada.data(&own).await, told, "what is their own they are told");
}

#[tokio::test]
async fn what_is_nobodys_own_is_for_staff() {
    let shop = filled(Kind::Sqlite).await;
    let days = "from: \"2026-01-01\", to: \"2026-01-02\"";
    let fields = [
        format!("salesByDay({days}) {{ quantity }}"),
        format!("topProducts({days}, currency: \"USD\") {{ quantity }}"),
        format!("productSalesByDay(productId: \"{}\", {days}) {{ productId }}", product(1)),
        "projections { rows }".to_owned(),
    ];
    for field in fields {
        let query = json!({ "query": format!("{{ asked: {field} }}") });
        let answer = as_customer(&shop, 1).post(&query).send().await;
        assert_eq!(
            (answer.code().as_str(), &answer.json()["data"]["asked"]),
            ("not_for_customers", &Value::Null),
            "{field}"
        );
        let answer = shop.endpoint.post(&query).send().await;
        assert!(answer.json()["errors"].is_null() && !answer.json()["data"]["asked"].is_null(), "{field}");
    }
}
