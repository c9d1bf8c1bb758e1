//! The JOIN oracle: what GraphQL says of every order against what one SQL JOIN over the source's tables says.
//!
//! The two have nothing in common but how a cell becomes an integer and the integer formula of a line's total. The one
//! went through commands, logs, feeds and a projection; the other is what the shared database answers.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use events::{
    consistency::ConsistencyToken,
    ids::{CustomerId, OrderId, ProductId},
    money::{Money, sum_minor},
    orders::{OrderLine, OrderStatus},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    client::{Client, RETRY_FOR_MAX},
    mapping::{self, CURRENCY},
    progress::Phase,
    report::thousands,
    source::Source,
};

/// Orders of one GraphQL page.
const PAGE: u32 = 100;

/// Differences that are listed; the rest is counted.
const DIFFERENCES_LISTED_MAX: usize = 1_000;

const QUERY: &str = "
query Oracle($first: Int!, $after: String) {
  orders(first: $first, after: $after) {
    pageInfo { hasNextPage endCursor }
    edges {
      node {
        orderId externalRef status placedAt
        customer { customerId name }
        lines {
          productId productName quantity discountBp
          unitPrice { amountMinor currency }
          total { amountMinor currency }
        }
        total { amountMinor currency }
      }
    }
  }
}";

#[derive(Deserialize)]
struct Data {
    orders: Connection,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Connection {
    page_info: PageInfo,
    edges: Vec<Edge>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Edge {
    node: Node,
}

/// An order as GraphQL answers it.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    order_id: OrderId,
    external_ref: Option<String>,
    status: OrderStatus,
    placed_at: DateTime<Utc>,
    customer: Customer,
    lines: Vec<Line>,
    total: Amount,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Customer {
    customer_id: CustomerId,
    name: Option<String>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    product_id: ProductId,
    product_name: String,
    quantity: u32,
    discount_bp: u16,
    unit_price: Amount,
    total: Amount,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Amount {
    amount_minor: i64,
    currency: String,
}

impl From<Money> for Amount {
    fn from(money: Money) -> Self {
        Self { amount_minor: money.amount_minor, currency: money.currency.to_string() }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount_minor, self.currency)
    }
}

/// What the JOIN says of an order, in our terms.
struct Expected {
    order: mapping::Order,
    customer_name: Option<String>,
    line_totals: Vec<Amount>,
    total: Amount,
}

/// One value that GraphQL answers otherwise than the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The order's old key.
    pub key: String,
    /// `customer.name`, `lines[2].total`, ...
    pub field: String,
    pub source: String,
    pub graphql: String,
}

/// What the comparison has shown.
#[derive(Debug, Default, Serialize)]
pub struct Verdict {
    orders: u64,
    orders_agreeing: u64,
    lines: u64,
    lines_agreeing: u64,
    /// Orders that the import refused and GraphQL rightly does not know.
    orders_refused: u64,
    differences: u64,
    listed: Vec<Difference>,
}

impl Verdict {
    pub fn agrees(&self) -> bool {
        self.differences == 0
    }

