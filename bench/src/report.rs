//! What a benchmark found: rows of numbers, ratios with their gates, as JSON and as tables.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::workload::Measured;

/// The outcome of one benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The subcommand that made it, and the stem of its files.
    pub benchmark: String,
    /// What is measured, in one line.
    pub title: String,
    pub machine: Machine,
    /// How often each side was measured.
    pub pairs: usize,
    pub rows: Vec<Row>,
    pub ratios: Vec<Ratio>,
    pub notes: Vec<String>,
}

/// Where it ran: absolute figures mean nothing without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub cpus: usize,
    pub os: String,
    /// `release` or `debug`; only the first is a figure.
    pub profile: String,
}

impl Machine {
    pub fn this() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let os = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        Self { cpus, os, profile: profile.to_owned() }
    }
}

/// One side of one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The case: `hot, 256 tasks`.
    pub case: String,
    /// Who was measured.
    pub side: String,
    pub numbers: Vec<Number>,
}

/// Median, smallest and largest of the runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Number {
    /// With its unit last: `per_s`, `p50_ms`, `rss_mib`.
    pub name: String,
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Number {
    /// # Panics
    /// Without values: a benchmark that measured nothing is our bug.
    pub fn of(name: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        assert!(!values.is_empty(), "{name} was never measured");
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Self { name: name.to_owned(), median, min: values[0], max: values[values.len() - 1] }
    }
}

impl Row {
    /// Throughput and latency of the runs of one side.
    pub fn of_commands(case: &str, side: &str, runs: &[Measured]) -> Self {
        let number = |name, value: fn(&Measured) -> f64| Number::of(name, runs.iter().map(value));
        let numbers = vec![
            number("per_s", |run| run.per_s),
            number("p50_ms", |run| run.p50_ms),
            number("p99_ms", |run| run.p99_ms),
        ];
        Self { case: case.to_owned(), side: side.to_owned(), numbers }
    }
}

/// One figure divided by another of the same pair. Ratios travel between machines, absolute figures do not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    pub case: String,
    /// What is divided by what.
    pub what: String,
    #[serde(flatten)]
    pub number: Number,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<Bound>,
}

impl Ratio {
    /// `pairs` = (ours, the other's), measured one right after the other.
    pub fn of(case: &str, what: &str, pairs: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let number = Number::of("ratio", pairs.into_iter().map(|(ours, other)| ours / other));
        Self { case: case.to_owned(), what: what.to_owned(), number, gate: None, goal: None }
    }

    pub fn gate(mut self, gate: Bound) -> Self {
        self.gate = Some(gate);
        self
    }

    pub fn goal(mut self, goal: Bound) -> Self {
        self.goal = Some(goal);
        self
    }

    /// Whether the median keeps the gate; `None` = there is none.
    pub fn passes(&self) -> Option<bool> {
        self.gate.map(|gate| gate.holds(self.number.median))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(limit) => value >= limit,
            Self::AtMost(limit) => value <= limit,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(limit) => write!(f, "≥ {limit}x"),
            Self::AtMost(limit) => write!(f, "≤ {limit}x"),
        }
    }
}

