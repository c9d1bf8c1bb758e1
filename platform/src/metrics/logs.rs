//! Logs: what becomes of commands, what waits to be committed and how much of it goes together, and their databases.

use event_store::figures::LogFigures;

use super::{Family, databases};
use crate::admin::ServicesAdmin;

pub fn seen(admin: &ServicesAdmin) -> Vec<Family> {
    admin.logs.iter().flat_map(|(service, (log, _))| of_log(service, log.figures())).collect()
}

fn of_log(service: &str, figures: &LogFigures) -> Vec<Family> {
    let calls = [("append", figures.append.now()), ("page", figures.page.now()), ("read_stream", figures.read.now())];
    let mut families = vec![databases::calls(service, &calls)];
    families.extend(databases::connections(service, "log", &figures.connections));
    families.push(databases::failures(service, "log", &figures.failures));
    families.extend(of_commands(service, figures));
    families.extend(of_writer(service, figures));
    families
}

fn of_commands(service: &str, figures: &LogFigures) -> [Family; 3] {
    let mut commands = Family::counter("tributary_commands_total", "Commands by what became of them.");
    for (outcome, count) in figures.commands.now() {
        commands.push_whole(&[("service", service), ("outcome", outcome)], count);
    }
    let mut durations = Family::histogram(
        "tributary_command_duration_seconds",
        "How long commands took from being understood to their durable answer.",
    );
    durations.push_durations(&[("service", service)], &figures.command.now());
    let mut under_way = Family::gauge("tributary_commands_under_way", "Commands that are not answered yet.");
    under_way.push_whole(&[("service", service)], figures.commands_under_way.now());
    [commands, durations, under_way]
}

fn of_writer(service: &str, figures: &LogFigures) -> [Family; 4] {
    let labels = [("service", service)];
    let mut chains = Family::gauge(
        "tributary_log_queue_chains",
        "Chains of decided commands, each on one stream, that wait to be committed or are being so.",
    );
    chains.push_whole(&labels, figures.queued_chains.now());
    let mut bytes = Family::gauge("tributary_log_queue_bytes", "What they are, and what they will store.");
    bytes.push_whole(&labels, figures.queued_bytes.now());
    let mut batches =
        Family::histogram("tributary_log_batch_commands", "How many commands a transaction of the log committed.");
    batches.push_sizes(&labels, &figures.batch_commands.now());
    let mut resends = Family::counter(
        "tributary_log_resends_total",
        "Batches that were sent again because nobody said what became of them, or the database was not there.",
    );
    resends.push_whole(&labels, figures.resends.now());
    [chains, bytes, batches, resends]
}
