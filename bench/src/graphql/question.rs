//! What is asked: one order by its id, and the first twenty of a customer.

use anyhow::Context;
use events::consistency::{ConsistencyToken, TOKEN_HEADER};
use read_side::{order_details::TEMPLATE, query_database};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

use super::{Place, ours::CUSTOMER_HEADER};

/// Orders of a page.
pub const PAGE: usize = 20;

const ORDER: &str = "query Order($id: ID!) { order(id: $id) { orderId externalRef status placedAt \
    customer { customerId name email } lines { productId productName quantity unitPrice { amountMinor currency } \
    discountBp total { amountMinor currency } } total { amountMinor currency } } }";

const ORDERS: &str = "query Orders($id: ID!) { orders(first: 20, filter: {customerId: $id}) { edges { node { orderId \
    externalRef status placedAt lines { productName quantity total { amountMinor currency } } \
    total { amountMinor currency } } } pageInfo { hasNextPage } } }";

/// `{g}` = the generation: PostGraphile names its fields after the table.
const PEERS_ORDER: &str = "query Order($id: String!) { order: orderDetailsG{g}ByOrderId(orderId: $id) { orderId externalRef \
    status placedAtUs customerId customerName customerEmail lines totalMinor currency } }";

const PEERS_ORDERS: &str = "query Orders($id: String!) { orders: allOrderDetailsG{g}S(first: 20, condition: \
    {customerId: $id}, orderBy: [PLACED_AT_US_DESC, ORDER_ID_DESC]) { nodes { orderId externalRef status placedAtUs \
    lines totalMinor currency } pageInfo { hasNextPage } } }";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    ById,
    Page,
}

impl Question {
    pub const ALL: [Self; 2] = [Self::ById, Self::Page];

    pub fn name(self) -> &'static str {
        match self {
            Self::ById => "an order by id",
            Self::Page => "the first 20 of a customer",
        }
    }

    pub fn rows_expected(self) -> usize {
        match self {
            Self::ById => 1,
            Self::Page => PAGE,
        }
    }

    /// The orders in `data`.
    pub fn rows(self, data: &Value) -> Vec<&Value> {
        match self {
            Self::ById => vec![&data["order"]],
            Self::Page => data["orders"]["edges"].as_array().into_iter().flatten().map(|edge| &edge["node"]).collect(),
        }
    }

    /// The same in PostGraphile's.
    pub fn rows_of_peer(self, data: &Value) -> Vec<&Value> {
        match self {
            Self::ById => vec![&data["order"]],
            Self::Page => data["orders"]["nodes"].as_array().into_iter().flatten().collect(),
        }
    }
}

/// An order and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Of {
    order_id: String,
    customer_id: String,
}

/// What is there to be asked for.
pub struct Asked {
    pub generation: i64,
    token: ConsistencyToken,
    orders: Vec<Of>,
    /// One order of each customer.
    customers: Vec<Of>,
}

impl Asked {
    pub async fn of(place: &Place, token: ConsistencyToken) -> anyhow::Result<Self> {
        let name = TEMPLATE.name;
        let live = format!("select live_generation from read_models where name = '{name}'");
        let rows = |generation| {
            let table = TEMPLATE.table(generation);
            AssertSqlSafe(format!("select order_id, customer_id from {table} where served order by placed_at_us"))
        };
        let (generation, orders): (i64, Vec<Of>) = match place {
            Place::Postgres { url } => {
                let mut connection = PgConnection::connect(url).await.context("connect to PostgreSQL")?;
                let live = sqlx::query_scalar(AssertSqlSafe(live)).fetch_one(&mut connection).await?;
                (live, sqlx::query_as(rows(live)).fetch_all(&mut connection).await?)
            }
            Place::Sqlite { directory } => {
                let pointers = query_database::sqlite_reader(&query_database::pointer_file(directory.path()));
                let mut pointers = SqliteConnection::connect_with(&pointers).await?;
                let live = sqlx::query_scalar(AssertSqlSafe(live)).fetch_one(&mut pointers).await?;
                let file = query_database::generation_file(directory.path(), name, live);
                let mut file = SqliteConnection::connect_with(&query_database::sqlite_reader(&file)).await?;
                (live, sqlx::query_as(rows(live)).fetch_all(&mut file).await?)
            }
        };
        let mut customers = orders.clone();
        customers.dedup_by(|one, other| one.customer_id == other.customer_id);
        // who came last may not have ordered enough yet
        if customers.len() > 1 {
            customers.pop();
        }
        Ok(Self { generation, token, orders, customers })
    }

    /// Everything that a question is asked about.
    pub fn each(&self, question: Question) -> impl Iterator<Item = &Of> {
        match question {
            Question::ById => self.orders.iter(),
            Question::Page => self.customers.iter(),
        }
    }

    pub fn of_ours(&self, question: Question, of: &Of) -> Vec<u8> {
        let (query, id) = match question {
            Question::ById => (ORDER, &of.order_id),
            Question::Page => (ORDERS, &of.customer_id),
        };
        let headers = format!("{TOKEN_HEADER}: {}\r\n{CUSTOMER_HEADER}: {}\r\n", self.token, of.customer_id);
        post(query, id, &headers)
    }

    pub fn of_bare(&self, question: Question, of: &Of) -> Vec<u8> {
        let path = match question {
            Question::ById => format!("/orders/{}", of.order_id),
            Question::Page => format!("/customers/{}/orders", of.customer_id),
        };
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
    }

    pub fn of_peer(&self, question: Question, of: &Of) -> Vec<u8> {
        let (query, id) = match question {
            Question::ById => (PEERS_ORDER, &of.order_id),
            Question::Page => (PEERS_ORDERS, &of.customer_id),
        };
        post(&query.replace("{g}", &self.generation.to_string()), id, "")
    }
}

fn post(query: &str, id: &str, headers: &str) -> Vec<u8> {
    let body = json!({ "query": query, "variables": { "id": id } }).to_string();
    format!(
        "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json\r\n\
         {headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
