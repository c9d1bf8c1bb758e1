//! Times of rows, as the schema tells them.

use chrono::{DateTime, Utc};

/// A row holds a time that no calendar has.
#[derive(Debug, thiserror::Error)]
#[error("{column} is {time_us}, which is no time")]
pub(crate) struct NoTime {
    column: &'static str,
    time_us: i64,
}

/// The instant that lies so many microseconds behind 1970.
pub(crate) fn time(column: &'static str, time_us: i64) -> Result<DateTime<Utc>, NoTime> {
    DateTime::from_timestamp_micros(time_us).ok_or(NoTime { column, time_us })
}

/// As [`time`], where there may be none.
pub(crate) fn maybe_time(column: &'static str, time_us: Option<i64>) -> Result<Option<DateTime<Utc>>, NoTime> {
    time_us.map(|time_us| time(column, time_us)).transpose()
}
