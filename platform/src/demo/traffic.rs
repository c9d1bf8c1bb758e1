//! Live load: orders placed at a steady rate, each followed from its placing to the door of its customer, as customers and a
//! warehouse would. New orders do not wait for old ones, so a platform that falls behind is seen to.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, Semaphore},
    task::JoinSet,
    time::MissedTickBehavior,
};
use uuid::Uuid;

use super::{Entry, PEOPLE, PRODUCTS, product, user};
use crate::output;

/// Orders under way at once. One that finds no room is not placed, and counted.
const UNDER_WAY_MAX: usize = 2_000;
/// Pieces that are put into stock at once, and after how many orders again: more than those can ask for.
const REFILL: u32 = 1_000;
/// A line says how it goes this often, where there is no terminal to draw on.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// How long the last orders may take once no more are placed.
const SETTLE_MAX: Duration = Duration::from_secs(30);
/// How long an order may take to its next station.
const STATION_MAX: Duration = Duration::from_secs(60);
/// How soon it is looked at again: sooner while it is young, so that looking is not the load.
const LOOK_SOONEST: Duration = Duration::from_millis(50);
const LOOK_LATEST: Duration = Duration::from_secs(2);
/// A look comes after this part of the time that was waited already.
const LOOK_PART: u32 = 4;
/// Of so many orders one is paid with a card that is declined, ...
const DECLINED_OF: u64 = 10;
/// ... and one is left in the warehouse.
const UNSENT_OF: u64 = 4;

/// What a run is told.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub orders_per_s: u32,
    pub lasts: Duration,
}

/// How it went.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Told {
    pub seconds: f64,
    pub placed: u64,
    /// Their checkout has taken pieces and money.
    pub confirmed: u64,
    /// Their checkout was undone: the card was declined.
    pub compensated: u64,
    pub sent: u64,
    pub delivered: u64,
    /// Commands that were refused, and orders that did not get on.
    pub failed: u64,
    /// For want of room: too many were under way.
    pub not_placed: u64,
    /// That had not come to their end when nobody waited for them any longer.
    pub under_way: u64,
    /// Of placing: from the request to its durable answer.
    pub placing_ms: Quantiles,
    /// From the answer to the confirmed order.
    pub confirming_ms: Quantiles,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Quantiles {
    pub p50: f64,
    pub p99: f64,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, placed, confirmed, compensated, sent, delivered, failed, not_placed, under_way, .. } = self;
        let Self { placing_ms: placing, confirming_ms: confirming, .. } = self;
        write!(
            f,
            "{placed} orders in {seconds:.0} s ({:.1} per s): {confirmed} confirmed, {compensated} undone, {sent} sent, \
             {delivered} delivered, {failed} failed, {not_placed} not placed, {under_way} still under way; placing p50 {:.1} ms, p99 {:.1} ms; \
             confirming p50 {:.0} ms, p99 {:.0} ms",
            *placed as f64 / seconds.max(0.001),
            placing.p50,
            placing.p99,
            confirming.p50,
            confirming.p99
        )
    }
}

/// Durations in buckets, each 2 % wider than the one before: exact enough for a quantile, and bounded.
struct Histogram {
    counts: Vec<u64>,
}

/// From 10 µs on, up to more than any order may take.
const BUCKETS: usize = 900;
const FIRST_BUCKET_MS: f64 = 0.01;
const BUCKET_GROWTH: f64 = 1.02;

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS] }
    }
}

impl Histogram {
    fn add(&mut self, took: Duration) {
        let place = (took.as_secs_f64() * 1_000.0 / FIRST_BUCKET_MS).max(1.0).ln() / BUCKET_GROWTH.ln();
        self.counts[(place as usize).min(BUCKETS - 1)] += 1;
    }

    fn quantiles(&self) -> Quantiles {
        Quantiles { p50: self.at(0.50), p99: self.at(0.99) }
    }

    /// The upper end of the bucket in which the quantile lies, in milliseconds; 0 without durations.
    fn at(&self, quantile: f64) -> f64 {
        let total: u64 = self.counts.iter().sum();
        let wanted = (total as f64 * quantile).ceil() as u64;
        let mut seen = 0;
        for (n, count) in (1..).zip(&self.counts) {
            seen += count;
            if seen >= wanted && total > 0 {
                return FIRST_BUCKET_MS * BUCKET_GROWTH.powi(n);
            }
        }
        0.0
    }
}

#[derive(Default)]
struct Tally {
    told: Told,
    placing: Histogram,
    confirming: Histogram,
}

struct Traffic {
    entry: Entry,
    tally: Mutex<Tally>,
}

