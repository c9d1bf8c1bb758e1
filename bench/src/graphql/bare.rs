//! The same two questions by hand: an address each, one prepared statement, JSON from structs. No limits, no tokens, no
//! generations, nobody's rights.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use chrono::DateTime;
use read_side::{order_details::TEMPLATE, query_database};
use serde::{Deserialize, Serialize};
use sqlx::{
    AssertSqlSafe, ColumnIndex, Decode, FromRow, PgPool, Row, SqlitePool, Type, postgres::PgPoolOptions,
    sqlite::SqlitePoolOptions,
};

use super::question::PAGE;
use crate::serving;

/// As many as our side has.
const POSTGRES_CONNECTIONS: u32 = 16;
const SQLITE_CONNECTIONS: u32 = 4;

/// Where the rows are, as a command line says it.
#[derive(Debug, Clone)]
pub enum Rows {
    Postgres { url: String },
    Sqlite { directory: PathBuf },
}

impl Rows {
    pub fn of(url: Option<String>, directory: Option<PathBuf>) -> anyhow::Result<Self> {
        match (url, directory) {
            (Some(url), _) => Ok(Self::Postgres { url }),
            (None, Some(directory)) => Ok(Self::Sqlite { directory }),
            (None, None) => anyhow::bail!("--url or --directory says where the rows are"),
        }
    }
}

enum Pool {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

struct Bare {
    pool: Pool,
    by_id: String,
    page: String,
}

/// Prints the address and serves until the owner is gone.
pub async fn serve(rows: Rows, generation: i64) -> anyhow::Result<()> {
    let pool = match rows {
        Rows::Postgres { url } => {
            let pool = PgPoolOptions::new().max_connections(POSTGRES_CONNECTIONS).test_before_acquire(false);
            Pool::Postgres(pool.connect(&url).await.context("connect to PostgreSQL")?)
        }
        Rows::Sqlite { directory } => {
            let file = query_database::generation_file(&directory, TEMPLATE.name, generation);
            let pool = SqlitePoolOptions::new()
                .max_connections(SQLITE_CONNECTIONS)
                .acquire_timeout(Duration::from_secs(30))
                .test_before_acquire(false);
            Pool::Sqlite(pool.connect_with(query_database::sqlite_reader(&file)).await.context("open the rows")?)
        }
    };
    let table = TEMPLATE.table(generation);
    let bare = Bare {
        pool,
        by_id: format!(
            "select order_id, external_ref, status, placed_at_us, customer_id, customer_name, customer_email, lines, \
             total_minor, currency from {table} where order_id = $1 and served"
        ),
        page: format!(
            "select order_id, external_ref, status, placed_at_us, lines, total_minor, currency from {table} \
             where served and customer_id = $1 order by placed_at_us desc, order_id desc limit {}",
            PAGE + 1
        ),
    };
    let router = Router::new().route("/orders/{id}", get(by_id)).route("/customers/{id}/orders", get(page));
    serving::serve(router.with_state(Arc::new(bare))).await
}

impl Bare {
    async fn rows<T>(&self, statement: &str, id: String) -> Result<Vec<T>, sqlx::Error>
    where
        T: for<'r> FromRow<'r, sqlx::postgres::PgRow> + for<'r> FromRow<'r, sqlx::sqlite::SqliteRow> + Send + Unpin,
    {
        let statement = AssertSqlSafe(statement.to_owned());
        match &self.pool {
            Pool::Postgres(pool) => sqlx::query_as(statement).bind(id).fetch_all(pool).await,
            Pool::Sqlite(pool) => sqlx::query_as(statement).bind(id).fetch_all(pool).await,
        }
    }
}

async fn by_id(State(bare): State<Arc<Bare>>, Path(id): Path<String>) -> Result<Response, Failed> {
    let mut found: Vec<Found> = bare.rows(&bare.by_id, id).await?;
    let order = found.pop().map(Found::order).transpose()?;
    answer(&Data { data: Order { order } })
}

async fn page(State(bare): State<Arc<Bare>>, Path(id): Path<String>) -> Result<Response, Failed> {
    let mut found: Vec<FoundOfMany> = bare.rows(&bare.page, id).await?;
    let has_next_page = found.len() > PAGE;
    found.truncate(PAGE);
    let edges: Result<Vec<Edge>, Failed> = found.into_iter().map(|found| Ok(Edge { node: found.order()? })).collect();
    answer(&Data { data: Orders { orders: Page { edges: edges?, page_info: PageInfo { has_next_page } } } })
}

fn answer(body: &impl Serialize) -> Result<Response, Failed> {
    Ok(([(CONTENT_TYPE, "application/json")], serde_json::to_vec(body)?).into_response())
}

/// Whatever went wrong: a benchmark ends at the first.
struct Failed(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.0.to_string()).into_response()
    }
}

