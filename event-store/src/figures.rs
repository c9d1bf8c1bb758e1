//! What is measured of a log: of its database by the adapter, of what waits before it by the [writer](crate::writer), of
//! commands by the [bus](crate::bus).

use measures::{Connections, Count, Counts, Durations, Failure, Level, Sizes};

use crate::bus::Outcome;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::{
    feed::FeedError,
    log::{CommitError, LogError},
};

/// The figures of one log. Whoever works on it finds them by [`EventLog::figures`](crate::log::EventLog::figures).
#[derive(Debug)]
pub struct LogFigures {
    /// Calls of the database, as those see them who call: with the wait for a connection, without that for news.
    pub append: Durations,
    pub page: Durations,
    /// Streams, and answers that are stored.
    pub read: Durations,
    /// Of the connections that read; the one that writes is the writer's alone.
    pub connections: Connections,
    pub failures: Counts<Failure>,
    /// Commands of one transaction.
    pub batch_commands: Sizes,
    /// Batches that were sent again because no answer came, or none that said what became of them.
    pub resends: Count,
    /// Chains of commands, and their bytes, that wait to be committed or are under way.
    pub queued_chains: Level,
    pub queued_bytes: Level,
    /// What became of commands, how long that took, and how many are under way.
    pub commands: Counts<Outcome>,
    pub command: Durations,
    pub commands_under_way: Level,
}

impl LogFigures {
    /// Of a log with so many connections that read.
    pub fn of(connections_max: u32) -> Self {
        Self {
            append: Durations::default(),
            page: Durations::default(),
            read: Durations::default(),
            connections: Connections::of(Some(connections_max)),
            failures: Counts::default(),
            batch_commands: Sizes::default(),
            resends: Count::default(),
            queued_chains: Level::default(),
            queued_bytes: Level::default(),
            commands: Counts::default(),
            command: Durations::default(),
            commands_under_way: Level::default(),
        }
    }
}

/// For adapters.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl LogFigures {
    pub(crate) async fn appended<T>(
        &self,
        work: impl Future<Output = Result<T, CommitError>>,
    ) -> Result<T, CommitError> {
        let done = self.append.of(work).await;
        if let Err(CommitError::Unavailable(cause) | CommitError::Unknown(cause) | CommitError::Refused(cause)) = &done
        {
            self.failures.one_more(failure(&**cause));
        }
        done
    }

    pub(crate) async fn read<T>(&self, work: impl Future<Output = Result<T, LogError>>) -> Result<T, LogError> {
        let done = self.read.of(work).await;
        if let Err(LogError::Unavailable(cause)) = &done {
            self.failures.one_more(failure(&**cause));
        }
        done
    }

    pub(crate) async fn paged<T>(&self, work: impl Future<Output = Result<T, FeedError>>) -> Result<T, FeedError> {
        let done = self.page.of(work).await;
        if let Err(FeedError::Unreachable { cause, .. }) = &done {
            self.failures.one_more(failure(&**cause));
        }
        done
    }
}

/// What a driver's error says. What is none of a driver's is our own: an answer or a connection did not come in time.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn failure(cause: &(dyn std::error::Error + 'static)) -> Failure {
    #[cfg(feature = "postgres")]
    if let Some(error) = cause.downcast_ref() {
        return database::failure(error);
    }
    #[cfg(feature = "sqlite")]
    if let Some(error) = cause.downcast_ref::<rusqlite::Error>() {
        let code = error.sqlite_error().map(|error| error.extended_code.to_string());
        return code.map_or(Failure::Other, |code| Failure::of_code(&code));
    }
    Failure::Unreachable
}
