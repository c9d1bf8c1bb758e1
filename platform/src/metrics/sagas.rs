//! Sagas: how many stand where, how old the oldest is, and how many somebody should look at, or at whom they wait for.

use chrono::{DateTime, Utc};

use super::Family;
use crate::admin::ServicesAdmin;

pub async fn seen(admin: &ServicesAdmin, now: DateTime<Utc>) -> [Family; 4] {
    let mut phases = Family::gauge("tributary_sagas", "Sagas by the phase that they are in, ended ones too.");
    let mut oldest = Family::gauge(
        "tributary_saga_oldest_open_age_seconds",
        "For how long the oldest saga that has not ended has been under way; 0 when none is.",
    );
    let mut stuck = Family::gauge(
        "tributary_sagas_stuck",
        "Sagas with a step that is not answered, or refused, again and again. `tributary saga ls --stuck` lists them.",
    );
    let mut overdue = Family::gauge(
        "tributary_sagas_overdue",
        "Sagas that wait for another service's event longer than there is reason to. `tributary saga ls --overdue` lists them.",
    );
    for saga in &admin.sagas {
        let name = saga.desk.name();
        let tally = match saga.index.tally(now).await {
            Ok(tally) => tally,
            Err(error) => {
                tracing::warn!(saga = name, %error, "its instances cannot be counted");
                continue;
            }
        };
        for (phase, count) in &tally.phases {
            phases.push_whole(&[("saga", name), ("phase", phase)], *count);
        }
        // a clock that went back makes nothing younger than new
        let age =
            tally.oldest_started_at.map_or(0.0, |started| (now - started).to_std().unwrap_or_default().as_secs_f64());
        oldest.push(&[("saga", name)], age);
        stuck.push_whole(&[("saga", name)], tally.stuck);
        overdue.push_whole(&[("saga", name)], tally.overdue);
    }
    [phases, oldest, stuck, overdue]
}