#[derive(Serialize)]
struct Data<T> {
    data: T,
}

#[derive(Serialize)]
struct Order {
    order: Option<OneOrder>,
}

#[derive(Serialize)]
struct Orders {
    orders: Page,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    edges: Vec<Edge>,
    page_info: PageInfo,
}

#[derive(Serialize)]
struct Edge {
    node: OneOfMany,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OneOrder {
    order_id: String,
    external_ref: Option<String>,
    status: String,
    placed_at: String,
    customer: Customer,
    lines: Vec<Line>,
    total: Money,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Customer {
    customer_id: String,
    name: Option<String>,
    email: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    product_id: String,
    product_name: String,
    quantity: u32,
    unit_price: Money,
    discount_bp: u16,
    total: Money,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OneOfMany {
    order_id: String,
    external_ref: Option<String>,
    status: String,
    placed_at: String,
    lines: Vec<LineOfMany>,
    total: Money,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LineOfMany {
    product_name: String,
    quantity: u32,
    total: Money,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Money {
    amount_minor: i64,
    currency: String,
}

/// A line as it lies in the row.
#[derive(Deserialize)]
struct StoredLine {
    product_id: String,
    product_name: String,
    quantity: u32,
    unit_price_minor: i64,
    currency: String,
    discount_bp: u16,
    total_minor: i64,
}

struct Found {
    of_many: FoundOfMany,
    customer: Customer,
}

struct FoundOfMany {
    order_id: String,
    external_ref: Option<String>,
    status: String,
    placed_at_us: i64,
    lines: String,
    total: Money,
}

impl<'r, R> FromRow<'r, R> for FoundOfMany
where
    R: Row,
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            order_id: row.try_get("order_id")?,
            external_ref: row.try_get("external_ref")?,
            status: row.try_get("status")?,
            placed_at_us: row.try_get("placed_at_us")?,
            lines: row.try_get("lines")?,
            total: Money { amount_minor: row.try_get("total_minor")?, currency: row.try_get("currency")? },
        })
    }
}

impl<'r, R> FromRow<'r, R> for Found
where
    R: Row,
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let customer = Customer {
            customer_id: row.try_get("customer_id")?,
            name: row.try_get("customer_name")?,
            email: row.try_get("customer_email")?,
        };
        Ok(Self { of_many: FoundOfMany::from_row(row)?, customer })
    }
}

fn placed_at(placed_at_us: i64) -> Result<String, Failed> {
    Ok(DateTime::from_timestamp_micros(placed_at_us).context("a time")?.to_rfc3339())
}

impl Found {
    fn order(self) -> Result<OneOrder, Failed> {
        let Self { of_many: found, customer } = self;
        let lines: Vec<StoredLine> = serde_json::from_str(&found.lines)?;
        let line = |line: StoredLine| Line {
            product_id: line.product_id,
            product_name: line.product_name,
            quantity: line.quantity,
            unit_price: Money { amount_minor: line.unit_price_minor, currency: line.currency.clone() },
            discount_bp: line.discount_bp,
            total: Money { amount_minor: line.total_minor, currency: line.currency },
        };
        Ok(OneOrder {
            order_id: found.order_id,
            external_ref: found.external_ref,
            status: found.status,
            placed_at: placed_at(found.placed_at_us)?,
            customer,
            lines: lines.into_iter().map(line).collect(),
            total: found.total,
        })
    }
}

impl FoundOfMany {
    fn order(self) -> Result<OneOfMany, Failed> {
        let lines: Vec<StoredLine> = serde_json::from_str(&self.lines)?;
        let line = |line: StoredLine| LineOfMany {
            product_name: line.product_name,
            quantity: line.quantity,
            total: Money { amount_minor: line.total_minor, currency: line.currency },
        };
        Ok(OneOfMany {
            order_id: self.order_id,
            external_ref: self.external_ref,
            status: self.status,
            placed_at: placed_at(self.placed_at_us)?,
            lines: lines.into_iter().map(line).collect(),
            total: self.total,
        })
    }
}
