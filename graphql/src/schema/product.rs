//! Products, as the catalog knows them now.

use async_graphql::{ComplexObject, Context, Error, ID, InputObject, Result, SimpleObject};
use events::ids::ProductId;
use read_side::{
    order_details::{
        ProductRow, TEMPLATE,
        products::{self, KnownProduct, ProductCursor},
    },
    paging::Page,
};
use uuid::Uuid;

use super::{
    money::SafeInt,
    node_id::{Kind, NodeId},
    paging::{PageArguments, PageInfo, cursor_bytes, format_cursor, not_a_cursor, total_count},
    read::{read, text},
};

/// A product as the catalog knows it now.
#[derive(Debug, SimpleObject)]
pub(crate) struct Product {
    /// The global id, for `node` and for caches.
    pub(super) id: ID,
    /// The product's UUID, as the catalog service knows it.
    product_id: ID,
    /// The stock-keeping unit, unique among the products.
    sku: String,
    /// Its present name.
    name: String,
    /// Whether it can no longer be ordered.
    discontinued: bool,
}

impl Product {
    pub(super) fn of(id: ProductId, row: ProductRow) -> Self {
        let ProductRow { sku, name, discontinued } = row;
        KnownProduct { product_id: id, sku, name, discontinued }.into()
    }
}

impl From<KnownProduct> for Product {
    fn from(row: KnownProduct) -> Self {
        Self {
            id: NodeId::of(Kind::Product, row.product_id.0),
            product_id: ID(row.product_id.to_string()),
            sku: row.sku,
            name: row.name,
            discontinued: row.discontinued,
        }
    }
}

/// Which products are wanted. What is left out does not matter; what is there must hold, all of it.
#[derive(Debug, Default, InputObject)]
pub(crate) struct ProductFilter {
    /// Only those that can no longer be ordered, or only those that can.
    discontinued: Option<bool>,
    /// Only those whose SKU begins so.
    sku_prefix: Option<String>,
}

impl TryFrom<ProductFilter> for products::ProductFilter {
    type Error = Error;

    fn try_from(filter: ProductFilter) -> Result<Self> {
        let sku_prefix = filter.sku_prefix.map(|prefix| text("filter.skuPrefix", prefix)).transpose()?;
        Ok(Self { discontinued: filter.discontinued, sku_prefix })
    }
}

/// A page of a list of products.
#[derive(Debug, SimpleObject)]
#[graphql(complex)]
pub(crate) struct ProductConnection {
    /// The products of this page, each with its place in the list.
    edges: Vec<ProductEdge>,
    /// Where this page lies in the list.
    page_info: PageInfo,
    #[graphql(skip)]
    total: Option<u64>,
}

#[ComplexObject]
impl ProductConnection {
    /// How many products the whole list has. They are counted where this is selected, and only there.
    async fn total_count(&self) -> SafeInt {
        total_count(self.total)
    }
}

/// A product and its place in the list.
#[derive(Debug, SimpleObject)]
struct ProductEdge {
    /// The place, for `after` and `before`. It stays valid when products come and go.
    cursor: String,
    /// The product.
    node: Product,
}

pub(super) async fn product(ctx: &Context<'_>, id: ProductId) -> Result<Option<Product>> {
    let found = read(ctx, &TEMPLATE, async |side, consistency| side.product(id, consistency).await).await?;
    Ok(found.map(Product::from))
}

/// The page that the arguments ask for: one statement.
pub(super) async fn page(
    ctx: &Context<'_>,
    page: PageArguments,
    filter: products::ProductFilter,
) -> Result<ProductConnection> {
    let stretch = page.stretch(ctx, parse)?;
    let page =
        read(ctx, &TEMPLATE, async |side, consistency| side.products(&filter, stretch, consistency).await).await?;
    let Page { rows, has_previous_page, has_next_page, total } = page;
    let edge = |row: KnownProduct| ProductEdge { cursor: format(&ProductCursor::from(&row)), node: row.into() };
    let edges: Vec<ProductEdge> = rows.into_iter().map(edge).collect();
    let cursors = edges.iter().map(|edge| edge.cursor.as_str());
    let page_info = PageInfo::of((has_previous_page, has_next_page), cursors);
    Ok(ProductConnection { edges, page_info, total })
}

/// The layout's version, the product's id, its SKU.
const CURSOR_VERSION: u8 = b'k';

fn format(cursor: &ProductCursor) -> String {
    let mut bytes = vec![CURSOR_VERSION];
    bytes.extend(cursor.product_id.0.as_bytes());
    bytes.extend(cursor.sku.as_bytes());
    format_cursor(&bytes)
}

fn parse(argument: &'static str, text: &str) -> Result<ProductCursor> {
    let bytes = cursor_bytes(text).unwrap_or_default();
    let [CURSOR_VERSION, rest @ ..] = bytes.as_slice() else { return Err(not_a_cursor(argument)) };
    let Some((id, sku)) = rest.split_at_checked(16) else { return Err(not_a_cursor(argument)) };
    // PostgreSQL's texts have no NUL
    match (Uuid::from_slice(id), std::str::from_utf8(sku)) {
        (Ok(id), Ok(sku)) if !sku.contains('\0') => {
            Ok(ProductCursor { sku: sku.to_owned(), product_id: ProductId(id) })
        }
        _ => Err(not_a_cursor(argument)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(id: u128, sku in "[^\0]{0,40}") {
            let cursor = ProductCursor { sku, product_id: ProductId(Uuid::from_u128(id)) };
            prop_assert_eq!(parse("after", &format(&cursor)).unwrap(), cursor);
        }

        #[test]
        fn any_text_is_a_cursor_or_an_error(text in ".{0,60}") {
            let _ = parse("after", &text);
        }
    }
}
