//! The Northwind traders database as a source for imports: the real one where it is at hand, else one of the same shape.

use std::path::{Path, PathBuf};

use anyhow::Context;
use rusqlite::{Connection, params};
use sqlx::{Connection as _, PgConnection};

use crate::postgres::ThrowAwayPostgres;

/// Names the real database's SQLite file, for a machine that keeps it elsewhere.
pub const PATH_VARIABLE: &str = "TRIBUTARY_NORTHWIND";

/// Rows of the real database and of the synthetic one.
pub const CUSTOMERS: u32 = 91;
pub const PRODUCTS: u32 = 77;
pub const DISCONTINUED: u32 = 10;
pub const ORDERS: u32 = 830;
pub const LINES: u32 = 2_155;
pub const NEVER_SHIPPED: u32 = 21;

const FIRST_ORDER: u32 = 10_248;

/// The parts of the schema that an import reads, as the real database declares them (SQLite holds none of it to its
/// types). Keys of the PostgreSQL form are left out, so that a test can spoil them.
const SCHEMA: &str = "
    create table customers (customer_id character varying(5) not null, company_name character varying(40) not null,
        contact_name character varying(30), address character varying(60), city character varying(15),
        region character varying(15), postal_code character varying(10), country character varying(15));
    create table products (product_id smallint not null, product_name character varying(40) not null,
        unit_price real, discontinued integer not null);
    create table orders (order_id smallint not null, customer_id character varying(5), order_date date,
        shipped_date date);
    create table order_details (order_id smallint not null, product_id smallint not null, unit_price real not null,
        quantity smallint not null, discount real not null);";

/// Table by table: its rows as one JSON array, and how PostgreSQL takes them.
const COPIES: [(&str, &str); 4] = [
    (
        "select json_group_array(json_object('customer_id', customer_id, 'company_name', company_name,
            'address', address, 'city', city, 'region', region, 'postal_code', postal_code, 'country', country))
         from customers",
        "insert into customers select * from json_populate_recordset(null::customers, $1::json)",
    ),
    (
        "select json_group_array(json_object('product_id', product_id, 'product_name', product_name,
            'unit_price', unit_price, 'discontinued', discontinued)) from products",
        "insert into products select * from json_populate_recordset(null::products, $1::json)",
    ),
    (
        "select json_group_array(json_object('order_id', order_id, 'customer_id', customer_id,
            'order_date', order_date, 'shipped_date', shipped_date)) from orders",
        "insert into orders select * from json_populate_recordset(null::orders, $1::json)",
    ),
    (
        "select json_group_array(json_object('order_id', order_id, 'product_id', product_id,
            'unit_price', unit_price, 'quantity', quantity, 'discount', discount)) from order_details",
        "insert into order_details select * from json_populate_recordset(null::order_details, $1::json)",
    ),
];

/// A source database on disk.
pub struct Northwind {
    pub path: PathBuf,
    /// Whether its rows are the real ones.
    pub is_real: bool,
    /// Holds the synthetic file as long as it is used.
    _folder: Option<tempfile::TempDir>,
}

impl Northwind {
    /// The real database if there is one, else a synthetic one, so that no test is ever skipped for want of it.
    pub fn real_or_synthetic() -> anyhow::Result<Self> {
        let beside_the_repository =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/northwind/northwind.sqlite");
        let path = std::env::var_os(PATH_VARIABLE).map_or_else(|| PathBuf::from(beside_the_repository), PathBuf::from);
        if path.is_file() { Ok(Self { path, is_real: true, _folder: None }) } else { Self::synthetic() }
    }

    /// A database of the same shape and with the same traps, the same each time.
    pub fn synthetic() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("northwind.sqlite");
        fill(&path).context("make a synthetic Northwind")?;
        Ok(Self { path, is_real: false, _folder: Some(folder) })
    }

    /// For a test that spoils rows: only ever a synthetic one.
    pub fn execute(&self, sql: &str) -> anyhow::Result<()> {
        anyhow::ensure!(!self.is_real, "the real database is only read");
        Ok(Connection::open(&self.path)?.execute_batch(sql)?)
    }

    /// The same rows in a fresh PostgreSQL database, with its types: prices become 32-bit floats, dates dates. Its URL.
    pub async fn to_postgres(&self, server: &ThrowAwayPostgres) -> anyhow::Result<String> {
        let url = server.create_database("northwind").await?;
        let mut target = PgConnection::connect(&url).await?;
        sqlx::raw_sql(SCHEMA).execute(&mut target).await?;
        for (rows, insert) in COPIES {
            // whole tables as JSON: the tables are small, and every cell keeps its text
            let rows: String = Connection::open(&self.path)?.query_row(rows, [], |row| row.get(0))?;
            sqlx::query(insert).bind(rows).execute(&mut target).await?;
        }
        Ok(url)
    }
}

