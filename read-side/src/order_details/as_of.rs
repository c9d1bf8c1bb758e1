//! An order as it was at a recorded time: the states that its parts had then, and the same `derive` as ever.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use events::ids::OrderId;
use serde::de::DeserializeOwned;
use sqlx::FromRow;

use super::{
    CUSTOMER, Customer, Derived, Known, OrderCursor, OrderDetails, OrderFacet, OrderFilter, OrderSort, PRODUCT,
    ProductRow, SortKey, TEMPLATE, derive, queries::with_product,
};
use crate::{
    ReadError, ReadSide,
    consistency::Consistency,
    paging::{Conditions, Keyset, Page, Stretch},
    read_side::{Beside, Bind, Rows},
    template::Live,
};

/// The first `VERSION` whose generations have a history.
const HISTORY_SINCE: i64 = 3;

/// The state of one part at the time; of an order's place in a list, none.
#[derive(FromRow)]
struct Found {
    /// The order's place, where this is a part of an order.
    place: Option<i64>,
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
            select: |live: Live| match history(live) {
                Some(history) => {
                    let page = "page as (select 1 as place, cast($1 as text) as key)";
                    format!("with {page}, {}", states(&history, "$2", postgres))
                }
                None => NO_HISTORY_ROW.to_owned(),
            },
            order_by: "".into(),
            binds: vec![Bind::Text(id.to_string()), Bind::Integer(as_of.timestamp_micros())],
        };
        let found: Vec<Found> = self.read(&TEMPLATE, consistency, rows).await?;
        let order = self.assemble(found).await?.pop();
        Ok(order.filter(|order| self.sees(order.customer_id)))
    }

    /// A stretch of the list of the orders that `filter` let pass at `as_of`: each as [`Self::order_as_of`] tells it.
    ///
    /// What an order says of itself for good, and what it stood at then, are looked up for every order that the filter may
    /// let pass: a list by [`SortKey::UpdatedAt`], and a total, take time that grows with them. The others take that of a
    /// page, and of what was recorded since and is passed over.
    pub async fn list_orders_as_of(
        &self,
        as_of: DateTime<Utc>,
        filter: &OrderFilter,
        sort: OrderSort,
        stretch: Stretch<OrderCursor>,
        consistency: &Consistency,
    ) -> Result<Page<OrderDetails>, ReadError> {
        let postgres = self.is_postgres();
        let mut conditions = Conditions::default();
        let at = format!("${}", conditions.bind(Bind::Integer(as_of.timestamp_micros())));
        filter.lasting(self.only(), &mut conditions);
        let product = filter.product_id.map(|id| conditions.bind(Bind::Text(id.to_string())));
        let mut standing = Conditions { text: String::new(), binds: conditions.binds };
        filter.standing(&member("state", "status", postgres), &mut standing);
        let (lasting, Conditions { text: standing, mut binds }) = (conditions.text, standing);
        let sort_key = match sort.key {
            SortKey::UpdatedAt => format!("cast({} as bigint)", member("state", "updated_at_us", postgres)),
            SortKey::PlacedAt | SortKey::Total => "lasting_key".to_owned(),
        };
        let total = stretch.total;
        let keyset = Keyset { sort_key: "sort_key", id: "key", descending: sort.descending };
        let between = keyset.between(stretch.map(OrderCursor::place), &mut binds);
        // the orders that were there, with what the list is sorted by
        let there = |live: Live, history: &str| {
            let with_product = product.map(|n| with_product(live, n)).unwrap_or_default();
            format!(
                "known as (select r.order_id as key, r.{lasting_key} as lasting_key, \
                    (select h.state from {history} h where h.key = r.order_id and h.part = '{root}' \
                        and h.recorded_at_us <= {at} order by h.position desc limit 1) as state \
                    from {table} r where served{lasting}{with_product}), \
                 there as (select key, {sort_key} as sort_key from known where state is not null{standing})",
                lasting_key = sort.keyset().sort_key,
                root = TEMPLATE.facets[ORDER],
                table = TEMPLATE.table(live.generation),
            )
        };
        let there = &there;
        // nothing is told beside the rows of a generation without a history
        let beside_of = |tells: String| -> Beside<'_> {
            Box::new(move |live| match history(live) {
                Some(history) => format!("(with {} {tells})", there(live, &history)),
                None => "0".to_owned(),
            })
        };
        let mut beside = Vec::new();
        if total {
            beside.push(beside_of("select count(*) from there".to_owned()));
        }
        for beyond in [&between.before, &between.behind].into_iter().flatten() {
            let exists = format!("exists (select 1 from there where true{beyond})");
            beside.push(beside_of(format!("select case when {exists} then 1 else 0 end")));
        }
        let rows = Rows {
            select: |live: Live| match history(live) {
                Some(history) => format!(
                    "with {there}, page as (select row_number() over ({order_by}) as place, key \
                        from (select key, sort_key from there where true{within} {order_by} limit {limit}) stretch), \
                     {states}",
                    there = there(live, &history),
                    order_by = between.order_by,
                    within = between.within,
                    limit = between.limit,
                    states = states(&history, &at, postgres),
                ),
                None => NO_HISTORY_ROW.to_owned(),
            },
            order_by: "".into(),
            binds,
        };
        let (found, told) = self.read_beside(&TEMPLATE, consistency, rows, &beside).await?;
        let orders = self.assemble(found).await?;
        Ok(between.page(orders, total, told))
    }

    /// The orders in the order of their places.
    async fn assemble(&self, found: Vec<Found>) -> Result<Vec<OrderDetails>, ReadError> {
        if found.iter().any(|state| state.part == NO_HISTORY) {
            return Err(self.rebuilding(&TEMPLATE).await);
        }
        assemble(&found)
    }
}