impl Report {
    pub fn new(benchmark: &str, title: &str, pairs: usize) -> Self {
        Self {
            benchmark: benchmark.to_owned(),
            title: title.to_owned(),
            machine: Machine::this(),
            pairs,
            rows: Vec::new(),
            ratios: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The gates that do not hold.
    pub fn failed(&self) -> impl Iterator<Item = &Ratio> {
        self.ratios.iter().filter(|ratio| ratio.passes() == Some(false))
    }

    /// As Markdown, which is readable in a terminal too.
    pub fn markdown(&self) -> String {
        let mut text = format!("### {}\n", self.title);
        // rows with the same numbers share a table
        let mut header: Option<Vec<&str>> = None;
        for row in &self.rows {
            let names: Vec<&str> = row.numbers.iter().map(|number| &*number.name).collect();
            if header.as_ref() != Some(&names) {
                let columns: Vec<String> =
                    names.iter().map(|name| name.replace("per_s", "per second").replace('_', " ")).collect();
                let _ = write!(
                    text,
                    "\n| case | who | {} |\n|---|---|{}\n",
                    columns.join(" | "),
                    "---:|".repeat(names.len())
                );
                header = Some(names);
            }
            let cells: Vec<String> = row.numbers.iter().map(|number| figure(number.median)).collect();
            let _ = writeln!(text, "| {} | {} | {} |", row.case, row.side, cells.join(" | "));
        }
        if !self.ratios.is_empty() {
            text.push_str("\n| case | ratio | median | min .. max | gate | goal |\n|---|---|---:|---|---|---|\n");
        }
        for ratio in &self.ratios {
            let gate = match (ratio.gate, ratio.passes()) {
                (Some(gate), Some(true)) => format!("{gate} PASS"),
                (Some(gate), _) => format!("{gate} FAIL"),
                (None, _) => String::new(),
            };
            let goal = ratio.goal.map_or_else(String::new, |goal| {
                format!("{goal} {}", if goal.holds(ratio.number.median) { "reached" } else { "not yet" })
            });
            let Number { median, min, max, .. } = ratio.number;
            let _ = writeln!(
                text,
                "| {} | {} | {median:.2}x | {min:.2} .. {max:.2} | {gate} | {goal} |",
                ratio.case, ratio.what
            );
        }
        for note in &self.notes {
            let _ = write!(text, "\n{note}\n");
        }
        let Machine { cpus, os, profile } = &self.machine;
        let _ = write!(text, "\n{cpus} CPUs, {os}, {profile} build; medians of {} runs.\n", self.pairs);
        text
    }

    /// Writes `<benchmark>.json` and `<benchmark>.md` into `folder`.
    pub fn save(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        for (ending, text) in [("json", json), ("md", self.markdown())] {
            let path = folder.join(format!("{}.{ending}", self.benchmark));
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a report", path.display()))
    }
}

/// A number with as many digits as mean something.
pub fn figure(value: f64) -> String {
    match value {
        value if value >= 10_000.0 => group((value / 100.0).round() as u64 * 100),
        value if value >= 1_000.0 => group((value / 10.0).round() as u64 * 10),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn group(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_median_of_the_pairs_and_not_the_ratio_of_medians() {
        let ratio = Ratio::of("case", "a / b", [(10.0, 1.0), (20.0, 10.0), (90.0, 30.0)]).gate(Bound::AtLeast(3.0));
        assert_eq!((ratio.number.median, ratio.number.min, ratio.number.max), (3.0, 2.0, 10.0));
        assert_eq!(ratio.passes(), Some(true));
        assert_eq!(ratio.gate(Bound::AtMost(2.9)).passes(), Some(false));
    }

    #[test]
    fn figures_keep_the_digits_that_mean_something() {
        let texts: Vec<String> = [83_456.0, 1_234.5, 123.4, 12.34, 0.314].into_iter().map(figure).collect();
        assert_eq!(texts, ["83,500", "1,230", "123", "12.3", "0.31"]);
    }

    #[test]
    fn a_report_survives_its_file() {
        let mut report = Report::new("sample", "A sample", 5);
        report.rows.push(Row { case: "all".into(), side: "us".into(), numbers: vec![Number::of("per_s", [2.0, 1.0])] });
        report.ratios.push(Ratio::of("all", "us / them", [(2.0, 1.0)]).goal(Bound::AtMost(0.3)));
        let folder = tempfile::tempdir().unwrap();
        report.save(folder.path()).unwrap();
        assert_eq!(Report::load(&folder.path().join("sample.json")).unwrap(), report);
        let markdown = std::fs::read_to_string(folder.path().join("sample.md")).unwrap();
        assert!(markdown.contains("| all | us | 1.50 |"), "{markdown}");
    }
}
