//! Bounded patience with who is silent: a service that takes commands and never answers must not keep all hands busy, or
//! every saga waits for it, also those that want nothing of it.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// So many commands in a row may stay without any answer before most are not sent any more. It is more than are under
/// way by accident, and less than the dispatcher has hands.
const SILENT_AFTER: u32 = 16;

/// How many at once still try whether it answers again.
const TRIES_MAX: usize = 4;

/// With one service.
#[derive(Debug)]
pub struct Patience {
    unanswered: AtomicU32,
    tries: Semaphore,
}

impl Default for Patience {
    fn default() -> Self {
        Self { unanswered: AtomicU32::new(0), tries: Semaphore::new(TRIES_MAX) }
    }
}

/// Leave to send one command, held until it is answered or not.
#[derive(Debug)]
pub struct Leave<'a> {
    /// To try whether it answers again.
    _try: Option<SemaphorePermit<'a>>,
}

impl Patience {
    /// `None` = it is silent, and enough others try already.
    pub fn leave(&self) -> Option<Leave<'_>> {
        if self.unanswered.load(Ordering::Relaxed) < SILENT_AFTER {
            return Some(Leave { _try: None });
        }
        self.tries.try_acquire().ok().map(|permit| Leave { _try: Some(permit) })
    }

    /// It has answered, whatever it said.
    pub fn answered(&self) {
        self.unanswered.store(0, Ordering::Relaxed);
    }

    /// A wait was over without an answer.
    pub fn unanswered(&self) {
        // the number beyond the bound says nothing, and must not come round
        let _ = self
            .unanswered
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < SILENT_AFTER).then_some(count + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_keeps_few_hands_busy_until_it_answers() {
        let patience = Patience::default();
        let leaves: Vec<_> = (0..100).map_while(|_| patience.leave()).collect();
        assert_eq!(leaves.len(), 100, "who answers has no bound");
        (0..1_000).for_each(|_| patience.unanswered());
        let tries: Vec<_> = (0..100).map_while(|_| patience.leave()).collect();
        assert_eq!(tries.len(), TRIES_MAX);
        drop(tries);
        assert!(patience.leave().is_some(), "one ended, and another tries");
        patience.answered();
        let leaves: Vec<_> = (0..100).map_while(|_| patience.leave()).collect();
        assert_eq!(leaves.len(), 100, "it heals at once");
    }
}
