//! The columns of an order that a reader wants: what nobody asked for is neither read nor decoded.

use std::ops::BitOr;

use events::{
    ids::{CustomerId, OrderId},
    money::Currency,
    orders::OrderStatus,
};
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::{OrderDetails, OrderLineRow, OrderPayment, OrderReservation, OrderShipment, TEMPLATE};
use crate::columns::InOrder;

/// Some of the columns of [`TEMPLATE`]. The key is always read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OrderColumns(u32);

impl OrderColumns {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self((1 << TEMPLATE.columns.len()) - 1);

    /// The column of this name.
    ///
    /// Panics if there is none, when it is compiled where it may be: names are written by hand, and only a column that was
    /// removed or misspelt has none.
    pub const fn of(name: &str) -> Self {
        let mut place = 0;
        while !is_same(TEMPLATE.columns[place].name, name) {
            place += 1;
        }
        Self(1 << place)
    }

    /// The columns of both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn has(self, place: usize) -> bool {
        self.0 & (1 << place) != 0
    }

    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for OrderColumns {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Texts cannot be compared by `==` in what is computed when it is compiled.
const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut place = 0;
    while place < one.len() && place < other.len() && one[place] == other[place] {
        place += 1;
    }
    place == one.len() && place == other.len()
}

/// An order as far as it was asked for: [`OrderDetails`], in which a column that was not read is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRow {
    pub order_id: OrderId,
    pub external_ref: Option<String>,
    pub customer_id: Option<CustomerId>,
    pub customer_name: Option<String>,
    pub customer_email: Option<String>,
    pub status: Option<OrderStatus>,
    pub placed_at_us: Option<i64>,
    pub shipped_at_us: Option<i64>,
    pub lines: Option<Vec<OrderLineRow>>,
    pub total_minor: Option<i64>,
    pub currency: Option<Currency>,
    pub updated_at_us: Option<i64>,
    pub confirmed_at_us: Option<i64>,
    pub cancelled_at_us: Option<i64>,
    pub cancel_reason: Option<String>,
    /// Null in the generations that do not know it.
    pub rejected: Option<bool>,
    pub delivered_at_us: Option<i64>,
    pub returned_at_us: Option<i64>,
    pub return_reason: Option<String>,
    pub reservation: Option<OrderReservation>,
    pub payment: Option<OrderPayment>,
    pub shipment: Option<OrderShipment>,
}

impl<'r, R> FromRow<'r, R> for OrderRow
where
    R: Row,
    usize: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    &'r str: Decode<'r, R::Database> + Type<R::Database>,
    bool: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let mut columns = InOrder::from(row, TEMPLATE.key)?;
        let key = columns.take_parsed(TEMPLATE.key)?;
        // in the order of the template, as they are selected
        Ok(Self {
            order_id: key.ok_or_else(|| sqlx::Error::ColumnNotFound(TEMPLATE.key.to_owned()))?,
            external_ref: columns.take("external_ref")?,
            customer_id: columns.take_parsed("customer_id")?,
            customer_name: columns.take("customer_name")?,
            customer_email: columns.take("customer_email")?,
            status: columns.take_parsed("status")?,
            placed_at_us: columns.take("placed_at_us")?,
            shipped_at_us: columns.take("shipped_at_us")?,
            lines: columns.take_json("lines")?,
            total_minor: columns.take("total_minor")?,
            currency: columns.take_parsed("currency")?,
            updated_at_us: columns.take("updated_at_us")?,
            confirmed_at_us: columns.take("confirmed_at_us")?,
            cancelled_at_us: columns.take("cancelled_at_us")?,
            cancel_reason: columns.take("cancel_reason")?,
            rejected: columns.take("rejected")?,
            delivered_at_us: columns.take("delivered_at_us")?,
            returned_at_us: columns.take("returned_at_us")?,
            return_reason: columns.take("return_reason")?,
            reservation: columns.take_json("reservation")?,
            payment: columns.take_json("payment")?,
            shipment: columns.take_json("shipment")?,
        })
    }
}

impl From<OrderDetails> for OrderRow {
    fn from(order: OrderDetails) -> Self {
        Self {
            order_id: order.order_id,
            external_ref: order.external_ref,
            customer_id: Some(order.customer_id),
            customer_name: order.customer_name,
            customer_email: order.customer_email,
            status: Some(order.status),
            placed_at_us: Some(order.placed_at_us),
            shipped_at_us: order.shipped_at_us,
            lines: Some(order.lines),
            total_minor: Some(order.total_minor),
            currency: Some(order.currency),
            updated_at_us: Some(order.updated_at_us),
            confirmed_at_us: order.confirmed_at_us,
            cancelled_at_us: order.cancelled_at_us,
            cancel_reason: order.cancel_reason,
            rejected: Some(order.rejected),
            delivered_at_us: order.delivered_at_us,
            returned_at_us: order.returned_at_us,
            return_reason: order.return_reason,
            reservation: order.reservation,
            payment: order.payment,
            shipment: order.shipment,
        }
    }
}

impl OrderRow {
    /// The order, if every column was read.
    pub fn whole(self) -> Result<OrderDetails, sqlx::Error> {
        fn read<T>(column: &str, value: Option<T>) -> Result<T, sqlx::Error> {
            value.ok_or_else(|| sqlx::Error::ColumnNotFound(column.to_owned()))
        }
        Ok(OrderDetails {
            order_id: self.order_id,
            external_ref: self.external_ref,
            customer_id: read("customer_id", self.customer_id)?,
            customer_name: self.customer_name,
            customer_email: self.customer_email,
            status: read("status", self.status)?,
            placed_at_us: read("placed_at_us", self.placed_at_us)?,
            shipped_at_us: self.shipped_at_us,
            lines: read("lines", self.lines)?,
            total_minor: read("total_minor", self.total_minor)?,
            currency: read("currency", self.currency)?,
            updated_at_us: read("updated_at_us", self.updated_at_us)?,
            confirmed_at_us: self.confirmed_at_us,
            cancelled_at_us: self.cancelled_at_us,
            cancel_reason: self.cancel_reason,
            rejected: self.rejected.unwrap_or(false),
            delivered_at_us: self.delivered_at_us,
            returned_at_us: self.returned_at_us,
            return_reason: self.return_reason,
            reservation: self.reservation,
            payment: self.payment,
            shipment: self.shipment,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_has_a_place_and_all_are_all() {
        let every = TEMPLATE.columns.iter().map(|column| OrderColumns::of(column.name));
        let together = every.fold(OrderColumns::NONE, |all, one| {
            assert!(!all.contains(one));
            all | one
        });
        assert_eq!(together, OrderColumns::ALL);
    }
}
