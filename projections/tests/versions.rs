//! Readers of this version on what an older one has built: read models only grow.

mod common;

use std::time::Duration;

use common::{BOTH, Feeds, Kind, Place, authorization_requested, order, placed, quick, usd};
use events::{
    envelope::RecordedEvent,
    orders::{OrderEvent, SOURCE},
};
use projections::{
    Projector,
    engine::store::StoreOptions,
    projection::{Facets, Fold, Projection, References},
};
use read_side::{
    Changes, Consistency,
    order_details::{OrderFilter, TEMPLATE},
    template::Template,
};
use serde_json::{Value, json};

/// The read model as version 1 made it, as far as placed orders go: one facet, and the columns of then.
fn version_1() -> Projection {
    let columns: Vec<_> = TEMPLATE.columns.iter().copied().filter(|column| column.since == 1).collect();
    let template =
        Template { sources: &[SOURCE], facets: &["order_facet"], columns: columns.leak(), history: false, ..TEMPLATE };
    Projection::new(Box::leak(Box::new(template)), 1).facet::<Placed>().derive(row)
}

struct Placed;

impl Fold for Placed {
    type Event = OrderEvent;
    type State = Value;
    const SOURCE: &'static str = SOURCE;

    fn key(event: &OrderEvent) -> Option<String> {
        match event {
            OrderEvent::OrderPlaced(event) => Some(event.order_id.to_string()),
            _ => None,
        }
    }

    fn fold(_: Option<Value>, event: OrderEvent, _: &RecordedEvent) -> Result<Value, String> {
        let OrderEvent::OrderPlaced(event) = event else { return Err("not of this test".to_owned()) };
        let line = json!({
            "product_id": event.lines[0].product_id, "product_name": "Tea", "quantity": 1, "unit_price_minor": 100,
            "currency": "USD", "discount_bp": 0, "total_minor": 100,
        });
        Ok(json!({
            "external_ref": null, "customer_id": event.customer_id, "customer_name": null, "customer_email": null,
            "status": "PENDING", "placed_at_us": event.placed_at.timestamp_micros(), "shipped_at_us": null,
            "lines": [line], "total_minor": 100, "currency": "USD", "updated_at_us": 0,
        }))
    }
}

fn row(facets: &Facets, _: &References) -> Option<String> {
    facets.get::<Value>(0).map(Value::to_string)
}

#[tokio::test]
async fn what_an_older_version_built_is_served_until_the_next_generation_is_there() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.order(placed(1, 7, &[1]));
        feeds.payment(authorization_requested(1, 1, usd(180)));
        let place = Place::new(kind).await;
        let older = Projector::start_with(vec![version_1()], place.database().await, feeds.all(), quick()).await;
        let older = older.unwrap();
        older.caught_up().await;
        older.shutdown().await;

        let read = place.read();
        let row = read.order(order(1), &Consistency::at_least(feeds.orders.token())).await.unwrap().unwrap();
        assert_eq!((row.total_minor, row.lines[0].returned_quantity), (100, 0));
        assert_eq!((row.confirmed_at_us, row.reservation, row.payment, row.shipment), (None, None, None, None));
        let page = read.orders(&OrderFilter::default(), 10, None, &Consistency::any()).await.unwrap();
        assert_eq!(page.rows.len(), 1);
        let paid = Consistency::at_least(feeds.payments.token());
        let early = read.order(order(1), &paid.clone().with_wait(Duration::from_millis(30))).await.unwrap_err();
        assert_eq!((early.code(), early.is_retryable()), ("rebuilding", true), "it does not follow payments");

        let projector = place.projector(&feeds, quick()).await;
        let row = read.order(order(1), &paid.with_wait(Duration::from_secs(20))).await.unwrap().unwrap();
        assert_eq!((row.total_minor, row.payment.unwrap().count), (180, 1));
        projector.shutdown().await;
    }
}

#[test]
fn a_template_names_the_sources_that_its_rows_are_folded_from() {
    for projection in projections::all() {
        let mut named = projection.template.sources.to_vec();
        named.sort_unstable();
        assert_eq!(named, projection.sources(), "{}", projection.template.name);
    }
}

#[tokio::test]
async fn a_file_that_an_older_program_has_made_is_asked_for_what_has_come_since() {
    let feeds = Feeds::default();
    feeds.order(placed(1, 1, &[1]));
    let place = Place::new(Kind::Sqlite).await;
    let mut hand = place.hand(StoreOptions::default()).await;
    hand.finish(&feeds).await;
    drop(hand);
    // as it was before there were changes and looks at the sources' heads
    let file = format!("sqlite:{}", place.directory().join("query/order_details.g1.db").display());
    let pool = sqlx::SqlitePool::connect(&file).await.unwrap();
    for statement in
        ["drop table changes", "drop table observed_heads", "delete from _sqlx_migrations where version in (2, 3)"]
    {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    pool.close().await;
    let read = place.read();
    assert!(read.projections().await.unwrap().is_empty(), "it is not the file that this program knows");
    let database = place.database().await;
    assert_eq!(read.projections().await.unwrap()[0].rows, Some(1));
    assert!(matches!(read.changes(&TEMPLATE, None, 1).await.unwrap(), Changes::Resync { .. }));
    database.close().await;
}

#[test]
fn what_is_projected_is_what_is_shown() {
    let shown: Vec<&str> = read_side::status::READ_MODELS.iter().map(|template| template.name).collect();
    let projected: Vec<&str> = projections::all().iter().map(|projection| projection.template.name).collect();
    assert_eq!(shown, projected);
}
