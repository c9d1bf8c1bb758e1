//! The orders that changed, as they are now: for whoever tells changes on to others.
//!
//! Changes and rows come out of one statement, so out of one snapshot, and an order that changed several times is there
//! once, at the last of them.

use events::ids::{CustomerId, OrderId};
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::{OrderDetails, OrderFilter, TEMPLATE};
use crate::{
    ChangeCursor, Consistency, ReadError, ReadSide,
    changes::is_whole,
    columns::parse,
    read_side::{Bind, Rows},
    template::Live,
};

/// The most orders of one answer.
pub const CHANGED_ORDERS_MAX: usize = 1_000;

/// How many changes one statement looks through. Where few of them are of interest, more are looked through: it then
/// reads the changes' index and few rows.
const CHANGES_OF_ALL: i64 = 1_000;
const CHANGES_OF_A_CUSTOMER: i64 = 4_000;
const CHANGES_OF_AN_ORDER: i64 = 20_000;

/// Of which orders changes are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangesOf {
    All,
    Customer(CustomerId),
    Order(OrderId),
}

impl ChangesOf {
    fn window(self) -> i64 {
        match self {
            Self::All => CHANGES_OF_ALL,
            Self::Customer(_) => CHANGES_OF_A_CUSTOMER,
            Self::Order(_) => CHANGES_OF_AN_ORDER,
        }
    }
}

/// An order that was written anew. It may hold what it held before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedOrder {
    pub order_id: OrderId,
    /// Of its last change that was looked at.
    pub seq: i64,
    /// As it is now; `None` if it is not served (any more).
    pub row: Option<OrderDetails>,
}

/// What happened behind a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedOrders {
    /// These, by their last change, and perhaps more behind them. The cursor is behind everything that was looked at.
    Since { orders: Vec<ChangedOrder>, cursor: ChangeCursor, has_more: bool },
    /// Anything: read anew what you have, and go on from here.
    Resync { cursor: ChangeCursor },
}

struct Found {
    generation: i64,
    first_seq: Option<i64>,
    last_seq: Option<i64>,
    changed: Option<(i64, Option<String>)>,
    row: Option<OrderDetails>,
}

impl ReadSide {
    /// The orders that changed behind `after`, at most `limit` of them (1 to [`CHANGED_ORDERS_MAX`]; what is outside is
    /// cut). Without a cursor it is the one to begin from.
    pub async fn changed_orders(
        &self,
        after: Option<ChangeCursor>,
        of: ChangesOf,
        limit: usize,
        consistency: &Consistency,
    ) -> Result<ChangedOrders, ReadError> {
        let limit = limit.clamp(1, CHANGED_ORDERS_MAX);
        let from = after.map_or(i64::MAX, |after| after.seq);
        let to = from.saturating_add(of.window());
        let mut binds = vec![Bind::Integer(from), Bind::Integer(to)];
        match of {
            ChangesOf::All => {}
            ChangesOf::Customer(id) => binds.push(Bind::Text(id.to_string())),
            ChangesOf::Order(id) => binds.push(Bind::Text(id.to_string())),
        }
        let rows = Rows { select: |live| select(live, of, limit + 1), order_by: "order by change_seq".into(), binds };
        let found: Vec<Found> = self.read(&TEMPLATE, consistency, rows).await?;
        judge(after, found, to, limit)
    }
}

/// Always a row, so that it says which generation is live and what it has: first and last, and those from behind `$1` to
/// `$2`. A mark, across which nobody can follow, is a change without a key.
fn select(live: Live, of: ChangesOf, limit: usize) -> String {
    let own = format!("read_model = '{}' and generation = {}", TEMPLATE.name, live.generation);
    let (keys, rows) = match of {
        ChangesOf::All => ("", ""),
        ChangesOf::Customer(_) => ("", "where c.change_key is null or r.customer_id = $3"),
        ChangesOf::Order(_) => ("and (key = $3 or key is null)", ""),
    };
    format!(
        "select e.*, d.* from \
         (select cast({generation} as bigint) as edge_generation, \
            (select min(seq) from changes where {own}) as edge_first, \
            (select max(seq) from changes where {own}) as edge_last) e left join \
         (select c.change_key, c.change_seq, r.* from \
            (select key as change_key, max(seq) as change_seq from changes \
             where {own} and seq > $1 and seq <= $2 {keys} group by key) c \
          left join ({select} where served) r on r.order_id = c.change_key {rows} \
          order by c.change_seq limit {limit}) d on 1 = 1",
        generation = live.generation,
        select = TEMPLATE.select_rows(live),
    )
}

/// Whether the way from the cursor to what was found is whole.
fn judge(after: Option<ChangeCursor>, found: Vec<Found>, to: i64, limit: usize) -> Result<ChangedOrders, ReadError> {
    let Some(edge) = found.first() else { unreachable!("the select always gives a row") };
    let last = edge.last_seq.unwrap_or(0);
    let here = ChangeCursor { generation: edge.generation, seq: last };
    let first = edge.first_seq.unwrap_or(1);
    let Some(after) = after.filter(|after| is_whole(*after, here, first)) else {
        return Ok(ChangedOrders::Resync { cursor: here });
    };
    let mut orders = Vec::with_capacity(found.len());
    for Found { changed, row, .. } in found {
        match changed {
            Some((seq, Some(key))) => orders.push(ChangedOrder { order_id: parse("key", &key)?, seq, row }),
            Some((_, None)) => return Ok(ChangedOrders::Resync { cursor: here }),
            None => {}
        }
    }
    // whoever has changed again behind the cut is told there
    let is_cut = orders.len() > limit;
    orders.truncate(limit);
    let seq = match orders.last() {
        Some(order) if is_cut => order.seq,
        _ => to.min(last),
    };
    Ok(ChangedOrders::Since { orders, cursor: ChangeCursor { seq, ..after }, has_more: seq < last })
}