    fn add(&mut self, difference: Difference) {
        self.differences += 1;
        if self.listed.len() < DIFFERENCES_LISTED_MAX {
            self.listed.push(difference);
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Difference { key, field, source, graphql } in &self.listed {
            writeln!(f, "order {key}: {field} is {source} in the source and {graphql} in GraphQL")?;
        }
        let more = self.differences - self.listed.len() as u64;
        if more > 0 {
            writeln!(f, "and {} differences more", thousands(more))?;
        }
        let [agreeing, orders] = [self.orders_agreeing, self.orders].map(thousands);
        let [lines_agreeing, lines] = [self.lines_agreeing, self.lines].map(thousands);
        let differences = thousands(self.differences);
        write!(f, "{agreeing} of {orders} orders, {lines_agreeing} of {lines} lines, {differences} differences")?;
        if self.orders_refused > 0 {
            write!(f, " ({} orders were refused by the import)", thousands(self.orders_refused))?;
        }
        Ok(())
    }
}

/// Compares every order of the source. `refused` are the old keys that the import could not enter.
pub async fn run(
    source: &mut Source,
    client: &Client,
    token: &ConsistencyToken,
    refused: &HashSet<String>,
) -> anyhow::Result<Verdict> {
    let joined = source.joined().await?;
    let mut phase = Phase::new("verifying", joined.len() as u64);
    let wanted: HashSet<OrderId> = joined.iter().map(|(row, _)| mapping::order_id(&row.order_id)).collect();
    let nodes = fetch(client, token, &wanted, &mut phase).await?;
    let mut verdict = Verdict::default();
    for (row, customer_name) in joined {
        verdict.orders += 1;
        verdict.lines += row.lines.len() as u64;
        let node = nodes.get(&mapping::order_id(&row.order_id));
        if node.is_none() && refused.contains(&row.order_id) {
            verdict.orders_refused += 1;
            continue;
        }
        let difference = |field: &str, source: String, graphql: &str| Difference {
            key: row.order_id.clone(),
            field: field.to_owned(),
            source,
            graphql: graphql.to_owned(),
        };
        match (expected(mapping::order(&row).map_err(Into::into), customer_name), node) {
            (Ok(expected), Some(node)) => compare(&expected, node, &mut verdict),
            (Ok(_), None) => verdict.add(difference("order", "there".to_owned(), "absent")),
            (Err(error), _) => verdict.add(difference("order", format!("not an order ({error:#})"), "something else")),
        }
    }
    Ok(verdict)
}

/// The wanted orders, from all pages.
async fn fetch(
    client: &Client,
    token: &ConsistencyToken,
    wanted: &HashSet<OrderId>,
    phase: &mut Phase,
) -> anyhow::Result<HashMap<OrderId, Node>> {
    let mut nodes = HashMap::with_capacity(wanted.len());
    let mut after: Option<String> = None;
    loop {
        let variables = json!({"first": PAGE, "after": after});
        let data = client.query(QUERY, &variables, token, RETRY_FOR_MAX).await?;
        let Data { orders } = serde_json::from_value(data).context("GraphQL answered another shape of orders")?;
        for Edge { node } in orders.edges.into_iter().filter(|edge| wanted.contains(&edge.node.order_id)) {
            phase.step();
            let order_id = node.order_id;
            ensure!(nodes.insert(order_id, node).is_none(), "order {order_id} stands on two pages");
        }
        if !orders.page_info.has_next_page {
            return Ok(nodes);
        }
        // a page that does not move on would be asked for for ever
        ensure!(orders.page_info.end_cursor.is_some(), "a page has a next one but no end cursor");
        ensure!(orders.page_info.end_cursor != after, "the page behind a cursor ends at that cursor");
        after = orders.page_info.end_cursor;
    }
}

fn expected(order: anyhow::Result<mapping::Order>, customer_name: Option<String>) -> anyhow::Result<Expected> {
    let order = order?;
    let totals = order.lines.iter().map(OrderLine::total_minor).collect::<Result<Vec<_>, _>>()?;
    let total = Amount::from(Money::new(sum_minor(totals.iter().copied())?, CURRENCY));
    let line_totals = totals.into_iter().map(|total| Money::new(total, CURRENCY).into()).collect();
    Ok(Expected { order, customer_name, line_totals, total })
}

fn compare(expected: &Expected, node: &Node, verdict: &mut Verdict) {
    let Expected { order, customer_name, line_totals, total } = expected;
    let differences_before = verdict.differences;
    let mut check = |field: &str, source: &dyn fmt::Display, graphql: &dyn fmt::Display| {
        let (source, graphql) = (source.to_string(), graphql.to_string());
        let agrees = source == graphql;
        if !agrees {
            verdict.add(Difference { key: order.external_ref.clone(), field: field.to_owned(), source, graphql });
        }
        agrees
    };
    check("externalRef", &order.external_ref, &or_null(&node.external_ref));
    check("status", &order.status, &node.status);
    check("placedAt", &order.placed_at, &node.placed_at);
    check("customer.customerId", &order.customer_id, &node.customer.customer_id);
    check("customer.name", &or_null(customer_name), &or_null(&node.customer.name));
    check("total", total, &node.total);
    check("lines", &order.lines.len(), &node.lines.len());
    let mut lines_agreeing = 0;
    for (n, ((line, line_total), found)) in order.lines.iter().zip(line_totals).zip(&node.lines).enumerate() {
        let mut check = |field: &str, source: &dyn fmt::Display, graphql: &dyn fmt::Display| {
            check(&format!("lines[{n}].{field}"), source, graphql)
        };
        let agrees = [
            check("productId", &line.product_id, &found.product_id),
            check("productName", &line.product_name, &found.product_name),
            check("quantity", &line.quantity, &found.quantity),
            check("unitPrice", &Amount::from(line.unit_price), &found.unit_price),
            check("discountBp", &line.discount_bp, &found.discount_bp),
            check("total", line_total, &found.total),
        ];
        lines_agreeing += u64::from(agrees.into_iter().all(|agrees| agrees));
    }
    verdict.lines_agreeing += lines_agreeing;
    verdict.orders_agreeing += u64::from(verdict.differences == differences_before);
}

fn or_null(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("null")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::import::source::{LineRow, OrderRows};

    fn row() -> OrderRows {
        let some = |text: &str| Some(text.to_owned());
        let line = |product: &str, quantity: &str, unit_price: &str, discount: &str| LineRow {
            product_id: product.to_owned(),
            product_name: Some(format!("Product {product}")),
            quantity: some(quantity),
            unit_price: some(unit_price),
            discount: some(discount),
        };
        OrderRows {
            order_id: "10250".to_owned(),
            customer_id: some("HANAR"),
            order_date: some("1996-07-08"),
            shipped_date: some("1996-07-12"),
            lines: vec![line("41", "10", "7.69999981", "0"), line("51", "35", "42.4000015", "0.150000006")],
        }
    }

    /// What GraphQL answers when all is well.
    fn answer() -> Value {
        let amount = |minor: i64| json!({"amountMinor": minor, "currency": "USD"});
        let line = |product: &str, quantity: u32, unit: i64, discount: u16, total: i64| {
            json!({"productId": mapping::product_id(product), "productName": format!("Product {product}"),
                "quantity": quantity, "unitPrice": amount(unit), "discountBp": discount, "total": amount(total)})
        };
        json!({
            "orderId": mapping::order_id("10250"), "externalRef": "10250", "status": "SHIPPED",
            "placedAt": "1996-07-08T00:00:00+00:00",
            "customer": {"customerId": mapping::customer_id("HANAR"), "name": "Hanari Carnes"},
            // 35 x 42.40 x 0.85 = 1,261.40
            "lines": [line("41", 10, 770, 0, 7_700), line("51", 35, 4_240, 1_500, 126_140)],
            "total": amount(133_840),
        })
    }

    fn verdict_on(answer: Value) -> Verdict {
        let expected = expected(Ok(mapping::order(&row()).unwrap()), Some("Hanari Carnes".to_owned())).unwrap();
        let mut verdict = Verdict { orders: 1, lines: 2, ..Verdict::default() };
        compare(&expected, &serde_json::from_value(answer).unwrap(), &mut verdict);
        verdict
    }

    #[test]
    fn an_order_as_the_source_has_it_agrees() {
        let verdict = verdict_on(answer());
        assert_eq!(verdict.to_string(), "1 of 1 orders, 2 of 2 lines, 0 differences");
        assert!(verdict.agrees());
    }

    #[test]
    fn one_wrong_value_anywhere_is_one_difference_with_key_and_field() {
        for (pointer, wrong, field) in [
            ("/customer/name", json!("Hanari"), "customer.name"),
            ("/customer/name", Value::Null, "customer.name"),
            ("/customer/customerId", json!(mapping::customer_id("VINET")), "customer.customerId"),
            ("/status", json!("CONFIRMED"), "status"),
            ("/placedAt", json!("1996-07-08T00:00:01Z"), "placedAt"),
            ("/externalRef", Value::Null, "externalRef"),
            ("/total/amountMinor", json!(133_841), "total"),
            ("/lines/1/total/amountMinor", json!(126_141), "lines[1].total"),
            ("/lines/1/total/currency", json!("EUR"), "lines[1].total"),
            ("/lines/0/unitPrice/amountMinor", json!(769), "lines[0].unitPrice"),
            ("/lines/0/quantity", json!(11), "lines[0].quantity"),
            ("/lines/1/discountBp", json!(1_499), "lines[1].discountBp"),
            ("/lines/1/productName", json!("Product"), "lines[1].productName"),
            ("/lines/1/productId", json!(mapping::product_id("1")), "lines[1].productId"),
        ] {
            let mut answer = answer();
            *answer.pointer_mut(pointer).unwrap() = wrong;
            let verdict = verdict_on(answer);
            let fields: Vec<_> =
                verdict.listed.iter().map(|found| (found.key.as_str(), found.field.as_str())).collect();
            assert_eq!(fields, [("10250", field)], "{pointer}");
            assert!(!verdict.agrees());
            assert_eq!(verdict.orders_agreeing, 0);
        }
    }

    #[test]
    fn a_line_too_few_is_a_difference() {
        let mut answer = answer();
        answer["lines"].as_array_mut().unwrap().pop();
        let verdict = verdict_on(answer);
        assert_eq!(
            verdict.to_string(),
            "order 10250: lines is 2 in the source and 1 in GraphQL\n0 of 1 orders, 1 of 2 lines, 1 differences"
        );
    }

    #[test]
    fn more_differences_than_are_listed_are_counted() {
        let mut verdict = Verdict::default();
        for n in 0..DIFFERENCES_LISTED_MAX + 7 {
            let [key, field, source, graphql] = [n.to_string(), "order".into(), "there".into(), "absent".into()];
            verdict.add(Difference { key, field, source, graphql });
        }
        assert_eq!(verdict.listed.len(), DIFFERENCES_LISTED_MAX);
        assert!(verdict.to_string().contains("and 7 differences more"));
    }
}
