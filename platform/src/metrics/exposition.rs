//! The text format of Prometheus. The crates for it come with registries for what is counted, which everybody would have to
//! be given or which are of the whole process; here everything is looked up where it is kept, so a page of text is all there
//! is.

use std::{fmt::Write, time::Duration};

use measures::Spread;

/// All values of one name.
#[derive(Debug, Clone)]
pub struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    samples: Vec<Sample>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Debug, Clone)]
struct Sample {
    /// Behind the family's name: what of a histogram it is.
    suffix: &'static str,
    /// As they are written.
    labels: String,
    value: f64,
}

type Labels<'l> = &'l [(&'static str, &'l str)];

impl Family {
    /// Something that goes up and down. Names begin with `tributary_` and end in their unit, if they have one.
    pub fn gauge(name: &'static str, help: &'static str) -> Self {
        assert!(!name.ends_with("_total"), "{name}: so a counter is called");
        Self::new(name, help, Kind::Gauge)
    }

    /// Something that only grows, from 0 at the start of the process.
    pub fn counter(name: &'static str, help: &'static str) -> Self {
        assert!(name.ends_with("_total"), "{name}: a counter ends in _total");
        Self::new(name, help, Kind::Counter)
    }

    /// How values are spread. Names end in their unit; durations in `_seconds`.
    pub fn histogram(name: &'static str, help: &'static str) -> Self {
        assert!(!name.ends_with("_total"), "{name}: so a counter is called");
        Self::new(name, help, Kind::Histogram)
    }

    fn new(name: &'static str, help: &'static str, kind: Kind) -> Self {
        let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(name.starts_with("tributary_") && name.bytes().all(is_fine), "{name} is no name of ours");
        assert!(!help.is_empty() && !help.contains(['\n', '\\']), "{name} has a help of one plain line");
        Self { name, help, kind, samples: Vec::new() }
    }

    /// Adds the value that these labels have.
    pub fn with(mut self, labels: Labels<'_>, value: f64) -> Self {
        self.push(labels, value);
        self
    }

    /// As [`Self::with`].
    pub fn push(&mut self, labels: Labels<'_>, value: f64) {
        self.sample("", written(labels), value);
    }

    /// Adds how many there are, or were.
    pub fn push_whole(&mut self, labels: Labels<'_>, number: u64) {
        self.push(labels, whole(number));
    }

    /// Adds how numbers are spread.
    pub fn push_sizes(&mut self, labels: Labels<'_>, spread: &Spread) {
        self.push_spread(labels, spread, whole);
    }

    /// Adds how durations are spread, which are counted in nanoseconds and told in seconds.
    pub fn push_durations(&mut self, labels: Labels<'_>, spread: &Spread) {
        self.push_spread(labels, spread, |nanoseconds| Duration::from_nanos(nanoseconds).as_secs_f64());
    }

    fn push_spread(&mut self, labels: Labels<'_>, spread: &Spread, told: impl Fn(u64) -> f64) {
        assert_eq!(self.kind, Kind::Histogram, "{}", self.name);
        let labels = written(labels);
        let bounds = spread.bounds.iter().map(|bound| told(*bound).to_string()).chain(["+Inf".to_owned()]);
        let mut up_to = 0;
        for (bound, count) in bounds.zip(&spread.counts) {
            up_to += count;
            let comma = if labels.is_empty() { "" } else { "," };
            self.sample("_bucket", format!("{labels}{comma}le=\"{bound}\""), whole(up_to));
        }
        self.sample("_sum", labels.clone(), told(spread.sum));
        self.sample("_count", labels, whole(up_to));
    }

    fn sample(&mut self, suffix: &'static str, labels: String, value: f64) {
        self.samples.push(Sample { suffix, labels, value });
    }
}

/// The page. Families of one name, which several have added to, are one; a family without samples is left out.
pub fn render(families: Vec<Family>) -> String {
    let mut merged: Vec<Family> = Vec::new();
    for family in families {
        match merged.iter_mut().find(|known| known.name == family.name) {
            Some(known) => known.samples.extend(family.samples),
            None => merged.push(family),
        }
    }
    let mut page = String::new();
    for Family { name, help, kind, samples } in merged.iter().filter(|family| !family.samples.is_empty()) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for Sample { suffix, labels, value } in samples {
            let _ = match labels.as_str() {
                "" => writeln!(page, "{name}{suffix} {value}"),
                labels => writeln!(page, "{name}{suffix}{{{labels}}} {value}"),
            };
        }
    }
    page
}

fn written(labels: Labels<'_>) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}{name}=\"{}\"", escaped(value));
    }
    text
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// As the format has it; exact below 2^53.
fn whole(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_each_family_once_with_its_help_and_its_values() {
        let doors = Family::gauge("tributary_doors", "How many there are.").with(&[], 3.0);
        let open = Family::gauge("tributary_door_open_seconds", "How long one has been open.")
            .with(&[("door", "front"), ("colour", "a \"red\"\\\n")], 0.25);
        let open_too = Family::gauge("tributary_door_open_seconds", "How long one has been open.")
            .with(&[("door", "back"), ("colour", "")], 10_000_000.0);
        let none = Family::gauge("tributary_windows", "How many there are.");
        let page = "# HELP tributary_door_open_seconds How long one has been open.\n\
                    # TYPE tributary_door_open_seconds gauge\n\
                    tributary_door_open_seconds{door=\"front\",colour=\"a \\\"red\\\"\\\\\\n\"} 0.25\n\
                    tributary_door_open_seconds{door=\"back\",colour=\"\"} 10000000\n\
                    # HELP tributary_doors How many there are.\n\
                    # TYPE tributary_doors gauge\n\
                    tributary_doors 3\n";
        assert_eq!(render(vec![open, doors, open_too, none]), page);
    }

    #[test]
    fn a_histogram_counts_what_is_up_to_each_bound() {
        let spread = Spread { bounds: &[1_000_000, 2_500_000_000], counts: vec![2, 1, 1], sum: 5_502_000_000 };
        let mut waits = Family::histogram("tributary_wait_seconds", "How long.");
        waits.push_durations(&[("door", "front")], &spread);
        let page = "# HELP tributary_wait_seconds How long.\n\
                    # TYPE tributary_wait_seconds histogram\n\
                    tributary_wait_seconds_bucket{door=\"front\",le=\"0.001\"} 2\n\
                    tributary_wait_seconds_bucket{door=\"front\",le=\"2.5\"} 3\n\
                    tributary_wait_seconds_bucket{door=\"front\",le=\"+Inf\"} 4\n\
                    tributary_wait_seconds_sum{door=\"front\"} 5.502\n\
                    tributary_wait_seconds_count{door=\"front\"} 4\n";
        assert_eq!(render(vec![waits]), page);
    }

    #[test]
    #[should_panic(expected = "no name of ours")]
    fn a_name_that_is_not_ours_is_a_bug() {
        let _ = Family::gauge("doors", "How many there are.");
    }
}
