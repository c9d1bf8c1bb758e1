//! How a database is used, and the connections of a pool.

use std::time::Instant;

use crate::{Counts, Durations, Entered, Failure, Level};

/// A pool from the side of those who want a connection of it.
#[derive(Debug)]
pub struct Connections {
    /// As many as there may be in use at once; `None`: that depends on how many files there are.
    pub max: Option<u32>,
    pub in_use: Level,
    pub waiting: Level,
    /// How long those who got one had to wait for it.
    pub waits: Durations,
}

impl Connections {
    pub fn of(max: Option<u32>) -> Self {
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

/// A database from the side of a part of the process that uses it in one way.
#[derive(Debug)]
pub struct DatabaseUse {
    /// What is asked of it, each with its answer.
    pub calls: Durations,
    pub connections: Connections,
    pub failures: Counts<Failure>,
}

impl DatabaseUse {
    /// By way of a pool with so many connections.
    pub fn of(connections_max: Option<u32>) -> Self {
        Self { calls: Durations::default(), connections: Connections::of(connections_max), failures: Counts::default() }
    }
}
