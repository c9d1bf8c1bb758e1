//! What one source has read ahead: bounded by events and bytes, in order, without holes.
//!
//! One reader puts in, the applier takes out. What is being applied still counts against the bounds.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};

use chrono::{DateTime, Utc};
use events::envelope::RecordedEvent;
use tokio::sync::Notify;
use uuid::Uuid;

use super::checkpoint::Checkpoint;
use crate::{
    feed::{Cursor, FeedPage, PageLimit},
    log::LogHead,
};

/// What an event weighs besides payload and metadata, in bytes: its struct, ids and names.
const EVENT_OVERHEAD_BYTES: usize = 256;

pub(super) fn weight(event: &RecordedEvent) -> usize {
    EVENT_OVERHEAD_BYTES + event.payload.len() + event.metadata.len()
}

pub(super) struct ReadAhead {
    events_max: usize,
    bytes_max: usize,
    /// The last position to be read at all; `u64::MAX` = no end.
    until: u64,
    inner: Mutex<Inner>,
    /// For the reader: room, a reset or the end.
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    /// Counts resets, so that a page asked for before one is not taken after it.
    generation: u64,
    /// `false` = nothing may be read: not begun yet, or halted.
    open: bool,
    /// Of the last event put in.
    cursor: Cursor,
    epoch: Uuid,
    applied: Checkpoint,
    segments: VecDeque<Segment>,
    in_flight: Option<InFlight>,
    load: Load,
}

/// Events of one epoch, one after the other.
struct Segment {
    epoch: Uuid,
    head: LogHead,
    events: VecDeque<RecordedEvent>,
    end: Cursor,
    /// The checkpoint jumps to `end` without events: a start at the head.
    jump: bool,
}

struct InFlight {
    events: usize,
    bytes: usize,
    end: Checkpoint,
}

/// How full it is, and ever was.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    pub events: usize,
    pub bytes: usize,
    pub events_peak: usize,
    pub bytes_peak: usize,
    pub pending_since: Option<DateTime<Utc>>,
}

/// Leave to read one page.
pub(super) struct Room {
    pub generation: u64,
    pub cursor: Cursor,
    pub limit: PageLimit,
    /// Nothing is known of this log yet.
    pub fresh: bool,
}

/// What became of a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// Events or a new epoch were put in.
    Taken { duplicates: u64, gap: bool },
    /// Nothing new in it, and nothing was to be expected.
    Nothing { duplicates: u64 },
    /// The event behind the cursor is not in the page, though the log has it.
    Missing { duplicates: u64 },
    /// Two events claim one position.
    Contradiction { position: u64 },
    /// There was a reset meanwhile.
    Stale,
}

/// What the applier gets: a step's worth of events.
pub(super) struct Taken {
    pub epoch: Uuid,
    pub head: LogHead,
    pub events: Vec<RecordedEvent>,
    pub end: Cursor,
    pub jump: bool,
}

impl ReadAhead {
    pub fn new(events_max: usize, bytes_max: usize, until: u64) -> Self {
        Self { events_max, bytes_max, until, inner: Mutex::default(), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it holds this lock")
    }

    /// Begins, or begins again, behind `checkpoint`. What was read ahead is dropped.
    pub fn reset(&self, checkpoint: Checkpoint) {
        let mut inner = self.lock();
        let peaks = (inner.load.events_peak, inner.load.bytes_peak);
        *inner = Inner {
            generation: inner.generation + 1,
            open: true,
            cursor: checkpoint.cursor(),
            epoch: checkpoint.epoch,
            applied: checkpoint,
            load: Load { events_peak: peaks.0, bytes_peak: peaks.1, ..Load::default() },
            ..Inner::default()
        };
        self.changed.notify_one();
    }

    /// Ends reading, until it begins again, and drops what was read ahead.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.generation += 1;
        inner.open = false;
        inner.segments.clear();
        inner.in_flight = None;
        inner.load = Load { events: 0, bytes: 0, pending_since: None, ..inner.load };
        self.changed.notify_one();
    }

