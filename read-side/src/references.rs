//! What rows of several read models refer to: who bought, and what.

use serde::{Deserialize, Serialize};

use crate::template::{Kind, ReferenceTemplate, column};

/// The reference that the users service fills.
pub const CUSTOMER: &str = "customer";
pub(crate) const CUSTOMERS: ReferenceTemplate = ReferenceTemplate {
    name: CUSTOMER,
    key: "customer_id",
    columns: &[column("name", Kind::Text), column("email", Kind::Text), column("erased", Kind::Boolean)],
};

/// The reference that the catalog service fills.
pub const PRODUCT: &str = "product";
pub(crate) const PRODUCTS: ReferenceTemplate = ReferenceTemplate {
    name: PRODUCT,
    key: "product_id",
    columns: &[column("sku", Kind::Text), column("name", Kind::Text), column("discontinued", Kind::Boolean)],
};

/// The state of the customer reference.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    pub name: Option<String>,
    pub email: Option<String>,
    pub erased: bool,
}

/// A product as the catalog knows it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductRow {
    pub sku: String,
    pub name: String,
    pub discontinued: bool,
}
