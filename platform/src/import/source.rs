//! Reads the monolith: one read-only transaction, one set of statements for both databases.
//!
//! Every column is read as its text. So a 32-bit float means the same from SQLite (`9.80000019`) and PostgreSQL (`9.8`,
//! see [`super::decimal`]), and a cell that holds something else, as SQLite allows, is one bad row with its key and not
//! the end of the import.

use std::{path::Path, str::FromStr};

use anyhow::{Context, bail, ensure};
use sqlx::{
    ConnectOptions, Connection, FromRow, PgConnection, SqliteConnection,
    postgres::{PgConnectOptions, PgRow},
    sqlite::{SqliteConnectOptions, SqliteRow},
};

/// Orders of one page: bounds what is held of a source of any size (an order has a handful of lines).
const ORDERS_PAGE: i64 = 500;

/// An open source, in one transaction from its first read to its last.
pub enum Source {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// How much there is, for progress and for saying at the end what of it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    pub customers: u64,
    pub products: u64,
    pub orders: u64,
    pub lines: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct CustomerRow {
    pub customer_id: String,
    pub company_name: Option<String>,
    pub address: Option<String>,
    pub city: Option<String>,
    pub region: Option<String>,
    pub postal_code: Option<String>,
    pub country: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ProductRow {
    pub product_id: String,
    pub product_name: Option<String>,
    pub unit_price: Option<String>,
    pub discontinued: Option<String>,
}

/// An order with its lines, in the order of their products.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRows {
    pub order_id: String,
    pub customer_id: Option<String>,
    pub order_date: Option<String>,
    pub shipped_date: Option<String>,
    pub lines: Vec<LineRow>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineRow {
    pub product_id: String,
    /// `None` where the products table has no such row.
    pub product_name: Option<String>,
    pub quantity: Option<String>,
    pub unit_price: Option<String>,
    pub discount: Option<String>,
}

/// One row of the JOIN over all four tables.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct JoinedRow {
    pub order_id: String,
    pub customer_id: Option<String>,
    pub company_name: Option<String>,
    pub order_date: Option<String>,
    pub shipped_date: Option<String>,
    pub product_id: Option<String>,
    pub product_name: Option<String>,
    pub quantity: Option<String>,
    pub unit_price: Option<String>,
    pub discount: Option<String>,
}

/// The oracle's one statement. Outer joins, so that an order is missed by us and never by the oracle.
const JOIN: &str = "
    select cast(o.order_id as text) as order_id, o.customer_id, c.company_name,
           cast(o.order_date as text) as order_date, cast(o.shipped_date as text) as shipped_date,
           cast(d.product_id as text) as product_id, p.product_name, cast(d.quantity as text) as quantity,
           cast(d.unit_price as text) as unit_price, cast(d.discount as text) as discount
    from orders o
    left join customers c on c.customer_id = o.customer_id
    left join order_details d on d.order_id = o.order_id
    left join products p on p.product_id = d.product_id
    order by o.order_id, d.product_id, d.quantity, d.unit_price, d.discount";

/// A page of orders behind `$1`. Lines come in one fixed order, so that the same order is the same request every time.
const ORDERS: &str = "
    select cast(o.order_id as text) as order_id, o.customer_id, null as company_name,
           cast(o.order_date as text) as order_date, cast(o.shipped_date as text) as shipped_date,
           cast(d.product_id as text) as product_id, p.product_name, cast(d.quantity as text) as quantity,
           cast(d.unit_price as text) as unit_price, cast(d.discount as text) as discount
    from (select order_id, customer_id, order_date, shipped_date from orders where order_id > $1
          order by order_id limit $2) o
    left join order_details d on d.order_id = o.order_id
    left join products p on p.product_id = d.product_id
    order by o.order_id, d.product_id, d.quantity, d.unit_price, d.discount";

const CUSTOMERS: &str = "
    select customer_id, company_name, address, city, region, postal_code, country from customers order by customer_id";

const PRODUCTS: &str = "
    select cast(product_id as text) as product_id, product_name, cast(unit_price as text) as unit_price,
           cast(discontinued as text) as discontinued
    from products order by products.product_id";

/// Lines that no order owns: nothing could say whose they are.
const ORPHANS: &str = "
    select cast(d.order_id as text) as order_id, cast(d.product_id as text) as product_id
    from order_details d left join orders o on o.order_id = d.order_id
    where o.order_id is null order by d.order_id, d.product_id";

const COUNTS: &str = "
    select (select count(*) from customers) as customers, (select count(*) from products) as products,
           (select count(*) from orders) as orders, (select count(*) from order_details) as lines,
           (select count(distinct customer_id) from customers) as customer_keys,
           (select count(distinct product_id) from products) as product_keys,
           (select count(distinct order_id) from orders) as order_keys";

#[derive(FromRow)]
struct CountsRow {
    customers: i64,
    products: i64,
    orders: i64,
    lines: i64,
    customer_keys: i64,
    product_keys: i64,
    order_keys: i64,
}

#[derive(FromRow)]
struct OrphanRow {
    order_id: Option<String>,
    product_id: Option<String>,
}

impl Source {
    /// Opens a `postgres://` URL or a SQLite file, for reading only.
    pub async fn connect(from: &str) -> anyhow::Result<Self> {
        let mut source = if from.starts_with("postgres://") || from.starts_with("postgresql://") {
            let options = PgConnectOptions::from_str(from)
                .context("--from: not a PostgreSQL URL")?
                // fixed forms of dates and floats as text, whatever the role's settings are
                .options([("datestyle", "ISO"), ("extra_float_digits", "1")]);
            Self::Postgres(PgConnection::connect_with(&options).await.context("--from: connect to PostgreSQL")?)
        } else {
            ensure!(Path::new(from).is_file(), "--from: {from} is neither a file nor a postgres:// URL");
            let options = SqliteConnectOptions::new().filename(from).read_only(true).disable_statement_logging();
            Self::Sqlite(
                SqliteConnection::connect_with(&options).await.with_context(|| format!("--from: open {from}"))?,
            )
        };
        match &mut source {
            Self::Sqlite(connection) => sqlx::query("begin").execute(connection).await.map(drop),
            Self::Postgres(connection) => {
                let begin = "begin transaction isolation level repeatable read, read only";
                sqlx::query(begin).execute(connection).await.map(drop)
            }
        }
        .context("--from: begin a transaction")?;
        Ok(source)
    }

