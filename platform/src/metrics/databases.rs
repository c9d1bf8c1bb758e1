//! Databases: how long calls take, how connections are used, and why calls fail.

use measures::{Connections, Counts, DatabaseUse, Failure, Spread};

use super::Family;
use crate::config::urls::QUERY;

/// The query database, as a part of this process uses it.
pub fn of_use(part: &'static str, call: &'static str, used: &DatabaseUse) -> Vec<Family> {
    let mut families = vec![calls(QUERY, &[(call, used.calls.now())])];
    families.extend(connections(QUERY, part, &used.connections));
    families.push(failures(QUERY, part, &used.failures));
    families
}

pub fn calls(database: &str, calls: &[(&'static str, Spread)]) -> Family {
    let mut family = Family::histogram(
        "tributary_database_call_duration_seconds",
        "How long calls of a database took, from asking for a connection to the whole answer.",
    );
    for (call, spread) in calls {
        family.push_durations(&[("database", database), ("call", call)], spread);
    }
    family
}

pub fn connections(database: &str, part: &str, connections: &Connections) -> [Family; 4] {
    let labels = [("database", database), ("part", part)];
    let mut max = Family::gauge(
        "tributary_database_connections_max",
        "How many connections this part of the process may use at once.",
    );
    if let Some(known) = connections.max {
        max.push_whole(&labels, known.into());
    }
    let mut in_use = Family::gauge("tributary_database_connections_in_use", "Connections that are in use.");
    in_use.push_whole(&labels, connections.in_use.now());
    let mut waiting =
        Family::gauge("tributary_database_connection_waiters", "Those who wait for a connection to be free.");
    waiting.push_whole(&labels, connections.waiting.now());
    let mut waits = Family::histogram(
        "tributary_database_connection_wait_duration_seconds",
        "How long those who got a connection waited for it; writers of read models until their transaction had begun.",
    );
    waits.push_durations(&labels, &connections.waits.now());
    [max, in_use, waiting, waits]
}

pub fn failures(database: &str, part: &str, failures: &Counts<Failure>) -> Family {
    let mut family =
        Family::counter("tributary_database_failures_total", "Calls of a database that failed, by what it said.");
    for (reason, count) in failures.now() {
        family.push_whole(&[("database", database), ("part", part), ("reason", reason)], count);
    }
    family
}
