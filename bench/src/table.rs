//! The README's table, from the files of the last run.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, ensure};

use crate::report::{Number, Report, figure};

const BEGIN: &str = "<!-- bench:begin -->";
const END: &str = "<!-- bench:end -->";

/// The order in which benchmarks are told.
const BENCHMARKS: [&str; 12] = [
    "commands",
    "http",
    "sqlite",
    "feed",
    "load",
    "rebuild",
    "rebuild-soak",
    "graphql",
    "visible",
    "live",
    "checkout",
    "memory",
];

/// Replaces what stands between the markers of `into`.
pub fn write(results: &Path, into: &Path) -> anyhow::Result<()> {
    let mut reports = Vec::new();
    for benchmark in BENCHMARKS {
        let path = results.join(format!("{benchmark}.json"));
        if path.is_file() {
            reports.push(Report::load(&path)?);
        }
    }
    ensure!(!reports.is_empty(), "no results in {}: run `cargo run --release -p bench -- all`", results.display());
    let text = fs::read_to_string(into).with_context(|| format!("read {}", into.display()))?;
    let replaced =
        between(&text, &table(&reports)).with_context(|| format!("{} has no {BEGIN} .. {END}", into.display()))?;
    fs::write(into, replaced).with_context(|| format!("write {}", into.display()))
}

fn between(text: &str, table: &str) -> Option<String> {
    let begin = text.find(BEGIN)? + BEGIN.len();
    let end = begin + text[begin..].find(END)?;
    Some(format!("{}\n{table}{}", &text[..begin], &text[end..]))
}

/// Ratios first (they travel between machines), then the figures behind them.
fn table(reports: &[Report]) -> String {
    let mut text = String::new();
    let ratios = || reports.iter().flat_map(|report| &report.ratios);
    if ratios().next().is_some() {
        text.push_str("| ratio | case | median | min .. max | gate |\n|---|---|---:|---|---|\n");
    }
    for ratio in ratios() {
        let gate = match (ratio.gate, ratio.passes()) {
            (Some(gate), Some(true)) => format!("{gate} held"),
            (Some(gate), _) => format!("{gate} **not held**"),
            (None, _) => String::new(),
        };
        let Number { median, min, max, .. } = ratio.number;
        let _ = writeln!(text, "| {} | {} | {median:.2}x | {min:.2} .. {max:.2} | {gate} |", ratio.what, ratio.case);
    }
    text.push_str("\n| measured | case | figures (medians) |\n|---|---|---|\n");
    for row in reports.iter().flat_map(|report| &report.rows) {
        let figures: Vec<String> = row.numbers.iter().map(words).collect();
        let _ = writeln!(text, "| {} | {} | {} |", row.side, row.case, figures.join(", "));
    }
    let machine = &reports[0].machine;
    let _ = write!(text, "\nOn {} CPUs ({}), {} build. ", machine.cpus, machine.os, machine.profile);
    text.push_str("Ratios travel between machines, figures do not; how they come about: `bench/README.md`.\n");
    text
}

fn words(number: &Number) -> String {
    let value = figure(number.median);
    match &*number.name {
        "per_s" => format!("{value} per s"),
        "p50_ms" => format!("p50 {value} ms"),
        "p99_ms" => format!("p99 {value} ms"),
        "peak_rss_mib" => format!("{value} MiB"),
        "seconds" => format!("{value} s"),
        "commits" | "transactions" => value,
        other => format!("{other} {value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let replaced = between(&text, "new\n").unwrap();
        assert_eq!(replaced, format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert_eq!(between(&replaced, "new\n").unwrap(), replaced);
        assert_eq!(between("no markers", "new\n"), None);
    }
}
