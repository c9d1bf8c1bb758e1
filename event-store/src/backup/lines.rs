//! Items as lines of JSON, one object a line. The last line counts them and holds the digest of all lines before it, so a
//! copy that was cut off or changed is told from a whole one: `head -n -1 FILE | sha256sum` gives the same.

use std::{borrow::Cow, io::Write};

use chrono::{DateTime, Utc};
use events::envelope::{RecordedEvent, StreamId, from_cloud_event, to_cloud_event};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{BackupError, ClaimItem, CommandItem, HeadItem, Item, Soundness};
use crate::{batch_hash::BatchRow, clock::time_of_us, log::Fingerprint, subject_keys::SubjectKey};

/// Of this form of lines. A program refuses one that it does not know.
pub const FORMAT: u32 = 1;

/// One line: one of these, and of an event what its CloudEvents object does not say to the byte.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'l> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    log: Option<LogLine<'l>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch: Option<BatchLine>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    event: Option<&'l RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    payload: Option<Cow<'l, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    metadata: Option<Cow<'l, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    command: Option<CommandLine<'l>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    claim: Option<ClaimLine<'l>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    keys: Option<LogLine<'l>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<KeyLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<End>,
}

#[derive(Serialize, Deserialize)]
struct LogLine<'l> {
    format: u32,
    #[serde(borrow)]
    source: Cow<'l, str>,
    epoch: Uuid,
    position: u64,
    recorded_at: DateTime<Utc>,
}

impl<'l> LogLine<'l> {
    fn of(head: &'l HeadItem) -> Self {
        let HeadItem { source, epoch, position, recorded_at } = head;
        let source = Cow::from(&**source);
        Self { format: FORMAT, source, epoch: *epoch, position: *position, recorded_at: *recorded_at }
    }

    fn item(self) -> Result<HeadItem, String> {
        let Self { format, source, epoch, position, recorded_at } = self;
        if format != FORMAT {
            return Err(format!("its form is {format}, and this program knows {FORMAT}"));
        }
        Ok(HeadItem { source: source.into(), epoch, position, recorded_at })
    }
}

#[derive(Serialize, Deserialize)]
struct BatchLine {
    first: u64,
    last: u64,
    prev_hash: String,
    hash: String,
}

#[derive(Serialize, Deserialize)]
struct CommandLine<'l> {
    #[serde(borrow)]
    scope: Cow<'l, str>,
    #[serde(borrow)]
    key: Cow<'l, str>,
    fingerprint: String,
    #[serde(borrow)]
    outcome: Cow<'l, str>,
    position: u64,
    recorded_at_us: i64,
}

#[derive(Serialize, Deserialize)]
struct ClaimLine<'l> {
    #[serde(borrow)]
    name: Cow<'l, str>,
    #[serde(borrow)]
    value: Cow<'l, str>,
    #[serde(borrow)]
    aggregate_type: Cow<'l, str>,
    #[serde(borrow)]
    aggregate_id: Cow<'l, str>,
}

#[derive(Serialize, Deserialize)]
struct KeyLine {
    subject: Uuid,
    /// Null once the person was erased.
    key: Option<String>,
}

/// What was written before the last line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub events: u64,
    pub batches: u64,
    pub commands: u64,
    pub claims: u64,
    pub subjects: u64,
    /// Of the last batch, in hexadecimal; 64 zeros without events.
    pub chain: String,
    /// Of all lines before this one, each with its line feed.
    pub sha256: String,
}

impl End {
    fn count(&mut self, item: &Item) {
        match item {
            Item::Batch(_) => self.batches += 1,
            Item::Event(_) => self.events += 1,
            Item::Command(_) => self.commands += 1,
            Item::Claim(_) => self.claims += 1,
            Item::SubjectKey(..) => self.subjects += 1,
            Item::Head(_) | Item::KeysHead(_) | Item::FingerprintKey(_) | Item::Whole => {}
        }
    }
}

/// Writes items as lines.
pub struct LineWriter<W> {
    out: W,
    name: String,
    source: String,
    hasher: Sha256,
    soundness: Soundness,
    end: End,
    is_whole: bool,
}

impl<W: Write> LineWriter<W> {
    /// `name` is what errors call it.
    pub fn new(name: &str, out: W) -> Self {
        Self {
            out,
            name: name.to_owned(),
            source: String::new(),
            hasher: Sha256::new(),
            soundness: Soundness::default(),
            end: End::default(),
            is_whole: false,
        }
    }

