//! The products that the catalog has told of, as orders refer to them.

use events::ids::ProductId;

use super::{PRODUCT, TEMPLATE};
use crate::{
    ReadError, ReadSide,
    consistency::Consistency,
    paging::{Conditions, Keyset, List, Page, Stretch},
    read_side::{Bind, Rows},
    template::Live,
};

/// A product as the catalog knows it now. Products are everybody's to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownProduct {
    pub product_id: ProductId,
    pub sku: String,
    pub name: String,
    pub discontinued: bool,
}

/// Which products are wanted; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProductFilter {
    pub discontinued: Option<bool>,
    /// The beginning of the SKU, letter by letter.
    pub sku_prefix: Option<String>,
}

/// A place in the list of products, which is by SKU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductCursor {
    pub sku: String,
    pub product_id: ProductId,
}

impl From<&KnownProduct> for ProductCursor {
    fn from(product: &KnownProduct) -> Self {
        Self { sku: product.sku.clone(), product_id: product.product_id }
    }
}

const SELECT: &str = "select product_id, sku, name, discontinued";
const BY_SKU: Keyset = Keyset { sort_key: "sku", id: "product_id", descending: false };

impl ReadSide {
    /// One product; `None` until the catalog has told of it.
    pub async fn product(&self, id: ProductId, consistency: &Consistency) -> Result<Option<KnownProduct>, ReadError> {
        let rows = Rows {
            select: |live: Live| {
                let table = TEMPLATE.reference_table(live.generation, PRODUCT);
                format!("{SELECT} from {table} where product_id = $1")
            },
            order_by: "".into(),
            binds: vec![Bind::Text(id.to_string())],
        };
        Ok(self.read(&TEMPLATE, consistency, rows).await?.pop())
    }

    /// A stretch of the list of products, by SKU.
    pub async fn products(
        &self,
        filter: &ProductFilter,
        stretch: Stretch<ProductCursor>,
        consistency: &Consistency,
    ) -> Result<Page<KnownProduct>, ReadError> {
        let mut conditions = Conditions::default();
        if let Some(discontinued) = filter.discontinued {
            conditions.and_text(if discontinued { "discontinued" } else { "not discontinued" });
        }
        if let Some(prefix) = &filter.sku_prefix {
            conditions.and("sku >=", Bind::Text(prefix.clone()));
            // behind every text that begins so
            conditions.and("sku <", Bind::Text(format!("{prefix}\u{10ffff}")));
        }
        let Conditions { text, binds } = conditions;
        let list = List {
            template: &TEMPLATE,
            select: |_: Live| SELECT.to_owned(),
            from: |live: Live| {
                let table = TEMPLATE.reference_table(live.generation, PRODUCT);
                format!("from {table} where true{text}")
            },
            keyset: BY_SKU,
            binds,
        };
        let place = |cursor: ProductCursor| (Bind::Text(cursor.sku), cursor.product_id.to_string());
        self.page(list, stretch.map(place), consistency).await
    }
}