    /// Waits until half of it is free, so that pages stay large. Cancel-safe.
    pub async fn room(&self) -> Room {
        loop {
            {
                let inner = self.lock();
                let Load { events, bytes, .. } = inner.load;
                let wanted = inner.open && inner.cursor.position < self.until;
                if wanted && events <= self.events_max / 2 && bytes <= self.bytes_max / 2 {
                    let left = usize::try_from(self.until - inner.cursor.position).unwrap_or(usize::MAX);
                    let events_max = (self.events_max - events).min(left).clamp(1, PageLimit::EVENTS_MAX);
                    let bytes_max = (self.bytes_max - bytes).clamp(1, PageLimit::BYTES_MAX);
                    return Room {
                        generation: inner.generation,
                        cursor: inner.cursor,
                        limit: PageLimit { events_max, bytes_max },
                        fresh: inner.epoch.is_nil(),
                    };
                }
            }
            self.changed.notified().await;
        }
    }

    /// Waits for a reset or the end after `generation`. Cancel-safe.
    pub async fn until_reset(&self, generation: u64) {
        while self.lock().generation == generation {
            self.changed.notified().await;
        }
    }

    /// Puts a page's events in, as far as they follow without a hole and there is room: what lies behind is read again.
    pub fn offer(&self, generation: u64, mut page: FeedPage) -> Offer {
        if !page.events.is_sorted_by_key(|event| event.position) {
            page.events.sort_by_key(|event| event.position);
        }
        let mut inner = self.lock();
        if inner.generation != generation {
            return Offer::Stale;
        }
        let (mut duplicates, mut gap, mut full, mut contradiction) = (0, false, false, None);
        let mut accepted = VecDeque::with_capacity(page.events.len().min(self.events_max));
        for event in page.events {
            let cursor = inner.cursor;
            if event.position == cursor.position && cursor.event_id.is_some_and(|seen| seen != event.event_id) {
                contradiction = Some(event.position);
                break;
            }
            if event.position <= cursor.position {
                duplicates += 1;
                continue;
            }
            if event.position > cursor.position + 1 {
                gap = true;
                break;
            }
            let bytes = weight(&event);
            let Load { events, bytes: held, .. } = inner.load;
            if event.position > self.until || events >= self.events_max || (events > 0 && held + bytes > self.bytes_max)
            {
                full = true;
                break;
            }
            inner.cursor = Cursor::at(&event);
            inner.load.events += 1;
            inner.load.bytes += bytes;
            accepted.push_back(event);
        }
        if accepted.is_empty() {
            if let Some(position) = contradiction {
                return Offer::Contradiction { position };
            }
            if !full && page.head.position > inner.cursor.position {
                return Offer::Missing { duplicates };
            }
            if page.epoch == inner.epoch {
                return Offer::Nothing { duplicates };
            }
        }
        inner.put(page.epoch, page.head, accepted);
        Offer::Taken { duplicates, gap: gap || contradiction.is_some() }
    }

    /// Starts behind `end` instead of at the beginning. `false`: there was a reset meanwhile.
    pub fn jump(&self, generation: u64, epoch: Uuid, head: LogHead, end: Cursor) -> bool {
        let mut inner = self.lock();
        if inner.generation != generation {
            return false;
        }
        assert!(inner.segments.is_empty() && inner.in_flight.is_none(), "a jump comes before everything else");
        inner.epoch = epoch;
        inner.cursor = end;
        inner.segments.push_back(Segment { epoch, head, events: VecDeque::new(), end, jump: true });
        true
    }

    /// Drops what is read and not being applied, so that reading goes on behind what is. `false`: there was nothing,
    /// neither read ahead nor being applied.
    pub fn fall_back(&self) -> bool {
        let mut inner = self.lock();
        let (in_flight, end) = match &inner.in_flight {
            Some(flight) => ((flight.events, flight.bytes), flight.end),
            None => ((0, 0), inner.applied),
        };
        let anything = inner.in_flight.is_some() || !inner.segments.is_empty();
        inner.segments.clear();
        inner.cursor = end.cursor();
        inner.epoch = end.epoch;
        inner.load = Load { events: in_flight.0, bytes: in_flight.1, ..inner.load };
        inner.note_oldest();
        anything
    }