    /// Counts the tables, and makes sure that the keys are keys (the SQLite form of the schema does not).
    pub async fn counts(&mut self) -> anyhow::Result<Counts> {
        let rows: Vec<CountsRow> = self.rows(COUNTS, &[]).await.context("--from: not a Northwind database")?;
        let Some(row) = rows.first() else { bail!("--from: counting its tables gave no row") };
        for (column, rows, keys) in [
            ("customers.customer_id", row.customers, row.customer_keys),
            ("products.product_id", row.products, row.product_keys),
            ("orders.order_id", row.orders, row.order_keys),
        ] {
            ensure!(rows == keys, "--from: {column} is not a key: {rows} rows hold {keys} values");
        }
        let count = |n: i64| n.unsigned_abs();
        Ok(Counts {
            customers: count(row.customers),
            products: count(row.products),
            orders: count(row.orders),
            lines: count(row.lines),
        })
    }

    pub async fn customers(&mut self) -> anyhow::Result<Vec<CustomerRow>> {
        self.rows(CUSTOMERS, &[]).await.context("read customers")
    }

    pub async fn products(&mut self) -> anyhow::Result<Vec<ProductRow>> {
        self.rows(PRODUCTS, &[]).await.context("read products")
    }

    /// The next page of orders behind `after` (`None` = from the first); empty at the end.
    pub async fn orders(&mut self, after: Option<&str>) -> anyhow::Result<Vec<OrderRows>> {
        let after: i64 = match after {
            None => i64::MIN,
            Some(key) => key.parse().with_context(|| format!("orders.order_id {key:?} is not an integer"))?,
        };
        let rows: Vec<JoinedRow> = self.rows(ORDERS, &[after, ORDERS_PAGE]).await.context("read orders")?;
        Ok(group(rows).into_iter().map(|(order, _)| order).collect())
    }

    /// Every order with its customer's name and its lines' products, from one JOIN.
    pub async fn joined(&mut self) -> anyhow::Result<Vec<(OrderRows, Option<String>)>> {
        Ok(group(self.rows(JOIN, &[]).await.context("read the JOIN")?))
    }

    /// Keys `<order>/<product>` of lines without an order.
    pub async fn orphan_lines(&mut self) -> anyhow::Result<Vec<String>> {
        let rows: Vec<OrphanRow> = self.rows(ORPHANS, &[]).await.context("read lines without an order")?;
        let text = |key: Option<String>| key.unwrap_or_else(|| "null".to_owned());
        Ok(rows.into_iter().map(|row| format!("{}/{}", text(row.order_id), text(row.product_id))).collect())
    }