/// Stands for a generation that an older version has made.
const NO_HISTORY: &str = "no history";
const NO_HISTORY_ROW: &str = "select cast(null as bigint) as place, 'no history' as part, '' as key, '' as state";

/// The table of the history, if the generation has one.
fn history(live: Live) -> Option<String> {
    (live.version >= HISTORY_SINCE).then(|| TEMPLATE.history_table(live.generation))
}

/// A member of a state, as text.
fn member(state: &str, name: &str, postgres: bool) -> String {
    if postgres { format!("(cast({state} as json) ->> '{name}')") } else { format!("({state} ->> '{name}')") }
}

/// Of the orders in `page` the newest state of each facet until `at`, and of what they refer to then the same: in one
/// statement, so that it is of one moment. It goes on behind a `with` and what `page` is made of.
fn states(history: &str, at: &str, postgres: bool) -> String {
    let facets: Vec<String> = TEMPLATE.facets.iter().map(|facet| format!("'{facet}'")).collect();
    let root = TEMPLATE.facets[ORDER];
    let customer = member("state", "customer_id", postgres);
    let lines = if postgres {
        "json_array_elements(cast(facet.state as json) -> 'lines') as line (value)"
    } else {
        "json_each(facet.state, '$.lines') as line"
    };
    format!(
        "facet as (select place, part, key, state from \
            (select page.place, h.part, h.key, h.state, \
                row_number() over (partition by h.key, h.part order by h.position desc) as newest \
             from page join {history} h on h.key = page.key \
             where h.part in ({facets}) and h.recorded_at_us <= {at}) states where newest = 1), \
         referred as (select '{CUSTOMER}' as part, {customer} as key from facet where part = '{root}' \
            union select '{PRODUCT}', line.value ->> 'product_id' from facet cross join {lines} where part = '{root}') \
         select cast(place as bigint) as place, part, key, state from facet union all \
         select cast(null as bigint), part, key, (select h.state from {history} h where h.key = referred.key \
            and h.part = referred.part and h.recorded_at_us <= {at} order by h.position desc limit 1) from referred",
        facets = facets.join(", "),
    )
}

// places in the template
const ORDER: usize = 0;
const RESERVATION: usize = 1;
const PAYMENT: usize = 2;
const SHIPMENT: usize = 3;

fn assemble(found: &[Found]) -> Result<Vec<OrderDetails>, ReadError> {
    let mut orders: BTreeMap<i64, Vec<&Found>> = BTreeMap::new();
    let (mut customers, mut products) = (HashMap::<&str, Customer>::new(), HashMap::<&str, ProductRow>::new());
    for one in found {
        match (one.place, one.part.as_str()) {
            (Some(place), _) => orders.entry(place).or_default().push(one),
            (None, CUSTOMER) => customers.extend(state(one)?.map(|customer| (one.key.as_str(), customer))),
            (None, PRODUCT) => products.extend(state(one)?.map(|product| (one.key.as_str(), product))),
            (None, part) => return Err(ReadError::Internal(format!("orders refer to no {part}"))),
        }
    }
    let mut assembled = Vec::with_capacity(orders.len());
    for parts in orders.values() {
        // in a list every order has its root facet; one that is asked for by its id may not have been there
        let Some(order) = facet::<OrderFacet>(parts, ORDER)? else { continue };
        let order_id = parts[0].key.parse().map_err(|_| ReadError::Internal("a history's key is no id".to_owned()))?;
        let (reservation, payment, shipment) =
            (facet(parts, RESERVATION)?, facet(parts, PAYMENT)?, facet(parts, SHIPMENT)?);
        let known = Known {
            order: &order,
            reservation: reservation.as_ref(),
            payment: payment.as_ref(),
            shipment: shipment.as_ref(),
            customer: customers.get(&*order.customer_id.to_string()),
        };
        assembled.push(derive(&known, |product_id| products.get(&*product_id.to_string())).row(order_id));
    }
    Ok(assembled)
}

fn facet<S: DeserializeOwned>(parts: &[&Found], place: usize) -> Result<Option<S>, ReadError> {
    parts.iter().find(|one| one.part == TEMPLATE.facets[place]).map_or(Ok(None), |one| state(one))
}

fn state<S: DeserializeOwned>(found: &Found) -> Result<Option<S>, ReadError> {
    let Found { part, key, state: Some(state), .. } = found else { return Ok(None) };
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
