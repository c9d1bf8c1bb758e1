//! What `tributary doctor` looks at, each with a verdict and what to do.

use std::sync::Arc;

use chrono::{SecondsFormat, Utc};
use event_store::{
    erasure::Erasure,
    feed::{Cursor, PageLimit},
    follower::{FollowerHandle, HaltReason, SourceStatus},
    log::EventLog,
};
use events::envelope::Name;
use read_side::status::READ_MODELS;
use serde::{Deserialize, Serialize};
use write_side::{
    reactor::Reactor,
    saga::index::{Filter, Standing, StuckStep},
};

use super::{
    Admin, ChainFinding, ChainPlace, ChainView, ProjectorAdmin, RebuildView, RunningSaga, ServicesAdmin, Standstill,
    follow_chain,
};

/// Events behind which a projection is called late.
const LAG_EVENTS_LATE: i64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Good,
    /// Works, but should be looked at.
    Doubtful,
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub verdict: Verdict,
    /// What was seen and, unless it is good, what to do.
    pub finding: String,
}

impl Check {
    pub fn good(name: impl Into<String>, finding: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Good, finding: finding.into() }
    }

    pub fn doubtful(name: impl Into<String>, finding: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Doubtful, finding: finding.into() }
    }

    pub fn bad(name: impl Into<String>, finding: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Bad, finding: finding.into() }
    }
}

/// Looks at what runs in this process: every log, every replica, every projection.
pub async fn of_running(admin: &Admin) -> Vec<Check> {
    let mut checks = admin.surroundings.check().await;
    checks.extend(of_services(&admin.services).await);
    if let Some(projector) = &admin.projector {
        checks.extend(of_projector(projector).await);
    }
    checks
}

async fn of_services(admin: &ServicesAdmin) -> Vec<Check> {
    let mut checks = Vec::new();
    for (service, (log, _)) in &admin.logs {
        checks.extend(of_log(service, log).await);
    }
    checks.extend(admin.replicas.iter().flat_map(|(service, replica)| of_copy("replica", service, replica.follower())));
    for (service, reactor) in &admin.reactors {
        checks.extend(of_reactor(service, reactor).await);
    }
    checks.extend(admin.erasures.iter().map(|(service, erasure)| of_erasure(service, erasure)));
    for saga in &admin.sagas {
        checks.extend(of_copy("index of sagas", saga.service, saga.index.follower()));
        checks.push(of_saga(saga).await);
    }
    checks
}

async fn of_projector(admin: &ProjectorAdmin) -> Vec<Check> {
    let mut checks = Vec::new();
    match admin.read.projections_uncounted().await {
        Ok(statuses) if statuses.is_empty() => {
            checks.push(Check::bad("projections", "no projection is live: look for the projector's errors in the log"));
        }
        Ok(statuses) => {
            let halts = admin.halts().await;
            for status in statuses {
                for source in &status.vector {
                    let name = format!("projection {} <- {}", status.name, source.source);
                    checks.push(match halts.get(&(status.name.clone(), source.source.clone())) {
                        Some(Standstill::Halted(reason)) => {
                            Check::bad(name, format!("halted: {reason}; `tributary projection rebuild` reads anew"))
                        }
                        Some(Standstill::Stopped(reason)) => Check::bad(
                            name,
                            format!("stopped: {reason}; it is tried again, and the log tells how often"),
                        ),
                        None if source.parked > 0 => {
                            let what = "`tributary projection parked ls` tells why";
                            Check::bad(
                                name,
                                format!("{} events are parked and wait for a decision; {what}", source.parked),
                            )
                        }
                        None if source.lag_events() > LAG_EVENTS_LATE => {
                            Check::doubtful(name, format!("{} events behind", source.lag_events()))
                        }
                        None => Check::good(name, format!("at {}, {} behind", source.position, source.lag_events())),
                    });
                }
            }
        }
        Err(error) => checks.push(Check::bad("query database", format!("cannot be read: {error}"))),
    }
    checks.extend(of_generations(admin).await);
    checks
}

/// Old generations are kept for going back to; more of them than that takes is room that nobody uses.
const GENERATIONS_KEPT: usize = 3;

