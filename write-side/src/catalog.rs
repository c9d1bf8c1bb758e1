//! The catalog service: what is sold, and for how much. Its HTTP surface; [`product`] decides.

pub mod product;

use axum::{extract::State, response::Response};
use events::{ids::ProductId, money::Money};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    catalog::product::{Product, ProductCommand},
    edge::{
        Customers, Edge, Incoming, PathId, Problem, Routes,
        command::Asked,
        fields::{self, Fields, id, key, text},
        openapi::{command, schema, view},
        request::ReadToken,
    },
    service::{Given, Service, StartError},
};

/// The longest product name: orders carry it on every line.
pub const NAME_CHARS_MAX: usize = 200;

const SKU_CHARS_MAX: usize = 64;

/// The product that the examples are about.
pub const EXAMPLE: &str = "0198c0de-0000-7000-8000-000000000011";

type Products = State<Edge<Product>>;
type Answer = Result<Response, Problem>;

/// Its place under HTTP.
pub const RESOURCE: &str = "products";

/// Starts the service on its log.
pub async fn start(given: Given) -> Result<Service, StartError> {
    Service::start::<Product, _>(events::catalog::SOURCE, given, RESOURCE, None, routes)
}

/// The routes under `/products`.
fn routes(edge: Edge<Product>) -> Routes {
    let price = |amount_minor: i64| json!({ "amount_minor": amount_minor, "currency": "USD" });
    let chai = json!({ "id": EXAMPLE, "sku": "CHAI", "name": "Chai", "unit_price": price(1_800) });
    let change =
        |id, summary| command(id, summary).on(&[EXAMPLE]).after(&["add_product"]).refuses(&["product_not_found"]);
    Routes::of(events::catalog::SOURCE, "What is sold, and for how much.")
        .post(
            "/products",
            add,
            command("add_product", "Add a product")
                .takes(Add::read, chai)
                .creates()
                .refuses(&["product_exists", "sku_taken"]),
        )
        .get(
            "/products/{id}",
            show,
            view("show_product", "Show a product", shown())
                .on(&[EXAMPLE])
                .after(&["add_product"])
                .customers(Customers::All)
                .refuses(&["product_not_found"]),
        )
        .post(
            "/products/{id}/rename",
            rename,
            change("rename_product", "Give a product another name")
                .takes(new_name, json!({ "name": "Chai, loose" }))
                .refuses(&["product_discontinued"]),
        )
        .post(
            "/products/{id}/price",
            change_price,
            change("change_product_price", "Change a product's price for the orders to come")
                .takes(new_price, json!({ "unit_price": price(1_900) }))
                .needs_version()
                .refuses(&["product_discontinued"]),
        )
        .post("/products/{id}/discontinue", discontinue, change("discontinue_product", "Take a product from sale"))
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

fn new_name(fields: &mut Fields<'_>) -> Option<String> {
    fields.required("name", text(NAME_CHARS_MAX))
}

async fn rename(State(products): Products, PathId(id): PathId, incoming: Incoming) -> Answer {
    let name = incoming.fields(new_name)?;
    products.change(&incoming, id, &json!({ "name": name }), ProductCommand::Rename { name }).await
}

fn new_price(fields: &mut Fields<'_>) -> Option<Money> {
    fields.object("unit_price", fields::money)
}

async fn change_price(State(products): Products, PathId(id): PathId, incoming: Incoming) -> Answer {
    let unit_price = incoming.fields(new_price)?;
    let body = json!({ "unit_price": unit_price });
    products.change(&incoming, id, &body, ProductCommand::ChangePrice { unit_price }).await
}

async fn discontinue(State(products): Products, PathId(id): PathId, incoming: Incoming) -> Answer {
    incoming.no_fields()?;
    products.change(&incoming, id, &json!({}), ProductCommand::Discontinue).await
}

async fn show(State(products): Products, PathId(id): PathId, ReadToken(token): ReadToken) -> Answer {
    products.show(id, &token, seen).await
}

/// A product as the world sees one.
fn seen(product: &Product) -> Option<Value> {
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

/// What [`seen`] makes.
fn shown() -> Value {
    schema::object([
        ("id", schema::uuid()),
        ("sku", schema::string()),
        ("name", schema::string()),
        ("unit_price", schema::describe(fields::money)),
        ("external_ref", schema::nullable(schema::string())),
        ("discontinued", schema::boolean()),
    ])
}