    async fn rows<T>(&mut self, sql: &'static str, binds: &[i64]) -> Result<Vec<T>, sqlx::Error>
    where
        T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        match self {
            Self::Sqlite(connection) => {
                binds.iter().fold(sqlx::query_as(sql), |query, bind| query.bind(*bind)).fetch_all(connection).await
            }
            Self::Postgres(connection) => {
                binds.iter().fold(sqlx::query_as(sql), |query, bind| query.bind(*bind)).fetch_all(connection).await
            }
        }
    }
}

/// Rows of one order stand together, because every statement sorts by its key.
fn group(rows: Vec<JoinedRow>) -> Vec<(OrderRows, Option<String>)> {
    let mut orders: Vec<(OrderRows, Option<String>)> = Vec::new();
    for row in rows {
        if orders.last().is_none_or(|(order, _)| order.order_id != row.order_id) {
            let order = OrderRows {
                order_id: row.order_id,
                customer_id: row.customer_id,
                order_date: row.order_date,
                shipped_date: row.shipped_date,
                lines: Vec::new(),
            };
            orders.push((order, row.company_name));
        }
        if let (Some((order, _)), Some(product_id)) = (orders.last_mut(), row.product_id) {
            order.lines.push(LineRow {
                product_id,
                product_name: row.product_name,
                quantity: row.quantity,
                unit_price: row.unit_price,
                discount: row.discount,
            });
        }
    }
    orders
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use testkit::northwind::{self, Northwind};

    use super::*;
    use crate::import::mapping;

    async fn open(northwind: &Northwind) -> Source {
        Source::connect(northwind.path.to_str().unwrap()).await.unwrap()
    }

    /// Every request that the importer would make of a source, and the oracle's JOIN.
    async fn requests(mut source: Source) -> (Vec<mapping::Command>, Vec<(mapping::Order, Option<String>)>) {
        let customers = source.customers().await.unwrap();
        let products = source.products().await.unwrap();
        let orders = all_orders(&mut source).await;
        let customers = customers.iter().map(|row| mapping::customer(row).unwrap());
        let ends = products.iter().filter_map(mapping::discontinue);
        let orders = orders.iter().map(|row| mapping::import_order(&mapping::order(row).unwrap()));
        let added = products.iter().map(|row| mapping::product(row).unwrap());
        let joined = source.joined().await.unwrap().into_iter();
        let joined = joined.map(|(row, customer_name)| (mapping::order(&row).unwrap(), customer_name)).collect();
        (customers.chain(added).chain(ends).chain(orders).collect(), joined)
    }

    async fn all_orders(source: &mut Source) -> Vec<OrderRows> {
        let mut orders: Vec<OrderRows> = Vec::new();
        loop {
            let after = orders.last().map(|order| order.order_id.clone());
            let page = source.orders(after.as_deref()).await.unwrap();
            if page.is_empty() {
                return orders;
            }
            orders.extend(page);
        }
    }

    /// Everything that must hold of the real rows, and holds of the synthetic ones.
    async fn check(northwind: &Northwind) {
        let mut source = open(northwind).await;
        let counts = source.counts().await.unwrap();
        let shape = [counts.customers, counts.products, counts.orders, counts.lines];
        assert_eq!(
            shape,
            [northwind::CUSTOMERS, northwind::PRODUCTS, northwind::ORDERS, northwind::LINES].map(u64::from)
        );

        let products = source.products().await.unwrap();
        assert!(products.iter().all(|row| mapping::product(row).is_ok()));
        let discontinued = products.iter().filter_map(mapping::discontinue).count();
        assert_eq!(discontinued, northwind::DISCONTINUED as usize);

        let customers = source.customers().await.unwrap();
        assert!(customers.iter().all(|row| mapping::customer(row).is_ok()));
        assert!(customers.iter().any(|row| !row.company_name.as_ref().unwrap().is_ascii()), "accents survive");

        let orders = all_orders(&mut source).await;
        assert_eq!(orders.len(), northwind::ORDERS as usize);
        let mapped: Vec<_> = orders.iter().map(|row| mapping::order(row).unwrap()).collect();
        let confirmed = mapped.iter().filter(|order| order.shipped_at.is_none()).count();
        assert_eq!(confirmed, northwind::NEVER_SHIPPED as usize);
        let ids: HashSet<_> = mapped.iter().map(|order| order.order_id).collect();
        assert_eq!(ids.len(), mapped.len());

        // the pages and the one JOIN hold the same lines in the same order
        let joined = source.joined().await.unwrap();
        assert!(joined.iter().map(|(order, _)| order).eq(&orders));
        assert!(joined.iter().all(|(_, customer_name)| customer_name.is_some()));
        assert_eq!(source.orphan_lines().await.unwrap(), Vec::<String>::new());
        if northwind.is_real {
            let totals = mapped.iter().flat_map(|order| &order.lines).map(|line| line.total_minor().unwrap());
            // the sum of lines that were rounded once each; the source's unrounded floats add up to 1,265,793.04
            assert_eq!(totals.sum::<i64>(), 126_579_329);
            let catalog = |line: &events::orders::OrderLine| {
                let found = products.iter().find(|row| mapping::product_id(&row.product_id) == line.product_id);
                mapping::product(found.unwrap()).unwrap().body["unit_price"]["amount_minor"].as_i64().unwrap()
            };
            let lines = mapped.iter().flat_map(|order| &order.lines);
            let other_price = lines.filter(|line| catalog(line) != line.unit_price.amount_minor).count();
            assert_eq!(other_price, 662);
        }
    }

    #[tokio::test]
    async fn the_real_rows_are_read_where_they_are_at_hand() {
        check(&Northwind::real_or_synthetic().unwrap()).await;
    }

    #[tokio::test]
    async fn the_synthetic_rows_are_read_the_same_way() {
        check(&Northwind::synthetic().unwrap()).await;
    }

    #[tokio::test]
    async fn the_same_rows_in_postgresql_make_the_same_requests() {
        let northwind = Northwind::real_or_synthetic().unwrap();
        let url = northwind.to_postgres(testkit::postgres::shared().await).await.unwrap();
        let from_postgres = Source::connect(&url).await.unwrap();
        assert_eq!(requests(from_postgres).await, requests(open(&northwind).await).await);
    }

    #[tokio::test]
    async fn a_line_that_no_order_owns_and_a_line_of_no_product_are_found() {
        let northwind = Northwind::synthetic().unwrap();
        northwind.execute("insert into order_details values (1, 5, 9.80000019, 1, 0), (10248, 999, 1, 1, 0)").unwrap();
        let mut source = open(&northwind).await;
        assert_eq!(source.orphan_lines().await.unwrap(), ["1/5"]);
        let page = source.orders(None).await.unwrap();
        let error = mapping::order(&page[0]).unwrap_err().to_string();
        assert_eq!(error, "line 10248/999: product 999 is not in the products table");
        assert!(page[1..].iter().all(|row| mapping::order(row).is_ok()), "the rest goes on");
    }

    #[tokio::test]
    async fn text_where_a_number_belongs_spoils_one_row_only() {
        let northwind = Northwind::synthetic().unwrap();
        northwind.execute("update order_details set quantity = 'many' where order_id = 10250").unwrap();
        let page = open(&northwind).await.orders(None).await.unwrap();
        let bad: Vec<_> = page.iter().filter(|row| mapping::order(row).is_err()).collect();
        assert_eq!(bad.len(), 1);
        assert_eq!(bad[0].order_id, "10250");
    }

    #[tokio::test]
    async fn what_is_no_northwind_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.sqlite");
        std::fs::write(&path, "").unwrap();
        let error = Source::connect(path.to_str().unwrap()).await.unwrap().counts().await.unwrap_err();
        assert_eq!(error.to_string(), "--from: not a Northwind database");
        let error = Source::connect("no/such/file").await.err().unwrap();
        assert_eq!(error.to_string(), "--from: no/such/file is neither a file nor a postgres:// URL");

        let northwind = Northwind::synthetic().unwrap();
        northwind.execute("insert into orders select * from orders limit 1").unwrap();
        let error = open(&northwind).await.counts().await.unwrap_err();
        assert_eq!(error.to_string(), "--from: orders.order_id is not a key: 831 rows hold 830 values");
    }

    #[tokio::test]
    async fn the_source_is_only_read() {
        let northwind = Northwind::synthetic().unwrap();
        let Source::Sqlite(mut connection) = open(&northwind).await else { panic!("a file is SQLite") };
        assert!(sqlx::query("delete from orders").execute(&mut connection).await.is_err());
    }
}
