//! The one place that prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use comfy_table::{ContentArrangement, Table, TableStyle};
use serde::Serialize;

/// A line for a person.
pub fn line(text: impl AsRef<str>) {
    println!("{}", text.as_ref());
}

/// A result for a program.
pub fn json(value: &impl Serialize) {
    println!("{}", serde_json::to_string_pretty(value).expect("what we print serializes"));
}

/// Rows under headings.
pub fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled).set_header(headings);
    for row in rows {
        table.add_row(row);
    }
    for line in table.lines() {
        println!("{}", line.trim_end());
    }
}

/// What went wrong, with its causes, on stderr.
pub fn failure(error: &anyhow::Error) {
    eprintln!("error: {}", with_causes(error));
}

/// Many errors say their cause themselves; it is not said twice.
fn with_causes(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.is_empty() {
            said = cause;
        } else if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow::anyhow!("refused").context("connect: refused").context("open the log");
        assert_eq!(with_causes(&error), "open the log: connect: refused");
    }
}
