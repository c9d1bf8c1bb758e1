//! The rows as requests. Pure: the same row is the same request, byte for byte, so entering it twice is entering it once.

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use events::{
    ids::{CustomerId, OrderId, ProductId},
    money::{BASIS_POINTS, Currency, Money},
    orders::{OrderLine, OrderStatus},
};
use serde_json::{Value, json};
use thiserror::Error;
use uuid::Uuid;

use super::{
    decimal::{DecimalError, scaled},
    source::{CustomerRow, LineRow, OrderRows, ProductRow},
};

/// Under it the ids of all imported things are made from their old keys. Never to change: it makes an import repeatable.
const NAMESPACE: Uuid = Uuid::from_u128(0x0365_b382_3e83_4258_a940_0e50_4167_d6a8);

/// The source holds amounts without saying of what.
pub const CURRENCY: Currency = Currency::USD;

/// What a row is of: names it in ids, keys and the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Customer,
    Product,
    /// The end of a product's sale: a command of its own on the same old key.
    Discontinued,
    Order,
    /// Key `<order>/<product>`.
    OrderLine,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Product => "product",
            Self::Discontinued => "discontinued",
            Self::Order => "order",
            Self::OrderLine => "order_line",
        }
    }
}

/// A request to one of the services. `key` is its `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    pub path: String,
    pub key: String,
    pub body: Value,
}

