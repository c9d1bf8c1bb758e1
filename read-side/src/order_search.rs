//! Order search: orders by the words that somebody remembers of them. Reference in another system, customer, products, SKUs,
//! status.
//!
//! Words follow the customer's name and the products' names; products are found under the name they were ordered by, too.

mod queries;

use events::{
    ids::{CustomerId, OrderId, ProductId},
    money::Currency,
    orders::OrderStatus,
};
use serde::{Deserialize, Serialize};

pub use self::queries::FOUND_MAX;
use crate::{
    references::{self, Customer, ProductRow},
    template::{Kind, Template, column},
    words::words,
};

/// The tables of this read model.
pub static TEMPLATE: Template = Template {
    name: "order_search",
    key: "order_id",
    sources: &[events::orders::SOURCE, events::users::SOURCE, events::catalog::SOURCE],
    facets: &["order_facet"],
    columns: &[
        column("external_ref", Kind::Text),
        column("customer_id", Kind::Text),
        column("customer_name", Kind::Text),
        column("status", Kind::Text),
        column("placed_at_us", Kind::Integer),
        column("total_minor", Kind::Integer),
        column("currency", Kind::Text),
        column("words", Kind::Text),
    ],
    references: &[references::CUSTOMERS, references::PRODUCTS],
    search: Some("words"),
    ..Template::BLANK
};

/// The root facet: what the orders service has said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderFacet {
    pub external_ref: Option<String>,
    pub customer_id: CustomerId,
    pub status: OrderStatus,
    pub placed_at_us: i64,
    pub total_minor: i64,
    pub currency: Currency,
    /// Products with their names as ordered.
    pub products: Vec<(ProductId, String)>,
}

/// An order that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundOrder {
    pub order_id: OrderId,
    pub external_ref: Option<String>,
    pub customer_id: CustomerId,
    /// `None` until the users service's event arrived, and after the customer was erased.
    pub customer_name: Option<String>,
    pub status: OrderStatus,
    /// Microseconds of Unix time.
    pub placed_at_us: i64,
    pub total_minor: i64,
    pub currency: Currency,
}

/// What [`derive`] gives: the columns of [`TEMPLATE`].
#[derive(Debug, Serialize)]
pub struct Derived<'a> {
    external_ref: Option<&'a str>,
    customer_id: CustomerId,
    customer_name: Option<&'a str>,
    status: OrderStatus,
    placed_at_us: i64,
    total_minor: i64,
    currency: Currency,
    words: String,
}

/// The row, from the facet and what its references say now. Pure.
pub fn derive<'a>(
    order: &'a OrderFacet,
    customer: Option<&'a Customer>,
    product: impl Fn(ProductId) -> Option<&'a ProductRow>,
) -> Derived<'a> {
    let of_customer = customer.into_iter().flat_map(|customer| [&customer.name, &customer.email]).flatten();
    let of_products = order.products.iter().flat_map(|(product_id, as_ordered)| {
        let now = product(*product_id).into_iter().flat_map(|product| [product.sku.as_str(), product.name.as_str()]);
        now.chain([as_ordered.as_str()])
    });
    // a row has room for so many words, the first ones: those that tell orders apart come first
    let texts = order.external_ref.iter().chain(of_customer).map(String::as_str);
    Derived {
        external_ref: order.external_ref.as_deref(),
        customer_id: order.customer_id,
        customer_name: customer.and_then(|customer| customer.name.as_deref()),
        status: order.status,
        placed_at_us: order.placed_at_us,
        total_minor: order.total_minor,
        currency: order.currency,
        words: words(texts.chain([order.status.as_str()]).chain(of_products)),
    }
}
