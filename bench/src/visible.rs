//! From an acknowledged command to its row in GraphQL, at a fixed rate of commands, over HTTP against the real binary.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    Scale,
    report::{Number, Report, Row},
    shop::{Shop, TOKEN, token},
    workload::percentile_ms,
};

/// Commands under way at once: when the platform cannot keep the rate, the backlog is bounded.
const COMMANDS_AT_ONCE: usize = 1_000;
/// Who asks without a token asks again after this.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Not visible after this: the benchmark fails.
const VISIBLE_WITHIN: Duration = Duration::from_secs(10);

/// What a checkout sends, about: so many times fewer orders make the same load.
const COMMANDS_PER_CHECKOUT: u32 = 20;
/// Pieces of each product: more than any run sells.
pub const PIECES: u32 = 1_000_000;

/// What is sent, and how often.
#[derive(Clone, Copy)]
struct Load {
    command: Command,
    per_s: u32,
}

#[derive(Clone, Copy)]
enum Command {
    /// One command, one event, and nobody reacts.
    Import,
    /// The first of the twenty commands of a checkout, which all run meanwhile.
    Order,
}

impl Load {
    fn name(self) -> String {
        match self.command {
            Command::Import => format!("{} imports per second", self.per_s),
            Command::Order => format!("{} checkouts per second", self.per_s),
        }
    }
}

/// What one command has seen.
#[derive(Clone, Copy)]
struct Seen {
    /// From its place in the schedule to its 201, so that a stall counts for everybody behind it.
    acknowledged_us: u32,
    /// From the 201 to the answer that has the order in it.
    visible_us: u32,
    with_token: bool,
}

/// A report without rows yet.
pub fn report(scale: &Scale) -> Report {
    let title = format!("From acknowledged to visible in GraphQL, {} commands per second", scale.visible_per_s);
    let mut report = Report::new("visible", &title, scale.pairs);
    report.notes.push(
        "Orders of two lines over HTTP to one process with all roles; every order is also asked for once or more, so the \
         requests are at least twice as many. An import is one command; an order that is placed is followed by some twenty \
         of its checkout, so that as many commands run per second either way. The load generator runs on the same machine."
            .to_owned(),
    );
    report
}

/// Measures the platform at `url`, which keeps its data in `databases`.
pub async fn run(scale: &Scale, url: &str, databases: &str) -> anyhow::Result<Vec<Row>> {
    let shop = Shop::open(url, COMMANDS_AT_ONCE).await?;
    shop.stock_up(PIECES).await?;
    of_shop(scale, &Arc::new(shop), databases).await
}

/// The same for a shop whose pieces last.
pub async fn of_shop(scale: &Scale, shop: &Arc<Shop>, databases: &str) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for load in [
        Load { command: Command::Import, per_s: scale.visible_per_s },
        Load { command: Command::Order, per_s: (scale.visible_per_s / COMMANDS_PER_CHECKOUT).max(1) },
    ] {
        eprintln!("visible: {}, {databases}", load.name());
        rows.extend(measure(scale, shop, load, &format!("{databases}, {}", load.name())).await?);
    }
    Ok(rows)
}

async fn measure(scale: &Scale, shop: &Arc<Shop>, load: Load, case: &str) -> anyhow::Result<Vec<Row>> {
    schedule(load, shop, scale.warm_up).await?;
    let (mut rates, mut runs) = (Vec::new(), Vec::new());
    for _ in 0..scale.pairs {
        let start = Instant::now();
        let seen = schedule(load, shop, scale.visible_duration).await?;
        rates.push(seen.len() as f64 / start.elapsed().as_secs_f64());
        runs.push(seen);
    }
    let row = |side: &str, of: fn(&Seen) -> Option<u32>| {
        let sorted: Vec<Vec<u32>> = runs
            .iter()
            .map(|seen| {
                let mut values: Vec<u32> = seen.iter().filter_map(of).collect();
                values.sort_unstable();
                values
            })
            .collect();
        let number = |name, quantile| Number::of(name, sorted.iter().map(|values| percentile_ms(values, quantile)));
        Row {
            case: case.to_owned(),
            side: side.to_owned(),
            numbers: vec![number("p50_ms", 0.5), number("p99_ms", 0.99)],
        }
    };
    Ok(vec![
        row("the command, from its place in the schedule to its 201", |seen| Some(seen.acknowledged_us)),
        row("201 to visible, one query with the token", |seen| seen.with_token.then_some(seen.visible_us)),
        row("201 to visible, asking every 2 ms without a token", |seen| (!seen.with_token).then_some(seen.visible_us)),
        Row { case: case.to_owned(), side: "reached".to_owned(), numbers: vec![Number::of("per_s", rates)] },
    ])
}

/// One command after another by the clock, whatever became of those before.
async fn schedule(load: Load, shop: &Arc<Shop>, duration: Duration) -> anyhow::Result<Vec<Seen>> {
    let commands = ((f64::from(load.per_s) * duration.as_secs_f64()).ceil() as usize).max(2);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / load.per_s);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let room = Arc::new(Semaphore::new(COMMANDS_AT_ONCE));
    let mut tasks = JoinSet::new();
    for n in 0..commands {
        let due = ticks.tick().await.into_std();
        let (shop, room) = (Arc::clone(shop), Arc::clone(&room));
        tasks.spawn(async move {
            let _room = room.acquire().await.context("the semaphore is never closed")?;
            send(&shop, load.command, n, due).await
        });
    }
    let mut seen = Vec::with_capacity(commands);
    while let Some(done) = tasks.join_next().await {
        seen.push(done.context("a task panicked")??);
    }
    ensure!(seen.len() == commands, "{} of {commands} commands were answered", seen.len());
    Ok(seen)
}

/// Enters one order and waits until a query shows it: every second one with the token, the others without.
async fn send(shop: &Shop, command: Command, n: usize, due: Instant) -> anyhow::Result<Seen> {
    let Shop { client, graphql, .. } = shop;
    let (order_id, answer) = match command {
        Command::Import => shop.import(n).await?,
        Command::Order => shop.order(n).await?,
    };
    let acknowledged = Instant::now();
    let with_token = n.is_multiple_of(2);
    let query = json!({"query": format!("{{ order(id: \"{order_id}\") {{ orderId status }} }}")});
    let ask = || client.post(format!("{graphql}/graphql")).header("Accept", "application/json").json(&query);
    let token = token(&answer)?;
    loop {
        let ask = if with_token { ask().header(TOKEN, &token) } else { ask() };
        let found: Value = ask.send().await.context("send a query")?.json().await.context("read the query's answer")?;
        let elapsed = acknowledged.elapsed();
        ensure!(found.get("errors").is_none(), "the query failed: {found}");
        if found["data"]["order"]["orderId"] == json!(order_id) {
            return Ok(Seen { acknowledged_us: micros(acknowledged - due), visible_us: micros(elapsed), with_token });
        }
        ensure!(!with_token, "a query with the token did not see order {order_id}: {found}");
        ensure!(elapsed < VISIBLE_WITHIN, "order {order_id} was not visible within {VISIBLE_WITHIN:?}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
