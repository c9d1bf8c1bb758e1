//! Live load: orders placed at a steady rate, each followed from its placing to the door of its customer, as customers and a
//! warehouse would. New orders do not wait for old ones, so a platform that falls behind is seen to.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
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
/// After how many orders that is tried again when it has failed: there are still pieces then.
const REFILL_AGAIN: u32 = 100;
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
    pub seconds: u64,
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
    pub placing: Quantiles,
    /// From the answer to the confirmed order.
    pub confirming: Quantiles,
}

/// Of durations, in microseconds; 0 without any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    pub p50_us: u64,
    pub p99_us: u64,
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| format!("{}.{} ms", us / 1_000, us % 1_000 / 100);
        write!(f, "p50 {}, p99 {}", ms(self.p50_us), ms(self.p99_us))
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, placed, confirmed, compensated, sent, delivered, failed, not_placed, under_way, .. } = self;
        let Self { placing, confirming, .. } = self;
        let tenths_per_s = placed * 10 / seconds.max(&1);
        write!(
            f,
            "{placed} orders in {seconds} s ({}.{} per s): {confirmed} confirmed, {compensated} undone, {sent} sent, \
             {delivered} delivered, {failed} failed, {not_placed} not placed, {under_way} still under way; \
             placing {placing}; confirming {confirming}",
            tenths_per_s / 10,
            tenths_per_s % 10,
        )
    }
}

/// Durations in buckets, 32 to each power of two: exact enough for a quantile, and bounded.
struct Histogram {
    counts: Vec<u64>,
}

/// Bits of a number behind its first that tell its bucket.
const BUCKET_BITS: u32 = 5;
/// For every number of microseconds.
const BUCKETS: usize = 64 << BUCKET_BITS;

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS] }
    }
}

impl Histogram {
    fn add(&mut self, took: Duration) {
        self.counts[bucket_of(u64::try_from(took.as_micros()).unwrap_or(u64::MAX))] += 1;
    }

    fn quantiles(&self) -> Quantiles {
        Quantiles { p50_us: self.at(50), p99_us: self.at(99) }
    }

    /// Where the bucket begins in which so many percent end; 0 without durations.
    fn at(&self, percent: u64) -> u64 {
        let total: u64 = self.counts.iter().sum();
        let wanted = (total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let reaches = |count: &u64| {
            seen += count;
            seen >= wanted
        };
        self.counts.iter().position(reaches).map_or(0, bucket_start)
    }
}

fn bucket_of(us: u64) -> usize {
    let us = us.max(1 << BUCKET_BITS);
    let power = us.ilog2();
    let behind = (us >> (power - BUCKET_BITS)) & ((1 << BUCKET_BITS) - 1);
    (power as usize) << BUCKET_BITS | behind as usize
}

fn bucket_start(bucket: usize) -> u64 {
    let behind = bucket as u64 & ((1 << BUCKET_BITS) - 1);
    let power = (bucket >> BUCKET_BITS) as u32;
    (1 << power) | (behind << (power - BUCKET_BITS))
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
    let (mut n, mut refill_at) = (0, 0);
    while started.elapsed() < load.lasts {
        ticks.tick().await;
        if n == refill_at {
            refill_at += u64::from(if traffic.refill(n).await { REFILL } else { REFILL_AGAIN });
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
    (told.seconds, told.under_way) = (lasted.as_secs(), under_way);
    Ok(told)
}

impl Traffic {
    async fn told(&self, started: Instant) -> Told {
        let tally = self.tally.lock().await;
        Told {
            seconds: started.elapsed().as_secs(),
            placing: tally.placing.quantiles(),
            confirming: tally.confirming.quantiles(),
            ..tally.told.clone()
        }
    }

    /// Pieces for the orders to come, and whether they are there. What fails is counted.
    async fn refill(&self, n: u64) -> bool {
        let filled = self.fill().await;
        if let Err(error) = &filled {
            tracing::debug!("fill the shelves before order {n}: {error:#}");
            self.tally.lock().await.told.failed += 1;
        }
        filled.is_ok()
    }

    async fn fill(&self) -> Result<()> {
        for one in 0..PRODUCTS.len() {
            let (key, path) = (format!("traffic-stock-{}", Uuid::new_v4()), format!("/stock/{}/receive", product(one)));
            self.entry.one(key, path, json!({ "quantity": REFILL }), String::new()).await?;
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
        if n.is_multiple_of(UNSENT_OF) {
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
    fn a_quantile_is_right_to_a_thirtieth_and_nothing_is_too_long() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantiles(), Quantiles::default());
        (1..=1_000).for_each(|ms| histogram.add(Duration::from_millis(ms)));
        let Quantiles { p50_us, p99_us } = histogram.quantiles();
        assert!((484_000..=500_000).contains(&p50_us) && (959_000..=990_000).contains(&p99_us), "{p50_us} {p99_us}");
        histogram.add(Duration::MAX);
        histogram.add(Duration::ZERO);
    }
}
