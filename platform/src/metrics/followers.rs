//! Followers: how far each is, how much it takes at once, and what goes wrong with it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use event_store::follower::Status;
use measures::{Spread, spread::SIZE_BOUNDS};

use super::{Family, yes};
use crate::admin::{ProjectorAdmin, ServicesAdmin};

/// A follower, by what it is for and by its name.
struct Following {
    kind: &'static str,
    name: &'static str,
    status: Status,
}

/// Those that write read models.
pub async fn of_projector(admin: &ProjectorAdmin) -> Vec<Family> {
    let live = |(_, status)| status;
    let reports = admin.projector.status().await.into_iter();
    let following = reports.filter_map(|report| {
        Some(Following { kind: "projection", name: report.projection, status: report.live.map(live)? })
    });
    seen(&following.collect::<Vec<_>>())
}

/// Those of services.
pub fn of_services(admin: &ServicesAdmin) -> Vec<Family> {
    let replicas = admin.replicas.iter().map(|(service, replica)| ("replica", *service, replica.follower()));
    let reactors = admin.reactors.iter().map(|(service, reactor)| ("reactor", *service, reactor.follower()));
    let indexes = admin.sagas.iter().map(|saga| ("index", saga.service, saga.index.follower()));
    let following = replicas.chain(reactors).chain(indexes);
    let following = following.map(|(kind, name, follower)| Following { kind, name, status: follower.status() });
    seen(&following.collect::<Vec<_>>())
}

fn seen(following: &[Following]) -> Vec<Family> {
    places(following, Utc::now()).into_iter().chain(work(following)).collect()
}

fn places(following: &[Following], now: DateTime<Utc>) -> [Family; 6] {
    let mut position = Family::gauge(
        "tributary_follower_position",
        "The position in the source's log up to which everything is applied.",
    );
    let mut lag_events =
        Family::gauge("tributary_follower_lag_events", "Events of the source that are known and not applied.");
    let mut lag_seconds = Family::gauge(
        "tributary_follower_lag_seconds",
        "For how long the oldest event that is known and not applied has been waiting; 0 when none waits.",
    );
    let mut head_age = Family::gauge(
        "tributary_follower_head_age_seconds",
        "For how long the source has not told its head: the lag is as old as this. Absent until it was told once.",
    );
    let mut halted = Family::gauge(
        "tributary_follower_halted",
        "Whether the source is not being read: 0 or 1. What to do, `tributary doctor` says.",
    );
    let mut parked = Family::gauge(
        "tributary_follower_parked_streams",
        "Streams of the source with an event that cannot be folded, which wait for an operator.",
    );
    for Following { kind, name, status } in following {
        for (source, of_source) in &status.sources {
            let labels = [("kind", *kind), ("follower", *name), ("source", &**source)];
            let waiting = Duration::from_millis(of_source.lag_ms(now));
            let parked_here = status.parked.iter().filter(|stream| stream.source == *source).count();
            position.push_whole(&labels, of_source.checkpoint.position);
            lag_events.push_whole(&labels, of_source.lag_events());
            lag_seconds.push(&labels, waiting.as_secs_f64());
            if let Some(observed_at) = of_source.observed_at {
                head_age.push(&labels, (now - observed_at).to_std().unwrap_or_default().as_secs_f64());
            }
            halted.push(&labels, yes(of_source.halt().is_some() || status.stopped.is_some()));
            parked.push_whole(&labels, parked_here as u64);
        }
    }
    [position, lag_events, lag_seconds, head_age, halted, parked]
}

/// What they have done, and what went wrong. A follower that is started anew counts from 0.
fn work(following: &[Following]) -> [Family; 3] {
    let mut events = Family::counter("tributary_follower_events_total", "Events that were applied.");
    let mut batches =
        Family::histogram("tributary_follower_batch_events", "How many events were applied in one transaction.");
    let mut failures = Family::counter(
        "tributary_follower_failures_total",
        "What went wrong: the store did not take a batch, a stream had to be parked, or a source came to a halt.",
    );
    for Following { kind, name, status } in following {
        let labels = [("kind", *kind), ("follower", *name)];
        let mut spread = Spread { bounds: &SIZE_BOUNDS, counts: vec![0; SIZE_BOUNDS.len() + 1], sum: 0 };
        let (mut parked, mut halted) = (0, 0);
        for (source, of_source) in &status.sources {
            let counters = &of_source.counters;
            events.push_whole(&[labels[0], labels[1], ("source", &**source)], counters.events_applied);
            spread.sum += counters.events_applied;
            for (count, more) in spread.counts.iter_mut().zip(counters.steps_by_size) {
                *count += more;
            }
            parked += counters.parked;
            halted += counters.halts;
        }
        batches.push_sizes(&labels, &spread);
        for (reason, count) in [("store", status.store_failures), ("parked", parked), ("halted", halted)] {
            failures.push_whole(&[labels[0], labels[1], ("reason", reason)], count);
        }
    }
    [events, batches, failures]
}
