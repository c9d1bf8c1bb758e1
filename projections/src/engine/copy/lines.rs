//! What a copy of the query database consists of: lines of JSON, and a digest over them. `docs/backups.md` describes them.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use event_store::backup::BackupError;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// The form of the lines; another one is refused.
const FORM: u32 = 1;

/// A line is a row, which is far below this. More is not read into memory.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line<'l> {
    /// The first.
    Query { form: u32, exported_at_us: i64 },
    /// What follows is of this one.
    ReadModel(ReadModel),
    /// The next rows are of this table.
    Table(String),
    #[serde(borrow)]
    Row(&'l RawValue),
    /// The last.
    End(End),
}

/// A read model of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadModel {
    pub name: String,
    /// Those of the generation that was copied; 0 where there was none.
    pub version: i64,
    pub generation: i64,
    /// Why the copy holds nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
}

/// What was written before the last line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub read_models: u64,
    pub rows: u64,
    /// Of all lines before this one, each with its line feed.
    pub sha256: String,
}

/// Writes lines, to be taken some at a time.
pub(super) struct Writer {
    lines: Vec<u8>,
    hasher: Sha256,
    end: End,
}

impl Writer {
    pub fn new(exported_at_us: i64) -> Self {
        let mut writer = Self { lines: Vec::new(), hasher: Sha256::new(), end: End::default() };
        writer.line(&text(&Line::Query { form: FORM, exported_at_us }));
        writer
    }

    pub fn read_model(&mut self, read_model: ReadModel) {
        self.end.read_models += 1;
        self.line(&text(&Line::ReadModel(read_model)));
    }

    pub fn table(&mut self, name: &str) {
        self.line(&text(&Line::Table(name.to_owned())));
    }

    /// `row` is an object as the database writes it.
    pub fn row(&mut self, row: &str) -> Result<(), serde_json::Error> {
        self.end.rows += 1;
        if row.contains('\n') {
            // a state that others wrote, over several lines
            let row: serde_json::Value = serde_json::from_str(row)?;
            self.line(&format!(r#"{{"row":{row}}}"#));
        } else {
            self.line(&format!(r#"{{"row":{row}}}"#));
        }
        Ok(())
    }

    pub fn bytes(&self) -> usize {
        self.lines.len()
    }

    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.lines)
    }

    /// The last lines.
    pub fn finish(mut self) -> Vec<u8> {
        let end = End { sha256: hex(self.hasher.clone()), ..self.end.clone() };
        self.line(&text(&Line::End(end)));
        self.lines
    }

    fn line(&mut self, line: &str) {
        self.hasher.update(line);
        self.hasher.update("\n");
        self.lines.extend_from_slice(line.as_bytes());
        self.lines.push(b'\n');
    }
}

fn text(line: &Line<'_>) -> String {
    serde_json::to_string(line).expect("a line is plain data")
}

fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads lines, and checks that they are those that were written.
pub struct Checker {
    name: String,
    number: u64,
    hasher: Sha256,
    seen: End,
    is_over: bool,
}

impl Checker {
    /// `name` is what errors call it.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), number: 0, hasher: Sha256::new(), seen: End::default(), is_over: false }
    }

    /// What a line says, which comes without its line feed.
    pub fn line<'l>(&mut self, text: &'l str) -> Result<Line<'l>, BackupError> {
        self.number += 1;
        if self.is_over {
            return Err(self.wrong("there is something behind the end"));
        }
        let line: Line<'l> = match serde_json::from_str(text) {
            Ok(line) => line,
            Err(_) if self.number == 1 => return Err(self.wrong("it is no export of a query database")),
            Err(error) => return Err(self.wrong(&format!("it is none of ours: {error}"))),
        };
        match &line {
            Line::Query { form, .. } if self.number == 1 && *form == FORM => {}
            Line::Query { form, .. } if self.number == 1 => {
                return Err(self.wrong(&format!("its form is {form}, and this program reads form {FORM}")));
            }
            Line::Query { .. } => return Err(self.wrong("the first line comes a second time")),
            _ if self.number == 1 => return Err(self.wrong("it is no export of a query database")),
            Line::ReadModel(_) => self.seen.read_models += 1,
            Line::Table(_) => {}
            Line::Row(_) => self.seen.rows += 1,
            Line::End(end) => {
                self.seen.sha256 = hex(self.hasher.clone());
                if end.sha256 != self.seen.sha256 {
                    return Err(BackupError::Digest { name: self.name.clone() });
                }
                if *end != self.seen {
                    return Err(self.wrong("it counts other lines than there are"));
                }
                self.is_over = true;
            }
        }
        self.hasher.update(text);
        self.hasher.update("\n");
        Ok(line)
    }

    /// What the last line said; an error if there was none.
    pub fn finish(self) -> Result<End, BackupError> {
        if self.is_over { Ok(self.seen) } else { Err(self.cut_off()) }
    }

    pub(super) fn cut_off(&self) -> BackupError {
        BackupError::CutOff { name: self.name.clone() }
    }

    /// Says that the line that was read last is wrong.
    pub(super) fn wrong(&self, reason: &str) -> BackupError {
        BackupError::Line { name: self.name.clone(), line: self.number, reason: reason.to_owned() }
    }
}

