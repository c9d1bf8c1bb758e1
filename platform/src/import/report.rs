//! What could not be entered, and the summary at the end.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::Serialize;

use super::mapping::Kind;
use crate::output;

/// The file of refused rows: one JSON object a line. Made with the first of them, so that a clean import leaves none.
pub struct Report {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    refused: u64,
}

/// One refused row. `code` is that of `docs/errors.md` where a service refused it, else `bad_row`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    pub kind: &'static str,
    pub key: String,
    pub code: String,
    pub reason: String,
}

impl Refused {
    /// A row that the importer itself could not make a request of.
    pub fn bad_row(kind: Kind, key: &str, reason: impl ToString) -> Self {
        let (kind, key, code) = (kind.as_str(), key.to_owned(), "bad_row".to_owned());
        Self { kind, key, code, reason: reason.to_string() }
    }
}

impl Report {
    /// The report of an earlier run is removed: what it says is settled by this one.
    pub fn new(path: &Path) -> anyhow::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("--report: replace {}", path.display()))
            }
            _ => Ok(Self { path: path.to_owned(), file: None, refused: 0 }),
        }
    }

    pub fn add(&mut self, refused: &Refused) -> anyhow::Result<()> {
        let path = &self.path;
        let context = || format!("--report: write {}", path.display());
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(BufWriter::new(File::create(path).with_context(context)?)),
        };
        serde_json::to_writer(&mut *file, refused).with_context(context)?;
        self.refused += 1;
        // flushed line by line: the report holds what it says also when the import is killed
        file.write_all(b"\n").and_then(|()| file.flush()).with_context(context)
    }

    /// How many rows stand in it.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

/// What became of the rows of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Entered now.
    pub new: u64,
    /// Entered by an earlier run: the services answered what they answered then.
    pub already_there: u64,
    pub refused: u64,
}

impl Tally {
    pub fn total(&self) -> u64 {
        self.new + self.already_there + self.refused
    }
}

/// The table at the end. Numbers and their headings stand to the right.
pub fn print_summary(rows: &[(&str, &Tally)]) {
    let headings = ["in the source", "new", "already there", "refused"];
    let counts = |tally: &Tally| [tally.total(), tally.new, tally.already_there, tally.refused].map(thousands);
    let rows: Vec<(&str, [String; 4])> = rows.iter().map(|(name, tally)| (*name, counts(tally))).collect();
    let width = |n: usize| rows.iter().map(|(_, counts)| counts[n].len()).fold(headings[n].len(), usize::max);
    let right = |n: usize, text: &str| format!("{text:>0$}", width(n));
    let headings: Vec<String> = (0..4).map(|n| right(n, headings[n])).collect();
    let headings: Vec<&str> = std::iter::once("").chain(headings.iter().map(String::as_str)).collect();
    let cells = |(name, counts): &(&str, [String; 4])| {
        std::iter::once((*name).to_owned()).chain((0..4).map(|n| right(n, &counts[n]))).collect()
    };
    output::table(&headings, rows.iter().map(cells));
}

/// `2155` as `2,155`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_import_leaves_no_report_and_a_refused_row_is_one_line_of_json() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.jsonl");
        std::fs::write(&path, "of an earlier run\n").unwrap();
        let mut report = Report::new(&path).unwrap();
        assert!(!path.exists());
        report.add(&Refused::bad_row(Kind::Order, "10248", "order_date is null")).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"kind\":\"order\",\"key\":\"10248\",\"code\":\"bad_row\",\"reason\":\"order_date is null\"}\n"
        );
        assert_eq!(report.refused(), 1);
    }

    #[test]
    fn thousands_are_set_apart() {
        let texts = [0, 830, 2_155, 12_345, 1_265_793].map(thousands);
        assert_eq!(texts, ["0", "830", "2,155", "12,345", "1,265,793"]);
    }
}
