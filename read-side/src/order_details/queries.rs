//! What can be asked about orders.

use events::{
    ids::{CustomerId, OrderId, ProductId},
    money::Currency,
    orders::OrderStatus,
};

use super::{CUSTOMER, CustomerRow, OrderColumns, OrderDetails, OrderRow, PRODUCT, TEMPLATE};
use crate::{
    ReadError, ReadSide,
    consistency::Consistency,
    paging::{Conditions, Keyset, List, Page, Place, Stretch},
    read_side::{Bind, Rows},
    template::Live,
};

/// Which orders are wanted; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderFilter {
    pub customer_id: Option<CustomerId>,
    pub status: Option<OrderStatus>,
    /// Any of these; none of them all are none.
    pub statuses: Option<Vec<OrderStatus>>,
    /// Microseconds of Unix time; this instant included.
    pub placed_after_us: Option<i64>,
    /// Microseconds of Unix time; this instant excluded.
    pub placed_before_us: Option<i64>,
    pub currency: Option<Currency>,
    /// In minor units; this amount included, as in the next one.
    pub total_min_minor: Option<i64>,
    pub total_max_minor: Option<i64>,
    /// With a line of this product.
    pub product_id: Option<ProductId>,
    pub external_ref: Option<String>,
}

impl OrderFilter {
    /// What an order says of itself when it is placed, and never again.
    pub(super) fn lasting(&self, only: Option<CustomerId>, conditions: &mut Conditions) {
        for customer_id in self.customer_id.into_iter().chain(only) {
            conditions.and("customer_id =", Bind::Text(customer_id.to_string()));
        }
        if let Some(placed_after_us) = self.placed_after_us {
            conditions.and("placed_at_us >=", Bind::Integer(placed_after_us));
        }
        if let Some(placed_before_us) = self.placed_before_us {
            conditions.and("placed_at_us <", Bind::Integer(placed_before_us));
        }
        if let Some(currency) = self.currency {
            conditions.and("currency =", Bind::Text(currency.to_string()));
        }
        if let Some(total_min_minor) = self.total_min_minor {
            conditions.and("total_minor >=", Bind::Integer(total_min_minor));
        }
        if let Some(total_max_minor) = self.total_max_minor {
            conditions.and("total_minor <=", Bind::Integer(total_max_minor));
        }
        if let Some(external_ref) = &self.external_ref {
            conditions.and("external_ref =", Bind::Text(external_ref.clone()));
        }
    }

    /// Where the order stands, which changes: `status` is what gives it.
    pub(super) fn standing(&self, status: &str, conditions: &mut Conditions) {
        if let Some(is) = self.status {
            conditions.and(&format!("{status} ="), Bind::Text(is.as_str().to_owned()));
        }
        if let Some(statuses) = &self.statuses {
            let mut any: Vec<&str> = statuses.iter().map(|status| status.as_str()).collect();
            any.sort_unstable();
            any.dedup();
            if any.is_empty() {
                conditions.and_text("false");
                return;
            }
            let places: Vec<String> =
                any.iter().map(|is| format!("${}", conditions.bind(Bind::Text((*is).to_owned())))).collect();
            conditions.and_text(&format!("{status} in ({})", places.join(", ")));
        }
    }
}

/// The orders that have a line of the product in parameter `n`: no order changes its products.
pub(super) fn with_product(live: Live, n: usize) -> String {
    let links = TEMPLATE.links_table(live.generation);
    format!(" and order_id in (select entity_key from {links} where reference = '{PRODUCT}' and foreign_key = ${n})")
}

/// The order of a list of orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OrderSort {
    pub key: SortKey,
    pub descending: bool,
}

/// What orders are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SortKey {
    /// Never changes.
    PlacedAt,
    /// Changes with whatever the orders service records of the order.
    UpdatedAt,
    /// Minor units, of whatever currency. Never changes.
    Total,
}

impl OrderSort {
    pub const NEWEST: Self = Self { key: SortKey::PlacedAt, descending: true };

    pub(super) fn keyset(self) -> Keyset {
        let sort_key = match self.key {
            SortKey::PlacedAt => "placed_at_us",
            SortKey::UpdatedAt => "updated_at_us",
            SortKey::Total => "total_minor",
        };
        Keyset { sort_key, id: TEMPLATE.key, descending: self.descending }
    }
}

/// A place in a list of orders: that of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderCursor {
    /// What the list is sorted by, of the order.
    pub sort_key: i64,
    pub order_id: OrderId,
}

impl OrderCursor {
    /// The place of an order whose sort key was read.
    pub fn of(order: &OrderRow, sort: OrderSort) -> Option<Self> {
        let sort_key = match sort.key {
            SortKey::PlacedAt => order.placed_at_us,
            SortKey::UpdatedAt => order.updated_at_us,
            SortKey::Total => order.total_minor,
        };
        Some(Self { sort_key: sort_key?, order_id: order.order_id })
    }

    pub(super) fn place(self) -> Place {
        (Bind::Integer(self.sort_key), self.order_id.to_string())
    }
}