/// The lines of a file. Blocks on the disk.
pub(super) struct Lines {
    pub checker: Checker,
    reader: BufReader<File>,
    line: String,
}

impl Lines {
    pub fn open(file: &Path) -> Result<Self, BackupError> {
        let name = file.display().to_string();
        let opened = File::open(file).map_err(|source| BackupError::Io { name: name.clone(), source })?;
        Ok(Self { checker: Checker::new(&name), reader: BufReader::new(opened), line: String::new() })
    }

    /// The next line; `None` behind the last one.
    pub fn next(&mut self) -> Result<Option<Line<'_>>, BackupError> {
        self.line.clear();
        let read = self.reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut self.line);
        read.map_err(|source| BackupError::Io { name: self.checker.name.clone(), source })?;
        if self.line.is_empty() && self.checker.is_over {
            return Ok(None);
        }
        let Some(line) = self.line.strip_suffix('\n') else {
            // a file of another kind may have no lines at all
            return Err(match self.checker.number {
                0 if !self.line.is_empty() => self.checker.wrong("it is no export of a query database"),
                _ => self.checker.cut_off(),
            });
        };
        self.checker.line(line).map(Some)
    }
}

/// Whether a file says that it is a copy of a query database.
pub fn is_one(file: &Path) -> bool {
    Lines::open(file).is_ok_and(|mut lines| {
        let mut first = String::new();
        let read = lines.reader.by_ref().take(FIRST_BYTES_MAX).read_line(&mut first);
        read.is_ok() && matches!(serde_json::from_str(&first), Ok(Line::Query { .. }))
    })
}

/// The first line is far below this.
const FIRST_BYTES_MAX: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> String {
        let mut writer = Writer::new(7);
        writer.read_model(ReadModel { name: "orders".into(), version: 1, generation: 3, left_out: None });
        writer.table("rows");
        writer.row(r#"{"id" : "a", "n" : 1}"#).unwrap();
        writer.row("{\"id\": \"b\",\n \"n\": 2}").unwrap();
        let mut lines = writer.take();
        lines.extend(writer.finish());
        String::from_utf8(lines).unwrap()
    }

    fn read(text: &str) -> Result<(Vec<String>, End), BackupError> {
        let mut checker = Checker::new("test");
        let mut rows = Vec::new();
        for line in text.lines() {
            if let Line::Row(row) = checker.line(line)? {
                rows.push(row.get().to_owned());
            }
        }
        Ok((rows, checker.finish()?))
    }

    #[test]
    fn what_is_read_is_what_was_written_a_row_a_line() {
        let text = written();
        assert_eq!(text.lines().count(), 6);
        let (rows, end) = read(&text).unwrap();
        assert_eq!(rows, [r#"{"id" : "a", "n" : 1}"#, r#"{"id":"b","n":2}"#]);
        assert_eq!((end.read_models, end.rows), (1, 2));
        let before = &text.as_bytes()[..text.rfind("{\"end\"").unwrap()];
        assert_eq!(end.sha256, hex(Sha256::new_with_prefix(before)), "as sha256sum has it");
    }

    #[test]
    fn what_was_changed_cut_off_continued_or_is_something_else_is_refused() {
        let text = written();
        let said = |text: &str| read(text).unwrap_err().to_string();
        assert!(said(&text.replace("\"n\" : 1", "\"n\" : 9")).contains("digest"));
        let cut: String = text.lines().take(4).map(|line| format!("{line}\n")).collect();
        assert!(said(&cut).contains("cut off"));
        assert!(said(&format!("{text}{{\"table\":\"rows\"}}\n")).contains("behind the end"));
        assert!(said(&text.replace("\"form\":1", "\"form\":2")).contains("its form is 2"));
        assert!(said("{\"log\":{}}\n").contains("no export of a query database"));
        assert!(said("{\"table\":\"rows\"}\n").contains("no export of a query database"));
    }
}