    /// Refuses what is not a sound log: a backup of it could not be restored.
    pub fn item(&mut self, item: &Item) -> Result<(), BackupError> {
        if let Item::Head(head) = item {
            self.source = head.source.to_string();
        }
        self.soundness.see(item).map_err(|reason| self.refused(reason))?;
        self.is_whole = *item == Item::Whole;
        let Some(line) = line_of(&self.source, item).map_err(|reason| self.refused(reason))? else { return Ok(()) };
        self.end.count(item);
        self.line(&line)
    }

    /// The last line, once all was told.
    pub fn finish(mut self) -> Result<(W, End), BackupError> {
        if !self.is_whole {
            return Err(BackupError::NotWhole { name: self.name });
        }
        self.soundness.whole().map_err(|reason| self.refused(reason))?;
        let end = self.end();
        self.line(&text(&Line { end: Some(end.clone()), ..Line::default() }).map_err(|reason| self.refused(reason))?)?;
        Ok((self.out, end))
    }

    /// What was written since it was last asked, for a writer that is read from.
    pub fn out(&mut self) -> &mut W {
        &mut self.out
    }

    fn end(&self) -> End {
        let sha256 = hex(&self.hasher.clone().finalize().into());
        End { chain: hex(&self.soundness.hash()), sha256, ..self.end.clone() }
    }

    fn line(&mut self, line: &str) -> Result<(), BackupError> {
        self.hasher.update(line);
        self.hasher.update("\n");
        let written = self.out.write_all(line.as_bytes()).and_then(|()| self.out.write_all(b"\n"));
        written.map_err(|source| BackupError::Io { name: self.name.clone(), source })
    }

    fn refused(&self, reason: String) -> BackupError {
        BackupError::Line { name: self.name.clone(), line: 0, reason }
    }
}

/// Reads lines as items, and checks that they are those that were written.
pub struct LineReader {
    name: String,
    number: u64,
    hasher: Sha256,
    soundness: Soundness,
    end: End,
    is_over: bool,
}

impl LineReader {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            number: 0,
            hasher: Sha256::new(),
            soundness: Soundness::default(),
            end: End::default(),
            is_over: false,
        }
    }

    /// The item of a line without its line feed; `None` for the last one.
    pub fn line(&mut self, line: &str) -> Result<Option<Item>, BackupError> {
        self.number += 1;
        let wrong = |number, reason| BackupError::Line { name: self.name.clone(), line: number, reason };
        if self.is_over {
            return Err(wrong(self.number, "there is something behind the end".to_owned()));
        }
        match item_of(line).map_err(|reason| wrong(self.number, reason))? {
            Read::Item(item) => {
                self.hasher.update(line);
                self.hasher.update("\n");
                // what is wrong with the lines as such is said first, by their digest
                self.soundness.see(&item).map_err(|reason| wrong(self.number, reason))?;
                self.end.count(&item);
                Ok(Some(item))
            }
            Read::End(end) => {
                if end.sha256 != hex(&self.hasher.clone().finalize().into()) {
                    return Err(BackupError::Digest { name: self.name.clone() });
                }
                self.end.chain = hex(&self.soundness.hash());
                self.end.sha256.clone_from(&end.sha256);
                self.soundness.whole().map_err(|reason| wrong(self.number, reason))?;
                if self.end != end {
                    return Err(wrong(self.number, "it counts other lines than there are".to_owned()));
                }
                self.is_over = true;
                Ok(None)
            }
        }
    }

    /// What the last line said; an error if there was none.
    pub fn finish(self) -> Result<End, BackupError> {
        if self.is_over { Ok(self.end) } else { Err(BackupError::CutOff { name: self.name }) }
    }
}

/// `None`: the last line says it.
fn line_of(source: &str, item: &Item) -> Result<Option<String>, String> {
    let line = match item {
        Item::Whole => return Ok(None),
        Item::Head(head) => text(&Line { log: Some(LogLine::of(head)), ..Line::default() }),
        Item::KeysHead(head) => text(&Line { keys: Some(LogLine::of(head)), ..Line::default() }),
        Item::Batch(BatchRow { first, last, previous, hash }) => {
            let batch = BatchLine { first: *first, last: *last, prev_hash: hex(previous), hash: hex(hash) };
            text(&Line { batch: Some(batch), ..Line::default() })
        }
        Item::Event(event) => line_of_event(source, event),
        Item::Command(command) => {
            let command = CommandLine {
                scope: Cow::from(&*command.scope),
                key: Cow::from(&*command.key),
                fingerprint: hex(&command.fingerprint.0),
                outcome: Cow::from(&command.outcome),
                position: command.position,
                recorded_at_us: command.recorded_at.timestamp_micros(),
            };
            text(&Line { command: Some(command), ..Line::default() })
        }
        Item::Claim(ClaimItem { name, value, stream }) => {
            let claim = ClaimLine {
                name: Cow::from(&**name),
                value: Cow::from(&**value),
                aggregate_type: Cow::from(&*stream.aggregate_type),
                aggregate_id: Cow::from(&*stream.aggregate_id),
            };
            text(&Line { claim: Some(claim), ..Line::default() })
        }
        Item::FingerprintKey(key) => text(&Line { fingerprint_key: Some(hex(key)), ..Line::default() }),
        Item::SubjectKey(subject, key) => {
            let key = KeyLine { subject: *subject, key: key.map(|key| hex(&key.0)) };
            text(&Line { key: Some(key), ..Line::default() })
        }
    };
    line.map(Some)
}