    pub fn is_ready(&self) -> bool {
        !self.lock().segments.is_empty()
    }

    /// Takes a step's worth out; it counts as held until [`Self::done`] or a reset.
    pub fn take(&self, events_max: usize, bytes_max: usize) -> Option<Taken> {
        let mut inner = self.lock();
        assert!(inner.in_flight.is_none(), "one step at a time");
        let segment = inner.segments.front_mut()?;
        let (mut count, mut bytes) = (0, 0);
        for event in segment.events.iter().take(events_max) {
            let weight = weight(event);
            if count > 0 && bytes + weight > bytes_max {
                break;
            }
            count += 1;
            bytes += weight;
        }
        let events: Vec<_> = segment.events.drain(..count).collect();
        let whole = segment.events.is_empty();
        let end = if whole { segment.end } else { Cursor::at(events.last().expect("a part is not empty")) };
        let taken = Taken { epoch: segment.epoch, head: segment.head.clone(), events, end, jump: segment.jump };
        if whole {
            inner.segments.pop_front();
        }
        inner.in_flight = Some(InFlight { events: count, bytes, end: Checkpoint::new(taken.epoch, end) });
        inner.load.pending_since = taken.events.first().map(|event| event.recorded_at);
        Some(taken)
    }

    /// What was taken is applied: its room is free.
    pub fn done(&self) {
        let mut inner = self.lock();
        if let Some(flight) = inner.in_flight.take() {
            inner.load.events -= flight.events;
            inner.load.bytes -= flight.bytes;
            inner.applied = flight.end;
            inner.note_oldest();
            self.changed.notify_one();
        }
    }

    pub fn load(&self) -> Load {
        self.lock().load
    }
}

impl Inner {
    fn put(&mut self, epoch: Uuid, head: LogHead, events: VecDeque<RecordedEvent>) {
        self.load.events_peak = self.load.events_peak.max(self.load.events);
        self.load.bytes_peak = self.load.bytes_peak.max(self.load.bytes);
        self.epoch = epoch;
        let end = self.cursor;
        match self.segments.back_mut() {
            Some(segment) if segment.epoch == epoch && !segment.jump => {
                segment.events.extend(events);
                segment.head = head;
                segment.end = end;
            }
            _ => self.segments.push_back(Segment { epoch, head, events, end, jump: false }),
        }
        self.note_oldest();
    }

