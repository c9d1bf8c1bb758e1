//! The cursor law: whoever walks a list from cursor to cursor, forward or backward, while orders come and change, is told
//! every order that was in it throughout exactly once.
//!
//! A failure prints its seed; `SEED=<n> cargo test -p graphql --test cursors` repeats it.

#[path = "support/shop.rs"]
mod shop;
mod support;

use std::{cell::RefCell, collections::BTreeSet, time::Duration};

use events::orders::{OrderCancelled, OrderStatus};
use projections::kit::{Kind, Random, seeds};
use serde_json::{Value, json};
use shop::{Shop, customer, line, order};

/// What a list is sorted by.
const KEPT: [&str; 2] = ["PLACED_AT", "TOTAL"];
const CHANGING: &str = "UPDATED_AT";

const THROUGHOUT: u128 = 24;

/// A walk over a list.
#[derive(Debug)]
struct Walk {
    field: &'static str,
    descending: bool,
    backward: bool,
    page_rows: u64,
    /// Only what is this customer's.
    customer: Option<u128>,
}

impl Walk {
    fn of(random: &mut Random, field: &'static str) -> Self {
        Self {
            field,
            descending: random.below(2) == 0,
            backward: random.below(2) == 0,
            page_rows: 1 + random.below(6),
            customer: (random.below(3) == 0).then(|| u128::from(1 + random.below(2))),
        }
    }

    /// Orders by their numbers with what they are sorted by, in the order of the list.
    async fn walked(&self, shop: &Shop, random: &mut Random) -> Vec<(u128, String)> {
        let direction = if self.descending { "DESC" } else { "ASC" };
        let filter =
            self.customer.map(|n| format!(", filter: {{ customerId: \"{}\" }}", customer(n))).unwrap_or_default();
        let (size, place, more) =
            if self.backward { ("last", "before", "hasPreviousPage") } else { ("first", "after", "hasNextPage") };
        let (mut at, mut pages) = (Value::Null, Vec::new());
        loop {
            let query = format!(
                "{{ orders({size}: {}, {place}: {at}, orderBy: {{ field: {}, direction: {direction} }}{filter}) {{
                    edges {{ cursor node {{ orderId placedAt updatedAt total {{ amountMinor }} }} }}
                    pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} }} }}",
                self.page_rows, self.field,
            );
            let data = shop.endpoint.data(&query).await["orders"].clone();
            let rows = data["edges"].as_array().unwrap().iter().map(|edge| self.row(&edge["node"])).collect::<Vec<_>>();
            let info = &data["pageInfo"];
            let is_whole = rows.len() as u64 == self.page_rows;
            assert!(is_whole || info[more] == false, "a page that is not full is the last: {data}");
            // by what changes, all that lay there may have moved
            if self.field != CHANGING {
                assert_eq!(
                    info[if self.backward { "hasNextPage" } else { "hasPreviousPage" }],
                    !at.is_null(),
                    "{data}"
                );
            }
            pages.push(rows);
            if info[more] == false {
                break;
            }
            at = info[if self.backward { "startCursor" } else { "endCursor" }].clone();
            tokio::time::sleep(Duration::from_millis(random.below(6))).await;
        }
        if self.backward {
            pages.reverse();
        }
        pages.into_iter().flatten().collect()
    }

    /// What it is sorted by as a text that compares in the list's order, ids included.
    fn row(&self, node: &Value) -> (u128, String) {
        let id = node["orderId"].as_str().unwrap();
        let number = uuid::Uuid::parse_str(id).unwrap().as_u128() - order(0).0.as_u128();
        let key = match self.field {
            "PLACED_AT" => node["placedAt"].as_str().unwrap().to_owned(),
            "TOTAL" => format!("{:020}", node["total"]["amountMinor"].as_i64().unwrap()),
            _ => node["updatedAt"].as_str().unwrap().to_owned(),
        };
        (number, format!("{key} {id}"))
    }
}

