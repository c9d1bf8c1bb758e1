//! How the connections of a pool are used.

use std::time::Instant;

use crate::{Durations, Entered, Level};

/// A pool from the side of those who want a connection of it.
#[derive(Debug)]
pub struct Connections {
    /// As many as there may be in use at once.
    pub max: u32,
    pub in_use: Level,
    pub waiting: Level,
    /// How long those who got one had to wait for it.
    pub waits: Durations,
}

impl Connections {
    pub fn of(max: u32) -> Self {
        Self { max, in_use: Level::default(), waiting: Level::default(), waits: Durations::default() }
    }

    /// A connection, as `wait` gives it, and its place among those in use. Whoever goes away waits no more.
    pub async fn get<T, E>(&self, wait: impl Future<Output = Result<T, E>>) -> Result<(T, Entered), E> {
        let (began, waiting) = (Instant::now(), self.waiting.enter());
        let got = wait.await?;
        drop(waiting);
        self.waits.add_since(began);
        Ok((got, self.in_use.enter()))
    }
}
