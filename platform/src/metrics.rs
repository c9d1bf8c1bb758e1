//! `GET /metrics`: the state of the platform, for Prometheus.
//!
//! All of it is state that somebody keeps anyway (followers, duties), so it is looked up when it is asked for, and nothing
//! is counted on the way of a command. What cannot be looked up is left out: an absent series raises an alarm, an old value
//! does not. To tell more, add a function that gives [`Family`]s to [`seen`]; names and labels are explained in
//! `docs/metrics.md`, which a test compares. Ids are never labels: they are without number.

mod exposition;
mod sagas;

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use chrono::{DateTime, Utc};
use event_store::follower::Status;
use projections::engine::projector::Which;
use write_side::reactor::duty::Duty;

use crate::admin::{Admin, ProjectorAdmin, ServicesAdmin};
pub use exposition::Family;

/// The text format of Prometheus.
const FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The most duties of one reactor that a look counts.
const DUTIES_COUNTED_MAX: usize = 10_000;

pub fn router(admin: Admin) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(admin)
}

async fn metrics(State(admin): State<Admin>) -> Response {
    ([(CONTENT_TYPE, FORMAT)], exposition::render(&seen(&admin).await)).into_response()
}

/// Everything that is told, as it is now.
async fn seen(admin: &Admin) -> Vec<Family> {
    let mut families = vec![build()];
    if let Some(projector) = &admin.projector {
        families.extend(projections(projector).await);
        families.extend(parked(projector).await);
    }
    families.extend(followers(&following(admin).await, Utc::now()));
    families.push(duties(&admin.services).await);
    families.extend(sagas::seen(&admin.services, Utc::now()).await);
    families
}

fn build() -> Family {
    Family::gauge("tributary_build_info", "The version that runs, with the value 1.")
        .with(&[("version", env!("CARGO_PKG_VERSION"))], 1.0)
}

async fn projections(admin: &ProjectorAdmin) -> [Family; 2] {
    let mut live = Family::gauge(
        "tributary_projection_live_generation",
        "The generation that is followed into and read; absent while the one that is read is of another version.",
    );
    let mut rebuilding =
        Family::gauge("tributary_projection_rebuilding", "Whether another generation is being built: 0 or 1.");
    for report in admin.projector.status().await {
        let labels = [("projection", report.projection)];
        if let Some((generation, _)) = report.live {
            live.push(&labels, whole(u64::try_from(generation).unwrap_or(0)));
        }
        let is_building = report.rebuild.is_some_and(|progress| !progress.phase.is_over());
        rebuilding.push(&labels, yes(is_building));
    }
    [live, rebuilding]
}

/// What cannot be folded, and what was decided about it.
async fn parked(admin: &ProjectorAdmin) -> [Family; 2] {
    let mut waiting = Family::gauge(
        "tributary_projection_parked_events",
        "Events that wait because one of their stream cannot be folded. `tributary projection parked ls` tells why.",
    );
    let mut dropped = Family::gauge(
        "tributary_projection_dropped_events",
        "Events that operators have decided to leave out, now and in every rebuild.",
    );
    match admin.read.projections_uncounted().await {
        Ok(statuses) => {
            for status in &statuses {
                for source in &status.vector {
                    let count = whole(u64::try_from(source.parked).unwrap_or(0));
                    waiting.push(&[("projection", &status.name), ("source", &source.source)], count);
                }
            }
        }
        Err(error) => tracing::warn!(%error, "parked events cannot be counted"),
    }
    match admin.projector.decisions(&Which::default()).await {
        Ok(decisions) => {
            for report in admin.projector.status().await {
                let of_it = decisions.iter().filter(|decision| decision.read_model == report.projection);
                dropped.push(&[("projection", report.projection)], whole(of_it.count() as u64));
            }
        }
        Err(error) => tracing::warn!(%error, "decisions about parked events cannot be counted"),
    }
    [waiting, dropped]
}

/// A follower, by what it is for and by its name.
struct Following {
    kind: &'static str,
    name: &'static str,
    status: Status,
}

/// Every follower of this process.
async fn following(admin: &Admin) -> Vec<Following> {
    let mut all = Vec::new();
    if let Some(admin) = &admin.projector {
        for report in admin.projector.status().await {
            if let Some((_, status)) = report.live {
                all.push(Following { kind: "projection", name: report.projection, status });
            }
        }
    }
    let services = &admin.services;
    for (service, replica) in &services.replicas {
        all.push(Following { kind: "replica", name: service, status: replica.follower().status() });
    }
    for (service, reactor) in &services.reactors {
        all.push(Following { kind: "reactor", name: service, status: reactor.follower().status() });
    }
    for saga in &services.sagas {
        all.push(Following { kind: "index", name: saga.service, status: saga.index.follower().status() });
    }
    all
}

fn followers(following: &[Following], now: DateTime<Utc>) -> [Family; 6] {
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
            position.push(&labels, whole(of_source.checkpoint.position));
            lag_events.push(&labels, whole(of_source.lag_events()));
            lag_seconds.push(&labels, waiting.as_secs_f64());
            if let Some(observed_at) = of_source.observed_at {
                head_age.push(&labels, (now - observed_at).to_std().unwrap_or_default().as_secs_f64());
            }
            halted.push(&labels, yes(of_source.halt().is_some() || status.stopped.is_some()));
            parked.push(&labels, whole(parked_here as u64));
        }
    }
    [position, lag_events, lag_seconds, head_age, halted, parked]
}

const DUTY_STATES: [&str; 3] = ["waiting", "failing", "timer"];

fn state_of(duty: &Duty) -> &'static str {
    match (duty.attempts, duty.timer) {
        (0, false) => "waiting",
        (0, true) => "timer",
        (_, _) => "failing",
    }
}

/// What reactors have yet to do.
async fn duties(admin: &ServicesAdmin) -> Family {
    let mut duties = Family::gauge(
        "tributary_reactor_duties",
        "What events oblige a reactor to do and is not done: waiting for its turn, failing and tried again, or a timer whose \
         time has not come. The first 10,000 are counted.",
    );
    for (service, reactor) in &admin.reactors {
        match reactor.open(DUTIES_COUNTED_MAX).await {
            Ok(open) => {
                for state in DUTY_STATES {
                    let count = open.iter().filter(|duty| state_of(duty) == state).count();
                    duties.push(&[("reactor", *service), ("state", state)], whole(count as u64));
                }
            }
            Err(error) => tracing::warn!(reactor = service, %error, "its duties cannot be counted"),
        }
    }
    duties
}

/// As the format has it; exact below 2^53.
fn whole(number: u64) -> f64 {
    number as f64
}

fn yes(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}