    fn note_oldest(&mut self) {
        if self.in_flight.is_none() {
            let oldest = self.segments.iter().find_map(|segment| segment.events.front());
            self.load.pending_since = oldest.map(|event| event.recorded_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use events::envelope::StreamId;

    use super::*;

    const EPOCH: Uuid = Uuid::from_u128(0xE1);

    fn event(position: u64) -> RecordedEvent {
        RecordedEvent {
            position,
            event_id: Uuid::from_u128(position.into()),
            stream: StreamId::new("account", "a"),
            sequence: position,
            event_type: "Noted".into(),
            event_version: "1".into(),
            payload: "{}".into(),
            metadata: "{}".into(),
            recorded_at: DateTime::UNIX_EPOCH,
        }
    }

    fn page(positions: impl IntoIterator<Item = u64>) -> FeedPage {
        let head = LogHead { position: 100, recorded_at: DateTime::UNIX_EPOCH };
        FeedPage { epoch: EPOCH, head, events: positions.into_iter().map(event).collect() }
    }

    /// A queue of ten events that has been opened, and its generation.
    fn open(until: u64) -> (ReadAhead, u64) {
        let queue = ReadAhead::new(10, usize::MAX, until);
        queue.reset(Checkpoint::START);
        (queue, 1)
    }

    fn taken(queue: &ReadAhead, events_max: usize) -> Vec<u64> {
        let taken = queue.take(events_max, usize::MAX);
        taken.into_iter().flat_map(|taken| taken.events).map(|event| event.position).collect()
    }

    #[test]
    fn a_page_larger_than_asked_for_is_cut_at_the_bound() {
        let (queue, generation) = open(u64::MAX);
        assert_eq!(queue.offer(generation, page(1..=30)), Offer::Taken { duplicates: 0, gap: false });
        assert_eq!((queue.load().events, queue.load().events_peak), (10, 10));
        assert_eq!(queue.offer(generation, page(11..=30)), Offer::Nothing { duplicates: 0 }, "it is full");
        // what is being applied still counts
        assert_eq!(taken(&queue, 4), [1, 2, 3, 4]);
        assert_eq!(queue.offer(generation, page(11..=30)), Offer::Nothing { duplicates: 0 });
        queue.done();
        assert_eq!(queue.offer(generation, page(11..=30)), Offer::Taken { duplicates: 0, gap: false });
        assert_eq!(taken(&queue, 99), (5..=14).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_taken_beyond_the_target() {
        let (queue, generation) = open(3);
        assert_eq!(queue.offer(generation, page(1..=9)), Offer::Taken { duplicates: 0, gap: false });
        assert_eq!(taken(&queue, 99), [1, 2, 3]);
    }

    #[test]
    fn a_page_from_before_a_reset_is_not_taken() {
        let (queue, generation) = open(u64::MAX);
        queue.reset(Checkpoint::at(EPOCH, &event(5)));
        assert_eq!(queue.offer(generation, page(6..=9)), Offer::Stale);
        assert_eq!(queue.offer(generation + 1, page(4..=7)), Offer::Taken { duplicates: 2, gap: false });
        assert_eq!(taken(&queue, 99), [6, 7]);
        queue.close();
        assert_eq!(queue.offer(generation + 1, page(8..=9)), Offer::Stale);
        assert_eq!(queue.load().events, 0);
    }

    #[test]
    fn holes_and_contradictions_are_told_apart_from_duplicates() {
        let (queue, generation) = open(u64::MAX);
        assert_eq!(queue.offer(generation, page([2, 3])), Offer::Missing { duplicates: 0 });
        assert_eq!(queue.offer(generation, page([])), Offer::Missing { duplicates: 0 }, "the head promises more");
        assert_eq!(queue.offer(generation, page([3, 1, 1, 2, 5])), Offer::Taken { duplicates: 1, gap: true });
        let mut other = page([3, 4]);
        other.events[0].event_id = Uuid::from_u128(99);
        assert_eq!(queue.offer(generation, other), Offer::Contradiction { position: 3 });
        assert_eq!(taken(&queue, 99), [1, 2, 3]);
    }

    #[test]
    fn an_epoch_ends_a_step_and_travels_without_events() {
        let (queue, generation) = open(u64::MAX);
        queue.offer(generation, page(1..=3));
        let mut promoted = page(4..=5);
        promoted.epoch = Uuid::from_u128(0xE2);
        queue.offer(generation, promoted);
        assert_eq!(taken(&queue, 99), [1, 2, 3]);
        queue.done();
        let step = queue.take(99, usize::MAX).expect("the second epoch");
        assert_eq!((step.epoch, step.events.len(), step.end.position), (Uuid::from_u128(0xE2), 2, 5));
        queue.done();
        let mut again = page([]);
        again.head.position = 5;
        assert_eq!(queue.offer(generation, again), Offer::Taken { duplicates: 0, gap: false });
        let step = queue.take(99, usize::MAX).expect("the first epoch again");
        assert_eq!((step.epoch, step.events.len(), step.end.position), (EPOCH, 0, 5));
    }

    #[test]
    fn falling_back_keeps_only_what_is_being_applied() {
        let (queue, generation) = open(u64::MAX);
        queue.offer(generation, page(1..=8));
        assert_eq!(taken(&queue, 3), [1, 2, 3]);
        assert!(queue.fall_back());
        assert_eq!(queue.load().events, 3);
        assert!(queue.fall_back(), "a step is still under way");
        queue.done();
        assert!(!queue.fall_back(), "only the checkpoint is left");
        assert_eq!(queue.offer(generation, page(4..=5)), Offer::Taken { duplicates: 0, gap: false });
        assert_eq!(taken(&queue, 99), [4, 5]);
    }
}
