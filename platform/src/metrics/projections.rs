//! Read models: which generation is live, whether another is being built, and what cannot be folded.

use projections::engine::projector::Which;

use super::{Family, yes};
use crate::admin::ProjectorAdmin;

pub async fn seen(admin: &ProjectorAdmin) -> Vec<Family> {
    let (generations, parked) = tokio::join!(generations(admin), parked(admin));
    generations.into_iter().chain(parked).collect()
}

async fn generations(admin: &ProjectorAdmin) -> [Family; 2] {
    let mut live = Family::gauge(
        "tributary_projection_live_generation",
        "The generation that is followed into and read; absent while the one that is read is of another version.",
    );
    let mut rebuilding =
        Family::gauge("tributary_projection_rebuilding", "Whether another generation is being built: 0 or 1.");
    for report in admin.projector.status().await {
        let labels = [("projection", report.projection)];
        if let Some((generation, _)) = report.live {
            live.push_whole(&labels, u64::try_from(generation).unwrap_or(0));
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
                    let count = u64::try_from(source.parked).unwrap_or(0);
                    waiting.push_whole(&[("projection", &status.name), ("source", &source.source)], count);
                }
            }
        }
        Err(error) => tracing::warn!(%error, "parked events cannot be counted"),
    }
    match admin.projector.decisions(&Which::default()).await {
        Ok(decisions) => {
            for report in admin.projector.status().await {
                let of_it = decisions.iter().filter(|decision| decision.read_model == report.projection);
                dropped.push_whole(&[("projection", report.projection)], of_it.count() as u64);
            }
        }
        Err(error) => tracing::warn!(%error, "decisions about parked events cannot be counted"),
    }
    [waiting, dropped]
}
