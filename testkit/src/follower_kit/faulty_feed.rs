//! A feed that answers as a bad transport would: late, twice, out of order, with holes, or not at all.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use event_store::feed::{Cursor, Feed, FeedError, FeedPage, PageLimit};
use events::envelope::Name;

use super::Seeded;

/// Lies about an honest feed, the same way for the same seed and the same questions.
pub struct FaultyFeed {
    honest: Arc<dyn Feed>,
    state: Mutex<State>,
}

struct State {
    random: Seeded,
    bad_in_a_row: u32,
    earlier: Option<FeedPage>,
    lies: u64,
}

impl FaultyFeed {
    /// After so many bad answers comes a good one: what never arrives is a damaged feed, and another test.
    pub const BAD_IN_A_ROW_MAX: u32 = 4;

    pub fn new(honest: Arc<dyn Feed>, seed: u64) -> Self {
        let state = State { random: Seeded::new(seed), bad_in_a_row: 0, earlier: None, lies: 0 };
        Self { honest, state: Mutex::new(state) }
    }

    /// How many answers were not what they should have been.
    pub fn lies(&self) -> u64 {
        self.lock().lies
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while lying")
    }
}

#[derive(Debug, Clone, Copy)]
enum Lie {
    /// Events from before come once more.
    Again(usize),
    Shuffled,
    Doubled,
    Hole,
    WithoutBeginning,
    Empty,
    Unreachable,
    /// An answer to an earlier question.
    Late,
}

#[async_trait]
impl Feed for FaultyFeed {
    fn source(&self) -> &Name {
        self.honest.source()
    }

    async fn page(&self, after: Cursor, limit: PageLimit, wait: Duration) -> Result<FeedPage, FeedError> {
        let (lie, delay) = {
            let mut state = self.lock();
            let lie = match state.random.below(12) {
                0 => Some(Lie::Again(state.random.below(9) + 1)),
                1 => Some(Lie::Shuffled),
                2 => Some(Lie::Doubled),
                3 => Some(Lie::Hole),
                4 => Some(Lie::WithoutBeginning),
                5 => Some(Lie::Empty),
                6 => Some(Lie::Unreachable),
                7 => Some(Lie::Late),
                _ => None,
            };
            let lie = lie.filter(|_| state.bad_in_a_row < Self::BAD_IN_A_ROW_MAX);
            state.bad_in_a_row = if lie.is_some() { state.bad_in_a_row + 1 } else { 0 };
            state.lies += u64::from(lie.is_some());
            (lie, Duration::from_micros(state.random.draw() % 500))
        };
        tokio::time::sleep(delay).await;

        let again = match lie {
            Some(Lie::Again(count)) => after.position.saturating_sub(count as u64),
            Some(Lie::Unreachable) => {
                return Err(FeedError::Unreachable { feed: self.source().clone(), cause: "a lie".into() });
            }
            _ => after.position,
        };
        let mut page = self.honest.page(after, limit, wait).await?;
        if again < after.position {
            let before = Cursor { position: again, event_id: None };
            let mut older = self.honest.page(before, limit, Duration::ZERO).await?;
            older.events.retain(|event| event.position <= after.position);
            page.events.splice(0..0, older.events);
        }
        let mut state = self.lock();
        let count = page.events.len();
        match lie {
            Some(Lie::Shuffled) => {
                for n in (1..count).rev() {
                    page.events.swap(n, state.random.below(n + 1));
                }
            }
            Some(Lie::Doubled) => {
                for n in (0..count).rev().filter(|n| n % 2 == 0) {
                    page.events.insert(n, page.events[n].clone());
                }
            }
            Some(Lie::Hole) if count > 0 => _ = page.events.remove(state.random.below(count)),
            Some(Lie::WithoutBeginning) => _ = page.events.drain(..count.div_ceil(2)),
            Some(Lie::Empty) => page.events.clear(),
            Some(Lie::Late) => {
                if let Some(earlier) = state.earlier.take() {
                    page = earlier;
                }
            }
            Some(Lie::Again(_) | Lie::Unreachable | Lie::Hole) | None => state.earlier = Some(page.clone()),
        }
        Ok(page)
    }
}