/// Looks at what rebuilds have left: generations that nobody needs, and rebuilds that wait for somebody.
async fn of_generations(admin: &ProjectorAdmin) -> Vec<Check> {
    let mut checks = Vec::new();
    for of in READ_MODELS {
        let name = format!("generations of {}", of.name);
        // who runs elsewhere is told of there
        let Ok(generations) = admin.projector.generations(of.name).await else { continue };
        if generations.len() > GENERATIONS_KEPT {
            let what = "the next rebuild that ends well removes those that are not live";
            checks.push(Check::doubtful(name.clone(), format!("{} are kept: {what}", generations.len())));
        }
        let rebuilds = admin.projector.rebuilds(of.name, 1).await.unwrap_or_default();
        for rebuild in rebuilds.into_iter().map(RebuildView::from).filter(|rebuild| !rebuild.is_over) {
            if let Some(why) = &rebuild.error {
                let finding = format!("building generation {} was hindered by: {why}", rebuild.generation);
                checks.push(Check::doubtful(name.clone(), finding));
            }
            if !rebuild.paused {
                continue;
            }
            let what = format!("`tributary projection resume {0}` or `projection cancel {0}`", of.name);
            let finding = format!("the rebuild into generation {} is paused: {what}", rebuild.generation);
            checks.push(Check::doubtful(name.clone(), finding));
        }
    }
    checks
}

/// Looks at what a service copies, from others or from its own log: while it stands still, what is new there is not known.
fn of_copy(what: &str, service: &str, follower: &FollowerHandle) -> Vec<Check> {
    let status = follower.status();
    if let Some(reason) = &status.stopped {
        return vec![Check::bad(format!("{what} of {service}"), format!("stopped: {reason}; restart the platform"))];
    }
    if status.standing_by {
        return vec![stands_by(format!("{what} of {service}"))];
    }
    let check = |(source, status): (&Name, &SourceStatus)| {
        let name = format!("{what} {service} <- {source}");
        match status.halt() {
            Some(reason) if reason.heals_by_itself() => Check::doubtful(name, reason.to_string()),
            Some(reason @ HaltReason::FeedRegressed { .. }) => {
                Check::bad(name, format!("halted: {reason}; a restart of the platform reads it anew"))
            }
            Some(reason) => Check::bad(name, format!("halted: {reason}; a newer release may know what to do")),
            None => Check::good(name, format!("at {}, {} behind", status.checkpoint.position, status.lag_events())),
        }
    };
    status.sources.iter().map(check).collect()
}

/// Looks at what deletes the keys of erased persons: until it has, they can be read.
pub fn of_erasure(service: &str, erasure: &Erasure) -> Check {
    let name = format!("erasures {service} <- {}", erasure.source());
    let standing = erasure.standing();
    match &standing.trouble {
        None => Check::good(name, format!("at {}, {} behind", standing.position, standing.lag_events())),
        Some(why) => {
            Check::doubtful(name, format!("not carried out, so persons stay readable; it is tried again: {why}"))
        }
    }
}

/// Another process on the same database does the work.
fn stands_by(name: String) -> Check {
    Check::good(name, "stands by: another process acts, and this one takes over when that falls silent")
}

/// How many stuck sagas are named; `tributary saga ls --stuck` lists all.
const STUCK_MAX: usize = 5;

/// Looks at writes that span services: one that is stuck goes on by itself once who is asked answers, unless that never
/// happens.
async fn of_saga(saga: &RunningSaga) -> Check {
    let name = format!("saga {}", saga.desk.name());
    let stuck = Filter { stuck: true, ..Filter::default() };
    let (stuck, tally) = match tokio::try_join!(saga.index.list(stuck, STUCK_MAX), saga.index.tally(Utc::now())) {
        Ok(seen) => seen,
        Err(error) => return Check::bad(name, format!("its index cannot be read: {error}")),
    };
    if stuck.is_empty() && tally.overdue > 0 {
        let what = "`tributary saga ls --overdue` lists them, and `saga show <id>` says whose event is awaited";
        return Check::doubtful(name, format!("{} wait for an event that is overdue; {what}", tally.overdue));
    }
    if stuck.is_empty() {
        let known: u64 = tally.phases.iter().map(|(_, count)| count).sum();
        return Check::good(name, format!("{known} known, none is stuck"));
    }
    let one = |row: &Standing| {
        let step = row.stuck.first().map(|StuckStep { step, reason, since }| {
            format!(" at {step} since {}: {reason}", since.to_rfc3339_opts(SecondsFormat::Secs, true))
        });
        format!("{}{}", row.saga_id, step.unwrap_or_default())
    };
    let named: Vec<String> = stuck.iter().map(one).collect();
    let what = "`tributary saga show <id>` tells what it waits for; it goes on when that answers, or by `saga retry`, \
                `force` or `skip`";
    Check::doubtful(name, format!("{} are stuck: {}; {what}", tally.stuck, named.join("; ")))
}

