//! The text format of Prometheus, as much of it as gauges need. The crates for it come with stores of their own for what
//! is counted on the way; here everything is looked up, so a page of text is all there is.

use std::fmt::Write;

/// All values of one name.
#[derive(Debug)]
pub struct Family {
    name: &'static str,
    help: &'static str,
    /// Labels as they are written, and the value.
    samples: Vec<(String, f64)>,
}

impl Family {
    /// Something that goes up and down. Names begin with `tributary_` and end in their unit, if they have one.
    pub fn gauge(name: &'static str, help: &'static str) -> Self {
        let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(name.starts_with("tributary_") && name.bytes().all(is_fine), "{name} is no name of ours");
        assert!(!name.ends_with("_total"), "{name}: so a counter is called");
        assert!(!help.is_empty() && !help.contains(['\n', '\\']), "{name} has a help of one plain line");
        Self { name, help, samples: Vec::new() }
    }

    /// Adds the value that these labels have.
    pub fn with(mut self, labels: &[(&'static str, &str)], value: f64) -> Self {
        self.push(labels, value);
        self
    }

    /// As [`Self::with`].
    pub fn push(&mut self, labels: &[(&'static str, &str)], value: f64) {
        let mut text = String::new();
        for (name, value) in labels {
            let comma = if text.is_empty() { "" } else { "," };
            let _ = write!(text, "{comma}{name}=\"{}\"", escaped(value));
        }
        self.samples.push((text, value));
    }
}

/// The page. A family without samples is left out.
pub fn render(families: &[Family]) -> String {
    let mut page = String::new();
    for Family { name, help, samples } in families.iter().filter(|family| !family.samples.is_empty()) {
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in samples {
            let _ = match labels.as_str() {
                "" => writeln!(page, "{name} {value}"),
                labels => writeln!(page, "{name}{{{labels}}} {value}"),
            };
        }
    }
    page
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_each_family_once_with_its_help_and_its_values() {
        let doors = Family::gauge("tributary_doors", "How many there are.").with(&[], 3.0);
        let open = Family::gauge("tributary_door_open_seconds", "How long one has been open.")
            .with(&[("door", "front"), ("colour", "a \"red\"\\\n")], 0.25)
            .with(&[("door", "back"), ("colour", "")], 10_000_000.0);
        let none = Family::gauge("tributary_windows", "How many there are.");
        let page = "# HELP tributary_doors How many there are.\n\
                    # TYPE tributary_doors gauge\n\
                    tributary_doors 3\n\
                    # HELP tributary_door_open_seconds How long one has been open.\n\
                    # TYPE tributary_door_open_seconds gauge\n\
                    tributary_door_open_seconds{door=\"front\",colour=\"a \\\"red\\\"\\\\\\n\"} 0.25\n\
                    tributary_door_open_seconds{door=\"back\",colour=\"\"} 10000000\n";
        assert_eq!(render(&[doors, open, none]), page);
    }

    #[test]
    #[should_panic(expected = "no name of ours")]
    fn a_name_that_is_not_ours_is_a_bug() {
        let _ = Family::gauge("doors", "How many there are.");
    }
}