/// Why a row cannot be asked for: it never reaches a service.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RowError {
    #[error("{column} is null")]
    Null { column: &'static str },
    #[error("{column}: {error}")]
    Number { column: &'static str, error: DecimalError },
    #[error("{column} {value:?} is not a whole number of at least 1")]
    Quantity { column: &'static str, value: String },
    #[error("discount {value} is more than the whole")]
    Discount { value: String },
    #[error("{column} {value:?} is not a date")]
    Date { column: &'static str, value: String },
    #[error("product {product_id} is not in the products table")]
    NoProduct { product_id: String },
    #[error("line {key}: {error}")]
    Line { key: String, error: Box<RowError> },
}

fn id(kind: Kind, old_key: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("northwind/{}/{old_key}", kind.as_str()).as_bytes())
}

pub fn customer_id(old_key: &str) -> CustomerId {
    id(Kind::Customer, old_key).into()
}

pub fn product_id(old_key: &str) -> ProductId {
    id(Kind::Product, old_key).into()
}

pub fn order_id(old_key: &str) -> OrderId {
    id(Kind::Order, old_key).into()
}

/// From the id and not the old key itself: a header holds no accents.
fn idempotency_key(kind: Kind, old_key: &str) -> String {
    format!("northwind-{}-{}", kind.as_str(), id(kind, old_key))
}

/// `POST /users`. The company is the customer: Northwind's orders are a company's. It keeps no e-mail addresses, so each
/// customer gets one under a domain that can never receive mail (RFC 2606).
pub fn customer(row: &CustomerRow) -> Result<Command, RowError> {
    let name = required("company_name", &row.company_name)?;
    let mut body = json!({
        "id": customer_id(&row.customer_id),
        "name": name,
        "email": format!("{}@northwind.example", row.customer_id.to_lowercase()),
        "external_ref": row.customer_id,
    });
    if let (Some(street), Some(city), Some(country)) = (text(&row.address), text(&row.city), text(&row.country)) {
        let mut address = json!({"street": street, "city": city, "country": country});
        for (field, value) in [("region", text(&row.region)), ("postal_code", text(&row.postal_code))] {
            if let Some(value) = value {
                address[field] = value.into();
            }
        }
        body["address"] = address;
    }
    Ok(Command { path: "/users".to_owned(), key: idempotency_key(Kind::Customer, &row.customer_id), body })
}

/// `POST /products`. Northwind has no stock keeping units: the old key stands in.
pub fn product(row: &ProductRow) -> Result<Command, RowError> {
    let unit_price = cents("unit_price", &row.unit_price)?;
    let body = json!({
        "id": product_id(&row.product_id),
        "sku": format!("NORTHWIND-{}", row.product_id),
        "name": required("product_name", &row.product_name)?,
        "unit_price": Money::new(unit_price, CURRENCY),
        "external_ref": row.product_id,
    });
    Ok(Command { path: "/products".to_owned(), key: idempotency_key(Kind::Product, &row.product_id), body })
}

/// `POST /products/{id}/discontinue`, for a product that is no longer sold.
pub fn discontinue(row: &ProductRow) -> Option<Command> {
    let discontinued = row.discontinued.as_deref().is_some_and(|flag| flag != "0");
    discontinued.then(|| Command {
        path: format!("/products/{}/discontinue", product_id(&row.product_id)),
        key: idempotency_key(Kind::Discontinued, &row.product_id),
        body: json!({}),
    })
}

/// An order as it should be after the import, in our terms.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    pub order_id: OrderId,
    pub external_ref: String,
    pub customer_id: CustomerId,
    pub status: OrderStatus,
    pub placed_at: DateTime<Utc>,
    pub shipped_at: Option<DateTime<Utc>>,
    pub lines: Vec<OrderLine>,
}

/// What a source order says. Shipped is shipped; never shipped, however old, is confirmed and still to be shipped.
pub fn order(row: &OrderRows) -> Result<Order, RowError> {
    let customer = required("customer_id", &row.customer_id)?;
    let shipped_at = row.shipped_date.as_deref().map(|date| day("shipped_date", date)).transpose()?;
    Ok(Order {
        order_id: order_id(&row.order_id),
        external_ref: row.order_id.clone(),
        customer_id: customer_id(customer),
        status: if shipped_at.is_some() { OrderStatus::Shipped } else { OrderStatus::Confirmed },
        placed_at: day("order_date", required("order_date", &row.order_date)?)?,
        shipped_at,
        lines: row
            .lines
            .iter()
            .map(|row_line| {
                line(row_line).map_err(|error| RowError::Line {
                    key: format!("{}/{}", row.order_id, row_line.product_id),
                    error: Box::new(error),
                })
            })
            .collect::<Result<_, _>>()?,
    })
}

/// `POST /orders/import`.
pub fn import_order(order: &Order) -> Command {
    let time = |time: &DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let mut body = json!({
        "id": order.order_id,
        "customer_id": order.customer_id,
        "lines": order.lines,
        "status": order.status,
        "placed_at": time(&order.placed_at),
        "external_ref": order.external_ref,
    });
    if let Some(shipped_at) = &order.shipped_at {
        body["shipped_at"] = time(shipped_at).into();
    }
    Command { path: "/orders/import".to_owned(), key: idempotency_key(Kind::Order, &order.external_ref), body }
}

fn line(row: &LineRow) -> Result<OrderLine, RowError> {
    let Some(product_name) = &row.product_name else {
        return Err(RowError::NoProduct { product_id: row.product_id.clone() });
    };
    let quantity = required("quantity", &row.quantity)?;
    let fraction = required("discount", &row.discount)?;
    let discount = scaled(fraction, 4).map_err(|error| RowError::Number { column: "discount", error })?;
    Ok(OrderLine {
        product_id: product_id(&row.product_id),
        product_name: product_name.clone(),
        quantity: quantity
            .parse()
            .ok()
            .filter(|quantity: &u32| *quantity > 0)
            .ok_or_else(|| RowError::Quantity { column: "quantity", value: quantity.to_owned() })?,
        unit_price: Money::new(cents("unit_price", &row.unit_price)?, CURRENCY),
        discount_bp: u16::try_from(discount)
            .ok()
            .filter(|discount| *discount <= BASIS_POINTS)
            .ok_or_else(|| RowError::Discount { value: fraction.to_owned() })?,
    })
}

fn cents(column: &'static str, value: &Option<String>) -> Result<i64, RowError> {
    scaled(required(column, value)?, 2).map_err(|error| RowError::Number { column, error })
}

fn required<'a>(column: &'static str, value: &'a Option<String>) -> Result<&'a str, RowError> {
    value.as_deref().ok_or(RowError::Null { column })
}

/// A cell with something in it.
fn text(value: &Option<String>) -> Option<&str> {
    value.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

/// A day of the source, as the moment it begins in UTC.
fn day(column: &'static str, value: &str) -> Result<DateTime<Utc>, RowError> {
    let date = value.parse::<NaiveDate>().map(NaiveDateTime::from);
    // other copies of this database hold days as times
    let time = date.or_else(|_| NaiveDateTime::parse_from_str(value, "%Y-%m-%d %H:%M:%S%.f"));
    time.map(|time| time.and_utc()).map_err(|_| RowError::Date { column, value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn row() -> OrderRows {
        OrderRows {
            order_id: "10248".to_owned(),
            customer_id: some("VINET"),
            order_date: some("1996-07-04"),
            shipped_date: some("1996-07-16"),
            lines: vec![LineRow {
                product_id: "42".to_owned(),
                product_name: some("Singaporean Hokkien Fried Mee"),
                quantity: some("10"),
                unit_price: some("9.80000019"),
                discount: some("0.150000006"),
            }],
        }
    }

    #[test]
    fn an_order_keeps_its_own_times_prices_and_status() {
        let command = import_order(&order(&row()).unwrap());
        assert_eq!(command.path, "/orders/import");
        assert_eq!(command.body["status"], "SHIPPED");
        assert_eq!(command.body["placed_at"], "1996-07-04T00:00:00Z");
        assert_eq!(command.body["shipped_at"], "1996-07-16T00:00:00Z");
        assert_eq!(command.body["external_ref"], "10248");
        assert_eq!(command.body["lines"][0]["unit_price"], json!({"amount_minor": 980, "currency": "USD"}));
        assert_eq!(command.body["lines"][0]["discount_bp"], 1500);
        assert_eq!(command.body["lines"][0]["product_name"], "Singaporean Hokkien Fried Mee");
    }

    #[test]
    fn an_order_that_was_never_shipped_is_confirmed() {
        let command = import_order(&order(&OrderRows { shipped_date: None, ..row() }).unwrap());
        assert_eq!(command.body["status"], "CONFIRMED");
        assert_eq!(command.body.get("shipped_at"), None);
    }

    #[test]
    fn the_same_row_is_the_same_request_for_ever() {
        // these ids are in people's databases: a change of namespace or naming is a second import of everything
        let command = import_order(&order(&row()).unwrap());
        assert_eq!(command, import_order(&order(&row()).unwrap()));
        assert_eq!(command.key, format!("northwind-order-{}", order_id("10248")));
        assert_eq!(order_id("10248").to_string(), "9a87291e-94b1-5943-902e-c9583e404d43");
        assert_eq!(customer_id("VINET").to_string(), "91cde9a7-5d98-51bd-993f-ae3accf35546");
        assert_eq!(product_id("42").to_string(), "84ab537a-e087-5e41-8aa2-14ed6b413093");
    }

    #[test]
    fn a_customer_without_a_full_address_is_entered_without_one() {
        let row = CustomerRow {
            customer_id: "ALFKI".to_owned(),
            company_name: some("Alfreds Futterkiste"),
            address: some("Obere Str. 57"),
            city: some("Berlin"),
            region: some(" "),
            postal_code: some("12209"),
            country: some("Germany"),
        };
        let command = customer(&row).unwrap();
        assert_eq!(command.body["email"], "alfki@northwind.example");
        assert_eq!(
            command.body["address"],
            json!({"street": "Obere Str. 57", "city": "Berlin", "country": "Germany", "postal_code": "12209"})
        );
        let command = customer(&CustomerRow { country: None, ..row }).unwrap();
        assert_eq!(command.body.get("address"), None);
    }

    #[test]
    fn a_product_is_discontinued_by_a_command_of_its_own() {
        let row = ProductRow {
            product_id: "5".to_owned(),
            product_name: some("Chef Anton's Gumbo Mix"),
            unit_price: some("21.3500004"),
            discontinued: some("1"),
        };
        assert_eq!(product(&row).unwrap().body["unit_price"]["amount_minor"], 2135);
        let command = discontinue(&row).unwrap();
        assert_eq!(command.path, format!("/products/{}/discontinue", product_id("5")));
        assert_ne!(command.key, product(&row).unwrap().key);
        assert_eq!(discontinue(&ProductRow { discontinued: some("0"), ..row }), None);
    }

    #[test]
    fn a_bad_cell_is_named_with_its_key() {
        let with = |change: fn(&mut LineRow)| {
            let mut row = row();
            change(&mut row.lines[0]);
            order(&row).unwrap_err().to_string()
        };
        assert_eq!(
            with(|line| line.quantity = some("0")),
            "line 10248/42: quantity \"0\" is not a whole number of at least 1"
        );
        assert_eq!(
            with(|line| line.quantity = some("many")),
            "line 10248/42: quantity \"many\" is not a whole number of at least 1"
        );
        assert_eq!(with(|line| line.discount = some("1.5")), "line 10248/42: discount 1.5 is more than the whole");
        assert_eq!(with(|line| line.unit_price = some("-1")), "line 10248/42: unit_price: -1 is negative");
        assert_eq!(with(|line| line.unit_price = None), "line 10248/42: unit_price is null");
        assert_eq!(with(|line| line.product_name = None), "line 10248/42: product 42 is not in the products table");
        let date = order(&OrderRows { order_date: some("04.07.1996"), ..row() }).unwrap_err();
        assert_eq!(date.to_string(), "order_date \"04.07.1996\" is not a date");
    }
}