/// Places orders for as long as is told, follows them, and says how it went. The demo data must be there.
pub async fn run(entry: Entry, load: Load) -> Result<Told> {
    let traffic = Arc::new(Traffic { entry, tally: Mutex::default() });
    let room = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let mut journeys = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / load.orders_per_s);
    // late ones come at once: the rate is what was asked for
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let bar = ProgressBar::new_spinner().with_style(style());
    let (started, mut told_at) = (Instant::now(), Instant::now());
    let mut n = 0;
    while started.elapsed() < load.lasts {
        ticks.tick().await;
        if n % u64::from(REFILL) == 0 {
            traffic.refill(n).await?;
        }
        match Arc::clone(&room).try_acquire_owned() {
            Ok(place) => {
                let traffic = Arc::clone(&traffic);
                journeys.spawn(async move {
                    traffic.journey(n).await;
                    drop(place);
                });
            }
            Err(_) => traffic.tally.lock().await.told.not_placed += 1,
        }
        n += 1;
        while journeys.try_join_next().is_some() {}
        let told = traffic.told(started).await;
        bar.set_message(told.to_string());
        if bar.is_hidden() && told_at.elapsed() > TOLD_EVERY {
            told_at = Instant::now();
            output::note(told.to_string());
        }
    }
    let lasted = started.elapsed();
    bar.set_message("the last orders are on their way");
    // who does not arrive is counted where it is
    let _ = tokio::time::timeout(SETTLE_MAX, async { while journeys.join_next().await.is_some() {} }).await;
    bar.finish_and_clear();
    let under_way = journeys.len() as u64;
    journeys.shutdown().await;
    let mut told = traffic.told(started).await;
    (told.seconds, told.under_way) = (lasted.as_secs_f64(), under_way);
    Ok(told)
}

impl Traffic {
    async fn told(&self, started: Instant) -> Told {
        let tally = self.tally.lock().await;
        Told {
            seconds: started.elapsed().as_secs_f64(),
            placing_ms: tally.placing.quantiles(),
            confirming_ms: tally.confirming.quantiles(),
            ..tally.told.clone()
        }
    }

    /// Pieces for the orders to come.
    async fn refill(&self, n: u64) -> Result<()> {
        for one in 0..PRODUCTS.len() {
            let (key, path) = (format!("traffic-stock-{}", Uuid::new_v4()), format!("/stock/{}/receive", product(one)));
            let filled = self.entry.one(key, path, json!({ "quantity": REFILL }), String::new()).await;
            filled.with_context(|| format!("fill the shelves before order {n}"))?;
        }
        Ok(())
    }

    /// An order from its placing to its end. What fails is counted, and told once in the log.
    async fn journey(&self, n: u64) {
        if let Err(error) = self.travel(n).await {
            tracing::debug!("order {n} of the traffic: {error:#}");
            self.tally.lock().await.told.failed += 1;
        }
    }

    async fn travel(&self, n: u64) -> Result<()> {
        let order = Uuid::now_v7();
        let is_declined = n % DECLINED_OF == DECLINED_OF - 1;
        let at = |count: usize| usize::try_from(n).unwrap_or_default() % count;
        let body = json!({
            "id": order,
            "customer_id": user(at(PEOPLE.len())),
            "lines": [{ "product_id": product(at(PRODUCTS.len())), "quantity": 1 }],
            "payment_method": if is_declined { "pm_decline" } else { "pm_approve" },
        });
        let asked = Instant::now();
        self.entry.one(format!("traffic-{order}"), "/orders".into(), body, String::new()).await?;
        let placed = Instant::now();
        {
            let mut tally = self.tally.lock().await;
            tally.told.placed += 1;
            tally.placing.add(placed - asked);
        }
        let is_over = |phase: &str| matches!(phase, "COMPLETED" | "COMPENSATED");
        let checkout = self.station(order, |phase| phase == "AWAITING_DISPATCH" || is_over(phase)).await?;
        {
            let mut tally = self.tally.lock().await;
            if checkout["phase"] == "COMPENSATED" {
                tally.told.compensated += 1;
                return Ok(());
            }
            tally.told.confirmed += 1;
            tally.confirming.add(placed.elapsed());
        }
        if n % UNSENT_OF == 0 {
            return Ok(());
        }
        let shipment = checkout["shipment"]["id"].as_str().unwrap_or_default().to_owned();
        let parcel = json!({ "carrier": "River Post", "tracking": format!("RP-{order}") });
        let path = format!("/shipments/{shipment}/dispatch");
        self.entry.one(format!("traffic-dispatch-{order}"), path, parcel, String::new()).await?;
        self.tally.lock().await.told.sent += 1;
        self.station(order, |phase| phase == "AWAITING_DELIVERY" || is_over(phase)).await?;
        let path = format!("/shipments/{shipment}/deliver");
        self.entry.one(format!("traffic-deliver-{order}"), path, json!({}), String::new()).await?;
        self.station(order, is_over).await?;
        self.tally.lock().await.told.delivered += 1;
        Ok(())
    }

    /// The checkout of an order, once its phase is as wanted and it waits for nobody's answer.
    async fn station(&self, order: Uuid, is_there: impl Fn(&str) -> bool) -> Result<Value> {
        let started = Instant::now();
        loop {
            let seen = self.entry.checkout_of(order).await?;
            let is_idle = seen["waits_for"].as_array().is_some_and(Vec::is_empty);
            if is_idle && is_there(seen["phase"].as_str().unwrap_or_default()) {
                return Ok(seen);
            }
            if started.elapsed() > STATION_MAX {
                bail!("its checkout does not get on: {}", seen["phase"]);
            }
            tokio::time::sleep((started.elapsed() / LOOK_PART).clamp(LOOK_SOONEST, LOOK_LATEST)).await;
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg}").expect("the template is a constant")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_right_to_two_percent_and_nothing_is_too_long() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantiles(), Quantiles::default());
        (1..=1_000).for_each(|ms| histogram.add(Duration::from_millis(ms)));
        let Quantiles { p50, p99 } = histogram.quantiles();
        assert!((490.0..=515.0).contains(&p50) && (980.0..=1_015.0).contains(&p99), "{p50} {p99}");
        histogram.add(Duration::from_secs(100_000));
        histogram.add(Duration::ZERO);
    }
}
