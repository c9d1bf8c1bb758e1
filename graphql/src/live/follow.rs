//! One subscriber's way through the changes: what was missed is read from the query database, a page at a time, and then
//! what comes is taken from the slot.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use events::ids::OrderId;
use futures::{Stream, stream};
use read_side::{
    ChangeCursor, Consistency,
    order_details::{ChangedOrder, ChangedOrders, OrderDetails},
};

use super::{
    Live,
    hub::Seat,
    interest::{Interest, Meaning},
    slot::{Next, Waiting},
};

/// Orders of one page: what a subscriber that catches up holds.
const PAGE_ORDERS: usize = 64;

/// How long to wait after the query database has failed.
const AGAIN: Duration = Duration::from_secs(1);

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Started,
    Changed,
    Gone,
    Resync,
}

/// One message of a subscription.
#[derive(Debug, Clone)]
pub(crate) struct Followed {
    pub(crate) kind: Kind,
    pub(crate) order_id: Option<OrderId>,
    pub(crate) row: Option<Arc<OrderDetails>>,
    /// Behind this message.
    pub(crate) cursor: ChangeCursor,
}

impl Followed {
    fn of_all(kind: Kind, cursor: ChangeCursor) -> Self {
        Self { kind, order_id: None, row: None, cursor }
    }

    fn of_order(waiting: Waiting, generation: i64) -> Self {
        let kind = if waiting.row.is_some() { Kind::Changed } else { Kind::Gone };
        let cursor = ChangeCursor { generation, seq: waiting.seq };
        Self { kind, order_id: Some(waiting.order_id), row: waiting.row, cursor }
    }
}

/// A subscriber on their way.
pub(crate) struct Following {
    live: Live,
    seat: Seat,
    /// Everything up to here was told.
    at: ChangeCursor,
    /// A page of what was missed, and the place behind it.
    page: VecDeque<Followed>,
    page_end: Option<ChangeCursor>,
}

impl Following {
    /// Whoever goes on behind `after`; without it they begin at `head`, and are told so first.
    pub(crate) fn begin(live: &Live, interest: Interest, after: Option<ChangeCursor>, head: ChangeCursor) -> Self {
        let at = after.unwrap_or(head);
        let started = after.is_none().then(|| Followed::of_all(Kind::Started, head));
        Self {
            live: live.clone(),
            seat: live.take_seat(interest),
            at,
            page: started.into_iter().collect(),
            page_end: None,
        }
    }

    /// The messages. It ends only when everything does.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Followed> + Send + use<> {
        stream::unfold(self, async |mut following| {
            let closing = following.live.inner.options.closing.asked_for.clone();
            let followed = closing.run_until_cancelled(following.next()).await?;
            Some((followed, following))
        })
    }

    async fn next(&mut self) -> Followed {
        loop {
            if let Some(followed) = self.page.pop_front() {
                self.at = followed.cursor;
                return followed;
            }
            if let Some(end) = self.page_end.take() {
                self.at = end;
            }
            match self.seat.slot.take(self.at) {
                Next::Told(waiting) => {
                    self.at.seq = waiting.seq;
                    return Followed::of_order(waiting, self.at.generation);
                }
                Next::Nothing => self.seat.slot.noticed().await,
                Next::Behind(from) => {
                    self.at = from;
                    if let Some(resync) = self.catch_up().await {
                        return resync;
                    }
                }
            }
        }
    }

    /// Reads the next page of what was missed, or finds that nobody can say what that is.
    async fn catch_up(&mut self) -> Option<Followed> {
        let interest = Arc::clone(&self.seat.interest);
        let read = {
            let _turn = self.live.inner.catch_ups.acquire().await.expect("it is never closed");
            let reader = &self.live.inner.read;
            reader.changed_orders(Some(self.at), interest.changes_of(), PAGE_ORDERS, &Consistency::any()).await
        };
        match read {
            Ok(ChangedOrders::Since { orders, cursor, has_more }) => {
                let is_at_the_end = cursor == self.at && !has_more;
                let told = orders.into_iter().filter_map(|order| meaningful(&interest, order));
                self.page = told.map(|waiting| Followed::of_order(waiting, cursor.generation)).collect();
                self.page_end = Some(cursor);
                if is_at_the_end {
                    // the hub has not come here yet
                    let poll = self.live.inner.options.limits.poll_every;
                    let _ = tokio::time::timeout(poll, self.seat.slot.noticed()).await;
                }
                None
            }
            Ok(ChangedOrders::Resync { cursor }) => {
                self.at = cursor;
                Some(Followed::of_all(Kind::Resync, cursor))
            }
            Err(error) => {
                tracing::debug!(code = error.code(), "read the changes that a subscriber has missed: {error}");
                tokio::time::sleep(AGAIN).await;
                None
            }
        }
    }
}

fn meaningful(interest: &Interest, order: ChangedOrder) -> Option<Waiting> {
    let ChangedOrder { order_id, seq, row } = order;
    match interest.judge(order_id, row.as_ref(), None) {
        Meaning::Shown => Some(Waiting { order_id, row: row.map(Arc::new), seq }),
        Meaning::Gone => Some(Waiting { order_id, row: None, seq }),
        Meaning::Nothing => None,
    }
}