/// Among the newest first.
impl From<&OrderDetails> for OrderCursor {
    fn from(order: &OrderDetails) -> Self {
        Self { sort_key: order.placed_at_us, order_id: order.order_id }
    }
}

impl ReadSide {
    /// One order, or `None` if the read model does not hold it at (or after) the token.
    pub async fn order(&self, id: OrderId, consistency: &Consistency) -> Result<Option<OrderDetails>, ReadError> {
        let row = self.order_columns(id, OrderColumns::ALL, consistency).await?;
        Ok(row.map(OrderRow::whole).transpose()?)
    }

    /// As [`Self::order`], as far as it is asked for.
    pub async fn order_columns(
        &self,
        id: OrderId,
        columns: OrderColumns,
        consistency: &Consistency,
    ) -> Result<Option<OrderRow>, ReadError> {
        let mut conditions = Conditions::default();
        conditions.and("order_id =", Bind::Text(id.to_string()));
        OrderFilter::default().lasting(self.only(), &mut conditions);
        let rows = Rows {
            select: |live: Live| {
                let select = select(live, columns);
                format!("{select} from {} where served{}", TEMPLATE.table(live.generation), conditions.text)
            },
            order_by: "".into(),
            binds: conditions.binds.clone(),
        };
        Ok(self.read(&TEMPLATE, consistency, rows).await?.pop())
    }

    /// Those of `ids` that are there, in any order.
    pub async fn orders_by_id(
        &self,
        ids: &[OrderId],
        columns: OrderColumns,
        consistency: &Consistency,
    ) -> Result<Vec<OrderRow>, ReadError> {
        let mut conditions = Conditions::default();
        let n = conditions.bind(Bind::keys(ids));
        OrderFilter::default().lasting(self.only(), &mut conditions);
        let in_ids = self.in_keys(n);
        let rows = Rows {
            select: |live: Live| {
                let (select, table) = (select(live, columns), TEMPLATE.table(live.generation));
                format!("{select} from {table} where served and order_id {in_ids}{}", conditions.text)
            },
            order_by: "".into(),
            binds: conditions.binds.clone(),
        };
        self.read(&TEMPLATE, consistency, rows).await
    }

    /// A stretch of the list of the orders that `filter` lets pass.
    pub async fn list_orders(
        &self,
        filter: &OrderFilter,
        sort: OrderSort,
        stretch: Stretch<OrderCursor>,
        columns: OrderColumns,
        consistency: &Consistency,
    ) -> Result<Page<OrderRow>, ReadError> {
        let keyset = sort.keyset();
        // cursors are made of it
        let columns = columns | OrderColumns::of(keyset.sort_key);
        let mut conditions = Conditions::default();
        filter.lasting(self.only(), &mut conditions);
        filter.standing("status", &mut conditions);
        let product = filter.product_id.map(|id| conditions.bind(Bind::Text(id.to_string())));
        let Conditions { text, binds } = conditions;
        let list = List {
            template: &TEMPLATE,
            select: |live| select(live, columns),
            from: |live: Live| {
                let with_product = product.map(|n| with_product(live, n)).unwrap_or_default();
                format!("from {} where served{text}{with_product}", TEMPLATE.table(live.generation))
            },
            keyset,
            binds,
        };
        self.page(list, stretch.map(OrderCursor::place), consistency).await
    }

    /// The orders behind `after` that `filter` lets pass, whole and newest first, at most `first`.
    pub async fn orders(
        &self,
        filter: &OrderFilter,
        first: usize,
        after: Option<OrderCursor>,
        consistency: &Consistency,
    ) -> Result<Page<OrderDetails>, ReadError> {
        let stretch = Stretch::first(first.max(1), after);
        let page = self.list_orders(filter, OrderSort::NEWEST, stretch, OrderColumns::ALL, consistency).await?;
        let Page { rows, has_previous_page, has_next_page, total } = page;
        let rows = rows.into_iter().map(OrderRow::whole).collect::<Result<_, _>>()?;
        Ok(Page { rows, has_previous_page, has_next_page, total })
    }

    /// A customer, from what the users service told; `None` if it has told nothing yet.
    pub async fn customer(&self, id: CustomerId, consistency: &Consistency) -> Result<Option<CustomerRow>, ReadError> {
        // nobody's row is read, and the token waited for, where it is another's
        let condition = if self.sees(id) { "customer_id = $1" } else { "customer_id = $1 and false" };
        let rows = Rows {
            select: |live: Live| {
                let table = TEMPLATE.reference_table(live.generation, CUSTOMER);
                format!("select customer_id, name, email, erased from {table} where {condition}")
            },
            order_by: "".into(),
            binds: vec![Bind::Text(id.to_string())],
        };
        Ok(self.read(&TEMPLATE, consistency, rows).await?.pop())
    }
}

fn select(live: Live, columns: OrderColumns) -> String {
    TEMPLATE.select_only(live, |place| columns.has(place))
}