fn fill(path: &Path) -> anyhow::Result<()> {
    let mut connection = Connection::open(path)?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    let names = ["Antonio Moreno Taquería", "Königlich Essen", "Rancho grande", "Océano Atlántico", "Bon app'"];
    for n in 0..CUSTOMERS {
        let name = format!("{} {n}", names[at(n, names.len())]);
        let region = (n % 3 == 0).then_some("Île-de-France");
        let insert =
            "insert into customers values (?1, ?2, 'Ana', 'Mataderos 2312', 'México D.F.', ?3, '05023', 'Mexico')";
        transaction.execute(insert, params![customer(n), name, region])?;
    }
    for n in 0..PRODUCTS {
        let name = format!("Gnocchi di nonna Älice {n}");
        let discontinued = u32::from(n % 7 == 3 && n / 7 < DISCONTINUED);
        let insert = "insert into products values (?1, ?2, ?3, ?4)";
        transaction.execute(insert, params![n + 1, name, stored(catalog_cents(n), 100), discontinued])?;
    }
    let (mut lines, discounts) = (0, [0, 5, 15, 25, 2]);
    for n in 0..ORDERS {
        let order = FIRST_ORDER + n;
        let shipped = (n < ORDERS - NEVER_SHIPPED).then_some(n / 2 + 8);
        let insert =
            "insert into orders values (?1, ?2, date('1996-07-04', ?3 || ' days'), date('1996-07-04', ?4 || ' days'))";
        transaction.execute(insert, params![order, customer(n * 5 % CUSTOMERS), n / 2, shipped])?;
        // 830 orders of two lines, and a third one for as many as it takes
        for line in 0..if n < LINES - 2 * ORDERS { 3 } else { 2 } {
            let product = (n * 7 + line * 13) % PRODUCTS;
            // what was paid is not always what the catalog says today
            let cents = if n % 3 == 0 { catalog_cents(product) * 4 / 5 } else { catalog_cents(product) };
            let discount = stored(discounts[at(n + line, discounts.len())], 100);
            let insert = "insert into order_details values (?1, ?2, ?3, ?4, ?5)";
            transaction.execute(insert, params![order, product + 1, stored(cents, 100), 1 + n % 40, discount])?;
            lines += 1;
        }
    }
    anyhow::ensure!(lines == LINES, "{lines} lines instead of {LINES}");
    Ok(transaction.commit()?)
}

/// Five letters, as the real keys.
fn customer(n: u32) -> String {
    let letter = |n: u32| char::from(b'A' + u8::try_from(n % 26).expect("below 26"));
    [n / 26, n, n + 7, n * 3, 20].map(letter).into_iter().collect()
}

/// 2.50 to 263.49, on all kinds of cents.
fn catalog_cents(n: u32) -> u32 {
    250 + n * 341 % 26_100
}

/// `part / whole` as the real file holds it: the nearest 32-bit float, printed with nine digits (9.80000019).
fn stored(part: u32, whole: u32) -> f64 {
    let entered = format!("{}.{:02}", part / whole, part % whole);
    let float: f32 = entered.parse().expect("plain decimal text");
    format!("{:.8e}", f64::from(float)).parse().expect("what was just printed")
}

fn at(n: u32, len: usize) -> usize {
    usize::try_from(n).expect("small") % len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_synthetic_database_has_the_shape_and_the_traps_of_the_real_one() {
        let northwind = Northwind::synthetic().unwrap();
        let connection = Connection::open(&northwind.path).unwrap();
        let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap();
        assert_eq!(count("select count(distinct customer_id) from customers"), CUSTOMERS);
        assert_eq!(count("select count(*) from products where discontinued = 1"), DISCONTINUED);
        assert_eq!(count("select count(*) from orders where shipped_date is null"), NEVER_SHIPPED);
        assert_eq!(count("select count(*) from (select distinct order_id, product_id from order_details)"), LINES);
        let other_price = "select count(*) from order_details d join products p using (product_id) \
                           where d.unit_price <> p.unit_price";
        assert!(count(other_price) > 600);
        assert_eq!(stored(980, 100).to_string(), "9.80000019");
        assert_eq!(stored(15, 100).to_string(), "0.150000006");
    }
}
