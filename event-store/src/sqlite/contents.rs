//! Everything in the file, in one snapshot. Its connection is its own: while it reads, the WAL cannot be used from its start
//! again, so it ends when nobody takes what it has read.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::{
    connection::connect_reader,
    reader::{COLUMNS, Names, batch_row, log_error},
};
use crate::{
    backup::{Chunks, ClaimItem, CommandItem, Contents, HeadItem, Item, NotTaken},
    clock::time_of_us,
    log::{Fingerprint, LogError},
    subject_keys::SubjectKey,
};
use events::envelope::StreamId;

pub(super) fn of(path: PathBuf) -> Contents {
    let (mut chunks, contents) = Chunks::new();
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || match read(&path, &mut chunks, &runtime) {
        // whoever has gone away hears nothing, and is told nothing else
        Ok(()) | Err(Stopped::NotTaken) => {}
        Err(Stopped::Read(error)) => runtime.block_on(chunks.fail(log_error(error))),
        Err(Stopped::Damaged(reason)) => runtime.block_on(chunks.fail(LogError::Damaged(reason))),
    });
    contents
}

enum Stopped {
    Read(rusqlite::Error),
    Damaged(String),
    NotTaken,
}

impl From<rusqlite::Error> for Stopped {
    fn from(error: rusqlite::Error) -> Self {
        Self::Read(error)
    }
}

impl From<NotTaken> for Stopped {
    fn from(_: NotTaken) -> Self {
        Self::NotTaken
    }
}

fn read(path: &Path, chunks: &mut Chunks, runtime: &Handle) -> Result<(), Stopped> {
    let connection = connect_reader(path)?;
    let snapshot = connection.unchecked_transaction()?;
    let mut give = |item| runtime.block_on(chunks.push(item)).map_err(Stopped::from);
    give(Item::Head(head(&snapshot)?))?;

    let batches = "select first, last, prev_hash, hash from batches order by first";
    let mut batches = snapshot.prepare(batches)?;
    let mut batches = batches.query([])?;
    let events = format!("select {COLUMNS} from events order by position");
    let mut events = snapshot.prepare(&events)?;
    let mut events = events.query([])?;
    let mut names = Names::default();
    while let Some(batch) = batches.next()? {
        let batch = batch_row(batch)?;
        let (first, last) = (batch.first, batch.last);
        give(Item::Batch(batch))?;
        for position in first..=last {
            let Some(event) = events.next()? else {
                return Err(Stopped::Damaged(format!("there is no event at position {position}")));
            };
            give(Item::Event(names.event(event)?))?;
        }
    }
    if events.next()?.is_some() {
        return Err(Stopped::Damaged("there are events without a batch".to_owned()));
    }

    const COMMANDS: &str = "select scope, key, fingerprint, outcome, position, recorded_at_us from commands
        order by scope, key";
    each(&snapshot, COMMANDS, command, &mut give)?;
    const CLAIMS: &str = "select name, value, aggregate_type, aggregate_id from claims order by name, value";
    each(&snapshot, CLAIMS, claim, &mut give)?;
    each(&snapshot, "select fingerprint_key from log_head", |row| Ok(Item::FingerprintKey(row.get(0)?)), &mut give)?;
    const KEYS: &str = "select subject, key from subject_keys order by subject";
    let key = |row: &Row<'_>| {
        let key: Option<[u8; 32]> = row.get(1)?;
        Ok(Item::SubjectKey(Uuid::from_bytes(row.get(0)?), key.map(SubjectKey)))
    };
    each(&snapshot, KEYS, key, &mut give)?;
    Ok(runtime.block_on(chunks.whole())?)
}

fn each(
    snapshot: &Connection,
    sql: &str,
    item: impl Fn(&Row<'_>) -> rusqlite::Result<Item>,
    give: &mut impl FnMut(Item) -> Result<(), Stopped>,
) -> Result<(), Stopped> {
    let mut statement = snapshot.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        give(item(row)?)?;
    }
    Ok(())
}

fn head(snapshot: &Connection) -> rusqlite::Result<HeadItem> {
    snapshot.query_row("select source, epoch, position, recorded_at_us from log_head", [], |row| {
        Ok(HeadItem {
            source: row.get::<_, String>(0)?.into(),
            epoch: Uuid::from_bytes(row.get(1)?),
            position: row.get::<_, i64>(2)?.unsigned_abs(),
            recorded_at: time_of_us(row.get(3)?),
        })
    })
}

fn command(row: &Row<'_>) -> rusqlite::Result<Item> {
    Ok(Item::Command(CommandItem {
        scope: row.get::<_, String>(0)?.into(),
        key: row.get::<_, String>(1)?.into(),
        fingerprint: Fingerprint(row.get(2)?),
        outcome: row.get(3)?,
        position: row.get::<_, i64>(4)?.unsigned_abs(),
        recorded_at: time_of_us(row.get(5)?),
    }))
}

fn claim(row: &Row<'_>) -> rusqlite::Result<Item> {
    Ok(Item::Claim(ClaimItem {
        name: row.get::<_, String>(0)?.into(),
        value: row.get::<_, String>(1)?.into(),
        stream: StreamId::new(row.get::<_, String>(2)?, row.get::<_, String>(3)?),
    }))
}
