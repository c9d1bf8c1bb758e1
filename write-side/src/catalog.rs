//! The catalog service: what is sold, and for how much. Its HTTP surface; [`product`] decides.

pub mod product;

use axum::{
    Router,
    extract::State,
    response::Response,
    routing::{get, post},
};
use events::{ids::ProductId, money::Money};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    catalog::product::{Product, ProductCommand},
    edge::{
        Edge, Incoming, PathId, Problem,
        command::Asked,
        fields::{self, Fields, id, key, text},
        request::ReadToken,
    },
    service::{Given, Service, StartError},
};

/// The longest product name: orders carry it on every line.
pub const NAME_CHARS_MAX: usize = 200;

const SKU_CHARS_MAX: usize = 64;

type Products = State<Edge<Product>>;
type Answer = Result<Response, Problem>;

/// Starts the service on its log.
pub async fn start(given: Given) -> Result<Service, StartError> {
    Service::start::<Product>(events::catalog::SOURCE, given, "products", None, routes)
}

/// The routes under `/products`.
fn routes(edge: Edge<Product>) -> Router {
    Router::new()
        .route("/products", post(add))
        .route("/products/{id}", get(show))
        .route("/products/{id}/rename", post(rename))
        .route("/products/{id}/price", post(change_price))
        .route("/products/{id}/discontinue", post(discontinue))
        .with_state(edge)
}

#[derive(Serialize)]
struct Add {
    id: Option<ProductId>,
    sku: String,
    name: String,
    unit_price: Money,
    external_ref: Option<String>,
}

impl Add {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.optional("id", id);
        let sku = fields.required("sku", key(SKU_CHARS_MAX));
        let name = fields.required("name", text(NAME_CHARS_MAX));
        let unit_price = fields.object("unit_price", fields::money);
        let external_ref = fields.optional("external_ref", key(fields::EXTERNAL_REF_CHARS_MAX));
        Some(Self { id: id?, sku: sku?, name: name?, unit_price: unit_price?, external_ref: external_ref? })
    }
}

async fn add(State(products): Products, incoming: Incoming) -> Answer {
    let body = incoming.fields(Add::read)?;
    let product_id = body.id.unwrap_or_else(|| incoming.made_id(products.service()).into());
    let command = ProductCommand::Add {
        product_id,
        sku: body.sku.clone(),
        name: body.name.clone(),
        unit_price: body.unit_price,
        external_ref: body.external_ref.clone(),
    };
    products.run(&incoming, Asked { id: product_id.0, body: &body, command, creates: true, occurred_at: None }).await
}

async fn rename(State(products): Products, PathId(id): PathId, incoming: Incoming) -> Answer {
    let name = incoming.fields(|fields| fields.required("name", text(NAME_CHARS_MAX)))?;
    products.change(&incoming, id, &json!({ "name": name }), ProductCommand::Rename { name }).await
}

async fn change_price(State(products): Products, PathId(id): PathId, incoming: Incoming) -> Answer {
    let unit_price = incoming.fields(|fields| fields.object("unit_price", fields::money))?;
    let body = json!({ "unit_price": unit_price });
    products.change(&incoming, id, &body, ProductCommand::ChangePrice { unit_price }).await
}

async fn discontinue(State(products): Products, PathId(id): PathId, incoming: Incoming) -> Answer {
    incoming.no_fields()?;
    products.change(&incoming, id, &json!({}), ProductCommand::Discontinue).await
}

async fn show(State(products): Products, PathId(id): PathId, ReadToken(token): ReadToken) -> Answer {
    products.show(id, &token, view).await
}

/// A product as the world sees one.
fn view(product: &Product) -> Option<Value> {
    match product {
        Product::Absent => None,
        Product::Listed(listing) => Some(json!({
            "id": listing.id(),
            "sku": listing.added.sku,
            "name": listing.name,
            "unit_price": listing.unit_price,
            "external_ref": listing.added.external_ref,
            "discontinued": listing.discontinued,
        })),
    }
}