/// An order that collides with others in whatever it is sorted by; whose it is.
async fn some_order(shop: &Shop, random: &mut Random, n: u128) -> u128 {
    let (of, second) = (u128::from(1 + random.below(2)), random.below(8));
    let lines = vec![line(1, 1 + random.below(3) as u32, 100, 0)];
    shop.order_of(n, customer(of), OrderStatus::Pending, i64::try_from(second).unwrap(), lines).await;
    of
}

/// Orders come, are cancelled, and customers get other names, until the walk ends.
async fn goes_on(shop: &Shop, random: &mut Random, touched: &RefCell<BTreeSet<u128>>) {
    let (mut newest, mut renamed) = (THROUGHOUT, [1; 2]);
    loop {
        match random.below(3) {
            0 => {
                newest += 1;
                some_order(shop, random, newest).await;
            }
            1 => {
                let n = 1 + u128::from(random.below(THROUGHOUT as u64));
                // noted first: from now on it may move
                if touched.borrow_mut().insert(n) {
                    let event = OrderCancelled {
                        order_id: order(n),
                        customer_id: customer(1),
                        reason: "a change".to_owned(),
                        rejected: false,
                    };
                    shop.said_of_order(n, 1, &event.into()).await;
                }
            }
            _ => {
                let which = random.below(2) as usize;
                shop.rename(1 + which as u128, renamed[which], &format!("Name {}", random.draw())).await;
                renamed[which] += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(1 + random.below(3))).await;
    }
}

async fn every_order_is_told_once(kind: Kind, count: u64) {
    for seed in seeds(count) {
        let mut random = Random(seed);
        let field = [KEPT[0], KEPT[1], CHANGING][(seed % 3) as usize];
        let walk = Walk::of(&mut random, field);
        let shop = Shop::open_on(kind).await;
        shop.customer(1, "Ada").await;
        shop.customer(2, "Bob").await;
        let mut whose = Vec::new();
        for n in 1..=THROUGHOUT {
            whose.push(some_order(&shop, &mut random, n).await);
        }
        shop.caught_up().await;
        let touched = RefCell::default();
        let mut changes = Random(seed ^ 0x5eed);
        let walked = tokio::select! {
            walked = walk.walked(&shop, &mut random) => walked,
            () = goes_on(&shop, &mut changes, &touched) => unreachable!("it goes on"),
        };
        let said = format!("seed {seed} on {kind:?}: {walk:?} told {walked:?}, touched {touched:?}");
        let touched = touched.into_inner();
        for (n, of) in (1..).zip(whose) {
            let in_list = walk.customer.is_none_or(|only| only == of);
            let told = walked.iter().filter(|(number, _)| *number == n).count();
            if walk.field == CHANGING && touched.contains(&n) {
                continue;
            }
            assert_eq!(told, usize::from(in_list), "order {n}, {said}");
        }
        if walk.field != CHANGING {
            let numbers: BTreeSet<u128> = walked.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers.len(), walked.len(), "none is told twice, not even a new one: {said}");
            let in_order = |one: &(u128, String), other: &(u128, String)| match walk.descending {
                true => one.1 > other.1,
                false => one.1 < other.1,
            };
            assert!(walked.windows(2).all(|pair| in_order(&pair[0], &pair[1])), "{said}");
        }
        shop.stop_projecting().await;
    }
}

#[tokio::test]
async fn a_walk_tells_every_order_that_is_there_throughout_once_on_sqlite() {
    every_order_is_told_once(Kind::Sqlite, 15).await;
}

#[tokio::test]
async fn a_walk_tells_every_order_that_is_there_throughout_once_on_postgres() {
    every_order_is_told_once(Kind::Postgres, 6).await;
}

