//! The one place that prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::Write;

use comfy_table::{ContentArrangement, Table, TableStyle};
use serde::Serialize;

/// A line for a person.
pub fn line(text: impl AsRef<str>) {
    println!("{}", text.as_ref());
}

/// A line for a person who watches, on stderr: stdout holds the result.
pub fn note(text: impl AsRef<str>) {
    eprintln!("{}", text.as_ref());
}

/// A result for a program.
pub fn json(value: &impl Serialize) {
    println!("{}", serde_json::to_string_pretty(value).expect("what we print serializes"));
}

/// Rows under headings.
pub fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    table_lines(headings, rows).iter().for_each(line);
}

/// The lines of [`table`].
pub fn table_lines(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled).set_header(headings);
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Lines in place of what the terminal shows. Each clears what is behind it, and the last what is below: nothing flickers.
pub fn screen(lines: impl IntoIterator<Item = String>) {
    let mut text = String::from("\x1b[H");
    for line in lines {
        text.push_str(&line);
        text.push_str("\x1b[K\n");
    }
    print!("{text}\x1b[J");
    // a terminal that is gone is told by the next line, too
    let _ = std::io::stdout().flush();
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
