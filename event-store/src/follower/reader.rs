//! Reads one source ahead: waits for room, asks for a page, and decides what a bad answer means.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use super::{
    Shared,
    options::{FollowerOptions, StartAt},
    queue::{Offer, ReadAhead, Room},
    status::{HaltReason, SourceState},
};
use crate::{
    feed::{Cursor, Feed, FeedError, FeedPage, PageLimit},
    log::LogHead,
};

/// How much longer than it was told to wait a feed may take, before it counts as unreachable.
const PAGE_GRACE: Duration = Duration::from_secs(30);

pub(super) struct Reader {
    pub feed: Arc<dyn Feed>,
    pub queue: Arc<ReadAhead>,
    pub options: Arc<FollowerOptions>,
    pub shared: Arc<Shared>,
}

/// Failures since the last success.
#[derive(Default)]
struct Failures {
    unreachable: u32,
    since: Option<chrono::DateTime<chrono::Utc>>,
    /// Answers that miss what they should hold.
    missing: u32,
}

impl Reader {
    /// Runs until the follower is cancelled or the source halts for good. Cancel-safe: all it holds is read ahead.
    pub async fn run(self) {
        let _mourner = Mourner(&self.shared);
        let cancelled = self.shared.cancel.clone();
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = self.read() => {}
        }
    }

    async fn read(&self) {
        let mut failures = Failures::default();
        // the first answer is wanted at once, to know the head; only then is it worth waiting for more
        let mut wait = Duration::ZERO;
        loop {
            let room = self.queue.room().await;
            let page = tokio::select! {
                () = self.queue.until_reset(room.generation) => {
                    failures = Failures::default();
                    continue;
                }
                page = self.page(&room, wait) => page,
            };
            let halt = match page {
                Ok(page) => {
                    let halt = self.take(&room, page, &mut failures).await;
                    wait = if failures.missing == 0 { self.options.poll_wait } else { Duration::ZERO };
                    halt
                }
                Err(error) => {
                    wait = Duration::ZERO;
                    self.fail(&room, error, &mut failures).await
                }
            };
            if let Some(reason) = halt {
                self.shared.halt(self.feed.source(), reason);
                return;
            }
        }
    }

    async fn page(&self, room: &Room, wait: Duration) -> Result<Answer, FeedError> {
        let feed = self.feed.source();
        let answer = timeout(wait + PAGE_GRACE, async {
            if room.fresh && self.options.start_at == StartAt::Head {
                return self.head().await;
            }
            self.feed.page(room.cursor, room.limit, wait).await.map(Answer::Page)
        });
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(FeedError::Unreachable { feed: feed.clone(), cause: "no answer in time".into() }),
        }
    }

    /// The last event there is, to start behind it.
    async fn head(&self) -> Result<Answer, FeedError> {
        let one = PageLimit::events(1);
        let FeedPage { epoch, head, .. } = self.feed.page(Cursor::START, one, Duration::ZERO).await?;
        if head.position == 0 {
            return Ok(Answer::Head(FeedPage { epoch, head, events: Vec::new() }));
        }
        let before = Cursor { position: head.position - 1, event_id: None };
        let page = self.feed.page(before, one, Duration::ZERO).await?;
        match page.events.first() {
            Some(event) if event.position == head.position => Ok(Answer::Head(page)),
            _ => Err(FeedError::Damaged {
                feed: self.feed.source().clone(),
                position: head.position,
                reason: "the head's event is missing".into(),
            }),
        }
    }

    async fn take(&self, room: &Room, answer: Answer, failures: &mut Failures) -> Option<HaltReason> {
        let source = self.feed.source();
        let (epoch, head) = match &answer {
            Answer::Page(page) | Answer::Head(page) => (page.epoch, page.head.clone()),
        };
        if epoch.is_nil() {
            return self.missing(room, "the log has no epoch".into(), failures).await;
        }
        self.shared.observed(source, epoch, &head, self.options.clock.now());
        let offer = match answer {
            Answer::Page(page) => self.queue.offer(room.generation, page),
            Answer::Head(page) => self.jump(room.generation, page),
        };
        let duplicates = match offer {
            Offer::Taken { duplicates, .. } | Offer::Nothing { duplicates } | Offer::Missing { duplicates } => {
                duplicates
            }
            Offer::Contradiction { .. } | Offer::Stale => 0,
        };
        let reread = matches!(offer, Offer::Taken { gap: true, .. } | Offer::Missing { .. });
        self.shared.read(source, self.queue.load(), duplicates, reread);
        match offer {
            Offer::Stale => None,
            Offer::Taken { .. } | Offer::Nothing { .. } => {
                *failures = Failures::default();
                self.shared.ready.notify_one();
                None
            }
            Offer::Missing { .. } => {
                let reason = format!("the event is missing, though the head is {}", head.position);
                self.missing(room, reason, failures).await
            }
            Offer::Contradiction { position } => {
                let reason = format!("another event than before stands at position {position}");
                self.missing(room, reason, failures).await
            }
        }
    }

    fn jump(&self, generation: u64, page: FeedPage) -> Offer {
        let FeedPage { epoch, head, events } = page;
        let end = events.first().map_or(Cursor::START, Cursor::at);
        let head = if head.position == end.position { head } else { LogHead { position: end.position, ..head } };
        if self.queue.jump(generation, epoch, head, end) {
            Offer::Taken { duplicates: 0, gap: false }
        } else {
            Offer::Stale
        }
    }

    /// Something is not as it should be: a transport may lose an answer, so it is asked for again, but not for ever.
    async fn missing(&self, room: &Room, reason: String, failures: &mut Failures) -> Option<HaltReason> {
        failures.missing += 1;
        if failures.missing > self.options.rereads_max {
            return Some(HaltReason::Damaged { position: room.cursor.position + 1, reason });
        }
        sleep(self.options.backoff.after(failures.missing)).await;
        None
    }

    async fn fail(&self, room: &Room, error: FeedError, failures: &mut Failures) -> Option<HaltReason> {
        match error {
            // what was read ahead may be what the log has lost: only a checkpoint that is gone halts
            FeedError::Regressed { position, head, .. } => {
                if !self.queue.fall_back() {
                    return Some(HaltReason::FeedRegressed { position, head });
                }
                sleep(self.options.backoff.first).await;
                None
            }
            FeedError::Damaged { reason, .. } => self.missing(room, reason, failures).await,
            FeedError::Unreachable { cause, .. } => {
                failures.unreachable = failures.unreachable.saturating_add(1);
                let since = *failures.since.get_or_insert_with(|| self.options.clock.now());
                let reason =
                    HaltReason::Unreachable { since, attempts: failures.unreachable, cause: cause.to_string() };
                self.shared.set_state(self.feed.source(), SourceState::Halted(reason));
                sleep(self.options.backoff.after(failures.unreachable)).await;
                None
            }
        }
    }
}

enum Answer {
    Page(FeedPage),
    /// The last event of the log, or none if it is empty.
    Head(FeedPage),
}

/// Tells the applier when a reader panics: without it a source would stand still in silence.
struct Mourner<'a>(&'a Shared);

impl Drop for Mourner<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fatal("a reader panicked");
        }
    }
}