/// How many open duties are looked at.
const DUTIES_MAX: usize = 100;

/// How often a duty may fail before somebody should know.
const ATTEMPTS_DOUBTFUL: u32 = 3;

/// Looks at what a service does outside of it: while a feed stands still nothing new is done, and what fails again and
/// again may be money that waits.
async fn of_reactor(service: &str, reactor: &Reactor) -> Vec<Check> {
    let name = format!("reactor {service}");
    let status = reactor.follower().status();
    if let Some(reason) = &status.stopped {
        return vec![Check::bad(name, format!("stopped: {reason}; restart the platform"))];
    }
    if status.standing_by {
        return vec![stands_by(name)];
    }
    let check = |(source, status): (&Name, &SourceStatus)| {
        let name = format!("reactor {service} <- {source}");
        match status.halt() {
            Some(reason) if reason.heals_by_itself() => Check::doubtful(name, reason.to_string()),
            Some(reason) => Check::bad(name, format!("halted, so that nothing is done twice: {reason}")),
            None => Check::good(name, format!("at {}, {} behind", status.checkpoint.position, status.lag_events())),
        }
    };
    let mut checks: Vec<Check> = status.sources.iter().map(check).collect();
    match reactor.open(DUTIES_MAX).await {
        Ok(open) => checks.extend(open.iter().filter(|duty| duty.attempts >= ATTEMPTS_DOUBTFUL).map(|duty| {
            let reason = duty.reason.as_deref().unwrap_or("no reason is noted");
            let place = format!("{} at {} ({})", duty.id.source, duty.id.position, duty.lane);
            Check::doubtful(&name, format!("{place}: tried {} times, and goes on: {reason}", duty.attempts))
        })),
        Err(error) => checks.push(Check::bad(name, format!("its duties cannot be read: {error}"))),
    }
    checks
}

/// Looks at one log: whether it answers, and whether its hash chain holds, as far as that is seen in half a second: a doctor
/// that takes long is not asked. The whole of it is for `verify-chain`.
pub async fn of_log(service: &str, log: &Arc<dyn EventLog>) -> Vec<Check> {
    let head = match log.page(Cursor::START, PageLimit::events(1), std::time::Duration::ZERO).await {
        Ok(page) => Check::good(format!("log {service}"), format!("head {}, epoch {}", page.head.position, page.epoch)),
        Err(error) => return vec![Check::bad(format!("log {service}"), error.to_string())],
    };
    let name = format!("hash chain {service}");
    let chain = match follow_chain(service, &**log, &ChainPlace::start()).await {
        Ok(Some(seen)) => of_chain(name, seen),
        Ok(None) => unreachable!("a chain has a start"),
        Err(error) => Check::bad(name, error.to_string()),
    };
    vec![head, chain]
}

fn of_chain(name: String, ChainView { place, head, verdict, .. }: ChainView) -> Check {
    let ChainPlace { position, batches, .. } = place;
    match verdict {
        Some(ChainFinding::Intact) => {
            Check::good(name, format!("{position} events in {batches} batches are as they were written"))
        }
        Some(ChainFinding::Broken { first, last, reason }) => Check::bad(
            name,
            format!("positions {first} to {last}: {reason}. Someone has changed what was written; restore a backup"),
        ),
        None => {
            let rest = "`tributary verify-chain` follows the rest";
            Check::good(name, format!("the first {position} of {head} events are as they were written; {rest}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_that_was_followed_in_part_is_good_so_far_and_says_who_follows_the_rest() {
        let place = ChainPlace { position: 4_096, batches: 256, hash: None };
        let seen = |verdict| ChainView { service: "orders".to_owned(), place: place.clone(), head: 1_000_000, verdict };
        let in_part = of_chain("hash chain orders".to_owned(), seen(None));
        assert_eq!(in_part.verdict, Verdict::Good);
        for says in ["4096 of 1000000", "verify-chain"] {
            assert!(in_part.finding.contains(says), "{in_part:?}");
        }
        let broken = ChainFinding::Broken { first: 7, last: 9, reason: "an event is missing".to_owned() };
        assert_eq!(of_chain("hash chain orders".to_owned(), seen(Some(broken))).verdict, Verdict::Bad);
    }
}