impl<'r, R> FromRow<'r, R> for Found
where
    R: Row,
    OrderDetails: FromRow<'r, R>,
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let is_there = row.try_get::<Option<String>, _>("order_id")?.is_some();
        let seq: Option<i64> = row.try_get("change_seq")?;
        let key = row.try_get("change_key")?;
        Ok(Self {
            generation: row.try_get("edge_generation")?,
            first_seq: row.try_get("edge_first")?,
            last_seq: row.try_get("edge_last")?,
            changed: seq.map(|seq| (seq, key)),
            row: if is_there { Some(OrderDetails::from_row(row)?) } else { None },
        })
    }
}

/// What a filter says of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fits {
    /// It is wanted.
    Now,
    /// It is not wanted as it stands now, and may have been or may come to be.
    Otherwise,
    /// It never was and never will be: what the filter asks about does not change.
    Never,
}

impl OrderFilter {
    /// Judges one order, as the statement of [`ReadSide::orders`] does.
    pub fn fits(&self, order: &OrderDetails) -> Fits {
        // spelled out, so that whoever adds a condition must say here whether it can change
        let Self {
            customer_id,
            status,
            statuses,
            placed_after_us,
            placed_before_us,
            currency,
            total_min_minor,
            total_max_minor,
            product_id,
            external_ref,
        } = self;
        let fixed = customer_id.is_none_or(|id| id == order.customer_id)
            && placed_after_us.is_none_or(|from| order.placed_at_us >= from)
            && placed_before_us.is_none_or(|to| order.placed_at_us < to)
            && currency.is_none_or(|currency| order.currency == currency)
            && total_min_minor.is_none_or(|min| order.total_minor >= min)
            && total_max_minor.is_none_or(|max| order.total_minor <= max)
            && product_id.is_none_or(|id| order.lines.iter().any(|line| line.product_id == id))
            && external_ref.as_ref().is_none_or(|wanted| order.external_ref.as_ref() == Some(wanted));
        let stands = status.is_none_or(|status| status == order.status)
            && statuses.as_ref().is_none_or(|statuses| statuses.contains(&order.status));
        match (fixed, stands) {
            (false, _) => Fits::Never,
            (true, true) => Fits::Now,
            (true, false) => Fits::Otherwise,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(generation: i64, seq: i64) -> ChangeCursor {
        ChangeCursor { generation, seq }
    }

    fn key(n: i64) -> String {
        OrderId(uuid::Uuid::from_u128(n.unsigned_abs().into())).to_string()
    }

    /// What the statement finds of a generation 7 that keeps the changes 5 to 9.
    fn found(changed: &[(i64, Option<i64>)]) -> Vec<Found> {
        let row = |changed| Found { generation: 7, first_seq: Some(5), last_seq: Some(9), changed, row: None };
        if changed.is_empty() {
            return vec![row(None)];
        }
        changed.iter().map(|(seq, order)| row(Some((*seq, order.map(key))))).collect()
    }

    #[track_caller]
    fn check(
        after: ChangeCursor,
        changed: &[(i64, Option<i64>)],
        (to, limit): (i64, usize),
        told: Result<(&[i64], i64, bool), i64>,
    ) {
        let judged = match judge(Some(after), found(changed), to, limit).unwrap() {
            ChangedOrders::Since { orders, cursor, has_more } => {
                Ok((orders.iter().map(|order| order.seq).collect::<Vec<_>>(), cursor.seq, has_more))
            }
            ChangedOrders::Resync { cursor } => Err(cursor.seq),
        };
        assert_eq!(judged, told.map(|(seqs, seq, more)| (seqs.to_vec(), seq, more)));
    }

    #[test]
    fn the_cursor_is_behind_what_was_looked_at_and_never_behind_what_was_cut_off() {
        check(at(7, 4), &[(6, Some(1)), (9, Some(2))], (20, 2), Ok((&[6, 9], 9, false)));
        check(at(7, 4), &[(6, Some(1)), (7, Some(2))], (7, 2), Ok((&[6, 7], 7, true)));
        check(at(7, 4), &[(6, Some(1)), (7, Some(2)), (8, Some(3))], (9, 2), Ok((&[6, 7], 7, true)));
        check(at(7, 4), &[], (8, 2), Ok((&[], 8, true)));
        check(at(7, 9), &[], (20, 2), Ok((&[], 9, false)));
    }

    #[test]
    fn whoever_cannot_be_told_everything_is_told_to_read_anew() {
        check(at(7, 3), &[(6, Some(1))], (20, 2), Err(9));
        check(at(6, 7), &[(8, Some(1))], (20, 2), Err(9));
        check(at(7, 10), &[], (20, 2), Err(9));
        check(at(7, 5), &[(6, Some(1)), (7, None)], (20, 2), Err(9));
    }
}
