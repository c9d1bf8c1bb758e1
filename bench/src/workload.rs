//! The work that both sides do: one aggregate, one command, one event of about 300 bytes, and how it is timed.
//!
//! `bench/peers` includes this very file, so that the project and its peers run the same domain code and are counted by
//! the same clock. It uses nothing of the project.

use std::{
    fmt,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Events that every prepared stream starts with: what a store without a cache loads before each command.
pub const PREPARED_EVENTS: u64 = 3;

/// An account that takes deposits: small state, short streams, no rule that could refuse.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    pub balance_minor: i64,
    pub deposits: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deposit {
    pub amount_minor: i64,
    pub reference: Uuid,
    pub memo: String,
    /// Whether this is the first of its account. A hint: the decision does not look at it, and nobody is asked for it.
    #[serde(skip)]
    pub opens: bool,
}

impl Deposit {
    /// A deposit whose event has a payload of about 300 bytes.
    pub fn sample(amount_minor: i64, opens: bool) -> Self {
        const MEMO: &str = "Payment received with thanks; the remaining amount is due within thirty days of the date of \
                            this statement, net of any credit notes issued since. Questions: ask for account services";
        Self { amount_minor, reference: Uuid::now_v7(), memo: MEMO.to_owned(), opens }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AccountEvent {
    Deposited { amount_minor: i64, reference: Uuid, memo: String },
}

impl DomainEvent for AccountEvent {
    fn event_type(&self) -> String {
        match self {
            Self::Deposited { .. } => "Deposited".to_owned(),
        }
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

/// An account never refuses, but the trait wants to know how it would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Never {}

impl fmt::Display for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl std::error::Error for Never {}

impl Aggregate for Account {
    const TYPE: &'static str = "account";
    type Command = Deposit;
    type Event = AccountEvent;
    type Error = Never;
    type Services = ();

    async fn handle(&mut self, command: Deposit, (): &(), sink: &EventSink<Self>) -> Result<(), Never> {
        let Deposit { amount_minor, reference, memo, opens: _ } = command;
        sink.write(AccountEvent::Deposited { amount_minor, reference, memo }, self).await;
        Ok(())
    }

    fn apply(&mut self, event: AccountEvent) {
        match event {
            AccountEvent::Deposited { amount_minor, .. } => {
                self.balance_minor += amount_minor;
                self.deposits += 1;
            }
        }
    }
}

/// The id of prepared stream `n`. Ids grow as UUIDs of version 7 do, so that both sides append at one end of an index.
pub fn prepared_stream(n: u64) -> String {
    const FIRST: u128 = 0x0190_0000_0000_7000_8000_0000_0000_0000;
    Uuid::from_u128(FIRST + (u128::from(n) << 80)).to_string()
}

/// Which streams the commands of a measurement go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Streams {
    /// Prepared streams, over and over: a cache holds them.
    Hot,
    /// Prepared streams, so many that no cache holds the next one.
    Cold,
    /// A new stream for every command.
    Fresh,
}

impl Streams {
    pub const ALL: [Self; 3] = [Self::Hot, Self::Cold, Self::Fresh];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Cold => "cold",
            Self::Fresh => "fresh",
        }
    }
}

impl std::str::FromStr for Streams {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|streams| streams.as_str() == text).ok_or_else(|| "hot, cold or fresh".to_owned())
    }
}

/// How long and how wide one measurement is.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub streams: Streams,
    /// Tasks that each send one command after another.
    pub tasks: u64,
    /// Streams that were prepared, and the number of the first.
    pub prepared: u64,
    pub first: u64,
    /// Commands before this are not counted: connections, plans and caches get warm.
    pub warm_up: Duration,
    /// What is counted.
    pub duration: Duration,
}

/// One line of output: what came of a measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub name: String,
    pub streams: Streams,
    pub tasks: u64,
    /// Connections of the pool; 0 = it has none of its own.
    pub pool: u32,
    /// Commands that were acknowledged in the counted time.
    pub n: u64,
    pub per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Runs `plan.tasks` tasks that call `execute(stream id, command)` one after another until the time is over.
///
/// Every task has streams of its own, so nothing conflicts: conflicts are another measurement. The first error ends it.
pub async fn measure<F, R, E>(name: &str, pool: u32, plan: Plan, execute: F) -> Result<Measured, E>
where
    F: Fn(String, Deposit) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + Send,
    E: Send + 'static,
{
    let execute = Arc::new(execute);
    let own = plan.prepared / plan.tasks;
    assert!(own > 0 || plan.streams == Streams::Fresh, "{} streams for {} tasks", plan.prepared, plan.tasks);
    let counted_from = Instant::now() + plan.warm_up;
    let ends = counted_from + plan.duration;
    let tasks: Vec<_> = (0..plan.tasks)
        .map(|task| {
            let execute = Arc::clone(&execute);
            tokio::spawn(async move {
                let mut latencies_us = Vec::with_capacity(4_096);
                let mut step = 0_u64;
                loop {
                    let stream = match plan.streams {
                        Streams::Fresh => Uuid::now_v7().to_string(),
                        Streams::Hot | Streams::Cold => prepared_stream(plan.first + step % own * plan.tasks + task),
                    };
                    step += 1;
                    let command = Deposit::sample(100, plan.streams == Streams::Fresh);
                    let sent = Instant::now();
                    execute(stream, command).await?;
                    let done = Instant::now();
                    if done >= ends {
                        return Ok(latencies_us);
                    }
                    if done >= counted_from {
                        latencies_us.push(u32::try_from((done - sent).as_micros()).unwrap_or(u32::MAX));
                    }
                }
            })
        })
        .collect();
    let mut latencies_us = Vec::new();
    for task in tasks {
        latencies_us.extend(task.await.expect("a task only fails if the code it runs panics")?);
    }
    latencies_us.sort_unstable();
    let n = latencies_us.len() as u64;
    Ok(Measured {
        name: name.to_owned(),
        streams: plan.streams,
        tasks: plan.tasks,
        pool,
        n,
        per_s: n as f64 / plan.duration.as_secs_f64(),
        p50_ms: percentile_ms(&latencies_us, 0.50),
        p99_ms: percentile_ms(&latencies_us, 0.99),
    })
}

/// The percentile of sorted microseconds, in milliseconds; 0 of none.
pub fn percentile_ms(sorted_us: &[u32], quantile: f64) -> f64 {
    let Some(last) = sorted_us.len().checked_sub(1) else { return 0.0 };
    f64::from(sorted_us[(last as f64 * quantile).round() as usize]) / 1_000.0
}
