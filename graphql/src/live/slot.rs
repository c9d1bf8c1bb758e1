//! What waits for one subscriber: of each order the newest state, in the order of the changes, and no more than fits.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use events::ids::OrderId;
use read_side::{ChangeCursor, order_details::OrderDetails};
use tokio::sync::Notify;

use super::options::LiveLimits;

/// A row that waits, beside its lines.
const ROW_BYTES: usize = 1_024;
/// A line of an order, with product and reservation.
const LINE_BYTES: usize = 384;

/// An order that changed.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) order_id: OrderId,
    /// `None`: it is not to be shown any more.
    pub(super) row: Option<Arc<OrderDetails>>,
    pub(super) seq: i64,
}

impl Waiting {
    fn bytes(&self) -> usize {
        ROW_BYTES + self.row.as_ref().map_or(0, |row| row.lines.len() * LINE_BYTES)
    }
}

/// What there is for a subscriber that has been told everything up to some place.
#[derive(Debug)]
pub(super) enum Next {
    Told(Waiting),
    /// Nothing yet: wait for the notice.
    Nothing,
    /// What lies between is not here, but in the query database, behind this place.
    Behind(ChangeCursor),
}

/// Shared by the hub, which fills it, and its subscriber, who empties it.
#[derive(Debug)]
pub(super) struct Slot {
    queue: Mutex<Queue>,
    notice: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    /// Everything behind this place that means something to the subscriber is in the queue or has been taken from it.
    live_from: Option<ChangeCursor>,
    /// Whether the subscriber has come to `live_from`: until then it has more to read than what waits here.
    is_met: bool,
    /// Everything up to here means nothing to the subscriber, or it has been told: what did not fit lies behind.
    missed_from: Option<ChangeCursor>,
    by_seq: BTreeMap<i64, Waiting>,
    seq_of: HashMap<OrderId, i64>,
    bytes: usize,
}

impl Slot {
    /// One whose subscriber is told what happens behind `live_from`; without it, once the hub knows where it is.
    pub(super) fn new(live_from: Option<ChangeCursor>) -> Self {
        Self { queue: Mutex::new(Queue { live_from, ..Queue::default() }), notice: Notify::new() }
    }

    /// The hub begins anew, from this place.
    pub(super) fn restart(&self, live_from: ChangeCursor) {
        *self.queue() = Queue { live_from: Some(live_from), ..Queue::default() };
        self.notice.notify_one();
    }

    /// Puts in what happened at `cursor`. When it does not fit, everything is left to the query database.
    pub(super) fn put(&self, waiting: Waiting, generation: i64, limits: &LiveLimits) {
        let mut queue = self.queue();
        if queue.live_from.is_none() {
            return;
        }
        let seq = waiting.seq;
        if let Some(older) = queue.seq_of.remove(&waiting.order_id) {
            queue.remove(older);
        }
        queue.bytes += waiting.bytes();
        queue.seq_of.insert(waiting.order_id, seq);
        queue.by_seq.insert(seq, waiting);
        let is_full = queue.by_seq.len() > limits.waiting_rows_max || queue.bytes > limits.waiting_bytes_max;
        if is_full && queue.by_seq.len() > 1 {
            let first = queue.by_seq.first_key_value().map_or(seq, |(first, _)| *first);
            let missed_from = queue.is_met.then(|| ChangeCursor { generation, seq: first - 1 }).or(queue.missed_from);
            *queue = Queue { live_from: Some(ChangeCursor { generation, seq }), missed_from, ..Queue::default() };
        }
        drop(queue);
        self.notice.notify_one();
    }

    /// What there is for a subscriber that has been told everything up to `at`.
    pub(super) fn take(&self, at: ChangeCursor) -> Next {
        let mut queue = self.queue();
        let reaches = |from: ChangeCursor| from.generation == at.generation && from.seq <= at.seq;
        if !queue.live_from.is_some_and(reaches) {
            let further = queue.missed_from.take().filter(|from| from.generation == at.generation && from.seq > at.seq);
            return Next::Behind(further.unwrap_or(at));
        }
        (queue.is_met, queue.missed_from) = (true, None);
        while let Some((seq, waiting)) = queue.by_seq.pop_first() {
            queue.bytes -= waiting.bytes();
            queue.seq_of.remove(&waiting.order_id);
            // what was told already is in what was read from the database
            if seq > at.seq {
                return Next::Told(waiting);
            }
        }
        Next::Nothing
    }

