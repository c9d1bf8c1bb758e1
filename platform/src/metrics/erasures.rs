//! Erasures: how far the keys of erased persons are deleted, and whether that goes on.

use super::{Family, yes};
use crate::admin::ServicesAdmin;

pub fn seen(admin: &ServicesAdmin) -> [Family; 3] {
    let mut position = Family::gauge(
        "tributary_erasure_position",
        "The position in the source's log up to which the keys of erased persons are deleted.",
    );
    let mut lag_events =
        Family::gauge("tributary_erasure_lag_events", "Events of the source that are known and not looked at.");
    let mut failing = Family::gauge(
        "tributary_erasure_failing",
        "Whether erasures could not be carried out when that was last tried: 0 or 1. Why, `tributary doctor` says.",
    );
    for (service, erasure) in &admin.erasures {
        let (labels, standing) = ([("service", *service), ("source", &**erasure.source())], erasure.standing());
        position.push_whole(&labels, standing.position);
        lag_events.push_whole(&labels, standing.lag_events());
        failing.push(&labels, yes(standing.trouble.is_some()));
    }
    [position, lag_events, failing]
}
