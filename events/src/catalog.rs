//! What the catalog service publishes.

use serde::{Deserialize, Serialize};

use crate::{ids::ProductId, money::Money, published::published};

/// The name of the catalog service: its source in vectors and tokens, and its place in URLs.
pub const SOURCE: &str = "catalog";

/// The aggregate type of a product's stream.
pub const PRODUCT: &str = "product";

published! {
    /// Everything that can be known to have happened to a product.
    pub enum ProductEvent {
        "ProductAdded" "1" => ProductAdded,
        "ProductRenamed" "1" => ProductRenamed,
        "PriceChanged" "1" => PriceChanged,
        "ProductDiscontinued" "1" => ProductDiscontinued,
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProductAdded {
    pub product_id: ProductId,
    pub sku: String,
    pub name: String,
    pub unit_price: Money,
    /// The key this product has in the system it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_ref: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProductRenamed {
    pub product_id: ProductId,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PriceChanged {
    pub product_id: ProductId,
    pub unit_price: Money,
}

/// The product is no longer sold; orders that hold it keep it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProductDiscontinued {
    pub product_id: ProductId,
}