    /// Until something may have been put in since the last look.
    ///
    /// Safe to cancel: a notice that was not waited for is kept.
    pub(super) async fn noticed(&self) {
        self.notice.notified().await;
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no panic while held")
    }
}

impl Queue {
    fn remove(&mut self, seq: i64) {
        if let Some(waiting) = self.by_seq.remove(&seq) {
            self.bytes -= waiting.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const GENERATION: i64 = 3;

    fn at(seq: i64) -> ChangeCursor {
        ChangeCursor { generation: GENERATION, seq }
    }

    fn put(slot: &Slot, changes: &[(u128, i64)], waiting_rows_max: usize) {
        let limits = LiveLimits { waiting_rows_max, ..LiveLimits::default() };
        for (order, seq) in changes {
            let waiting = Waiting { order_id: OrderId(Uuid::from_u128(*order)), row: None, seq: *seq };
            slot.put(waiting, GENERATION, &limits);
        }
    }

    /// Everything that is taken from `from` on, as (order, seq); `None` at the end when it is behind.
    fn taken(slot: &Slot, from: i64) -> (Vec<(u128, i64)>, bool) {
        let (mut told, mut place) = (vec![], from);
        loop {
            match slot.take(at(place)) {
                Next::Told(Waiting { order_id, seq, .. }) => {
                    told.push((order_id.0.as_u128(), seq));
                    place = seq;
                }
                Next::Nothing => return (told, false),
                Next::Behind(_) => return (told, true),
            }
        }
    }

    #[test]
    fn an_order_waits_once_behind_what_changed_before_its_last_change() {
        let slot = Slot::new(Some(at(0)));
        put(&slot, &[(1, 1), (2, 2), (1, 3)], 10);
        assert_eq!(taken(&slot, 0), (vec![(2, 2), (1, 3)], false));
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_database() {
        let slot = Slot::new(Some(at(0)));
        put(&slot, &[(1, 1), (2, 2), (3, 3), (4, 4)], 2);
        assert_eq!(taken(&slot, 0), (vec![], true));
        // read there up to 3
        assert_eq!(taken(&slot, 3), (vec![(4, 4)], false));
    }

    /// However long ago it was told something: what lies between may be no longer in the database.
    #[test]
    fn whoever_had_been_told_everything_goes_on_before_what_did_not_fit() {
        let slot = Slot::new(Some(at(0)));
        assert_eq!(taken(&slot, 0), (vec![], false));
        put(&slot, &[(1, 1_001), (2, 1_002), (3, 1_003), (4, 1_004), (5, 1_005)], 1);
        let Next::Behind(from) = slot.take(at(0)) else { panic!("it did not fit") };
        assert_eq!(from, at(1_000));
        // nobody has read on yet, and there is more
        put(&slot, &[(6, 2_001), (7, 2_002)], 1);
        let Next::Behind(from) = slot.take(from) else { panic!("it did not fit") };
        assert_eq!(from, at(1_000));
    }

    #[test]
    fn whoever_had_not_been_told_everything_goes_on_where_they_are() {
        let slot = Slot::new(Some(at(500)));
        let Next::Behind(from) = slot.take(at(7)) else { panic!("it is behind") };
        assert_eq!(from, at(7));
        put(&slot, &[(1, 1_001), (2, 1_002)], 1);
        let Next::Behind(from) = slot.take(at(7)) else { panic!("it is behind") };
        assert_eq!(from, at(7));
    }

    #[test]
    fn what_was_read_from_the_database_is_not_told_again() {
        let slot = Slot::new(Some(at(2)));
        put(&slot, &[(1, 3), (2, 4), (3, 5)], 10);
        assert_eq!(taken(&slot, 1), (vec![], true));
        assert_eq!(taken(&slot, 4), (vec![(3, 5)], false));
    }

    #[test]
    fn another_generation_is_somewhere_else() {
        let slot = Slot::new(Some(at(2)));
        put(&slot, &[(1, 3)], 10);
        slot.restart(ChangeCursor { generation: GENERATION + 1, seq: 9 });
        assert_eq!(taken(&slot, 3), (vec![], true));
        assert!(matches!(slot.take(ChangeCursor { generation: GENERATION + 1, seq: 9 }), Next::Nothing));
    }

    #[test]
    fn one_row_fits_whatever_it_weighs() {
        let slot = Slot::new(Some(at(0)));
        put(&slot, &[(1, 1)], 0);
        assert_eq!(taken(&slot, 0), (vec![(1, 1)], false));
    }
}