#[tokio::test]
async fn a_cursor_is_refused_by_a_list_that_is_sorted_another_way() {
    let shop = Shop::open().await;
    for n in 1..=3 {
        shop.order(n, customer(1), OrderStatus::Shipped).await;
    }
    shop.caught_up().await;
    let by = |field: &str, direction: &str| format!("orderBy: {{ field: {field}, direction: {direction} }}");
    let ask = async |order_by: &str, after: &Value| {
        let query = format!(
            "{{ orders(first: 1, after: {after}, {order_by}) {{ edges {{ node {{ orderId }} }} pageInfo {{ endCursor }} }} }}"
        );
        shop.endpoint.post(&json!({ "query": query })).send().await
    };
    for field in ["PLACED_AT", "UPDATED_AT", "TOTAL"] {
        for direction in ["ASC", "DESC"] {
            let cursor =
                ask(&by(field, direction), &Value::Null).await.json()["data"]["orders"]["pageInfo"]["endCursor"]
                    .clone();
            for other in ["PLACED_AT", "UPDATED_AT", "TOTAL"] {
                for other_direction in ["ASC", "DESC"] {
                    let answer = ask(&by(other, other_direction), &cursor).await;
                    let fits = (field, direction) == (other, other_direction);
                    assert_eq!(
                        answer.code(),
                        if fits { "" } else { "cursor_mismatch" },
                        "{field} {direction} in {other} {other_direction}"
                    );
                }
            }
        }
    }
    assert_eq!(ask(&by("TOTAL", "ASC"), &json!("nonsense")).await.code(), "validation_failed");
}

#[tokio::test]
async fn a_page_lies_between_two_cursors() {
    let shop = Shop::open().await;
    for n in 1..=9 {
        shop.order(n, customer(1), OrderStatus::Shipped).await;
    }
    shop.caught_up().await;
    let all = shop.endpoint.data("{ orders { edges { cursor } } }").await;
    // the newest first: place 0 is order 9
    let cursor = |place: usize| all["orders"]["edges"][place]["cursor"].to_string();
    let page = async |arguments: String| {
        let query = format!(
            "{{ orders({arguments}) {{ edges {{ node {{ externalRef }} }} totalCount
                pageInfo {{ hasPreviousPage hasNextPage }} }} }}"
        );
        let data = shop.endpoint.data(&query).await["orders"].clone();
        assert_eq!(data["totalCount"], 9, "cursors are no filter");
        let numbers = data["edges"].as_array().unwrap().iter().map(|edge| {
            edge["node"]["externalRef"].as_str().unwrap().trim_start_matches("ref-").parse::<u64>().unwrap()
        });
        let info = |name: &str| data["pageInfo"][name].as_bool().unwrap();
        (numbers.collect::<Vec<_>>(), info("hasPreviousPage"), info("hasNextPage"))
    };
    let (second, sixth) = (cursor(1), cursor(5));
    assert_eq!(page(format!("after: {second}, before: {sixth}")).await, (vec![7, 6, 5], true, true));
    assert_eq!(page(format!("first: 2, after: {second}, before: {sixth}")).await, (vec![7, 6], true, true));
    assert_eq!(page(format!("last: 2, after: {second}, before: {sixth}")).await, (vec![6, 5], true, true));
    assert_eq!(page("last: 3".to_owned()).await, (vec![3, 2, 1], true, false));
    assert_eq!(page("last: 9".to_owned()).await, ((1..=9).rev().collect(), false, false));
    assert_eq!(page(format!("last: 3, before: {second}")).await, (vec![9], false, true));
    assert_eq!(page(format!("after: {}", cursor(8))).await, (vec![], true, false));
    assert_eq!(page(format!("before: {}", cursor(0))).await, (vec![], false, true));
    let both = json!({ "query": "{ orders(first: 1, last: 1) { totalCount } }" });
    assert_eq!(shop.endpoint.post(&both).send().await.code(), "validation_failed");
    for size in ["first: 0", "last: 0", "last: 101", "first: 101", "last: -1"] {
        let refused = json!({ "query": format!("{{ orders({size}) {{ totalCount }} }}") });
        assert!(
            ["validation_failed", "limit_exceeded"].contains(&&*shop.endpoint.post(&refused).send().await.code()),
            "{size}"
        );
    }
}