/// A CloudEvents object as the feed has it; where that does not give back the very bytes, they stand beside it. Others than
/// us write metadata of their own, and JSON over several lines.
fn line_of_event(source: &str, event: &RecordedEvent) -> Result<String, String> {
    let mut shown = event.clone();
    if event.payload.contains(['\n', '\r']) {
        let payload: serde_json::Value = serde_json::from_str(&event.payload).map_err(|error| error.to_string())?;
        shown.payload = payload.to_string();
    }
    let cloud_event = to_cloud_event(source, &shown).map_err(|error| error.to_string())?;
    let back = from_cloud_event(&cloud_event).map_err(|error| error.to_string())?;
    let raw: &RawValue = serde_json::from_str(&cloud_event).map_err(|error| error.to_string())?;
    text(&Line {
        event: Some(raw),
        payload: (back.payload != event.payload).then(|| Cow::from(&event.payload)),
        metadata: (back.metadata != event.metadata).then(|| Cow::from(&event.metadata)),
        ..Line::default()
    })
}

fn text(line: &Line<'_>) -> Result<String, String> {
    serde_json::to_string(line).map_err(|error| error.to_string())
}

enum Read {
    Item(Item),
    End(End),
}

fn item_of(text: &str) -> Result<Read, String> {
    let line: Line<'_> = serde_json::from_str(text).map_err(|error| format!("it is none of ours: {error}"))?;
    let item = match line {
        Line { log: Some(head), .. } => Item::Head(head.item()?),
        Line { keys: Some(head), .. } => Item::KeysHead(head.item()?),
        Line { batch: Some(BatchLine { first, last, prev_hash, hash }), .. } => {
            Item::Batch(BatchRow { first, last, previous: bytes(&prev_hash)?, hash: bytes(&hash)? })
        }
        Line { event: Some(event), payload, metadata, .. } => {
            let mut event = from_cloud_event(event.get()).map_err(|error| error.to_string())?;
            event.payload = payload.map_or(event.payload, Cow::into_owned);
            event.metadata = metadata.map_or(event.metadata, Cow::into_owned);
            Item::Event(event)
        }
        Line { command: Some(command), .. } => Item::Command(CommandItem {
            scope: command.scope.into(),
            key: command.key.into(),
            fingerprint: Fingerprint(bytes(&command.fingerprint)?),
            outcome: command.outcome.into_owned(),
            position: command.position,
            recorded_at: time_of_us(command.recorded_at_us),
        }),
        Line { claim: Some(ClaimLine { name, value, aggregate_type, aggregate_id }), .. } => Item::Claim(ClaimItem {
            name: name.into(),
            value: value.into(),
            stream: StreamId::new(aggregate_type, aggregate_id),
        }),
        Line { fingerprint_key: Some(key), .. } => Item::FingerprintKey(bytes(&key)?),
        Line { key: Some(KeyLine { subject, key }), .. } => {
            Item::SubjectKey(subject, key.map(|key| bytes(&key).map(SubjectKey)).transpose()?)
        }
        Line { end: Some(end), .. } => return Ok(Read::End(end)),
        Line { .. } => return Err("it says nothing".to_owned()),
    };
    Ok(Read::Item(item))
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(text: &str) -> Result<[u8; 32], String> {
    let wrong = || "32 bytes are 64 hexadecimal digits".to_owned();
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch_hash::{GENESIS, batch_hash};

    fn event(position: u64, payload: &str, metadata: &str) -> RecordedEvent {
        RecordedEvent {
            position,
            event_id: Uuid::from_u128(u128::from(position)),
            stream: StreamId::new("account", "a\"ä"),
            sequence: position,
            event_type: "Noted".into(),
            event_version: "1".into(),
            payload: payload.into(),
            metadata: metadata.into(),
            recorded_at: time_of_us(1_790_000_000_123_456),
        }
    }

    fn items() -> Vec<Item> {
        let events = [
            event(1, r#"{"b":1,  "a":"é"}"#, r#"{"correlation_id":"c"}"#),
            event(2, "{\n  \"spread\": \"over\\nlines\"\n}", r#"{ "of": "others", "occurred_at": null }"#),
        ];
        let previous = GENESIS;
        let hash = batch_hash(&previous, &events);
        let head = HeadItem {
            source: "accounts".into(),
            epoch: Uuid::from_u128(9),
            position: 2,
            recorded_at: events[1].recorded_at,
        };
        let stream = StreamId::new("account", "a");
        let mut items = vec![Item::Head(head), Item::Batch(BatchRow { first: 1, last: 2, previous, hash })];
        items.extend(events.map(Item::Event));
        items.push(Item::Command(CommandItem {
            scope: "s".into(),
            key: "k".into(),
            fingerprint: Fingerprint([7; 32]),
            outcome: r#"{"status":201}"#.into(),
            position: 2,
            recorded_at: time_of_us(1_790_000_000_123_456),
        }));
        items.push(Item::Claim(ClaimItem { name: "email".into(), value: "ab".into(), stream }));
        items.push(Item::FingerprintKey([3; 32]));
        items.push(Item::SubjectKey(Uuid::from_u128(1), Some(SubjectKey([4; 32]))));
        items.push(Item::SubjectKey(Uuid::from_u128(2), None));
        items.push(Item::Whole);
        items
    }

    fn written() -> String {
        let mut writer = LineWriter::new("test", Vec::new());
        items().iter().for_each(|item| writer.item(item).unwrap());
        let (bytes, end) = writer.finish().unwrap();
        assert_eq!((end.events, end.batches, end.commands, end.claims, end.subjects), (2, 1, 1, 1, 2));
        String::from_utf8(bytes).unwrap()
    }

    fn read(text: &str) -> Result<(Vec<Item>, End), BackupError> {
        let mut reader = LineReader::new("test");
        let mut items = Vec::new();
        for line in text.lines() {
            items.extend(reader.line(line)?);
        }
        let end = reader.finish()?;
        items.push(Item::Whole);
        Ok((items, end))
    }

    #[test]
    fn what_is_read_is_what_was_written_to_the_byte() {
        let text = written();
        assert_eq!(text.lines().count(), items().len(), "an item is a line, whatever is in it");
        let (read, end) = read(&text).unwrap();
        assert_eq!(read, items());
        let before = &text.as_bytes()[..text.rfind("{\"end\"").unwrap()];
        assert_eq!(end.sha256, hex(&Sha256::digest(before).into()), "as sha256sum has it");
    }

    #[test]
    fn what_was_changed_cut_off_or_continued_is_refused() {
        let text = written();
        let changed = text.replace(r#""scope":"s""#, r#""scope":"t""#);
        assert!(matches!(read(&changed), Err(BackupError::Digest { .. })));
        let cut: String = text.lines().take(4).map(|line| format!("{line}\n")).collect();
        assert!(matches!(read(&cut), Err(BackupError::CutOff { .. })));
        assert!(read(&format!("{text}{{}}\n")).is_err());
        let other = text.replace(r#""format":1"#, r#""format":2"#);
        assert!(read(&other).unwrap_err().to_string().contains("its form is 2"));
        let miscounted = text.replace(r#""commands":1"#, r#""commands":2"#);
        assert!(read(&miscounted).unwrap_err().to_string().contains("counts other lines"));
    }

    #[test]
    fn what_was_not_told_to_its_end_gets_no_last_line() {
        let told = items();
        for stopped_at in 1..told.len() {
            let mut writer = LineWriter::new("test", Vec::new());
            told[..stopped_at].iter().for_each(|item| writer.item(item).unwrap());
            let refused = writer.finish().map(drop).unwrap_err();
            assert!(matches!(refused, BackupError::NotWhole { .. }), "{stopped_at}: {refused}");
        }
    }

    #[test]
    fn a_log_that_was_tampered_with_is_not_backed_up() {
        let mut items = items();
        let Item::Event(event) = &mut items[3] else { panic!("the second event") };
        event.payload = "{}".to_owned();
        let mut writer = LineWriter::new("test", Vec::new());
        let refused = items.iter().try_for_each(|item| writer.item(item));
        assert!(refused.unwrap_err().to_string().contains("Broken"), "the chain tells");
    }
}
