//! An order as it was at a recorded time: the states that its parts had then, and the same `derive` as ever.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use events::ids::OrderId;
use serde::de::DeserializeOwned;
use sqlx::FromRow;

use super::{CUSTOMER, Derived, Known, OrderDetails, OrderFacet, PRODUCT, ProductRow, TEMPLATE, derive};
use crate::{
    ReadError, ReadSide,
    consistency::Consistency,
    read_side::{Bind, Rows},
    template::Live,
};

/// The first `VERSION` whose generations have a history.
const HISTORY_SINCE: i64 = 3;

/// The state of one part at the time.
#[derive(FromRow)]
struct Found {
    part: String,
    key: String,
    /// `None` where nothing was known of it yet.
    state: Option<String>,
}

impl ReadSide {
    /// The order as the events tell it that were **recorded** until `as_of`, that instant included; `None` if it was not
    /// there then. What happened when is data (`placed_at_us`) and no cut.
    ///
    /// Only what is applied can be told: pass the tokens of what you must see. A person who was erased since is erased
    /// then, too.
    pub async fn order_as_of(
        &self,
        id: OrderId,
        as_of: DateTime<Utc>,
        consistency: &Consistency,
    ) -> Result<Option<OrderDetails>, ReadError> {
        let postgres = self.is_postgres();
        let rows = Rows {
            select: |live| select(live, postgres),
            order_by: "",
            binds: vec![Bind::Text(id.to_string()), Bind::Integer(as_of.timestamp_micros())],
        };
        let found: Vec<Found> = self.read(&TEMPLATE, consistency, rows).await?;
        if found.iter().any(|state| state.part == NO_HISTORY) {
            return Err(self.rebuilding(&TEMPLATE).await);
        }
        assemble(id, &found)
    }
}

/// Stands for a generation that an older version has made.
const NO_HISTORY: &str = "no history";

/// Of the order `$1` the newest state of each facet until `$2`, and of what it refers to then the same: in one statement,
/// so that it is of one moment.
fn select(live: Live, postgres: bool) -> String {
    if live.version < HISTORY_SINCE {
        return format!("select '{NO_HISTORY}' as part, '' as key, '' as state");
    }
    let history = TEMPLATE.history_table(live.generation);
    let facets: Vec<String> = TEMPLATE.facets.iter().map(|facet| format!("'{facet}'")).collect();
    let root = TEMPLATE.facets[ORDER];
    let (customer, lines) = if postgres {
        (
            "cast(state as json) ->> 'customer_id'",
            "json_array_elements(cast(known.state as json) -> 'lines') as line (value)",
        )
    } else {
        ("state ->> 'customer_id'", "json_each(known.state, '$.lines') as line")
    };
    format!(
        "with known as (select part, key, state from \
            (select part, key, state, row_number() over (partition by part order by position desc) as newest \
             from {history} where key = $1 and part in ({facets}) and recorded_at_us <= $2) states where newest = 1), \
         referred as (select '{CUSTOMER}' as part, {customer} as key from known where part = '{root}' \
            union select '{PRODUCT}', line.value ->> 'product_id' from known cross join {lines} where part = '{root}') \
         select part, key, state from known union all \
         select part, key, (select h.state from {history} h where h.key = referred.key and h.part = referred.part \
            and h.recorded_at_us <= $2 order by h.position desc limit 1) from referred",
        facets = facets.join(", "),
    )
}

// places in the template
const ORDER: usize = 0;
const RESERVATION: usize = 1;
const PAYMENT: usize = 2;
const SHIPMENT: usize = 3;

fn assemble(order_id: OrderId, found: &[Found]) -> Result<Option<OrderDetails>, ReadError> {
    let Some(order) = facet::<OrderFacet>(found, ORDER)? else { return Ok(None) };
    let (reservation, payment, shipment) =
        (facet(found, RESERVATION)?, facet(found, PAYMENT)?, facet(found, SHIPMENT)?);
    let customer = state(found.iter().find(|one| one.part == CUSTOMER))?;
    let mut products: HashMap<&str, ProductRow> = HashMap::new();
    for one in found.iter().filter(|one| one.part == PRODUCT) {
        if let Some(product) = state(Some(one))? {
            products.insert(&one.key, product);
        }
    }
    let known = Known {
        order: &order,
        reservation: reservation.as_ref(),
        payment: payment.as_ref(),
        shipment: shipment.as_ref(),
        customer: customer.as_ref(),
    };
    Ok(Some(derive(&known, |product_id| products.get(&*product_id.to_string())).row(order_id)))
}

fn facet<S: DeserializeOwned>(found: &[Found], place: usize) -> Result<Option<S>, ReadError> {
    state(found.iter().find(|one| one.part == TEMPLATE.facets[place]))
}

fn state<S: DeserializeOwned>(found: Option<&Found>) -> Result<Option<S>, ReadError> {
    let Some(Found { part, key, state: Some(state) }) = found else { return Ok(None) };
    // without the parser's words: they quote what does not fit, and that may be personal
    let not_ours = |_| ReadError::Internal(format!("the history of {part} {key} is not what this version writes"));
    serde_json::from_str(state).map(Some).map_err(not_ours)
}

impl Derived<'_> {
    /// The columns as the row that is read from them.
    fn row(self, order_id: OrderId) -> OrderDetails {
        // taken apart, so that a new column is not forgotten
        let Self {
            external_ref,
            customer_id,
            customer_name,
            customer_email,
            status,
            placed_at_us,
            shipped_at_us,
            lines,
            total_minor,
            currency,
            updated_at_us,
            confirmed_at_us,
            cancelled_at_us,
            cancel_reason,
            rejected,
            delivered_at_us,
            returned_at_us,
            return_reason,
            reservation,
            payment,
            shipment,
        } = self;
        OrderDetails {
            order_id,
            external_ref: external_ref.map(str::to_owned),
            customer_id,
            customer_name: customer_name.map(str::to_owned),
            customer_email: customer_email.map(str::to_owned),
            status,
            placed_at_us,
            shipped_at_us,
            lines,
            total_minor,
            currency,
            updated_at_us,
            confirmed_at_us,
            cancelled_at_us,
            cancel_reason: cancel_reason.map(str::to_owned),
            rejected,
            delivered_at_us,
            returned_at_us,
            return_reason: return_reason.map(str::to_owned),
            reservation,
            payment,
            shipment,
        }
    }
}
